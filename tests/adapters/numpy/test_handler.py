"""A region as NumPy's allocator: what it serves, what outlives it, and what goes wrong around it."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import io
import os
import pickle
import random
import signal
import sys
import threading
from typing import Any

import pytest

from helpers.support import run_script, run_threads
from scopedbump import Region, RegionPool, bump_region

np = pytest.importorskip("numpy", reason="NumPy is not installed")
if sys.implementation.name != "cpython" or not getattr(sys, "_is_gil_enabled", lambda: True)():
    pytest.skip("NumPy's allocator can be a region only on CPython with a GIL", allow_module_level=True)

from scopedbump._adapters import _numpy_abi as abi  # noqa: E402
from scopedbump._adapters import _numpy_memory as memory  # noqa: E402

umath = abi.umath
BIG = 10_000  # items of 8 bytes
LEAST = 1 << 14


def allocator(array: Any = None) -> str:
    """The name of the allocator of an array, or of the present one."""
    name: str = umath.get_handler_name() if array is None else umath.get_handler_name(array)
    return name


def live_blocks() -> int:
    """Blocks that NumPy has from a callback of ours."""
    return sum(map(len, memory.slots.values()))


@pytest.fixture(autouse=True)
def nothing_stays() -> Any:
    """Every test leaves NumPy with its default, and no block behind."""
    before = live_blocks()
    yield
    gc.collect()
    memory.sweep()
    assert not memory._deferred
    assert allocator() == "default_allocator"
    assert live_blocks() == before


def test_what_numpy_allocates_in_the_body_comes_from_the_region() -> None:
    """Temporaries and results lie in the region, small ones do not, and the counts add up."""
    with bump_region() as a:
        with a.numpy.handler(min_bytes=4096) as h:
            x = np.arange(BIG, dtype=np.float64)
            y = (x + 1) * 2 - x / 3
            small = np.zeros(3)
            assert x.ctypes.data in a and y.ctypes.data in a and small.ctypes.data not in a
            assert x.ctypes.data % 64 == y.ctypes.data % 64 == 0
            assert allocator(x) == "scopedbump"
        after = np.zeros(BIG)
        assert after.ctypes.data not in a
        assert h.served_blocks >= 5 and h.served_bytes == h.served_blocks * BIG * 8
        assert h.passed_blocks >= 1 and h.passed_bytes >= 24
        assert "served" in repr(h) and h.ended
        expected = (np.arange(BIG, dtype=np.float64) + 1) * 2 - np.arange(BIG, dtype=np.float64) / 3
        assert np.array_equal(y, expected)


def test_zeros_are_zero_in_memory_used_before() -> None:
    """Promise 6: calloc gives zeros, of blocks that were given back and after a reset too."""
    with bump_region(1 << 24) as a:
        for _ in range(2):
            with a.numpy.handler(0):
                for _ in range(20):
                    x = np.full(BIG, 1.5)
                    del x
                    assert not np.zeros(BIG).any()
            a.reset()


def test_a_freed_block_serves_the_next_of_its_size() -> None:
    """A loop of temporaries stays in a few blocks, and the cursor does not move with it."""
    with bump_region(1 << 24) as a, a.numpy.handler(LEAST) as h:
        x = np.ones(BIG)
        for _ in range(3):
            x = x * 2 - x
        used = a.used
        for _ in range(1000):
            x = x * 2 - x
        assert a.used == used and h.served_blocks > 2000 and (x == 1).all()


def test_an_array_that_outlives_the_region_keeps_its_content() -> None:
    """Promise 4: the memory stays with the last array made under the handler, or view of one, and goes with it."""
    with bump_region() as a, a.numpy.handler(LEAST):
        x = np.arange(BIG)
        y = x * 2
    assert a.closed and not a.released
    del x
    view = y[5::7]
    del y
    assert not a.released and np.array_equal(view, np.arange(BIG)[5::7] * 2)
    del view
    assert a.released


def test_an_array_that_outlives_its_lease_in_a_pool_is_left_alone() -> None:
    """Promise 4: the reservation comes back to the pool when the array has died, not before."""
    with RegionPool(1 << 24) as pool:
        with pool.region() as a, a.numpy.handler(LEAST):
            x = np.arange(BIG)
        for _ in range(3):
            with pool.region() as b, b.numpy.handler(LEAST):
                y = np.full(BIG, -1)
                assert y.ctypes.data != x.ctypes.data
                del y
        assert np.array_equal(x, np.arange(BIG)) and pool.stats().escaped == 1
        del x
        assert pool.stats().escaped == 0


def test_full_closed_busy_and_reset_regions_hand_on() -> None:
    """NumPy never fails for the region's sake: its default takes over, and the region comes back when it can."""
    with bump_region(1 << 20) as a, a.numpy.handler(LEAST) as h:
        big = np.ones(1 << 18)
        assert h.served_blocks == 0 and h.passed_blocks >= 1
        fits = np.ones(BIG)
        assert fits.ctypes.data in a
        with a.scope():
            inside = np.ones(BIG)
        served = h.served_blocks
        assert inside.ctypes.data not in a
        again = np.ones(BIG)
        assert again.ctypes.data in a and h.served_blocks == served + 1
        a.reset()
        new = np.full(BIG, 2.0)
        assert new.ctypes.data in a and fits.ctypes.data not in a
        a.close()
        last = np.ones(BIG)
        assert last.ctypes.data not in a
        total = sum(float(each.sum()) for each in (big, fits, inside, again, new, last))
        assert total == (1 << 18) + 6 * BIG
    assert not a.released
    del new
    assert a.released


