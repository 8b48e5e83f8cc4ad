"""Call sites: where in a program something was made. Kept as code and instruction, a line only when it is told."""

from __future__ import annotations

import os
import sys
from types import CodeType, FrameType
from typing import TypeAlias

CallSite: TypeAlias = "tuple[CodeType, int] | None"

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep  # noqa: PTH100, PTH120  # as co_filename


def is_ours(code: CodeType) -> bool:
    """Whether this is code of the package."""
    return code.co_filename.startswith(_PACKAGE)


def outside(frame: FrameType | None) -> FrameType | None:
    """The first frame that is not of the package, from this one outwards."""
    while frame is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        frame = frame.f_back
    return frame


def here() -> CallSite:
    """Who called the package."""
    frame = outside(sys._getframe(1))
    return None if frame is None else (frame.f_code, frame.f_lasti)


def line_of(code: CodeType, instruction: int) -> int:
    """The line that an instruction was made from; the function's first one when that is not known."""
    for start, stop, line in code.co_lines():
        if start <= instruction < stop and line is not None:
            return line
    return code.co_firstlineno


def told(site: CallSite) -> str:
    """A call site as "file:line in function", relative to the working directory where it lies below."""
    if site is None:
        return "where no Python was running"
    code, instruction = site
    return f"{shown_path(code.co_filename)}:{line_of(code, instruction)} in {code.co_qualname}"


def shown_path(path: str) -> str:
    """A path as it is shown."""
    try:
        below = os.path.relpath(path)
    except (ValueError, OSError):  # on another drive, or the working directory is gone
        return path
    return path if below.startswith("..") or not os.path.isabs(path) else below  # noqa: PTH117  # a str of a code object


def stack_of(frame: FrameType | None) -> tuple[str, ...]:
    """The calls that led there, as a call site each, innermost first; those of the package are left out."""
    lines: list[str] = []
    while frame is not None:
        if not is_ours(frame.f_code):
            lines.append(told((frame.f_code, frame.f_lasti)))
        frame = frame.f_back
    return tuple(lines)
