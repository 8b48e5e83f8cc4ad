"""The long run: random programs over regions, scopes, slabs, pools, adapters and threads, while nothing may grow."""

from __future__ import annotations

import ctypes
import gc
import os
import random
import sys
import time
import warnings
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import pytest

from helpers.stress import RECORDS, both_builds, choose_build, in_process
from helpers.support import run_threads
from scopedbump import Region, RegionPool, ScopedBumpError, bump_region


def measure() -> dict[str, int]:
    """What may not grow: objects, and where the system tells, mappings, resident KiB and open files."""
    gc.collect()
    found = {"objects": len(gc.get_objects()), "records": sum(len(records) for _, records in RECORDS)}
    if Path("/proc/self/maps").exists():
        found["mappings"] = len(Path("/proc/self/maps").read_text().splitlines())
        found["files"] = len(list(Path("/proc/self/fd").iterdir()))
        status = Path("/proc/self/status").read_text()
        found["resident KiB"] = int(status.split("VmRSS:")[1].split()[0])
    return found


class Program:
    """One thread's random program, with a byte model of what it holds."""

    def __init__(self, seed: int, pool: RegionPool) -> None:
        self.chance = random.Random(seed)
        self.pool = pool
        self.pins: list[tuple[memoryview, int]] = []
        self.operations = 0

    def fill(self, view: memoryview) -> memoryview:
        assert not any(view[:: max(1, view.nbytes // 64)]), "memory of somebody else"
        number = self.chance.randrange(1, 256)
        view[:] = bytes([number]) * view.nbytes
        if self.chance.random() < 0.05:
            self.pins.append((view[: self.chance.randrange(view.nbytes) + 1], number))
        return view

    def work(self, a: Region, depth: int = 0) -> None:
        kept: list[object] = []
        for _ in range(self.chance.randrange(5, 40)):
            self.operations += 1
            kind = self.chance.randrange(12)
            try:
                if kind < 3:
                    kept.append(self.fill(a.alloc(self.chance.randrange(1, 2000))))
                elif kind == 3:
                    kept.append(self.fill(a.alloc(self.chance.randrange(1, 200_000), 1 << self.chance.randrange(14))))
                elif kind == 4:
                    kept += map(self.fill, islice(a.slab(self.chance.randrange(1, 300)), self.chance.randrange(50)))
                elif kind == 5 and depth < 4:
                    with a.scope() as s:
                        self.work(s, depth + 1)
                elif kind == 6:
                    kept.append(a.ctypes.array(ctypes.c_int, list(range(self.chance.randrange(1, 50)))))
                elif kind == 7:
                    kept.append(a.ctypes.new(ctypes.c_int64, 5))
                elif kind == 8:
                    kept.append(a.copy(os.urandom(self.chance.randrange(1, 3000))))
                elif kind == 9 and self.chance.random() < 0.3:
                    kept.clear()
                    a.reset()
                elif kind == 10:
                    kept.clear()
                elif self.numpy is not None:
                    kept.append(self.numpy(a, self.chance.randrange(1, 1000)))
            except (ScopedBumpError, ValueError):
                kept.clear()
        if self.chance.random() < 0.05:
            kept.append(kept)  # goes by the garbage collector

    numpy: Callable[[Region, int], object] | None = None

    def turn(self) -> None:
        pooled = self.chance.random() < 0.5
        region = self.pool.region() if pooled else bump_region(1 << self.chance.randrange(16, 31))
        if self.chance.random() < 0.03:
            self.work(region)  # and lost
        else:
            with region:
                self.work(region)
        if len(self.pins) > 30 or self.chance.random() < 0.05:
            for pin, number in self.pins:
                assert bytes(pin) == bytes([number]) * pin.nbytes, "an escape has changed"
            self.pins.clear()


def soak(build: str, seconds: float, seed: int) -> None:
    choose_build(build)
    warnings.simplefilter("ignore", ResourceWarning)
    try:
        import numpy as np

        Program.numpy = lambda self, a, n: a.numpy.full((n,), 7)  # type: ignore[assignment]
        np.zeros(3)
    except ImportError:
        pass
    pool = RegionPool(1 << 24, max_idle=3, retain=1 << 18)
    operations = rounds = 0
    begin = time.monotonic()
    history: list[dict[str, int]] = []
    while (passed := time.monotonic() - begin) < seconds:
        programs = [Program(seed + 1000 * rounds + number, pool) for number in range(3)]

        def body(program: Program, until: float = time.monotonic() + seconds / 20) -> None:
            while time.monotonic() < until:
                program.turn()

        try:
            run_threads(*[lambda program=program: body(program) for program in programs])
        except BaseException:
            print(f"soak({build!r}, {seconds}, {seed}), round {rounds}")
            raise
        operations += sum(program.operations for program in programs)
        rounds += 1
        programs.clear()
        del body
        history.append(measure())
    pool.close()
    print(operations)
    print(f"{build}: {operations} operations in {passed:.0f} s", history[0], history[-1], sep="\n", file=sys.stderr)
    half = len(history) // 2
    for what, slack in (("objects", 300), ("records", 10), ("mappings", 30), ("files", 0), ("resident KiB", 20_000)):
        if what in history[0] and sys.implementation.name == "cpython":
            early = max(one[what] for one in history[1 : half + 1])
            late = min(one[what] for one in history[half:])
            assert late <= early + slack, f"{what} grew: {[one[what] for one in history]}"


@both_builds
def test_a_short_soak(build: str) -> None:
    """Promises 3, 4, 6 and 9: three threads of random programs; nothing grows, no escape changes."""
    assert int(in_process(__file__, "soak", build, 1.0, 1)) > 100


@pytest.mark.long
@pytest.mark.timeout(400)
@both_builds
def test_a_long_soak(build: str) -> None:
    """Promises 3, 4, 6 and 9: the same for one minute."""
    in_process(__file__, "soak", build, 60.0, 2, timeout=380)
