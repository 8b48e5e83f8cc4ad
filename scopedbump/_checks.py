"""The checks of arguments: a clear error that names the value, before anything has changed."""

from __future__ import annotations

import sys
from _operator import index

from . import _hints as hints
from ._layout import ALIGN

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ._pool import RegionPool


def checked_escape(value: hints.Escape) -> hints.Escape:
    """An escape policy, or ValueError with the value in the message."""
    if not isinstance(value, str) or value not in ("keep", "warn", "raise"):
        raise ValueError(f"escape must be 'keep', 'warn' or 'raise', not {value!r}")
    return value


def checked_int(value: object, what: str, least: int) -> int:
    """`value` as a plain int from `least` to sys.maxsize, or TypeError or ValueError with the value in the message."""
    if type(value) is int and least <= value <= sys.maxsize:
        return value
    if not hasattr(type(value), "__index__"):
        raise TypeError(f"{what} must be an int, not {_brief(value)} ({type(value).__name__})")
    number = index(value)  # type: ignore[arg-type]  # it has __index__, as the line above saw
    if number < least:
        raise ValueError(f"{what} must be {'positive' if least else 'zero or more'}, not {_shown(number)}")
    if number > sys.maxsize:
        raise ValueError(f"{what} must be at most {sys.maxsize}, not {_shown(number)}")
    return number


def checked_align(value: object) -> int:
    """An alignment in bytes: a power of two."""
    if value is ALIGN:
        return ALIGN
    align = checked_int(value, "align", 1)
    if align & (align - 1):
        raise ValueError(f"align must be a power of two, not {align}")
    return align


def checked_name(value: str) -> str:
    """The name of a region or pool."""
    if not isinstance(value, str):
        raise TypeError(f"name must be a str, not {value!r}")
    return value


def checked_pool(value: RegionPool | None) -> RegionPool:
    """The pool that a middleware was given, or one of its own."""
    from ._pool import RegionPool

    if value is None:
        return RegionPool(name="request")
    if not isinstance(value, RegionPool):
        raise TypeError(f"pool must be a RegionPool or None, not {value!r}")
    return value


def _brief(value: object) -> str:
    import reprlib

    # reprlib goes by the bare name of the class, and would take any class of the name "array" for array.array.
    return reprlib.repr(value) if type(value).__module__ == "builtins" else reprlib.aRepr.repr_instance(value, 1)


def _shown(number: int) -> str:
    # Python refuses to print an int of more than 4300 digits.
    return (
        str(number) if number.bit_length() < 256 else f"{'-' if number < 0 else ''}2**{number.bit_length() - 1} or so"
    )
