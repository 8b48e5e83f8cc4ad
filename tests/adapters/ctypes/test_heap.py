"""`heap.ctypes`: what `Region.ctypes` gives, each object by itself and garbage collected as usual."""

from __future__ import annotations

import ctypes
import gc
import sys
import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from ctypes import (
    CFUNCTYPE,
    POINTER,
    Structure,
    Union,
    c_char,
    c_char_p,
    c_double,
    c_int,
    c_void_p,
    c_wchar_p,
    py_object,
)
from typing import Any

import pytest

from helpers.support import collect, counts_references
from scopedbump import TypedAllocator, bump_region, heap
from scopedbump._heap_memory import HeapMemory

Unary = CFUNCTYPE(c_int, c_int)


class Point(Structure):
    _fields_ = [("x", c_int), ("y", c_int)]


class Either(Union):
    _fields_ = [("number", c_int), ("pointer", c_void_p)]


class Config(Structure):
    _fields_ = [
        ("name", c_char_p),
        ("argv", POINTER(c_char_p)),
        ("point", POINTER(Point)),
        ("either", Either),
        ("call", Unary),
        ("wide", c_wchar_p),
    ]


def scope() -> AbstractContextManager[TypedAllocator]:
    region = bump_region()
    inner = region.scope()

    class Both:
        def __enter__(self) -> TypedAllocator:
            return inner

        def __exit__(self, *_: object) -> None:
            region.close()

    return Both()


each = pytest.mark.parametrize(
    "opened", [bump_region, scope, lambda: nullcontext(heap)], ids=["region", "scope", "heap"]
)
Opened = Callable[[], AbstractContextManager[TypedAllocator]]


def made_by_a_library(memory: TypedAllocator) -> Config:
    """What a library gives its caller: nothing but the struct is held."""
    c = memory.ctypes
    config = c.new(
        Config,
        c.string("worker"),
        argv=c.strings(["run", b"-v"]),
        point=c.new(Point, 3, 4),
        either=(0, c.array(c_int, [5, 6])),
        call=c.new(Unary, lambda number: 2 * number),
    )
    config.wide = "assigned later"
    return config


@each
def test_a_library_can_not_tell_where_its_objects_lie(opened: Opened) -> None:
    """The same objects, fields and bytes from a region, a scope and the heap; the caller holds only what it got."""
    with opened() as memory:
        config = made_by_a_library(memory)
        gc.collect()
        junk = [bytes(48) for _ in range(9999)], [Unary(lambda number: -number) for _ in range(99)]
        assert (config.name, config.argv[:3], config.wide) == (b"worker", [b"run", b"-v", None], "assigned later")
        assert (config.point.contents.x, config.point.contents.y, config.call(21)) == (3, 4, 42)
        assert list((c_int * 2).from_address(config.either.pointer or 0)) == [5, 6]
        del junk, config


@each
@pytest.mark.parametrize(
    "kind", [Point, Either, Config, c_int, c_char, c_double, c_char_p, c_void_p, py_object, c_int * 3, POINTER(Point),
             Unary, c_int * 0], ids=lambda kind: kind.__name__)  # fmt: skip
def test_objects_are_zero_and_aligned(opened: Opened, kind: Any) -> None:
    """Of every kind, from `new` and `slab`: of the type, zero, aligned."""
    with opened() as memory:
        c = memory.ctypes
        made = [c.new(kind), c.new(kind)]
        if ctypes.sizeof(kind):
            slab = c.slab(kind)
            made += [next(slab) for _ in range(30)]
        assert all(type(item) is kind for item in made)
        assert not any(any(memoryview(item).cast("B")) for item in made if ctypes.sizeof(kind))
        assert all(ctypes.addressof(item) % ctypes.alignment(kind) == 0 for item in made)
        assert len({ctypes.addressof(item) for item in made}) == len(made) or not ctypes.sizeof(kind)
        del made


