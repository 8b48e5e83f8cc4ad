"""RegionPool: reservations that stay warm between regions.

The rules (numbers are those of the promises in the README):

- A *lease* is one use of one reservation, and ends once. While it lasts, it owns the mapping: what points in keeps it.
  So does a view of the region that is still referred to as an object, revoked or not: a stale pointer would reach into
  somebody else's request (4).
- A region's end ends its lease when nothing is left of it; otherwise the lease ends when it dies. Either way the
  reservation goes back to the *free list*.
- A lease whose region never came to its end says nothing of what was written, so all its pages are given back (6).
- A reservation changes hands in one operation of a deque. The way back can come at any moment, in any thread, in a
  garbage collection and while the interpreter shuts down.
- A closed pool has a closed free list, and a child process a new one while the one that it inherited is closed: what is
  out then goes on, and is released instead of coming back (10).
- A pool may bound how many of its regions are open: each holds a place, from its lease to its end (13).
- A region of a middleware has no lease before it is asked for memory.
- Nothing is cleared here. A reservation knows how far it was written, and its next region clears what it uses (6).

Roads not taken: to drop what is pinned from the pool (a handler's local variables are alive at its end, so it would
never be warm); a lease that ends by its death alone (an exception of a signal handler there is printed and lost).
"""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Callable
from time import monotonic
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self, TypeAlias, TypeVar, final
from weakref import ref

from . import _pages, _sent, _views
from ._atomic import critical
from ._chunk import Chunk, Unbacked
from ._errors import CommitError, Escape, PoolFullError, RegionClosedError, checked_escape
from ._layout import checked_int, checked_name, round_up
from ._lifetime import Exporter, drop_dead_keepers, owners
from ._places import Place, Places
from ._region import DEFAULT_SIZE, Options, Region, new_region
from ._reservation import Reservation, reserve

if TYPE_CHECKING:
    from _cffi_backend import CData

    from ._atomic import Lock

Memory: TypeAlias = "tuple[Reservation, CData]"
"""What changes hands: the numbers of a reservation and the mapping, as `reserve` gives them."""

Function = TypeVar("Function", bound=Callable[..., Any])

PERIOD: Final = 64
"""How many leases, at least, make a period, in which a pool without bounds of its own sees what is needed."""

LEAST_RETAINED: Final = 1 << 20
"""Bytes below which giving back is not worth its system calls."""

QUIET: Final = 60.0
"""Seconds, at least, between two lines of the log about one pool."""


