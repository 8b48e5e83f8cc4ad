"""Promise 9 at its root: critical sections that nothing can interrupt, not even a tracer, and a hammer on them.

What is looked at is what the package has marked, all of it, and not a list kept here.
"""

from __future__ import annotations

import ast
import ctypes
import dis
import gc
import importlib
import pkgutil
import re
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import cffi
import pytest

import scopedbump
from helpers.invariants import check
from helpers.stress import PACKAGE, both_builds, choose_build, in_process, needs_cpython
from helpers.support import run_threads
from scopedbump import (
    Region,
    RegionBusyError,
    RegionClosedError,
    RegionFullError,
    RegionPool,
    _atomic,
    bump_region,
)
from scopedbump._chunk import Chunk
from scopedbump._memory import Memory
from scopedbump._places import Place, Places


def import_everything() -> None:
    """Import each module that there is on this system, so that all it marks is registered."""
    for module in pkgutil.walk_packages(scopedbump.__path__, f"{scopedbump.__name__}."):
        with suppress(ImportError, AttributeError, AssertionError):  # without NumPy, or of another system
            importlib.import_module(module.name)


import_everything()
SECTIONS = _atomic.critical_sections
FAST_PATHS = _atomic.fast_paths
needs_no_lock = pytest.mark.skipif(not _atomic.atomic, reason="critical sections have locks here")


def name_of(function: Callable[..., object]) -> str:
    return function.__qualname__


# -- the byte code

# Everything that calls, so that CPython may look for signals and threads after it; LOAD_ATTR is not among them for
# slots, which is all that critical sections load.
BREAKS = (
    "CALL",
    "JUMP_BACKWARD",
    "RESUME",
    "FOR_ITER",
    "SEND",
    "YIELD",
    "IMPORT",
    "BUILD_",
    "WITH",
    "LOAD_METHOD",
    "CHECK_PERIODIC",
)
ENDS = ("RETURN", "RAISE", "RERAISE")
JUMPS = {*dis.hasjrel, *dis.hasjabs}

Fits = Callable[[dis.Instruction], bool]


def followers(instructions: list[dis.Instruction]) -> list[set[int]]:
    """To which instructions each one may lead, an error apart."""
    numbers = {instruction.offset: number for number, instruction in enumerate(instructions)}
    lead: list[set[int]] = []
    for number, instruction in enumerate(instructions):
        after: set[int] = set()
        if not instruction.opname.startswith((*ENDS, "JUMP_")) and number + 1 < len(instructions):
            after.add(number + 1)
        if instruction.opcode in JUMPS:
            after.add(numbers[instruction.argval])
        lead.append(after)
    return lead


def reach(start: set[int], lead: list[set[int]]) -> set[int]:
    """The instructions that may run after any of these."""
    found: set[int] = set()
    left = set(start)
    while left:
        new = lead[left.pop()] - found
        found |= new
        left |= new
    return found


def breaks_between(code: CodeType, first: Fits, last: Fits) -> list[str]:
    """The switch points that may come after a byte code that fits `first` and before one that fits `last`."""
    instructions = list(dis.get_instructions(code))
    lead = followers(instructions)
    firsts = {number for number, instruction in enumerate(instructions) if first(instruction)}
    lasts = {number for number, instruction in enumerate(instructions) if last(instruction)}
    assert firsts and lasts & reach(firsts, lead), f"{code.co_name} never gets from the one to the other"
    return [
        f"{instructions[number].opname} at {instructions[number].offset}"
        for number in reach(firsts, lead)
        if any(part in instructions[number].opname for part in BREAKS) and lasts & reach({number}, lead)
    ]


def loads(*names: str) -> Fits:
    return lambda i: i.opname == "LOAD_ATTR" and (not names or i.argval in names)


def stores(*names: str) -> Fits:
    return lambda i: i.opname == "STORE_ATTR" and (not names or i.argval in names)


def changes(instruction: dis.Instruction) -> bool:
    return instruction.opname in ("STORE_ATTR", "STORE_SUBSCR", "STORE_SLICE", "DELETE_ATTR", "DELETE_SUBSCR")