@each
def test_the_same_is_refused(opened: Opened) -> None:
    """Wrong types and values raise what they raise everywhere."""
    with opened() as memory:
        c = memory.ctypes
        view = memory.alloc(3)
        calls: list[tuple[type[Exception], Callable[[], object]]] = [
            (TypeError, lambda: c.new(int)),  # type: ignore[type-var]
            (TypeError, lambda: c.new(Point, "x")),
            (TypeError, lambda: c.new(Config, point=c.new(c_int))),
            (TypeError, lambda: c.new(Config, call=len)),
            (ValueError, lambda: c.array(c_int, -1)),
            (OverflowError, lambda: c.array(c_int, 1 << 61)),
            (ValueError, lambda: c.string("a\0b")),
            (TypeError, lambda: c.strings("abc")),
            (ValueError, lambda: c.slab(c_int * 0)),
            (ValueError, lambda: c.pointer(view, Point)),
            (TypeError, lambda: c.pointer(view.toreadonly())),
            (TypeError, lambda: c.pointer(view[::2])),
            (TypeError, lambda: c.pointer(3)),  # type: ignore[call-overload]
        ]
        for error, call in calls:
            with pytest.raises(error):
                call()


def test_a_pointer_of_the_heap_leads_anywhere() -> None:
    """Any buffer, any ctypes object: it is kept."""
    c = heap.ctypes
    pointer = c.pointer(bytearray(b"\1\0\0\0"), c_int)
    gc.collect()
    assert pointer[0] == int.from_bytes(b"\1\0\0\0", sys.byteorder)
    assert c.new(Config, ctypes.create_string_buffer(b"plain")).name == b"plain"
    assert ctypes.addressof(c.pointer(bytearray()).contents)
    with bump_region() as a:
        name = a.ctypes.string("of a region")
        config = c.new(Config, name)
        del name
    assert config.name == b"of a region"
    assert not a.released
    del config
    collect()
    assert a.released


@counts_references
def test_each_object_goes_by_itself() -> None:
    """By its count, and what it refers to with it; a slab keeps none of those that were dropped."""
    gc.collect()
    gc.disable()
    try:
        c = heap.ctypes
        target = c.new(Point, 1, 2)
        gone = weakref.ref(target)
        config = c.new(Config, either=(0, target), point=target)
        del target
        assert gone() is not None
        del config
        assert gone() is None
        slab = c.slab(Point)
        one, two = next(slab), next(slab)
        kept = weakref.ref(one), weakref.ref(two)
        del one
        assert kept[0]() is None and kept[1]() is two
        memory = weakref.ref(c.string("text"))
        assert memory() is None
    finally:
        gc.enable()


@counts_references
def test_dropped_objects_take_no_memory() -> None:
    """Ten thousand of each leave nothing behind."""
    c = heap.ctypes
    blocks = 0
    for round_ in range(2):
        for number in range(5000):
            c.new(Point, number)
            c.strings(["a", "b"])
            made_by_a_library(heap)
            next(c.slab(c_char_p))
        gc.collect()
        if round_ == 0:
            blocks = sys.getallocatedblocks()
    assert sys.getallocatedblocks() - blocks < 500


@pytest.mark.parametrize(("size", "align"), [(1, 1), (24, 8), (100, 4), (16, 16), (0, 8)])
def test_a_block_ends_where_its_object_does(size: int, align: int) -> None:
    """So tools that watch the heap see who writes behind it. An empty one has a byte that can be read."""
    view, start, _, address = HeapMemory().alloc_raw(size, align)
    assert view.nbytes == max(size, 1) and start == 0 and address % align == 0


@pytest.mark.parametrize("align", [64, 4096, 1 << 16])
def test_a_large_alignment_is_kept(align: int) -> None:
    """Promise 7, on the heap: such a block has a gap before the object."""
    view, start, _, address = HeapMemory().alloc_raw(100, align)
    assert address % align == 0 and view.nbytes >= start + 100
    assert ctypes.addressof(c_char.from_buffer(view, start)) == address


@pytest.mark.skipif(sys.version_info < (3, 13), reason="ctypes has _align_ since 3.13")
def test_an_alignment_of_the_types_own_is_kept() -> None:
    """Which ctypes itself does not do."""

    class Vector(Structure):
        _align_ = 64
        _fields_ = [("v", c_double * 4)]

    slab = heap.ctypes.slab(Vector)
    for made in [heap.ctypes.new(Vector), *(next(slab) for _ in range(20)), heap.ctypes.array(Vector, 2)]:
        assert ctypes.addressof(made) % 64 == 0
