"""Allocator: what a library asks for when it needs scratch memory, and the heap for callers who have no region."""

from __future__ import annotations

import sys
from typing import Final, Protocol, final

from scopedbump._exporter import ADDRESS, ffi
from scopedbump._layout import checked_align, checked_int


class Allocator(Protocol):
    """Where memory comes from: a region, a scope, or `heap`.

    A library that takes an `Allocator` lets its caller say how long the memory lives, and never frees any.
    """

    def alloc(self, size: int, align: int = 16, *, zero: bool = True) -> memoryview:
        """A writable memoryview of `size` bytes, format "B". As `Region.alloc`."""
        ...


@final
class HeapAllocator:
    """An Allocator without a region: each block is a bytearray of its own, and lives as long as it is referred to.

    Thread safety: any thread may allocate at any moment.
    """

    __slots__ = ()

    def alloc(self, size: int, align: int = 16, *, zero: bool = True) -> memoryview:
        """Allocate a block from Python's heap.

        Args:
            size: bytes, 0 or more.
            align: what the block's absolute address is a multiple of, in bytes: a power of two.
            zero: here for the sake of the protocol; this memory is always zero.

        Returns:
            A writable memoryview of `size` bytes, format "B".

        Raises:
            TypeError, ValueError: size or align is not of that kind.
            MemoryError: there is not that much.

        Lifetime:
            Nothing is ever revoked: the block lives as long as the view, or what was made from it, does.
        """
        size = checked_int(size, "size", 0)
        align = checked_align(align)
        block = bytearray(min(size + align - 1, sys.maxsize))  # which is refused
        gap = -_address(block) % align
        return memoryview(block)[gap : gap + size]


def _address(block: bytearray) -> int:
    return int(ffi.cast(ADDRESS, ffi.from_buffer(block)))


heap: Final = HeapAllocator()
"""The one HeapAllocator that is needed: it has no state."""

Allocator.__module__ = HeapAllocator.__module__ = "scopedbump"
