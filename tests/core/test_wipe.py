"""wipe: nothing of a secret is left in memory that is given back."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator

import pytest

from helpers.invariants import check
from helpers.support import FaultyPages, counts_references
from scopedbump import RegionPool, _pages, bump_region
from scopedbump._lifetime import ffi

SECRET = b"correct horse battery staple"


def raw(address: int, size: int) -> bytes:
    """What lies at an address that is mapped and committed."""
    return ctypes.string_at(address, size)


@counts_references
def test_a_scope_and_a_reset_wipe_what_was_used() -> None:
    """The bytes are zero as soon as the scope has ended, or the region was reset, and not only when used again."""
    with bump_region(1 << 20, wipe=True) as a:
        outside = a.copy(b"outside")
        with a.scope() as inner:
            address = inner.address(inner.copy(SECRET))
            assert raw(address, len(SECRET)) == SECRET
        assert raw(address, len(SECRET)) == bytes(len(SECRET))
        assert bytes(outside) == b"outside"
        address = a.address(outside)
        del outside
        a.reset()
        assert raw(address, 7) == bytes(7)
        check(a)


@counts_references
def test_a_pool_that_wipes_keeps_no_secret_in_idle_memory() -> None:
    """What waits for the next lease is zero; without wipe it still holds what the last one wrote."""
    for wipe, left in ((True, bytes(len(SECRET))), (False, SECRET)):
        with RegionPool(1 << 20, wipe=wipe) as pool:
            with pool.region() as a:
                address = a.address(a.copy(SECRET))
                a.alloc(100_000)[:] = b"x" * 100_000
            assert pool.stats().idle == 1
            assert raw(address, len(SECRET)) == left
            assert raw(address + 99_000, 5) == (bytes(5) if wipe else b"x" * 5)


def test_an_escape_is_not_wiped() -> None:
    """Promise 4 goes first: what still points in keeps its content."""
    with bump_region(1 << 20, wipe=True) as a:
        escaped = a.copy(SECRET)[:]
    assert bytes(escaped) == SECRET
    with bump_region(1 << 20, wipe=True) as a:
        pinned = ffi.from_buffer(a.copy(SECRET))
        a.reset()
    assert ffi.buffer(pinned)[:] == SECRET


@counts_references
def test_wiping_happens_before_the_memory_is_unmapped(monkeypatch: pytest.MonkeyPatch) -> None:
    """The used part of a plain region is zero at the moment that it is given back."""
    seen: list[bytes] = []

    class Spy(FaultyPages):
        def release(self, taken: Iterator[int], size: int) -> Iterator[object]:
            seen.append(raw(address, len(SECRET)))
            yield from super().release(taken, size)

    monkeypatch.setattr(_pages, "system_pages", Spy())
    for wipe in (True, False):
        with bump_region(1 << 20, wipe=wipe) as a:
            address = a.address(a.copy(SECRET))
    assert seen == [bytes(len(SECRET)), SECRET]
