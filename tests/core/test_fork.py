"""Promise 10: a child has its own copy, however it was made, and whoever closes first."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable
from typing import Any

import pytest

from helpers.invariants import check
from helpers.stress import both_builds, choose_build, in_process
from helpers.support import collect, counts_references, forks_among_threads
from scopedbump import Region, RegionBusyError, RegionPool, bump_region

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")


def in_child(body: Callable[[], object]) -> int:
    """Fork, run `body` in the child, and leave it at once: the child's process id."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of a fork among threads: it is what is tested
        child = os.fork()
    if child:
        return child
    status = 1
    try:
        body()
        status = 0
    except BaseException:  # noqa: BLE001  # shown, and told by the status
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(status)


def wait(child: int, seconds: float = 20) -> None:
    """The child ends well, and in time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            assert status == 0, f"the child ended with {status}"
            return
        time.sleep(0.002)
    os.kill(child, 9)
    os.waitpid(child, 0)
    raise AssertionError("the child hangs")


def use_and_close(a: Region) -> None:
    use(a, b"c")
    a.close()


def use(a: Region, mark: bytes) -> None:
    view = a.alloc(1000)
    assert not any(view)
    view[:] = mark * 1000
    with a.scope() as s:
        s.alloc(100_000)[:] = mark * 100_000
    assert view == mark * 1000
    check(a)


def everything_open(parent_first: bool, build: str) -> None:
    choose_build(build)
    pool = RegionPool(1 << 20)
    with pool.region() as warm:
        warm.alloc(100)
    a, b = bump_region(1 << 20), pool.region()
    s = a.scope()
    old = s.alloc(100)
    old[:] = b"o" * 100
    pin = b.alloc(100)[:]
    pin[:] = b"p" * 100
    blocks = b.slab(64)
    next(blocks)
    told, tell = os.pipe()

    def finish(mark: bytes) -> None:
        assert old == b"o" * 100 and pin == b"p" * 100
        old[:] = mark * 100
        next(blocks)[:] = mark * 64
        use(s, mark)
        s.close()
        use(a, mark)
        use(b, mark)
        b.reset()
        assert pin == b"p" * 100
        for region in (a, b):
            region.close()
            check(region)
        with pool.region() as again:
            use(again, mark)
        pool.close()

    def child() -> None:
        if parent_first:
            assert os.read(told, 1) == b"!"
        finish(b"c")

    process = in_child(child)
    if parent_first:
        finish(b"P")
        os.write(tell, b"!")
        wait(process)
    else:
        wait(process)
        finish(b"P")


@needs_fork
@both_builds
@pytest.mark.parametrize("parent_first", [True, False], ids=["parent first", "child first"])
def test_everything_open_across_a_fork(parent_first: bool, build: str) -> None:
    """Promise 10: regions, scopes, slabs, pools and pins go on in both processes; neither sees the other's bytes."""
    in_process(__file__, "everything_open", parent_first, build)


def fork_in_a_storm(build: str, forks: int) -> None:
    """Fork again and again while threads allocate, commit, scope and reset: the child then works on all of it."""
    choose_build(build)
    sys.setswitchinterval(1e-6)
    a, b = bump_region(1 << 28), bump_region(1 << 28)
    pool = RegionPool(1 << 20, max_idle=4)
    done = False

    def busy(work: Callable[[], object]) -> None:
        while not done:
            try:
                work()
            except (RegionBusyError, MemoryError):
                b.reset() if b.available < 1 << 20 else None

    def nest() -> None:
        with b.scope() as s:
            s.alloc(3 << 20)

    def pooled() -> None:
        with pool.region() as c:
            c.alloc(100_000)

    works = (lambda: a.alloc(100, 64), nest, pooled, lambda: bump_region(1 << 20).close())
    threads = [threading.Thread(target=busy, args=(work,)) for work in works]
    for thread in threads:
        thread.start()

    def child() -> None:
        nonlocal done
        done = True
        use(a, b"c")
        try:
            use(b, b"c")
        except RegionBusyError:
            b.close()  # a scope of a thread that is no more
        with pool.region() as c:
            use(c, b"c")
        for region in (a, b):
            region.close()
        with bump_region(1 << 20) as d:
            use(d, b"c")

    try:
        for _ in range(forks):
            if a.available < 1 << 20:
                a.reset()
            wait(in_child(child))
    finally:
        done = True
        for thread in threads:
            thread.join()
    a.close()
    b.close()
    print(forks)


