"""Which pages of this process were ever written to: Linux's PAGEMAP_SCAN, since 6.7.

A page that was never written has no memory behind it, neither in RAM nor swapped out. mincore can't tell: a page that
is swapped out is none to it. The file is opened for each question: one that is kept would be the parent's after a fork.
Source: linux/include/uapi/linux/fs.h and Documentation/admin-guide/mm/pagemap.rst.
"""

from __future__ import annotations

import os
import sys
from mmap import PAGESIZE
from struct import pack, unpack_from

from .._lifetime import ADDRESS, ffi

assert sys.platform != "win32"  # for type checkers, which look at this file on every platform

_PAGEMAP_SCAN = 0xC0606610  # _IOWR('f', 16, struct pm_scan_arg)
_ARG = "12Q"  # size, flags, start, end, walk_end, vec, vec_len, max_pages, and which pages: inverted, all, any, told
_ARG_BYTES = 96
_WALK_END_AT = 32
_REGION = "3Q"  # struct page_region: start, end, categories
_REGION_BYTES = 24
_PRESENT_OR_SWAPPED = 1 << 3 | 1 << 4
_AT_ONCE = 64


def touched(address: int, size: int) -> list[tuple[int, int]]:
    """The parts of [address, address + size) that have memory behind them; all of it where the kernel does not say."""
    end = address + size
    try:
        found = _scan(address & -PAGESIZE, end)  # it takes whole pages
    except (OSError, ImportError):
        return [(address, end)]
    return [(max(first, address), min(last, end)) for first, last in found]


def _scan(start: int, end: int) -> list[tuple[int, int]]:
    from fcntl import ioctl

    found: list[tuple[int, int]] = []
    regions = bytearray(_REGION_BYTES * _AT_ONCE)
    vector = int(ffi.cast(ADDRESS, ffi.from_buffer(regions)))
    pagemap = os.open("/proc/self/pagemap", os.O_RDONLY | os.O_CLOEXEC)
    try:
        while start < end:
            which = (0, 0, _PRESENT_OR_SWAPPED, _PRESENT_OR_SWAPPED)
            arg = bytearray(pack(_ARG, _ARG_BYTES, 0, start, end, 0, vector, _AT_ONCE, 0, *which))
            for index in range(ioctl(pagemap, _PAGEMAP_SCAN, arg)):
                first, last, _ = unpack_from(_REGION, regions, _REGION_BYTES * index)
                found.append((first, last))
            (walked,) = unpack_from("Q", arg, _WALK_END_AT)
            if walked <= start:
                raise OSError("the walk does not go on")
            start = walked
    finally:
        os.close(pagemap)
    return found
