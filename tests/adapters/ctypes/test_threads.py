"""Promise 9, for the adapters: any thread, any moment; and refused initializers give back only what is theirs."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

from helpers.invariants import check
from helpers.support import run_threads
from scopedbump import Region, bump_region


class Point(ctypes.Structure):
    _fields_ = [("x", ctypes.c_int), ("y", ctypes.c_int)]


def hammer(a: Region, work: Callable[[int], list[tuple[int, int]]]) -> None:
    """Four threads at a tiny switch interval; no two of the (address, size) that they report overlap."""
    seen: list[tuple[int, int]] = []
    run_threads(*[lambda number=number: seen.extend(work(number)) for number in range(4)])
    seen.sort()
    assert len(seen) > 1000
    assert all(first + size <= second for (first, size), (second, _) in pairwise(seen))
    check(a)


def test_threads_that_make_and_fail_to_make_ctypes_objects_never_share_bytes() -> None:
    """Objects, strings and slabs of four threads, with wrong initializers between them."""
    with bump_region(1 << 26) as a:
        kept: list[Any] = []

        def work(number: int) -> list[tuple[int, int]]:
            c, mine = a.ctypes, list[Any]()
            slab = c.slab(Point)
            for step in range(300):
                mine += [c.new(Point, step, number), c.string(f"{number}:{step}"), next(slab)]
                with pytest.raises(TypeError):
                    c.new(Point, step, "x")
            assert [made.x for made in mine[::3]] == list(range(300))
            assert [made.value for made in mine[1::3]] == [f"{number}:{step}".encode() for step in range(300)]
            kept.append(mine)
            return [(ctypes.addressof(made), ctypes.sizeof(made)) for made in mine]

        hammer(a, work)


def test_threads_that_make_and_fail_to_make_cffi_objects_never_share_bytes() -> None:
    """The same for cffi, with one adapter for all threads."""
    ffi: Any = pytest.importorskip("cffi").FFI()
    ffi.cdef("typedef struct { int x, y; } point;")
    with bump_region(1 << 26) as a:
        c = a.cffi(ffi)
        kept: list[Any] = []

        def work(number: int) -> list[tuple[int, int]]:
            mine = list[Any]()
            slab = c.slab("point *")
            for step in range(300):
                mine += [c.new("point *", (step, number)), c.new("point *"), next(slab)]
                with pytest.raises(TypeError):
                    c.new("point *", (step, "x"))
            assert [made.x for made in mine[::3]] == list(range(300))
            kept.append(mine)
            return [(int(ffi.cast("uintptr_t", made)), 8) for made in mine]

        hammer(a, work)


class Cycle:
    """Dies in a garbage collection, and allocates while it does."""

    def __init__(self, allocate: Callable[[], object]) -> None:
        self.allocate = allocate
        self.itself = self

    def __del__(self) -> None:
        self.allocate()


@pytest.mark.skipif(not hasattr(gc, "get_threshold"), reason="only CPython collects garbage when it is told how often")
def test_finalizers_that_allocate_in_the_middle_of_an_allocation_get_bytes_of_their_own() -> None:
    """A garbage collection at every allocation, each running finalizers that make and fail to make objects."""
    ffi: Any = pytest.importorskip("cffi").FFI()
    with bump_region(1 << 26) as a:
        c, f = a.ctypes, a.cffi(ffi)
        made: list[Any] = []
        refused: list[int] = []

        def allocate() -> None:
            made.extend((c.new(ctypes.c_longlong, -1), f.new("long long *", -1)))
            try:
                f.new("long long *", "x")
            except TypeError:
                refused.append(1)

        thresholds = gc.get_threshold()
        gc.set_threshold(5, 1000, 1000)
        try:
            for step in range(300):
                Cycle(allocate)
                made.append(c.new(ctypes.c_longlong, step))
                made.append(f.new("long long *", step))
        finally:
            gc.set_threshold(*thresholds)
            gc.collect()
        assert len(refused) == 300
        places = [
            ctypes.addressof(it) if isinstance(it, ctypes.c_longlong) else int(ffi.cast("uintptr_t", it)) for it in made
        ]
        assert len(set(places)) == len(places)
        assert len(places) > 600
        check(a)
