"""A function with a region for each call, wherever functions run: `python examples/scoped_function.py [EXECUTOR...]`.

What holds in all of them: a pool pickles by its arguments, and is each process's own pool there, warm from the second
task on. Functions of `__main__` and of a notebook travel too, where the executor uses cloudpickle (joblib's loky, Dask,
Ray, Spark). A view as a result is an error that names the function; of an ndarray in the region return a copy.
"""

from __future__ import annotations

import asyncio
import importlib
import multiprocessing
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from typing import Any

from scopedbump import RegionPool, current_region

pool = RegionPool(size=1 << 26)
NUMBERS = range(8)


@pool.scoped
def work(number: int) -> int:
    block = current_region().alloc(1 << 20)  # scratch memory of this call
    block[0] = number
    return 2 * block[0]  # what goes back is a copy, or made of bytes(block)


def in_threads() -> list[int]:
    """One pool for all of them."""
    with ThreadPoolExecutor(2) as executor:
        return list(executor.map(work, NUMBERS))


def in_asyncio() -> list[int]:
    """One pool; a coroutine function may be scoped as well."""

    async def main() -> list[int]:
        return await asyncio.gather(*(asyncio.to_thread(work, number) for number in NUMBERS))

    return asyncio.run(main())


def in_processes() -> list[int]:
    """A pool in each process, by fork, spawn and forkserver."""
    with ProcessPoolExecutor(2) as executor:
        return list(executor.map(work, NUMBERS))


def in_multiprocessing() -> list[int]:
    """A pool in each process."""
    with multiprocessing.get_context("spawn").Pool(2) as processes:
        return processes.map(work, NUMBERS)


def in_joblib() -> list[int]:
    """A pool in each process (loky, multiprocessing), or one (threading)."""
    joblib: Any = importlib.import_module("joblib")
    return list(joblib.Parallel(2)(joblib.delayed(work)(number) for number in NUMBERS))


def in_dask() -> list[int]:
    """A pool in each worker, on any machine; `cluster.py` has a whole job."""
    distributed: Any = importlib.import_module("distributed")
    with distributed.Client(n_workers=2, dashboard_address=":0") as client:
        return list(client.gather(client.map(work, NUMBERS)))


EXECUTORS: dict[str, Callable[[], list[int]]] = {
    "threads": in_threads,
    "asyncio": in_asyncio,
    "processes": in_processes,
    "multiprocessing": in_multiprocessing,
    "joblib": in_joblib,
    "dask": in_dask,
}

if __name__ == "__main__":
    for name in sys.argv[1:] or EXECUTORS:
        assert EXECUTORS[name]() == [2 * number for number in NUMBERS]
        print(f"{name}: {EXECUTORS[name].__doc__}")
