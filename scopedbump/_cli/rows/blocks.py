"""Small blocks inside one region."""

from __future__ import annotations

import ctypes
import gc
from collections import deque
from collections.abc import Generator
from contextlib import ExitStack
from itertools import count

from ... import Region, bump_region
from ..measure import Loop, Sides, loop
from . import row


class _Floor:
    """The least that a method in Python can do which makes a view of memory and remembers it."""

    __slots__ = ("_append", "_root")
    what = "a method in Python that slices a memoryview and appends the slice to a deque"

    def __init__(self) -> None:
        self._root = memoryview(bytearray(1 << 16))
        # A list would have to be swept; this forgets the oldest in C.
        self._append = deque[memoryview](maxlen=1024).append

    def alloc(self, size: int, align: int = 16, *, zero: bool = True) -> memoryview:
        view = self._root[align:size]
        self._append(view)
        return view


def _alloc(a: Region, statement: str = "a.alloc(64)") -> Loop:
    # The reset is in the time: memory that is used again must be cleared again.
    return loop(statement, first="a.reset()", a=a)


@row("alloc(64)", "memoryview(bytearray(64))", 1.4)
def alloc_against_bytearray() -> Generator[Sides]:
    with bump_region() as a:
        floor = loop("a.alloc(64)", a=_Floor())
        yield Sides(_alloc(a), loop("memoryview(bytearray(64))"), floor, _Floor.what)


@row("alloc(64)", "ctypes.create_string_buffer(64)", 0.75)
def alloc_against_ctypes() -> Generator[Sides]:
    with bump_region() as a:
        yield Sides(_alloc(a), loop("make(64)", make=ctypes.create_string_buffer))


@row("alloc(n), n varying", "ctypes.create_string_buffer(n), n varying", 0.05)
def alloc_varying() -> Generator[Sides]:
    with bump_region() as a:
        # ctypes makes an array type for each size and keeps it until a collection finds it: none may be left over.
        before = "collect(); sizes = count(64)"
        ours = loop("a.alloc(next(sizes))", untimed=before, first="a.reset()", a=a, collect=gc.collect, count=count)
        make = ctypes.create_string_buffer
        theirs = loop("make(next(sizes))", untimed=before, make=make, collect=gc.collect, count=count)
        yield Sides(ours, theirs, batch=1000)


@row("alloc(64), 1,000 of them kept", "memoryview(bytearray(64)), 1,000 of them kept")
def alloc_kept() -> Generator[Sides]:
    with bump_region() as a:
        ours = loop("keep(a.alloc(64))", first="a.reset()", a=a, keep=deque[memoryview](maxlen=1000).append)
        yield Sides(ours, loop("keep(memoryview(bytearray(64)))", keep=deque[memoryview](maxlen=1000).append))


@row("alloc(64)", "bytearray(64), no memoryview")
def alloc_against_bare_bytearray() -> Generator[Sides]:
    with bump_region() as a:
        yield Sides(_alloc(a), loop("bytearray(64)"))


@row("alloc(64, 64)", "memoryview(bytearray(128)), to be aligned by hand")
def alloc_aligned() -> Generator[Sides]:
    with bump_region() as a:
        yield Sides(_alloc(a, "a.alloc(64, 64)"), loop("memoryview(bytearray(128))"))


@row("alloc(4096)", "memoryview(bytearray(4096))")
def alloc_page() -> Generator[Sides]:
    with bump_region() as a:
        yield Sides(_alloc(a, "a.alloc(4096)"), loop("memoryview(bytearray(4096))"))


@row("copy of 64 bytes", "memoryview(bytearray(data))")
def copy() -> Generator[Sides]:
    data = bytes(range(64))
    with bump_region() as a:
        yield Sides(
            loop("a.copy(data)", first="a.reset()", a=a, data=data), loop("memoryview(bytearray(data))", data=data)
        )


@row("slab(64), a block", "memoryview(bytearray(64))", 0.8)
def slab() -> Generator[Sides]:
    with bump_region() as a:
        ours = loop("next(blocks)", first="a.reset(); blocks = a.slab(64)", a=a)
        yield Sides(ours, loop("memoryview(bytearray(64))"))


@row("the 1,000,000th alloc(64)", "the 1,000th", 1.3)
def alloc_late() -> Generator[Sides]:
    with ExitStack() as regions:

        def opened(count: int) -> Region:
            a = regions.enter_context(bump_region())
            for _ in range(count):
                a.alloc(64)
            return a

        def again() -> Region:
            regions.pop_all().close()
            return opened(1000)

        with bump_region() as late:
            for _ in range(1_000_000):
                late.alloc(64)
            yield Sides(
                loop("a.alloc(64)", a=late), loop("a.alloc(64)", untimed="a = again()", again=again), batch=8192
            )
