"""Promise 5: reset, scope, close and a lease are done or undone, whatever exception hits them, and wherever."""

from __future__ import annotations

import gc
import sys
import warnings
from collections.abc import Callable
from types import FrameType

import pytest

from helpers.invariants import check
from helpers.stress import CPYTHON, Moment, at_moment, collect, in_process, ledger, needs_cpython
from scopedbump import Region, RegionClosedError, RegionPool, bump_region

SIZE = 1 << 20
MARK = b"kept" * 10


# -- no stack left


def with_room(frames: int, body: Callable[[], object]) -> type[BaseException] | None:
    """Call `body` where so many more calls fit on the stack; what it raised."""
    depth = 0
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        depth, frame = depth + 1, frame.f_back
    limit = sys.getrecursionlimit()
    try:
        sys.setrecursionlimit(depth + frames)
        body()
    except BaseException as error:  # noqa: BLE001  # told to the caller
        return type(error)
    finally:
        sys.setrecursionlimit(limit)
    return None


ROOM = range(2, 40)


def in_use(escaped: bool) -> tuple[Region, memoryview, memoryview | None]:
    """A region with a view, and an escape or none; all of it was written to before."""
    a = bump_region(SIZE)
    a.alloc(100_000)[:] = b"\xff" * 100_000
    a.reset()
    view = a.copy(MARK)
    return a, view, a.copy(MARK)[:] if escaped else None


def is_revoked(view: memoryview) -> bool:
    try:
        return not view.nbytes
    except ValueError:
        return True


def works(a: Region) -> None:
    """Small, large, in a scope and after a reset: zeroed, and as sound as ever."""
    check(a)
    for size in (100, 100_000):
        view = a.alloc(size)
        assert not any(view)
        view[:] = b"\xee" * size
    with a.scope() as inner:
        assert not any(inner.alloc(1000))
    a.reset()
    assert not any(a.alloc(100_000))
    check(a)


def reset_without_room(escaped: bool) -> None:
    sys.unraisablehook = lambda what: None  # no room in a finalizer either
    seen = set()
    for frames in ROOM:
        with ledger() as book:
            book.strict = (
                not escaped
            )  # a reservation that nobody has yet can't be given back where nothing can be called
            a, view, escape = in_use(escaped)
            error = with_room(frames, a.reset)
            assert error in (None, RecursionError)
            revoked = is_revoked(view)
            try:
                a.alloc(16)
            except RegionClosedError:
                assert error is not None
                seen.add("closed")
            else:
                seen.add("done" if error is None else "open")
                assert revoked or error is not None
                works(a)
            assert escape is None or escape == MARK
            a.close()
            check(a)
            del escape, view
            collect()
            assert a.released
            del a
    print(*sorted(seen))


@needs_cpython
@pytest.mark.parametrize("escaped", [False, True])
def test_a_reset_without_stack(escaped: bool) -> None:
    """After a RecursionError in a reset the region is open or closed, never stuck, and gives its memory back."""
    seen = in_process(__file__, "reset_without_room", escaped).split()
    assert "done" in seen and len(seen) > 1


def close_without_room(escaped: bool) -> None:
    sys.unraisablehook = lambda what: None
    errors = 0
    for frames in ROOM:
        with ledger():
            a, view, escape = in_use(escaped)
            inner = a.scope()
            held = inner.alloc(10)
            error = with_room(frames, a.close)
            assert error in (None, RecursionError)
            errors += error is not None
            assert a.closed or error is not None
            a.close()
            for region in (a, inner):
                assert region.closed
                check(region)
            assert is_revoked(view) and is_revoked(held)
            assert escape is None or escape == MARK
            assert a.released == (escape is None)
            del escape, view, held, region
            assert a.released
            del a, inner
    print(errors)


@needs_cpython
@pytest.mark.parametrize("escaped", [False, True])
def test_a_close_without_stack(escaped: bool) -> None:
    """It may be repeated, and is complete then, scopes and all."""
    assert int(in_process(__file__, "close_without_room", escaped)) > 1


def scope_without_room() -> None:
    warnings.simplefilter("ignore")
    sys.unraisablehook = lambda what: None
    errors = 0
    for frames in ROOM:
        with ledger():
            a, view, _ = in_use(False)
            used = a.used
            got: list[Region] = []
            error = with_room(frames, lambda got=got, a=a: got.append(a.scope()))  # type: ignore[misc]
            assert error in (None, RecursionError)
            errors += error is not None
            assert bool(got) == (error is None)
            for inner in got:
                assert not any(inner.alloc(100_000))
                inner.close()
                del inner
            got.clear()
            assert a.used == used and view == MARK
            works(a)
            a.close()
            del view, a
    print(errors)


