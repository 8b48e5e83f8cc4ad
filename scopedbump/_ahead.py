"""Ahead: what a region took ahead for a block that grows, and how far that is filled. The inside of a writer.

The rules (numbers are those of the promises in the README):

- `start`, `stop`, `committed` and `edge` are positions in the reservation, the rest counts from `start`:

      start            end     high    ready    committed             edge  stop
      | content        |       |       |        |  not committed      |     |
                        own or zero     may be written

- Nobody writes but through `view`, which covers just this range, and not behind `ready`. After the end of the region
  or of the writer the view is released: whoever comes too late gets an error, and never touches what is somebody else's
  by then (4, 9). So it needs no lock where one byte code writes and the next moves `end`.
- `ready` is raised first, and never when the region is over: its memory counts as written up to there (6).
- What lies between `end` and `high` was content or was shown, and so is the writer's own. Behind that may be what
  others left, up to `foreign`: it is cleared before it is shown, or becomes content unwritten (6).
- It refers neither to the region nor to the writer: the region may be lost while it has this.
- To take address space ahead, and to go back, moves the cursor of a chunk: in critical sections, which are here (9).
"""

from __future__ import annotations

from . import _views
from ._atomic import atomic, critical
from ._errors import RegionFullError
from ._layout import HUGE_PAGE, SMALL_PAGES, WINDOW, place, round_up
from ._zeros import ZEROS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ._atomic import Lock
    from ._chunk import Chunk
    from ._lifetime import Exporter

_FIRST_STEP = 1 << 16
_MAX_STEP = 1 << 22

_released = memoryview(b"")
_released.release()


