"""reset: the cursor to the start, on pages that are warm."""

from __future__ import annotations

import pytest

from helpers.invariants import check
from helpers.support import collect, counts_references, mapped, needs_maps
from scopedbump import RegionClosedError, bump_region


@counts_references
def test_reset_keeps_the_reservation_and_its_pages() -> None:
    """The same addresses, still committed, zero again; the views are revoked, the peak is remembered."""
    with bump_region() as a:
        view = a.alloc(1 << 20)
        view[:] = b"x" * (1 << 20)
        address, committed = a.address(view), a.committed
        a.reset()
        assert (a.used, a.committed, a.peak) == (0, committed, 1 << 20)
        with pytest.raises(ValueError, match="released"):
            view[0]
        again = a.alloc(1 << 20)
        assert a.address(again) == address
        assert not any(again)
        check(a)


def test_an_escape_takes_the_old_reservation_with_it() -> None:
    """With an escape alive the region moves; the escape keeps its content, and its memory goes when it goes."""
    with bump_region(1 << 20) as a:
        escaped = a.copy(b"kept")[:]
        address = a.address(escaped)
        a.reset()
        check(a)
        a.alloc(1 << 19)[:] = b"\xff" * (1 << 19)
        assert bytes(escaped) == b"kept"
        assert address not in a
    assert bytes(escaped) == b"kept"
    collect()
    assert a.released


@needs_maps
@counts_references
@pytest.mark.parametrize("escaped", [False, True])
def test_a_scope_from_before_a_reset_keeps_nothing(escaped: bool) -> None:
    """Promise 3: holding the closed scope of a region that was reset does not hold the memory."""
    with bump_region(1 << 20) as a:
        with a.scope() as inner:
            address = inner.address(inner.alloc(10))
        pin = a.alloc(10)[:] if escaped else None
        a.reset()
        del pin
    assert inner.closed and a.released
    assert not mapped(address)


def test_a_thousand_resets() -> None:
    """Resets cost nothing that adds up."""
    with bump_region(1 << 20) as a:
        for number in range(1000):
            view = a.alloc(1000)
            assert not any(view)
            view[:] = bytes([number % 255 + 1]) * 1000
            del view
            a.reset()
        check(a)


def test_a_slab_ends_with_a_reset() -> None:
    """A slab made before a reset must not hand out blocks of the time before."""
    with bump_region() as a:
        blocks = a.slab(16)
        first = next(blocks)
        a.reset()
        with pytest.raises(ValueError, match="released"):
            first[0]
        with pytest.raises(RegionClosedError, match="was reset"):
            next(blocks)
        assert a.alloc(10).nbytes == 10