def test_there_are_marked_functions() -> None:
    """The registry is filled; what is marked has its name in it once."""
    names = [name_of(function) for function in (*SECTIONS, *FAST_PATHS)]
    assert {"Chunk.bump", "Chunk.suspend", "Chunk.stop", "Region.alloc"} <= set(names)
    assert len(names) == len(set(names))


@needs_cpython
@pytest.mark.parametrize("function", SECTIONS, ids=name_of)
def test_between_reading_and_writing_there_is_no_break(function: Callable[..., object]) -> None:
    """Promise 9: between a critical section's first look and its last store is nothing at which CPython looks up."""
    assert not breaks_between(function.__code__, loads(), changes)


@needs_cpython
@pytest.mark.parametrize("function", FAST_PATHS, ids=name_of)
def test_a_fast_path_bumps_without_a_break(function: Callable[..., object]) -> None:
    """Promise 9: the same of each fast path, from its look at the cursor, where there is one, to its move."""
    first, last = loads("cursor"), stores("cursor")
    if not any(map(first, dis.get_instructions(function.__code__))):
        first, last = loads(), changes
    assert not breaks_between(function.__code__, first, last)


@needs_cpython
@pytest.mark.parametrize("function", [Region.alloc, Region.array, Memory.alloc_raw, Memory.make], ids=name_of)
def test_a_fast_path_holds_the_view_when_it_has_moved_the_cursor(function: Callable[..., object]) -> None:
    """Promise 4: an end that comes right after the move finds the view in use, and leaves the memory to it."""
    assert not breaks_between(function.__code__, stores("cursor"), loads("view"))


@needs_cpython
def test_breaks_are_found() -> None:
    """A function that calls on any way between the two is told from one that calls before, after or beside."""

    class State:
        cursor = 0
        limit = 0

    def between(state: State, size: int) -> None:
        start = state.cursor
        if size > 5:
            size = int(size)
        state.cursor = start + size

    def around(state: State, size: int) -> object:
        if type(size) is int:
            start = state.cursor
            if start > state.limit:
                return int(size)
            state.cursor = start + size
        return len(str(size))

    def again(state: State, size: int) -> None:
        while state.cursor < state.limit:
            state.cursor += size

    first, last = loads("cursor"), stores("cursor")
    assert breaks_between(between.__code__, first, last)
    assert not breaks_between(around.__code__, first, last)
    assert breaks_between(again.__code__, first, last)


def test_the_slots_are_slots() -> None:
    """The sections load attributes of these: a property or __getattr__ there would be a call."""
    modules = [module for name, module in sys.modules.items() if name.startswith(f"{scopedbump.__name__}._")]
    kinds = {kind for module in modules for kind in vars(module).values() if isinstance(kind, type)}
    slots = {
        name
        for kind in kinds
        for name in vars(kind).get("__slots__", ())
        if type(vars(kind).get(name)).__name__ in ("member_descriptor", "getset_descriptor")
    }
    assert {"cursor", "limit", "view", "committed", "dirty"} <= slots
    for function in (*SECTIONS, *FAST_PATHS):
        owner = vars(sys.modules[function.__module__])[function.__qualname__.split(".")[0]]
        assert "__slots__" in vars(owner)
        assert not {"__getattr__", "__getattribute__", "__setattr__"} & set(vars(owner))
    for function in SECTIONS:
        for instruction in dis.get_instructions(function.__code__):
            if loads()(instruction) or stores()(instruction):
                name = instruction.argval
                plain = name in slots or not any(hasattr(vars(kind).get(name), "__get__") for kind in kinds)
                assert plain, f"{name_of(function)}: is {name} a slot?"


LOCK = re.compile("(?<![a-zA-Z])R?[lL]ock|mutex")


def test_nothing_else_takes_a_lock() -> None:
    """No lock is made, held or taken in the package but where critical sections are."""
    found: list[str] = []
    files = sorted(Path(PACKAGE).rglob("*.py"))
    assert len(files) > 20
    for path in files:
        if path.name == "_atomic.py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            taken: list[ast.expr] = []
            if isinstance(node, (ast.With, ast.AsyncWith)):
                taken = [item.context_expr for item in node.items if LOCK.search(ast.unparse(item.context_expr))]
            elif isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                owner, _, method = called.rpartition(".")
                made = method in ("Lock", "RLock", "Condition", "Semaphore", "BoundedSemaphore", "allocate_lock")
                if made or (method in ("acquire", "release", "__enter__") and LOCK.search(owner)):
                    taken = [node]
            found += [f"{path.name}:{expression.lineno}: {ast.unparse(expression)}" for expression in taken]
    assert not found


