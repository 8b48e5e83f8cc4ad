"""Chunk: what a region bumps in. A cursor, a window of zeroed memory ahead of it, and the views handed out.

A region has one chunk at a time: from its opening, or its last reset, to the next reset or its end. Whoever allocates
holds the chunk in a local variable, and so sees one state, whatever happens to the region meanwhile. Cursors, and all
other positions, count from the start of the reservation, in scopes too.

    state      limit                 view        inner            how it is left
    OPEN       0 or more; -1 where   memoryview  None             suspend -> SUSPENDED, stop -> RESETTING or ENDED
               a bump needs a lock,
               or nothing is zeroed
    SUSPENDED  -1                    memoryview  the scope's      resume -> OPEN, stop -> ENDED
    UNBACKED   -1                    None        None             never: regions share it, `replace` puts another there
    RESETTING  -1                    None        None             hand_over -> ENDED, stop -> ENDED
    ENDED      -1                    None        until it ended   -

The rules (numbers are those of the promises in the README):

- What lies behind the cursor and before `limit` is committed and zero: the fast path needs one comparison to hand it
  out. Committing, clearing, refusing and explaining are the slow path's (1, 2, 6, 8).
- Bytes change hands, and states change, in critical sections only: here, in `_unbacked`, and in `_ahead` for blocks
  that grow (9).
- Whoever works on memory between taking it and handing out a view of it holds `view` in a local variable. That pins:
  a close or reset in another thread, a finalizer or a signal handler takes it for an escape, and what is being handed
  out is neither unmapped nor used again (4). For that `view` is dropped, never released.
- An unbacked region has no memory: it takes some when it is first asked for it, and ends without a trace before that.
- A scope's chunk is the rest of its parent's, over the same range. Its exporter keeps the parent's view, and so the
  memory; the parent's chunk keeps the scope's, so how far the scope wrote is known even if the scope is lost (6, 11).
- Where exceptions come between any two byte codes (PyPy), a critical section may end half way: its stores are in such
  an order that it can be repeated, and that no byte is lost or taken for clean meanwhile (5, 6).
- Who zeroes what was used, for `wipe`, is counted in `erasers`: until that is over the memory goes to nobody else (6).
- To end a chunk is to revoke and to let go. Each step may be repeated, in any thread, so an end that was interrupted is
  brought to its end by whoever comes next, and the memory goes with the last that refers to it (3, 5).
"""

from __future__ import annotations

from _weakref import ref
from itertools import islice

from . import _views
from ._atomic import atomic, critical
from ._errors import CommitError, RegionFullError
from ._layout import ALIGN, PAGE, WINDOW, place, round_up
from ._lifetime import Exporter
from ._zeros import ZEROS, clear

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ._ahead import Ahead
    from ._atomic import Lock
    from ._errors import Escape
    from ._reservation import Reservation
    from ._tenure import Holder, Tenure

OPEN, SUSPENDED, UNBACKED, RESETTING, ENDED = range(5)


