"""Lease: how the use of a reservation begins, is nested, and what happens at its end. Resets are `_reset`'s.

The rules (numbers are those of the promises in the README):

- The end is a list of steps that may each be repeated. When an exception of a signal handler interrupts them they are
  run again to the end, and only then does it go on (5).
- A scope is a region in its parent's reservation, from the parent's cursor on. Its exporter keeps the parent's
  root, and so pins it. The parent refuses to allocate until the scope ends, and then goes on where it was, or behind
  the scope when something escaped (11).
"""

from __future__ import annotations

from _thread import get_ident
from _warnings import warn
from _weakref import ref

from scopedbump import _atomic, _views
from scopedbump._bump import Bump, clear
from scopedbump._errors import EscapeError, EscapeWarning
from scopedbump._exporter import NOWHERE, Exporter, in_use, rescue, still_there
from scopedbump._layout import ALIGN, place, round_up
from scopedbump._reset import leave_former, restart

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Literal, NoReturn, Self

    from scopedbump._adapters.cffi_ import CffiAllocator
    from scopedbump._adapters.ctypes_ import CtypesAllocator
    from scopedbump._adapters.numpy_ import NumpyAllocator
    from scopedbump._escape import Escape
    from scopedbump._exporter import Use
    from scopedbump._reservation import Reservation


def checked_name(value: str) -> str:
    if not isinstance(value, str):
        raise TypeError(f"name must be a str, not {value!r}")
    return value


def checked_escape(value: Escape) -> Escape:
    if not isinstance(value, str) or value not in ("keep", "warn", "raise"):
        raise ValueError(f"escape must be 'keep', 'warn' or 'raise', not {value!r}")
    return value


