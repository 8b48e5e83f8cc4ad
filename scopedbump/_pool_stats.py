"""What a pool says of itself."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from ._free_list import FreeList


class PoolStats(NamedTuple):
    """What a pool did and holds, at one moment.

    Exact on a Python with a GIL when nothing is on its way in or out. `hits + misses == leases`.
    A child process starts counting anew.

    Attributes:
        leases: reservations handed out: one for each region, and one for each `reset` that an escape forced to move.
        hits: leases that were served by an idle reservation.
        misses: leases that had to ask the operating system. Grows all the time: a `max_idle` of yours is below the
            regions that are out together, or reservations do not come back.
        idle: reservations that wait for the next lease.
        out: regions that are open: the requests under way. More than the server has: somebody does not close them.
        escaped: leases whose region is over and whose memory is not back: something still points in, or a revoked
            view is still referred to. Grows: something keeps views or arrays, and `escape="warn"` names the region.
            A few that come and go are slow clients and tracebacks.
        committed: bytes that the operating system has made usable, idle, out and escaped together.
        peak: the most bytes that one lease used, among those whose region is over. With a `retain` above it no page is
            ever given back and faulted in again.
        refused: how often `max_out` regions were open already when another one was asked for.
        waited: requests that waited until a region was free (`when_full="wait"` of the ASGI middleware).
        overflowed: requests that were answered with the `full_status` of their middleware.
    """

    leases: int
    hits: int
    misses: int
    idle: int
    out: int
    escaped: int
    committed: int
    peak: int
    refused: int = 0
    waited: int = 0
    overflowed: int = 0


class OpenRegion(NamedTuple):
    """A region that is open, and holds memory of its pool.

    Attributes:
        name: its name.
        age: seconds since it took its memory.
        used: bytes that it has handed out.
    """

    name: str
    age: float
    used: int


def open_regions(free_list: FreeList) -> list[OpenRegion]:
    """As `RegionPool.open_regions`."""
    free_list.look_around()
    now = monotonic()
    found: list[OpenRegion] = []
    for lease in sorted(free_list.out()[0], key=lambda lease: (lease.since, lease.number)):
        region = None if lease.region is None else lease.region()
        if region is not None:
            found.append(OpenRegion(region.name, now - lease.since, region.used))
    return found


def stats_of(free_list: FreeList) -> PoolStats:
    """As `RegionPool.stats`."""
    free_list.look_around()
    opened, escaped = free_list.out()
    idle = [memory[0] for memory, _ in free_list.idle.copy()]
    out = [lease.reservation_of(free_list) for lease in (*opened, *escaped)]
    committed = sum(reservation.usable(0) for reservation in (*out, *idle) if reservation is not None)
    leases, misses, places = free_list.leases, free_list.misses, free_list.places
    refused, waited = (0, 0) if places is None else (places.refused, places.waited)
    counts = len(idle), len(opened), len(escaped)
    return PoolStats(
        leases, leases - misses, misses, *counts, committed, free_list.peak, refused, waited, free_list.overflowed
    )


OpenRegion.__module__ = PoolStats.__module__ = "scopedbump"
