"""RegionPool: reservations that stay warm between leases.

The rules (numbers are those of the promises in the README):

- A reservation goes back to its *stock* at the end of its region. When something still points in then, or a view of
  the region is still referred to as an object, revoked or not, it waits for the last of
  them: a stale pointer would reach into somebody else's request (4). All of them hold one *turn*.
- A reservation changes hands in one operation of a deque, so the pool has no lock on the way in or out. The way out can
  come at any moment, in any thread, in a garbage collection and while the interpreter shuts down.
- A closed pool has a closed stock, and a child process a new one while the stock that it inherited is closed: what is
  out then goes on, and is released instead of coming back (10).
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
from scopedbump import _atomic, _views
from scopedbump._errors import CommitError, RegionClosedError
from scopedbump._escape import Escape
from scopedbump._exporter import in_use, rescue
from scopedbump._layout import checked_int, round_up
from scopedbump._lease import checked_escape, checked_name
from scopedbump._region import DEFAULT_SIZE, Region
from scopedbump._reservation import Reservation

if TYPE_CHECKING:
    from typing import Self

    from scopedbump._exporter import Use

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
    """What memory is left to when something of a pool's region is left: lives as long as anything of it does."""

    __slots__ = ("__weakref__", "_reservation", "begun")

    def __init__(self, reservation: _PooledReservation) -> None:
        self._reservation = reservation
        self.begun = False  # one that is lost before says nothing of the memory

    def retire(self) -> None:
        """Nothing to do: being let go is what counts, and views may still hold on."""

    def __del__(self, is_finalizing: Callable[[], bool] = sys.is_finalizing) -> None:
        # When the interpreter shuts down the process gives all back in a moment.
        if getattr(self, "begun", False) and not is_finalizing():
            self._reservation.stock.take_back(self._reservation)


class _PooledReservation(Reservation):
    """A reservation that goes back to its stock."""

    __slots__ = ("__weakref__", "_former", "_turn", "me", "open", "stock")

    def __init__(self, stock: _Stock) -> None:
        super().__init__(stock.size)
        self.stock = stock
        self.me = weakref.ref(self)
        self.open = False
        self._former: list[weakref.ref[memoryview]] = []  # views from before a reset, or of a scope
        self._turn: _Turn | None = None  # while the end of the region is under way: an interruption must not end it

    def end(self, views: list[memoryview], pinned: bool, use: Use | None) -> Callable[[], object] | None:
        held = _views.alive(views) if views else []
        if self._former:
            _views.track(held, [view for ref in self._former if (view := ref()) is not None])
        key = id(self)
        turn = self._turn
        new = _Turn(self) if turn is None and (held or pinned) else None
        mine = False
        with self._lock:
            if not _atomic.atomic:
                _atomic.alone(self._lock)
            # A handler may have ended the region meanwhile, and even taken the reservation for the next one.
            if key not in in_use:
                mine = use is None
            elif in_use[key] is use:
                mine = True
                if turn is None and new is None:
                    del in_use[key]
                elif self._turn is None:
                    self._turn = new
            turn = self._turn
        if not mine:
            return None if turn is None else weakref.ref(turn)
        self.open = False
        if turn is None:
            self._former.clear()
            self.stock.take_back(self)
            return None
        turn.begun = True
        _views.outlast(held, turn)
        if pinned or turn is not new:  # when that was interrupted before, what pointed in may be out of sight
            self.leave(turn)
        left = weakref.ref(turn)
        self._former.clear()
        in_use.pop(key, None)
        self._turn = None
        return left

    def outlive(self, views: list[memoryview]) -> None:
        if views:
            self._former += map(weakref.ref, _views._views(_views.alive(views)))

    def fresh(self) -> Reservation:
        return self.stock.lease()


class _Stock:
    """The idle reservations of a pool in one process, and those that are out."""

    __slots__ = ("closed", "idle", "leases", "max_idle", "misses", "out", "peak", "retain", "size")

    def __init__(self, size: int, max_idle: int, retain: int) -> None:
        self.size = size
        self.max_idle = max_idle
        self.retain = retain
        self.closed = False
        self.idle: deque[_PooledReservation] = deque()
        self.out: dict[int, weakref.ref[_PooledReservation]] = {}
        self.leases = self.misses = self.peak = 0

    def lease(self) -> _PooledReservation:
        try:
            reservation = self.idle.pop()  # the one that was used last has the warmest caches
            while reservation.gone:  # the pool is garbage, and this comes from a finalizer
                reservation = self.idle.pop()
        except IndexError:
            rescue()
            _views.let_go()
            reservation = _PooledReservation(self)
            self.misses += 1
        self.leases += 1
        self.out[id(reservation)] = reservation.me
        reservation.open = True
        return reservation

    def take_back(self, reservation: _PooledReservation) -> None:
        """Whatever interrupts this: the reservation is then idle, or goes with the last reference to it."""
        if self.out.pop(id(reservation), None) is None:
            return  # it is back already
        if self.peak < reservation.dirty:
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
        rescue()
        _views.let_go(always=True)
        out = [reservation for ref in self.out.copy().values() if (reservation := ref()) is not None]
        idle = self.idle.copy()
        opened = sum(reservation.open for reservation in out)
        committed = sum(reservation.committed for reservation in (*out, *idle))
        leases, misses = self.leases, self.misses
        return PoolStats(leases, leases - misses, misses, len(idle), opened, len(out) - opened, committed, self.peak)


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
        wipe: as for `bump_region`, for each of its regions.

    Raises:
        TypeError, ValueError: an argument is no int, or size is not positive, or max_idle or retain is negative.

    Thread safety:
        Any thread may call anything at any moment, signal handlers and finalizers too. The pool has no lock.

    Lifetime:
        A child process (`os.fork`) starts with an empty pool of its own; regions that were open at the fork go on in
        both processes.
    """

    __slots__ = ("__weakref__", "_stock", "_wipe", "name")

    name: str

    def __init__(
        self,
        size: int = DEFAULT_SIZE,
        *,
        max_idle: int = DEFAULT_MAX_IDLE,
        retain: int = DEFAULT_RETAIN,
        name: str = "",
        wipe: bool = False,
    ) -> None:
        size = checked_int(size, "size", 1)
        max_idle = checked_int(max_idle, "max_idle", 0)
        retain = round_up(checked_int(retain, "retain", 0), _pages.system_pages.page_size)
        self.name = checked_name(name)
        self._wipe = bool(wipe)
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
        reservation = stock.lease()
        region = Region(reservation, reservation.exporter(), stock.size, self.name, escape, self._wipe)
        region._prime()
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
        state = "closed" if stock.closed else f"{len(stock.idle)} idle, {len(stock.out)} out"
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