class Lease(Bump):
    """What of a region has a beginning and an end. `Region` is the one class that is made of it."""

    __slots__ = (
        "__weakref__",
        "_alive",
        "_cffi",
        "_closer",
        "_ctypes",
        "_done",
        "_escape",
        "_escaped",
        "_exporter",
        "_former",
        "_left",
        "_numpy",
        "_parent",
        "_peak",
        "_ticket",
        "_use",
        "_wipe",
    )

    def __init__(
        self,
        reservation: Reservation,
        exporter: Exporter,
        size: int,
        name: str,
        escape: Escape,
        wipe: bool = False,
        parent: Lease | None = None,
        offset: int = 0,
    ) -> None:
        self._done = True  # until there is something to end
        self._reservation = reservation
        self._exporter = exporter
        self._size = size
        self.name = name
        self._escape: Escape = escape
        self._wipe = wipe
        self._parent = parent
        self._offset = offset
        self._cursor = 0
        self._peak = 0
        self._views: list[memoryview] = []
        self._sweep_at = _views.SWEEP_AT
        self._sweeps = 0
        self._slabs: dict[int, Callable[[], None]] = {}
        self._busy: ref[Lease] | Literal["reset"] | None = None
        self._ticket: ref[Lease] | None = None
        self._use: Use | None = None
        self._closer = 0  # the thread that ends it
        self._former: tuple[Reservation, Exporter, Use | None, list[memoryview]] | None = None
        self._escaped = False
        self._left: Callable[[], object] | None = None
        self._ctypes: CtypesAllocator | None = None
        self._numpy: NumpyAllocator | None = None
        self._cffi: CffiAllocator | None = None
        self._lock = _atomic.new_lock()
        self._ready = 0
        self._limit = -1
        self._root = exporter.root()
        self._done = False
        used = reservation if parent is None else exporter
        self._alive = NOWHERE + 0
        self._use = in_use[id(used)] = (used, ref(self._alive))

    def scope(self, *, escape: Escape | None = None) -> Self:
        """A region inside this one, whose memory is taken again when it ends.

        Until then this region refuses to allocate (RegionBusyError).

        Args:
            escape: as for `bump_region`; None takes this region's.

        Raises:
            RegionBusyError: a scope is open already: open the next one inside that.
            RegionClosedError: the region is closed.

        Lifetime:
            What still points into a scope at its end keeps its bytes: this region then goes on behind them. On PyPy,
            which has no reference counts, a scope gives nothing back before the region itself ends.
        """
        escape = self._escape if escape is None else checked_escape(escape)
        while True:
            reservation = self._reservation
            root = self._opened()
            cursor = self._cursor
            if reservation is not self._reservation:
                continue  # a reset came in between; the next round says which
            start = min(place(reservation.address + self._offset, cursor, ALIGN), self._size)
            size = self._size - start
            exporter = Exporter(reservation.address + self._offset + start, size, root, reservation)
            scope = type(self)(reservation, exporter, size, self.name, escape, self._wipe, self, self._offset + start)
            del exporter
            ticket = scope._ticket = ref(scope)
            with self._lock:
                if not _atomic.atomic:
                    _atomic.alone(self._lock)
                if self._root is root and self._cursor == cursor and self._busy is None:
                    self._busy = ticket
                    self._limit = -1
                    mine = True
                else:
                    mine = False
            if mine:
                del root
                scope._prime()  # now that nobody else can come to these bytes
                return scope
            scope.close()

    def _resume(self, scope: Lease) -> None:
        """Go on after the scope that was open: where it began, or behind it if something escaped."""
        end = scope._offset - self._offset + scope._peak
        escaped = scope._escaped
        ticket = scope._ticket
        with self._lock:
            if not _atomic.atomic:
                _atomic.alone(self._lock)
            if ticket is not None and self._busy is ticket:
                if self._peak < end:
                    self._peak = end
                if escaped and self._cursor < end:
                    self._cursor = end
                self._ready = self._cursor
                self._busy = None

    def reset(self) -> None:
        """Revoke every view and begin again at the start, on pages that are warm.

        With an escape alive the region moves to a fresh reservation, and the old one goes with the escape; a scope
        then stays where it is and goes on behind the escape.

        Raises:
            RegionBusyError: a scope is open in this region.
            RegionClosedError: the region is closed.
            ReserveError: there was no fresh reservation to be had. The views are revoked, the region goes on where it
                was.
        """
        self._opened()
        leave_former(self)  # this may come in the middle of another reset, when that has moved
        mine = False
        try:
            with self._lock:
                if not _atomic.atomic:
                    _atomic.alone(self._lock)
                mine = self._busy is None and self._root is not None
                if mine:
                    self._busy = "reset"
                    self._limit = -1
            if mine:
                restart(self)
        except BaseException:  # of a signal handler: what was begun is brought to its end
            if mine:
                restart(self)
            raise
        if not mine:
            self.reset()

    def close(self) -> None:
        """End the region: revoke its views and give its memory back, or leave it to what still points in.

        Scopes that are open inside end first. Closing again does nothing.

        Raises:
            EscapeError: with escape="raise", when something still points in. The region is closed all the same.
        """
        self._finish(self._escape)

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"{self!r} can't be copied or pickled: its memory is in this process, once")

    def __enter__(self) -> Self:
        if self._root is None:
            raise self._closed_error()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # An exception on its way is never replaced, and its traceback is full of escapes.
        self._finish(self._escape if kind is None else "keep")

    def __del__(self) -> None:
        if getattr(self, "_done", True):
            return
        try:
            warn(f"{self!r} was lost without being closed", ResourceWarning, stacklevel=1, source=self)
        finally:
            self._finish("keep")

    def _finish(self, escape: Escape) -> None:
        if self._done:
            return
        me = get_ident()
        with self._lock:
            if not _atomic.atomic:
                _atomic.alone(self._lock)
            mine = self._closer == 0 or self._closer == me
            if mine:
                self._closer = me
        if not mine:
            return  # another thread is at it
        try:
            self._end()
        except BaseException:  # of a signal handler: what was begun is brought to its end
            try:
                self._end()
            finally:
                self._closer = 0
            raise
        if escape != "keep" and self._escaped and still_there(self._left):
            what = (
                f"{self!r}: something still points into it at its end (a slice, an ndarray, a ctypes or cffi object "
                "made from it) and keeps its memory; drop it first, or copy what is needed longer"
            )
            if escape == "raise":
                raise EscapeError(what)
            warn(what, EscapeWarning, stacklevel=3)

    def _end(self) -> None:
        """The steps of the end, each of which may be repeated."""
        if self._busy is not None:
            self._end_scopes(self._busy)
        late = self._stop(ending=True)  # from here on no reset goes on, and no scope begins
        if late is not None:
            self._end_scopes(late)
        leave_former(self)
        self._revoke()
        exporter = self._exporter
        pinned = exporter.pinned()
        if pinned:
            self._escaped = True
        elif self._wipe:
            self._erase()
        if self._parent is None:
            if in_use.get(id(self._reservation)) is self._use:  # otherwise it has had its end
                left = self._reservation.end(self._views, pinned, self._use)
                if not self._done:  # otherwise a handler came with an end of its own, which knows
                    self._left = left
        else:
            self._reservation.outlive(self._views)
            exporter.end(pinned)
            self._left = exporter.left
            self._parent._resume(self)
        self._views = _views.ended
        self._done = True

    def _end_scopes(self, busy: ref[Lease] | str) -> None:
        """End the scope that `busy` says is open, and those inside it, from the innermost on."""
        scopes = _nested(busy)
        for scope in reversed(scopes):
            scope._finish("keep")
            scope._stop(ending=True)  # another thread may be at its end: what it used counts here all the same
            end = scope._offset - self._offset + scope._peak
            with self._lock:
                if not _atomic.atomic:
                    _atomic.alone(self._lock)
                if self._peak < end:
                    self._peak = end
        if not scopes and isinstance(busy, ref):  # it was lost, maybe without its end: nobody knows what it used
            with self._lock:
                if not _atomic.atomic:
                    _atomic.alone(self._lock)
                usable = self._reservation.committed - self._offset
                if usable > self._size:
                    usable = self._size
                if self._peak < usable:
                    self._peak = usable
            rescue()  # else it pins

    def _stop(self, *, ending: bool) -> ref[Lease] | str | None:
        """Hand out nothing more, and note what was used. Returns what it was busy with."""
        reservation = self._reservation
        with self._lock:
            if not _atomic.atomic:
                _atomic.alone(self._lock)
            busy = self._busy
            if ending:
                self._busy = None
            self._limit = -1
            if self._peak < self._cursor:
                self._peak = self._cursor
            self._root = None
        used = self._offset + self._peak
        if reservation.dirty < used:
            with reservation._lock:  # shared by the scopes and the region around them
                if reservation.dirty < used:
                    reservation.dirty = used
        return busy

    def _revoke(self) -> None:
        """Release every view that was handed out; those with something made from them pin."""
        while self._slabs:
            try:
                clear = self._slabs.popitem()[1]
            except KeyError:  # a close in another thread was faster
                break
            clear()
        if self._views:
            _views.revoke(self._views)
            if not _views.COUNTED:  # there ctypes and others keep a view as an object, and no more than that
                _views.outlast(self._views, self._exporter.anchor)
        self._ctypes = self._numpy = self._cffi = None

    def _erase(self) -> None:
        """Zero what was used. The root pins meanwhile: nobody else takes the memory for free."""
        root = self._exporter.root()
        if root is not None:
            clear(root, 0, min(self._peak, self._reservation.committed - self._offset))

    @property
    def closed(self) -> bool:
        """Whether the region has ended."""
        return self._root is None and self._busy is None

    @property
    def released(self) -> bool:
        """Whether the memory is gone: unmapped, back in its pool, or (a scope's) back in the region around it."""
        return self._done and (self._left is None or self._left() is None)

    def _check(self) -> None:
        """Assert every invariant. For tests, between operations."""
        reservation = self._reservation
        assert 0 <= self._cursor <= self._size
        assert self._limit in (-1, self._ready)
        assert self._offset + self._size <= reservation.size
        if self.closed:
            assert self._done and self._limit == -1 and not self._slabs and not self._views
            return
        assert not self._done and self._exporter.pinned()
        assert self._cursor <= self._ready <= self._size
        assert self._offset + self._ready <= reservation.committed <= round_up(reservation.size, 1 << 16)
        assert self._busy is None or self._limit == -1
        assert self._root is not None and self._root.nbytes == self._size
        # What is ready is zero: looked at up to where anybody has ever written.
        end = max(self._cursor, min(self._ready, reservation.dirty - self._offset))
        if self._busy is None:
            assert not any(self._root[self._cursor : end])
        for scope in _nested(self._busy)[:1]:
            assert scope._parent is self and scope._ticket is self._busy
            scope._check()


def _nested(busy: ref[Lease] | str | None) -> list[Lease]:
    """The scope that `busy` says is open, the one that is open in that, and so on."""
    scopes: list[Lease] = []
    while isinstance(busy, ref) and (scope := busy()) is not None:
        scopes.append(scope)
        busy = scope._busy
    return scopes
