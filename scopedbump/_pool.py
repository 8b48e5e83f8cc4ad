"""RegionPool: reservations that stay warm between leases.

The rules (numbers are those of the promises in the README):

- Every lease has a *turn* as its owner. A turn lives for as long as something points into the memory, or a view of the
  lease is still referred to as an object, revoked or not: a stale pointer would reach into somebody else's request
  (4). Its end puts the reservation back.
- A reservation changes hands in one operation of a deque, so there is no lock on the way in or out. The way out can
  come at any moment, in any thread, in a garbage collection and while the interpreter shuts down.
- A turn gives back to the *stock* that it came from. A closed pool has a closed stock, and a child process a new one
  while the stock that it inherited is closed: what is out then goes on, and is released instead of coming back (10).
- Nothing is cleared here. A reservation knows how far it was written, and its next region clears what it uses (6).
"""

from __future__ import annotations

import os
import sys
import weakref
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Final, NamedTuple, NoReturn, final

import scopedbump._pages as _pages
from scopedbump import _views
from scopedbump._errors import CommitError, RegionClosedError
from scopedbump._layout import checked_int, round_up
from scopedbump._region import DEFAULT_SIZE, Escape, Region, checked_escape, checked_name
from scopedbump._reservation import Owner, Reservation, nobody

if TYPE_CHECKING:
    from typing import Self

