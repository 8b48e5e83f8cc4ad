"""A batch job under each executor: `python tests/bench/batch_job.py [--quick] [EXECUTOR...]`.

A task takes two scratch buffers of 4 MiB, fills one and copies it into the other. In bytearrays; in bytearrays with
glibc told by its environment variables to keep what is freed; and in a function under `pool.scoped`. Each line comes of
processes of its own, with two workers. The time is that of a task, as its worker sees it: the median of all but the
first few, so what an executor takes to hand tasks out is not in it.
"""

from __future__ import annotations

import importlib.util
import json
import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from statistics import median
from typing import Any

from scopedbump import RegionPool, current_region
from scopedbump._cli import figures

SIZE = 4 << 20
DATA = b"x" * SIZE
WORKERS = 2
KEEP = {"MALLOC_MMAP_THRESHOLD_": str(32 << 20), "MALLOC_TRIM_THRESHOLD_": str(256 << 20)}

pool = RegionPool(1 << 24)

Took = tuple[float, int]
"""Seconds and page faults of a task."""

Task = Callable[[int], Took]


def page_faults() -> int:
    """How many pages the system had to find for this process so far; 0 where it does not say."""
    if sys.platform == "win32":
        return 0
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def in_bytearrays(_: int) -> Took:
    """The task as one would write it."""
    faults, start = page_faults(), time.perf_counter()
    work(memoryview(bytearray(SIZE)), memoryview(bytearray(SIZE)))
    return time.perf_counter() - start, (page_faults()) - faults


def in_a_region(number: int) -> Took:
    """The task in scratch memory, with what it takes to get and to give back."""
    faults, start = page_faults(), time.perf_counter()
    scoped(number)
    return time.perf_counter() - start, (page_faults()) - faults


@pool.scoped
def scoped(_: int) -> None:
    """Two buffers that are written before they are read."""
    memory = current_region()
    work(memory.alloc(SIZE, zero=False), memory.alloc(SIZE, zero=False))


def work(first: memoryview, second: memoryview) -> None:
    """Fill one and copy it into the other."""
    first[:] = DATA
    second[:] = first


def in_a_loop(task: Task, numbers: Iterable[int]) -> list[Took]:
    return list(map(task, numbers))


def in_threads(task: Task, numbers: Iterable[int]) -> list[Took]:
    with ThreadPoolExecutor(WORKERS) as executor:
        return list(executor.map(task, numbers))


def in_processes(method: str) -> Callable[[Task, Iterable[int]], list[Took]]:
    def run(task: Task, numbers: Iterable[int]) -> list[Took]:
        with ProcessPoolExecutor(WORKERS, mp_context=multiprocessing.get_context(method)) as executor:
            return list(executor.map(task, numbers))

    return run


def in_a_multiprocessing_pool(task: Task, numbers: Iterable[int]) -> list[Took]:
    with multiprocessing.get_context("spawn").Pool(WORKERS) as workers:
        return workers.map(task, numbers)


def in_joblib(backend: str) -> Callable[[Task, Iterable[int]], list[Took]]:
    def run(task: Task, numbers: Iterable[int]) -> list[Took]:
        joblib: Any = importlib.import_module("joblib")
        return list(joblib.Parallel(WORKERS, backend=backend)(joblib.delayed(task)(number) for number in numbers))

    return run


def in_dask(processes: bool) -> Callable[[Task, Iterable[int]], list[Took]]:
    def run(task: Task, numbers: Iterable[int]) -> list[Took]:
        distributed: Any = importlib.import_module("distributed")
        shape = {"n_workers": WORKERS if processes else 1, "threads_per_worker": 1 if processes else WORKERS}
        with (
            distributed.LocalCluster(processes=processes, dashboard_address=":0", **shape) as cluster,
            distributed.Client(cluster) as client,
        ):
            return list(client.gather(client.map(task, numbers, pure=False)))

    return run


EXECUTORS: dict[str, Callable[[Task, Iterable[int]], list[Took]]] = {
    "loop": in_a_loop,
    "threads": in_threads,
    **{f"processes-{method}": in_processes(method) for method in multiprocessing.get_all_start_methods()},
    "multiprocessing.Pool": in_a_multiprocessing_pool,
    "joblib-threading": in_joblib("threading"),
    "joblib-loky": in_joblib("loky"),
    "joblib-multiprocessing": in_joblib("multiprocessing"),
    "dask-threads": in_dask(processes=False),
    "dask-processes": in_dask(processes=True),
}

WAYS: dict[str, tuple[Task, dict[str, str]]] = {
    "bytearrays": (in_bytearrays, {}),
    "glibc's variables": (in_bytearrays, KEEP),
    "pool.scoped": (in_a_region, {}),
}


def child(executor: str, way: str, tasks: int) -> tuple[float, float]:
    """The time of a task, and its page faults: in threads those of all that run at the same time."""
    took = EXECUTORS[executor](WAYS[way][0], range(tasks))[3 * WORKERS :]
    return median(seconds for seconds, _ in took), median(faults for _, faults in took)


def main(quick: bool, only: list[str]) -> None:
    """One line for each executor."""
    rows = [("two buffers of 4 MiB a task", *WAYS, "page faults", "", "")]
    for executor in only or EXECUTORS:
        package = {"joblib": "joblib", "dask": "distributed"}.get(executor.partition("-")[0])
        if package is not None and importlib.util.find_spec(package) is None:
            print(f"{executor}: {package} is not installed")
            continue
        times: list[str] = []
        faults: list[str] = []
        for way, (_, variables) in WAYS.items():
            command = [sys.executable, __file__, executor, way, "20" if quick else "200"]
            answer = subprocess.check_output(command, text=True, timeout=300, env={**os.environ, **variables})
            seconds, faulted = json.loads(answer.splitlines()[-1])
            times.append(figures.duration(seconds))
            faults.append(f"{faulted:,.0f}")
        rows.append((executor, *times, *faults))
    print(figures.table(rows))


if __name__ == "__main__":
    if len(sys.argv) == 4 and sys.argv[1] in EXECUTORS and sys.argv[2] in WAYS:
        print(json.dumps(child(sys.argv[1], sys.argv[2], int(sys.argv[3]))))
    else:
        main("--quick" in sys.argv, [each for each in sys.argv[1:] if each != "--quick"])
