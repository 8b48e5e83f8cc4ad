"""`pool.scoped`: a region for each call, current inside, and ended however the call ends."""

from __future__ import annotations

import asyncio
import contextvars
import copy
import gc
import inspect
import pickle
import sys
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Iterator
from typing import Any

import pytest

from helpers.support import collect, counts_references, needs_gil, run_threads
from scopedbump import NoRegionError, PoolFullError, Region, RegionClosedError, RegionPool, current_region

SIZE = 1 << 20


@pytest.fixture
def pool() -> Iterator[RegionPool]:
    with RegionPool(SIZE, name="scoped") as made:
        yield made


def open_in(pool: RegionPool) -> int:
    """How many of its regions are open."""
    collect()
    return pool.stats().out


def assert_over(pool: RegionPool, calls: int = 1) -> None:
    """Each of so many calls had a region, none is open, and none is current."""
    assert open_in(pool) == 0
    assert pool.stats().leases == calls
    with pytest.raises(NoRegionError):
        current_region()


# -- functions


def test_a_call_has_a_region_of_its_own(pool: RegionPool) -> None:
    """The region is current in the call, belongs to the pool, and ends when it returns."""
    seen: list[Region] = []

    @pool.scoped
    def work(count: int, *, byte: int = 1) -> int:
        region = current_region()
        seen.append(region)
        block = region.alloc(count)
        block[:] = bytes([byte]) * count
        return sum(block)

    assert work(10) == 10
    assert work(10, byte=2) == 20
    assert all(region.closed and region.name == "scoped" for region in seen) and seen[0] is not seen[1]
    assert_over(pool, 2)
    if sys.implementation.name == "cpython":
        assert pool.stats().hits == 1


def test_it_ends_when_the_call_raises(pool: RegionPool) -> None:
    """The exception is the function's own."""

    @pool.scoped
    def work() -> None:
        current_region().alloc(10)
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        work()
    assert_over(pool)


def test_calls_nest(pool: RegionPool) -> None:
    """A call within a call has another region; afterwards that of the outer one is current again."""

    @pool.scoped
    def depth(more: int) -> list[int]:
        region = current_region()
        inner = depth(more - 1) if more else []
        assert current_region() is region
        return [id(region), *inner]

    assert len(set(depth(4))) == 5
    assert_over(pool, 5)


def test_what_it_says_of_itself(pool: RegionPool) -> None:
    """Name, documentation, signature and kind are those of the function."""

    def work(count: int, *, byte: int = 1) -> int:
        """Do it."""
        return count + byte

    scoped = pool.scoped(work)
    assert (scoped.__name__, scoped.__doc__, scoped.__module__) == ("work", "Do it.", __name__)
    assert scoped.__wrapped__ is work  # type: ignore[attr-defined]  # functools.wraps sets it
    assert inspect.signature(scoped) == inspect.signature(work)


def test_kinds_stay(pool: RegionPool) -> None:
    """Frameworks that ask what kind of function it is get the right answer."""

    async def coroutine() -> None: ...

    def generator() -> Iterator[int]:
        yield 1

    async def async_generator() -> AsyncGenerator[int, None]:
        yield 1

    assert inspect.iscoroutinefunction(pool.scoped(coroutine))
    assert inspect.isgeneratorfunction(pool.scoped(generator))
    assert inspect.isasyncgenfunction(pool.scoped(async_generator))


def test_in_classes(pool: RegionPool) -> None:
    """Methods, static methods on either side, class methods and objects with an asynchronous __call__."""

    class Work:
        @pool.scoped
        def method(self, n: int) -> tuple[object, int]:
            return self, len(current_region().alloc(n))

        @staticmethod
        @pool.scoped
        def below(n: int) -> int:
            return len(current_region().alloc(n))

        @pool.scoped
        @staticmethod
        def above(n: int) -> int:
            return len(current_region().alloc(n))

        @classmethod
        @pool.scoped
        def of_class(cls, n: int) -> tuple[object, int]:
            return cls, len(current_region().alloc(n))

        async def __call__(self, n: int) -> int:
            return len(current_region().alloc(n))

    work = Work()
    assert work.method(3) == (work, 3)
    assert Work.below(4) == work.below(4) == Work.above(4) == work.above(4) == 4
    assert Work.of_class(5) == (Work, 5)
    assert asyncio.run(pool.scoped(work)(6)) == 6
    assert_over(pool, 7)