DEFAULT_MAX_IDLE: Final = 16
DEFAULT_RETAIN: Final = 1 << 24


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
        peak: the most bytes that one lease used, among those that came back.
    """

    leases: int
    hits: int
    misses: int
    idle: int
    out: int
    escaped: int
    committed: int
    peak: int


class _Turn:
    """The owner of one lease: its end brings the reservation back."""

    __slots__ = ("__weakref__", "ended", "region", "reservation", "stock")

    def __init__(self, stock: _Stock, reservation: Reservation) -> None:
        self.reservation = reservation
        self.stock = stock
        self.region: weakref.ref[Region] | None = None
        self.ended = False  # whether the region came to its end, and noted how far it had written
        stock.turns[id(self)] = weakref.ref(self)

    def retire(self) -> Owner:
        return nobody  # a closed region refers to its lease, and must not keep the turn by that

    def guard(self, views: list[memoryview]) -> weakref.ref[Owner] | None:
        self.ended = not self.open
        alive = _views.alive(views)
        if not alive:
            return None
        _views.outlast(alive, self)
        return weakref.ref(self)

    def fresh(self) -> Owner:
        turn = self.stock.turn()
        turn.region, self.region = self.region, None
        self.ended = True
        return turn

    @property
    def open(self) -> bool:
        """Whether a region is open in this memory; otherwise something escaped from one."""
        region = None if self.region is None else self.region()
        return region is not None and not region.closed and region._reservation is self.reservation

    def __del__(self, is_finalizing: Callable[[], bool] = sys.is_finalizing) -> None:
        # When the interpreter shuts down the process gives all back in a moment.
        if not is_finalizing() and hasattr(self, "stock"):
            self.stock.take_back(self)


class _Stock:
    """The idle reservations of a pool in one process, and the turns that it gave."""

    __slots__ = ("closed", "idle", "leases", "max_idle", "misses", "peak", "retain", "size", "turns")

    def __init__(self, size: int, max_idle: int, retain: int) -> None:
        self.size = size
        self.max_idle = max_idle
        self.retain = retain
        self.closed = False
        self.idle: deque[Reservation] = deque()
        self.turns: dict[int, weakref.ref[_Turn]] = {}
        self.leases = self.misses = self.peak = 0

    def turn(self) -> _Turn:
        try:
            reservation = self.idle.pop()  # the one that was used last has the warmest caches
        except IndexError:
            reservation = Reservation(self.size)
            self.misses += 1
        self.leases += 1
        return _Turn(self, reservation)

    def take_back(self, turn: _Turn) -> None:
        """Whatever interrupts this: the reservation is then idle, or goes with the last reference to it."""
        self.turns.pop(id(turn), None)
        reservation = turn.reservation
        if not turn.ended:  # exceptions of signal handlers kept the region from its end, and its finalizer too
            reservation.dirty = reservation.committed
        elif self.peak < reservation.dirty:
            self.peak = reservation.dirty
        if reservation.committed > self.retain and not self.closed:
            try:
                reservation.trim(self.retain)
            except CommitError:
                reservation.release()
                return
        self.idle.append(reservation)
        # Looked at after the append, so that a close in another thread overlooks nothing.
        if self.closed or len(self.idle) > self.max_idle:
            self.drain(0 if self.closed else self.max_idle)

    def drain(self, keep: int) -> None:
        """Release the idle reservations that were used longest ago."""
        while len(self.idle) > keep:
            try:
                reservation = self.idle.popleft()
            except IndexError:  # somebody else was faster
                return
            reservation.release()

    def close(self) -> None:
        self.closed = True
        self.drain(0)

    def stats(self) -> PoolStats:
        turns = [turn for ref in self.turns.copy().values() if (turn := ref()) is not None]
        idle = self.idle.copy()
        out = sum(turn.open for turn in turns)
        committed = sum(turn.reservation.committed for turn in turns)
        committed += sum(reservation.committed for reservation in idle)
        leases, misses = self.leases, self.misses
        escaped = len(turns) - out
        return PoolStats(leases, leases - misses, misses, len(idle), out, escaped, committed, self.peak)


@final
class RegionPool:
    """Keeps reservations warm between regions: taking one costs no system call, and its pages are there already.

    For servers and loops: one pool for all, one region a request. A context manager: the end of the block closes it.

    Args:
        size: bytes of address space of each region. They cost no RAM before they are touched.
        max_idle: how many reservations wait for the next region at most; more are given back to the system.
        retain: bytes of pages that each of them keeps; pages above are given back when it returns. An idle pool
            holds at most max_idle * retain bytes of RAM.
        name: the name of its regions, shown in `repr` and in errors.

    Raises:
        TypeError, ValueError: an argument is no int, or size is not positive, or max_idle or retain is negative.

    Thread safety:
        Any thread may call anything at any moment, signal handlers and finalizers too. There is no lock.

    Lifetime:
        A child process (`os.fork`) starts with an empty pool of its own; regions that were open at the fork go on in
        both processes.
    """

    __slots__ = ("__weakref__", "_stock", "name")

    name: str

    def __init__(
        self,
        size: int = DEFAULT_SIZE,
        *,
        max_idle: int = DEFAULT_MAX_IDLE,
        retain: int = DEFAULT_RETAIN,
        name: str = "",
    ) -> None:
        size = checked_int(size, "size", 1)
        max_idle = checked_int(max_idle, "max_idle", 0)
        retain = round_up(checked_int(retain, "retain", 0), _pages.system_pages.page_size)
        self.name = checked_name(name)
        self._stock = _Stock(size, max_idle, retain)
        _pools.add(weakref.ref(self, _pools.discard))

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
        if escape != "keep":
            checked_escape(escape)
        stock = self._stock
        if stock.closed:
            raise RegionClosedError(f"{self!r} has no regions any more: make them before its close, or a new pool")
        turn = stock.turn()
        region = Region(turn, stock.size, self.name, escape)
        turn.region = weakref.ref(region)
        return region

    def stats(self) -> PoolStats:
        """What the pool did since it was made (in a child process: since the fork), and what it holds."""
        return self._stock.stats()

    def close(self) -> None:
        """Give the idle reservations back to the system, and take none any more.

        Regions that are out go on, and so does what escaped; their memory is released instead of coming back. Closing
        again does nothing.
        """
        self._stock.close()

    @property
    def size(self) -> int:
        """Bytes of address space of each region."""
        return self._stock.size

    @property
    def closed(self) -> bool:
        """Whether the pool has ended."""
        return self._stock.closed

    def __enter__(self) -> Self:
        if self._stock.closed:
            raise RegionClosedError(f"{self!r} can't be entered")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"{self!r} can't be copied or pickled: its memory is in this process, once")

    def __repr__(self) -> str:
        stock = self._stock
        name = f" {self.name!r}" if self.name else ""
        state = "closed" if stock.closed else f"{len(stock.idle)} idle, {len(stock.turns)} out"
        return f"<scopedbump.RegionPool{name}: regions of {stock.size} bytes, {state}>"

    def __del__(self, is_finalizing: Callable[[], bool] = sys.is_finalizing) -> None:
        stock = getattr(self, "_stock", None)
        if stock is not None and not is_finalizing():
            stock.close()

    def _forked(self) -> None:
        old = self._stock
        self._stock = _Stock(old.size, old.max_idle, old.retain)
        self._stock.closed = old.closed
        old.close()


def checked_pool(value: RegionPool | None) -> RegionPool:
    """The pool that a middleware was given, or one of its own."""
    if value is None:
        return RegionPool(name="request")
    if not isinstance(value, RegionPool):
        raise TypeError(f"pool must be a RegionPool or None, not {value!r}")
    return value


PoolStats.__module__ = RegionPool.__module__ = "scopedbump"

_pools: set[weakref.ref[RegionPool]] = set()


def _forked() -> None:
    for ref in tuple(_pools):
        pool = ref()
        if pool is not None:
            pool._forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
