"""What memory costs RAM, and when: `python tests/bench/resident_memory.py`.

Each line in a process of its own: how the resident memory grew.
"""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Callable

from scopedbump import ReserveError, bump_region
from scopedbump._cli import figures

_MIB = 1 << 20


def _reserved(size: int) -> int:
    before = figures.resident() or 0
    with bump_region(size):
        return (figures.resident() or 0) - before


def _touched(size: int) -> int:
    before = figures.resident() or 0
    with bump_region() as a:
        a.copy(bytes(size))
        return (figures.resident() or 0) - before


def _closed(size: int) -> int:
    before = figures.resident() or 0
    with bump_region() as a:
        a.copy(bytes(size))
    return (figures.resident() or 0) - before


def _kept_blocks() -> int:
    before = figures.resident() or 0
    with bump_region() as a:
        kept = [a.alloc(64) for _ in range(100_000)]
        for at in range(len(kept)):
            kept[at][0] = 1
        return (figures.resident() or 0) - before


def _kept_bytearrays() -> int:
    before = figures.resident() or 0
    kept = [memoryview(bytearray(64)) for _ in range(100_000)]
    for at in range(len(kept)):
        kept[at][0] = 1
    return (figures.resident() or 0) - before


def _dead_blocks() -> int:
    before = figures.resident() or 0
    with bump_region() as a:
        for _ in range(1_000_000):
            a.alloc(64, zero=False)
        return (figures.resident() or 0) - before


def _grown(make: Callable[[], tuple[Callable[[bytes], object], object]]) -> int:
    """By how much the most that was resident at a time grew, when 64 MiB came in pieces of 1 MiB."""
    data = bytes(_MIB)
    before = _highest()
    write, kept = make()
    for _ in range(64):
        write(data)
    grew = _highest() - before
    del kept
    return grew


def _highest() -> int:
    if sys.platform == "win32":
        return figures.resident() or 0
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _writer() -> tuple[Callable[[bytes], object], object]:
    region = bump_region()
    return region.writer().write, region


def _file() -> tuple[Callable[[bytes], object], object]:
    file = io.BytesIO()
    return file.write, file


def _array() -> tuple[Callable[[bytes], object], object]:
    block = bytearray()
    return block.extend, block


LINES: dict[str, Callable[[], int]] = {
    "1 GiB reserved": lambda: _reserved(1 << 30),
    "1 TiB reserved": lambda: _reserved(1 << 40),
    "1 MiB of it touched": lambda: _touched(_MIB),
    "64 MiB of it touched": lambda: _touched(64 * _MIB),
    "64 MiB touched, and closed": lambda: _closed(64 * _MIB),
    "100,000 blocks of 64 B, kept": _kept_blocks,
    "100,000 memoryview(bytearray(64)), kept": _kept_bytearrays,
    "1,000,000 blocks of 64 B, untouched, dropped": _dead_blocks,
    "64 MiB in pieces of 1 MiB, a writer, at its peak": lambda: _grown(_writer),
    "64 MiB in pieces of 1 MiB, BytesIO, at its peak": lambda: _grown(_file),
    "64 MiB in pieces of 1 MiB, bytearray, at its peak": lambda: _grown(_array),
}


def main() -> None:
    """One line for each."""
    rows = [("", "resident memory grew by")]
    for name in LINES:
        answer = subprocess.check_output([sys.executable, __file__, name], text=True, timeout=300)
        grew = json.loads(answer)
        rows.append((name, grew if isinstance(grew, str) else figures.size(grew)))
    print(figures.table(rows))


if __name__ == "__main__":
    if sys.argv[1:2] not in ([], ["--quick"]):
        figures.resident()
        try:
            print(json.dumps(LINES[sys.argv[1]]()))
        except ReserveError as refused:  # an address space may be too small for 1 TiB
            print(json.dumps(str(refused)))
    else:
        main()