@needs_fork
@both_builds
@forks_among_threads
def test_a_fork_among_threads(build: str) -> None:
    """Promise 10: whatever other threads were in the middle of, no lock of theirs is held in the child for ever."""
    in_process(__file__, "fork_in_a_storm", build, 25)


@needs_fork
@pytest.mark.long
@both_builds
@forks_among_threads
def test_many_forks_among_threads(build: str) -> None:
    """Promise 10: the same, five hundred times."""
    in_process(__file__, "fork_in_a_storm", build, 500, timeout=300)


def held_lock(build: str) -> None:
    """Fork while another thread is inside a critical section, which nothing but a lock can show."""
    choose_build(build)
    a = bump_region(1 << 20)
    inside, leave = threading.Event(), threading.Event()

    def hold() -> None:
        lock = a._chunk.lock
        assert lock is not None
        with lock:
            inside.set()
            leave.wait(20)

    thread = threading.Thread(target=hold)
    thread.start()
    inside.wait(20)
    process = in_child(lambda: use_and_close(a))
    try:
        wait(process, 10)
    finally:
        leave.set()
        thread.join()
    use(a, b"P")
    a.close()


@needs_fork
def test_a_lock_that_was_held_at_the_fork() -> None:
    """Promises 9 and 10: the child makes it anew."""
    in_process(__file__, "held_lock", "locked")


def job(pipe: object = None) -> int:
    """What a worker process does; it finds nothing of its parent unless it was forked."""
    with bump_region(1 << 20, name="worker") as a:
        use(a, b"w")
        pin = a.alloc(10)[:]
    pin[:] = b"x" * 10
    del pin
    collect()
    return 7


def leave(code: Callable[[], int]) -> None:
    sys.exit(0 if code() == 7 else 1)


@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
def test_worker_processes(method: str) -> None:
    """Promise 10: with each way to start a process, while regions and pools are open here."""
    if sys.platform == "win32" and not getattr(sys, "winver", ""):
        pytest.skip("no processes")
    output = in_process(__file__, "work_with", method)
    assert output.split()[-1] == "14"


def work_with(method: str) -> None:
    context: Any = multiprocessing.get_context(method)  # which has Process, says mypy on Linux alone
    with bump_region(1 << 20) as a, RegionPool(1 << 20) as pool, pool.region() as b:
        view = a.alloc(100)
        view[:] = b"v" * 100
        processes = [context.Process(target=leave, args=(job,)) for _ in range(2)]
        for process in processes:
            process.start()
        for process in processes:
            process.join(60)
        assert [process.exitcode for process in processes] == [0, 0]
        assert view == b"v" * 100
        use(a, b"P")
        use(b, b"P")
        print(7 * len(processes))


def test_a_subprocess_reads_from_and_writes_to_scratch_memory() -> None:
    """Promise 10: `subprocess` forks and runs another program; what is open here stays as it is."""
    with bump_region(1 << 20) as a:
        view = a.copy(b"to be read by another program")
        for _ in range(3):
            done = subprocess.run(
                [sys.executable, "-c", "import sys; sys.stdout.write(sys.stdin.read().upper())"],
                input=view,
                capture_output=True,
                check=True,
                timeout=60,
            )
            answer = a.copy(done.stdout)
            assert bytes(answer) == b"TO BE READ BY ANOTHER PROGRAM"
        check(a)


@counts_references
def test_a_region_can_not_be_copied_or_sent() -> None:
    """Promise 9: a copy would hand out the same bytes again."""
    import copy
    import pickle

    with RegionPool(1 << 20) as pool, bump_region(1 << 20) as a, pool.region() as b, a.scope() as c:
        for thing in (a, b, c):
            for send in (copy.copy, copy.deepcopy, pickle.dumps):
                with pytest.raises(TypeError, match="can't be copied or pickled"):
                    send(thing)
