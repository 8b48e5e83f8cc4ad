"""Reservations: what the system may refuse, and the mapping, whose death gives them back."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import scopedbump._pages as pages
from helpers.invariants import check
from helpers.support import FaultyPages, collect, counts_references
from scopedbump import CommitError, Region, ReserveError, ScopedBumpError, bump_region
from scopedbump._lifetime import Exporter
from scopedbump._mapping import _refused
from scopedbump._reservation import reserve


@pytest.fixture
def faulty(monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyPages]:
    """A page source in the place of the system's."""
    collect()
    source = FaultyPages()
    monkeypatch.setattr(pages, "system_pages", source)
    yield source
    collect()


def program(regions: list[Region]) -> None:
    """Something of everything: every kind of system call comes up, several times."""
    with bump_region(1 << 28) as a:
        regions.append(a)
        a.alloc(10)
        a.alloc(5 << 20)
        with a.scope() as inner:
            regions.append(inner)
            inner.alloc(20 << 20)
            next(inner.slab(1 << 20))
        escaped = a.alloc(100)[:]
        a.reset()
        a.alloc(3 << 20, zero=False)
    with bump_region(1 << 22) as b:
        regions.append(b)
        b.copy(bytes(escaped))
    del escaped


@counts_references
def test_every_refusal_of_the_system_in_turn(faulty: FaultyPages) -> None:
    """Promises 5 and 8: the N-th call is refused, for every N: the error is right, nothing leaks, another try works."""
    program([])
    calls = list(faulty.calls)
    assert {"reserve", "commit", "release"} <= set(calls)
    assert not faulty.reserved
    for refuse, call in enumerate(calls):
        faulty.calls.clear()
        faulty.refuse = refuse
        regions: list[Region] = []
        try:
            program(regions)
        except ReserveError:
            assert call == "reserve"
        except CommitError:
            assert call == "commit"
        else:
            assert call != "reserve"  # a commit may have succeeded with less, a release is tried again
        faulty.refuse = -1
        assert all(region.closed for region in regions)
        for region in regions:
            check(region)
        del regions
        with bump_region(4096) as again:
            again.alloc(100)
        assert not faulty.reserved, (refuse, call)
    assert not _refused


def test_a_refused_commit_leaves_the_region_usable(faulty: FaultyPages) -> None:
    """Promise 8: after CommitError the cursor has not moved, and the same request works once there is memory."""
    with bump_region(1 << 28) as a:
        a.alloc(100)
        faulty.calls.clear()
        faulty.refuse = 0
        # The generous step is refused, the bare need is granted.
        assert a.alloc(1 << 20).nbytes == 1 << 20
        assert faulty.calls == ["commit", "commit"]
        check(a)
        used = a.used
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(faulty, "_refuses", lambda _call: True)
            with pytest.raises(CommitError, match="refused by the test"):
                a.alloc(100 << 20)
        assert a.used == used
        check(a)
        assert a.alloc(100 << 20).nbytes == 100 << 20


@counts_references
def test_what_the_system_refuses_to_take_back_is_offered_again(faulty: FaultyPages) -> None:
    """A refused release is silent at the exit, and made good by the next reservation."""
    with bump_region(4096) as a:
        a.alloc(1)
        faulty.calls.clear()
        faulty.refuse = 0
    assert faulty.calls == ["release"]
    assert len(faulty.reserved) == 1
    with bump_region(4096):
        assert len(faulty.reserved) == 1
    assert not faulty.reserved


@counts_references
def test_a_mapping_that_nobody_uses_is_given_back(faulty: FaultyPages) -> None:
    """Promise 3: the reservation stands as long as its mapping; whoever knows the numbers does not keep it."""
    reservation, mapping = reserve(4096)
    assert list(faulty.reserved) == [reservation.address]
    del mapping
    assert not faulty.reserved
    del reservation
    assert faulty.calls == ["reserve", "release"]


