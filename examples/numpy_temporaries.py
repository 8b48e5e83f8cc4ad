"""Existing NumPy code, unchanged, with its temporaries in warm scratch memory: time and page faults of both ways.

A Gray-Scott reaction on a grid: two fields, and some twenty temporaries a step, each as large as a field.

    python examples/numpy_temporaries.py [side] [steps]
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from scopedbump import RegionPool

Field = NDArray[np.float64]


def spread(x: Field) -> Field:
    """What flows into each cell from its four neighbours."""
    return np.roll(x, 1, 0) + np.roll(x, -1, 0) + np.roll(x, 1, 1) + np.roll(x, -1, 1) - 4 * x


def react(u: Field, v: Field) -> tuple[Field, Field]:
    """One step of the reaction. Ordinary NumPy: it knows nothing of regions."""
    uvv = u * v * v
    return u + (0.16 * spread(u) - uvv + 0.035 * (1 - u)), v + (0.08 * spread(v) + uvv - 0.095 * v)


def run(side: int, steps: int) -> Field:
    """The fields after so many steps, from a square in the middle."""
    u, v = np.ones((side, side)), np.zeros((side, side))
    middle = slice(side // 2 - side // 8, side // 2 + side // 8)
    u[middle, middle], v[middle, middle] = 0.5, 0.25
    for _ in range(steps):
        u, v = react(u, v)
    return u


def faults() -> int:
    """Page faults of this process so far."""
    if sys.platform == "win32":  # it has no such counter
        return 0
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def measure(what: str, work: Callable[[], Field]) -> tuple[float, Field]:
    """Run it three times; print and return the best time, and the result."""
    before, best, result = 0, float("inf"), work()  # warm, as in a process that has run for a while
    for _ in range(3):
        before, start = faults(), perf_counter()
        work()
        best = min(best, perf_counter() - start)
    faulted = faults() - before
    print(f"{what:26} {best * 1e3:8.1f} ms {faulted:8} page faults")
    return best, result


def main(side: int = 512, steps: int = 40) -> float:
    """Compute it both ways; the ratio of the times."""
    pool = RegionPool()

    def in_a_region() -> Field:
        with pool.region() as a, a.numpy.handler(min_bytes=1 << 19):
            return run(side, steps)

    print(f"{side} x {side} cells, {side * side * 8 >> 10} KiB an array, {steps} steps")
    plain, expected = measure("NumPy's own allocator", lambda: run(side, steps))
    ours, result = measure("a region from a pool", in_a_region)
    assert np.array_equal(result, expected)
    print(f"ratio {ours / plain:.2f}")
    return ours / plain


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
