"""Allocators: what a library asks for when it needs scratch memory, and the heap for callers who have no region."""

from __future__ import annotations

import sys
from functools import cache
from typing import Final, Protocol, final

from . import _hints as hints
from ._checks import checked_align, checked_int
from ._lifetime import ADDRESS, ffi


class Allocator(Protocol):
    """Where memory comes from: a region, a scope, or `heap`.

    A library that takes an `Allocator` lets its caller say how long the memory lives, and never frees any.
    """

    def alloc(self, size: int, align: int = 16, *, zero: bool = True) -> memoryview:
        """A writable memoryview of `size` bytes, format "B". As `Region.alloc`."""
        ...


class TypedAllocator(Allocator, Protocol):
    """An Allocator that makes objects of C too: a region, a scope, or `heap`.

    For a library that fills structs for C functions, or hands them to its caller.
    """

    @property
    def ctypes(self) -> hints.CtypesAllocator:
        """Makes ctypes objects. As `Region.ctypes`."""
        ...

    def cffi(self, ffi: hints.FFI) -> hints.CffiAllocator:
        """Makes cffi objects of `ffi`'s types. As `Region.cffi`."""
        ...


@final
class HeapAllocator:
    """A TypedAllocator without a region: each block is by itself, and lives as long as it is referred to.

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

    @property
    def ctypes(self) -> hints.CtypesAllocator:
        """Makes ctypes objects, each in a block of its own that is garbage collected as usual.

        Strings and pointers keep what they lead to, and a pointer may lead to any ctypes object. The block ends where
        the object does: under `PYTHONMALLOC=malloc` Valgrind and sanitizers check it as they check any memory of C.
        """
        return _ctypes()

    def cffi(self, ffi: hints.FFI) -> hints.CffiAllocator:
        """Makes cffi objects of `ffi`'s types, each of which owns its memory and is garbage collected as usual.

        An object keeps what its initializer leads to, and a table of strings the strings. Valgrind and sanitizers see
        each by itself, under `PYTHONMALLOC=malloc`.
        """
        from ._adapters.cffi_ import HeapObjects

        return HeapObjects(ffi)

    def __repr__(self) -> str:
        return "scopedbump.heap"


@cache
def _ctypes() -> hints.CtypesAllocator:
    from ._adapters.ctypes_ import CtypesAllocator
    from ._heap_memory import HeapMemory

    return CtypesAllocator(HeapMemory())


def _address(block: bytearray) -> int:
    return int(ffi.cast(ADDRESS, ffi.from_buffer(block)))


heap: Final = HeapAllocator()
"""The one HeapAllocator that is needed: it has no state."""

Allocator.__module__ = TypedAllocator.__module__ = HeapAllocator.__module__ = "scopedbump"
