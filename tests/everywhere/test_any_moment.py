"""Promise 9, any moment: handlers, finalizers and collector callbacks that use the very region that they interrupt."""

from __future__ import annotations

import ctypes
import gc
import signal
import sys
import time
import weakref
from collections.abc import Callable
from itertools import islice
from typing import Any

import _cffi_backend
import pytest

from helpers.invariants import check
from helpers.stress import SLOWER, Moment, at_moment, both_builds, choose_build, in_process, ledger, needs_cpython
from helpers.support import needs_gil, run_script
from scopedbump import (
    Region,
    RegionBusyError,
    RegionClosedError,
    RegionFullError,
    RegionPool,
    _bytecode,
    bump_region,
)

set_threshold = getattr(gc, "set_threshold", lambda *_: None)  # PyPy has none

FFI: Any = _cffi_backend.FFI()
Bytes = ctypes.c_ubyte * 20
REFUSALS = (RegionBusyError, RegionClosedError, RegionFullError)

# -- every moment in turn: an operation, and another one in the middle of it


class Blocks:
    """Blocks that were handed out: each filled with its number, none may change and no two may overlap."""

    def __init__(self) -> None:
        self.held: list[tuple[memoryview, int]] = []

    def take(self, view: memoryview) -> None:
        try:
            assert not any(view), "memory of somebody else"
            number = len(self.held) % 255 + 1
            view[:] = bytes([number]) * view.nbytes
        except ValueError:  # revoked between its allocation and its use
            return
        self.held.append((view, number))
        if len(self.held) > 300:  # each escape among them may hold a reservation
            self.check()
            del self.held[:200]

    def check(self) -> None:
        for view, number in self.held:
            try:
                content = bytes(view)
            except ValueError:
                continue
            assert content == bytes([number]) * len(content), "somebody else wrote here"


def small(a: Region, blocks: Blocks) -> None:
    blocks.take(a.alloc(40))


def aligned(a: Region, blocks: Blocks) -> None:
    blocks.take(a.alloc(50, 256))


def large(a: Region, blocks: Blocks) -> None:
    blocks.take(a.alloc(70_000))


def unzeroed(a: Region, blocks: Blocks) -> None:
    view = a.alloc(3000, zero=False)
    try:
        view[:] = bytes(3000)
    except ValueError:  # revoked meanwhile
        return
    blocks.take(view)


def copy(a: Region, blocks: Blocks) -> None:
    view = a.copy(b"abc" * 50)
    try:
        assert bytes(view) == b"abc" * 50
        view[:] = bytes(150)
    except ValueError:  # revoked meanwhile
        return
    blocks.take(view)


def numbers(a: Region, blocks: Blocks) -> None:
    blocks.take(a.array("B", 70))
    view = a.array("B", range(1, 60))
    try:
        assert bytes(view) == bytes(range(1, 60))
        view[:] = bytes(59)
    except ValueError:  # revoked meanwhile
        return
    blocks.take(view)


def nothing(a: Region, blocks: Blocks) -> None:
    view = a.alloc(0)
    try:
        assert view.nbytes == 0
    except ValueError:  # revoked meanwhile
        pass


def carve(a: Region, blocks: Blocks) -> None:
    for view in islice(a.slab(33), 12):
        blocks.take(view)


def scope(a: Region, blocks: Blocks) -> None:
    with a.scope() as s:
        view = s.alloc(60_000)
        try:
            view[:] = b"\xee" * 60_000
        except ValueError:  # revoked meanwhile
            pass


def scope_with_escape(a: Region, blocks: Blocks) -> None:
    with a.scope() as s:
        view = s.alloc(5000)
        try:
            part = view[100:4000]
        except ValueError:  # revoked meanwhile
            return
        blocks.take(part)


def ctypes_objects(a: Region, blocks: Blocks) -> None:
    for _ in range(3):
        blocks.take(memoryview(a.ctypes.new(Bytes)).cast("B"))
    blocks.take(memoryview(a.ctypes.array(ctypes.c_ubyte, 50)).cast("B"))


def cffi_objects(a: Region, blocks: Blocks) -> None:
    c = a.cffi(FFI)
    for _ in range(3):
        blocks.take(memoryview(FFI.buffer(c.new("char[20]"))))
    blocks.take(memoryview(FFI.buffer(c.new("char[]", 50))))


def lost_scope(a: Region, blocks: Blocks) -> None:
    s = a.scope()
    view = s.alloc(5000)
    try:
        view[:] = b"\xee" * 5000
    except ValueError:  # revoked meanwhile
        pass


def reset(a: Region, blocks: Blocks) -> None:
    a.reset()


def close(a: Region, blocks: Blocks) -> None:
    a.close()


def sweep(a: Region, blocks: Blocks) -> None:
    for _ in range(3):
        a.alloc(20_000)


