"""DebugChunk: a chunk whose blocks lie apart, each with a guard and canaries."""

from __future__ import annotations

import gc
import sys
from typing import TYPE_CHECKING

from .._chunk import ENDED, Chunk
from .._errors import CommitError, OverrunError
from .._layout import ALIGN, round_up
from .._lifetime import Exporter, still_there
from . import _call_sites, _canaries, _escapes, _faults, _findings, _holders, _trace
from ._ahead import DebugAhead
from ._blocks import Block, Life
from ._findings import note

if TYPE_CHECKING:
    from .._ahead import Ahead
    from .._errors import Escape
    from .._reservation import Reservation
    from .._tenure import Holder, Tenure
    from ._call_sites import CallSite
    from ._findings import Finding
    from ._memory import DebugReservation

_RUN = 1 << 20
"""Bytes of pages that blocks share which have canaries only."""


class DebugChunk(Chunk):
    """A chunk of a debug region. Its cursor moves as any other's, in the shadow.

    Attributes:
        begun: the address where its first block lies at the earliest.
        guarded: whether its blocks are guarded, or about to be.
        life: what its blocks share.
        run: where the next block goes that has canaries only, and where the pages for those end.
        spans: the pages of its blocks, with the guards behind them: start and stop. Not all from `begun` on: the region
            around a scope may have been in the middle of an allocation when the scope began.
    """

    __slots__ = ("begun", "guarded", "life", "run", "spans")

    reservation: DebugReservation  # pyright: ignore[reportIncompatibleVariableOverride]  # never another kind
    max_batch = 1
    debug = True

    def __init__(
        self,
        reservation: Reservation,
        exporter: Exporter,
        tenure: Tenure,
        start: int = 0,
        outer: Chunk | None = None,
        cursor: int = 0,
    ) -> None:
        super().__init__(reservation, exporter, tenure, start, outer, cursor)
        self.begun: int = self.reservation.frontier
        self.life = Life("", outer is not None, _call_sites.here(), [])
        self.guarded = False
        self.run = (0, 0)
        self.spans: list[tuple[int, int]] = []

    # -- taking

    def bump(self, size: int, align: int) -> tuple[memoryview, int, int, int] | None:
        """As any chunk's; the block lies elsewhere. Where it was zeroed is -1: all of its memory is new."""
        taken = super().bump(size, align)
        if taken is None:
            return None
        view, start, mark, _ = taken
        made = self.who_asks()
        pages = self._place(size or 1, align)
        reservation = self.reservation
        if pages is None:
            self.life.unguarded += 1
            address = reservation.address + start
            pages = address, address, address + size
        else:
            taken = view, pages[0] - reservation.address, mark, -1
        self.note_block(Block(self.life, size, align, made, mark, start + size, pages), view)
        return taken

    def who_asks(self) -> CallSite:
        """For a block: who made it. What was opened, or changed in the process, is put right before."""
        _faults.look_again(always=False)
        if self.reservation.opened:
            self.reservation.close_again()
        return _call_sites.here()

    def note_block(self, block: Block, view: memoryview) -> None:
        """Put canaries around a block, and know of it."""
        reservation = self.reservation
        _canaries.put(view, reservation.address, block)
        self.life.blocks.append(block)
        reservation.ledger.add(block)
        if _trace.is_tracing():
            _trace.track(block)

    def _place(self, size: int, align: int) -> tuple[int, int, int] | None:
        """Where a block goes, where its pages begin, and where they end. None when only the shadow has room for it."""
        reservation = self.reservation
        page = reservation.page_size
        span = round_up(size, page)
        if not reservation.guards_fit():
            return self._pack(size, align)
        first = reservation.advance(span + page, max(align, page))
        if not first:
            return None
        edge = first + span
        if not reservation.fence(first, edge, edge + page):
            return None
        self.spans.append((first, edge + page))
        return max(first, edge - size & -align), first, edge

    def _pack(self, size: int, align: int) -> tuple[int, int, int] | None:
        """A place among others that have no guards, but canaries."""
        reservation = self.reservation
        first, stop = self.run
        address = first + _canaries.LEAST + align - 1 & -align
        edge = round_up(address + size + _canaries.LEAST, ALIGN)
        if not first or edge > stop:
            span = round_up(max(_RUN, size + align + 4 * _canaries.LEAST), reservation.page_size)
            first = reservation.advance(span, reservation.page_size)
            if not first or not reservation.fence(first, first + span, first + span):
                return None
            stop = first + span
            self.spans.append((first, stop))
            address = first + _canaries.LEAST + align - 1 & -align
            edge = round_up(address + size + _canaries.LEAST, ALIGN)
        self.run = edge, stop
        self.life.packed += 1
        return address, first, edge

    def spoil(self, view: memoryview, start: int, stop: int) -> None:
        """Fill a block that need not be zero with 0xA5."""
        _canaries.spoil(view, start, stop)

    def clear(self, view: memoryview, start: int, stop: int) -> None:
        """Zero what is in the shadow; all else is zero."""
        if start < self.reservation.size:
            super().clear(view, max(start, 0), stop)

    def prepare(self) -> None:
        """Nothing is prepared: the limit stays -1."""

    def rewind(self, view: memoryview, mark: int, stop: int) -> None:
        """Take back the block that ends there, as far as the cursor goes: its addresses are not used again."""
        end = self.reservation.address + stop
        for block in reversed(self.life.blocks):
            if block.address + block.size == end and block.mark == mark and not block.back:
                break
        else:
            return
        if block.address < self.reservation.ledger.zone:
            super().rewind(view, mark, stop)
        else:
            self._rewind(view, mark, block.stop)
        block.back = True

    # -- blocks of C

    def lend(self, address: int) -> None:
        """Note that this block is a C library's, which should free it."""
        block = self.reservation.ledger.around(address)[0]
        if block is not None and block.address == address:
            block.lent = True

    def end_block(self, address: int, moved_to: int = 0, repeated: bool = False) -> None:
        """Guard a block that was freed."""
        view = self.view  # pins
        reservation = self.reservation
        block = reservation.ledger.around(address)[0]
        if block is None or block.address != address or block.life is not self.life or (block.freed and not repeated):
            stack = _call_sites.stack_of(sys._getframe(1))
            note(_findings.of_free(address, block, stack), self.life)
            return
        if not block.freed:
            for finding in _canaries.changed([block]):
                note(finding, self.life)
            block.freed_at = _call_sites.here()
            block.moved_to = moved_to
            block.freed = True
        _trace.untrack([block])
        if not (block.first | block.edge) & reservation.page_size - 1:  # else it shares its pages
            reservation.cover(block.first, block.edge)
        del view

    def moved_to(self, address: int) -> int:
        """Where that block has moved to; 0 when it is where it was."""
        block = self.reservation.ledger.around(address)[0]
        return block.moved_to if block is not None and block.address == address and block.freed else 0

    def take_apart(self, size: int, align: int, zero: bool) -> int:
        """A block for which the cursor does not move: its address; 0 when there is no room for one, or it is over."""
        view = self.view
        made = self.who_asks()
        pages = None if view is None or self.state else self._place(size or 1, align)
        if view is None or pages is None:
            return 0
        self.note_block(Block(self.life, size, align, made, -1, -1, pages), view)
        if not zero:
            start = pages[0] - self.reservation.address
            _canaries.spoil(view, start, start + size)
        return pages[0]

    def take_back_freed(self, most: int) -> int:
        """Put the cursor back, by `most` bytes at most, over the blocks at its end that were freed: by how many."""
        view = self.view
        taken = 0
        if view is None:
            return 0
        for block in reversed(self.life.blocks):
            length = block.stop - block.mark
            if not length:  # it lies apart
                continue
            if not (block.freed or block.back) or taken + length > most:
                break
            if not self.take_back(view, block.mark, block.stop, block.stop - self.holes()):
                break
            taken += length
        return taken

    # -- blocks that grow: see `_ahead`

    def holes(self) -> int:
        """As any chunk's."""
        for ahead in tuple(self.reservation.aheads):
            if isinstance(ahead, DebugAhead) and ahead.twin is not None:
                ahead.twin.end = ahead.end
        return super().holes()

    def gaps(self) -> list[tuple[int, int]]:
        """As any chunk's: those of the shadow."""
        return [gap for gap in super().gaps() if gap[0] < self.reservation.size]

    def readable(self, start: int, stop: int) -> int:
        """Up to where memory can be read from the start of a block on: where that ends."""
        address = self.reservation.address + start
        block = self.reservation.ledger.around(address)[0]
        end = stop if block is None else address + block.size - self.reservation.address
        return super().readable(start, min(stop, end))

    def close_gaps(self) -> bool:
        """As any chunk's."""
        reservation = self.reservation
        try:
            for start, _ in self.gaps()[:1]:
                reservation.trim(start)
        except CommitError:
            return False
        for ahead in self._aheads():
            reservation.forget(ahead)
        return True

    def _aheads(self) -> list[Ahead]:
        """What was taken ahead for writers, in this chunk and in scopes inside."""
        found = [ahead for ahead in tuple(self.reservation.aheads) if isinstance(ahead, DebugAhead)]
        return [ahead for ahead in found if (ahead.twin or ahead).start >= self.start]

    def _let_go_ahead(self, stale: list[memoryview] | None) -> None:
        """As any chunk's."""
        for ahead in self._aheads():
            rooms = ahead.let_go()
            if stale is not None:
                stale.extend(rooms)
        self.note_peak()

    # -- a scope, a reset, the end

    def rest(self, cursor: int) -> Chunk | None:
        """As any chunk's, over all of the range."""
        view = self.view
        tenure = self.tenure
        if view is None or tenure is None:
            return None
        _faults.look_again()
        reservation = self.reservation
        start = min(round_up(cursor, ALIGN), reservation.size)
        exporter = Exporter(reservation.address, reservation.extent, view)
        inner = DebugChunk(reservation, exporter, tenure, start, self, start)
        inner.life.name = self.life.name
        inner.life.then = self.life
        return inner

    def hand_over(self, holder: Holder, new: Chunk) -> bool:
        """As any chunk's; the region keeps its name, and what was found and not told."""
        assert isinstance(new, DebugChunk)
        new.life.name = self.life.name
        new.life.opened_at = self.life.opened_at
        new.life.pending = self.life.pending
        new.life.then, self.life.then = self.life.then, new.life
        if self.exporter is not None:
            self._end_life(self.exporter)
        return super().hand_over(holder, new)

    def let_go(self, wipe: bool) -> None:
        """As any chunk's; canaries are looked at first, while the memory is there."""
        if self.exporter is not None:
            self._end_life(self.exporter)
        super().let_go(wipe)

    def _end_scopes(self, wipe: bool) -> None:
        """As any chunk's; what was found in them is told at the end of this one."""
        inner = self.inner
        super()._end_scopes(wipe)
        while isinstance(inner, DebugChunk):
            self.life.pending.extend(inner.take_pending())
            inner = inner.inner

    def erase(self, exporter: Exporter) -> None:
        """Guard what was used, when nothing points in; for a region with `wipe` zero it before.

        Whoever is looking at canaries meanwhile pins: either that is seen here, or `guarded` is seen there.
        """
        reservation = self.reservation
        self._end_life(exporter)
        if reservation.secret:
            super().erase(exporter)
            base = reservation.address
            ends = {ahead.block: base + ahead.committed for ahead in self._aheads() if isinstance(ahead, DebugAhead)}
            for block in self.life.blocks:
                if block.address >= reservation.ledger.zone and not block.freed:
                    reservation.pages.clear(block.first, ends.get(block, block.edge) - block.first)
        self.guarded = True
        if not exporter.pinned():
            reservation.close_off(self.spans)

    def _end_life(self, exporter: Exporter) -> None:
        life = self.life
        if life.ended is None:
            self._check_canaries(exporter)
            word = "scope" if life.scope else "region"
            life.end(f"its {word} {'ended' if self.state == ENDED else 'was reset'}", _call_sites.here())
            _trace.untrack(life.blocks)

    def covers(self, start: int, stop: int) -> bool:
        """Whether [start, stop) lies where blocks of this chunk do."""
        reservation = self.reservation
        if start >= reservation.ledger.zone:
            return self.begun <= start and stop <= reservation.ledger.stop
        return super().covers(start, stop)

    # -- what is wrong with it

    def _check_canaries(self, exporter: Exporter) -> None:
        life = self.life
        view = exporter.view()  # pins
        if not self.guarded:
            for finding in _canaries.changed(life.blocks):
                note(finding, None)
                life.pending.append(finding)
        del view

    def check(self) -> None:
        """Look at all canaries, of the scopes inside too."""
        chunk: Chunk | None = self
        while isinstance(chunk, DebugChunk):
            exporter = chunk.exporter
            if exporter is not None and not chunk.guarded:
                chunk.reservation.close_again()
                chunk._check_canaries(exporter)
            chunk = chunk.inner

    def ranges(self) -> list[tuple[int, int]]:
        """Where blocks of this chunk, and of scopes in it, may lie: (start, stop) as addresses."""
        reservation = self.reservation
        shadow = reservation.address + self.start, reservation.address + self.cursor
        return [shadow, (self.begun, reservation.frontier)]

    def tell_of_end(self, region: object, escape: Escape, told: bool) -> None:
        """Raise or warn what is to be said of the region that has ended with this chunk.

        Args:
            region: it.
            escape: what happens when something still points in.
            told: False when an exception is on its way, or nobody is there to hear: what was found is then left to the
                region around it, and to `findings()`.

        Raises:
            OverrunError: there are findings.
            EscapeError: with escape="raise", when something still points in.
        """
        if self.escaped and _escapes.collecting:
            _escapes.ended.append(_escapes.Ended(repr(region), self.kept, self.ranges(), self.reservation.ledger))
        if not told:
            if isinstance(self.outer, DebugChunk):
                self.outer.life.pending.extend(self.take_pending())
        elif pending := self.take_pending():
            raise OverrunError(tuple(pending))
        elif escape != "keep" and self.escaped:
            gc.collect()
            if still_there(self.kept):
                found = _holders.holders_of(self.ranges(), self.reservation.ledger)
                _holders.tell(region, found, escape)

    def found_so_far(self) -> tuple[Finding, ...]:
        """What was found and not told yet, in the scopes inside too."""
        inner = self.inner
        within = inner.found_so_far() if isinstance(inner, DebugChunk) else ()
        return (*self.life.pending, *within)

    def all_blocks(self) -> list[Block]:
        """The blocks that lie where this chunk's do, those of its scopes too, in order."""
        return [block for block in self.reservation.ledger.all() if self.covers(block.address, block.address)]

    def take_pending(self) -> list[Finding]:
        """What was found and not told yet; from here on it counts as told."""
        pending = self.life.pending
        taken = pending[:]
        del pending[: len(taken)]
        return taken
