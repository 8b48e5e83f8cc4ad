"""For the tests that do something in the middle of something else: the moments at which that can happen, and a ledger.

Whatever may crash runs in a process of its own: `in_process(__file__, "function", ...)` calls a function of a test
module there, and a failure shows the line that repeats it.
"""

from __future__ import annotations

import dis
import gc
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FrameType
from typing import TYPE_CHECKING, Any

import pytest

import scopedbump
from helpers import TESTS
from helpers.support import collect as collect_where_nothing_counts
from helpers.support import end_quarantine
from scopedbump import _atomic, _lifetime, _options, _pages, _pool, _reservation, _views, bump_region

if TYPE_CHECKING:
    from scopedbump._pages import Pages

PACKAGE = str(Path(scopedbump.__file__).parent)
RECORDS = [
    (f"{module.__name__}.{name}", records)
    for module in (_reservation, _lifetime, _pool, _views, _atomic)
    for name, records in vars(module).items()
    if isinstance(records, (set, dict, list)) and not name.startswith("__")
    if records is not _atomic.critical_sections and records is not _atomic.fast_paths
]
"""What the package itself keeps of memory that is in use or on its way back: nothing in the end."""
CPYTHON = sys.implementation.name == "cpython"
SLOWER = 1 if CPYTHON else 4
"""By what to divide rounds that end in a ledger: where nothing counts references, each is settled by 18 collections."""

both_builds = pytest.mark.parametrize("build", ["as-here", "locked"])
here_and_long_in_both = pytest.mark.parametrize("build", ["as-here", pytest.param("locked", marks=pytest.mark.long)])
needs_cpython = pytest.mark.skipif(not CPYTHON, reason="counts on CPython's byte code and reference counts")


def choose_build(build: str) -> None:
    """Whether this process has regions as this interpreter has them, or as one without a GIL has: see `in_process`."""
    assert (build == "locked") <= (not _atomic.atomic), "the build is chosen before the package is imported"


def in_process(file: str, function: str, *arguments: object, timeout: float = 100, **settings: str) -> str:
    """Call `function(*arguments)` of the test module `file` in a process of its own; what it printed.

    With "locked" among the arguments the package is there as it is on a Python without a GIL: critical sections have
    locks. That is decided when they are defined.
    """
    module = ".".join(Path(file).relative_to(TESTS).with_suffix("").parts)
    code = "import scopedbump._atomic as atomic; atomic.atomic = False; " if "locked" in arguments else ""
    code += f"import sys; sys.path.insert(0, {str(TESTS)!r}); import {module} as m; "
    code += f"m.{function}({', '.join(map(repr, arguments))})"
    command = [sys.executable, "-X", "faulthandler", "-W", "error", "-W", "ignore::ResourceWarning", "-c", code]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False, **settings)  # type: ignore[call-overload]  # only env and the like
    except subprocess.TimeoutExpired as late:
        pytest.fail(f"no end after {timeout} s; to repeat it:\n{command}\n{late.stdout!r}\n{late.stderr!r}")
    if done.returncode:
        pytest.fail(f"exit status {done.returncode}; to repeat it:\n{command}\n{done.stdout}\n{done.stderr}")
    return str(done.stdout)


class Book:
    """The system's pages, and a book of what is reserved that no exception can bring into disorder."""

    def __init__(self, pages: Pages) -> None:
        self._pages = pages
        self.page_size = pages.page_size
        self.granularity = pages.granularity
        self.commit = pages.commit
        self.decommit = pages.decommit
        self.discard = pages.discard
        self.reserved: dict[int, int] = {}
        self.strict = True

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pages, name)

    def reserve(self, size: int, taken: list[int]) -> None:
        try:
            self._pages.reserve(size, taken)
        finally:
            self.reserved.update(zip(taken, taken, strict=True))

    def release(self, taken: Iterator[int], size: int) -> Iterator[object]:
        return self._pages.release(map(self.reserved.pop, taken), size)  # all of it in C


@contextmanager
def ledger() -> Iterator[Book]:
    """Every reservation is entered in a book, empty in the end; the package's own lists have nothing new."""
    if _options.debug_by_default:
        bump_region().close()  # the first one makes the fault handler, which stays
    end_quarantine()
    before = _pages.system_pages
    known = [list(records) for _, records in RECORDS]
    book = Book(before)
    _pages.system_pages = book
    try:
        yield book
        settle()
        if not book.strict:
            for _, records in RECORDS:
                records.clear()
            return
        end_quarantine()
        assert not book.reserved, f"{len(book.reserved)} reservations were not given back"
        for (name, records), old in zip(RECORDS, known, strict=True):
            left = [record for record in records if record not in old]
            assert not left, f"{name} has {left} left"
    finally:
        _pages.system_pages = before


def collect() -> None:
    gc.collect()
    collect_where_nothing_counts()


def settle() -> None:
    """Let what is dead die, and run the next operation after whatever happened: that retires what an exception left."""
    collect()
    with bump_region(4096) as again:
        again.alloc(1)
    del again
    collect()


_BREAKS = ("CALL", "RESUME", "JUMP_BACKWARD", "SEND", "YIELD", "LOAD_ATTR_PROPERTY")
_looked_up: dict[CodeType, tuple[set[int], set[int]]] = {}


def breaks(code: CodeType) -> tuple[set[int], set[int]]:
    """The offsets before which CPython may let signal handlers, other threads and the collector in.

    And those to leave alone: an exception before POP_EXCEPT or NOT_TAKEN, which can't raise, passes by the handlers.
    """
    found = _looked_up.get(code)
    if found is None:
        offsets: set[int] = set()
        closed: set[int] = set()
        before = ""
        for instruction in dis.get_instructions(code):
            if before.startswith(_BREAKS):
                offsets.add(instruction.offset)
            if instruction.opname in ("POP_EXCEPT", "NOT_TAKEN"):
                closed.add(instruction.offset)
            if instruction.opname.startswith("JUMP_BACKWARD") and isinstance(instruction.argval, int):
                offsets.add(instruction.argval)
            if instruction.opname != "CACHE":
                before = instruction.opname
        _looked_up[code] = found = offsets, closed
    return found


class Moment:
    """Where the action of `at_moment` came in."""

    happened = False
    possible = False
    """Whether CPython lets handlers in there; if not, it is inside a stretch that nothing real can interrupt."""
    place = ""
    error: type[BaseException] | None = None


def at_moment(
    number: int, action: Callable[[], object], body: Callable[[], object], everywhere: bool = False
) -> Moment:
    """Run `body` and, in it, `action` once, at the N-th moment (from 0) inside the package.

    A moment is where a handler could come in, or every byte code. What `action` raises comes out of the place where
    `body` was, and ends up in this function's caller as `Moment.error`.
    """
    count = -1
    moment = Moment()

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal count
        if not frame.f_code.co_filename.startswith(PACKAGE):
            return None
        frame.f_trace_opcodes = True
        offsets, closed = breaks(frame.f_code)
        possible = frame.f_lasti in offsets
        if event == "opcode" and not moment.happened and (possible or (everywhere and frame.f_lasti not in closed)):
            count += 1
            if count == number:
                moment.happened, moment.possible = True, possible
                moment.place = f"{frame.f_code.co_qualname}, line {frame.f_lineno}"
                sys.settrace(None)
                action()
        return trace

    sys._getframe().f_trace_opcodes = True  # before 3.13 settrace looks whether anybody wants byte codes
    sys.settrace(trace)
    try:
        body()
    except BaseException as error:  # noqa: BLE001  # told to the caller
        moment.error = type(error)
    finally:
        sys.settrace(None)
    return moment