OPERATIONS = (
    small,
    aligned,
    large,
    unzeroed,
    copy,
    numbers,
    nothing,
    carve,
    scope,
    scope_with_escape,
    ctypes_objects,
    cffi_objects,
    lost_scope,
    reset,
    close,
    sweep,
)


def meet(outer: Callable[[Region, Blocks], None], inner: Callable[[Region, Blocks], None], number: int) -> Moment:
    """Run `inner` at the N-th moment of `outer`, on one region that has been used before."""
    a = bump_region(1 << 20)
    blocks = Blocks()
    try:
        for _ in range(250):
            a.alloc(300)
        a.alloc(1000)[:] = b"\xdd" * 1000
        a.reset()
        escape = a.alloc(64)[:]
        escape[:] = b"e" * 64

        def action() -> None:
            try:
                inner(a, blocks)
            except REFUSALS:
                pass

        moment = at_moment(number, action, lambda: outer(a, blocks))
        assert moment.error is None or issubclass(moment.error, REFUSALS), moment.error
        blocks.check()
        if not a.closed:
            check(a)
            small(a, blocks)
            aligned(a, blocks)
            large(a, blocks)
            carve(a, blocks)
            blocks.check()
            check(a)
        assert escape == b"e" * 64
        return moment
    finally:
        a.close()
        check(a)
        blocks.check()


def every_meeting(outer: str, build: str) -> None:
    choose_build(build)
    gc.disable()
    gc.freeze()
    count = 0
    for inner in OPERATIONS:
        for number in range(100_000):
            try:
                with ledger():
                    moment = meet(globals()[outer], inner, number)
            except BaseException:
                print(f"{inner.__name__} at moment {number} of {outer}")
                raise
            if not moment.happened:
                break
            count += 1
    print(count)


LONG = (carve, ctypes_objects, cffi_objects, lost_scope, scope_with_escape)
"""Whose moments are many, and most of them those of others too."""


def each_outer() -> list[Any]:
    return [
        pytest.param(operation.__name__, marks=[pytest.mark.long] if operation in LONG else [])
        for operation in OPERATIONS
    ]


@needs_cpython
@pytest.mark.parametrize("build", ["as-here", pytest.param("locked", marks=pytest.mark.long)])
@pytest.mark.parametrize("outer", each_outer())
def test_every_operation_at_every_moment_of_every_other(outer: str, build: str) -> None:
    """Promises 4, 6 and 9: at each place where CPython lets handlers in, each operation, on the same region."""
    assert int(in_process(__file__, "every_meeting", outer, build, timeout=280)) > 10


# -- real handlers, as often as the system sends them


def storm(kind: str, build: str, seconds: float) -> None:
    """Work on a region while `kind` works on it too, at any moment; see that every block has one owner."""
    choose_build(build)
    a = bump_region(1 << 24)
    pool = RegionPool(1 << 20)
    blocks = Blocks()
    inner = Blocks()
    came = refused = 0
    busy = False
    turn = 0

    def interrupt(*_: object) -> None:
        nonlocal came, refused, busy, turn
        if busy or a.closed:
            return
        busy = True
        came += 1
        turn += 1
        try:
            operation = (small, aligned, carve, scope, copy, scope_with_escape, unzeroed, numbers, lost_scope)[turn % 9]
            operation(a, inner)
            if turn % 50 == 0:
                a.reset()
            if turn % 20 == 0:
                with pool.region() as b:
                    small(b, inner)
        except REFUSALS:
            refused += 1
        finally:
            busy = False

    class Finalized:
        def __init__(self) -> None:
            self.me = self

        def __del__(self) -> None:
            interrupt()

    class Watched:
        def __init__(self) -> None:
            self.me = self

    keep: list[object] = []
    if kind == "signal":
        signal.signal(signal.SIGALRM, interrupt)
        signal.setitimer(signal.ITIMER_REAL, 1e-4, 1e-4)
    elif kind == "gc.callbacks":
        gc.callbacks.append(interrupt)
    set_threshold(700 if kind == "signal" else 1, 5, 5)
    rounds = 0
    end = time.monotonic() + seconds
    try:
        while time.monotonic() < end:
            rounds += 1
            if kind == "__del__":
                Finalized()
            elif kind == "weakref":
                watched = Watched()
                keep[:] = [*keep[-50:], weakref.ref(watched, interrupt)]
                del watched
            operation = (small, aligned, large, carve, scope, sweep, copy, numbers, nothing)[rounds % 9]
            if kind == "gc.callbacks":  # the opening of a scope begins again when it was interrupted: for ever at 1
                set_threshold(50 if operation is scope else 1, 5, 5)
            try:
                operation(a, blocks)
                if rounds % 30 == 0:
                    a.reset()
                if rounds % 40 == 0:
                    with pool.region() as b:
                        small(b, blocks)
            except RegionFullError:
                a.reset()
            except RegionClosedError:  # of a slab that a handler's reset has ended
                assert not a.closed
            except RegionBusyError:  # PyPy says so where it can't tell a handler from what it interrupts
                assert not _bytecode.cpython
            if rounds % 10 == 0:
                blocks.check()
                inner.check()
                blocks.held.clear()
                inner.held.clear()
    finally:
        if kind == "signal":
            signal.setitimer(signal.ITIMER_REAL, 0)
        getattr(gc, "callbacks", []).clear()
        set_threshold(700, 10, 10)
        busy = True
    if _bytecode.cpython:
        check(a)
    a.close()
    check(a)
    print(came)
    print(f"{kind}, {build}: {rounds} rounds, {came} interruptions, {refused} refused", file=sys.stderr)


