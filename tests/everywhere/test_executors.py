"""`pool.scoped` and pools that are sent, under every executor: threads, processes of each kind, joblib, Dask.

Each program runs in a process of its own, as a script: executors import `__main__`, leave processes behind, and may
hang. What it prints at the end is what is looked at.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from helpers.support import ENVIRONMENT

pytestmark = pytest.mark.skipif(
    sys.implementation.name != "cpython", reason="memory goes at the next collection where nothing counts references"
)

FORKS = hasattr(os, "fork")


def needs(*packages: str) -> list[pytest.MarkDecorator]:
    """Skipped by the name of what is not installed; they start a lot of processes, which takes its time."""
    missing = [package for package in packages if importlib.util.find_spec(package) is None]
    return [pytest.mark.skipif(bool(missing), reason=f"{', '.join(missing)} not installed"), pytest.mark.long]


def run_program(folder: Path, code: str, *arguments: str) -> str:
    """The output of a script; a failure shows all of it."""
    script = folder / "program.py"
    script.write_text(textwrap.dedent(WORK) + textwrap.dedent(code))
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", str(script), *arguments],
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
        cwd=folder,
        env=ENVIRONMENT,
    )
    assert done.returncode == 0, f"exit status {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


WORK = '''
import os, sys, threading, time
from scopedbump import RegionPool, current_region

pool = RegionPool(1 << 24, name="sent")

@pool.scoped
def work(n, fail=False):
    """Two buffers, one copied to the other."""
    first = current_region().alloc(100_000)
    assert not any(memoryview(first)[::1000])
    first[:] = bytes([n % 251 + 1]) * 100_000
    second = current_region().copy(first)
    if fail:
        raise KeyError(n)
    return sum(second[:10]) - 10

def with_pool(pool, n):
    """A pool that comes as an argument."""
    with pool.region() as region:
        region.alloc(n)
    return os.getpid(), id(pool), pool.stats().leases, pool.stats().misses

def view_escapes():
    return current_region().alloc(10)

def array_escapes():
    import numpy
    return current_region().numpy.full(1000, 7.0)

def check(results, numbers):
    assert list(results) == [10 * (n % 251) for n in numbers], results

def one_pool_each(figures, most=2):
    """In each process it was one pool all the time, and warm; what is on its way may hold a region for a moment."""
    pools = {}
    for process, identity, leases, misses in figures:
        pools.setdefault(process, []).append((identity, leases, misses))
    assert os.getpid() not in pools
    for seen in pools.values():
        assert len({identity for identity, _, _ in seen}) == 1, pools
        assert max(leases for _, leases, _ in seen) >= len(seen)
        assert max(misses for _, _, misses in seen) <= most, pools
'''

FUTURES = """
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
import multiprocessing

view_escapes, array_escapes = pool.scoped(view_escapes), pool.scoped(array_escapes)

def slow(n):
    with pool.region() as region:
        region.alloc(10)
        time.sleep(n)

if __name__ == "__main__":
    kind = sys.argv[1]
    make = lambda: ThreadPoolExecutor(2) if kind == "threads" else ProcessPoolExecutor(
        2, mp_context=multiprocessing.get_context(kind))
    with make() as executor:
        check(executor.map(work, range(40)), range(40))
        try:
            executor.submit(work, 5, fail=True).result()
        except KeyError as error:
            assert error.args == (5,)
        else:
            raise AssertionError
        check([executor.submit(work, 7).result()], [7])
        try:
            executor.submit(view_escapes).result()
        except ValueError as error:
            assert "view_escapes returned a view" in str(error)
        else:
            raise AssertionError
        if kind == "threads":
            assert pool.stats().out == pool.stats().escaped == 0
        else:
            one_pool_each(executor.map(with_pool, [pool] * 30, range(1, 31)))
            assert pool.stats().leases == 0
        try:
            import numpy
        except ImportError:
            pass
        else:
            array = executor.submit(array_escapes).result()
            assert array.sum() == 7000
            executor.submit(work, 3).result()
            assert array.sum() == 7000
    if kind != "threads":
        with make() as executor:
            check(executor.map(work, range(4)), range(4))
            waiting = executor.submit(slow, 60)
            time.sleep(0.5)
            for process in list(executor._processes.values()):
                process.kill()
            try:
                waiting.result()
            except BrokenProcessPool:
                pass
        check([work(9)], [9])  # the pool of this process goes on
        with make() as executor:
            check(executor.map(work, range(4)), range(4))
    print("ok")