class PoolStats(NamedTuple):
    """What a pool did and holds, at one moment.

    Exact on a Python with a GIL when nothing is on its way in or out. `hits + misses == leases`.
    A child process starts counting anew.

    Attributes:
        leases: reservations handed out: one for each region, and one for each `reset` that an escape forced to move.
        hits: leases that were served by an idle reservation.
        misses: leases that had to ask the operating system.
        idle: reservations that wait for the next lease.
        out: regions that are open.
        escaped: leases whose region is over and whose memory is not back: something still points in, or a revoked
            view is still referred to.
        committed: bytes that the operating system has made usable, idle, out and escaped together.
        peak: the most bytes that one lease used, among those whose region is over.
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


class _Lease:
    """The tenure of a pool's region: one use of a reservation. Its end, or its death, gives the reservation back.

    Attributes:
        over: whether the region has come to its end.
        region: the region, as long as somebody has it; None before it is made.
        since: when it was made, in seconds of the monotonic clock.
    """

    __slots__ = (
        "__weakref__",
        "_free_list",
        "_held",
        "_memory",
        "_place",
        "_process",
        "_proven",
        "lock",
        "over",
        "region",
        "since",
    )

    def __init__(self, free_list: _FreeList, memory: Memory, place: Place | None) -> None:
        self._free_list = free_list
        self._process = free_list.process
        self._place = place
        self.region: ref[Region] | None = None
        self.since = monotonic()
        self._held = False  # by views that are still referred to
        self._proven = False  # whether the reservation's numbers say how far it was written and is committed
        self.over = False
        self.lock: Lock | None = memory[0].lock
        self._memory: Memory | None = memory  # last: with it there is something to give back

    def renew(self, reservation: Reservation) -> Chunk:
        chunk, lease = self._free_list.acquire(self._place)
        lease.region = self.region
        lease.since = self.since
        self._place = None  # the other one's by now
        return chunk

    def outlast(self, views: list[memoryview], exporter: Exporter | None) -> None:
        if _views.outlast(views, self):
            self._held = True

    def end(self, chunk: Chunk, exporter: Exporter | None) -> ref[object] | None:
        self._proven = chunk.close_gaps() if exporter is not None else not chunk.gaps()
        self.over = True
        self._free_list.note_use(chunk.peak)
        place = self._place
        if place is not None:
            place.leave()
        if exporter is None or self._held or not self._proven:
            return ref(self)
        self._give_back(exporter)  # not left to `__del__`, where an exception of a signal handler would be lost
        return None

    def _give_back(self, exporter: Exporter | None) -> None:
        memory = self._take_memory()
        if memory is not None:
            if exporter is not None:
                exporter.keeper.owner = None
            memory[0].aheads.clear()
            self._free_list.release(memory, exporter)

    @critical
    def _take_memory(self) -> Memory | None:
        memory = self._memory
        self._memory = None
        return memory

    def reservation_of(self, free_list: _FreeList) -> Reservation | None:
        """The reservation, if this is a lease from that list and not over."""
        memory = self._memory
        if memory is None or self._free_list is not free_list or self._process != free_list.process:
            return None
        return memory[0]

    def __del__(self, is_finalizing: Callable[[], bool] = sys.is_finalizing) -> None:
        memory = getattr(self, "_memory", None)
        # When the interpreter shuts down the process gives all back in a moment.
        if memory is not None and not is_finalizing():
            if not self._proven:
                try:
                    memory[0].trim(0)
                except CommitError:  # then the memory goes with this lease
                    return
            self._give_back(None)


class _FreeList:
    """The idle reservations of a pool in one process, how many they may be, and how much of them is kept.

    Where the pool sets no bound, what was needed lately does. A *period* is so many leases that all who take turns had
    several of them. An idle reservation that nobody needed in a whole period goes; pages go that no lease used in this
    period and the one before.
    """

    __slots__ = (
        "_complaint",
        "_leases_before",
        "_least_idle",
        "_misses_before",
        "_quiet_until",
        "_trims",
        "_until_turn",
        "_used_before",
        "_used_now",
        "closed",
        "idle",
        "leases",
        "max_idle",
        "max_out",
        "misses",
        "name",
        "overflowed",
        "peak",
        "places",
        "process",
        "retain",
        "secret",
        "size",
    )

    def __init__(self, size: int, max_idle: int | None, max_out: int | None, options: Options) -> None:
        self.size = size
        self.max_idle = max_idle
        self.max_out = max_out
        self.retain = options.retain
        self.secret = options.wipe
        self.name = options.name
        self.closed = False
        self.idle: deque[tuple[Memory, Exporter | None]] = deque()
        self._quiet_until = 0.0
        self._start_counting()

    def _start_counting(self) -> None:
        self.process = os.getpid()
        self.leases = self.misses = self.overflowed = self.peak = 0
        self._leases_before = self._misses_before = self._trims = 0
        self._least_idle = self._used_before = self._used_now = 0
        self._until_turn = PERIOD
        self._complaint: str | None = None
        self.places = None if self.max_out is None else Places(self.max_out)

    def look_around(self) -> bool:
        """Whether this is another process, by a fork that Python was not told of (uWSGI's): then count anew.

        What is idle here is this process's own copy, and is used as such.
        """
        if self.process == os.getpid():
            return False
        self._start_counting()
        return True

    def take_place(self) -> Place | None:
        """A place for one more region; None where they are not counted.

        Raises:
            PoolFullError: all are taken.
        """
        places = self.places
        if places is None:
            return None
        place = places.take()
        if place is None:
            if self.look_around():
                return self.take_place()
            places.refused += 1
            raise PoolFullError(
                f"all regions of the pool {self.name!r} are open (max_out={places.most}): try again when one has "
                "ended, look with open_regions() who has them, or make the pool with a larger max_out="
            )
        return place

    def back(self, region: Region) -> Chunk:
        """The chunk of a new lease for a region that was not asked for memory before."""
        chunk, lease = self.acquire(self.take_place())
        lease.region = ref(region)
        return chunk

    def acquire(self, place: Place | None) -> tuple[Chunk, _Lease]:
        """A new lease and its chunk, which is not prepared: who goes on to allocate does that better."""
        try:
            memory, exporter = self.idle.pop()  # the one that was used last has the warmest caches
        except IndexError:
            self.look_around()
            drop_dead_keepers()
            memory, exporter = reserve(self.size, self.secret), None
            self.misses += 1
        self.leases += 1
        if self._complaint is not None:
            self._complain()
        if len(self.idle) < self._least_idle:
            self._least_idle = len(self.idle)
        reservation = memory[0]
        lease = _Lease(self, memory, place)
        if exporter is None:
            exporter = Exporter(reservation.address, reservation.size, lease)
        else:
            exporter.keeper.owner = lease
        return Chunk(reservation, exporter, lease), lease

    def note_use(self, used: int) -> None:
        """A region has ended that used so many bytes."""
        if self.peak < used:
            self.peak = used
        if self._used_now < used:
            self._used_now = used

    def release(self, memory: Memory, exporter: Exporter | None) -> None:
        """The end of a lease; with an exporter that nothing points into, for the next one.

        Whatever interrupts this: the memory is then idle, or goes with the last reference to it.
        """
        if self._trim(memory[0]):
            self.idle.append((memory, exporter))
        self._until_turn -= 1
        if self._until_turn < 0:
            self._turn()
        # Looked at after the append, so that a close in another thread overlooks nothing.
        if self.closed:
            self.trim_to(0)
        elif self.max_idle is not None and len(self.idle) > self.max_idle:
            self.trim_to(self.max_idle)

    def _trim(self, reservation: Reservation) -> bool:
        """Give back the pages above what an idle reservation keeps. False when the system refuses."""
        if self.retain is not None:
            keep, held = self.retain, max(reservation.committed, reservation.dirty)
        else:
            keep, held = max(self._used_now, self._used_before, LEAST_RETAINED), reservation.dirty
        if held > keep and not self.closed:
            try:
                self._trims += 1
                reservation.trim(keep)
            except CommitError:
                return False
        return True

    def _turn(self) -> None:
        """A period is over."""
        count = len(self.idle)
        self._until_turn = PERIOD + 4 * count
        self._judge()
        self._used_before, self._used_now = self._used_now, 0
        if self.max_idle is None:
            count -= self._least_idle
            self.trim_to(count)
        self._least_idle = count
        for _ in range(count):
            try:
                memory, exporter = self.idle.popleft()
            except IndexError:  # somebody else was faster
                return
            if self._trim(memory[0]):
                self.idle.append((memory, exporter))

    def _judge(self) -> None:
        """Whether most regions of this period found no warm memory, and something should be said."""
        leases, misses = self.leases - self._leases_before, self.misses - self._misses_before
        trims, self._trims = self._trims, 0
        warmed_up = self._leases_before > 0
        self._leases_before, self._misses_before = self.leases, self.misses
        if warmed_up and 2 * misses > leases:
            self._complaint = (
                f"{misses} of the last {leases} regions found no idle reservation and asked the system for one: "
                "max_idle is too low, or something keeps views of regions that have ended"
            )
        elif warmed_up and 2 * trims > leases:
            self._complaint = f"{trims} times in the last {leases} regions pages were given back: retain is too low"

    def _complain(self) -> None:
        """Write the line that is due. Where regions are taken: what returns them may be a finalizer."""
        complaint, self._complaint = self._complaint, None
        now = monotonic()
        if complaint is not None and now >= self._quiet_until:
            self._quiet_until = now + QUIET
            from logging import getLogger

            getLogger("scopedbump").warning("pool %r: %s", self.name, complaint)

    def trim_to(self, count: int) -> None:
        """Let go of the idle reservations that were used longest ago."""
        while len(self.idle) > count:
            try:
                self.idle.popleft()
            except IndexError:  # somebody else was faster
                return

    def close(self) -> None:
        self.closed = True
        self.trim_to(0)

    def out(self) -> tuple[list[_Lease], list[_Lease]]:
        """The leases of regions that are open, and of those that are over and whose memory is not back.

        Not counted, but looked up among what is kept alive: a count would be wrong for ever after an exception of a
        signal handler in a finalizer.
        """
        drop_dead_keepers(always=True)
        opened: list[_Lease] = []
        escaped: list[_Lease] = []
        for lease in {owner for owner in owners() if type(owner) is _Lease}:
            if lease.reservation_of(self) is not None:
                (escaped if lease.over else opened).append(lease)
        return opened, escaped

    def open_regions(self) -> list[OpenRegion]:
        self.look_around()
        now = monotonic()
        found: list[OpenRegion] = []
        for lease in sorted(self.out()[0], key=lambda lease: lease.since):
            region = None if lease.region is None else lease.region()
            if region is not None:
                found.append(OpenRegion(region.name, now - lease.since, region.used))
        return found

    def stats(self) -> PoolStats:
        self.look_around()
        opened, escaped = self.out()
        idle = [memory[0] for memory, _ in self.idle.copy()]
        out = [lease.reservation_of(self) for lease in (*opened, *escaped)]
        committed = sum(reservation.usable(0) for reservation in (*out, *idle) if reservation is not None)
        leases, misses = self.leases, self.misses
        refused, waited = (0, 0) if self.places is None else (self.places.refused, self.places.waited)
        counts = len(idle), len(opened), len(escaped)
        return PoolStats(
            leases, leases - misses, misses, *counts, committed, self.peak, refused, waited, self.overflowed
        )


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
    ) -> None:
        size = checked_int(size, "size", 1)
        if max_idle is not None:
            max_idle = checked_int(max_idle, "max_idle", 0)
        if retain is not None:
            retain = round_up(checked_int(retain, "retain", 0), _pages.system_pages.page_size)
        if max_out is not None:
            max_out = checked_int(max_out, "max_out", 1)
        self._options = Options(checked_name(name), "keep", bool(wipe), retain)
        self._begin(_FreeList(size, max_idle, max_out, self._options))
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
            is exhausted, closed or dropped. A view that is returned is revoked by then; an ndarray that lies in the
            region keeps its memory, so return a copy. A generator's region is current only while it runs.
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
        return self._free_list.open_regions()

    def stats(self) -> PoolStats:
        """What the pool did since it was made (in a child process: since the fork), and what it holds."""
        return self._free_list.stats()

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
        return _arrived, (self._key, *bounds, options.name, options.wipe, free_list.closed)

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
        self._begin(_FreeList(old.size, old.max_idle, old.max_out, self._options))
        self._free_list.closed = old.closed
        old.close()

    def _begin(self, free_list: _FreeList) -> None:
        nowhere = Reservation(-1 - free_list.size, free_list.size, False, _pages.system_pages)  # no address lies there
        self._unbacked = Unbacked(nowhere, free_list.back)
        self._free_list = free_list


def _leased(free_list: _FreeList, place: Place | None, options: Options) -> Region:
    chunk, lease = free_list.acquire(place)
    chunk.prepare()
    region = new_region(chunk, options)
    lease.region = ref(region)
    return region


def _arrived(
    key: bytes,
    size: int,
    max_idle: int | None,
    retain: int | None,
    max_out: int | None,
    name: str,
    wipe: bool,
    closed: bool,
) -> RegionPool:
    """What a pickle of a pool says to call: this process's own pool."""

    def make() -> RegionPool:
        pool = RegionPool(size, max_idle=max_idle, retain=retain, max_out=max_out, name=name, wipe=wipe)
        if closed:
            pool.close()
        return pool

    return _sent.arrive(key, make)


def checked_pool(value: RegionPool | None) -> RegionPool:
    """The pool that a middleware was given, or one of its own."""
    if value is None:
        return RegionPool(name="request")
    if not isinstance(value, RegionPool):
        raise TypeError(f"pool must be a RegionPool or None, not {value!r}")
    return value


OpenRegion.__module__ = PoolStats.__module__ = RegionPool.__module__ = "scopedbump"

_pools: set[ref[RegionPool]] = set()


def _forked() -> None:
    for reference in tuple(_pools):
        pool = reference()
        if pool is not None:
            pool._forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