class Ahead:
    """What was taken ahead.

    Attributes:
        committed: up to where it is committed, in whole pages; more than `edge` when it was all along.
        edge: where the page begins that is shared with what lies behind.
        end: bytes of content.
        exporter: what the views of rooms refer to; None when there were none.
        foreign: up to where others may have written.
        high: the most bytes that were content, or were shown.
        keep: bytes that views of the content show.
        limit: up to where the fast path may append, or -1.
        lock: the reservation's.
        open: whether it can still be written.
        ready: up to where it is committed and may be written.
        rooms: the views behind the end that were shown, as `_views` keeps them.
        seat: where to read and write next, or -1: at the end.
        start, stop: where it lies; -1 before it is taken.
        view: what to write through.
    """

    __slots__ = (
        "committed",
        "edge",
        "end",
        "exporter",
        "foreign",
        "high",
        "keep",
        "limit",
        "lock",
        "open",
        "ready",
        "rooms",
        "seat",
        "start",
        "stop",
        "view",
    )

    committed: int
    edge: int
    end: int
    foreign: int
    high: int
    keep: int
    limit: int
    lock: Lock | None
    open: bool
    ready: int
    seat: int
    start: int
    stop: int

    def __init__(self, lock: Lock | None) -> None:
        self.lock = lock
        self.start = self.stop = self.limit = self.seat = -1
        self.committed = self.edge = self.end = self.foreign = self.high = self.keep = self.ready = 0
        self.open = True
        self.view: memoryview = _released
        self.exporter: Exporter | None = None
        self.rooms: list[memoryview] = []

    @property
    def position(self) -> int:
        """Where to read and write next."""
        seat = self.seat
        return self.end if seat < 0 else seat

    @property
    def size(self) -> int:
        """Bytes that it may grow to."""
        return self.stop - self.start

    @property
    def hole(self) -> int:
        """Bytes that lie before the cursor and are not content."""
        return max(self.stop - self.start - self.end, 0)

    @critical
    def take(self, chunk: Chunk, size: int, align: int, page: int) -> bool:
        """Move the cursor of the chunk over `size` bytes of address space, and commit none of it.

        False when there are not so many, when the page in which they begin is not committed, or it is not open.
        `reservation.aheads` holds it by then: from here on `reservation.committed` does not hold for it.
        """
        view = chunk.view
        if view is None or chunk.state:
            return False
        reservation = chunk.reservation
        start = (reservation.address + chunk.cursor + align - 1 & -align) - reservation.address
        stop = start + size
        committed = reservation.committed
        if stop > reservation.size or committed < start:
            return False
        # The page in which they end is committed with what lies behind; the region's last, as any other.
        edge = (stop if stop < reservation.size else stop - 1) & -page
        self.committed = committed
        self.edge = edge = edge if committed < edge else committed  # noqa: FURB136  # max would be a call
        self.foreign = reservation.dirty - start
        self.stop = stop
        self.start = start
        reservation.committed = edge
        chunk.ahead = self
        chunk.limit = -1
        if chunk.zeroed < stop:
            chunk.zeroed = stop
        chunk.cursor = stop
        return True

    def commit(self, chunk: Chunk, stop: int) -> None:
        """Commit it up to the position `stop`, or somewhat further.

        Raises:
            CommitError: the operating system refused.
        """
        view = chunk.view  # pins, as in `Chunk.make_room`
        try:
            if view is None:
                return
            committed = self.committed
            if committed < self.edge and committed < stop:
                reservation = chunk.reservation
                page = reservation.page_size
                least = min(round_up(stop, page), self.edge)
                target = commit_target(self.start, committed, stop, self.edge, page)
                self.fill(reservation.commit_range(committed, least, target))
            if stop > self.edge:
                chunk.reservation.commit(stop)
        finally:
            del view

    @critical
    def extend(self, chunk: Chunk, ready: int) -> bool:
        """So many bytes of it, which are committed, may be written. Whether it still goes on."""
        if chunk.view is None or not self.open:
            return False
        if self.ready < ready:
            self.ready = ready
            if self.seat < 0 and atomic:
                self.limit = ready
        return True

    @critical
    def put(self, end: int, seat: int, span: slice[int, int, None], data: memoryview, stop: int) -> bool:
        """Write there, and go on behind it, if nobody else did anything meanwhile."""
        if not self.open or self.end != end or self.seat != seat or stop > self.ready:
            return False
        self.view[span] = data
        if stop >= end:
            self.end = stop
            self.seat = -1
            if atomic:
                self.limit = self.ready
        else:
            self.seat = stop
        return True

    @critical
    def sit(self, seat: int) -> None:
        """Read and write there next."""
        if seat != self.end:
            self.limit = -1
            self.seat = seat
        else:
            self.seat = -1
            if atomic and self.open:
                self.limit = self.ready

    @critical
    def cut(self, size: int) -> None:
        """The content ends after `size` bytes, if there are so many. What is read and written next stays."""
        end = self.end
        if size >= end or not self.open:
            return
        if self.high < end:
            self.high = end
        seat = end if self.seat < 0 else self.seat
        self.limit = -1
        self.seat = seat if seat != size else -1
        self.end = size
        if seat == size and atomic:
            self.limit = self.ready

    @critical
    def grow(self, start: int, size: int) -> bool:
        """So many bytes of the room at `start` were filled."""
        if not self.open or self.end != start:
            return False
        self.end = start + size
        self.seat = -1
        if atomic:
            self.limit = self.ready
        return True

    @critical
    def show(self, end: int, stop: int) -> bool:
        """What lies between these is about to be shown: it is zero, or the writer's own."""
        if not self.open or self.end != end or stop > self.ready:
            return False
        if self.high < stop:
            self.high = stop
        return True

    @critical
    def show_content(self) -> int:
        """The content is about to be shown: so many bytes."""
        if self.open and self.keep < self.end:
            self.keep = self.end
        return self.end

    @critical
    def fill(self, committed: int) -> None:
        """It is committed up to there."""
        if self.committed < committed <= self.edge:
            self.committed = committed

    @critical
    def adopt(self, exporter: Exporter) -> None:
        """Rooms will refer to this, if they refer to nothing yet."""
        if self.exporter is None and self.open:
            self.exporter = exporter

    @critical
    def seal(self) -> None:
        """Nothing is written any more."""
        self.limit = -1
        if self.high < self.end:
            self.high = self.end
        self.open = False

    @critical
    def settle(self, chunk: Chunk) -> bool:
        """Nobody writes to it any more: the chunk's cursor goes back, if nothing lies behind. Whether it did."""
        if chunk.view is None or chunk.state or chunk.cursor != self.stop:
            return False
        reservation = chunk.reservation
        used = self.high  # of a sealed one that is the end at least
        if reservation.dirty < self.start + used:
            reservation.dirty = self.start + used
        if self.committed < self.edge:  # what lies behind the gap is committed again when it is needed
            reservation.lowered += 1
            reservation.committed = self.committed
            self.edge = self.committed
        stop = self.start + self.end
        if stop < self.start + self.keep:
            stop = self.start + self.keep
        chunk.limit = -1
        self.high = self.ready = stop - self.start
        self.stop = chunk.cursor = chunk.zeroed = stop
        return True

    @critical
    def _zero(self, span: slice[int, int, None], zeros: memoryview) -> None:
        self.view[span] = zeros

    def zero(self, start: int, stop: int) -> None:
        """Zero what may not be, through the view: what was given back meanwhile is out of reach."""
        for at in range(start, stop, WINDOW):
            size = min(WINDOW, stop - at)
            self._zero(slice(at, at + size), ZEROS[:size])

    def let_go(self) -> list[memoryview]:
        """The end of the region: refer to none of its memory any more. The views of rooms that are to be revoked."""
        self.limit = -1
        self.view = _released
        self.exporter = None
        rooms, self.rooms = self.rooms, []
        return rooms

    def withdraw(self) -> list[memoryview]:
        """The end of the writer: revoke what reaches behind the content. `keep` covers what may still point there.

        May be repeated. The views that are still referred to, as `_views` keeps them.
        """
        view, self.view = self.view, _released
        view.release()
        rooms, exporter = self.rooms, self.exporter
        left = _views.revoke(rooms)
        if exporter is not None and exporter.pinned():
            self.keep = self.high
        self.rooms = []
        self.exporter = None
        return left


def make_room(chunk: Chunk, size: int, align: int, name: str) -> None:
    """Commit what `take` needs.

    Raises:
        RegionFullError: there is no room for it.
        CommitError: the operating system refused.
    """
    view = chunk.view  # pins, as in `Chunk.make_room`
    try:
        reservation = chunk.reservation
        start = place(reservation.address, chunk.cursor, align)
        if start + size > reservation.size:
            left = max(reservation.size - start, 0)
            raise RegionFullError(size, align, left, reservation.size - chunk.start, name)
        if view is not None:
            reservation.commit(start)
    finally:
        del view  # a traceback must not pin


def commit_target(start: int, committed: int, needed: int, edge: int, page: int) -> int:
    """Up to where to commit of what was taken ahead at `start`: in smaller steps than elsewhere, for it may stay small.

    They end where huge pages do, once these are used: a page is huge only when all of it is usable.
    """
    step = min(max(committed - start, _FIRST_STEP), _MAX_STEP)
    target = round_up(max(needed, committed + step), page if needed <= SMALL_PAGES else HUGE_PAGE)
    return min(target, edge)
