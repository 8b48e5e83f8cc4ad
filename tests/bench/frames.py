"""Video frames, one after the other, in NumPy's own memory and in a pool's: `python tests/bench/frames.py [--quick]`.

Each frame of float32 pixels is blurred by slices, its gradients are taken and compared with a threshold, and it gets a
histogram and a spectrum (numpy.fft), as existing code is written. `pool.region()` and `a.numpy.handler()` with all
defaults, against nothing at all, in turns of a few frames in one process, the best frame of each; and the resident
memory that each needs, in processes of their own. Young: the process has freed no large blocks. Old: it has freed
blocks of up to 32 MiB, after which glibc keeps more.
"""

from __future__ import annotations

import argparse
import gc
import json
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from scopedbump import RegionPool
from scopedbump._cli import figures

Frame = NDArray[np.float32]
SIZES = {"270p": (270, 480), "540p": (540, 960), "720p": (720, 1280), "1080p": (1080, 1920), "2160p": (2160, 3840)}
_MIB = 1 << 20


def analysed(frame: Frame) -> tuple[float, int, float]:
    """The share of edges in a frame, its most frequent brightness, and the strength of its spectrum."""
    rows = (frame[:-2] + frame[1:-1] + frame[2:]) / 3
    blurred = (rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:]) / 3
    across = blurred[1:-1, 2:] - blurred[1:-1, :-2]
    down = blurred[2:, 1:-1] - blurred[:-2, 1:-1]
    strength = np.sqrt(across**2 + down**2)
    edges = strength > 0.2
    counts = np.bincount((blurred * 255).astype(np.uint8).ravel(), minlength=256)
    spectrum = np.fft.rfft(blurred)
    return float(edges.mean()), int(counts.argmax()), float(np.abs(spectrum).max())


def works(name: str) -> dict[str, Callable[[], object]]:
    """One frame: plain, and from a pool."""
    frame = np.random.default_rng(1).random(SIZES[name], dtype=np.float32)
    pool = RegionPool()

    def plain() -> object:
        return analysed(frame)

    def pooled() -> object:
        with pool.region() as a, a.numpy.handler():
            return analysed(frame)

    return {"plain": plain, "pooled": pooled}


def age_process() -> None:
    """Free large blocks: glibc raises its thresholds to what is freed, up to 32 MiB."""
    for mib in (1, 2, 4, 8, 16, 24, 30):
        block = bytearray(mib * _MIB)
        del block


def best_times(name: str, age: str, seconds: float) -> dict[str, float]:
    """The best time of each way, both in turn in this process."""
    both = works(name)
    if age == "old":
        age_process()
    assert both["plain"]() == both["pooled"]()
    gc.disable()
    best = dict.fromkeys(both, float("inf"))
    end = time.perf_counter() + seconds
    while True:
        for way, work in both.items():
            for _ in range(3):
                start = time.perf_counter()
                work()
                best[way] = min(best[way], time.perf_counter() - start)
        if time.perf_counter() >= end:
            return best


def grown(name: str, age: str, way: str, frames: int) -> int:
    """By how much the most that was resident grew, over so many frames."""
    import resource

    work = works(name)[way]
    if age == "old":
        age_process()
    before = figures.resident() or 0
    for _ in range(frames):
        work()
    highest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return highest - before


def in_process(*arguments: str) -> object:
    """What this script says when it is called so."""
    return json.loads(subprocess.check_output([sys.executable, __file__, *arguments], text=True, timeout=300))


def main(quick: bool, names: list[str]) -> None:
    """One line for each size and age."""
    line = "{:8} {:6} {:>10} {:>10} {:>6} {:>12} {:>12} {:>6}"
    print(line.format("frames", "age", "plain", "pooled", "ratio", "plain RAM", "pooled RAM", "ratio"))
    for name in names:
        for age in ("young", "old"):
            best = in_process("--time", name, age, "0" if quick else "2")
            ram = {way: in_process("--grown", name, age, way, "3" if quick else "50") for way in ("plain", "pooled")}
            assert isinstance(best, dict) and isinstance(ram["plain"], int) and isinstance(ram["pooled"], int)
            cells = figures.duration(best["plain"]), figures.duration(best["pooled"]), best["pooled"] / best["plain"]
            held = figures.size(ram["plain"]), figures.size(ram["pooled"]), ram["pooled"] / max(ram["plain"], 1)
            print(line.format(name, age, *cells[:2], f"{cells[2]:.2f}", *held[:2], f"{held[2]:.2f}"), flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--time"]:
        print(json.dumps(best_times(sys.argv[2], sys.argv[3], float(sys.argv[4]))))
    elif sys.argv[1:2] == ["--grown"]:
        print(json.dumps(grown(sys.argv[2], sys.argv[3], sys.argv[4], int(sys.argv[5]))))
    else:
        parser = argparse.ArgumentParser(description="Frames under NumPy's own allocator and in a pool.")
        parser.add_argument("sizes", nargs="*", metavar="SIZE", help=", ".join(SIZES))
        parser.add_argument("--quick", action="store_true", help="see whether it runs")
        chosen = parser.parse_args()
        main(chosen.quick, chosen.sizes or list(SIZES))