@pytest.mark.parametrize("wrong", [None, 7, "name", [], int, RegionPool])
def test_what_is_no_function_is_named(pool: RegionPool, wrong: Any) -> None:
    """A TypeError with the value in the message."""
    with pytest.raises(TypeError) as error:
        pool.scoped(wrong)
    assert repr(wrong) in str(error.value)


def test_views_that_are_returned_are_revoked(pool: RegionPool) -> None:
    """They never dangle: using one is a ValueError. A slice keeps its bytes."""

    @pool.scoped
    def leak() -> tuple[memoryview, memoryview]:
        view = current_region().copy(b"bytes")
        return view, view[:]

    view, part = leak()
    assert bytes(part) == b"bytes"
    with pytest.raises(ValueError, match="released"):
        bytes(view)
    assert bytes(leak()[1]) == b"bytes" == bytes(part)


def test_a_view_as_the_result_is_an_error(pool: RegionPool) -> None:
    """It says which function, and what to return instead; any other view passes."""

    @pool.scoped
    def leak() -> memoryview:
        return current_region().copy(b"bytes")

    @pool.scoped
    async def async_leak() -> memoryview:
        return current_region().copy(b"bytes")

    @pool.scoped
    def views() -> tuple[memoryview, memoryview]:
        return memoryview(b"mine"), current_region().copy(b"bytes")[:]

    with pytest.raises(RegionClosedError, match=r"leak returned a view of its region.*bytes\(view\)"):
        leak()
    with pytest.raises(RegionClosedError, match="async_leak returned a view"):
        asyncio.run(async_leak())
    assert [bytes(view) for view in views()] == [b"mine", b"bytes"]


def test_bounds_and_ends_of_the_pool_hold(pool: RegionPool) -> None:
    """`max_out` counts calls; a closed pool has none left."""
    with RegionPool(SIZE, max_out=1) as narrow:

        @narrow.scoped
        def again(more: bool) -> None:
            if more:
                again(False)

        again(False)
        with pytest.raises(PoolFullError):
            again(True)
        again(False)
    with pytest.raises(RegionClosedError):
        again(False)


def test_in_threads(pool: RegionPool) -> None:
    """Each thread's calls have regions of their own."""

    @pool.scoped
    def work(byte: int) -> None:
        for _ in range(50):
            block = current_region().alloc(1000)
            assert not any(block)
            block[:] = bytes([byte]) * 1000
            assert set(block) == {byte}

    run_threads(*[lambda byte=byte: [work(byte) for _ in range(20)] for byte in range(1, 5)])
    assert_over(pool, 80)


# -- coroutines


def test_a_coroutine_keeps_its_region_over_waits(pool: RegionPool) -> None:
    """Many at a time have one each; it ends with the coroutine, also by an exception."""

    @pool.scoped
    async def work(number: int) -> int:
        region = current_region()
        block = region.alloc(100)
        block[0] = number
        await asyncio.sleep(0)
        assert current_region() is region
        if number == 7:
            raise KeyError(number)
        return block[0]

    async def main() -> None:
        results = await asyncio.gather(*map(work, range(10)), return_exceptions=True)
        assert [result for result in results if not isinstance(result, KeyError)] == [0, 1, 2, 3, 4, 5, 6, 8, 9]
        with pytest.raises(NoRegionError):
            current_region()

    asyncio.run(main())
    assert_over(pool, 10)


