"""Resident memory under a handler, over a long time: video frames of one size, and blocks of random sizes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import scopedbump
from helpers import TESTS
from helpers.support import run_script

pytest.importorskip("numpy", reason="NumPy is not installed")
if sys.implementation.name != "cpython" or not getattr(sys, "_is_gil_enabled", lambda: True)():
    pytest.skip("NumPy's allocator can be a region only on CPython with a GIL", allow_module_level=True)
if sys.platform != "linux":
    pytest.skip("resident memory is read from /proc", allow_module_level=True)

SOAK = """
    import random, sys, time
    import numpy as np
    from scopedbump import RegionPool

    def resident():
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * 4096 >> 20

    rng = random.Random(7)
    pool, kept, seen = RegionPool(1 << 32), [], []
    end, after, done = time.monotonic() + float(sys.argv[1]), 0.0, 0
    while time.monotonic() < end or done < 30:
        done += 1
        with pool.region() as a, a.numpy.handler() as handler:
            live = []
            for _ in range(rng.randrange(1, 60)):  # at most 32 MiB are live, at most 5 blocks of any size
                size = int(2 ** rng.uniform(12, 22))
                live.append(np.ones(size // 8))
                if len(live) > 5 or rng.random() < 0.3:
                    live.pop(rng.randrange(len(live)))
                live[-1:] = [live[-1] * 2 + 1] if live else []
            if rng.random() < 0.1 and live:
                kept.append((live[0], float(live[0].sum())))
            live.clear()
            del live
        if len(kept) > 8:
            array, total = kept.pop(0)
            assert float(array.sum()) == total
            del array
        if time.monotonic() > after:
            after = time.monotonic() + float(sys.argv[1]) / 200
            seen.append(resident())
    half = len(seen) // 2
    print(max(seen[: half // 2] or seen), max(seen[half:]), done)
"""


def check_soak(seconds: float) -> None:
    """The most that is resident in the second half of the time is what it was in the first quarter, or little more."""
    early, late, _ = map(int, run_script(SOAK, str(seconds), timeout=seconds + 60).split())
    assert late <= early * 1.25 + 32, (early, late)


def test_blocks_of_random_sizes_for_a_moment() -> None:
    """The soak itself works."""
    check_soak(0.3)


@pytest.mark.long
@pytest.mark.timeout(600)
def test_blocks_of_random_sizes() -> None:
    """Memory follows what is live: for minutes, with arrays that outlive their regions."""
    check_soak(120)


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("size", ["720p", "1080p", "2160p"])
@pytest.mark.parametrize("age", ["young", "old"])
def test_frames_need_little_more_than_without(size: str, age: str) -> None:
    """Video frames under all defaults: at most 1.3 of the resident memory that NumPy needs by itself."""
    environment = {**os.environ, "PYTHONPATH": str(Path(scopedbump.__file__).parents[1])}
    grown: dict[str, int] = {}
    for way in ("plain", "pooled"):
        command = [sys.executable, str(TESTS / "bench" / "frames.py"), "--grown", size, age, way, "25"]
        grown[way] = json.loads(subprocess.check_output(command, text=True, timeout=300, env=environment))
    assert grown["pooled"] <= 1.3 * grown["plain"] + (4 << 20), grown
