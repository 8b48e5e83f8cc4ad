"""The pool: what comes back, when, in which state, and what is counted."""

from __future__ import annotations

import gc
import sys
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import scopedbump._pages as _pages
from helpers.invariants import check
from helpers.support import FaultyPages, collect, counts_references, mapped, next_address
from scopedbump import EscapeError, EscapeWarning, PoolStats, Region, RegionClosedError, RegionPool, ReserveError
from scopedbump._layout import WINDOW

PAGE = _pages.system_pages.page_size
MIB = 1 << 20

linux = pytest.mark.skipif(sys.platform != "linux", reason="/proc/self/maps tells of this process on Linux only")


def test_a_reservation_serves_one_region_after_another() -> None:
    """The second region of a pool lies where the first one lay, and asks the system for nothing."""
    with RegionPool(MIB) as pool:
        with pool.region() as first:
            address = next_address(first)
        collect()
        with pool.region() as second:
            assert next_address(second) == address
        collect()
        assert pool.stats()[:6] == (2, 1, 1, 1, 0, 0)


def test_regions_that_are_open_together_lie_apart() -> None:
    """Two open regions never share a reservation."""
    with RegionPool(MIB) as pool, pool.region() as a, pool.region() as b:
        assert next_address(a) != next_address(b)
        assert pool.stats()[:6] == (2, 0, 2, 0, 2, 0)