def test_a_coroutine_ends_when_it_is_cancelled(pool: RegionPool) -> None:
    """Cancellation, a timeout, and a task that outlives the call and is told so."""

    async def later(told: list[BaseException]) -> None:
        await asyncio.sleep(0.01)
        try:
            current_region()
        except RegionClosedError as error:
            told.append(error)

    told: list[BaseException] = []
    tasks: list[asyncio.Task[None]] = []

    @pool.scoped
    async def work() -> None:
        current_region().alloc(10)
        tasks.append(asyncio.create_task(later(told)))
        await asyncio.sleep(60)

    async def main() -> None:
        task = asyncio.create_task(work())
        await asyncio.sleep(0)
        assert pool.stats().out == 1
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(work(), 0.001)
        await asyncio.gather(*tasks)

    asyncio.run(main())
    assert len(told) == 2
    assert_over(pool, 2)


def test_a_coroutine_that_never_runs_takes_nothing(pool: RegionPool) -> None:
    """No region before it begins."""

    @pool.scoped
    async def work() -> None:
        current_region().alloc(10)

    work().close()
    assert_over(pool, 0)


@counts_references
def test_a_coroutine_ends_when_it_is_dropped(pool: RegionPool) -> None:
    """At the wait where it stands."""

    class Stop:
        def __await__(self) -> Generator[None, None, None]:
            yield

    @pool.scoped
    async def work() -> None:
        current_region().alloc(10)
        await Stop()

    running: Coroutine[Any, Any, None] | None = work()
    assert running is not None
    running.send(None)
    assert open_in(pool) == 1
    running = None
    assert_over(pool)


# -- generators


def numbers(log: list[str]) -> Generator[int, Any, str]:
    """Yields what it is sent, catches ValueError, says how it ends, and uses its region all the time."""
    region = current_region()
    count = 0
    try:
        while count < 100:
            region.alloc(10)
            assert current_region() is region
            try:
                received = yield count
            except ValueError as error:
                log.append(str(error))
                received = -1
            if received == "stop":
                return "stopped"
            count = received if isinstance(received, int) else count + 1
    except GeneratorExit:
        log.append("closed")
        raise
    finally:
        assert current_region() is region and not region.closed
        log.append("over")
    return "done"


def end_by_loop(generator: Generator[int, Any, str]) -> None:
    assert list(generator) == list(range(1, 100))


def end_by_return(generator: Generator[int, Any, str]) -> None:
    assert generator.send(40) == 40
    with pytest.raises(StopIteration) as stop:
        generator.send("stop")
    assert stop.value.value == "stopped"


def end_by_close(generator: Generator[int, Any, str]) -> None:
    generator.close()
    generator.close()


def end_by_throw(generator: Generator[int, Any, str]) -> None:
    assert generator.throw(ValueError("caught")) == -1
    error = KeyError("not caught")
    with pytest.raises(KeyError) as raised:
        generator.throw(error)
    assert raised.value is error


def end_by_stop_iteration(generator: Generator[int, Any, str]) -> None:
    with pytest.raises(RuntimeError, match="StopIteration"):
        generator.throw(StopIteration())


ENDS = [end_by_loop, end_by_return, end_by_close, end_by_throw, end_by_stop_iteration]


@pytest.mark.parametrize("end", ENDS)
def test_a_generator_ends_as_it_would_without(pool: RegionPool, end: Callable[[Any], None]) -> None:
    """By its return, close, throw: the same results, and then its region is over."""
    logs: list[list[str]] = []
    for decorate in (pool.scoped, RegionPool(SIZE).scoped):
        log: list[str] = []
        generator = decorate(numbers)(log)
        assert next(generator) == 0
        end(generator)
        with pytest.raises(StopIteration):
            next(generator)
        logs.append(log)
    assert logs[0] == logs[1] and logs[0][-1] == "over"
    del generator
    assert_over(pool)


def test_a_generator_ends_when_it_is_dropped(pool: RegionPool) -> None:
    """By its last reference; one that never ran took nothing."""
    log: list[str] = []
    generator: Generator[int, Any, str] | None = pool.scoped(numbers)(log)
    assert generator is not None
    assert pool.stats().leases == 0
    next(generator)
    assert open_in(pool) == 1
    generator = None
    assert open_in(pool) == 0 and log == ["closed", "over"]
    assert_over(pool)


