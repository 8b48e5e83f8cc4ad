"""What NumPy frees under a handler serves requests of every size, and memory follows what is live."""

from __future__ import annotations

import gc
import random
import sys
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.invariants import check_free_blocks
from helpers.support import run_script, run_threads
from scopedbump import bump_region

np = pytest.importorskip("numpy", reason="NumPy is not installed")
if sys.implementation.name != "cpython" or not getattr(sys, "_is_gil_enabled", lambda: True)():
    pytest.skip("NumPy's allocator can be a region only on CPython with a GIL", allow_module_level=True)

from scopedbump._adapters._numpy_blocks import ALIGN, FreeBlocks, Span  # noqa: E402
from scopedbump._memory import Memory  # noqa: E402

KIB = 1 << 10


class Taker:
    """Who asks for a block."""

    span: Span | None = None


def free_blocks(region: Any) -> FreeBlocks:
    """The free blocks of a region that no handler uses."""
    blocks = Memory(region).blocks(None)
    assert blocks is not None
    return FreeBlocks(blocks)


def take(free: FreeBlocks, size: int) -> Span | None:
    """A block of so many bytes."""
    taker = Taker()
    free.take(size, taker, False)
    return taker.span


@given(st.lists(st.tuples(st.sampled_from(["take", "free", "settle", "alloc"]), st.integers(0, 40)), max_size=80))
def test_blocks_never_overlap_whatever_comes_and_goes(steps: list[tuple[str, int]]) -> None:
    """Promise 4: any program of taking, freeing and settling keeps every live block apart, and ends where it began."""
    with bump_region(1 << 16) as a:
        a.alloc(7)
        free = free_blocks(a)
        live: list[Span] = []
        others = False
        for what, number in steps:
            if what == "take":
                span = take(free, (number + 1) * ALIGN)
                if span is not None:
                    assert span.start % ALIGN == 0 and span.stop - span.start == (number + 1) * ALIGN
                    assert all(span.stop <= each.start or each.stop <= span.start for each in live)
                    live.append(span)
            elif what == "free" and live:
                free.give_back(live.pop(number % len(live)))
            elif what == "settle":
                free.settle()
            elif what == "alloc" and number < 4 and a.available > KIB:
                others = True
                address = a.address(a.alloc(number + 1))
                assert not any(each.start <= address < each.stop for each in live)
            check_free_blocks(free)
        while live:
            free.give_back(live.pop())
        free.settle()
        assert others or a.used == 7
        assert not any(a.alloc(4 * KIB))


def test_a_full_region_joins_what_is_free_before_it_refuses() -> None:
    """Many small blocks that came back are one large one, and the largest block there is can be had again."""
    with bump_region(1 << 16) as a:
        free = free_blocks(a)
        small = [take(free, 64) for _ in range(1 << 10)]
        assert None not in small and take(free, 64) is None
        for span in random.Random(3).sample(small, len(small)):
            free.give_back(span)  # type: ignore[arg-type]  # not None
        large = take(free, 1 << 16)
        assert large is not None and large.stop - large.start == 1 << 16


def test_threads_share_free_blocks() -> None:
    """Promise 9: whoever else takes and frees, a block is nobody else's."""
    with bump_region(1 << 24) as a:
        free = free_blocks(a)
        base = a.address(a.alloc(0))  # nothing was allocated before
        whole = free.blocks.view()
        assert whole is not None

        def work(seed: int) -> None:
            generator = random.Random(seed)
            mine: list[tuple[Span, memoryview]] = []
            for _ in range(1500):
                if len(mine) > 6 or (mine and generator.random() < 0.4):
                    span, view = mine.pop(generator.randrange(len(mine)))
                    assert set(view) == {seed}
                    free.give_back(span)
                else:
                    got = take(free, ALIGN * generator.randrange(1, 20))
                    assert got is not None
                    view = whole[got.start - base : got.stop - base]
                    view[:] = bytes([seed]) * view.nbytes
                    mine.append((got, view))

        bodies: list[Callable[[], object]] = [lambda seed=seed: work(seed) for seed in range(1, 4)]  # type: ignore[misc]
        run_threads(*bodies)
        check_free_blocks(free)


