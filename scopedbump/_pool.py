"""RegionPool: reservations that stay warm between regions. How they wait and change hands is the free list's.

The rules (numbers are those of the promises in the README):

- A closed pool has a closed free list, and a child process a new one while the one that it inherited is closed: what is
  out then goes on, and is released instead of coming back (10).
- A pool may bound how many of its regions are open: each holds a place, from its lease to its end (13).
- A region of a middleware has no lease before it is asked for memory.
"""

from __future__ import annotations

import array  # noqa: F401  # pyright: ignore[reportUnusedImport]  # as in `bump_region`
import os
import sys
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self, TypeVar, final
from weakref import ref

from . import _pages, _sent
from ._checks import checked_escape, checked_int, checked_name
from ._errors import Escape, RegionClosedError
from ._free_list import FreeList, new_free_list
from ._layout import round_up
from ._options import DEFAULT_SIZE, Options, wants_debug
from ._places import Place
from ._pool_stats import OpenRegion, PoolStats, open_regions, stats_of
from ._region import Region, new_region
from ._reservation import Reservation
from ._unbacked import Unbacked

Function = TypeVar("Function", bound=Callable[..., Any])


@final
class RegionPool:
    """Keeps reservations warm between regions: taking one costs no system call, and its pages are there already.

    For servers and loops: one pool for all, one region a request. A context manager: the end of the block closes it.

    Args:
        size: bytes of address space of each region. They cost no RAM before they are touched.
        max_idle: how many reservations wait for the next region at most; more are given back to the system. None: those
            that were needed lately.
        retain: bytes of pages that each of them keeps; pages above are given back when it returns. None: what a
            region used lately, so that a steady load finds its pages, and a lone large job is given back. Lately is
            the last 64 to 128 leases, more with many idle ones. An idle pool holds at most max_idle * retain bytes of
            RAM: with None, as many reservations as were out at once lately, each with at most what the largest used.
        max_out: how many of its regions may be open at a time; None: as many as are asked for. One whose memory is
            held after its end (see `PoolStats.escaped`) is not open.
        name: the name of its regions, shown in `repr` and in errors.
        wipe: as for `bump_region`, for each of its regions.
        debug: as for `bump_region`. Each region then has addresses of its own: a pointer that C kept from an earlier
            one faults instead of writing into the next, and nothing is warm.

    How large: `size` is the most that one request may ever need; going beyond it is a RegionFullError, which makes a
    good 413. With RLIMIT_AS set, `size` times the requests at a time must fit. A route that wants another size takes
    it from another pool. Leave `max_idle` and `retain` alone, unless an idle pool must hold less: pages above `retain`
    cost two system calls, and page faults the next time. A pool that misses or gives pages back all the time says so
    in the log `scopedbump`, once a minute at most. `stats()` says what it does.

    Raises:
        TypeError, ValueError: an argument is no int, or size or max_out is not positive, or max_idle or retain is
            negative.

    Thread safety:
        Any thread may call anything at any moment, signal handlers and finalizers too. The pool has no lock.

    Lifetime:
        A child process (`os.fork`) starts with an empty pool of its own; regions that were open at the fork go on in
        both processes. A pool pickles by its arguments: unpickled in another process it is that process's own pool,
        the same one however often it comes; in its own process it is the pool itself. To close it is to close that of
        one process. A process keeps the last 8 pools that came to it, others as long as something refers to them.
    """

    __slots__ = ("__weakref__", "_free_list", "_key", "_options", "_unbacked")

    def __init__(
        self,
        size: int = DEFAULT_SIZE,
        *,
        max_idle: int | None = None,
        retain: int | None = None,
        max_out: int | None = None,
        name: str = "",
        wipe: bool = False,
        debug: bool | None = None,
    ) -> None:
        size = checked_int(size, "size", 1)
        if max_idle is not None:
            max_idle = checked_int(max_idle, "max_idle", 0)
        if retain is not None:
            retain = round_up(checked_int(retain, "retain", 0), _pages.system_pages.page_size)
        if max_out is not None:
            max_out = checked_int(max_out, "max_out", 1)
        self._options = Options(checked_name(name), "keep", bool(wipe), retain, wants_debug(debug))
        self._begin(new_free_list(size, max_idle, max_out, self._options))
        _pools.add(ref(self, _pools.discard))
        self._key = _sent.new_key(self)

    def region(self, *, escape: Escape = "keep") -> Region:
        """A region on a warm reservation: use it in a `with` block, or call `close()`.

        Its memory comes back when the region is closed, nothing points in any more, and every view that it handed out
        is gone as an object too. Until then the pool goes on without it.

        Args:
            escape: as for `bump_region`.

        Raises:
            ValueError: escape is none of the three.
            RegionClosedError: the pool is closed.
            PoolFullError: `max_out` regions are open.
            ReserveError: nothing was idle, and the operating system has no such range.
        """
        options = self._options
        if escape != "keep":
            options = options.with_escape(checked_escape(escape))
        free_list = self._free_list
        if free_list.closed:
            raise self._closed_error()
        return _leased(free_list, None if free_list.places is None else free_list.take_place(), options)

    def scoped(self, function: Function) -> Function:
        """Decorator: a region for each call of the function, as `current_region()` inside.

        For functions, coroutine functions, generator functions and asynchronous ones, also in classes (above `def`,
        below `classmethod`). Where the function can be sent to another process, so can the decorated one: there its
        regions are those of that process's own pool.

        Args:
            function: what a call does.

        Returns:
            A function of the same kind, with the same arguments, name and documentation.

        Raises:
            TypeError: it is no function. What `region` raises comes from the calls.

        Lifetime:
            The region ends with the call: when it returns or raises, when a coroutine is cancelled, when a generator
            is exhausted, closed or dropped. A view of it can't be returned (RegionClosedError), and is revoked where
            it lies in something that is; an ndarray that lies in the region keeps its memory, so return a copy. A
            generator's region is current only while it runs.
        """
        from ._scoped import scoped

        return scoped(self, function)

    def _region_at(self, place: Place, escape: Escape) -> Region:
        """A region for whom a place was found already."""
        return _leased(self._free_list, place, self._options.with_escape(escape))

    def _region_on_demand(self, options: Options) -> Region:
        """A region that takes its memory when it is first asked for some."""
        if self._free_list.closed:
            raise self._closed_error()
        return new_region(self._unbacked, options)

    def _closed_error(self) -> RegionClosedError:
        return RegionClosedError(f"{self!r} has no regions any more: make them before its close, or a new pool")

    def open_regions(self) -> list[OpenRegion]:
        """The regions that are open and hold memory of this pool, the oldest first, to see who has them."""
        return open_regions(self._free_list)

    def stats(self) -> PoolStats:
        """What the pool did since it was made (in a child process: since the fork), and what it holds."""
        return stats_of(self._free_list)

    def close(self) -> None:
        """Give the idle reservations back to the system, and take none any more.

        Regions that are out go on, and so does what escaped; their memory is released instead of coming back. Closing
        again does nothing.
        """
        self._free_list.close()

    @property
    def name(self) -> str:
        """The name of its regions, shown in `repr` and in errors."""
        return self._options.name

    @property
    def size(self) -> int:
        """Bytes of address space of each region."""
        return self._free_list.size

    @property
    def closed(self) -> bool:
        """Whether the pool has ended."""
        return self._free_list.closed

    def __enter__(self) -> Self:
        if self._free_list.closed:
            raise RegionClosedError(f"{self!r} can't be entered")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __reduce__(self) -> tuple[object, ...]:
        free_list, options = self._free_list, self._options
        bounds = free_list.size, free_list.max_idle, options.retain, free_list.max_out
        return _sent.arrived, (self._key, *bounds, options.name, options.secret, options.debug, free_list.closed)

    def __repr__(self) -> str:
        free_list = self._free_list
        name = f" {self.name!r}" if self.name else ""
        out = sum(map(len, free_list.out()))
        state = "closed" if free_list.closed else f"{len(free_list.idle)} idle, {out} out"
        return f"<scopedbump.RegionPool{name}: regions of {free_list.size} bytes, {state}>"

    def __del__(self, is_finalizing: Callable[[], bool] = sys.is_finalizing) -> None:
        free_list = getattr(self, "_free_list", None)
        if free_list is not None and not is_finalizing():
            free_list.close()

    def _forked(self) -> None:
        old = self._free_list
        self._begin(new_free_list(old.size, old.max_idle, old.max_out, self._options))
        self._free_list.closed = old.closed
        old.close()

    def _begin(self, free_list: FreeList) -> None:
        nowhere = Reservation(-1 - free_list.size, free_list.size, False, _pages.system_pages)  # no address lies there
        self._unbacked = Unbacked(nowhere, free_list.back)
        self._free_list = free_list


def _leased(free_list: FreeList, place: Place | None, options: Options) -> Region:
    chunk, lease = free_list.acquire(place)
    chunk.prepare()
    region = new_region(chunk, options)
    lease.region = ref(region)
    return region


RegionPool.__module__ = "scopedbump"

_pools: set[ref[RegionPool]] = set()


def _forked() -> None:
    for reference in tuple(_pools):
        pool = reference()
        if pool is not None:
            pool._forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
