"""How often the operating system must find a page: `python tests/bench/page_faults.py [--quick]`.

A request takes two buffers, fills one and copies it into the other. Each line in a process of its own; the faults of
one request, after ten to warm up.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable

from scopedbump import RegionPool, bump_region
from scopedbump._cli import process, text


def _work(body: memoryview, answer: memoryview, data: bytes) -> None:
    body[:] = data
    answer[:] = body


def _fresh(size: int, data: bytes) -> Callable[[], None]:
    def request() -> None:
        with bump_region() as a:
            _work(a.alloc(size, zero=False), a.alloc(size, zero=False), data)

    return request


def _reset(size: int, data: bytes) -> Callable[[], None]:
    region = bump_region()

    def request() -> None:
        region.reset()
        _work(region.alloc(size, zero=False), region.alloc(size, zero=False), data)

    return request


def _pooled(size: int, data: bytes) -> Callable[[], None]:
    pool = RegionPool()

    def request() -> None:
        with pool.region() as a:
            _work(a.alloc(size, zero=False), a.alloc(size, zero=False), data)

    return request


def _bytearrays(size: int, data: bytes) -> Callable[[], None]:
    def request() -> None:
        _work(memoryview(bytearray(size)), memoryview(bytearray(size)), data)

    return request


WAYS: dict[str, Callable[[int, bytes], Callable[[], None]]] = {
    "fresh region": _fresh,
    "one region, reset": _reset,
    "pool": _pooled,
    "bytearrays": _bytearrays,
}


def child(way: str, size: int, times: int) -> tuple[float, float]:
    """Page faults and seconds for one request."""
    request = WAYS[way](size, b"x" * size)
    for _ in range(10):
        request()
    faults, start = process.page_faults(), time.perf_counter()
    for _ in range(times):
        request()
    return (process.page_faults() - faults) / times, (time.perf_counter() - start) / times


def main(quick: bool) -> None:
    """One line for each way and size."""
    rows = [("two buffers of", "from", "page faults", "time")]
    for size in (1 << 20,) if quick else (1 << 14, 1 << 16, 1 << 18, 1 << 20, 1 << 22, 1 << 24):
        for way in WAYS:
            times = 10 if quick else max(10, (1 << 28) // size // 4)
            command = [sys.executable, __file__, way, str(size), str(times)]
            faults, seconds = json.loads(subprocess.check_output(command, text=True, timeout=300))
            rows.append((text.size(size), way, f"{faults:.1f}", text.duration(seconds)))
    print(text.table(rows, left=2))


if __name__ == "__main__":
    if len(sys.argv) > 2:
        print(json.dumps(child(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))))
    else:
        main("--quick" in sys.argv)