def test_exceptions_on_their_way_survive_the_arrays_that_they_free() -> None:
    """A temporary may be freed with an exception set: it arrives as it was, and the memory comes back."""

    def broken() -> Any:
        x = np.ones(BIG)
        return (x * 2) + undefined  # type: ignore[name-defined]  # that is what is tested

    with bump_region(1 << 24) as a:
        for least in (0, 1 << 30):
            with a.numpy.handler(least):
                for _ in range(50):
                    with pytest.raises(NameError, match="undefined"):
                        broken()
                    with pytest.raises(FloatingPointError, match="divide"), np.errstate(all="raise"):
                        np.divide(np.ones(BIG), np.zeros(BIG))
                    with pytest.raises(ValueError, match="broadcast"):
                        np.add(np.ones(BIG), np.ones(3) * 2)
                    with pytest.raises(ValueError, match="no float"):
                        np.fromiter((float(x) for x in ["1"] * 5000 + ["no float"]), float)
    gc.collect()
    assert a.released


def test_resize_and_growth_keep_the_content() -> None:
    """realloc: bigger, smaller, across min_bytes, in a full region and outside of the body."""
    with bump_region(1 << 22) as a:
        with a.numpy.handler(1000) as h:
            x = np.arange(10)
            for n in (100, 1000, 999, 50_000, 3, 200_000, 1_000_000):
                old = x.copy()
                x.resize(n, refcheck=False)
                kept = min(n, len(old))
                assert np.array_equal(x[:kept], old[:kept]) and not x[kept:].any()
            grown = np.fromiter(iter(range(100_000)), np.int64)
            assert np.array_equal(grown, np.arange(100_000))
            y = np.arange(BIG)
            assert y.ctypes.data in a and h.served_blocks > 1
        y.resize(2 * BIG, refcheck=False)
        assert y.ctypes.data not in a and np.array_equal(y[:BIG], np.arange(BIG)) and not y[BIG:].any()
        del old


def test_copies_views_pickles_files_and_out() -> None:
    """What is made from such arrays is right, inside and after the region."""
    with bump_region() as a, a.numpy.handler(0):
        x = np.arange(BIG, dtype=np.float64).reshape(100, 100)
        made = [x.copy(), x.T.copy().T, x[::-1][::-1], x.astype("f4").astype("f8"), np.add(x, 0, out=np.empty_like(x))]
        made.append(pickle.loads(pickle.dumps(x)))
        file = io.BytesIO()
        np.save(file, x)
        file.seek(0)
        made.append(np.load(file))
        made.append(np.concatenate([x[:50], x[50:]]))
        order = np.argsort(-x, axis=None, kind="stable")
    plain = np.arange(BIG, dtype=np.float64).reshape(100, 100)
    assert all(np.array_equal(each, plain) for each in made)
    assert np.array_equal(order, np.arange(BIG)[::-1])
    made.clear()
    del x, order
    memory.sweep()  # argsort kept the capsule of its result
    assert a.released