@needs_cpython
def test_a_scope_without_stack() -> None:
    """Where no scope could be opened the region goes on as it was."""
    assert int(in_process(__file__, "scope_without_room")) > 1


def lease_without_room() -> None:
    warnings.simplefilter("ignore")
    sys.unraisablehook = lambda what: None
    errors = 0
    with ledger():
        pool = RegionPool(SIZE)
        for frames in ROOM:

            def lease() -> None:
                with pool.region() as a:
                    a.alloc(50_000)[:] = b"\xff" * 50_000
                    with a.scope() as inner:
                        inner.alloc(60_000)[:] = b"\xff" * 60_000
                    a.reset()
                    a.alloc(10)[:] = b"\xff" * 10

            error = with_room(frames, lease)
            assert error in (None, RecursionError)
            errors += error is not None
            collect()
            assert pool.stats()[4:6] == (0, 0), (frames, pool.stats())
            with pool.region() as b, pool.region() as c:
                for region in (b, c):
                    assert not any(region.alloc(300_000))
                    check(region)
            del b, c, region
        pool.close()
        del pool, lease
    print(errors)


@needs_cpython
def test_a_lease_without_stack() -> None:
    """Nothing stays out, and nobody reads what was written in it."""
    assert int(in_process(__file__, "lease_without_room")) > 3


@needs_cpython
@pytest.mark.parametrize("pooled", [False, True])
@pytest.mark.parametrize("escape", ["keep", "warn", "raise"])
def test_the_exception_on_its_way_without_stack(pooled: bool, escape: str) -> None:
    """Promise 5: where a block could be entered, a ValueError leaves it as ValueError; the memory goes in the end."""
    pool = RegionPool(SIZE)
    entered = 0
    for frames in ROOM:
        a = pool.region(escape=escape) if pooled else bump_region(SIZE, escape=escape)  # type: ignore[arg-type]
        view = a.copy(MARK)
        inside: list[bool] = []

        def block(a: Region = a, inside: list[bool] = inside) -> None:
            with a:
                inside.append(True)
                raise ValueError("on its way")

        error = with_room(frames, block)
        entered += bool(inside)
        assert error is (ValueError if inside else RecursionError)
        a.close()
        assert a.closed and is_revoked(view)
        del view
        assert a.released
    assert entered > 20
    pool.close()


# -- an exception at every moment


def at_every_moment(step: Callable[[type[BaseException], int], tuple[Moment, str]], error: str) -> None:
    """Go on from moment to moment until there is none; print what came of it."""
    warnings.simplefilter("ignore")
    sys.unraisablehook = lambda what: None  # a finalizer was hit, which can't pass it on
    kind: type[BaseException] = {"KeyboardInterrupt": KeyboardInterrupt, "MemoryError": MemoryError}[error]
    gc.disable()
    gc.freeze()
    seen: dict[str, int] = {}
    number = 0
    while True:
        try:
            with ledger():
                moment, came = step(kind, number)
        except BaseException:
            print(f"at moment {number} of {step.__name__} with {error}")
            raise
        if not moment.happened:
            break
        assert moment.error in (None, kind), (number, moment.place, moment.error)
        seen[came] = seen.get(came, 0) + 1
        number += 1
    print(*sorted(seen))


def raising(kind: type[BaseException]) -> Callable[[], None]:
    def fail() -> None:
        raise kind

    return fail


def reset(kind: type[BaseException], number: int) -> tuple[Moment, str]:
    return _reset(kind, number, False)


def reset_with_escape(kind: type[BaseException], number: int) -> tuple[Moment, str]:
    return _reset(kind, number, True)


def _reset(kind: type[BaseException], number: int, escaped: bool) -> tuple[Moment, str]:
    a, view, escape = in_use(escaped)
    used = a.used
    moment = at_moment(number, raising(kind), a.reset)
    assert not a.closed, moment.place
    came = "done" if is_revoked(view) else "undone"
    assert came == "done" or (a.used == used and view == MARK), moment.place
    # Without memory for a fresh start the views are revoked and the region goes on behind what it used.
    assert came == "undone" or a.used == 0 or (kind is MemoryError and a.used == used), moment.place
    assert escape is None or escape == MARK
    works(a)
    assert escape is None or escape == MARK
    a.close()
    return moment, came