@needs_gil("without one the collector ends what is in a dead cycle in any order, the region before the generator")
def test_a_generator_ends_when_it_is_collected(pool: RegionPool) -> None:
    """In a dead cycle, too."""
    log: list[str] = []
    cycle: list[Any] = [pool.scoped(numbers)(log)]
    next(cycle[0])
    cycle.append(cycle)
    del cycle
    gc.collect()
    assert log == ["closed", "over"]
    assert_over(pool)


def test_a_generators_region_is_current_only_while_it_runs(pool: RegionPool) -> None:
    """Between two steps there is none, or the caller's, and several can be under way."""
    one, two = pool.scoped(numbers)([]), pool.scoped(numbers)([])
    for _ in range(3):
        next(one)
        with pytest.raises(NoRegionError):
            current_region()
        with pool.region() as mine, mine.as_current():
            next(two)
            assert current_region() is mine
    contextvars.copy_context().run(next, one)  # another context than it began in
    thread = threading.Thread(target=two.close)
    thread.start()
    thread.join()
    one.close()
    assert_over(pool, 5)


def test_a_generator_that_does_not_end_is_told_so(pool: RegionPool) -> None:
    """One that yields on when it is closed gets Python's own RuntimeError."""

    @pool.scoped
    def stubborn() -> Iterator[int]:
        while True:
            try:
                yield 1
            except GeneratorExit:
                yield 2
                return

    generator: Any = stubborn()
    next(generator)
    with pytest.raises(RuntimeError, match="ignored GeneratorExit"):
        generator.close()
    with pytest.raises(StopIteration):
        next(generator)
    assert_over(pool)


@pytest.mark.skipif(sys.version_info < (3, 13), reason="close returns what the generator does since 3.13")
def test_close_returns_what_the_generator_does(pool: RegionPool) -> None:
    """As without."""

    @pool.scoped
    def summing() -> Generator[None, int, int]:
        total = 0
        try:
            while True:
                total += yield
        except GeneratorExit:
            return total

    generator: Any = summing()
    next(generator)
    generator.send(5)
    generator.send(6)
    assert generator.close() == 11
    assert_over(pool)


@counts_references
def test_what_is_thrown_in_makes_no_cycle(pool: RegionPool) -> None:
    """The exception, the frames and what they hold go without the collector, so the region's memory is back at once."""
    gc.collect()
    gc.disable()
    try:
        generator = pool.scoped(numbers)([])
        next(generator)
        try:
            generator.throw(KeyError("x"))
        except KeyError:
            pass
        del generator
        assert (pool.stats().out, pool.stats().escaped, pool.stats().idle) == (0, 0, 1)
    finally:
        gc.enable()


# -- asynchronous generators


async def ticks(log: list[str]) -> AsyncGenerator[int, Any]:
    """The like of `numbers`."""
    region = current_region()
    count = 0
    try:
        while count < 10:
            region.alloc(10)
            await asyncio.sleep(0)
            assert current_region() is region
            try:
                received = yield count
            except ValueError as error:
                log.append(str(error))
                received = -1
            count = received if isinstance(received, int) else count + 1
    except BaseException as error:
        log.append(type(error).__name__)
        await asyncio.sleep(0)
        raise
    finally:
        assert current_region() is region and not region.closed
        log.append("over")


async def async_end_by_loop(generator: AsyncGenerator[int, Any]) -> None:
    assert [item async for item in generator] == list(range(1, 10))


async def async_end_by_send(generator: AsyncGenerator[int, Any]) -> None:
    assert await generator.asend(5) == 5
    with pytest.raises(StopAsyncIteration):
        await generator.asend(10)


async def async_end_by_close(generator: AsyncGenerator[int, Any]) -> None:
    await generator.aclose()
    await generator.aclose()


async def async_end_by_throw(generator: AsyncGenerator[int, Any]) -> None:
    assert await generator.athrow(ValueError("caught")) == -1
    error = KeyError("not caught")
    with pytest.raises(KeyError) as raised:
        await generator.athrow(error)
    assert raised.value is error


async def async_end_by_cancel(generator: AsyncGenerator[int, Any]) -> None:
    task = asyncio.ensure_future(generator.asend(None))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