# -- one line


def everything() -> None:
    """Operations that come by all that is marked."""
    with bump_region(1 << 20) as a:
        for _ in range(600):
            a.alloc(100)
        a.alloc(40_000)
        a.alloc(10, 64)
        a.array("d", 3)
        next(a.slab(10))
        memory = Memory(a)
        view, start, mark, _ = memory.alloc_raw(8, 8)
        memory.rewind(view, mark, start + 8)
        a._chunk.take_back(view, mark, mark, 0)
        del view
        memory.make(memoryview.__getitem__, 8, 7)
        bumper = memory.bumper(8)
        bumper.alloc(8)
        bumper.rewind()
        with a.scope() as inner:
            inner.alloc(10)
        del bumper
    with bump_region(1 << 20) as a:
        with a.writer() as writer:
            writer.write(bytearray(100_000))
            writer.get_buffer()
            writer.buffer_updated(1)
            writer.getbuffer()
            writer.truncate(10)
            writer.seek(200_000)
            writer.write(b"behind zeros")
        a.reset()
    with RegionPool(1 << 20) as pool, pool.region() as b:
        b.alloc(1)
    with RegionPool(1 << 20, max_out=1) as pool, pool._region_on_demand(pool._options) as c:
        c.alloc(1)
        pool._free_list.count_overflow()
        pool._region_on_demand(pool._options).close()
    places_come_and_go()
    with bump_region(1 << 20) as a:
        malloc = a.cffi(cffi.FFI()).hooks().malloc("void *(*)(size_t)", "size")
        assert malloc(10)
    with bump_region(1 << 20, debug=True) as a:
        a.alloc(10)
    with bump_region(1 << 20, wipe=True) as a:
        a.alloc(10)
    with suppress(ImportError):
        arrays_come_and_go()


def places_come_and_go() -> None:
    places = Places(1)
    places.refuse()
    handed_on: list[Place] = []

    def offer(place: Place) -> bool:
        handed_on.append(place)
        return True

    for _ in range(2):
        place = places.take()
        assert place is not None
        places.queue(offer)
        place.leave()
        handed_on.pop().leave()
        lost = places.take()
        assert lost is not None
        lost.held = False  # and still counted: put right when the next one is asked for
        del lost, place


def arrays_come_and_go() -> None:
    import numpy as np

    with bump_region(1 << 26) as a, a.numpy.handler(min_bytes=64):
        held = [np.ones(size) for size in (1000, 2000, 3000, 1000, 500)]
        for number in (1, 3, 0, 2, 1, 0):
            del held[number]
            held.append(np.ones(700 + 500 * number))
        held.clear()
        held.append(np.ones(100_000))
        del held[:]
    with bump_region(1 << 20) as a, a.numpy.handler(min_bytes=64):
        for size in (80_000, 110_000):  # the second one fits where the first one was
            np.ones(size)


class Count:
    """How often functions were entered, and how many lines of them were announced."""

    def __init__(self) -> None:
        self.calls: dict[CodeType, int] = {}
        self.lines: dict[CodeType, list[int]] = {}

    def call(self, code: CodeType) -> None:
        self.calls[code] = self.calls.get(code, 0) + 1

    def line(self, code: CodeType, number: int) -> None:
        self.lines.setdefault(code, []).append(number)


@contextmanager
def settrace(count: Count) -> Iterator[None]:
    def trace(frame: FrameType, event: str, _: object) -> Any:
        if frame.f_code.co_filename.startswith(PACKAGE):
            if event == "call":
                count.call(frame.f_code)
            elif event == "line":
                count.line(frame.f_code, frame.f_lineno)
        return trace

    sys.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(None)


