"""What holds of a region, and of blocks that came back to it, between any two operations: looked at by tests."""

from __future__ import annotations

from itertools import pairwise

from scopedbump import Region
from scopedbump._adapters._numpy_blocks import ALIGN, FreeBlocks
from scopedbump._atomic import atomic
from scopedbump._chunk import OPEN, SUSPENDED, UNBACKED, Chunk
from scopedbump._layout import round_up


def check(region: Region) -> None:
    """Assert every invariant of a region and the scopes in it."""
    chunk = region._chunk
    reservation = chunk.reservation
    assert 0 <= chunk.start <= chunk.cursor <= reservation.size
    if chunk.state == UNBACKED:
        assert chunk.limit == -1 and chunk.cursor == 0 and chunk.inner is None
        assert chunk.view is None and chunk.exporter is None and chunk.tenure is None and chunk.batches is None
        return
    if region.closed:
        assert chunk.limit == -1 and chunk.view is None and chunk.inner is None
        assert chunk.tenure is None and chunk.exporter is None and not chunk.batches and not chunk.stale
        return
    assert chunk.exporter is not None and chunk.exporter.pinned()
    assert chunk.limit in (-1, chunk.zeroed)
    assert chunk.cursor <= chunk.zeroed <= reservation.size
    assert chunk.zeroed <= reservation.committed <= round_up(reservation.size, 1 << 16) or chunk.limit == -1
    assert chunk.view is not None and chunk.view.nbytes == reservation.extent
    assert chunk.state in (OPEN, SUSPENDED) and (chunk.inner is not None) == (chunk.state == SUSPENDED)
    _check_ahead(chunk)
    if chunk.inner is None:  # zeroed means zero: looked at up to where anybody has ever written
        assert not any(chunk.view[chunk.cursor : max(chunk.cursor, min(chunk.zeroed, reservation.dirty))])
    else:
        scope = chunk.inner.region()
        assert chunk.limit == -1 and chunk.inner.outer is chunk
        if scope is not None:  # else it was lost, and an exception hit its finalizer
            assert isinstance(scope, Region) and scope._chunk is chunk.inner and scope._parent is region
            check(scope)


def _check_ahead(chunk: Chunk) -> None:
    """Assert those of what was taken ahead."""
    reservation = chunk.reservation
    if chunk.debug:
        _check_debug_ahead(chunk)
        return
    for ahead in reservation.aheads:
        assert 0 <= ahead.start <= ahead.start + ahead.end <= ahead.start + ahead.ready <= ahead.stop
        assert ahead.limit in (-1, ahead.ready if ahead.seat < 0 and ahead.open and atomic else -1)
        assert ahead.edge <= reservation.committed and ahead.high <= ahead.ready
        usable = ahead.committed if ahead.committed < ahead.edge else reservation.committed
        assert ahead.start + ahead.ready <= usable
        assert ahead.ready == 0 or ahead.start <= ahead.committed
    gaps = [place for gap in chunk.gaps() for place in gap]
    assert gaps == sorted(gaps)


def _check_debug_ahead(chunk: Chunk) -> None:
    """Assert those of what a debug region took ahead."""
    from scopedbump._debug._ahead import DebugAhead

    reservation = chunk.reservation
    for ahead in reservation.aheads:
        if isinstance(ahead, DebugAhead) and ahead.block is not None and ahead.twin is not None:
            block, twin = ahead.block, ahead.twin
            assert twin in reservation.aheads and twin.stop - twin.start >= ahead.end
            assert 0 <= ahead.end <= (ahead.ready if ahead.open else ahead.end) <= block.edge - block.address
            assert block.first <= block.address <= reservation.address + ahead.committed <= block.edge
            assert ahead.open or ahead.limit == -1


def check_free_blocks(free: FreeBlocks) -> None:
    """Assert every invariant of the blocks that came back."""
    ranges = sorted((start, start + size) for size, start in free._ranges or ())
    spans = sorted((span.start, span.stop) for span in free.freed)
    assert free._ranges is None or free._ranges == sorted(free._ranges)
    assert all(start % ALIGN == stop % ALIGN == 0 and start < stop for start, stop in ranges + spans)
    everything = sorted(ranges + spans)
    assert all(left[1] <= right[0] for left, right in pairwise(everything))
    assert all(left[1] < right[0] for left, right in pairwise(ranges))
    assert sum(stop - start for start, stop in everything) <= free._in_use