@settings(max_examples=100 if sys.implementation.name == "cpython" else 10)  # each with many collections there
@given(st.lists(st.tuples(st.integers(0, 3 * MIB), st.booleans()), min_size=1, max_size=5), st.integers(0, 3 * MIB))
def test_nothing_of_one_region_is_seen_by_the_next(leases: list[tuple[int, bool]], retain: int) -> None:
    """Promise 6: what a lease wrote, over or under `retain`, reads as zero in all leases after it."""
    with RegionPool(4 * MIB, retain=retain) as pool:
        for size, zero in leases:
            with pool.region() as a:
                view = a.alloc(size, zero=zero)
                if zero:
                    assert view == bytes(size)
                view[:] = b"\xa5" * size
                rest = a.alloc(a.available)
                assert rest == bytes(len(rest))
                check(a)
            del view, rest
            collect()
        stats = pool.stats()
        assert stats.committed <= -(-retain // PAGE) * PAGE
        assert stats.peak == 4 * MIB


class Changing(deque[Any]):
    """What others change while it is copied, as threads do where they run at once."""

    changes = 2

    def copy(self) -> Changing:
        self.changes -= 1
        if self.changes >= 0:
            raise RuntimeError("deque mutated during iteration")
        return super().copy()


def test_stats_while_other_threads_take_and_give_back() -> None:
    """Promise 9: what is idle is counted at some moment, and not given up."""
    with RegionPool(MIB, debug=False) as pool:
        pool.region().close()
        collect()
        pool._free_list.idle = Changing(pool._free_list.idle)
        assert pool.stats().idle == 1


def slice_of(view: memoryview) -> object:
    return view[1:]


def ctypes_of(view: memoryview) -> object:
    ctypes = pytest.importorskip("ctypes")
    return (ctypes.c_char * len(view)).from_buffer(view)


def ndarray_of(view: memoryview) -> object:
    return pytest.importorskip("numpy").frombuffer(view, dtype="u1")


def view_itself(view: memoryview) -> object:
    return view


@pytest.mark.parametrize("hold", [slice_of, ctypes_of, ndarray_of, view_itself])
def test_what_is_held_keeps_the_reservation_out(hold: Callable[[memoryview], object]) -> None:
    """Promise 4, stricter: a pin, and even a revoked view that is referred to, keep the memory from the next lease."""
    with RegionPool(MIB) as pool:
        with pool.region() as a:
            view = a.alloc(64)
            view[:] = b"\x11" * 64
            address = a.address(view)
            held = hold(view)
            del view
        assert pool.stats()[3:6] == (0, 0, 1)
        assert not a.released
        for _ in range(3):
            with pool.region() as b:
                assert next_address(b) != address
                b.alloc(64)[:] = b"\x22" * 64
            collect()
        if hold is view_itself:
            with pytest.raises(ValueError, match="released"):
                held[0]  # type: ignore[index]  # it is a memoryview
        else:
            assert bytes(held).strip(b"\x11") == b""  # type: ignore[call-overload]  # each of them has a buffer
        del held
        collect()
        assert a.released
        assert pool.stats()[3:6] == (2, 0, 0)


def test_a_closed_region_does_not_keep_its_reservation() -> None:
    """The user may hold on to closed regions: the memory is back all the same."""
    with RegionPool(MIB) as pool:
        closed = []
        for _ in range(5):
            with pool.region() as a:
                a.alloc(10)
            collect()
            closed.append(a)
        assert pool.stats()[:6] == (5, 4, 1, 1, 0, 0)
        assert all(a.released for a in closed)


@counts_references
@pytest.mark.parametrize("keep_slice", [False, True])
def test_what_is_held_of_a_scope_keeps_the_reservation_out(keep_slice: bool) -> None:
    """A scope's views and escapes belong to the lease of the pooled region around it."""
    with RegionPool(MIB) as pool:
        with pool.region() as a:
            with a.scope() as inner, inner.scope() as innermost:
                held = innermost.alloc(100)
                held[:] = b"\x11" * 100
                if keep_slice:
                    held = held[:]
            assert innermost.released is not keep_slice
            a.alloc(10)
        collect()
        assert pool.stats()[3:6] == (0, 0, 1)
        with pool.region() as b:
            b.alloc(1000)[:] = b"\x22" * 1000
        collect()
        if keep_slice:
            assert held == b"\x11" * 100
        del held
        collect()
        assert pool.stats()[3:6] == (2, 0, 0)
        assert innermost.released


def test_reset_with_an_escape_takes_another_lease() -> None:
    """A reset moves to another reservation when something points into the old one, which comes back when that dies."""
    with RegionPool(MIB) as pool:
        with pool.region() as a:
            first = next_address(a)
            escaped = a.alloc(100)[:]
            escaped[:] = b"\x11" * 100
            a.reset()
            assert next_address(a) != first
            assert pool.stats()[:6] == (2, 0, 2, 0, 1, 1)
            a.alloc(100)[:] = b"\x22" * 100
            assert escaped == b"\x11" * 100
            del escaped
            collect()
            assert pool.stats()[3:6] == (1, 1, 0)
        collect()
        assert pool.stats()[:6] == (2, 0, 2, 2, 0, 0)


@counts_references
def test_reset_with_a_held_view_keeps_the_whole_lease() -> None:
    """A view revoked by a reset and still referred to keeps the reservation out after the region's own end."""
    with RegionPool(MIB) as pool:
        with pool.region() as a:
            held = a.alloc(100)
            a.reset()
            assert pool.stats()[3:6] == (0, 1, 0)
        assert pool.stats()[3:6] == (0, 0, 1)
        del held
        collect()
        assert pool.stats()[3:6] == (1, 0, 0)


@counts_references
@pytest.mark.parametrize("how", ["close", "reset"])
def test_what_escaped_is_counted_while_it_lives(how: str) -> None:
    """Its pages count as committed, and the peak of its region as soon as that is over; both when all is back too."""
    with RegionPool(16 * MIB, max_idle=4, retain=0) as pool:
        a = pool.region()
        held = [a.alloc(3 * MIB)[:]]
        held[0][-1] = 1
        assert pool.stats().peak == 0
        assert pool.stats().committed >= 3 * MIB
        a.close() if how == "close" else a.reset()
        stats = pool.stats()
        assert (stats.out, stats.escaped) == ((0, 1) if how == "close" else (1, 1))
        assert stats.peak == 3 * MIB
        assert stats.committed >= 3 * MIB
        with pool.region() as b:
            b.alloc(5 * MIB)[-1] = 1
            assert pool.stats().committed >= 8 * MIB
        assert pool.stats().peak == 5 * MIB
        assert 3 * MIB <= pool.stats().committed < 8 * MIB
        held.clear()
        assert pool.stats()[4:6] == ((0, 0) if how == "close" else (1, 0))
        assert pool.stats().committed < 3 * MIB
        assert a.peak == 3 * MIB
        a.close()
        assert pool.stats()[3:6] == (2 if how == "close" else 3, 0, 0)
        assert pool.stats().committed == 0


@counts_references
def test_the_peak_of_a_scope_that_escaped_is_its_regions() -> None:
    """Scopes count as part of the lease."""
    with RegionPool(16 * MIB) as pool:
        with pool.region() as a:
            a.alloc(MIB)
            with a.scope() as inner:
                held = inner.alloc(2 * MIB)[:]
        assert a.peak == 3 * MIB
        assert pool.stats()[5] == 1 and pool.stats().peak == 3 * MIB
        del held
        assert pool.stats()[5] == 0 and pool.stats().peak == 3 * MIB


def test_max_idle_bounds_what_waits() -> None:
    """What comes back above max_idle is given to the system; with 0 nothing waits."""
    for most in (0, 1, 3):
        pool = RegionPool(MIB, max_idle=most)
        regions = [pool.region() for _ in range(6)]
        for region in regions:
            region.close()
        collect()
        assert pool.stats()[:6] == (6, 0, 6, most, 0, 0)
        pool.close()
        assert pool.stats().idle == 0


def test_retain_bounds_what_an_idle_reservation_keeps() -> None:
    """Pages above `retain`, rounded up to whole pages, are given back; below, the content is left to the next lease."""
    with RegionPool(16 * MIB, retain=WINDOW + PAGE + 1) as pool:
        with pool.region() as a:
            a.alloc(8 * MIB)[:] = b"\x11" * 8 * MIB
            assert pool.stats().committed >= 8 * MIB
        collect()
        stats = pool.stats()
        assert stats.committed == WINDOW + 2 * PAGE
        assert stats.peak == 8 * MIB
        with pool.region() as a:
            assert a.alloc(WINDOW + PAGE, zero=False)[WINDOW:] == b"\x11" * PAGE
            assert a.alloc(8 * MIB) == bytes(8 * MIB)
        collect()


@linux
@counts_references
def test_close_while_regions_are_out() -> None:
    """They go on; their memory is released instead of coming back, the idle ones at once, what escaped at its death."""
    pool = RegionPool(MIB, name="closing")
    idle = pool.region()
    a, b = pool.region(), pool.region()
    at_idle, at_a, at_b = map(next_address, (idle, a, b))
    idle.close()
    escaped = b.alloc(10)[:]
    b.close()
    pool.close()
    assert pool.closed
    assert not mapped(at_idle)
    a.alloc(100)[:] = b"\x11" * 100
    a.reset()
    moved = a.alloc(10)[:]
    a.reset()
    assert pool.stats()[3:6] == (0, 1, 2)
    a.close()
    escaped[0] = 1
    assert mapped(at_b)
    del escaped, moved
    assert not mapped(at_a)
    assert not mapped(at_b)
    assert pool.stats()[3:7] == (0, 0, 0, 0)


def test_a_closed_pool_says_so() -> None:
    """region() and `with` raise RegionClosedError; closing again does nothing; stats stay readable."""
    pool = RegionPool(MIB, name="over")
    with pool:
        pool.region().close()
    pool.close()
    with pytest.raises(RegionClosedError, match="'over'.*closed"):
        pool.region()
    with pytest.raises(RegionClosedError, match="'over'.*closed"), pool:
        pass
    assert pool.stats().leases == 1


@linux
@counts_references
def test_a_lost_pool_gives_its_memory_back() -> None:
    """A pool that nobody refers to releases what is idle; its regions go on."""
    pool = RegionPool(MIB)
    pool.region().close()
    a = pool.region()
    b = pool.region()
    at_a, at_b = next_address(a), next_address(b)
    a.close()
    del pool
    assert not mapped(at_a)
    b.alloc(10)[0] = 1
    b.close()
    assert not mapped(at_b)


@counts_references
def test_a_leaked_region_comes_back() -> None:
    """A region dropped without a close, also in a cycle, warns and its memory returns."""

    @dataclass
    class Holder:
        region: Region
        me: Holder | None = None

    with RegionPool(MIB) as pool:
        with pytest.warns(ResourceWarning, match="lost without being closed"):
            pool.region()
        assert pool.stats()[3:6] == (1, 0, 0)
        holder = Holder(pool.region())
        holder.me = holder
        holder.region.alloc(100)
        del holder
        assert pool.stats().out == 1
        with pytest.warns(ResourceWarning, match="lost without being closed"):
            gc.collect()
        assert pool.stats()[3:6] == (1, 0, 0)
        cycle: list[object] = [pool.region()]
        cycle += [cycle, cycle[0].alloc(100), cycle[0].alloc(100)]  # type: ignore[attr-defined]  # it is a region
        del cycle
        with pytest.warns(ResourceWarning, match="lost without being closed"):
            gc.collect()
        assert pool.stats()[3:6] == (1, 0, 0)


@counts_references
def test_escape_is_obeyed() -> None:
    """`escape` speaks of pins, as everywhere, and not of revoked views."""
    with RegionPool(MIB) as pool:
        with pool.region(escape="raise") as a:
            view = a.alloc(10)
        with pytest.raises(EscapeError), pool.region(escape="raise") as a:
            view = a.alloc(10)[:]
        with pytest.warns(EscapeWarning), pool.region(escape="warn") as a:
            view = a.alloc(10)[:]
        del view
        with pytest.raises(ValueError, match="'lose'"):
            pool.region(escape="lose")  # type: ignore[arg-type]  # that is the point


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"size": 0}, ValueError, "size must be positive, not 0"),
        ({"size": -1}, ValueError, "size must be positive, not -1"),
        ({"size": 1.5}, TypeError, r"size must be an int, not 1\.5"),
        ({"max_idle": -1}, ValueError, "max_idle must be zero or more, not -1"),
        ({"max_idle": "4"}, TypeError, "max_idle must be an int, not '4'"),
        ({"max_out": 0}, ValueError, "max_out must be positive, not 0"),
        ({"max_out": "4"}, TypeError, "max_out must be an int, not '4'"),
        ({"retain": -4096}, ValueError, "retain must be zero or more, not -4096"),
        ({"retain": "1M"}, TypeError, "retain must be an int, not '1M'"),
        ({"name": 7}, TypeError, "name must be a str, not 7"),
    ],
)
def test_bad_arguments(arguments: dict[str, object], error: type[Exception], text: str) -> None:
    """Each wrong argument is named, with its value."""
    with pytest.raises(error, match=text):
        RegionPool(**arguments)  # type: ignore[arg-type]  # that is the point


