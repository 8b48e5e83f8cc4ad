"""Promise 4 in the last moments: finalizers of dead cycles, weak references, and the end of the interpreter."""

from __future__ import annotations

import gc
import sys
import weakref
from contextlib import AbstractContextManager, nullcontext
from types import FrameType

import pytest

from helpers.invariants import check
from helpers.stress import CPYTHON, SLOWER, both_builds, choose_build, in_process, ledger
from helpers.support import run_threads
from scopedbump import Region, RegionPool, bump_region

MARK = bytes(range(256)) * 16


class Reader:
    """Reads through what it holds when it is finalized, and may come back to life."""

    seen: list[bool] = []  # noqa: RUF012  # shared on purpose
    saved: list[Reader] = []  # noqa: RUF012

    def __init__(self, what: object, revive: bool = False) -> None:
        self.what = what
        self.revive = revive
        self.me = self

    def look(self) -> None:
        Reader.seen.append(bytes(memoryview(self.what).cast("B")[: len(MARK)]) == MARK)  # type: ignore[arg-type]

    def __del__(self) -> None:
        self.look()
        if self.revive:
            Reader.saved.append(self)


def escapes(a: Region) -> list[object]:
    """One escape of each kind that this interpreter has, all of them with MARK as their content."""
    import ctypes

    found: list[object] = [a.copy(MARK)[:], a.copy(MARK).cast("I")]
    found.append((ctypes.c_char * len(MARK)).from_buffer(a.copy(MARK)))
    try:
        import numpy as np
    except ImportError:
        return found
    found.append(np.frombuffer(a.copy(MARK), "u1"))
    found.append(np.frombuffer(a.copy(MARK), "u1").reshape(64, 64)[:])
    return found


def dead_cycles(build: str) -> None:
    """The garbage collector finalizes a cycle whose members hold escapes; the memory must still be there."""
    choose_build(build)
    gc.disable()
    pool = RegionPool(1 << 20, max_idle=2)
    for turn in range(60):
        with ledger_or_pool(turn):
            a = (lambda: bump_region(1 << 20), pool.region, lambda: bump_region(1 << 20).scope())[turn % 3]()
            Reader.seen.clear()
            readers = [Reader(what, revive=turn % 4 == 0) for what in escapes(a)]
            views = [reader.what for reader in readers]
            cycle = [a, readers, views]
            cycle.append(cycle)
            watches = [weakref.ref(reader, lambda _: None) for reader in readers]
            if turn % 2:
                a.close()
            if turn % 5 == 0:
                a.close()
                a.close()
            count = len(readers)
            del a, readers, views, cycle
            gc.collect()
            for _ in range(3 * (not CPYTHON)):
                gc.collect()
            with bump_region(1 << 20) as other:  # would get the addresses that were given back too early
                other.alloc(1 << 20, 1)[:] = b"\xff" * (1 << 20)
            del other
            for reader in Reader.saved:
                reader.look()
            assert len(Reader.seen) >= count and all(Reader.seen), (turn, Reader.seen)
            Reader.saved.clear()
            if turn % 4 == 0:
                del reader
            gc.collect()
            del watches
    pool.close()


def ledger_or_pool(turn: int) -> AbstractContextManager[object]:
    return nullcontext() if turn % 3 == 1 or not CPYTHON else ledger()


@pytest.mark.parametrize("build", ["as-here", pytest.param("locked", marks=pytest.mark.long)])
def test_finalizers_in_dead_cycles_read_through_their_escapes(build: str) -> None:
    """Promise 4: memory goes after the last finalizer that can see it, revived objects included."""
    in_process(__file__, "dead_cycles", build)


SHUTDOWN = {
    "in a module": "keep = MARKED",
    "in builtins": "import builtins; builtins.keep = MARKED",
    "in a cycle": "keep = [MARKED]; keep.append(keep); globals()['other'] = keep; gc.disable()",
    "in a thread": "threading.Thread(target=lambda what: time.sleep(100), args=(MARKED,), daemon=True).start()",
    "in sys": "sys.keep = MARKED",
    "in atexit": "import atexit; atexit.register(lambda what=MARKED: MARKED)",
    "in a class": "class Keep: what = MARKED",
    "in a context": "import contextvars; v = contextvars.ContextVar('v'); v.set(MARKED)",
    "in a generator": "g = (x for x in MARKED); next(g)",
}