ASYNC_ENDS = [async_end_by_loop, async_end_by_send, async_end_by_close, async_end_by_throw, async_end_by_cancel]


@pytest.mark.parametrize("end", ASYNC_ENDS)
def test_an_async_generator_ends_as_it_would_without(
    pool: RegionPool, end: Callable[[Any], Coroutine[Any, Any, None]]
) -> None:
    """By its end, aclose, athrow and cancellation; its region is current only while it runs."""
    log: list[str] = []

    async def main() -> None:
        generator = pool.scoped(ticks)(log)
        assert await anext(generator) == 0
        assert pool.stats().out == 1
        with pytest.raises(NoRegionError):
            current_region()
        await end(generator)
        assert pool.stats().out == 0
        with pytest.raises(StopAsyncIteration):
            await anext(generator)

    asyncio.run(main())
    assert log[-1] == "over"
    assert_over(pool)


def test_an_async_generator_ends_when_it_is_dropped(pool: RegionPool) -> None:
    """The loop closes it, as any other; what is left when the loop ends too."""
    log: list[str] = []
    kept: list[AsyncGenerator[int, Any]] = []

    async def main() -> None:
        async for _ in pool.scoped(ticks)(log):
            break
        for _ in range(10):
            collect()
            await asyncio.sleep(0.001)
        assert pool.stats().out == 0 and log == ["GeneratorExit", "over"]
        kept.append(pool.scoped(ticks)(log))
        await anext(kept[0])

    asyncio.run(main())
    assert log == ["GeneratorExit", "over"] * 2
    assert_over(pool, 2)


# -- pools that are sent


def test_a_pool_is_the_same_in_its_process(pool: RegionPool) -> None:
    """Copies and pickles of it are the pool itself."""
    assert copy.copy(pool) is copy.deepcopy({"pool": pool})["pool"] is pool
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        assert pickle.loads(pickle.dumps(pool, protocol)) is pool


@counts_references
def test_a_pool_that_nobody_has_goes() -> None:
    """A pickle keeps no pool: it is made anew by its arguments, and is then one again."""
    pool = RegionPool(SIZE, max_idle=3, retain=0, max_out=2, name="sent", wipe=True)
    sent = pickle.dumps(pool)
    with pool.region() as region:
        region.alloc(10)
    del pool, region
    other = pickle.loads(sent)
    assert other is pickle.loads(sent)
    assert (other.size, other.name, other.closed) == (SIZE, "sent", False)
    assert other.stats().leases == 0
    with other.region(), other.region(), pytest.raises(PoolFullError):
        other.region()
    assert pickle.dumps(other) == sent


def test_a_closed_pool_arrives_closed() -> None:
    """What uses it is told so."""
    with RegionPool(SIZE) as pool:
        pass
    sent = pickle.dumps(pool)
    assert pickle.loads(sent) is pool
    del pool
    collect()
    with pytest.raises(RegionClosedError):
        pickle.loads(sent).region()


@counts_references
def test_so_many_pools_are_kept() -> None:
    """The last eight that came stay warm with nobody having them; those that came before go."""
    sent = [pickle.dumps(RegionPool(SIZE)) for _ in range(9)]
    for each in sent:
        pickle.loads(each).region().close()
    assert [pickle.loads(each).stats().leases for each in reversed(sent)] == [1] * 8 + [0]


def test_one_pool_however_many_threads_unpickle_it() -> None:
    """Threads that get it at the same time get the same."""
    for _ in range(20):
        sent = pickle.dumps(RegionPool(SIZE))
        collect()
        found: list[RegionPool] = []
        run_threads(*[lambda sent=sent, found=found: found.append(pickle.loads(sent))] * 4)
        assert len(found) == 4 and len(set(map(id, found))) == 1


def test_regions_say_what_to_send_instead(pool: RegionPool) -> None:
    """Neither a region nor a view can be pickled."""
    with pool.region() as region:
        with pytest.raises(TypeError, match="Send its pool.*bytes"):
            pickle.dumps(region)
        with pytest.raises(TypeError, match="memoryview"):
            pickle.dumps(region.alloc(1))
