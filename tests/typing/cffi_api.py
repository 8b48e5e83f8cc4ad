"""What type checkers see of `Region.cffi`: read by mypy and pyright, never run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, assert_type

import _cffi_backend

from scopedbump import FFI, CData, CffiAllocator, Region, RegionPool, TypedAllocator, heap

generated = _cffi_backend.FFI()


class OwnType:
    kind = "pointer"
    cname = "int *"


class Own:
    """Anything with a `typeof` will do: no stubs of cffi are needed."""

    def typeof(self, cdecl: str, /) -> OwnType:
        return OwnType()


def untyped() -> Any:
    """What `ffi` is to a checker that has no stubs of cffi."""


def library(memory: TypedAllocator) -> CData:
    assert_type(memory.cffi(generated), CffiAllocator)
    assert_type(memory.cffi(untyped()).string("text"), CData)
    return memory.cffi(generated).new("point *")


def all_callers(a: Region, pool: RegionPool) -> None:
    assert_type(library(a), CData)
    assert_type(library(heap), CData)
    with a.scope() as scope, pool.region() as lease:
        library(scope)
        library(lease)
    assert_type(heap.cffi(generated), CffiAllocator)
    library(a.cffi(generated))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    heap.cffi(3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def right(a: Region) -> None:
    c = a.cffi(generated)
    assert_type(c, CffiAllocator)
    assert_type(a.cffi(untyped()), CffiAllocator)
    a.cffi(Own())
    assert_type(c.ffi, FFI)
    assert_type(c.new("point *"), CData)
    assert_type(c.new("point *", {"x": 1}), CData)
    assert_type(c.new(generated.typeof("int *"), 3), CData)
    assert_type(c.string("text"), CData)
    assert_type(c.strings(["a", b"b"]), CData)
    assert_type(c.pointer(a.alloc(8)), CData)
    assert_type(c.pointer(a.alloc(8), "point *"), CData)
    assert_type(c.slab("point *"), Iterator[CData])
    point = c.new("point *")
    point.x = point.y + 1
    point[0].x = 3
    assert_type(len(c.new("int[]", 3)), int)
    assert_type(point + 1, CData)
    assert_type(bool(point), bool)


def wrong(a: Region) -> None:
    c = a.cffi(generated)
    a.cffi(3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    a.cffi("ffi")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    c.new(3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    c.new()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    c.string(3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    c.strings([1])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
    c.pointer(3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    c.slab(3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    len(c)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