KINDS = [
    pytest.param(
        "signal", marks=pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="there is no timer signal")
    ),
    "__del__",
    "weakref",
    pytest.param("gc.callbacks", marks=needs_gil("without one the collector does not come when it is told")),
]


@both_builds
@pytest.mark.parametrize("kind", KINDS)
def test_a_storm_of_handlers(kind: str, build: str) -> None:
    """Promise 9: signal handlers, finalizers and collector callbacks allocate, scope and reset the region they hit."""
    if kind == "gc.callbacks" and not hasattr(gc, "callbacks"):
        pytest.skip("the collector has no callbacks here")
    output = in_process(__file__, "storm", kind, build, 0.4)
    if _bytecode.cpython or kind == "signal":
        assert int(output) > 10


@pytest.mark.long
@both_builds
@pytest.mark.parametrize("kind", KINDS)
def test_a_long_storm_of_handlers(kind: str, build: str) -> None:
    """Promise 9: the same for eight seconds each."""
    in_process(__file__, "storm", kind, build, 8.0)


# -- the end of a region from within


def ended_from_within(build: str) -> None:
    choose_build(build)
    for turn in range(120 // SLOWER):
        a = bump_region(1 << 20)
        blocks = Blocks()

        class Ender:
            def __init__(self, end: Callable[[], None]) -> None:
                self.me = self
                self.end = end

            def __del__(self) -> None:
                self.end()

        gc.collect()
        set_threshold(turn % 40 + 1, 5, 5)
        Ender(a.close)
        try:
            while True:
                blocks.take(a.alloc(turn % 5 * 1000 + 10))
        except RegionClosedError:
            pass
        except RegionFullError:
            gc.collect()
        set_threshold(700, 10, 10)
        a.close()
        check(a)
        blocks.check()
        blocks.held.clear()
        if _bytecode.cpython:
            assert a.released


@both_builds
def test_a_finalizer_closes_the_region_that_allocates(build: str) -> None:
    """Promises 3 and 9: CPython 3.11 collects inside the bump itself; what it closes there is closed."""
    in_process(__file__, "ended_from_within", build)


def shared_slab() -> None:
    """A handler takes from the iterator that it interrupts."""
    with bump_region(1 << 28) as a:
        blocks = a.slab(64)
        seen: set[int] = set()
        taken: list[memoryview] = []

        busy = False

        def handler(*_: object) -> None:
            nonlocal busy
            if not busy:  # else handlers would pile up
                busy = True
                taken.append(next(blocks))
                busy = False

        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, 1e-4, 1e-4)
        end = time.monotonic() + 1
        try:
            while time.monotonic() < end and a.available > 1 << 22:
                taken += islice(blocks, 700)
                if len(taken) > 20_000:
                    checked, taken[:] = taken[:], []
                    addresses = {a.address(view) for view in checked}
                    assert len(addresses) == len(checked) and not addresses & seen
                    seen |= addresses
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, signal.SIG_IGN)
        assert len(seen) > 20_000


@needs_cpython  # PyPy refuses such a handler
@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="there is no timer signal")
def test_a_handler_takes_from_the_slab_that_it_interrupts() -> None:
    """Promise 9: no block comes twice, and the interpreter does not free the iterator's source while it runs."""
    in_process(__file__, "shared_slab")


@pytest.mark.skipif(not hasattr(gc, "callbacks"), reason="the collector has no callbacks here")
@needs_gil("without one the collector does not come when it is told")
def test_the_first_use_of_anything_may_be_interrupted() -> None:
    """Promise 9: cffi aborts the process when a function of a library is used in the middle of its very first use."""
    for moment in range(1, 13):
        run_script(
            """
            import gc, sys
            from scopedbump import bump_region

            a, b = bump_region(1 << 20), bump_region(1 << 20)
            left = int(sys.argv[1])

            def interrupt(phase, _):
                global left
                left -= phase == "start"
                if not left:
                    left = -1
                    b.alloc(100)
                    b.close()

            gc.callbacks.append(interrupt)
            gc.set_threshold(1, 1, 1)
            a.alloc(100)
            a.address(a.alloc(10))
            a.close()
            """,
            str(moment),
        )
