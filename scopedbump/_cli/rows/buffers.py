"""Large buffers: taken, filled, given back.

Both sides are filled through a memoryview: assigning to a slice of a bytearray copies the data twice. What a bytearray
costs depends on the state of malloc's heap: glibc keeps the pages of one freed buffer, but not those of two.
"""

from __future__ import annotations

from collections.abc import Generator

from ... import bump_region
from ..measure import Loop, Sides, loop
from . import row

_MIB = 1 << 20


def _bytearray(size: int, data: bytes) -> Loop:
    return loop("memoryview(bytearray(size))[:] = data", size=size, data=data)


def _one(size: int, arguments: str = "") -> Generator[Sides]:
    from ... import RegionPool

    data = b"x" * size
    with RegionPool() as pool:
        ours = loop(f"with pool.region() as a: a.alloc(size{arguments})[:] = data", pool=pool, size=size, data=data)
        floor = loop("there[:] = data", there=memoryview(bytearray(size)), data=data)
        yield Sides(ours, _bytearray(size, data), floor, "filling a buffer that is there")


def _two(size: int) -> Generator[Sides]:
    from ... import RegionPool

    data = b"x" * size

    def scratch() -> None:
        with pool.region() as a:
            body = a.alloc(size, zero=False)
            body[:] = data
            answer = a.alloc(size, zero=False)
            answer[:] = body

    def bytearrays() -> None:
        body = bytearray(size)
        memoryview(body)[:] = data
        answer = bytearray(size)
        memoryview(answer)[:] = body

    with RegionPool(retain=2 * size) as pool:
        there = memoryview(bytearray(2 * size))
        floor = loop("a[:] = data; b[:] = a", a=there[:size], b=there[size:], data=data)
        yield Sides(
            loop("work()", work=scratch), loop("work()", work=bytearrays), floor, "the same with two that are there"
        )


@row("take 1 MiB from a pool, fill it, give it back", "bytearray", 0.4)
def one() -> Generator[Sides]:
    yield from _one(_MIB)


@row("take 4 MiB from a pool, fill it, give it back", "bytearray", 0.15)
def four() -> Generator[Sides]:
    yield from _one(4 * _MIB)


@row("take 16 MiB from a pool, fill it, give it back", "bytearray", 0.15)
def sixteen() -> Generator[Sides]:
    yield from _one(16 * _MIB)


@row("take 1 MiB with zero=False, fill it, give it back", "bytearray", 0.4)
def one_unzeroed() -> Generator[Sides]:
    yield from _one(_MIB, ", zero=False")


@row("take 4 MiB with zero=False, fill it, give it back", "bytearray", 0.15)
def four_unzeroed() -> Generator[Sides]:
    yield from _one(4 * _MIB, ", zero=False")


@row("take 16 MiB with zero=False, fill it, give it back", "bytearray", 0.15)
def sixteen_unzeroed() -> Generator[Sides]:
    yield from _one(16 * _MIB, ", zero=False")


@row("two of 1 MiB, zero=False: fill one, copy into the other", "two bytearrays", 0.4)
def two_of_one() -> Generator[Sides]:
    yield from _two(_MIB)


@row("two of 4 MiB, zero=False: fill one, copy into the other", "two bytearrays", 0.15)
def two_of_four() -> Generator[Sides]:
    yield from _two(4 * _MIB)


@row("two of 16 MiB, zero=False: fill one, copy into the other", "two bytearrays", 0.15)
def two_of_sixteen() -> Generator[Sides]:
    yield from _two(16 * _MIB)


@row("take 64 KiB from a pool, fill it, give it back", "bytearray")
def small() -> Generator[Sides]:
    yield from _one(1 << 16)


@row("a fresh region for 1 MiB, fill it, close", "bytearray")
def fresh() -> Generator[Sides]:
    data = b"x" * _MIB
    ours = loop("with bump_region() as a: a.alloc(size)[:] = data", bump_region=bump_region, size=_MIB, data=data)
    yield Sides(ours, _bytearray(_MIB, data))