def test_blocks_of_many_sizes_stay_within_what_is_live() -> None:
    """At most four arrays of up to 1 MiB are alive: the cursor stays below twice that, and nothing is handed on."""
    generator = random.Random(1)
    with bump_region(1 << 26) as a, a.numpy.handler(KIB) as h:
        for _ in range(300):
            arrays = [np.ones(generator.randrange(1 << 10, 1 << 17)) for _ in range(4)]
            assert all((each == 1).all() for each in arrays)
            arrays.clear()
        assert a.peak < 8 << 20 and h.passed_blocks == 0


def test_the_cursor_goes_back_when_nothing_is_left() -> None:
    """What the handler took is the region's again when its block ends; what is alive stays where it is."""
    with bump_region(1 << 24) as a:
        a.alloc(100)
        with a.numpy.handler(KIB):
            first, second = np.ones(1000), np.ones(2000)
            del first, second
        assert a.used == 100 and not any(a.alloc(20_000))
        used = a.used
        with a.numpy.handler(KIB):
            first, second = np.full(1000, 3.0), np.full(2000, 4.0)
            del second
        assert used < a.used < used + 9000
        assert not any(a.alloc(20_000)) and (first == 3).all()


def test_zeros_are_zero_in_memory_that_the_cursor_went_back_over() -> None:
    """Promise 6: bytes that a handler had are zero when the region hands them out, in a scope and in a slab too."""
    with bump_region(1 << 24) as a:
        for size in (1000, 50_000, 500_000):
            with a.numpy.handler(KIB):
                np.full(size, -1.0)
            with a.scope() as s:
                assert not any(s.alloc(8 * size)[::64])
            with a.numpy.handler(KIB):
                np.full(size, -1.0)
            assert not any(next(a.slab(1024)))
            a.reset()
            assert not any(a.alloc(8 * size)[::64])
            a.reset()


needs_dontneed = pytest.mark.skipif(sys.platform != "linux", reason="pages stay where they are on this system")

RESIDENT = """
import gc
import numpy as np
from scopedbump import RegionPool, bump_region

def resident():
    gc.collect()
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096

def fill(a, n):
    with a.numpy.handler(1 << 16):
        arrays = [np.full(1 << 20, float(n)) for _ in range(4)]
        kept = np.full(1 << 16, float(n))
        more = np.full(1 << 20, float(n))
        return kept
"""


@needs_dontneed
@pytest.mark.parametrize("end", ["close", "reset", "pool"])
def test_an_array_that_outlives_its_region_keeps_its_pages_only(end: str) -> None:
    """An array of 512 KiB among 40 MiB of others keeps less than 2 MiB, with its content, and then nothing."""
    run_script(
        RESIDENT
        + f"""
pool = RegionPool(1 << 27)
kept = []
with bump_region(1 << 27) as warm:
    fill(warm, 0)
before = resident()
for n in range(6):
    if {end!r} == "reset":
        a = bump_region(1 << 27)
        kept.append(fill(a, n))
        a.reset()
        kept.append(a)
        continue
    with (pool.region() if {end!r} == "pool" else bump_region(1 << 27)) as a:
        kept.append(fill(a, n))
grown = resident() - before
assert grown < 6 * 2 << 20, grown
assert all((each == n).all() for n, each in enumerate(x for x in kept if isinstance(x, np.ndarray)))
for each in kept:
    if not isinstance(each, np.ndarray):
        each.close()
kept.clear()
del each, a
if {end!r} == "pool":
    for _ in range(7):
        with pool.region() as a:
            assert not any(a.alloc(48 << 20)[::4096])
pool.close()
"""
    )


@needs_dontneed
def test_a_region_that_nothing_outlives_stays_warm() -> None:
    """The pages of a pool's region are not given back for the handler's sake when no array is left."""
    run_script(
        RESIDENT
        + """
pool = RegionPool(1 << 27, retain=1 << 27)
with pool.region() as a:
    fill(a, 1)
before = resident()
for n in range(3):
    with pool.region() as a:
        fill(a, n)
assert abs(resident() - before) < 1 << 21
"""
    )


def test_what_is_alive_in_a_scope_stays_when_the_scope_ends() -> None:
    """Promises 4 and 11: an array made under a scope's handler keeps its content, and the region goes on behind it."""
    with bump_region(1 << 24) as a:
        with a.scope() as s, s.numpy.handler(KIB):
            dead = [np.full(100_000, 1.0) for _ in range(3)]
            kept = np.full(5000, 7.0)
            dead.clear()
        for _ in range(10):
            a.alloc(100_000)[:] = b"x" * 100_000
        assert (kept == 7).all()
    del kept
    gc.collect()
    assert a.released