"""

KINDS = ["processes", "threads"]
METHODS = ["threads", "spawn", *(["fork", "forkserver"] if FORKS else [])]


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=[] if kind == "threads" else pytest.mark.long) for kind in METHODS]
)
def test_concurrent_futures(kind: str, tmp_path: Path) -> None:
    """Results, exceptions, escapes and a worker that is killed: each process has its own pool, which stays warm."""
    assert run_program(tmp_path, FUTURES, kind).endswith("ok\n")


MULTIPROCESSING = """
import multiprocessing

def leave():
    os.kill(os.getpid(), 9)

if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    with context.Pool(2) as processes:
        check(processes.map(work, range(40)), range(40))
        one_pool_each(processes.starmap(with_pool, [(pool, n) for n in range(1, 41)], chunksize=1))
        try:
            processes.apply(work, (5, True))
        except KeyError as error:
            assert error.args == (5,)
        else:
            raise AssertionError
        # A Pool replaces a worker that is gone. In a task: one that waits for a task has a lock that all of them need.
        processes.apply_async(leave)
        time.sleep(0.5)
        check(processes.map(work, range(10)), range(10))
    print("ok")
"""


@pytest.mark.long
@pytest.mark.skipif(not FORKS, reason="SIGKILL")
@pytest.mark.parametrize("kind", [kind for kind in METHODS if kind != "threads"])
def test_multiprocessing_pool(kind: str, tmp_path: Path) -> None:
    """`multiprocessing.Pool`, by each way to start a process; one that is killed is replaced."""
    assert run_program(tmp_path, MULTIPROCESSING, kind).endswith("ok\n")


SMALL = """
if __name__ == "__main__":
    check([work(n) for n in range(3)], range(3))
    from multiprocessing import get_context
    with get_context("fork").Pool(1) as processes:  # it is the child's own, and the same that is sent
        [(_, identity, _, _)] = processes.starmap(with_pool, [(pool, 1)])
        assert identity == id(pool)
        [(_, identity, leases, misses)] = processes.starmap(with_pool, [(pool, 1)])
        assert (identity, leases, misses) == (id(pool), 2, 1)
    assert pool.stats().leases == 3
    print("ok")
"""


@pytest.mark.skipif(not FORKS, reason="forks")
def test_a_forked_child_has_the_pool_that_it_is_sent(tmp_path: Path) -> None:
    """What a child inherits by a fork and what comes to it later are one pool, its own."""
    assert run_program(tmp_path, SMALL).endswith("ok\n")


JOBLIB = """
from joblib import Parallel, delayed

if __name__ == "__main__":
    backend = sys.argv[1]
    with Parallel(2, backend=backend) as parallel:
        check(parallel(delayed(work)(n) for n in range(40)), range(40))
        if backend != "threading":
            one_pool_each(parallel(delayed(with_pool)(pool, n) for n in range(1, 41)))
            assert pool.stats().leases == 0
    try:
        Parallel(2, backend=backend)(delayed(work)(n, n == 3) for n in range(6))
    except KeyError as error:
        assert error.args == (3,)
    else:
        raise AssertionError
    check(Parallel(2, backend=backend)(delayed(work)(n) for n in range(6)), range(6))
    print("ok")
"""


@pytest.mark.parametrize(
    "backend", [pytest.param(name, marks=needs("joblib")) for name in ("threading", "loky", "multiprocessing")]
)
def test_joblib(backend: str, tmp_path: Path) -> None:
    """Functions of `__main__` under each backend; in each process one pool for all tasks."""
    assert run_program(tmp_path, JOBLIB, backend).endswith("ok\n")


NOTEBOOK = '''
# As in a notebook: no file to import, functions that exist in this process alone.
def cells():
    cell = {"__name__": "__main__", "pool": pool}
    exec("""
from scopedbump import current_region
import os

@pool.scoped
def plain(n):
    return len(current_region().alloc(n)), os.getpid(), pool.stats().leases, pool.stats().misses

@pool.scoped
def generator(n):
    for _ in range(n):
        yield len(current_region().alloc(n))

@pool.scoped
async def coroutine(n):
    return len(current_region().alloc(n))

@pool.scoped
async def async_generator(n):
    yield len(current_region().alloc(n))

