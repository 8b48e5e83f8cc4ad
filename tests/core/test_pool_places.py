"""Promise 13 of pools: never more than max_out regions open, and what those hear who come too late."""

from __future__ import annotations

import logging
import sys
import threading
from contextlib import ExitStack

import pytest

from helpers.invariants import check
from helpers.support import collect, counts_references, run_script, run_threads
from scopedbump import OpenRegion, PoolFullError, RegionFullError, RegionPool, ScopedBumpError, _free_list
from scopedbump._places import Place, Places

MIB = 1 << 20


def test_never_more_than_max_out() -> None:
    """The region after the last is refused, with the bound and what to do; one that ends makes room for one."""
    with RegionPool(MIB, max_out=2, name="small") as pool:
        a, b = pool.region(), pool.region()
        for _ in range(3):
            with pytest.raises(PoolFullError, match=r"'small'.*max_out=2.*open_regions") as caught:
                pool.region()
        assert isinstance(caught.value, ScopedBumpError)
        assert isinstance(caught.value, RuntimeError)
        a.close()
        a.close()
        with pool.region() as c:
            with pytest.raises(PoolFullError):
                pool.region()
            c.alloc(10)
        assert pool.stats().refused == 4
        b.close()
        assert pool.stats().out == 0


@counts_references
def test_what_escaped_is_not_open() -> None:
    """A region whose memory is held after its end has left its place; so has one that was lost, or interrupted."""
    with RegionPool(MIB, max_out=1) as pool:
        with pool.region() as a:
            held = a.alloc(10)[:]
        with pool.region():
            pass
        with pytest.warns(ResourceWarning):
            pool.region()
        pool.region().close()
        del held


@counts_references
def test_a_reset_that_moves_keeps_its_place() -> None:
    """The region that a reset moved to other memory is the same one: its place is neither lost nor doubled."""
    with RegionPool(MIB, max_out=1) as pool:
        a = pool.region()
        for _ in range(5):
            held = a.alloc(10)[:]
            a.reset()
            with pytest.raises(PoolFullError):
                pool.region()
        a.close()
        pool.region().close()
        del held


@counts_references
def test_a_region_on_demand() -> None:
    """It takes a lease, and a place, when it is first asked for memory; before that it looks like any other."""
    with RegionPool(MIB, max_out=1, name="later") as pool:
        a, b, c = (pool._region_on_demand(pool._options) for _ in range(3))
        for region in (a, b, c):
            check(region)
            assert not region.closed and not region.released
            assert (region.size, region.used, region.available, region.peak, region.committed) == (MIB, 0, MIB, 0, 0)
            assert repr(region) == f"<scopedbump.Region 'later': 0 of {MIB} bytes used, peak 0, open>"
            region.reset()
            assert 0 not in region and b"" not in region
        assert pool.stats()[:6] == (0, 0, 0, 0, 0, 0)
        assert a.alloc(10) == bytes(10)
        check(a)
        for use in (lambda: b.alloc(1), b.scope, lambda: b.slab(8), lambda: b.copy(b"x")):
            with pytest.raises(PoolFullError):
                use()
        check(b)
        a.close()
        with b.scope() as scope:
            scope.alloc(10)
        check(b)
        c.close()
        check(c)
        assert c.closed and c.released and c.used == 0
        with pytest.raises(ValueError, match="has ended"):
            c.alloc(1)
        b.close()
        assert pool.stats()[:6] == (2, 1, 1, 1, 0, 0)


def test_a_region_on_demand_says_when_it_is_full() -> None:
    """What does not fit is refused as by every region."""
    with RegionPool(MIB) as pool, pool._region_on_demand(pool._options) as a:
        with pytest.raises(RegionFullError):
            a.alloc(MIB + 1)
        assert a.alloc(MIB).nbytes == MIB


def test_threads_give_one_region_its_memory() -> None:
    """Threads that ask the same fresh region at once all get bytes of one lease, none of them the same."""
    for _ in range(20):
        with RegionPool(MIB) as pool:
            region = pool._region_on_demand(pool._options)
            blocks: list[memoryview] = []
            run_threads(*[lambda: blocks.append(region.alloc(16))] * 4)  # noqa: B023  # it runs at once
            assert len({region.address(block) for block in blocks}) == 4
            check(region)
            blocks.clear()
            region.close()
            collect()
            assert pool.stats()[4:6] == (0, 0)


def test_threads_never_have_more() -> None:
    """Under many threads that open, lose and end regions, as many are open as are allowed, and all places come back."""
    pool = RegionPool(MIB, max_out=3)
    lock = threading.Lock()
    now = most = refused = 0

    def body() -> None:
        nonlocal now, most, refused
        for _ in range(200):
            try:
                region = pool.region()
            except PoolFullError:
                with lock:
                    refused += 1
                continue
            with lock:
                now += 1
                most = max(most, now)
            region.alloc(10)
            with lock:
                now -= 1
            region.close()

    run_threads(*[body] * 6)
    assert most <= 3
    assert pool.stats().refused == refused
    regions = [pool.region() for _ in range(3)]
    with pytest.raises(PoolFullError):
        pool.region()
    for region in regions:
        region.close()


