"""What depends on the state of the process: `ratios.py` runs this file, in a fresh process for each sample.

Both sides of a row are here too, as `bench.py` gives them to pyperf.
"""

from __future__ import annotations

import gc
import io
import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from itertools import repeat
from typing import Any, NamedTuple, TypeAlias

from scopedbump import RegionPool, bump_region

if sys.platform != "win32":
    import resource


class Sample(NamedTuple):
    """Seconds and page faults of one operation; the faults are None where nobody counted."""

    seconds: float
    faults: float | None = None


@dataclass(frozen=True)
class Effort:
    """How often each side is measured, seconds for a batch of calls and for a process, and calls between resets."""

    rounds: int
    batch: float
    process: float
    calls: int


@dataclass(frozen=True)
class Process:
    """A command of Python that prints its sample; `ratios.py` alone can run it."""

    arguments: tuple[str, ...]
    can_run: bool = True

    def prepare(self, effort: Effort) -> Callable[[], Sample] | None:
        """One process."""
        command = [sys.executable, *self.arguments, str(effort.process)]

        def run() -> Sample:
            printed = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=120).stdout
            return Sample(*json.loads(printed))

        return run if self.can_run else None

    def timed(self) -> Loop | None:
        """None: it is no loop."""
        return None


@dataclass(frozen=True)
class Work:
    """One of WORKS: its name, whose side, the size of its blocks, and the age of the process."""

    name: str
    side: str
    size: int
    age: str
    can_run: bool = True

    def prepare(self, effort: Effort) -> Callable[[], Sample] | None:
        """One process."""
        return Process((__file__, self.name, self.side, str(self.size), self.age), self.can_run).prepare(effort)

    def timed(self) -> Loop | None:
        """So many of it in this process; none where only its first one counts."""
        if not self.can_run or self.age == "first":
            return None

        @cache
        def prepared() -> Operation:
            return operation(self.name, self.side, self.size, self.age)

        def run(loops: int) -> float:
            work = prepared()
            start = time.perf_counter()
            for _ in repeat(None, loops):
                work()
            return time.perf_counter() - start

        return run


Loop: TypeAlias = Callable[[int], float]
"""Does it so many times, and returns the seconds that this took."""

Operation: TypeAlias = Callable[[], None]


def _fresh(size: int, ours: bool) -> Operation:
    data = b"x" * size

    def region() -> None:
        with bump_region() as a:
            a.alloc(size)[:] = data

    def block() -> None:
        memoryview(bytearray(size))[:] = data  # assigning to a slice of the bytearray itself would copy twice

    with bump_region(4096) as a:
        a.copy(b"what is imported on first use is there by now")
    return region if ours else block


def _taken(size: int, ours: bool) -> Operation:
    data = b"x" * size
    pool = RegionPool()

    def lease() -> None:
        with pool.region() as a:
            a.alloc(size)[:] = data

    return lease if ours else _fresh(size, ours)


def _pair(size: int, ours: bool) -> Operation:
    data = b"x" * size
    pool = RegionPool()

    def lease() -> None:
        with pool.region() as a:
            body = a.alloc(size, zero=False)
            body[:] = data
            a.alloc(size, zero=False)[:] = body

    def blocks() -> None:
        body = memoryview(bytearray(size))
        body[:] = data
        memoryview(bytearray(size))[:] = body

    return lease if ours else blocks


TOTAL = 64 << 20
"""Bytes of a block that grows."""


def _append(size: int, ours: bool, model: Callable[[], Any]) -> Operation:
    data = b"x" * size
    pieces = TOTAL // size

    def grown() -> None:
        with bump_region() as a:
            write = a.writer().write
            for _ in repeat(None, pieces):
                write(data)

    def file() -> None:
        write = model().write
        for _ in repeat(None, pieces):
            write(data)

    def array() -> None:
        block = bytearray()
        for _ in repeat(None, pieces):
            block += data

    return grown if ours else array if model is bytearray else file


def _temporaries(size: int, ours: bool, retain: int | None = None, **handler: int) -> Operation:
    import numpy as np

    x, y = np.ones(size // 8), np.full(size // 8, 2.0)
    pool = RegionPool() if retain is None else RegionPool(retain=retain)

    def work() -> None:  # ten operations that each make an array, as existing code is written
        first = (x + y) * (x - y)
        second = (x * y) + (y * y)
        third = first - second
        (third + x) * (second - y)

    def handled() -> None:
        with pool.region() as a, a.numpy.handler(**handler):
            work()

    return handled if ours else work


WORKS: dict[str, Callable[[int, bool], Operation]] = {
    "fresh": _fresh,
    "taken": _taken,
    "pair": _pair,
    "append, BytesIO": partial(_append, model=io.BytesIO),
    "append, bytearray": partial(_append, model=bytearray),
    "handler()": _temporaries,
    "handler(), retain=": partial(_temporaries, retain=1 << 30),
    "handler(min_bytes=65536)": partial(_temporaries, min_bytes=1 << 16),
}


def operation(work: str, side: str, size: int, age: str) -> Operation:
    """What is measured, in a process of that age."""
    made = WORKS[work](size, side == "ours")
    if age == "old":  # glibc raises its thresholds to the size of what is freed, up to 32 MiB
        for mib in (1, 2, 4, 8, 16, 24, 30):
            block = bytearray(mib << 20)
            del block
    return made


def child(work: str, side: str, size: int, age: str, seconds: float) -> Sample:
    """Do it in this process, which is fresh: the best time, and the faults of each on average."""
    run = operation(work, side, size, age)
    gc.disable()
    for _ in range(0 if age == "first" else 2):
        run()
    taken: list[float] = []
    faults, end = page_faults(), time.perf_counter() + seconds
    while not taken or (age != "first" and (len(taken) < 3 or time.perf_counter() < end)):
        start = time.perf_counter()
        run()
        taken.append(time.perf_counter() - start)
    return Sample(min(taken), (page_faults() - faults) / len(taken) if faults >= 0 else None)


def page_faults() -> int:
    """How many pages the system had to find for this process so far; -1 where it does not say."""
    if sys.platform != "win32":
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    return -1


if __name__ == "__main__":
    name, side, size, age, seconds = sys.argv[1:]
    print(json.dumps(child(name, side, int(size), age, float(seconds))))
