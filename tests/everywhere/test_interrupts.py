"""Promises 3, 5 and 8 under exceptions that come from nowhere: raised at every byte code of every operation.

KeyboardInterrupt stands for signal handlers, MemoryError for the interpreter's own lack of memory.
"""

from __future__ import annotations

import gc
import sys
import warnings
from collections.abc import Callable
from itertools import islice

import pytest

from helpers.invariants import check
from helpers.stress import Moment, at_moment, both_builds, choose_build, in_process, ledger, needs_cpython
from scopedbump import Region, RegionBusyError, RegionPool, bump_region

pytestmark = needs_cpython

MARK = b"pinned" * 20


class Stage:
    """What a scenario works on, and what must come through whatever happens to it."""

    def __init__(self) -> None:
        self.regions: list[Region] = []
        """In the order of opening: a scope comes after what it is part of."""
        self.pins: list[memoryview] = []
        self.pool = RegionPool(1 << 20, max_idle=2)

    def open(self, size: int = 1 << 20) -> Region:
        region = bump_region(size)
        self.regions.append(region)
        return region

    def pin(self, region: Region) -> None:
        pin = region.alloc(len(MARK))[:]
        pin[:] = MARK
        self.pins.append(pin)


def open_and_close(stage: Stage) -> Callable[[], object]:
    def body() -> None:
        with bump_region(1 << 20) as a:
            stage.regions.append(a)
            a.alloc(10)

    return body


def allocate(stage: Stage) -> Callable[[], object]:
    a = stage.open()
    stage.pin(a)

    def body() -> None:
        a.alloc(10)
        a.alloc(100, 64)
        a.alloc(100_000)
        a.alloc(50_000, zero=False)
        a.copy(b"x" * 100)
        a.array("d", 20)
        a.array("h", [1, 2, 3])
        a.alloc(0)

    return body


def allocate_and_sweep(stage: Stage) -> Callable[[], object]:
    a = stage.open()
    for _ in range(254):
        a.alloc(1000)

    def body() -> None:
        for _ in range(3):
            a.alloc(40_000)

    return body


def carve(stage: Stage) -> Callable[[], object]:
    a = stage.open()
    return lambda: list(islice(a.slab(48), 30))


def scope(stage: Stage) -> Callable[[], object]:
    a = stage.open()
    a.alloc(10)

    def body() -> None:
        with a.scope() as s:
            stage.regions.append(s)
            s.alloc(100)[:] = b"\xff" * 100
            with s.scope() as t:
                t.alloc(20)

    return body


def scope_with_escape(stage: Stage) -> Callable[[], object]:
    a = stage.open()

    def body() -> None:
        with a.scope() as s:
            stage.pin(s)

    return body


def scope_lost(stage: Stage) -> Callable[[], object]:
    a = stage.open()

    def body() -> None:
        s = a.scope()
        s.alloc(100)[:] = b"\xff" * 100

    return body


def reset(stage: Stage) -> Callable[[], object]:
    a = stage.open()
    kept = a.alloc(100)
    kept[:] = b"\xff" * 100
    return a.reset


def reset_with_escape(stage: Stage) -> Callable[[], object]:
    a = stage.open()
    stage.pin(a)
    return a.reset


def reset_a_scope_with_escape(stage: Stage) -> Callable[[], object]:
    s = stage.open().scope()
    stage.regions.append(s)
    stage.pin(s)
    return s.reset


def close_with_views(stage: Stage) -> Callable[[], object]:
    a = stage.open()
    kept = [a.alloc(100) for _ in range(20)]
    blocks = a.slab(10)
    kept.append(next(blocks))

    def body() -> None:
        a.close()
        assert kept

    return body


def close_with_escape(stage: Stage) -> Callable[[], object]:
    a = stage.open()
    stage.pin(a)
    return a.close


def close_with_scopes(stage: Stage) -> Callable[[], object]:
    a = stage.open()
    s = a.scope()
    t = s.scope()
    stage.regions += [s, t]
    stage.pin(t)
    return a.close


def end_of_an_escape(stage: Stage) -> Callable[[], object]:
    a = stage.open()
    stage.pin(a)
    a.close()
    stage.regions.clear()
    del a
    return stage.pins.clear


def pooled(stage: Stage) -> Callable[[], object]:
    def body() -> None:
        for _ in range(2):
            with stage.pool.region() as a:
                stage.regions.append(a)
                view = a.alloc(100)
                view[:] = b"\xff" * 100
                if not stage.pins:
                    stage.pin(a)
                a.reset()

    return body


