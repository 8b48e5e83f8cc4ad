"""What type checkers see of `Region.ctypes`: read by mypy and pyright, never run."""

from __future__ import annotations

from collections.abc import Iterator
from ctypes import CFUNCTYPE, Array, Structure, _Pointer, c_char, c_char_p, c_double, c_int, c_uint8
from typing import assert_type

from scopedbump import Region


class Point(Structure):
    x: int
    y: int
    _fields_ = [("x", c_int), ("y", c_int)]


def right(a: Region) -> None:
    c = a.ctypes
    assert_type(c.new(Point), Point)
    assert_type(c.new(Point, 1, y=2), Point)
    assert_type(c.new(c_int, 5), c_int)
    assert_type(c.new(c_int, 5).value, int)
    assert_type(c.new(c_int * 3, 1, 2, 3), Array[c_int])
    assert_type(c.array(c_double, 8), Array[c_double])
    first: float = c.array(c_double, [1.0, 2.0])[0]
    assert_type(c.array(Point, ((n, n) for n in range(3))), Array[Point])
    assert_type(c.string("text"), Array[c_char])
    text: bytes = c.string(b"text").value
    print(first, text)
    assert_type(c.strings(["a", b"b"]), Array[c_char_p])
    assert_type(c.strings(name for name in ("a", "b")), Array[c_char_p])
    assert_type(c.pointer(a.alloc(8)), _Pointer[c_char])
    assert_type(c.pointer(a.alloc(8), Point), _Pointer[Point])
    assert_type(c.pointer(a.alloc(8), Point).contents, Point)
    assert_type(c.slab(Point), Iterator[Point])
    assert_type(next(c.slab(c_uint8)), c_uint8)
    callback = CFUNCTYPE(c_int, c_int)
    c.new(callback, abs)(3)


def wrong(a: Region) -> None:
    c = a.ctypes
    c.new(int)  # type: ignore[type-var]  # pyright: ignore[reportArgumentType]
    c.new(Point())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    c.new("Point")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    c.array(c_double, 1.5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    c.array(str, 3)  # type: ignore[type-var]  # pyright: ignore[reportArgumentType]
    c.string(3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    c.strings([1])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
    c.pointer(3)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    c.pointer(a.alloc(8), int)  # type: ignore[type-var]  # pyright: ignore[reportArgumentType, reportCallIssue]
    c.slab(Point())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    c.slab(Point, 3)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    c.nothing()  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
