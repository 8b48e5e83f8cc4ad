"""DebugAhead: what a debug region took ahead for a writer. It has pages of its own, guarded at the end.

Of the shadow a *twin* is taken, where nobody writes: it keeps the count, as that of an ordinary writer. Pages are made
usable as they are needed, and no others, so whoever touches what is behind them is told. At the end what was not filled
is guarded, from the next page on, and has canaries before that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._ahead import Ahead
from .._layout import round_up
from . import _canaries
from ._blocks import Block

if TYPE_CHECKING:
    from .._atomic import Lock
    from .._chunk import Chunk
    from ._chunk import DebugChunk

_SMALL = 1 << 16
"""Up to so many bytes all of the pages are made usable at once: that takes no mappings of their own."""


class DebugAhead(Ahead):
    """What was taken ahead.

    Attributes:
        block: what is told of it; None when the shadow itself serves, for want of addresses.
        twin: what was taken of the shadow; None in that case.
    """

    __slots__ = ("block", "twin")

    block: Block | None
    twin: Ahead | None

    def __init__(self, lock: Lock | None) -> None:
        super().__init__(lock)
        self.block = self.twin = None

    def take(self, chunk: Chunk, size: int, align: int, page: int) -> bool:
        """As for an ordinary writer, in pages of its own with a guard behind them."""
        debug_chunk: DebugChunk = chunk  # type: ignore[assignment]  # no other has such
        reservation = debug_chunk.reservation
        view, mark = chunk.view, chunk.cursor
        twin = Ahead(self.lock)
        reservation.aheads.append(twin)
        if view is None or not twin.take(chunk, size, align, page):
            reservation.forget(twin)
            return False
        made = debug_chunk.who_asks()
        pages = self._place(debug_chunk, size, align)
        if pages is None:
            debug_chunk.life.unguarded += 1
            for name in ("committed", "edge", "foreign", "stop", "start"):
                setattr(self, name, getattr(twin, name))
            chunk.ahead = self
            reservation.forget(twin)
            return True
        block = Block(debug_chunk.life, size, align, made, mark, twin.stop, pages)
        block.grows = True
        self.block, self.twin = block, twin
        debug_chunk.note_block(block, view)
        return True

    def _place(self, chunk: DebugChunk, size: int, align: int) -> tuple[int, int, int] | None:
        """Where it begins, where its pages begin, and where they end; None when there is no room for them."""
        reservation = chunk.reservation
        page = reservation.page_size
        span = round_up(size, page)
        first = reservation.advance(span + page, max(align, page)) if reservation.guards_fit() else 0
        edge = first + span
        committed = edge if span <= _SMALL else first + page
        # What is not committed is a guard already; where all of it is, the guard lies behind.
        if not first or not reservation.fence(first, committed, edge + page if committed == edge else committed):
            return None
        chunk.spans.append((first, edge + page))
        base = reservation.address
        start = max(first, edge - size & -align)
        self.committed, self.edge = committed - base, edge - base
        self.stop = start + size - base
        self.start = start - base
        return start, first, edge

    def commit(self, chunk: Chunk, stop: int) -> None:
        """Commit it up to the position `stop`, and no further than the end of that page."""
        if self.block is None:
            super().commit(chunk, stop)
            return
        view = chunk.view  # pins
        try:
            committed = self.committed
            if view is not None and committed < self.edge and committed < stop:
                target = min(round_up(stop, chunk.reservation.page_size), self.edge)
                if committed < target:  # else it was settled meanwhile
                    self.fill(chunk.reservation.commit_range(committed, target, target))
        finally:
            del view

    def settle(self, chunk: Chunk) -> bool:
        """As for an ordinary writer; what was not filled is guarded."""
        twin, block, view = self.twin, self.block, chunk.view
        if block is None or twin is None or view is None:
            return super().settle(chunk)
        debug_chunk: DebugChunk = chunk  # type: ignore[assignment]  # as above
        reservation = debug_chunk.reservation
        base = reservation.address
        filled = max(self.end, self.keep)
        used = round_up(self.start + max(filled, 1), reservation.page_size)
        if block.grows:
            reservation.close_again()
            if used < self.committed:
                reservation.cover(base + used, base + self.committed)
            self.committed = self.edge = used
            block.size = filled
            block.edge = base + used
            _canaries.put_behind(view, base, block)
            block.grows = False  # last: with it they are looked at
        twin.end, twin.high, twin.keep = self.end, self.high, self.keep
        return twin.settle(chunk)
