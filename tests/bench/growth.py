"""What an allocation costs, against how many there were: `python tests/bench/growth.py [--quick]`.

Each number of allocations in a process of its own: nanoseconds for each, milliseconds to close, resident memory.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time

from scopedbump import bump_region
from scopedbump._cli import figures

_BLOCK = 64


def child(count: int) -> tuple[float, float, int]:
    """Seconds for each of `count` allocations, seconds to close, bytes of RAM that they took before the close."""
    before = figures.resident() or 0
    with bump_region(max(2 * _BLOCK * count, 1 << 20)) as a:
        start = time.perf_counter()
        for _ in range(count):
            a.alloc(_BLOCK)[0] = 1
        each = (time.perf_counter() - start) / count
        taken = (figures.resident() or 0) - before
        start = time.perf_counter()
    return each, time.perf_counter() - start, taken


def main(quick: bool) -> None:
    """One line for each power of ten."""
    rows = [("alloc(64), touched", "each", "close", "resident", "of which touched")]
    for power in range(3, 6 if quick else 8):
        count = 10**power
        answer = subprocess.check_output([sys.executable, __file__, "child", str(count)], text=True, timeout=300)
        each, close, taken = json.loads(answer)
        rows.append(
            (
                f"{count:,}",
                figures.duration(each),
                figures.duration(close),
                figures.size(taken),
                figures.size(_BLOCK * count),
            )
        )
    print(figures.table(rows))


if __name__ == "__main__":
    if sys.argv[1:2] == ["child"]:
        print(json.dumps(child(int(sys.argv[2]))))
    else:
        main("--quick" in sys.argv)
