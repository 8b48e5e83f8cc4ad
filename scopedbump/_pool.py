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
- Nothing is cleared here. A reservation knows how far it was written, and its next region clears what it uses (6).

Roads not taken: to drop what is pinned from the pool (a handler's local variables are alive at its end, so it would
never be warm); a lease that ends by its death alone (an exception of a signal handler there is printed and lost).
"""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Final, NamedTuple, NoReturn, Self, TypeAlias, final
from weakref import ref

from . import _pages, _views
from ._atomic import critical
from ._chunk import Chunk
from ._errors import CommitError, Escape, RegionClosedError, checked_escape
from ._layout import checked_int, checked_name, round_up
from ._lifetime import Exporter, drop_dead_keepers, owners
from ._region import DEFAULT_SIZE, Options, Region, new_region
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
    """

    leases: int
    hits: int
    misses: int
    idle: int
    out: int
    escaped: int
    committed: int
    peak: int


class _Lease:
    """The tenure of a pool's region: one use of a reservation. Its end, or its death, gives the reservation back.

    Attributes:
        over: whether the region has come to its end.
    """

    __slots__ = ("__weakref__", "_free_list", "_held", "_memory", "_proven", "lock", "over")

    def __init__(self, free_list: _FreeList, memory: Memory) -> None:
        self._free_list = free_list
        self._held = False  # by views that are still referred to
        self._proven = False  # whether the reservation's numbers say how far it was written and is committed
        self.over = False
        self.lock: Lock | None = memory[0].lock
        self._memory: Memory | None = memory  # last: with it there is something to give back

    def renew(self, reservation: Reservation) -> Chunk:
        return self._free_list.acquire()

    def outlast(self, views: list[memoryview], exporter: Exporter | None) -> None:
        if _views.outlast(views, self):
            self._held = True

    def end(self, chunk: Chunk, exporter: Exporter | None) -> ref[object] | None:
        self._proven = chunk.aheads is None or (exporter is not None and chunk.close_gaps())
        self.over = True
        self._free_list.note_use(chunk.peak)
        if exporter is None or self._held or not self._proven:
            return ref(self)
        self._give_back(exporter)  # not left to `__del__`, where an exception of a signal handler would be lost
        return None

    def _give_back(self, exporter: Exporter | None) -> None:
        memory = self._take_memory()
        if memory is not None:
            if exporter is not None:
                exporter.keeper.owner = None
            self._free_list.release(memory, exporter)

    @critical
    def _take_memory(self) -> Memory | None:
        memory = self._memory
        self._memory = None
        return memory

    def reservation_of(self, free_list: _FreeList) -> Reservation | None:
        """The reservation, if this is a lease from that list and not over."""
        memory = self._memory
        return None if memory is None or self._free_list is not free_list else memory[0]

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
        "_least_idle",
        "_until_turn",
        "_used_before",
        "_used_now",
        "closed",
        "idle",
        "leases",
        "max_idle",
        "misses",
        "peak",
        "retain",
        "secret",
        "size",
    )

    def __init__(self, size: int, max_idle: int | None, retain: int | None, secret: bool) -> None:
        self.size = size
        self.max_idle = max_idle
        self.retain = retain
        self.secret = secret
        self.closed = False
        self.idle: deque[tuple[Memory, Exporter | None]] = deque()
        self.leases = self.misses = self.peak = 0
        self._least_idle = self._used_before = self._used_now = 0
        self._until_turn = PERIOD

    def acquire(self) -> Chunk:
        """The chunk of a new lease."""
        try:
            memory, exporter = self.idle.pop()  # the one that was used last has the warmest caches
        except IndexError:
            drop_dead_keepers()
            memory, exporter = reserve(self.size, self.secret), None
            self.misses += 1
        self.leases += 1
        if len(self.idle) < self._least_idle:
            self._least_idle = len(self.idle)
        reservation = memory[0]
        lease = _Lease(self, memory)
        if exporter is None:
            exporter = Exporter(reservation.address, reservation.size, lease)
        else:
            exporter.keeper.owner = lease
        chunk = Chunk(reservation, exporter, lease)
        chunk.prepare()
        return chunk

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
            keep, held = self.retain, reservation.committed
        else:
            keep, held = max(self._used_now, self._used_before, LEAST_RETAINED), reservation.dirty
        if held > keep and not self.closed:
            try:
                reservation.trim(keep)
            except CommitError:
                return False
        return True

    def _turn(self) -> None:
        """A period is over."""
        count = len(self.idle)
        self._until_turn = PERIOD + 4 * count
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

    def out(self) -> tuple[list[Reservation], list[Reservation]]:
        """The reservations of regions that are open, and of those that are over and whose memory is not back.

        Not counted, but looked up among what is kept alive: a count would be wrong for ever after an exception of a
        signal handler in a finalizer.
        """
        drop_dead_keepers(always=True)
        opened: list[Reservation] = []
        escaped: list[Reservation] = []
        for lease in {owner for owner in owners() if type(owner) is _Lease}:
            reservation = lease.reservation_of(self)
            if reservation is not None:
                (escaped if lease.over else opened).append(reservation)
        return opened, escaped

    def stats(self) -> PoolStats:
        opened, escaped = self.out()
        idle = [memory[0] for memory, _ in self.idle.copy()]
        committed = sum(reservation.committed for reservation in (*opened, *escaped, *idle))
        leases, misses = self.leases, self.misses
        return PoolStats(leases, leases - misses, misses, len(idle), len(opened), len(escaped), committed, self.peak)


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
        name: the name of its regions, shown in `repr` and in errors.
        wipe: as for `bump_region`, for each of its regions.

    Raises:
        TypeError, ValueError: an argument is no int, or size is not positive, or max_idle or retain is negative.

    Thread safety:
        Any thread may call anything at any moment, signal handlers and finalizers too. The pool has no lock.

    Lifetime:
        A child process (`os.fork`) starts with an empty pool of its own; regions that were open at the fork go on in
        both processes.
    """

    __slots__ = ("__weakref__", "_free_list", "_options")

    def __init__(
        self,
        size: int = DEFAULT_SIZE,
        *,
        max_idle: int | None = None,
        retain: int | None = None,
        name: str = "",
        wipe: bool = False,
    ) -> None:
        size = checked_int(size, "size", 1)
        if max_idle is not None:
            max_idle = checked_int(max_idle, "max_idle", 0)
        if retain is not None:
            retain = round_up(checked_int(retain, "retain", 0), _pages.system_pages.page_size)
        self._options = Options(checked_name(name), "keep", bool(wipe), retain)
        self._free_list = _FreeList(size, max_idle, retain, self._options.wipe)
        _pools.add(ref(self, _pools.discard))

    def region(self, *, escape: Escape = "keep") -> Region:
        """A region on a warm reservation: use it in a `with` block, or call `close()`.

        Its memory comes back when the region is closed, nothing points in any more, and every view that it handed out
        is gone as an object too. Until then the pool goes on without it.

        Args:
            escape: as for `bump_region`.

        Raises:
            ValueError: escape is none of the three.
            RegionClosedError: the pool is closed.
            ReserveError: nothing was idle, and the operating system has no such range.
        """
        options = self._options
        if escape != "keep":
            options = options.with_escape(checked_escape(escape))
        free_list = self._free_list
        if free_list.closed:
            raise RegionClosedError(f"{self!r} has no regions any more: make them before its close, or a new pool")
        return new_region(free_list.acquire(), options)

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

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"{self!r} can't be copied or pickled: its memory is in this process, once")

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
        self._free_list = _FreeList(old.size, old.max_idle, old.retain, old.secret)
        self._free_list.closed = old.closed
        old.close()


def checked_pool(value: RegionPool | None) -> RegionPool:
    """The pool that a middleware was given, or one of its own."""
    if value is None:
        return RegionPool(name="request")
    if not isinstance(value, RegionPool):
        raise TypeError(f"pool must be a RegionPool or None, not {value!r}")
    return value


PoolStats.__module__ = RegionPool.__module__ = "scopedbump"

_pools: set[ref[RegionPool]] = set()


def _forked() -> None:
    for reference in tuple(_pools):
        pool = reference()
        if pool is not None:
            pool._forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