def test_threads_that_are_as_many_as_places_are_never_refused() -> None:
    """Exactly max_out: a place that was given back is there for whoever asks next."""
    pool = RegionPool(MIB, max_out=4)

    def body() -> None:
        for _ in range(300):
            pool.region().close()

    run_threads(*[body] * 4)
    assert pool.stats().refused == 0


def test_places_are_handed_on_in_order() -> None:
    """A place that is given back while others wait goes to the first of them who is still there, and to nobody else."""
    places = Places(1)
    first = places.take()
    assert first is not None
    got: list[tuple[str, Place]] = []

    def waiter(name: str, there: bool = True) -> object:
        def offer(place: Place) -> bool:
            if there:
                got.append((name, place))
            return there

        places.queue(offer)
        return offer

    waiter("a")
    waiter("gone", there=False)
    given_up = waiter("given up")
    waiter("b")
    places.give_up(given_up)  # type: ignore[arg-type]  # an offer
    first.leave()
    first.leave()
    assert [name for name, _ in got] == ["a"]
    assert places.take() is None
    got.pop()[1].leave()
    assert [name for name, _ in got] == ["b"]
    got.pop()[1].leave()
    assert places.taken == 0
    waiter("c")
    assert [name for name, _ in got] == ["c"]


@counts_references
def test_a_count_that_was_left_too_high_is_put_right() -> None:
    """When the end of a place was lost in a finalizer, the next one who finds none left finds it."""
    places = Places(2)
    kept = places.take()
    lost = places.take()
    assert kept is not None and lost is not None
    lost.held = False  # as after an exception in its finalizer, which is printed and lost
    del lost
    assert places.taken == 2
    found = places.take()
    assert found is not None
    assert places.taken == 2


def test_open_regions() -> None:
    """Name, age and use of each, the oldest first; those that ended, or have no memory yet, are not among them."""
    with RegionPool(MIB, name="seen") as pool:
        a, b = pool.region(), pool.region()
        later = pool._region_on_demand(pool._options)
        b.alloc(100)
        pool.region().close()
        found = pool.open_regions()
        assert [(each.name, each.used) for each in found] == [("seen", 0), ("seen", 100)]
        assert all(type(each) is OpenRegion for each in found)
        assert found[0].age >= found[1].age >= 0
        later.alloc(7)
        held = a.alloc(5)[:]
        a.reset()
        assert [each.used for each in pool.open_regions()] == [0, 100, 7]
        assert pool.open_regions()[0].age >= found[0].age
        for region in (a, b, later):
            region.close()
        assert pool.open_regions() == []
        del held


def test_open_regions_of_one_tick_of_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the clock ticks every 16 ms the oldest come first all the same."""
    monkeypatch.setattr(_free_list, "monotonic", lambda: 0.0)
    with RegionPool(MIB) as pool, ExitStack() as stack:
        for size in range(1, 50):
            stack.enter_context(pool.region()).alloc(size)
        assert [each.used for each in pool.open_regions()] == [*range(1, 50)]


@counts_references
@pytest.mark.parametrize("why", ["misses", "trims"])
def test_a_pool_that_is_never_warm_says_so(why: str, caplog: pytest.LogCaptureFixture) -> None:
    """One line a minute, in the log of the name of the package; none from a pool that does well."""
    with RegionPool(4 * MIB, name="good") as good, caplog.at_level(logging.WARNING, "scopedbump"):
        for _ in range(300):
            good.region().close()
        assert not caplog.records
    bad = RegionPool(4 * MIB, max_idle=0, name="bad") if why == "misses" else RegionPool(4 * MIB, retain=0, name="bad")
    with bad, caplog.at_level(logging.WARNING, "scopedbump"):
        for _ in range(300):
            with bad.region() as region:
                region.alloc(10)
            collect()
        assert len(caplog.records) == 1
        assert "'bad'" in caplog.text
        assert ("max_idle" if why == "misses" else "retain") in caplog.text


@counts_references
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a fork behind Python's back")
def test_a_fork_that_python_was_not_told_of() -> None:
    """A worker of uWSGI finds out by itself that it is one: it counts anew, and its memory is its own."""
    run_script(
        """
        import ctypes, os, sys
        from scopedbump import RegionPool
        pool = RegionPool(1 << 20, max_out=2)
        region, other = pool.region(), pool.region()
        other.alloc(10)[:] = b"p" * 10
        other.close()
        child = ctypes.PyDLL(None).fork()
        if not child:
            assert pool.stats()[:6] == (0, 0, 0, 1, 0, 0), pool.stats()
            mine = [pool.region(), pool.region()]
            assert all(each.alloc(10) == bytes(10) for each in mine)
            mine[0].alloc(10)[:] = b"c" * 10
            region.alloc(5)
            region.close()
            for each in mine:
                each.close()
            assert pool.stats().out == 0
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        assert pool.stats()[:6] == (2, 0, 2, 1, 1, 0), pool.stats()
        region.close()
        """
    )
