"""A batch of frames on a cluster: every task in scratch memory of its worker, and the pools' stats at the end.

Each frame is a picture of noise with a few bright spots, 4 MiB. A task makes it, blurs it, subtracts the background and
counts the spots, all in two buffers of a region; what goes back over the network is a small summary.

    python examples/cluster.py [--frames N] [--workers N]    on this machine, in processes of its own
    python examples/cluster.py --scheduler tcp://host:8786   on a cluster that runs already (`dask scheduler`, `dask
                                                             worker`), where scopedbump and NumPy are installed
"""

from __future__ import annotations

import argparse
import os
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
from distributed import Client, LocalCluster

from scopedbump import PoolStats, RegionPool, current_region

SIDE = 1024
SPOTS = 12

# Sent to a worker, with the functions that use it, this is the worker's own pool, and the same for all tasks.
pool = RegionPool(size=1 << 26, name="frames")


class Summary(NamedTuple):
    """What is left of a frame."""

    number: int
    spots: int
    brightest: float
    process: int


@pool.scoped
def summarize(number: int) -> Summary:
    """Make a frame and count what shines in it; the frame and its background are scratch memory."""
    memory = current_region().numpy
    frame = memory.empty((SIDE, SIDE), dtype=np.float32)
    blurred = memory.empty((SIDE, SIDE), dtype=np.float32)
    expose(number, frame)
    for axis in (0, 1):
        smooth(frame, blurred, axis)
    np.subtract(frame, blurred, out=frame)
    return Summary(number, int(np.count_nonzero(frame > 4.0)), float(frame.max()), os.getpid())


def expose(number: int, frame: Any) -> None:
    """Stands for reading a file: noise, and spots that are apart from each other."""
    random = np.random.default_rng(number)
    random.random(dtype=np.float32, out=frame)
    cells = random.choice((SIDE // 16) ** 2, SPOTS, replace=False)
    frame[cells // (SIDE // 16) * 16 + 8, cells % (SIDE // 16) * 16 + 8] += 10.0


def smooth(frame: Any, blurred: Any, axis: int) -> None:
    """The mean with both neighbours along one axis, in place of what was there."""
    blurred[...] = frame
    middle, along = blurred.swapaxes(0, axis)[1:-1], frame.swapaxes(0, axis)
    middle += along[:-2]
    middle += along[2:]
    blurred /= 3.0


def stats_of_worker() -> PoolStats:
    """What the pool of the process did that this runs in."""
    return pool.stats()


def run(client: Any, frames: int) -> None:
    """The batch, and what the workers say of their memory."""
    start = perf_counter()
    summaries: list[Summary] = client.gather(client.map(summarize, range(frames), pure=False))
    seconds = perf_counter() - start
    assert all(summary.spots == SPOTS for summary in summaries)
    processes = {summary.process for summary in summaries}
    print(f"{frames} frames in {seconds:.2f} s by {len(processes)} processes, {SPOTS} spots in each")
    stats: dict[str, PoolStats] = client.run(stats_of_worker)
    for worker, found in sorted(stats.items()):
        print(
            f"{worker}: {found.leases} regions, {found.hits} of them on warm memory, {found.escaped} held, "
            f"{found.peak / 2**20:.1f} MiB at most, {found.committed / 2**20:.1f} MiB now"
        )
    assert sum(found.leases for found in stats.values()) >= frames


def main() -> None:
    """On the cluster that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scheduler", help="address of a cluster; else one is made on this machine")
    parser.add_argument("--frames", type=int, default=100)
    parser.add_argument("--workers", type=int, default=2)
    chosen = parser.parse_args()
    if chosen.scheduler is not None:
        with Client(chosen.scheduler) as client:
            run(client, chosen.frames)
        return
    local: Any = LocalCluster(n_workers=chosen.workers, threads_per_worker=1, dashboard_address=":0")
    with local, Client(local) as client:
        run(client, chosen.frames)


if __name__ == "__main__":
    main()
