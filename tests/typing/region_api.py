"""What type checkers see of regions, scopes and pools: read by mypy and pyright, never run."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Coroutine, Iterator
from typing import Any, assert_type

from scopedbump import (
    DEFAULT_SIZE,
    CommitError,
    EscapeError,
    EscapeWarning,
    PoolStats,
    Region,
    RegionBusyError,
    RegionClosedError,
    RegionFullError,
    RegionPool,
    ReserveError,
    ScopedBumpError,
    Writer,
    bump_region,
    current_region,
)


def right() -> None:
    with bump_region() as a, bump_region(size=1 << 20, name="x", escape="warn") as b:
        assert_type(a, Region)
        assert_type(a.alloc(3), memoryview)
        assert_type(b.alloc(3, 64, zero=False), memoryview)
        assert_type(a.copy(b"abc"), memoryview)
        assert_type(a.copy(a.alloc(3), 4), memoryview)
        assert_type(a.array("d", 8), memoryview[float])
        assert_type(a.array("f", [1, 2.5]), memoryview[float])
        assert_type(a.array("i", range(3)), memoryview[int])
        assert_type(a.array("B", b"abc"), memoryview[int])
        assert_type(a.slab(64), Iterator[memoryview])
        assert_type((a.size, a.used, a.available, a.committed, a.peak), tuple[int, int, int, int, int])
        assert_type((a.name, a.closed, a.released), tuple[str, bool, bool])
        assert_type(a.address(a.alloc(3)), int)
        assert_type(a.alloc(3) in a, bool)
        assert_type(3 in a, bool)
        with a.scope(escape="raise") as scope:
            assert_type(scope, Region)
        with a.writer(1 << 20, align=64) as writer:
            assert_type(writer, Writer)
            assert_type(writer.write(b"abc"), int)
            assert_type(writer.get_buffer(), memoryview)
            file: io.BufferedIOBase = writer
            print(file, io.TextIOWrapper(writer))
        assert_type((writer.finish(), writer.getbuffer()), tuple[memoryview, memoryview])
        a.reset()
        a.free(object())
        with a.as_current():
            assert_type(current_region(), Region)
    a.close()
    with RegionPool(1 << 20, max_idle=2, retain=3, name="x") as pool:
        assert_type(pool.stats(), PoolStats)
        with pool.region(escape="keep") as region:
            assert_type(region, Region)
    size: int = DEFAULT_SIZE
    print(size)


def errors(full: RegionFullError, reserve: ReserveError, commit: CommitError) -> None:
    assert_type((full.requested, full.align, full.available, full.size), tuple[int, int, int, int])
    memory: MemoryError = full
    system: OSError = reserve
    memory = commit
    value: ValueError = RegionClosedError()
    runtime: RuntimeError = RegionBusyError()
    buffer: BufferError = EscapeError()
    roots: list[ScopedBumpError] = [full, reserve, commit, RegionClosedError(), RegionBusyError(), EscapeError()]
    warning: ResourceWarning = EscapeWarning()
    print(memory, system, value, runtime, buffer, roots, warning)


def scoped(pool: RegionPool) -> None:
    """A decorated function has the arguments and results that it had."""

    @pool.scoped
    def plain(count: int, *, name: str = "") -> float:
        return count + len(name)

    @pool.scoped
    async def coroutine(count: int) -> str:
        return str(count)

    @pool.scoped
    def generator(count: int) -> Iterator[int]:
        yield count

    @pool.scoped
    async def async_generator(count: int) -> AsyncIterator[bytes]:
        yield bytes(count)

    class Work:
        @pool.scoped
        def method(self, count: int) -> float:
            return plain(count)

        @staticmethod
        @pool.scoped
        def static(count: int) -> float:
            return plain(count)

        @classmethod
        @pool.scoped
        def of_class(cls, count: int) -> float:
            return plain(count)

    assert_type(plain(3, name="x"), float)
    waiting: Coroutine[Any, Any, str] = coroutine(3)
    assert_type(generator(3), Iterator[int])
    assert_type(async_generator(3), AsyncIterator[bytes])
    assert_type(Work().method(3), float)
    assert_type(Work.static(3), float)
    assert_type(Work.of_class(3), float)
    plain("3")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    print(waiting)
    plain(3, "x")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    Work().method("3")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    pool.scoped(3)  # type: ignore[type-var]  # pyright: ignore[reportArgumentType]


def wrong(a: Region, pool: RegionPool) -> None:
    bump_region("3")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    bump_region(3, "name")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    bump_region(escape="never")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    a.alloc("3")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    a.alloc(3, 16, True)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    a.copy("text")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    a.array("x", 3)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    a.array("i", [1.5])  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    a.array("i", values=3)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    a.writer("64")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    a.writer(64, 16)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    a.writer().write("text")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    a.slab("64")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    a.size = 3  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
    a.other = 3  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
    a.address(3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    pool.region("keep")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]

    class Derived(Region):  # type: ignore[misc]  # pyright: ignore[reportGeneralTypeIssues]
        pass

    print(Derived)
