"""Promise 9, any thread: hammers with the shortest switch interval, on this build and with the lock of others."""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable
from itertools import chain, islice, pairwise

import pytest

from helpers.invariants import check
from helpers.stress import SLOWER, both_builds, choose_build, in_process, ledger
from helpers.support import needs_gil, run_threads
from scopedbump import (
    Region,
    RegionBusyError,
    RegionClosedError,
    RegionFullError,
    RegionPool,
    _bytecode,
    _views,
    bump_region,
)

closes_in_use = needs_gil("without one memoryview.release() does not wait for a thread that uses the view")

OVER = (RegionClosedError, RegionBusyError, RegionFullError)


def fill(view: memoryview, number: int, fresh: bool = True) -> bool:
    """Write a thread's number over a block; False when it was revoked."""
    try:
        assert not fresh or not any(view), "memory of somebody else"
        view[:] = bytes([number]) * view.nbytes
        return True
    except ValueError:
        return False


def unchanged(view: memoryview, number: int) -> None:
    try:
        content = bytes(view)
    except ValueError:
        return
    assert content == bytes([number]) * len(content), "somebody else wrote here"


def all_at_once(build: str, seconds: float) -> None:
    """Threads allocate, slab and copy in one region, while others open scopes, reset and, in the end, close it."""
    choose_build(build)
    rounds = blocks = refused = 0
    end = time.monotonic() + seconds
    while time.monotonic() < end or blocks <= 100 // SLOWER:  # on a machine that is busy it takes longer
        rounds += 1
        a = bump_region(1 << 22)
        stop = time.monotonic() + random.random() * 0.05 * SLOWER**2

        def worker(number: int, a: Region = a, stop: float = stop) -> None:
            nonlocal blocks, refused
            chance = random.Random(number)
            held: list[memoryview] = []
            while True:
                try:
                    kind = chance.randrange(6)
                    if kind == 0:
                        got = [a.alloc(chance.randrange(1, 70_000))]
                    elif kind == 1:
                        got = [a.alloc(chance.randrange(1, 3000), 1 << chance.randrange(13))]
                    elif kind == 2:
                        got = list(islice(a.slab(chance.randrange(1, 200)), 20))
                    elif kind == 3:
                        got = [a.copy(bytes(chance.randrange(1, 5000)))]
                    else:
                        got = [a.alloc(64) for _ in range(20)]
                except RegionClosedError:
                    if a.closed:
                        break
                    continue  # a slab that a reset has ended
                except (RegionBusyError, RegionFullError):
                    refused += 1
                    if a.closed:
                        break
                    continue
                held += [view for view in got if fill(view, number)]
                blocks += len(got)
                if len(held) > 100:
                    for view in held:
                        unchanged(view, number)
                    held.clear()
            for view in held:
                unchanged(view, number)

        def nester(a: Region = a) -> None:
            while not a.closed:
                try:
                    with a.scope() as s:
                        fill(s.alloc(20_000), 99)
                        keep = s.alloc(100)
                        try:
                            part = keep[10:20]
                        except ValueError:  # closed by the closer
                            continue
                        del keep
                        with s.scope() as t:
                            fill(t.alloc(50), 98)
                        part[:] = b"k" * 10
                    assert part == b"k" * 10
                    del part
                except OVER:
                    continue

        def resetter(a: Region = a) -> None:
            while not a.closed:
                time.sleep(0.002)
                try:
                    a.reset()
                except OVER:
                    continue

        def closer(a: Region = a, stop: float = stop) -> None:
            while time.monotonic() < stop:
                time.sleep(0.001)
            a.close()

        with ledger():
            run_threads(*[lambda n=n: worker(n) for n in (1, 2, 3)], nester, resetter, closer, closer)
            assert a.closed
            check(a)
            a = None  # type: ignore[assignment]
            del worker, nester, resetter, closer
    print(blocks)
    print(f"{build}: {rounds} regions, {blocks} blocks, {refused} refused", file=sys.stderr)