def test_an_exception_between_the_system_call_and_its_mapping(
    faulty: FaultyPages, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise 3: what a signal handler raises as soon as the address space is taken does not lose it."""
    take = faulty.reserve

    def interrupted(size: int, taken: list[int]) -> None:
        take(size, taken)
        raise KeyboardInterrupt

    monkeypatch.setattr(faulty, "reserve", interrupted)
    with pytest.raises(KeyboardInterrupt):
        reserve(4096)
    collect()
    assert faulty.calls == ["reserve", "release"]
    assert not faulty.reserved


def test_trim_gives_pages_back_and_they_are_zero_again() -> None:
    """Decommitted pages cost nothing, and read as zero when they are used again."""
    reservation, mapping = reserve(1 << 20)
    reservation.commit(1 << 20)
    view = Exporter(reservation.address, 1 << 20, mapping).view()
    view[:] = b"x" * (1 << 20)
    reservation.dirty = 1 << 20
    reservation.trim(1 << 16)
    assert (reservation.committed, reservation.dirty) == (1 << 16, 1 << 16)
    reservation.trim(1 << 18)
    assert reservation.committed == 1 << 16
    reservation.commit(1 << 20)
    assert view[: 1 << 16] == b"x" * (1 << 16)
    assert not any(view[1 << 16 :])


def test_trim_knows_what_was_not_written() -> None:
    """Promise 6: what lies between the written and the kept pages still counts as zero."""
    reservation, _mapping = reserve(1 << 20)
    reservation.commit(1 << 20)
    reservation.dirty = 5000
    reservation.trim(1 << 16)
    assert (reservation.committed, reservation.dirty) == (1 << 16, 5000)


def test_a_refused_trim_changes_nothing(faulty: FaultyPages) -> None:
    """The numbers are true whatever the system says."""
    reservation, _mapping = reserve(1 << 20)
    reservation.commit(1 << 20)
    reservation.dirty = 1 << 20
    faulty.refuse = len(faulty.calls)
    with pytest.raises(CommitError):
        reservation.trim(0)
    assert (reservation.committed, reservation.dirty) == (1 << 20, 1 << 20)


def test_a_commit_in_the_middle_of_another_is_not_undone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Promise 9: the boundary of what is usable is never lowered, whoever comes while the system is at it."""
    boundaries: list[int] = []

    class Interrupted(FaultyPages):
        def commit(self, address: int, size: int) -> None:
            super().commit(address, size)
            if not boundaries:
                boundaries.append(0)
                reservation.commit(1 << 23)
                boundaries.append(reservation.committed)

    monkeypatch.setattr(pages, "system_pages", Interrupted())
    reservation, mapping = reserve(1 << 24)
    reservation.commit(1)
    assert boundaries[1] >= 1 << 23
    assert reservation.committed == boundaries[1]
    Exporter(reservation.address, 1 << 24, mapping).view()[(1 << 23) - 1] = 1


@counts_references
def test_a_region_that_died_without_its_end(faulty: FaultyPages, monkeypatch: pytest.MonkeyPatch) -> None:
    """Promise 3: an exception of a signal handler that hits a finalizer is lost, and the end with it: no memory is."""
    with monkeypatch.context() as patch:
        patch.setattr(Region, "__del__", lambda _: None)
        a = bump_region(1 << 20)
        escaped = a.copy(b"kept")[:]
        del a
    assert bytes(escaped) == b"kept"
    assert len(faulty.reserved) == 1
    del escaped
    assert not faulty.reserved


def test_a_reset_without_a_fresh_reservation(faulty: FaultyPages) -> None:
    """The reset raises ReserveError, the views are revoked, and the region goes on behind what it has used."""
    with bump_region(1 << 20) as a:
        view = a.copy(b"revoked")
        escaped = a.copy(b"kept")[:]
        faulty.calls.clear()
        faulty.refuse = 0
        with pytest.raises(ReserveError):
            a.reset()
        with pytest.raises(ValueError, match="released"):
            view[0]
        check(a)
        a.alloc(1000)[:] = b"\xff" * 1000
        assert bytes(escaped) == b"kept"


def test_the_errors_have_one_root() -> None:
    """Each error is a ScopedBumpError, and the builtin that fits."""
    for kind, builtin in ((ReserveError, OSError), (CommitError, MemoryError)):
        assert issubclass(kind, ScopedBumpError)
        assert issubclass(kind, builtin)
