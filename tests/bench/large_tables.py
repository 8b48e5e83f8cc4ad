"""Two tables for large memory, buffers and NumPy's arrays: `python tests/bench/large_tables.py [--quick]`.

A young process has freed no large blocks: glibc gives back to the system what it frees, and each new block costs a page
fault every 4 KiB. An old one has freed blocks of up to 32 MiB, and keeps more. With MALLOC_MMAP_THRESHOLD_ and
MALLOC_TRIM_THRESHOLD_ of 1 GiB it keeps all from the beginning. Beside them the same from a pool with all defaults.

Each figure is the best of a fifth of a second in a fresh process, and the best of five such, taken in turn.

Linux 6.18, Intel Xeon, 2 CPUs, CPython 3.11.7, glibc 2.36; 2026-11-26:

    two buffers: fill one, copy it to the other    young      old   with the variables   from a pool
    256 KiB                                       102 us  17.6 us              17.8 us       15.3 us
    1 MiB                                         584 us   114 us               115 us        100 us
    4 MiB                                        2.80 ms   866 us               855 us        595 us
    64 MiB                                       75.8 ms  74.5 ms              28.5 ms       16.0 ms

    ten operations with NumPy's arrays of          young      old   with the variables   under `handler()`
    256 KiB                                       314 us  95.0 us              94.0 us        130 us
    1 MiB                                        1.75 ms   886 us               892 us        966 us
    4 MiB                                        5.89 ms  3.93 ms              3.92 ms       3.86 ms
    40 MiB                                       89.2 ms  90.8 ms              66.5 ms       62.9 ms

The variables need no code. What a pool gives beside that: a bound for each job and for all, an end at which everything
is back, bounded idle memory, the same without glibc, and in a process whose environment is somebody else's. In servers
with threads glibc keeps the memory of each thread.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from scopedbump._cli import figures

_MIB = 1 << 20
_SCRIPT = str(Path(__file__).with_name("ratio_processes.py"))
_VARIABLES = {"MALLOC_MMAP_THRESHOLD_": str(1 << 30), "MALLOC_TRIM_THRESHOLD_": str(1 << 30)}
COLUMNS: dict[str, tuple[str, str, dict[str, str]]] = {
    "young": ("theirs", "young", {}),
    "old": ("theirs", "old", {}),
    "with the variables": ("theirs", "young", _VARIABLES),
    "pool, young": ("ours", "young", {}),
    "pool, old": ("ours", "old", {}),
}
TABLES: dict[str, tuple[str, list[int]]] = {
    "two buffers: fill one, copy it to the other": ("pair", [_MIB // 4, _MIB, 4 * _MIB, 16 * _MIB, 64 * _MIB]),
    "ten operations with NumPy's arrays": ("handler()", [_MIB // 4, _MIB, 4 * _MIB, 16 * _MIB, 40 * _MIB]),
}


def seconds_of(work: str, size: int, column: str, quick: bool) -> float:
    """The time of one operation, in a process of its own."""
    side, age, variables = COLUMNS[column]
    command = [sys.executable, _SCRIPT, work, side, str(size), age, "0" if quick else "0.2"]
    environment = {**os.environ, **variables}
    printed = subprocess.run(
        command, stdout=subprocess.PIPE, text=True, check=True, timeout=120, env=environment
    ).stdout
    return float(json.loads(printed)[0])


def row(work: str, size: int, quick: bool) -> list[str]:
    """The cells of one size."""
    best = dict.fromkeys(COLUMNS, float("inf"))
    for _ in range(1 if quick else 5):
        for column in COLUMNS:
            best[column] = min(best[column], seconds_of(work, size, column, quick))
    return [figures.size(size), *(figures.duration(best[column]) for column in COLUMNS)]


def main(quick: bool, show: Callable[[str], object] = print) -> None:
    """Both tables, in Markdown; with `--quick` the smallest sizes only."""
    for title, (work, sizes) in TABLES.items():
        show(f"| {title} | {' | '.join(COLUMNS)} |")
        show("|---" * (1 + len(COLUMNS)) + "|")
        for size in sizes[:2] if quick else sizes:
            show(f"| {' | '.join(row(work, size, quick))} |")
        show("")


if __name__ == "__main__":
    main("--quick" in sys.argv)
