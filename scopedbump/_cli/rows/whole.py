"""A region, a scope or a lease as a whole: opened, used once, ended."""

from __future__ import annotations

import mmap
from collections.abc import Generator

from scopedbump import bump_region
from scopedbump._cli.measure import Loop, Sides, loop
from scopedbump._cli.rows import row


def _mapping() -> Loop:
    return loop("m = mmap(-1, 1048576); m[0] = 1; m.close()", mmap=mmap.mmap)


@row("open 1 GiB, alloc 64 B, touch, close", "mmap.mmap(-1, 1 << 20), touch, close", 1.3)
def fresh() -> Generator[Sides]:
    ours = loop("with bump_region() as a: a.alloc(64)[0] = 1", bump_region=bump_region)
    yield Sides(ours, _mapping())


@row("open 1 MiB, alloc 64 B, touch, close", "mmap.mmap(-1, 1 << 20), touch, close", 1.3)
def fresh_small() -> Generator[Sides]:
    ours = loop("with bump_region(1048576) as a: a.alloc(64)[0] = 1", bump_region=bump_region)
    yield Sides(ours, _mapping())


@row("lease from a pool, alloc 64 B, touch, give back", "mmap.mmap(-1, 1 << 20), touch, close", 0.2)
def pooled() -> Generator[Sides]:
    from scopedbump import RegionPool

    with RegionPool() as pool:
        yield Sides(loop("with pool.region() as a: a.alloc(64)[0] = 1", pool=pool), _mapping())


@row("lease from a pool, alloc 64 B, touch, give back", "memoryview(bytearray(64)), touch")
def pooled_against_bytearray() -> Generator[Sides]:
    from scopedbump import RegionPool

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