def of_generators(n):
    import asyncio
    async def all_of(): return [item async for item in async_generator(n)]
    return list(generator(n)), asyncio.run(coroutine(n)), asyncio.run(all_of())
""", cell)
    return cell

if __name__ == "__main__":
    cell = cells()
    kind = sys.argv[1]
    if kind == "cloudpickle":
        import cloudpickle, subprocess
        sent = cloudpickle.dumps([cell["plain"], cell["of_generators"]])
        code = """
import pickle, sys
data = sys.stdin.buffer.read()
for turn in range(3):
    plain, of_generators = pickle.loads(data)
    count, _, leases, misses = plain(5)
    assert (count, leases, misses) == (5, 4 * turn + 1, 1), (count, leases, misses)
    assert of_generators(3) == ([3, 3, 3], 3, [3])
    del plain, of_generators
"""
        subprocess.run([sys.executable, "-c", code], input=sent, check=True)
    elif kind == "loky":
        from joblib import Parallel, delayed
        results = Parallel(2)(delayed(cell["plain"])(n) for n in range(20))
        assert [result[0] for result in results] == list(range(20))
        assert max(misses for *_, misses in results) <= 2 and max(result[2] for result in results) > 5
        assert Parallel(2)([delayed(cell["of_generators"])(2)] * 2) == [([2, 2], 2, [2])] * 2
    else:
        from distributed import Client, LocalCluster
        with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster, \\
                Client(cluster) as client:
            results = client.gather(client.map(cell["plain"], range(20)))
            assert [result[0] for result in results] == list(range(20))
            assert max(misses for *_, misses in results) <= 2
            assert client.submit(cell["of_generators"], 2).result() == ([2, 2], 2, [2])
    print("ok")
'''


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param("cloudpickle", marks=needs("cloudpickle")[:1]),
        pytest.param("loky", marks=needs("joblib")),
        pytest.param("dask", marks=needs("distributed")),
    ],
)
def test_from_a_notebook(kind: str, tmp_path: Path) -> None:
    """Functions that no module has travel by their content, of each kind, and find one warm pool a process."""
    assert run_program(tmp_path, NOTEBOOK, kind).endswith("ok\n")


DASK = """
import logging
view_escapes, array_escapes = pool.scoped(view_escapes), pool.scoped(array_escapes)

def nap(n):
    with pool.region() as region:
        region.alloc(10)
        time.sleep(n)
        return os.getpid()

def leave(pool):
    os.kill(os.getpid(), 9)

if __name__ == "__main__":
    from distributed import Client, KilledWorker, LocalCluster
    processes = sys.argv[1] == "processes"
    logging.disable(logging.CRITICAL)
    with LocalCluster(n_workers=2, threads_per_worker=2, processes=processes, dashboard_address=":0") as cluster, \\
            Client(cluster) as client:
        check(client.gather(client.map(work, range(40))), range(40))
        failed = client.submit(work, 5, fail=True)
        assert isinstance(failed.exception(), KeyError)
        array = client.submit(array_escapes).result()
        assert array.sum() == 7000
        check(client.gather(client.map(work, range(40, 60))), range(40, 60))
        assert array.sum() == 7000
        stats = client.run(lambda: pool.stats())
        assert sum(each.leases for each in stats.values()) >= 61 * (1 if processes else 2)
        waiting = client.map(nap, [3, 4])
        time.sleep(0.5)
        client.cancel(waiting)
        assert "view_escapes returned a view" in str(client.submit(view_escapes).exception(timeout=30))
        if processes:
            # Two threads each, and what an exception, an array and cancelled tasks hold.
            figures = client.gather([client.submit(with_pool, pool, n, pure=False) for n in range(1, 41)])
            one_pool_each(figures, most=7)
            assert isinstance(client.submit(leave, pool, retries=0).exception(timeout=60), KilledWorker)
            check(client.gather(client.map(work, range(60, 80))), range(60, 80))
    print("ok")
"""


@pytest.mark.parametrize(
    "kind", [pytest.param(name, marks=needs("distributed", "numpy")) for name in ("processes", "threads")]
)
def test_dask(kind: str, tmp_path: Path) -> None:
    """A LocalCluster: results, exceptions, escapes, cancelled tasks, a worker that is killed, stats of all workers."""
    assert run_program(tmp_path, DASK, kind).endswith("ok\n")
