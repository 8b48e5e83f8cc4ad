"""Small calls, timed in loops that are compiled around them: a part of `ratios.py` and `bench.py`."""

from __future__ import annotations

import array
import ctypes
import gc
import importlib.util
import mmap
import sys
import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cache
from itertools import count, repeat
from typing import Any, Self

from ratio_processes import Effort, Loop, Sample

from scopedbump import Region, RegionPool, bump_region


class Point(ctypes.Structure):
    """A small structure; cffi's is the same."""

    _fields_ = (("x", ctypes.c_int), ("y", ctypes.c_int))


class Out(ctypes.Structure):
    """Where a C library shall write, and how much."""

    _fields_ = (("data", ctypes.POINTER(ctypes.c_char)), ("size", ctypes.c_size_t))


_DECLARATIONS = """
    typedef struct { int x, y; } point;
    unsigned char *mmap(void *, size_t, int, int, int, intptr_t);
    int mprotect(void *, size_t, int);
    int madvise(void *, size_t, int);
    int munmap(void *, size_t);
"""


class BarePool:
    """A pool by hand, the floor of a lease: a region, its view, a block, its end. It keeps no promise whatsoever."""

    def __init__(self) -> None:
        self.idle = [bytearray(1 << 20)]

    def region(self) -> BareRegion:
        """The next region. Never on memory that something still points to; that much costs nothing."""
        return BareRegion(self, self.idle.pop())


class BareRegion:
    """A region of it: blocks are cleared, and revoked at the end, unless something was made from them."""

    __slots__ = ("cursor", "memory", "pool", "view", "views")

    def __init__(self, pool: BarePool, memory: bytearray) -> None:
        self.pool = pool
        self.memory = memory
        self.view = memoryview(memory)
        self.views: list[memoryview] = []
        self.cursor = 0

    def alloc(self, size: int) -> memoryview:
        """The next block."""
        start = self.cursor
        self.cursor = stop = start + (size + 15 & -16)
        view = self.view[start : start + size]
        self.view[start:stop] = bytes(stop - start)
        self.views.append(view)
        return view

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for view in self.views:
            view.release()
        self.view.release()
        self.pool.idle.append(self.memory)


def used(count: int) -> Region:
    """A region in which so many blocks were allocated."""
    a = bump_region()
    for _ in range(count):
        a.alloc(64)
    return a


@cache
def names() -> dict[str, Any]:
    """What statements may use; what is not there on this system, or in this version, is None."""
    found: dict[str, Any] = {
        "Region.array": getattr(Region, "array", None),
        "BarePool": BarePool,
        "bump_region": bump_region,
        "collect": gc.collect,
        "count": count,
        "used": used,
        "data": bytes(range(64)),
        "text": b"hello, world",
        "keep": deque[memoryview](maxlen=1000).append,
        "texts": (b"first", b"second", b"third"),
        "array": array.array,
        "mmap": mmap.mmap,
        "T": Point,
        "Out": Out,
        "c_char": ctypes.c_char,
        "c_char_p": ctypes.c_char_p,
        "pointer": ctypes.pointer,
        "create_string_buffer": ctypes.create_string_buffer,
    } | dict.fromkeys(("empty", "ffi", "new", "NULL", "libc"))
    if importlib.util.find_spec("numpy"):
        import numpy as np

        found["empty"] = np.empty
    if importlib.util.find_spec("pycparser"):  # which cffi needs to read declarations
        from cffi import FFI

        ffi = FFI()
        ffi.cdef(_DECLARATIONS)
        found |= {"ffi": ffi, "new": ffi.new, "NULL": ffi.NULL}
        if sys.platform != "win32":
            libc = found["libc"] = ffi.dlopen(None)
            found |= {"map_": libc.mmap, "protect": libc.mprotect, "unmap": libc.munmap, "advise": libc.madvise}
            found["RESERVED"] = mmap.MAP_PRIVATE | mmap.MAP_ANON | (0x4000 if sys.platform == "linux" else 0x40)
    return found


_FILLED = 10_000
"""Calls between two resets."""

_SOURCE = """
def run(_blocks, _calls, {parameters}):
    _taken = 0.0
    {setup}
    for _ in _repeat(None, _blocks):
        {untimed}
        _start = _clock()
        {first}
        for _ in _repeat(None, _calls):
            {statement}
        _taken += _clock() - _start
    {last}
    return _taken
"""


@dataclass(frozen=True)
class Calls:
    """A statement, and what is done around it: `setup` and `last` once a batch, the others once in 10,000 calls.

    `first` is in the time. `needs` names what may be missing.
    """

    statement: str
    first: str = "pass"
    untimed: str = "pass"
    setup: str = "pass"
    last: str = "pass"
    needs: str = ""

    def prepare(self, effort: Effort) -> Callable[[], Sample] | None:
        """A batch that takes about so long."""
        if self.needs and names()[self.needs] is None:
            return None
        run = self._loop()
        run(1, 1)  # what is imported or made on first use is done by now
        fills = self.first != "pass" or self.untimed != "pass"
        blocks, calls = 1, effort.calls if fills else 1
        while (taken := run(blocks, calls)) < effort.batch / 2:
            factor = min(10, int(effort.batch / max(taken, 1e-9)) + 1)
            blocks, calls = (blocks * factor, calls) if fills else (blocks, calls * factor)
        return lambda: Sample(run(blocks, calls) / (blocks * calls))

    def timed(self) -> Loop | None:
        """A loop, compiled when it runs first; None where what it needs is not there."""
        if self.needs and names()[self.needs] is None:
            return None
        made = cache(self._loop)

        def run(loops: int) -> float:
            blocks, rest = divmod(loops, _FILLED)
            return (made()(blocks, _FILLED) if blocks else 0.0) + (made()(1, rest) if rest else 0.0)

        return run

    def _loop(self) -> Callable[[int, int], float]:
        parts = {name: part for name, part in asdict(self).items() if name != "needs"}
        mentioned = compile("\n".join(parts.values()), self.statement, "exec").co_names
        own = {"a": bump_region(), "pool": RegionPool()}  # which no other row had a hand in
        space: dict[str, Any] = {**names(), **own, "_clock": time.perf_counter, "_repeat": repeat}
        parameters = ", ".join(f"{name}={name}" for name in space if name in (*mentioned, "_clock", "_repeat"))
        exec(compile(_SOURCE.format(parameters=parameters, **parts), self.statement, "exec"), space)
        run: Callable[[int, int], float] = space["run"]

        def uncollected(blocks: int, calls: int) -> float:
            gc.disable()
            try:
                return run(blocks, calls)
            finally:
                gc.enable()

        return uncollected