def test_arrays_die_in_other_threads() -> None:
    """An array may be freed anywhere, any time: its memory goes with it."""
    with bump_region(1 << 24) as a, a.numpy.handler(LEAST):
        box = [np.arange(BIG) for _ in range(20)]
    threads = [threading.Thread(target=lambda: [box.pop() for _ in range(5)] and None) for _ in range(4)]
    for thread in threads:
        assert not a.released
        thread.start()
        thread.join()
    assert a.released


def test_nested_handlers_serve_in_turn() -> None:
    """The inner region serves in the inner body; then it is the outer's turn again."""
    with bump_region() as a, bump_region() as b:
        with a.numpy.handler(LEAST) as outer:
            first = np.ones(BIG)
            with b.numpy.handler(LEAST) as inner:
                second = np.ones(BIG)
                with a.numpy.handler(LEAST):
                    third = np.ones(BIG)
            fourth = np.ones(BIG)
        assert first.ctypes.data in a and second.ctypes.data in b and third.ctypes.data in a
        assert fourth.ctypes.data in a
        assert outer.served_blocks == 2 and inner.served_blocks == 1
        del first, second, third, fourth


def test_leaving_in_the_wrong_order_changes_nothing() -> None:
    """The error leaves NumPy as it was, and the right order works afterwards."""
    with bump_region() as a:
        outer, inner = a.numpy.handler(LEAST), a.numpy.handler(LEAST)
        outer.__enter__()
        inner.__enter__()
        with pytest.raises(RuntimeError, match="leave what was entered later first"):
            outer.__exit__(None, None, None)
        assert np.ones(BIG).ctypes.data in a and inner.served_blocks == 1 and outer.served_blocks == 0
        error = KeyError("on its way")
        outer.__exit__(KeyError, error, None)
        assert "leave what was entered later first" in error.__notes__[0]
        inner.__exit__(None, None, None)
        assert np.ones(BIG).ctypes.data in a and outer.served_blocks == 1
        outer.__exit__(None, None, None)
        outer.__exit__(None, None, None)
        for used in (outer, inner):
            with pytest.raises(RuntimeError, match="only once"):
                used.__enter__()


def test_leaving_in_another_context_changes_nothing() -> None:
    """A handler belongs to the context that entered it."""
    with bump_region() as a:
        h = a.numpy.handler(LEAST)
        with pytest.raises(RuntimeError, match="leave what was entered later"):
            contextvars.Context().run(
                lambda: (h.__enter__() and None) or contextvars.Context().run(h.__exit__, None, None, None)
            )
        h = a.numpy.handler(LEAST)
        with h:
            with pytest.raises(RuntimeError, match="only once"):
                h.__enter__()
            with pytest.raises(RuntimeError, match="another context"):
                contextvars.copy_context().run(h.__exit__, None, None, None)
            assert np.ones(BIG).ctypes.data in a


def test_another_librarys_handler_is_respected() -> None:
    """With a foreign handler on top, leaving is an error; when it has gone, all is well."""
    with bump_region() as a:
        h = a.numpy.handler(LEAST)
        h.__enter__()
        ours = abi.allocator.get()
        abi.allocator.set(abi.default_capsule)
        with pytest.raises(RuntimeError, match="entered later"):
            h.__exit__(None, None, None)
        assert np.ones(BIG).ctypes.data not in a
        abi.allocator.set(ours)
        assert np.ones(BIG).ctypes.data in a
        h.__exit__(None, None, None)


