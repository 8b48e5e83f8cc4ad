"""The current region: whom it reaches, and what those are told whom it does not."""

from __future__ import annotations

import asyncio
import contextvars
import sys
import threading
from collections.abc import Iterator

import pytest

from scopedbump import NoRegionError, Region, RegionClosedError, ScopedBumpError, bump_region, current_region


def test_the_innermost_block_is_current() -> None:
    """Blocks nest, and leaving one makes the region around it current again; none closes its region."""
    with bump_region(1 << 20) as a, bump_region(1 << 20) as b:
        with a.as_current() as entered:
            assert entered is current_region() is a
            with b.as_current():
                assert current_region() is b
                with a.as_current():
                    assert current_region() is a
                assert current_region() is b
            assert current_region() is a
        assert not a.closed


def test_a_scope_can_be_current() -> None:
    """as_current() of a scope, while its parent is busy."""
    with bump_region(1 << 20) as a, a.as_current():
        with a.scope() as inner, inner.as_current():
            assert current_region() is inner
        assert current_region() is a


def test_outside_there_is_none() -> None:
    """Outside of every block: an error that is a LookupError and says what to do; also after an exception."""
    with pytest.raises(NoRegionError, match=r"as_current\(\)") as caught:
        current_region()
    assert isinstance(caught.value, LookupError)
    assert isinstance(caught.value, ScopedBumpError)
    with pytest.raises(KeyError), bump_region(1 << 20) as a, a.as_current():
        raise KeyError
    with pytest.raises(NoRegionError):
        current_region()


def test_a_region_that_has_ended() -> None:
    """It can't become current, and whoever still has it as the current one is told that it has ended."""
    a = bump_region(1 << 20, name="over")
    with a.as_current():
        a.close()
        with pytest.raises(RegionClosedError, match="'over'.*has ended"):
            current_region()
    with pytest.raises(RegionClosedError, match="'over'.*has ended"):
        a.as_current()


def test_a_block_is_entered_once() -> None:
    """One as_current() is one block; leaving it without having entered does nothing."""
    with bump_region(1 << 20) as a:
        block = a.as_current()
        block.__exit__(None, None, None)
        with block:
            with pytest.raises(RuntimeError, match="entered already"):
                block.__enter__()
            assert current_region() is a
        with block:
            assert current_region() is a
        with pytest.raises(NoRegionError):
            current_region()


def test_tasks_inherit_and_threads_do_not() -> None:
    """A task and to_thread see the region of their maker; a thread and run_in_executor see none."""

    def look() -> Region | None:
        try:
            return current_region()
        except NoRegionError:
            return None

    async def look_later() -> Region | None:
        await asyncio.sleep(0)
        return look()

    async def main() -> list[Region | None]:
        with bump_region(1 << 20) as a, a.as_current():
            seen = [await asyncio.create_task(look_later()), await asyncio.to_thread(look)]
            assert seen == [a, a]
            seen = [await asyncio.get_running_loop().run_in_executor(None, look)]
            thread = threading.Thread(target=lambda: seen.append(look()))
            thread.start()
            thread.join()
            return seen

    of_executor, of_thread = asyncio.run(main())
    if not getattr(sys.flags, "thread_inherit_context", 0):  # since Python 3.14 threads may be told to
        assert of_executor is None
        assert of_thread is None


def test_tasks_do_not_see_each_other() -> None:
    """Every task of a gather has its own region, however they take turns."""

    async def work(size: int) -> None:
        with bump_region(size) as a, a.as_current():
            for _ in range(5):
                await asyncio.sleep(0)
                assert current_region() is a
                assert current_region().size == size

    async def main() -> None:
        await asyncio.gather(*(work(size) for size in range(4096, 4106)))

    asyncio.run(main())


def test_a_task_that_outlives_its_request() -> None:
    """It gets RegionClosedError, from current_region() and from the region itself."""

    async def main() -> None:
        going = asyncio.Event()

        async def late() -> None:
            region = current_region()
            await going.wait()
            with pytest.raises(RegionClosedError):
                current_region()
            with pytest.raises(RegionClosedError):
                region.alloc(10)

        with bump_region(1 << 20) as a, a.as_current():
            task = asyncio.create_task(late())
            await asyncio.sleep(0)
        going.set()
        await task

    asyncio.run(main())


def test_left_in_another_context() -> None:
    """A generator closed in another context than it began in leaves that one's current region alone, and is silent."""

    def within(region: Region) -> Iterator[Region]:
        with region.as_current():
            yield current_region()

    with bump_region(1 << 20) as a, bump_region(1 << 20) as b, b.as_current():
        generator = within(a)
        context = contextvars.copy_context()
        assert context.run(next, generator) is a
        generator.close()  # type: ignore[attr-defined]  # it is a generator
        assert current_region() is b
        assert context.run(current_region) is a
        a.close()
        with pytest.raises(RegionClosedError):
            context.run(current_region)