@pytest.mark.parametrize("closed", [True, False], ids=["closed", "open"])
@pytest.mark.parametrize("where", SHUTDOWN)
def test_escapes_at_the_end_of_the_interpreter(where: str, closed: bool) -> None:
    """Promise 4: finalizers that read through escapes while modules are torn down; nothing is said, nothing crashes."""
    in_process(__file__, "shut_down", where, closed)


def shut_down(where: str, closed: bool) -> None:
    code = f"""
import gc, sys, threading, time
from scopedbump import RegionPool, bump_region
from {__name__} import Reader, escapes
a, pool = bump_region(1 << 20), RegionPool(1 << 20)
b = pool.region()
s = a.scope()
MARKED = [*map(Reader, escapes(s)), *map(Reader, escapes(b)), a.slab if False else None]
{"s.close(); a.close(); b.close()" if closed else ""}
{SHUTDOWN[where]}
"""
    exec(compile(code, "<shutdown>", "exec"), sys.modules["__main__"].__dict__)


def many_scopes(build: str) -> None:
    """Thousands of scopes in one another, each with an escape, ended from the outside, the inside, and by recursion."""
    choose_build(build)
    for turn in range(4):
        with ledger():
            a = bump_region(1 << 26)
            scopes = [a]
            pins: list[memoryview] = []
            pin: memoryview | None = None
            for number in range(1500):
                scopes.append(scopes[-1].scope())
                if turn % 2:
                    pin = scopes[-1].alloc(16)[:]
                    pin[:] = bytes([number % 256]) * 16
                    pins.append(pin)
            for scope in reversed(scopes) if turn < 2 else scopes:
                scope.close()
            for number, pin in enumerate(pins):
                assert bytes(pin) == bytes([number % 256]) * 16
            while pins:
                pins.pop(0 if turn == 1 else -1)
            pin = None
            del a, scope, scopes


@pytest.mark.skipif(not CPYTHON, reason="PyPy frees nested scopes one a collection: thousands of collections here")
@both_builds
def test_thousands_of_scopes(build: str) -> None:
    """Promise 11: neither depth nor order is a matter of the interpreter's recursion limit."""
    in_process(__file__, "many_scopes", build)


def near_the_recursion_limit(build: str) -> None:
    choose_build(build)
    sys.unraisablehook = lambda what: None
    for room in range(1, 40, SLOWER):
        with ledger():
            regions: list[Region] = []
            region: Region | None

            def descend(left: int, regions: list[Region] = regions) -> None:
                if left:
                    descend(left - 1)
                    return
                with bump_region(1 << 20) as a:
                    regions.append(a)
                    a.alloc(10)
                    with a.scope() as s:
                        regions.append(s)
                        s.alloc(70_000, 64)
                    a.reset()

            sys.setrecursionlimit(300)
            depth = 0
            frame: FrameType | None = sys._getframe()
            while frame is not None:
                depth, frame = depth + 1, frame.f_back
            try:
                descend(300 - depth - room)
            except RecursionError:
                pass
            finally:
                sys.setrecursionlimit(1000)
            for region in reversed(regions):
                region.close()
                check(region)
            regions.clear()
            region = None
            del descend


def test_near_the_recursion_limit() -> None:
    """Promise 5: a RecursionError in the middle of anything leaves regions that are whole, and can be closed."""
    in_process(__file__, "near_the_recursion_limit", "as-here")


def lost_regions(build: str) -> None:
    """Regions, scopes and slabs that are dropped without a close, in cycles and not, in threads and not."""
    choose_build(build)
    with ledger():

        def body() -> None:
            for turn in range(100):
                a = bump_region(1 << 20)
                a.alloc(10)
                s = a.scope()
                blocks = s.slab(10)
                next(blocks)
                if turn % 3 == 0:
                    cycle = [a, s, blocks]
                    cycle.append(cycle)
                elif turn % 3 == 1:
                    del a

        run_threads(body, body)
        del body
        gc.collect()


@both_builds
def test_regions_that_are_lost(build: str) -> None:
    """Promise 3: what was never closed goes with the last reference to it, wherever that is dropped."""
    in_process(__file__, "lost_regions", build)


def test_a_scope_in_a_cycle_keeps_its_parent_busy_until_it_is_collected() -> None:
    """Promise 11: a lost scope ends when it is collected, and its parent goes on."""
    gc.disable()
    try:
        with bump_region(1 << 20) as a:
            with pytest.warns(ResourceWarning):
                s = a.scope()
                cycle: list[object] = [s]
                cycle.append(cycle)
                del s, cycle
                for _ in range(1 if CPYTHON else 4):
                    gc.collect()
            a.alloc(10)
            check(a)
    finally:
        gc.enable()
