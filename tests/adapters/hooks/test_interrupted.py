"""Promises 5 and 9 at the hooks: signals and RecursionErrors at every moment, and C never sees an exception."""

from __future__ import annotations

import random
import signal
import sys
from typing import Any

import pytest

from helpers.invariants import check
from helpers.stress import at_moment, in_process, needs_cpython
from scopedbump import bump_region

cffi: Any = pytest.importorskip("cffi", reason="in-line ffi objects need the whole of cffi")

ffi: Any = cffi.FFI()
ffi.cdef(
    """
    typedef struct { void *(*malloc)(size_t); void *(*realloc)(void *, size_t); void (*free)(void *); } suite;
    typedef struct XML_ParserStruct *XML_Parser;
    XML_Parser XML_ParserCreate_MM(const char *, const suite *, const char *);
    int XML_Parse(XML_Parser, const char *, int, int);
    """
)
NULL: Any = ffi.NULL
DOCUMENT = b"<r>" + b"".join(b"<item%d x='%d'>text</item%d>" % (n, n, n) for n in range(400)) + b"</r>"


class AlarmError(Exception):
    """What a signal handler raises."""


def ring(*_: object) -> None:
    """A signal handler."""
    raise AlarmError("with", "arguments")


class Functions:
    """The functions of one region."""

    def __init__(self, region: Any) -> None:
        hooks = self.hooks = region.cffi(ffi).hooks()
        self.malloc: Any = hooks.malloc("void *(*)(size_t)", "size")
        self.calloc: Any = hooks.calloc("void *(*)(size_t, size_t)", "count size")
        self.realloc: Any = hooks.realloc("void *(*)(void *, size_t)", "ptr size")


def call(functions: Functions, got: list[Any]) -> None:
    """Call each, on fast and slow paths."""
    got.append(functions.malloc(100))
    got.append(functions.malloc(40_000))
    got.append(functions.calloc(1000, 50))
    block = functions.realloc(NULL, 10)
    got.append(functions.realloc(block, 20))
    got.append(functions.realloc(got[0], 200))


def at_every_moment(first: int, step: int) -> None:
    """Interrupt the calls once at each moment at which CPython lets a signal handler in."""
    number, happened, whole = first, True, 0
    while happened:
        with bump_region(1 << 20) as a:
            functions = Functions(a)
            got: list[Any] = []
            moment = at_moment(number, ring, lambda: call(functions, got))  # noqa: B023  # called at once
            happened = moment.happened
            assert not happened or moment.error is AlarmError, (number, moment.place, moment.error)
            assert all(block != NULL for block in got), (number, moment.place)
            assert functions.hooks.refused is None
            whole += len(got)
            check(a)
        del functions, got
        number += step
    assert number > 40


@needs_cpython
@pytest.mark.parametrize("first", [0, 1])
def test_an_exception_at_any_moment_arrives_and_no_call_fails(first: int) -> None:
    """C gets its block, and the exception comes out as it is, wherever it came in."""
    in_process(__file__, "at_every_moment", first, 2)


def alarms(rounds: int) -> None:
    """Alarms at random moments, while C parses: they come in at the entry of a callback as a rule."""
    from helpers.hook_libraries import LIBRARIES, expat_parser
    from helpers.hook_libraries import ffi as libraries

    lib = next(library for library in LIBRARIES if library.name == "expat").open()
    if lib is None:
        print("no expat here")
        return
    generator = random.Random(1)
    signal.signal(signal.SIGALRM, ring)
    heard = 0
    with bump_region(1 << 26) as a:
        for _ in range(rounds):
            with a.scope() as scope:
                hooks = scope.cffi(libraries).hooks()
                parser = expat_parser(lib, hooks)
                try:
                    signal.setitimer(signal.ITIMER_REAL, generator.uniform(1e-5, 5e-4))
                    assert lib.XML_Parse(parser, b"<r>", 3, 0) == 1
                    while True:
                        assert lib.XML_Parse(parser, DOCUMENT, len(DOCUMENT), 0) == 1
                except AlarmError as alarm:
                    heard += alarm.args == ("with", "arguments")
                assert lib.XML_GetErrorCode(parser) == 0 and hooks.refused is None
    assert heard == rounds


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="there are no interval timers")
@needs_cpython
def test_alarms_while_c_allocates_are_all_heard() -> None:
    """None is lost, and no allocation fails for it."""
    in_process(__file__, "alarms", 300)


def at_every_depth() -> None:
    """Call at each depth of the stack, down to where none is left."""
    with bump_region(1 << 22) as a:
        functions = Functions(a)
        outcomes: set[str] = set()

        def down(depth: int) -> None:
            if depth:
                down(depth - 1)
                return
            for function, arguments in (
                (functions.malloc, (100,)),
                (functions.malloc, (40_000,)),
                (functions.realloc, (NULL, 100)),
            ):
                try:
                    block = function(*arguments)
                except RecursionError:
                    outcomes.add("raised")
                else:
                    outcomes.add("null" if block == NULL else "block")
                    if block != NULL:
                        ffi.buffer(block, 100)[:] = b"x" * 100

        sys.setrecursionlimit(150)
        for depth in range(60, 160):
            try:
                down(depth)
            except RecursionError:
                break
        sys.setrecursionlimit(1000)
        assert functions.malloc(100) != NULL
        check(a)
    assert "block" in outcomes
    print(outcomes)


@needs_cpython
def test_without_a_stack_there_is_no_memory() -> None:
    """At any depth C gets a block or NULL, and the region goes on."""
    in_process(__file__, "at_every_depth")


def expat_interrupted() -> None:
    """Interrupt a parse at each moment: the document is parsed all the same."""
    try:
        lib = ffi.dlopen("libexpat.so.1")
    except OSError:
        print("no expat here")
        return
    number, happened = 0, True
    while happened:
        with bump_region(1 << 20) as a:
            hooks = a.cffi(ffi).hooks()
            suite = ffi.new(
                "suite *",
                (
                    hooks.malloc("void *(*)(size_t)", "size"),
                    hooks.realloc("void *(*)(void *, size_t)", "ptr size"),
                    hooks.free("void (*)(void *)", "ptr"),
                ),
            )
            parser = lib.XML_ParserCreate_MM(NULL, suite, NULL)
            results: list[int] = []
            moment = at_moment(
                number,
                ring,
                lambda: results.append(lib.XML_Parse(parser, DOCUMENT, len(DOCUMENT), 1)),  # noqa: B023
            )
            happened = moment.happened
            assert not happened or moment.error is AlarmError, (number, moment.place, moment.error)
            assert results in ([], [1])
            if not results:
                assert happened
        number += 2 + number // 20  # the same moments come again and again
    assert number > 40


@needs_cpython
def test_a_library_ends_what_it_began() -> None:
    """However an exception comes in between its allocations."""
    in_process(__file__, "expat_interrupted")
