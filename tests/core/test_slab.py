"""Slabs: many equal blocks."""

from __future__ import annotations

from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.support import counts_references
from scopedbump import RegionBusyError, RegionClosedError, RegionFullError, _slab, bump_region
from scopedbump._layout import round_up


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
        a._check()
    for block in blocks[:3]:
        with pytest.raises(ValueError, match="released"):
            block[0]


def test_a_slab_uses_a_small_region_to_the_end() -> None:
    """Promise 8: chunks shrink to what fits; then RegionFullError, and the rest goes on being served."""
    with bump_region(1000) as a:
        blocks = a.slab(32)
        taken: list[memoryview] = []
        with pytest.raises(RegionFullError):
            taken.extend(blocks)
        assert a.used == 31 * 32
        assert a.alloc(8, 1).nbytes == 8
        a._check()


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
    """Promise 11: what was carved before is handed out; carving more is refused."""
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
        a._check()


def test_a_slab_that_is_dropped_leaves_nothing_behind() -> None:
    """A region does not collect the slabs that were made in it."""
    with bump_region() as a:
        for _ in range(100):
            next(a.slab(8))
        import gc

        gc.collect()
        assert len(a._slabs) == 0


def test_a_slab_that_is_made_while_its_region_closes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Promise 3: a close that comes before the slab is entered leaves nothing of it in the region."""
    a = bump_region(1 << 20)

    def closing(value: int, align: int) -> int:
        a.close()
        return round_up(value, align)

    monkeypatch.setattr(_slab, "round_up", closing)
    blocks = a.slab(16)
    a._check()
    with pytest.raises(RegionClosedError):
        next(blocks)


@counts_references
def test_a_chunk_that_is_carved_while_its_region_closes() -> None:
    """Promise 3: what was carved too late is let go of, although the iterator and the error live on."""
    a = bump_region(1 << 20)

    def carve(root: memoryview, starts: range) -> list[memoryview]:
        made = [root[start : start + 16] for start in starts]
        a.close()
        return made

    blocks = a._slab(16, 16, carve)
    try:
        next(blocks)
    except RegionClosedError as error:
        kept = error
    assert "ended" in str(kept)
    assert a.released