class Chunk:
    """What a region bumps in.

    Attributes:
        ahead: what was taken ahead last, for a block that grows.
        batches: what to call, at the end, so that objects made ahead let go of the memory, by the id of their maker.
        cursor: where the next block starts.
        erasers: how many are zeroing what was used, for `wipe`.
        escaped: after the end: whether something pointed in.
        exporter: what all its views refer to; None after the end.
        inner: the chunk of the scope that is open in it.
        kept: after the end: a reference to what is dead when the memory went back; None when that was at once.
        limit: up to where the fast path may go, or -1.
        lock: the reservation's.
        outer: of a scope's: the chunk that it is part of.
        peak: the furthest that it was used, scopes and former resets included, less `holes`; up to date after a scope,
            at a reset and at the end.
        region: of a scope's: refers to the scope, and is dead when the scope was lost.
        reservation: the numbers of the range.
        stale: after the end: the views to revoke.
        start: where it begins.
        state: see the table above.
        tenure: on what terms the region has the reservation; None after the end.
        view: the memoryview that all views are cut from.
        views: what was handed out and not pruned, as `_views` keeps it.
        zeroed: up to where memory behind the cursor is committed and zero.
    """

    __slots__ = (
        "_prune_at",
        "_prunes",
        "ahead",
        "batches",
        "cursor",
        "erasers",
        "escaped",
        "exporter",
        "inner",
        "kept",
        "limit",
        "lock",
        "outer",
        "peak",
        "region",
        "reservation",
        "stale",
        "start",
        "state",
        "tenure",
        "view",
        "views",
        "zeroed",
    )

    region: ref[object]
    max_batch: int = 256  # more objects at once would set off the garbage collector
    debug: bool = False

    def __init__(
        self,
        reservation: Reservation,
        exporter: Exporter,
        tenure: Tenure | None,
        start: int = 0,
        outer: Chunk | None = None,
        cursor: int = 0,
    ) -> None:
        self.reservation: Reservation = reservation
        self.lock: Lock | None = reservation.lock
        self.exporter: Exporter | None = exporter
        self.tenure: Tenure | None = tenure
        self.outer: Chunk | None = outer
        self.start: int = start
        self.cursor: int = cursor
        self.zeroed: int = cursor
        self.peak: int = cursor
        self.limit: int = -1
        self.ahead: Ahead | None = None
        self.state: int = OPEN
        self.inner: Chunk | None = None
        self.views: list[memoryview] = []
        self.stale: list[memoryview] | None = None
        self._prune_at = _views.PRUNE_AT
        self._prunes: int = 0
        self.batches: dict[int, Callable[[], None]] | None = None
        self.escaped: bool = False
        self.erasers: int = 0
        self.kept: ref[object] | None = None
        self.view: memoryview | None = exporter.view()

    # -- taking

    @critical
    def bump(self, size: int, align: int) -> tuple[memoryview, int, int, int] | None:
        """Move the cursor over `size` bytes that are committed; None when there are not so many, or it is not open.

        Returns the view of it all, where the bytes start, where the cursor was, and up to where they were zeroed. An
        empty block has an address that can be read: of a byte behind the cursor, or, when it is full, of some other.
        """
        view = self.view
        if view is None or self.state:
            return None
        reservation = self.reservation
        mark = self.cursor
        zeroed = self.zeroed
        start = (reservation.address + mark + align - 1 & -align) - reservation.address  # as `place`, without a call
        stop = start + size
        if not size:
            if start >= reservation.size:
                if reservation.aheads and align > PAGE:  # it may lie where nothing is committed
                    return None
                start = stop = (reservation.address + reservation.size - 1 & -align) - reservation.address
            if start < 0 or start >= reservation.committed:
                return None
        elif stop > reservation.size or stop > reservation.committed:
            return None
        if mark < stop:
            self.cursor = stop
        if zeroed < stop:
            self.zeroed = stop
            if self.limit >= 0:
                self.limit = stop
        return view, start, mark, zeroed

    def make_room(self, size: int, align: int, name: str) -> None:
        """Commit what `bump` needs.

        Raises:
            RegionFullError: there is no room for it.
            CommitError: the operating system refused.
        """
        view = self.view  # pins: nothing is committed where somebody else's memory is by now
        reservation = self.reservation
        start = place(reservation.address, self.cursor, align)
        stop = start + (size or 1)
        if not size and reservation.aheads and align <= PAGE:  # an empty block lies in the last page then
            stop = min(stop, reservation.size)
        if stop > reservation.size:
            del view  # a traceback must not pin
            left = max(reservation.size - start, 0)
            raise RegionFullError(size, align, left, reservation.size - self.start, name)
        if view is not None:
            reservation.commit(min(max(stop, self.cursor + WINDOW), reservation.size))

    def covers(self, start: int, stop: int) -> bool:
        """Whether [start, stop), as addresses, lies in here; an empty block may lie anywhere in the reservation."""
        address = self.reservation.address
        begin = address + (self.start if start < stop else 0)
        return begin <= start and stop <= address + self.reservation.size

    def clear(self, view: memoryview, start: int, stop: int) -> None:
        """Zero what may have been written of view[start:stop], which is the caller's alone."""
        clear(self.reservation, view, start, stop)

    def prepare(self) -> None:
        """Zero the next window, as far as it is committed, and open the fast path, if nobody has done so meanwhile."""
        view = self.view
        reservation = self.reservation
        zeroed = self.zeroed
        dirty = reservation.dirty
        target = self.cursor + WINDOW
        if target > reservation.size:
            target = reservation.size
        if target > reservation.committed:
            target = reservation.committed
        if view is None or target <= zeroed:
            return
        end = dirty if dirty < target else target  # noqa: FURB136  # a call of min takes as long as all of this
        if end > zeroed:  # made here: making anything is where a garbage collection may come in
            self._open_window(view, zeroed, dirty, target, slice(zeroed, end), ZEROS[: end - zeroed])
        else:
            self._open_window(view, zeroed, dirty, target, None, ZEROS)

    @critical
    def _open_window(
        self,
        view: memoryview,
        zeroed: int,
        dirty: int,
        target: int,
        used: slice[int, int, None] | None,
        zeros: memoryview,
    ) -> None:
        # Whoever else came this far may have handed out these bytes: then they must not be cleared again. A scope that
        # came and went may have left `zeroed` where it was, but not the bytes behind it.
        reservation = self.reservation
        if self.view is not view or self.state != OPEN or self.zeroed != zeroed or reservation.dirty != dirty:
            return
        if target <= reservation.committed:  # what was taken ahead and given back takes that down
            if used is not None:
                view[used] = zeros
            self.zeroed = target
            if atomic:
                self.limit = target

    def rewind(self, view: memoryview, mark: int, stop: int) -> None:
        """Take back bytes that nothing points into: the cursor is at `mark` again, unless others allocated since."""
        view[mark:stop] = bytes(stop - mark)  # what lies behind the cursor, and is zeroed, is zero
        self._rewind(view, mark, stop)

    @critical
    def _rewind(self, view: memoryview, mark: int, stop: int) -> None:
        if self.view is view and self.state == OPEN and self.cursor == stop:
            self.cursor = mark

    # -- what was taken ahead in it, for blocks that grow: see `_ahead`

    def holes(self) -> int:
        """Bytes before the cursor that were taken ahead and not filled; those of scopes, once these are over."""
        aheads = self.reservation.aheads
        if not aheads:
            return 0
        return sum(ahead.hole for ahead in tuple(aheads) if self.start <= ahead.start < self.cursor)

    def gaps(self) -> list[tuple[int, int]]:
        """Where memory below `reservation.committed` is not committed, scopes included: (start, stop), in order."""
        aheads = [ahead for ahead in tuple(self.reservation.aheads) if ahead.start >= self.start]
        return sorted((ahead.committed, ahead.edge) for ahead in aheads if ahead.committed < ahead.edge)

    def readable(self, start: int, stop: int) -> int:
        """Up to where memory can be read from the start of a block on: `stop`, which lies behind it, or a gap."""
        for gap, _ in self.gaps():
            if start < gap < stop:
                return gap
        return stop

    def close_gaps(self) -> bool:
        """After the end: give back all from the first gap on, so that `reservation.committed` holds again.

        False when the system refused.
        """
        reservation = self.reservation
        if not reservation.aheads:
            return True
        try:
            for start, _ in self.gaps()[:1]:
                reservation.trim(start)
        except CommitError:
            return False
        for ahead in tuple(reservation.aheads):
            if ahead.start >= self.start or self.outer is None:
                reservation.forget(ahead)
        return True

    # -- bytes that are handed out again

    @critical
    def take_back(self, view: memoryview, mark: int, stop: int, used: int) -> bool:
        """As `rewind`, for bytes that were written to: so far it was used. Whether the cursor moved."""
        if self.view is not view or self.state != OPEN or self.cursor != stop:
            return False
        if self.peak < used:
            self.peak = used
        if self.reservation.dirty < stop:
            self.reservation.dirty = stop
        self.cursor = self.zeroed = mark
        if self.limit > mark:
            self.limit = mark
        return True

    # -- views

    def track(self, new: Iterable[memoryview]) -> None:
        """Remember views, to revoke them."""
        views = self.views
        _views.track(views, new)
        if len(views) >= self._prune_at:
            self._prune(views, len(views))

    def _prune(self, views: list[memoryview], count: int) -> None:
        """Drop the dead ones among the first `count` views."""
        prunes = self._prunes
        alive = _views.alive(islice(views, count))
        self._replace_pruned(views, prunes, slice(0, count), alive, max(_views.PRUNE_AT, 2 * len(alive)))

    @critical
    def _replace_pruned(
        self, views: list[memoryview], prunes: int, pruned: slice[int, int, None], alive: list[memoryview], then: int
    ) -> None:
        # Unless another one was faster: views that came since then stand behind these. Not under a revocation, which
        # goes along this list. Counted first: dropping a view may run the callback of a weak reference.
        if self.views is views and self._prunes == prunes:
            self._prunes = prunes + 1
            self._prune_at = then
            views[pruned] = alive

    # -- a scope

    def rest(self, cursor: int) -> Chunk | None:
        """The chunk of a scope that begins behind `cursor`: all that is left. None when this one is not open."""
        view = self.view
        tenure = self.tenure
        if view is None or tenure is None:
            return None
        reservation = self.reservation
        start = round_up(cursor, ALIGN)
        if start > reservation.size:
            start = reservation.size
        return Chunk(reservation, Exporter(reservation.address, reservation.size, view), tenure, start, self, start)

    @critical
    def suspend(self, inner: Chunk, cursor: int) -> bool:
        """Allocate no more until the inner chunk ends: if this one is open, and the cursor where it was."""
        if self.state == OPEN and self.cursor == cursor:
            self.inner = inner
            self.limit = -1
            self.state = SUSPENDED
            return True
        return False

    @critical
    def resume(self, inner: Chunk, cursor: int, holes: int = 0) -> None:
        """Go on after the scope whose chunk this was, not before `cursor`. Before the scope were so many holes."""
        if self.inner is inner:
            if self.peak < inner.peak - holes:
                self.peak = inner.peak - holes
            if self.cursor < cursor:
                self.cursor = cursor
            self.zeroed = self.cursor
            if self.state == SUSPENDED:
                self.state = OPEN
            self.inner = None

    # -- a reset, the end

    @critical
    def stop(self, state: int) -> bool:
        """Hand out nothing more: for a reset when it is open, for good whatever it is. Whether this call did it."""
        if state == RESETTING and self.state != OPEN:
            return False
        first = self.state != ENDED
        if self.view is not None:  # this first: whatever comes next, it was written so far
            reservation = self.reservation
            written = self.cursor
            if self.peak < written and not reservation.aheads:
                self.peak = written
            ahead = self.ahead
            if ahead is not None and ahead.stop == written:
                written = ahead.start + ahead.ready
            if reservation.dirty < written:
                reservation.dirty = written
        self.state = state
        self.limit = -1
        if self.view is not None:
            self.stale = self.views
            self.views = _views.ended
            self.view = None
        return first

    @critical
    def hand_over(self, holder: Holder, new: Chunk) -> bool:
        """The end of a reset: the region goes on with another chunk, unless somebody has closed it meanwhile."""
        if self.state != RESETTING:
            return False
        if new.peak < self.peak:
            new.peak = self.peak
        if self.outer is not None:
            self.outer.inner = new
        holder._chunk = new
        self.state = ENDED
        self.exporter = self.tenure = None  # the new one's by now: who still refers to this one keeps no memory
        return True

    def at_end(self, key: int, let_go: Callable[[], None]) -> None:
        """Call `let_go` at the end, unless `key` is taken out of `batches` before; at once when it has ended."""
        if self.batches is None:
            self._begin_batches({})
        batches = self.batches
        assert batches is not None
        batches[key] = let_go
        if self.state >= RESETTING and batches.pop(key, None) is not None:
            let_go()

    @critical
    def _begin_batches(self, none: dict[int, Callable[[], None]]) -> None:
        if self.batches is None:
            self.batches = none

    def revoke(self) -> None:
        """Release every view that was handed out; those from which something was made pin. May be repeated."""
        while self.batches:
            try:
                let_go = self.batches.popitem()[1]
            except KeyError:  # another thread was faster
                break
            let_go()
        stale = self.stale
        tenure = self.tenure
        if self.reservation.aheads:
            self._let_go_ahead(stale)
        if stale:
            left = _views.revoke(stale)
            if left and tenure is not None:
                tenure.outlast(left, self.exporter)
        self.stale = None

    def note_peak(self) -> None:
        """What is in use is about to become less."""
        used = self.cursor - self.holes()
        if self.peak < used:
            self.peak = used

    def _let_go_ahead(self, stale: list[memoryview] | None) -> None:
        """Nobody writes any more to what was taken ahead; the views of rooms in it are to be revoked."""
        for ahead in tuple(self.reservation.aheads):
            if ahead.start >= self.start:
                rooms = ahead.let_go()
                if stale is not None:
                    stale.extend(rooms)
        self.note_peak()

    def erase(self, exporter: Exporter) -> None:
        """Zero what was used, unless another thread has let go of it meanwhile."""
        view = exporter.view()
        if not self._begin_to_erase(exporter):
            return
        at = self.start
        for start, stop in self.gaps():
            self.clear(view, at, start)
            at = stop
        self.clear(view, at, min(self.cursor, self.reservation.committed))
        self._erased()

    @critical
    def _begin_to_erase(self, exporter: Exporter) -> bool:
        if self.exporter is not exporter:
            return False
        self.erasers += 1
        return True

    @critical
    def _erased(self) -> None:
        self.erasers -= 1

    @critical
    def _take_exporter(self, exporter: Exporter) -> bool:
        """Whether the memory may go: nobody else has seen to that, and nobody erases it."""
        if self.erasers or self.exporter is not exporter:
            return False
        self.exporter = None
        return True

    def let_go(self, wipe: bool) -> None:
        """After the stop: end the scopes inside, revoke, and let go of the memory. May be repeated."""
        if self.inner is not None:
            self._end_scopes(wipe)
        self.revoke()
        exporter = self.exporter
        if exporter is not None:
            if wipe and not exporter.pinned():
                self.erase(exporter)
            if exporter.pinned() or not self._take_exporter(exporter):
                if self.exporter is exporter:  # else another thread has seen to it
                    self.escaped = True
                    self.kept = ref(exporter.anchor)
                self.exporter = exporter = None  # the memory goes with the last that points in
        tenure, self.tenure = self.tenure, None
        if self.outer is not None:
            self._give_back_to(self.outer)
        elif tenure is not None:
            self.kept = tenure.end(self, exporter)

    def _give_back_to(self, outer: Chunk) -> None:
        if not self.reservation.aheads:  # without a call more: memory may be so short that none succeeds
            outer.resume(self, self.cursor if self.escaped else 0)
            return
        gives_back = not self.escaped and self.close_gaps()
        outer.resume(self, 0 if gives_back else self.cursor, outer.holes())

    def _end_scopes(self, wipe: bool) -> None:
        while (innermost := self.inner) is not None:
            while (inner := innermost.inner) is not None:
                innermost = inner
            innermost.stop(ENDED)
            innermost.let_go(wipe)

    # -- what debug regions do more

    def spoil(self, view: memoryview, start: int, stop: int) -> None:
        """Fill what need not be zero, so that somebody sees that it is not."""

    def lend(self, address: int) -> None:
        """Note that the block at this address is a C library's, which should free it."""

    def end_block(self, address: int, moved_to: int = 0, repeated: bool = False) -> None:
        """The block at this address was given back, or has moved. Repeated is what an exception interrupted."""

    def moved_to(self, address: int) -> int:
        """Where that block has moved to; 0 when it is where it was."""
        return 0

    def tell_of_end(self, region: object, escape: Escape, told: bool) -> None:
        """Raise or warn what is to be said now that it has ended."""
