"""Alignment, rounding and the checks of arguments: pure integers, the same on every system."""

from __future__ import annotations

import sys
from _operator import index

ALIGN = 16
"""The default alignment in bytes: what malloc gives, enough for every standard C type and for SSE."""

WINDOW = 1 << 15
"""How far, in bytes, memory is zeroed ahead of a cursor.

The slow path is entered once a window. Small, so that dead views and cleared memory stay in the cache: with 64-byte
blocks 512 views are made before they are pruned, too few to set off the garbage collector."""

PAGE = 1 << 12
"""The largest alignment that needs no look at an address: reservations start at a page, here and everywhere."""

SMALL_PAGES = 1 << 22
"""Up to where a region lies in pages of the ordinary size, in bytes: a little use costs a little. Behind it huge pages
are used where they can be, for there a fault for each small page costs more than all the rest."""

HUGE_PAGE = 1 << 21
"""Bytes of a huge page."""

LARGE_CLEAR = 1 << 21
"""From how many bytes on it is worth to ask what of them was written before they are cleared."""

FIRST_COMMIT = 1 << 20
MAX_COMMIT_STEP = 1 << 26
FIRST_AHEAD = 1 << 16
MAX_AHEAD_STEP = 1 << 22


def round_up(value: int, align: int) -> int:
    """The smallest multiple of `align`, a power of two, that is not below `value`."""
    return (value + align - 1) & -align


def place(address: int, cursor: int, align: int) -> int:
    """Where a block starts that goes behind `cursor` in a range at `address`, with its absolute address aligned."""
    return (address + cursor + align - 1 & -align) - address


def commit_target(committed: int, needed: int, size: int, page: int, gaps: int = 0) -> int:
    """Up to where to commit when `needed` bytes must be usable: doubling, so that system calls stay rare.

    So many bytes before `committed` are `gaps`, which are not.
    """
    step = min(max(committed - gaps, FIRST_COMMIT), MAX_COMMIT_STEP)
    return min(round_up(max(needed, committed + step), page), round_up(size, page))


def ahead_target(start: int, committed: int, needed: int, edge: int, page: int) -> int:
    """The same for what was taken ahead at `start`, up to `edge`: smaller steps, for it may stay small.

    They end where huge pages do, once these are used: a page is huge only when all of it is usable.
    """
    step = min(max(committed - start, FIRST_AHEAD), MAX_AHEAD_STEP)
    target = round_up(max(needed, committed + step), page if needed <= SMALL_PAGES else HUGE_PAGE)
    return min(target, edge)


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


def _brief(value: object) -> str:
    import reprlib

    # reprlib goes by the bare name of the class, and would take any class of the name "array" for array.array.
    return reprlib.repr(value) if type(value).__module__ == "builtins" else reprlib.aRepr.repr_instance(value, 1)


def _shown(number: int) -> str:
    # Python refuses to print an int of more than 4300 digits.
    return (
        str(number) if number.bit_length() < 256 else f"{'-' if number < 0 else ''}2**{number.bit_length() - 1} or so"
    )
