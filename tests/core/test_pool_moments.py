"""The pool in any thread and at any moment: threads, forks, signals, collections, the end of the interpreter."""

from __future__ import annotations

import gc
import os
import random
import threading
from collections import deque
from collections.abc import Callable
from itertools import count

import pytest

from helpers.invariants import check
from helpers.stress import at_moment, needs_cpython
from helpers.support import (
    collect,
    counts_references,
    forks_among_threads,
    needs_gil,
    next_address,
    run_script,
    run_threads,
)
from scopedbump import Region, RegionBusyError, RegionClosedError, RegionPool
from scopedbump._lifetime import Exporter

MIB = 1 << 20

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


def test_threads_share_a_pool() -> None:
    """Promises 6 and 9: with a tiny switch interval no thread sees a byte of another, and the sums come out."""
    pool = RegionPool(MIB, max_idle=3, retain=8192)
    serial = count(1)
    escapes: deque[tuple[memoryview, bytes]] = deque(maxlen=20)
    failures: list[str] = []

    def work(seed: int) -> None:
        draw = random.Random(seed)
        for _ in range(250):
            mark = next(serial).to_bytes(4, "little")
            with pool.region() as a:
                blocks = []
                for _ in range(draw.randrange(1, 5)):
                    size = draw.choice((4, 64, 4096, 40000))
                    block = a.alloc(size)
                    if block != bytes(size):
                        failures.append(f"{mark!r}: not zeroed")
                    block[:] = mark * (size // 4)
                    blocks.append(block)
                if draw.random() < 0.1:
                    escapes.append((blocks[0][:], mark))
                if draw.random() < 0.1:
                    a.reset()
                    continue
                if any(block != mark * (len(block) // 4) for block in blocks):
                    failures.append(f"{mark!r}: overwritten")

    run_threads(*[lambda seed=seed: work(seed) for seed in range(6)])
    for escape, mark in escapes:
        assert escape == mark * (len(escape) // 4)
    assert not failures
    collect()
    assert pool.stats().escaped <= 20
    escapes.clear()
    del escape
    collect()
    stats = pool.stats()
    assert stats.leases >= 1500
    assert stats.hits + stats.misses == stats.leases
    assert (stats.out, stats.escaped) == (0, 0)
    assert 1 <= stats.idle <= 3
    assert stats.committed <= 3 * 8192 * 2  # a page may be 16 KiB
    pool.close()
    assert pool.stats()[3:7] == (0, 0, 0, 0)


def test_close_against_threads() -> None:
    """A close while others take and give: they get regions that work, or RegionClosedError, and nothing stays idle."""
    for _ in range(30):
        pool = RegionPool(MIB)
        ready = threading.Barrier(4)

        def work(pool: RegionPool = pool, ready: threading.Barrier = ready) -> None:
            ready.wait()
            try:
                for _ in range(100_000):
                    with pool.region() as a:
                        a.alloc(100)[0] = 1
            except RegionClosedError:
                return
            raise AssertionError("the pool was never seen closed")

        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads:
            thread.start()
        ready.wait()
        pool.close()
        for thread in threads:
            thread.join()
        collect()
        assert pool.stats()[3:7] == (0, 0, 0, 0)


@needs_gil("without one the collector runs the finalizers of a dead cycle in another order")
def test_a_finalizer_may_use_the_pool() -> None:
    """Regions taken and given in `__del__`, in the middle of another lease's collection, are like any other."""
    pool = RegionPool(MIB)
    seen: list[int] = []

    class Late:
        def __init__(self) -> None:
            self.me = self
            self.region = pool.region()
            self.region.alloc(100)[0] = 1

        def __del__(self) -> None:
            with pool.region() as a:
                seen.append(a.alloc(100)[0])
            self.region.close()

    for _ in range(20):
        Late()
        with pool.region() as a:
            gc.collect()
            assert a.alloc(100)[0] == 0
    collect()
    assert seen == [0] * 20
    assert pool.stats()[4:6] == (0, 0)


@counts_references
@needs_fork
def test_a_child_has_a_pool_of_its_own() -> None:
    """Promise 10: the child counts anew and maps anew; regions that were open go on in both, apart from each other."""
    out = run_script("""
        import os
        from scopedbump import RegionPool

        def mapped(address):
            with open("/proc/self/maps") as maps:
                ranges = [line.split(" ", 1)[0].split("-") for line in maps]
            return any(int(start, 16) <= address < int(stop, 16) for start, stop in ranges)

        maps = os.path.exists("/proc/self/maps")
        pool = RegionPool(1 << 20)
        idle, a, gone = regions = pool.region(), pool.region(), pool.region()
        at_idle, at_a, at_gone = [region.address(region.alloc(1)) for region in regions]
        del regions
        idle.close()
        escaped = gone.alloc(10)[:]
        gone.close()
        view = a.alloc(100)
        view[:] = b"p" * 100
        child = os.fork()
        if not child:
            assert pool.stats()[:8] == (0,) * 8, pool.stats()
            assert not maps or not mapped(at_idle)
            view[:] = b"c" * 100
            assert a.alloc(100) == bytes(100)
            escaped[0] = 7
            with pool.region() as mine:
                mine.alloc(100)[:] = b"m" * 100
            a.close()
            del escaped, view
            assert not maps or not mapped(at_a) and not mapped(at_gone)
            assert pool.stats()[:6] == (1, 0, 1, 1, 0, 0), pool.stats()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        assert view == b"p" * 100 and escaped[0] == 0
        a.close()
        del escaped, view
        assert pool.stats()[:6] == (3, 0, 3, 3, 0, 0), pool.stats()
        assert os.fork() or os._exit(pool.close() or 0) is None
        assert os.wait()[1] == 0 and not pool.closed
        print("ok")
    """)
    assert out == "ok\n"


@needs_fork
def test_a_child_of_a_closed_pool_has_a_closed_pool() -> None:
    """Closed stays closed across a fork."""
    out = run_script("""
        import os
        from scopedbump import RegionClosedError, RegionPool
        pool = RegionPool(1 << 20)
        pool.close()
        if not os.fork():
            try:
                pool.region()
            except RegionClosedError:
                os._exit(0)
            os._exit(1)
        assert os.wait()[1] == 0
        print("ok")
    """)
    assert out == "ok\n"


@counts_references
@needs_fork
@forks_among_threads
def test_forks_while_threads_use_the_pool() -> None:
    """A fork between any two steps of other threads leaves the child a pool that works."""
    out = run_script("""
        import os, sys, threading, warnings
        from scopedbump import RegionPool
        warnings.simplefilter("ignore", DeprecationWarning)  # of a fork with threads
        sys.setswitchinterval(1e-6)
        pool = RegionPool(1 << 20, max_idle=2, retain=0)
        over = False
        def work():
            while not over:
                with pool.region() as a:
                    held = a.alloc(5000)
                    held[0] = 1
        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads:
            thread.start()
        for _ in range(40):
            child = os.fork()
            if not child:
                for _ in range(5):
                    with pool.region() as a:
                        assert a.alloc(5000) == bytes(5000)
                        del a
                stats = pool.stats()
                os._exit(0 if stats[:6] == (5, 4, 1, 1, 0, 0) else 1)
            assert os.waitpid(child, 0)[1] == 0
        over = True
        for thread in threads:
            thread.join()
        assert pool.stats().out == 0
        print("ok")
    """)
    assert out == "ok\n"


@counts_references
@pytest.mark.skipif(not hasattr(__import__("signal"), "setitimer"), reason="this system has no interval timer")
def test_interrupted_anywhere() -> None:
    """Exceptions of a signal handler at any moment lose no memory, and the pool goes on."""
    out = run_script("""
        import gc, signal, sys, time
        from scopedbump import RegionPool

        class Stop(Exception):
            pass

        def stop(*_):
            raise Stop

        sys.unraisablehook = lambda what: None  # those that hit a finalizer are shown there, whatever one does
        pool = RegionPool(1 << 20, max_idle=2, retain=4096)
        signal.signal(signal.SIGALRM, stop)
        hits = 0
        held = None
        end = time.monotonic() + 1.5
        while time.monotonic() < end:
            try:
                signal.setitimer(signal.ITIMER_REAL, 2e-5 + hits % 97 * 1e-6)
                for _ in range(50):  # not for ever: an exception that hits a finalizer is shown, and then lost
                    with pool.region() as a:
                        held = a.alloc(9000)
                        assert held[0] == 0
                        held[0] = 1
                signal.setitimer(signal.ITIMER_REAL, 0)
            except Stop:
                hits += 1
        signal.setitimer(signal.ITIMER_REAL, 0)
        held = a = None
        gc.collect()
        stats = pool.stats()
        assert hits > 100, hits
        assert stats.hits + stats.misses == stats.leases
        assert (stats.out, stats.escaped) == (0, 0), stats
        assert stats.idle <= 2, stats
        with pool.region() as a:
            assert a.alloc(9000) == bytes(9000)
        try:
            with open("/proc/self/maps") as maps:
                assert sum(1 for line in maps) < 300
        except FileNotFoundError:
            pass
        print("ok")
    """)
    assert out == "ok\n"


@pytest.mark.parametrize(
    "ending",
    [
        "a = pool.region(); view = a.alloc(10)",
        "a = pool.region(); view = a.alloc(10)[:]; a.close()",
        "a = pool.region(); view = a.alloc(10); a.close()",
        "pool.region().close()",
        "import builtins; a = pool.region(); builtins.kept = a, a.alloc(10)[:], pool.region()",
        "import atexit; a = pool.region(); atexit.register(a.close)",
        """
def work():
    while True:
        with pool.region() as a: a.alloc(10)
import threading, time
threading.Thread(target=work, daemon=True).start(); time.sleep(0.1)
""",
        """
class A:
    def __del__(self): self.a.close(); self.pool.close()
x = A(); x.x = x; x.pool = pool; x.a = pool.region(); x.view = x.a.alloc(10)[:]
""",
    ],
)
def test_the_end_of_the_interpreter_is_silent(ending: str) -> None:
    """Whatever is idle, out or escaped at the end of the process: no crash, and not a word but what was asked for."""
    run_script(f"""
import io, sys, warnings
warnings.simplefilter("ignore", ResourceWarning)  # of regions that nobody closed
from scopedbump import RegionPool
pool = RegionPool(1 << 20)
def complain(what): sys.__stdout__.write(repr(what)); sys.__stdout__.flush(); import os; os._exit(1)
sys.unraisablehook = complain
{ending}
""")


def in_a_thread(act: Callable[[], None]) -> None:
    thread = threading.Thread(target=act)
    thread.start()
    thread.join()


@pytest.mark.parametrize("come", [lambda act: act(), in_a_thread], ids=["by a handler", "in a thread"])
@pytest.mark.parametrize("second", ["close", "reset"])
@pytest.mark.parametrize("first", ["close", "reset"])
def test_an_end_in_the_middle_of_another(
    first: str, second: str, come: Callable[[Callable[[], None]], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise 4: what is left to an escape is left once, and nobody gets that memory before the escape is gone."""
    pool = RegionPool(1 << 20)
    a = pool.region()
    escape = a.alloc(100)[:]
    escape[:] = b"e" * 100
    pinned = Exporter.pinned
    came: list[str] = []

    def interrupt() -> None:
        try:
            getattr(a, second)()
        except RegionClosedError:
            assert first == "close" and second == "reset"
        except RegionBusyError:
            assert first == second == "reset"

    def interrupted(exporter: Exporter) -> bool:
        answer = pinned(exporter)
        if not came:
            came.append(second)
            come(interrupt)
        return answer

    monkeypatch.setattr(Exporter, "pinned", interrupted)
    try:
        getattr(a, first)()
    except RegionClosedError:
        assert first == "reset" and second == "close"
    assert came
    collect()  # the memory that the second reset or close has left
    assert pool.stats().escaped == 1
    with pool.region() as b, pool.region() as c:
        assert escape not in b and escape not in c
    assert bytes(escape) == b"e" * 100
    assert a.closed == ("close" in (first, second))
    a.close()
    check(a)
    if first == "close":
        assert not a.released
    del escape
    collect()
    assert a.released and pool.stats().escaped == 0
    pool.close()


@needs_cpython
@pytest.mark.parametrize("hold", [False, True])
def test_a_handler_that_ends_a_region_in_its_end_and_takes_the_next(hold: bool) -> None:
    """Promise 4: at whatever moment of a close that is, nobody else gets what the handler took."""
    number = 0
    while True:
        pool = RegionPool(1 << 20)
        a = pool.region()
        view = a.alloc(100)
        if not hold:
            del view
        taken: list[Region] = []

        def interrupt(pool: RegionPool = pool, a: Region = a, taken: list[Region] = taken) -> None:
            a.close()
            taken.append(pool.region())

        moment = at_moment(number, interrupt, a.close)
        assert moment.error is None
        others = [pool.region(), pool.region()]
        assert len({*map(next_address, (*taken, *others))}) == len(taken) + 2, moment.place
        for region in (*taken, *others):
            region.alloc(100)[:] = b"x" * 100
            region.close()
        if not moment.happened:
            break
        number += 1
    assert number > 20