@contextmanager
def monitoring(count: Count) -> Iterator[None]:
    watch: Any = sys.monitoring  # type: ignore[attr-defined, unused-ignore]  # since Python 3.12
    events = watch.events
    watch.use_tool_id(4, "test")
    watch.register_callback(4, events.PY_START, lambda code, _: count.call(code))
    watch.register_callback(4, events.LINE, count.line)
    watch.set_events(4, events.PY_START | events.LINE)
    try:
        yield
    finally:
        watch.set_events(4, 0)
        watch.free_tool_id(4)


since_3_12 = pytest.mark.skipif(sys.version_info < (3, 12), reason="sys.monitoring is of Python 3.12")
TOOLS = [settrace, pytest.param(monitoring, marks=since_3_12)]


@needs_cpython
@pytest.mark.parametrize("tool", TOOLS)
def test_a_tracer_sees_one_line_of_what_is_marked(tool: Callable[[Count], AbstractContextManager[None]]) -> None:
    """Promise 9: one event, where the function begins; all of its byte code comes after that."""
    count = Count()
    with tool(count):
        everything()
    for function in (*SECTIONS, *FAST_PATHS) if _atomic.atomic else FAST_PATHS:
        if "numpy" in function.__module__ and "numpy" not in sys.modules:
            continue
        code = function.__code__
        calls = count.calls.get(code, 0)
        assert calls, f"{name_of(function)} was not called by everything()"
        assert count.lines[code] == [code.co_firstlineno] * calls, name_of(function)
    plain = Chunk.prepare.__code__
    assert len(set(count.lines[plain])) > 1, "the tool sees lines"


@needs_cpython
def test_the_line_is_that_of_the_definition() -> None:
    """A traceback shows where the function begins, and every byte code has that line."""
    for function in (*SECTIONS, *FAST_PATHS) if _atomic.atomic else FAST_PATHS:
        code = function.__code__
        assert {line for _, _, line in code.co_lines()} == {code.co_firstlineno}, name_of(function)
        assert {start for start, _, _ in code.co_lines()} and max(stop for _, stop, _ in code.co_lines()) == len(
            code.co_code
        )


# -- under a tracer


EIGHT = ctypes.c_char * 8


class Blocks:
    """Blocks that were handed out: zero when they came, each filled with its number, no byte in two of them."""

    def __init__(self) -> None:
        self.held: list[tuple[memoryview[Any], int]] = []

    def take(self, view: memoryview[Any]) -> None:
        try:
            assert not any(view.cast("B")), "bytes of somebody else"
            number = len(self.held) % 255 + 1
            view.cast("B")[:] = bytes([number]) * view.nbytes
        except ValueError:  # revoked between its allocation and its use
            return
        self.held.append((view, number))

    def check(self) -> None:
        for view, number in self.held:
            with suppress(ValueError):  # revoked
                assert bytes(view) == bytes([number]) * view.nbytes, "somebody else wrote here"


def scope(a: Region, blocks: Blocks) -> None:
    with a.scope() as inner:
        blocks.take(inner.alloc(60))
        view = inner.alloc(50_000)
        try:
            part = view[100:]
        except ValueError:  # revoked meanwhile
            return
        blocks.take(part)


def reset(a: Region, blocks: Blocks) -> None:
    a.reset()
    blocks.take(a.alloc(48))


OPERATIONS: dict[str, Callable[[Region, Blocks], None]] = {
    "small": lambda a, blocks: blocks.take(a.alloc(32)),
    "large": lambda a, blocks: blocks.take(a.alloc(40_000)),
    "aligned": lambda a, blocks: blocks.take(a.alloc(50, 64)),
    "array": lambda a, blocks: blocks.take(a.array("d", 5)),
    "slab": lambda a, blocks: blocks.take(next(a.slab(40))),
    "raw": lambda a, blocks: blocks.take(memoryview(a.ctypes.new(EIGHT)).cast("B")),
    "scope": scope,
    "reset": reset,
    "close": lambda a, _: a.close(),
}

REFUSALS = (RegionBusyError, RegionClosedError, RegionFullError)


def attempt(name: str, a: Region, blocks: Blocks) -> None:
    with suppress(*REFUSALS):
        OPERATIONS[name](a, blocks)


def used_region() -> Region:
    """Whose memory has been written to."""
    a = bump_region(1 << 20)
    a.alloc(100_000)[:] = b"\xdd" * 100_000
    a.reset()
    return a


