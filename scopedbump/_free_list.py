"""The free list of a pool: reservations that wait for their next lease, and how many and how much of them is kept.

The rules (numbers are those of the promises in the README):

- A *lease* is one use of one reservation, and ends once. While it lasts, it owns the mapping: what points in keeps it.
  So does a view of the region that is still referred to as an object, revoked or not: a stale pointer would reach into
  somebody else's request (4).
- A region's end ends its lease when nothing is left of it; otherwise the lease ends when it dies. Either way the
  reservation goes back to the free list.
- A lease whose region never came to its end says nothing of what was written, so all its pages are given back (6).
- A reservation changes hands in one operation of a deque. The way back can come at any moment, in any thread, in a
  garbage collection and while the interpreter shuts down.
- Nothing is cleared here. A reservation knows how far it was written, and its next region clears what it uses (6).

Roads not taken: to drop what is pinned (a handler's local variables are alive at its end, so a pool would never be
warm); a lease that ends by its death alone (an exception of a signal handler there is printed and lost).
"""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Final, TypeAlias
from weakref import ref

from . import _views
from ._atomic import atomic, critical, new_lock
from ._chunk import Chunk
from ._errors import CommitError, PoolFullError
from ._lifetime import Exporter, drop_dead_keepers, owners
from ._options import Options
from ._places import Place, Places
from ._region import Region
from ._reservation import Reservation, reserve

if TYPE_CHECKING:
    from _cffi_backend import CData

    from ._atomic import Lock

Memory: TypeAlias = "tuple[Reservation, CData]"
"""What changes hands: the numbers of a reservation and the mapping, as `reserve` gives them."""

PERIOD: Final = 64
"""How many leases, at least, make a period, in which a pool without bounds of its own sees what is needed."""

LEAST_RETAINED: Final = 1 << 20
"""Bytes below which giving back is not worth its system calls."""

QUIET: Final = 60.0
"""Seconds, at least, between two lines of the log about one pool."""


class Lease:
    """The tenure of a pool's region: one use of a reservation. Its end, or its death, gives the reservation back.

    Attributes:
        number: the how many-th of its pool, as more than one may begin in one tick of the clock.
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
        "number",
        "over",
        "region",
        "since",
    )

    def __init__(self, free_list: FreeList, memory: Memory, place: Place | None) -> None:
        self._free_list = free_list
        self._process = free_list.process
        self._place = place
        self.region: ref[Region] | None = None
        self.since = monotonic()
        self.number = free_list.leases
        self._held = False  # by views that are still referred to
        self._proven = False  # whether the reservation's numbers say how far it was written and is committed
        self.over = False
        self.lock: Lock | None = memory[0].lock
        self._memory: Memory | None = memory  # last: with it there is something to give back

    def renew(self, reservation: Reservation) -> Chunk:
        chunk, lease = self._free_list.acquire(self._place)
        lease.region = self.region
        lease.since, lease.number = self.since, self.number
        self._place = None  # the other one's by now
        return chunk

    def outlast(self, views: list[memoryview], exporter: Exporter | None) -> None:
        _views.outlast(views, self)
        self._held = True

    def end(self, chunk: Chunk, exporter: Exporter | None) -> ref[object] | None:
        if not chunk.reservation.aheads:
            self._proven = True
        else:
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
            if memory[0].aheads:
                memory[0].aheads.clear()
            self._free_list.release(memory, exporter)

    @critical
    def _take_memory(self) -> Memory | None:
        memory = self._memory
        self._memory = None
        return memory

    def reservation_of(self, free_list: FreeList) -> Reservation | None:
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


class FreeList:
    """The idle reservations of a pool in one process, how many they may be, and how much of them is kept.

    Where the pool sets no bound, what was needed lately does. A *period* is so many leases that all who take turns had
    several of them. An idle reservation that nobody needed in a whole period goes; pages go that no lease used in this
    period and the one before.
    """

    __slots__ = (
        "_always_kept",
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
        "lock",
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
        self._always_kept = LEAST_RETAINED if options.retain is None else -1
        self.secret = options.secret
        self.name = options.name
        self.closed = False
        self.idle: deque[tuple[Memory, Exporter | None]] = deque()
        self.lock = new_lock()
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
            places.refuse()
            raise PoolFullError(
                f"all regions of the pool {self.name!r} are open (max_out={places.most}): try again when one has "
                "ended, look with open_regions() who has them, or make the pool with a larger max_out="
            )
        return place

    def back(self, region: Region) -> Chunk:
        """The chunk of a new lease for a region that was not asked for memory before."""
        chunk, lease = self.acquire(None if self.places is None else self.take_place())
        lease.region = ref(region)
        return chunk

    def acquire(self, place: Place | None) -> tuple[Chunk, Lease]:
        """A new lease and its chunk, which is not prepared: who goes on to allocate does that better."""
        try:
            memory, exporter = self.idle.pop()  # the one that was used last has the warmest caches
        except IndexError:
            self.look_around()
            drop_dead_keepers()
            memory, exporter = reserve(self.size, self.secret), None
            self._count(1)
        else:
            if atomic:
                self.leases += 1
            else:
                self._count()
        if self._complaint is not None:
            self._complain()
        if len(self.idle) < self._least_idle:
            self._least_idle = len(self.idle)
        reservation = memory[0]
        lease = Lease(self, memory, place)
        if exporter is None:
            exporter = Exporter(reservation.address, reservation.size, lease)
        else:
            exporter.keeper.owner = lease
        return Chunk(reservation, exporter, lease), lease

    @critical
    def count_overflow(self) -> None:
        """A request was answered with the status of a region that is full."""
        self.overflowed += 1

    @critical
    def _count(self, missed: int = 0) -> None:
        self.leases += 1
        self.misses += missed

    def waiting(self) -> list[Reservation]:
        """The reservations that are idle."""
        while True:
            try:
                return [memory[0] for memory, _ in self.idle.copy()]
            except RuntimeError:  # another thread changed it meanwhile, where they run at once
                continue

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
        if memory[0].dirty <= self._always_kept or self._trim(memory[0]):
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

    def out(self) -> tuple[list[Lease], list[Lease]]:
        """The leases of regions that are open, and of those that are over and whose memory is not back.

        Not counted, but looked up among what is kept alive: a count would be wrong for ever after an exception of a
        signal handler in a finalizer.
        """
        drop_dead_keepers(always=True)
        opened: list[Lease] = []
        escaped: list[Lease] = []
        for lease in {owner for owner in owners() if type(owner) is Lease}:
            if lease.reservation_of(self) is not None:
                (escaped if lease.over else opened).append(lease)
        return opened, escaped


def new_free_list(size: int, max_idle: int | None, max_out: int | None, options: Options) -> FreeList:
    """An empty one; that of a debug pool stays empty."""
    if options.debug:
        from ._debug._pool import DebugFreeList

        return DebugFreeList(size, max_idle, max_out, options)
    return FreeList(size, max_idle, max_out, options)