def adapters(stage: Stage) -> Callable[[], object]:
    import ctypes

    a = stage.open()

    def body() -> None:
        a.ctypes.new(ctypes.c_int64, 7)
        a.ctypes.array(ctypes.c_int, [1, 2, 3])
        a.ctypes.strings(["a", "b"])
        list(islice(a.ctypes.slab(ctypes.c_int64), 10))

    return body


def adapters_of_cffi(stage: Stage) -> Callable[[], object]:
    import _cffi_backend

    c = stage.open().cffi(_cffi_backend.FFI())

    def body() -> None:
        c.new("int *", 7)
        c.new("int[]", [1, 2, 3])
        c.strings(["a", "b"])
        list(islice(c.slab("long long *"), 10))

    return body


SCENARIOS = (
    open_and_close,
    allocate,
    allocate_and_sweep,
    carve,
    scope,
    scope_with_escape,
    scope_lost,
    reset,
    reset_with_escape,
    reset_a_scope_with_escape,
    close_with_views,
    close_with_escape,
    close_with_scopes,
    pooled,
    adapters,
    adapters_of_cffi,
)


def interrupt(scenario: str, error: type[BaseException], number: int) -> Moment:
    """Raise `error` at the N-th byte code of the scenario, and see that all goes on."""

    def fail() -> None:
        raise error

    stage = Stage()
    moment = at_moment(number, fail, globals()[scenario](stage), everywhere=True)
    assert moment.error in (None, error), moment.error
    inside = False
    for region in reversed(stage.regions):
        if not region.closed:
            if moment.possible:
                check(region)
            try:
                assert not any(region.alloc(200))
                assert not any(region.alloc(200, 64))
            except RegionBusyError:  # unless the scope is over
                assert inside
            inside = True
    for region in stage.regions:
        region.close()
        check(region)
        assert region.closed
    with stage.pool.region() as again:
        assert not any(again.alloc(300))
    for pin in stage.pins:
        assert pin == MARK
    stage.pool.close()
    return moment


def interrupt_everywhere(
    scenario: str, error: str, build: str, first: int = 0, most: int = 100_000, step: int = 1
) -> None:
    choose_build(build)
    warnings.simplefilter("ignore")
    ignored: list[type[BaseException]] = []
    sys.unraisablehook = lambda what: ignored.append(what.exc_type)  # a callback was hit, which can't pass it on
    kind = {"KeyboardInterrupt": KeyboardInterrupt, "MemoryError": MemoryError}[error]
    gc.disable()  # settle() runs it, at a known place
    gc.freeze()
    moment = Moment()
    for number in range(first, most, step):
        try:
            with ledger() as book:
                moment = interrupt(scenario, kind, number)
                # Between two plain stores nothing real raises: there it is enough that all goes on.
                book.strict = moment.possible or not moment.happened
            if not moment.happened:
                break
        except BaseException:
            print(
                f"at {moment.place}: interrupt_everywhere({scenario!r}, {error!r}, {build!r}, {number}, {number + 1})"
            )
            raise
    assert all(issubclass(one, kind) for one in ignored), ignored
    print((number - first) // step)


each_scenario = pytest.mark.parametrize("scenario", [scenario.__name__ for scenario in SCENARIOS])


@each_scenario
def test_an_exception_at_every_seventh_byte_code(scenario: str) -> None:
    """Promises 3 and 5: wherever it comes, nothing leaks, nothing is half closed, and the next operation works."""
    arguments = (scenario, "KeyboardInterrupt", "as-here", 0, 100_000, 7)
    assert int(in_process(__file__, "interrupt_everywhere", *arguments)) > 10


@pytest.mark.long
@both_builds
@pytest.mark.parametrize("error", ["KeyboardInterrupt", "MemoryError"])
@each_scenario
def test_an_exception_at_every_byte_code(scenario: str, error: str, build: str) -> None:
    """Promises 3 and 5: the same at every single one, with both errors; with the lock, with the one or the other."""
    first, step = (int(error == "MemoryError"), 2) if build == "locked" else (0, 1)
    assert int(in_process(__file__, "interrupt_everywhere", scenario, error, build, first, 100_000, step)) > 10


@pytest.mark.parametrize("error", ["KeyboardInterrupt", "MemoryError"])
def test_the_end_of_an_escape_runs_nothing(error: str) -> None:
    """Promise 4: memory goes with the last that points into it, and no byte code lies between to be interrupted."""
    assert int(in_process(__file__, "interrupt_everywhere", "end_of_an_escape", error, "as-here")) == 0