@contextmanager
def lines_by_settrace(act: Callable[[], None]) -> Iterator[None]:
    """Call `act` at each line of the package in this thread."""

    def trace(frame: FrameType, event: str, _: object) -> Any:
        if not frame.f_code.co_filename.startswith(PACKAGE):
            return None
        if event == "line":
            act()
        return trace

    sys.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(None)


@contextmanager
def lines_by_monitoring(act: Callable[[], None]) -> Iterator[None]:
    mine = threading.get_ident()
    watch: Any = sys.monitoring  # type: ignore[attr-defined, unused-ignore]  # since Python 3.12

    def moment(code: CodeType, _: int) -> None:
        if threading.get_ident() == mine and code.co_filename.startswith(PACKAGE):
            act()

    watch.use_tool_id(4, "test")
    watch.register_callback(4, watch.events.LINE, moment)
    watch.register_callback(4, watch.events.PY_START, moment)
    watch.set_events(4, watch.events.LINE | watch.events.PY_START)
    try:
        yield
    finally:
        watch.set_events(4, 0)
        watch.free_tool_id(4)


def meet(tool: Callable[[Callable[[], None]], AbstractContextManager[None]], mine: str, other: str, n: int) -> bool:
    """Stop at the N-th line of the one operation and let another thread do the other; whether there was such a line."""
    a, blocks = used_region(), Blocks()
    lines = 0

    def at_line() -> None:
        nonlocal lines
        lines += 1
        if lines == n:
            thread = threading.Thread(target=attempt, args=(other, a, blocks))
            thread.start()
            thread.join()

    with tool(at_line):
        attempt(mine, a, blocks)
    for name in ("small", "large", "array", "slab"):
        attempt(name, a, blocks)
    blocks.check()
    a.close()
    check(a)
    blocks.check()
    return lines >= n


@needs_no_lock
@pytest.mark.parametrize("tool", [lines_by_settrace, pytest.param(lines_by_monitoring, marks=since_3_12)])
@pytest.mark.parametrize(
    "mine", [pytest.param(name, marks=[pytest.mark.long] if name == "scope" else []) for name in OPERATIONS]
)
def test_another_thread_at_every_line(
    tool: Callable[[Callable[[], None]], AbstractContextManager[None]], mine: str
) -> None:
    """Promise 9: a debugger may stop anywhere in one thread while another one uses the region; no byte goes twice."""
    for other in ("small", "large", "array", "scope", "reset", "close"):
        n = 1
        while meet(tool, mine, other, n):
            n += 1
        assert n > 1


def interleave(mine: str, other: str, n: int, m: int) -> tuple[bool, bool]:
    """Go N lines in one operation, then M lines in another thread's, then end the first one, then the other.

    Whether each of them has so many lines.
    """
    a, blocks = used_region(), Blocks()
    turn, back = threading.Event(), threading.Event()
    lines = [0, 0]

    def tracer(which: int, at: int, act: Callable[[], object]) -> Callable[..., Any]:
        def trace(frame: FrameType, event: str, _: object) -> Any:
            if not frame.f_code.co_filename.startswith(PACKAGE):
                return None
            if event == "line":
                lines[which] += 1
                if lines[which] == at:
                    act()
            return trace

        return trace

    def work() -> None:
        attempt(other, a, blocks)
        back.set()

    def to_the_other() -> None:
        threading.settrace(tracer(1, m, from_the_other))
        try:
            thread.start()
        finally:
            threading.settrace(None)
        assert back.wait(20)

    def from_the_other() -> None:
        back.set()
        assert turn.wait(20)

    thread = threading.Thread(target=work)
    sys.settrace(tracer(0, n, to_the_other))
    try:
        attempt(mine, a, blocks)
    finally:
        sys.settrace(None)
    turn.set()
    if lines[0] >= n:
        thread.join()
    for name in ("small", "large"):
        attempt(name, a, blocks)
    blocks.check()
    a.close()
    check(a)
    blocks.check()
    return lines[0] >= n, lines[1] >= m