def reset_in_a_scope(kind: type[BaseException], number: int) -> tuple[Moment, str]:
    a = bump_region(SIZE)
    outside = a.copy(MARK)
    inner = a.scope()
    view = inner.copy(MARK)
    escape = inner.copy(MARK)[:] if number % 2 else None
    moment = at_moment(number, raising(kind), inner.reset)
    assert not inner.closed, moment.place
    came = "done" if is_revoked(view) else "undone"
    assert came == "done" or view == MARK, moment.place
    assert not any(inner.alloc(100))
    check(a)
    inner.close()
    assert outside == MARK and (escape is None or escape == MARK)
    assert not any(a.alloc(100_000))
    a.close()
    return moment, came


def close(kind: type[BaseException], number: int) -> tuple[Moment, str]:
    a, view, escape = in_use(bool(number % 2))
    inner = a.scope()
    held = inner.alloc(10)
    moment = at_moment(number, raising(kind), a.close)
    came = "done" if a.closed else "undone"
    if came == "done":
        assert inner.closed and is_revoked(view) and is_revoked(held), moment.place
        assert a.released == (escape is None), moment.place
        check(a)
    else:
        assert view == MARK and not any(held), moment.place
        assert not any(inner.alloc(100))
        check(a)
    a.close()
    assert escape is None or escape == MARK
    return moment, came


def scope(kind: type[BaseException], number: int) -> tuple[Moment, str]:
    a, view, _ = in_use(False)
    used = a.used
    opened: list[Region] = []
    moment = at_moment(number, raising(kind), lambda: opened.append(a.scope()))
    came = "done" if opened else "undone"
    for inner in opened:
        check(inner)
        inner.close()
        del inner
    opened.clear()
    assert a.used == used and view == MARK, moment.place
    works(a)
    a.close()
    return moment, came


def lease(kind: type[BaseException], number: int) -> tuple[Moment, str]:
    pool = RegionPool(SIZE)
    with pool.region() as a:
        a.alloc(100_000)[:] = b"\xff" * 100_000
    del a
    ended: list[bool] = []

    def body() -> None:
        with pool.region() as a:
            assert not any(a.alloc(1000))
            a.alloc(100_000)[:] = b"\xff" * 100_000
        ended.append(a.closed)

    moment = at_moment(number, raising(kind), body)
    stats = pool.stats()
    assert stats[4:6] == (0, 0), (moment.place, stats)
    with pool.region() as b, pool.region() as c:
        for region in (b, c):
            assert not any(region.alloc(300_000)), moment.place
            check(region)
    pool.close()
    return moment, "done" if ended else "undone"


@needs_cpython
@pytest.mark.parametrize("error", ["KeyboardInterrupt", "MemoryError"])
@pytest.mark.parametrize("step", [reset, reset_with_escape, reset_in_a_scope, close, scope, lease])
def test_an_exception_at_every_moment(
    step: Callable[[type[BaseException], int], tuple[Moment, str]], error: str
) -> None:
    """Promises 3, 5 and 6: of a signal handler, or for lack of memory: what was begun is done or undone."""
    seen = in_process(__file__, "at_every_moment_of", step.__name__, error).split()
    assert set(seen) <= {"done", "undone"} and "undone" in seen


def at_every_moment_of(step: str, error: str) -> None:
    at_every_moment(globals()[step], error)


# -- a scope that is lost


@pytest.mark.parametrize("hold", [False, True])
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_a_scope_whose_finalizer_came_to_nothing(depth: int, hold: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Promise 11: the region around it allocates again, over zeroed bytes, and not over what escaped."""
    for use in ("alloc", "array", "slab", "scope", "reset", "close"):
        with bump_region(SIZE) as a:
            scopes = [a.scope()]
            while len(scopes) < depth:
                scopes.append(scopes[-1].scope())
            view = scopes[-1].alloc(60_000)
            view[:] = b"\x11" * 60_000
            held = view[:] if hold else None
            del view
            with monkeypatch.context() as interrupted:
                interrupted.setattr(Region, "__del__", lambda self: None)
                while scopes:
                    del scopes[0 if use == "slab" else -1]
                collect()
            if use == "alloc":
                assert not any(a.alloc(10)) and not any(a.alloc(100_000))
            elif use == "array":
                assert not any(a.array("B", 100_000))
            elif use == "slab":
                assert not any(next(a.slab(5000)))
            elif use == "scope":
                with a.scope() as inner:
                    assert not any(inner.alloc(100_000))
            elif use == "reset":
                a.reset()
                assert a.used == 0
            if use != "close":
                check(a)
                assert not any(a.alloc(100_000))
            assert held is None or held == b"\x11" * 60_000
        check(a)
        del held
        collect()
        assert a.released or not CPYTHON
