"""Slabs: many equal blocks."""

from __future__ import annotations

from collections.abc import Iterator
from ctypes import c_int
from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.invariants import check
from helpers.stress import Moment, at_moment, needs_cpython
from helpers.support import counts_references
from scopedbump import Region, RegionBusyError, RegionClosedError, RegionFullError, _slab, bump_region
from scopedbump._chunk import Chunk


@given(st.integers(1, 3000), st.integers(0, 12), st.integers(0, 700))
@settings(max_examples=60, deadline=None)
def test_blocks_of_a_slab(size: int, shift: int, count: int) -> None:
    """Every block has its size and alignment, is zero, and shares no byte with another."""
    align = 1 << shift
    with bump_region(1 << 26) as a:
        blocks = list(islice(a.slab(size, align), count))
        for number, block in enumerate(blocks):
            assert block.nbytes == size
            assert a.address(block) % align == 0
            assert not any(block)
            block[:] = bytes([number % 255 + 1]) * size
        assert all(set(block) == {number % 255 + 1} for number, block in enumerate(blocks))
        check(a)
    for block in blocks[:3]:
        with pytest.raises(ValueError, match="released"):
            block[0]


def test_a_slab_uses_a_small_region_to_the_end() -> None:
    """Promise 8: batches shrink to what fits; then RegionFullError, and the rest goes on being served."""
    with bump_region(1000) as a:
        blocks = a.slab(32)
        taken: list[memoryview] = []
        with pytest.raises(RegionFullError):
            taken.extend(blocks)
        assert a.used == 31 * 32
        assert a.alloc(8, 1).nbytes == 8
        check(a)


def test_a_slab_ends_with_its_region() -> None:
    """Promise 3: the blocks that were made ahead are gone with the region, and the iterator says so."""
    with bump_region() as a:
        blocks = a.slab(16)
        next(blocks)
    with pytest.raises(RegionClosedError):
        next(blocks)
    with pytest.raises(StopIteration):
        next(blocks)


def test_a_slab_during_a_scope() -> None:
    """Promise 11: what was made before is handed out; making more is refused."""
    with bump_region() as a:
        blocks = a.slab(16)
        next(blocks)
        with a.scope(), pytest.raises(RegionBusyError):
            for _ in islice(blocks, 100):
                pass
        assert next(a.slab(16)).nbytes == 16


def test_two_slabs_and_allocs_between() -> None:
    """Slabs and allocations interleave in one region."""
    with bump_region() as a:
        first, second = a.slab(24), a.slab(100, 1)
        written = []
        for number in range(200):
            for block in (next(first), a.alloc(5), next(second)):
                block[:] = bytes([number + 1]) * block.nbytes
                written.append((block, number + 1))
        assert all(set(block) == {number} for block, number in written)
        check(a)


@needs_cpython
def test_a_slab_that_is_made_while_its_region_closes() -> None:
    """Promise 3: a close at any moment of its making and first use leaves nothing of it in the region."""
    number = 0
    moment = Moment()
    while not number or moment.happened:
        a = bump_region(1 << 20)
        made: list[Iterator[memoryview]] = []

        def make(a: Region = a, made: list[Iterator[memoryview]] = made) -> None:
            made.append(a.slab(16))
            next(made[0])

        moment = at_moment(number, a.close, make)
        assert moment.error in (None, RegionClosedError)
        a.close()
        check(a)
        assert a.released
        for blocks in made:
            with pytest.raises(StopIteration if moment.error else RegionClosedError):
                next(blocks)
        number += 1
    assert number > 10


@counts_references
def test_a_batch_that_is_made_while_its_region_closes() -> None:
    """Promise 3: what was made too late is let go of, although the iterator and the error live on."""
    a = bump_region(1 << 20)

    def make(_: Chunk, view: memoryview, starts: range) -> list[memoryview]:
        made = [view[start : start + 16] for start in starts]
        a.close()
        return made

    blocks = _slab.batches(a, 16, 16, make)
    with pytest.raises(RegionClosedError, match="ended") as caught:
        next(blocks)
    assert a.released
    assert caught.value.__traceback__ is not None
    del blocks
    check(a)


@counts_references
def test_a_slab_that_is_dropped_lets_go_of_what_it_made_ahead() -> None:
    """Promise 3: objects that nobody took do not pin, whether their iterator is dropped before the close or after."""
    with bump_region(1 << 20) as a:
        slabs = [a.ctypes.slab(c_int) for _ in range(100)]
        for slab in slabs:
            next(slab)
        del slabs[:50], slab
    assert a.released
    del slabs
