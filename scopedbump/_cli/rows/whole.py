"""A region, a scope or a lease as a whole: opened, used once, ended."""

from __future__ import annotations

import mmap
import sys
import weakref
from collections.abc import Generator
from types import TracebackType
from typing import Self

import _cffi_backend

from ... import DEFAULT_SIZE, bump_region
from ..measure import Loop, Sides, loop
from . import row


def _mapping() -> Loop:
    return loop("m = mmap(-1, 1048576); m[0] = 1; m.close()", mmap=mmap.mmap)


def _private(size: int) -> Loop | None:
    # What mmap.mmap makes unless told otherwise is shared memory, which costs more.
    if sys.platform == "win32":
        return None
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANON
    return loop("m = mmap(-1, size, flags); m[0] = 1; m.close()", mmap=mmap.mmap, size=size, flags=flags)


@row("open 1 GiB, alloc 64 B, touch, close", "mmap.mmap(-1, 1 << 20), touch, close", 1.3)
def fresh() -> Generator[Sides]:
    ours = loop("with bump_region() as a: a.alloc(64)[0] = 1", bump_region=bump_region)
    yield Sides(ours, _mapping(), _private(DEFAULT_SIZE), "mmap.mmap of 1 GiB, MAP_PRIVATE, touch, close")


@row("open 1 MiB, alloc 64 B, touch, close", "mmap.mmap(-1, 1 << 20), touch, close", 1.3)
def fresh_small() -> Generator[Sides]:
    ours = loop("with bump_region(1048576) as a: a.alloc(64)[0] = 1", bump_region=bump_region)
    yield Sides(ours, _mapping(), _private(1 << 20), "mmap.mmap of 1 MiB, MAP_PRIVATE, touch, close")


class _Least:
    """The least that a lease in Python is made of: an object, a buffer, its view, a weak reference, a block, an end."""

    __slots__ = ("_block", "_end", "_root")

    def __init__(self) -> None:
        self._root = memoryview(_ffi.buffer(_anchor, len(_memory)))
        self._end = weakref.ref(_anchor, _ended)
        self._block = self._root[:0]

    def alloc(self, size: int, align: int = 16, *, zero: bool = True) -> memoryview:
        self._block = self._root[:size]
        return self._block

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._block.release()


def _ended(_: object) -> None:
    pass


_ffi = _cffi_backend.FFI()
_memory = bytearray(4096)
_anchor = _ffi.from_buffer("char[]", _memory)


@row("lease from a pool, alloc 64 B, touch, give back", "mmap.mmap(-1, 1 << 20), touch, close", 0.2)
def pooled() -> Generator[Sides]:
    from ... import RegionPool

    with RegionPool() as pool:
        ours = loop("with pool.region() as a: a.alloc(64)[0] = 1", pool=pool)
        floor = loop("with region() as a: a.alloc(64)[0] = 1", region=_Least)
        what = "a class in Python: with block, cffi buffer, its view, a weak reference, a slice, its release"
        yield Sides(ours, _mapping(), floor, what)


@row("lease from a pool, alloc 64 B, touch, give back", "memoryview(bytearray(64)), touch")
def pooled_against_bytearray() -> Generator[Sides]:
    from ... import RegionPool

    with RegionPool() as pool:
        ours = loop("with pool.region() as a: a.alloc(64)[0] = 1", pool=pool)
        yield Sides(ours, loop("memoryview(bytearray(64))[0] = 1"))


@row("scope, alloc 64 B, touch, end", "memoryview(bytearray(64)), touch")
def scope() -> Generator[Sides]:
    with bump_region() as a:
        ours = loop("with a.scope() as s: s.alloc(64)[0] = 1", a=a)
        yield Sides(ours, loop("memoryview(bytearray(64))[0] = 1"))


@row("alloc 64 B, touch, reset", "memoryview(bytearray(64)), touch")
def reset() -> Generator[Sides]:
    with bump_region() as a:
        ours = loop("a.alloc(64)[0] = 1; a.reset()", a=a)
        yield Sides(ours, loop("memoryview(bytearray(64))[0] = 1"))
