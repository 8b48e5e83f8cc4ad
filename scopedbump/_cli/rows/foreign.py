"""Objects of ctypes and cffi inside a region."""

from __future__ import annotations

import ctypes
from collections.abc import Generator
from typing import TYPE_CHECKING

from ... import bump_region
from ..measure import Sides, UnavailableError, loop
from . import row

if TYPE_CHECKING:
    from cffi import FFI


class _Point(ctypes.Structure):
    _fields_ = (("x", ctypes.c_int), ("y", ctypes.c_int))


def _ffi() -> FFI:
    try:
        from cffi import FFI

        ffi = FFI()
        ffi.cdef("typedef struct { int x, y; } point;")
    except ImportError as missing:
        raise UnavailableError(f"in-line cffi needs pycparser: {missing}") from None
    return ffi


@row('a.cffi(ffi).slab("point *"), an object', 'ffi.new("point *")', 0.4)
def cffi_slab() -> Generator[Sides]:
    ffi = _ffi()
    with bump_region() as a:
        ours = loop("next(points)", first='a.reset(); points = a.cffi(ffi).slab("point *")', a=a, ffi=ffi)
        yield Sides(ours, loop('new("point *")', new=ffi.new))


@row('a.cffi(ffi).new("point *")', 'ffi.new("point *")', 2.5)
def cffi_new() -> Generator[Sides]:
    ffi = _ffi()
    with bump_region() as a:
        ours = loop('c.new("point *")', first="a.reset(); c = a.cffi(ffi)", a=a, ffi=ffi)
        yield Sides(ours, loop('new("point *")', new=ffi.new))


@row("a.ctypes.slab(T), an object", "T()", 2.2)
def ctypes_slab() -> Generator[Sides]:
    with bump_region() as a:
        ours = loop("next(points)", first="a.reset(); points = a.ctypes.slab(T)", a=a, T=_Point)
        yield Sides(ours, loop("T()", T=_Point))


@row("a.ctypes.new(T)", "T()")
def ctypes_new() -> Generator[Sides]:
    with bump_region() as a:
        yield Sides(loop("c.new(T)", first="a.reset(); c = a.ctypes", a=a, T=_Point), loop("T()", T=_Point))
