"""Alignment, rounding and steps: pure integers, the same on every system."""

from __future__ import annotations

ALIGN = 16
"""The default alignment in bytes: what malloc gives, enough for every standard C type and for SSE."""

WINDOW = 1 << 15
"""How far, in bytes, memory is zeroed ahead of a cursor.

The slow path is entered once a window. Small, so that dead views and cleared memory stay in the cache: with 64-byte
blocks 512 views are made before they are pruned, too few to set off the garbage collector."""

PAGE = 1 << 12
"""The largest alignment that needs no look at an address: reservations start at a page, here and everywhere."""

SMALL_PAGES = 1 << 22
"""Up to where a region lies in pages of the ordinary size, in bytes: a little use costs a little. Behind it, and in a
block that reaches there, huge pages are used where they can be, for small ones cost a fault each."""

HUGE_PAGE = 1 << 21
"""Bytes of a huge page."""

LARGE_CLEAR = 1 << 21
"""From how many bytes on it is worth to ask what of them was written before they are cleared."""

FIRST_COMMIT = 1 << 20
MAX_COMMIT_STEP = 1 << 26


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