def test_threads_and_tasks_have_what_their_context_has() -> None:
    """A thread starts without the handler; tasks and to_thread inherit it; each task may have its own."""
    where: dict[str, bool] = {}

    def look(name: str, region: Region) -> None:
        where[name] = np.ones(BIG).ctypes.data in region

    async def own(region: Region) -> bool:
        with region.numpy.handler(LEAST):
            for _ in range(5):
                await asyncio.sleep(0)
                if np.ones(BIG).ctypes.data not in region:
                    return False
        return True

    async def main(region: Region) -> None:
        await asyncio.to_thread(look, "to_thread", region)
        with bump_region() as b, bump_region() as c:
            assert all(await asyncio.gather(own(b), own(c), own(region)))
        look("after tasks", region)

    with bump_region() as a, a.numpy.handler(LEAST):
        thread = threading.Thread(target=look, args=("thread", a))
        thread.start()
        thread.join()
        asyncio.run(main(a))
    inherits = getattr(sys.flags, "thread_inherit_context", 0) == 1
    assert where == {"thread": inherits, "to_thread": True, "after tasks": True}


def test_a_task_that_outlives_the_handler_gets_numpys_default() -> None:
    """What inherited the handler is served by the region no longer, and its arrays are right."""
    with bump_region() as a:
        with a.numpy.handler(LEAST):
            late = contextvars.copy_context()
            early = late.run(np.ones, BIG)
            assert early.ctypes.data in a
        served = [late.run(np.ones, BIG) for _ in range(3)]
        assert not any(each.ctypes.data in a for each in served)
        assert late.run(allocator) == "default_allocator"
    assert not a.released
    del early
    memory.sweep()  # the other context has its capsule
    assert a.released
    assert all(each.sum() == BIG for each in served)


def test_blocks_that_share_a_ticket_are_freed_when_all_are_dead() -> None:
    """Copies of one context allocate with the ticket that they inherited; no block goes while it is in use."""
    generator = random.Random(5)
    with bump_region(1 << 26) as a, a.numpy.handler(1000):
        for _ in range(30):
            contexts = [contextvars.copy_context() for _ in range(5)]
            sizes = [generator.choice([50, 5000]) for _ in contexts]
            arrays = [
                context.run(np.full, n, float(i)) for i, (context, n) in enumerate(zip(contexts, sizes, strict=True))
            ]
            arrays[2].resize(10_000, refcheck=False)
            assert (arrays[2][: sizes[2]] == 2).all()
            left = list(enumerate(arrays))
            arrays.clear()
            generator.shuffle(left)
            while left:
                left.pop()
                np.full(5000, -1.0)
                assert all((array[:50] == i).all() for i, array in left)
    memory.sweep()
    assert a.released


def test_numpy_frees_nothing_at_all_with_a_captured_handler() -> None:
    """Sorts free NULL with the handler that they asked for: no array that got the same one dies of it."""
    with bump_region(1 << 24) as a, a.numpy.handler(0):
        for _ in range(50):
            x = np.array([0, 2, 4, 6, 8, 10])
            x = x.argpartition(np.array([], dtype=np.int16))
            junk = [np.full(6, -1) for _ in range(5)]
            assert np.array_equal(x, np.arange(6))
            x.sort()
            x.argsort().sort()
            contexts = [contextvars.copy_context() for _ in range(3)]
            y = np.arange(6)
            for context in contexts:
                context.run(x.sort)
                junk.append(np.full(6, -1))
            assert np.array_equal(y, np.arange(6)) and np.array_equal(x, np.arange(6))
        del x, y, junk, contexts


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="there are no interval timers")
def test_what_a_signal_handler_raises_arrives_whole() -> None:
    """An exception in the middle of an allocation is raised as it is, and nothing leaks."""

    class AlarmError(Exception):
        pass

    def ring(*_: object) -> None:
        raise AlarmError("with", "arguments")

    before = signal.signal(signal.SIGALRM, ring)
    try:
        for turn in range(150):
            with bump_region(1 << 24) as a:
                try:
                    with a.numpy.handler(0):
                        x = np.ones(3000)
                        # Again and again: what hits a finalizer is printed, and lost.
                        signal.setitimer(signal.ITIMER_REAL, 0.0003 + turn * 2e-6, 0.25)
                        while True:
                            x = x * x + np.zeros(300).sum()
                            z = np.fromiter(iter(range(300)), float)
                            z.resize(900, refcheck=False)
                except AlarmError as alarm:
                    signal.setitimer(signal.ITIMER_REAL, 0)
                    assert alarm.args == ("with", "arguments")
                x = z = None
            memory.sweep()
            assert a.released and allocator() == "default_allocator"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_ten_thousand_blocks_from_threads_with_escapes() -> None:
    """Four threads, regions of many sizes, escapes of all kinds, full regions: nothing leaks, and counts add up."""
    kept: list[Any] = []
    regions: list[Region] = []

    def work(seed: int) -> None:
        generator = random.Random(seed)
        for _ in range(25):
            with bump_region(generator.choice([1 << 16, 1 << 20, 1 << 24])) as a:
                regions.append(a)
                with a.numpy.handler(generator.choice([0, 512, 4096])) as h:
                    for i in range(100):
                        x = np.full(generator.choice([1, 10, 100, 1000, 10_000]), float(i))
                        kept.append((x, float(i)))
                        if len(kept) > 50:
                            y, value = kept.pop(generator.randrange(50))
                            assert (y == value).all()
                assert h.served_blocks + h.passed_blocks >= 100

    run_threads(*[lambda seed=seed: work(seed) for seed in range(4)])
    assert all((x == value).all() for x, value in kept)
    kept.clear()
    gc.collect()
    assert all(region.released for region in regions)


