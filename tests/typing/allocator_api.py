"""What type checkers see of `Allocator` and the heap: read by mypy and pyright, never run."""

from __future__ import annotations

from ctypes import Array, Structure, c_char, c_int
from typing import assert_type

from scopedbump import Allocator, CtypesAllocator, HeapAllocator, Region, TypedAllocator, bump_region, heap


def library(memory: Allocator, size: int) -> memoryview:
    return memory.alloc(size, 64, zero=False)


class Point(Structure):
    x: int
    _fields_ = [("x", c_int)]


def typed_library(memory: TypedAllocator) -> Point:
    library(memory, 3)
    assert_type(memory.ctypes, CtypesAllocator)
    assert_type(memory.ctypes.string("text"), Array[c_char])
    return memory.ctypes.new(Point, 1)


class Own:
    def alloc(self, size: int, align: int = 16, *, zero: bool = True) -> memoryview:
        raise NotImplementedError


class Stranger:
    def alloc(self, size: str) -> bytes:
        raise NotImplementedError


def right(a: Region) -> None:
    assert_type(library(a, 3), memoryview)
    library(heap, 3)
    library(Own(), 3)
    with bump_region() as region, region.scope() as scope:
        library(region, 3)
        library(scope, 3)
        typed_library(region)
        typed_library(scope)
    typed_library(heap)
    assert_type(heap, HeapAllocator)
    assert_type(heap.ctypes.new(Point), Point)
    assert_type(heap.ctypes, CtypesAllocator)
    assert_type(heap.alloc(3), memoryview)


def wrong(a: Region) -> None:
    library(Stranger(), 3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    typed_library(Own())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    heap.ctypes.new(int)  # type: ignore[type-var]  # pyright: ignore[reportArgumentType]
    library(bytearray(3), 3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    library(a, "3")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    heap.alloc("3")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    heap.alloc(3, 16, True)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    heap.free(3)  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