@needs_no_lock
@pytest.mark.parametrize(
    ("mine", "other", "step"),
    [
        ("small", "small", 1),
        ("large", "large", 4),
        ("array", "aligned", 1),
        pytest.param("large", "reset", 4, marks=pytest.mark.long),
        ("reset", "reset", 4),
        pytest.param("scope", "large", 4, marks=pytest.mark.long),
        ("close", "scope", 4),
    ],
)
def test_two_threads_stopped_at_every_line(mine: str, other: str, step: int) -> None:
    """Promise 9: both threads are traced, and each stands still in the middle of the other.

    At every line of the one, with every line of the other or, in turns, every fourth.
    """
    n = met = 0
    there = True
    gc.collect()
    gc.disable()  # else the lines of what is called at a collection come in somewhere
    try:
        while there:
            n += 1
            m = 1 + n % step
            more = True
            while more and there:
                there, more = interleave(mine, other, n, m)
                met += there and more
                m += step
    finally:
        gc.enable()
    assert met


# -- by chance, as fast as threads can


def same_bytes(build: str) -> None:
    choose_build(build)
    with bump_region(1 << 26) as a:

        def body(number: int) -> None:
            mine = []
            for turn in range(1500):
                view = a.alloc(turn % 97 + 1, 16 if turn % 3 else 32)
                assert not any(view)
                view[:] = bytes([number]) * view.nbytes
                mine.append(view)
            assert all(set(view) == {number} for view in mine)

        run_threads(*[lambda number=number: body(number) for number in range(1, 5)])
        check(a)
        assert a.used >= 4 * sum(turn % 97 + 1 for turn in range(1500))


@both_builds
def test_two_threads_never_get_the_same_bytes(build: str) -> None:
    """Promise 9: four threads write their number over every block they get, and find it unchanged."""
    in_process(__file__, "same_bytes", build)


def recycled(build: str) -> None:
    choose_build(build)
    with bump_region(1 << 24) as a:
        for _ in range(20):
            view = a.alloc(1 << 20)
            view[:] = b"\xff" * (1 << 20)
            del view
            a.reset()

            def body(number: int) -> None:
                for turn in range(40):
                    view = a.alloc(5000 if turn % 5 else 70_000)
                    assert not any(view)
                    view[:] = bytes([number]) * view.nbytes
                    assert set(view) == {number}

            run_threads(*[lambda number=number: body(number) for number in range(1, 4)])
            a.reset()


@both_builds
def test_recycled_memory_is_cleared_before_anybody_has_it(build: str) -> None:
    """Promises 6 and 9: clearing races with handing out; nobody's bytes are cleared, nobody gets uncleared ones."""
    in_process(__file__, "recycled", build)


def close_against_alloc(build: str) -> None:
    choose_build(build)
    for _ in range(100):
        a = bump_region(1 << 20)

        def body(a: Region = a) -> None:
            while True:
                try:
                    view = a.alloc(100)
                    view[:] = b"x" * 100
                except RegionClosedError:
                    return
                except (RegionFullError, ValueError):  # full, or revoked between alloc and use
                    continue

        run_threads(body, body, a.close)
        assert a.closed
        check(a)


@both_builds
def test_close_against_alloc(build: str) -> None:
    """Promise 9: while one thread closes, the others get a valid block or RegionClosedError, nothing else."""
    in_process(__file__, "close_against_alloc", build)


def wait_for_the_lock(build: str) -> None:
    choose_build(build)
    with bump_region(1 << 20) as a:
        lock = a._chunk.lock
        assert lock is not None and a._chunk.limit == -1
        got: list[memoryview] = []
        thread = threading.Thread(target=lambda: got.append(a.alloc(10)))
        with lock:
            thread.start()
            thread.join(0.2)
            assert not got
        thread.join(20)
        assert len(got) == 1


def test_where_threads_run_at_once_there_is_a_lock() -> None:
    """Promise 9: on a Python without a GIL a critical section waits for the one of another thread."""
    in_process(__file__, "wait_for_the_lock", "locked")


def test_where_byte_code_is_uninterruptible_there_is_none() -> None:
    """What is not needed costs nothing: no lock is there, and a critical section is the function as it was written."""
    assert (_atomic.new_lock() is None) == _atomic.atomic
    assert (vars(Chunk)["bump"] in SECTIONS) == _atomic.atomic
