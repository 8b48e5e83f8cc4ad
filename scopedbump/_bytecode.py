"""Where CPython may interrupt a function: two of the tables beside its byte code, changed here.

Other implementations have no such tables, and other switch points: there both leave the function as it is.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType
    from typing import Any, TypeVar

    Function = TypeVar("Function", bound=Callable[..., Any])

cpython: bool = sys.implementation.name == "cpython"


def on_one_line(function: Function) -> Function:
    """The function, its byte code attributed to the line where it begins: a tracer gets one event, before all of it."""
    if cpython:
        code: CodeType = function.__code__
        # Objects/locations.md of CPython: an entry of kind 13, a line without columns, for eight code units or less,
        # and by how much the line differs from that of the entry before.
        entries, rest = divmod(len(code.co_code) // 2, 8)
        table = b"\xef\x00" * entries + (bytes((0xE7 + rest, 0)) if rest else b"")
        function.__code__ = code.replace(co_linetable=table)
    return function


def try_from_entry(function: Function) -> Function:
    """Let the first `try` of the function protect it from its entry on.

    CPython looks for signals when it enters a function, before any line of it, and what a signal handler raises there
    passes by a `try` that begins with the first line. So the table of what is protected gets an entry more.
    """
    if cpython:
        code: CodeType = function.__code__
        # Objects/exception_handling_notes.txt of CPython: start, length, target and depth, each in groups of six bits,
        # the high ones first, bit 6 set in all but the last of a number, bit 7 in the first byte of an entry.
        table = code.co_exceptiontable
        numbers: list[bytes] = []
        for byte in table:
            if numbers and numbers[-1][-1] & 0x40:
                numbers[-1] += bytes((byte,))
            elif len(numbers) < 4:
                numbers.append(bytes((byte,)))
            else:
                break
        start, _, target, depth = numbers
        length = bytes((start[0] & 0x7F,)) + start[1:]  # of what lies before it
        entry = b"\x80" + length + target + depth
        function.__code__ = code.replace(co_exceptiontable=entry + table)
    return function