def test_reprs() -> None:
    """A pool and its stats say what matters."""
    with RegionPool(MIB, name="x") as pool, pool.region() as a:
        assert repr(pool) == f"<scopedbump.RegionPool 'x': regions of {MIB} bytes, 0 idle, 1 out>"
        assert a.name == "x"
        assert pool.size == a.size == MIB
        assert repr(pool.stats()).startswith("PoolStats(leases=1, hits=0, misses=1,")
    assert repr(pool).endswith("closed>")


@counts_references
def test_nothing_to_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    """When the system refuses a reservation nothing has changed, and the pool serves the next."""
    pages = FaultyPages(refuse=0)
    monkeypatch.setattr(_pages, "system_pages", pages)
    pool = RegionPool(MIB)
    with pytest.raises(ReserveError):
        pool.region()
    assert pool.stats() == PoolStats(0, 0, 0, 0, 0, 0, 0, 0)
    pool.region().close()
    collect()
    assert pool.stats()[:6] == (1, 0, 1, 1, 0, 0)
    pool.close()
    assert not pages.reserved


def test_a_refused_trim_releases(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reservation whose pages the system won't take back one by one is given back whole, and nothing is said."""
    pages = FaultyPages()
    monkeypatch.setattr(_pages, "system_pages", pages)
    with RegionPool(MIB, retain=0) as pool:
        with pool.region() as a:
            a.alloc(10)
            pages.refuse = len(pages.calls)
        collect()
        assert pages.calls[-2:] == ["decommit", "release"]
        assert not pages.reserved
        assert pool.stats()[:7] == (1, 0, 1, 0, 0, 0, 0)


@counts_references
def test_a_refused_release_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the system refused to take back is offered to it again with the next reservation."""
    pages = FaultyPages()
    monkeypatch.setattr(_pages, "system_pages", pages)
    pool = RegionPool(MIB)
    pool.region().close()
    collect()
    pages.refuse = len(pages.calls)
    pool.close()
    assert len(pages.reserved) == 1
    with RegionPool(MIB) as other:
        other.region().close()
        assert len(pages.reserved) == 1
    collect()
    assert not pages.reserved