@closes_in_use
@both_builds
def test_everything_at_once(build: str) -> None:
    """Promises 4, 6 and 9: each block has one owner, is zero, and what a close leaves is whole."""
    assert int(in_process(__file__, "all_at_once", build, 0.7 * SLOWER)) > 100 // SLOWER


@pytest.mark.long
@closes_in_use
@both_builds
def test_everything_at_once_for_longer(build: str) -> None:
    """Promises 4, 6 and 9: the same for fifteen seconds."""
    in_process(__file__, "all_at_once", build, 15.0, timeout=200)


def two_operations(pairs: list[tuple[str, str]], build: str, rounds: int) -> None:
    choose_build(build)
    for first, second in pairs:
        try:
            begin_together(first, second, rounds)
        except BaseException:
            print(f"{first} and {second}")
            raise


def begin_together(first: str, second: str, rounds: int) -> None:
    """Two threads begin at the same time, each with one operation, on a region that was used before."""

    def act(what: str, a: Region, held: list[memoryview]) -> None:
        if what == "close":
            a.close()
        elif what == "reset":
            a.reset()
        elif what == "scope":
            with a.scope() as s:
                fill(s.alloc(40_000), 7)
        elif what == "escape":
            held.append(a.alloc(100)[:])
        else:
            for _ in range(5):
                fill(a.alloc(500, 64), 8)

    for turn in range(rounds // SLOWER):
        with ledger():
            a = bump_region(1 << 20)
            held: list[memoryview] = []
            fill(a.alloc(60_000), 5)
            a.reset()
            if turn % 2:
                held.append(a.alloc(10)[:])

            def body(what: str, a: Region = a, held: list[memoryview] = held) -> None:
                try:
                    act(what, a, held)
                except OVER:
                    pass
                except ValueError as error:  # sliced after it was revoked
                    assert "released" in str(error)

            run_threads(lambda: body(first), lambda: body(second))
            if not a.closed:
                check(a)
                assert fill(a.alloc(60_000), 9)
                a.close()
            check(a)
            sum(map(sum, held))  # readable
            held.clear()
            del a, held, body


PAIRS = [
    ("close", "close"),
    ("close", "reset"),
    ("close", "scope"),
    ("close", "alloc"),
    ("close", "escape"),
    ("reset", "reset"),
    ("reset", "scope"),
    ("reset", "alloc"),
    ("reset", "escape"),
    ("scope", "scope"),
    ("scope", "alloc"),
]


@both_builds
def test_two_operations_begin_together(build: str) -> None:
    """Promises 3, 5 and 9: whichever comes first, the region is whole, and nothing of it is left after its end."""
    in_process(__file__, "two_operations", PAIRS, build, 20)


@pytest.mark.long
@both_builds
def test_two_operations_begin_together_often(build: str) -> None:
    """Promises 3, 5 and 9: close against reset, the pair that once left a region in unmapped memory, many times."""
    in_process(__file__, "two_operations", [("close", "reset")], build, 3000, timeout=300)


def shared_slab(build: str) -> None:
    choose_build(build)
    with bump_region(1 << 28) as a:
        blocks = a.slab(48)
        taken: list[list[int]] = [[], [], []]

        def body(number: int) -> None:
            mine = taken[number]
            for view in islice(blocks, 15_000):
                mine.append(a.address(view))

        run_threads(*[lambda n=n: body(n) for n in range(3)])
        addresses = sorted(address for mine in taken for address in mine)
        assert len(addresses) == 45_000
        assert all(after - before >= 48 for before, after in pairwise(addresses))
    with bump_region(1 << 16) as a:  # and up to the end, where the iterator breaks off in one thread after the other
        blocks = a.slab(48)

        def exhaust() -> None:
            with pytest.raises((RegionFullError, StopIteration)):
                while True:
                    next(blocks)

        run_threads(exhaust, exhaust, exhaust)


@both_builds
def test_threads_share_a_slab(build: str) -> None:
    """Promise 9: no block comes twice, and the interpreter does not free the iterator's source while it runs."""
    for _ in range(3):
        in_process(__file__, "shared_slab", build)


def sweeps(build: str) -> None:
    """Threads append views and drop them; what each still holds at the close is revoked, whoever swept when."""
    choose_build(build)
    for _ in range(30 // SLOWER):
        with ledger():
            a = bump_region(1 << 24)
            kept: list[list[memoryview]] = [[], [], []]

            def body(number: int, a: Region = a, kept: list[list[memoryview]] = kept) -> None:
                for turn in range(700):
                    view = a.alloc(100, 64)
                    if turn % 7 == 0:
                        kept[number].append(view)

            run_threads(*[lambda n=n: body(n) for n in range(3)])
            a.close()
            for view in chain.from_iterable(kept):
                with pytest.raises(ValueError, match="released"):
                    view[0]
            del view, kept, body
            if _bytecode.cpython:
                assert a.released
            del a


@both_builds
def test_sweeps_race_with_allocations(build: str) -> None:
    """Promise 3: a view that is still referred to is never taken for a dead one, and is revoked at the close."""
    in_process(__file__, "sweeps", build)


def test_alive_counts_the_same_when_it_is_hot() -> None:
    """What the reference count says of an object in a list does not change when the loop was optimised."""
    held = memoryview(bytearray(8))
    views: list[memoryview] = []
    for _ in range(20_000):
        views.clear()
        _views.track(views, (held, memoryview(bytearray(8))))
        alive = _views.alive(views)
        if sys.implementation.name == "cpython":
            assert len(alive) == 1 and alive[0] is held


def pools(build: str, seconds: float) -> None:
    """Threads take regions from one pool; another closes it and opens the next."""
    choose_build(build)
    end = time.monotonic() + seconds
    count = 0
    with ledger():
        current = [RegionPool(1 << 20, max_idle=2, retain=1 << 16)]
        done = False

        def worker(number: int) -> None:
            nonlocal count
            escapes: list[memoryview] = []
            while not done:
                try:
                    with current[0].region() as a:
                        for size in (10, 5000, 100_000):
                            view = a.alloc(size)
                            assert fill(view, number)
                            unchanged(view, number)
                        if count % 10 == number:
                            escapes.append(view[:100])
                        if count % 7 == 0:
                            a.reset()
                        count += 1
                except RegionClosedError:
                    continue
                if len(escapes) > 5:
                    assert all(bytes(pin) == bytes([number]) * 100 for pin in escapes)
                    escapes.clear()

        def closer() -> None:
            nonlocal done
            while time.monotonic() < end:
                time.sleep(0.01)
                current[0].stats()
                old, current[0] = current[0], RegionPool(1 << 20, max_idle=2, retain=1 << 16)
                old.close()
            done = True

        run_threads(*[lambda n=n: worker(n) for n in (1, 2, 3)], closer)
        current[0].close()
        del current, worker, closer
    print(count)


@both_builds
def test_a_pool_among_threads(build: str) -> None:
    """Promises 4, 6 and 9: what a pool hands out is clean, and nobody else's, whenever it is closed."""
    assert int(in_process(__file__, "pools", build, 0.7)) > 10


@pytest.mark.long
@both_builds
def test_a_pool_among_threads_for_longer(build: str) -> None:
    """Promises 4, 6 and 9: the same for five seconds."""
    assert int(in_process(__file__, "pools", build, 5.0)) > 10


def lost(build: str) -> None:
    """Daemon threads are in the middle of everything when the interpreter shuts down."""
    choose_build(build)
    import threading

    sys.setswitchinterval(1e-6)
    a = bump_region(1 << 24)
    pool = RegionPool(1 << 20)

    def forever(work: Callable[[], object]) -> None:
        while True:
            try:
                work()
            except OVER:
                pass

    def pooled() -> None:
        with pool.region() as b:
            b.alloc(1000)[:] = b"x" * 1000

    for work in (lambda: a.alloc(100), a.reset, pooled, lambda: bump_region(4096).close()):
        threading.Thread(target=forever, args=(work,), daemon=True).start()
    time.sleep(0.05)


@both_builds
def test_threads_at_the_end_of_the_process(build: str) -> None:
    """An interpreter that shuts down under running threads exits as it should."""
    for _ in range(3):
        in_process(__file__, "lost", build)