def test_threads_that_enter_at_once_get_a_slot_each() -> None:
    """Between its choice and its use nobody else takes the slot that a handler begins with."""

    def work() -> None:
        with bump_region(1 << 16) as a:
            for _ in range(8000):
                with a.numpy.handler(0):
                    pass

    run_threads(*[work] * 4)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_fork_has_a_copy() -> None:
    """Promise 10: the child goes on with its own copy, and the parent keeps what the child closes."""
    run_script(
        """
        import os
        import numpy as np
        from scopedbump import bump_region
        with bump_region() as a, a.numpy.handler(1 << 16):
            x = np.arange(10_000)
            child = os.fork()
            if not child:
                y = x * 2
                assert y.ctypes.data in a and y.sum() == 2 * x.sum()
                x[:] = 0
                del x, y
                a.close()
                assert a.released
                os._exit(0)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
            assert (x == np.arange(10_000)).all()
        del x
        assert a.released
        """
    )


EXITS = {
    "a module": "import numpy.linalg; numpy.linalg.kept = x",
    "builtins": "import builtins; builtins.kept = x",
    "sys": "import sys; sys.kept = x; sys.modules['kept'] = x * 2",
    "a cycle": "node = [x]; node.append(node); del node",
    "another thread": """
import threading, contextvars
ready = threading.Event()
def stay(x):
    y = x * 2
    ready.set()
    threading.Event().wait()
threading.Thread(target=contextvars.copy_context().run, args=(stay, x), daemon=True).start()
ready.wait()
""",
    "a finalizer": """
import builtins
class Late:
    def __init__(self, x): self.x = x
    def __del__(self): self.x.resize(10 * len(self.x), refcheck=False); self.y = self.x * 2
builtins.kept = Late(x * 3)
late = Late(x * 4)
""",
    "an exit function": "import atexit; atexit.register(lambda: print(int((x * 2).sum())))",
}


@pytest.mark.parametrize("closed", [False, True], ids=["open", "closed"])
@pytest.mark.parametrize("where", EXITS)
def test_arrays_alive_at_exit_do_no_harm(where: str, closed: bool) -> None:
    """The interpreter ends in peace whatever still holds an array that was made under a handler."""
    end = "h.__exit__(None, None, None); a.close()" if closed else ""
    script = "import numpy as np\nfrom scopedbump import bump_region\na = bump_region()\nh = a.numpy.handler(0)\n"
    out = run_script(script + f"h.__enter__()\nx = np.arange(10_000)\n{EXITS[where]}\n{end}")
    assert out == ("99990000\n" if where == "an exit function" else "")


def test_wrong_arguments_are_refused_before_anything_changes() -> None:
    """min_bytes is an int, zero or more."""
    with bump_region() as a:
        with pytest.raises(TypeError, match="min_bytes must be an int, not 'x'"):
            a.numpy.handler("x")  # type: ignore[arg-type]  # what is tested
        with pytest.raises(ValueError, match="min_bytes must be zero or more, not -1"):
            a.numpy.handler(-1)
    with a.numpy.handler(0) as h:
        assert np.ones(BIG).sum() == BIG
    assert h.served_blocks == 0
