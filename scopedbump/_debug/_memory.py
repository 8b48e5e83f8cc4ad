"""The address space of debug regions: ranges with a frontier, on what terms they are held, and their quarantine."""

from __future__ import annotations

import sys
from collections import deque
from typing import TYPE_CHECKING, Final, NamedTuple

from .. import _pages, _views
from .._atomic import critical
from .._errors import CommitError, ReserveError
from .._layout import round_up
from .._lifetime import COUNTED, Exporter
from .._reservation import Reservation
from .._reservation import reserve as _reserve
from . import _faults
from ._ahead import DebugAhead
from ._blocks import Ledger

if TYPE_CHECKING:
    from collections.abc import Callable
    from weakref import ref

    from _cffi_backend import CData

    from .._ahead import Ahead
    from .._chunk import Chunk

QUARANTINED: Final = 64
"""How many reservations of regions that are gone keep their addresses."""

_MOST_QUARANTINED = 1 << 43  # bytes of address space: an x86-64 process has 1 << 47
_LEAST_ZONE, _MOST_ZONE = 1 << 28, 1 << 36
_ZONE_TIMES = 64

MOST_MAPPED: Final = 30_000
"""How many blocks may have guards where each takes two mappings: Linux allows a process 65,530 of them."""

MAPPINGS_COUNT: Final = sys.platform == "linux"


class Mapped:
    """How many blocks have guards that take mappings.

    Attributes:
        now: at present.
        most: how many there may be.
    """

    now = 0
    most = MOST_MAPPED


class DebugReservation(Reservation):
    """A range of which the first `size` bytes are a shadow, and the blocks lie behind.

    Attributes:
        frontier: the address up to where pages were handed out.
        ledger: its blocks.
        mapped: how many of its blocks have guards that take mappings.
        opened: the pages that were guards, and were opened so that a program could go on.
        wild: whether pages were ever opened so: some may be such that nobody had taken.
    """

    __slots__ = ("frontier", "ledger", "mapped", "opened", "wild")

    def __init__(self, whole: Reservation, size: int) -> None:
        pages = whole.pages
        super().__init__(whole.address, size, whole.secret, pages)
        self.extent = whole.size
        # The first page behind the shadow stays as it is reserved: a guard.
        self.frontier = self.address + round_up(size, pages.page_size) + pages.page_size
        self.mapped = 0
        self.opened: list[int] = []
        self.wild = False
        self.ledger = Ledger(self.address, self.frontier, self.address + self.extent)

    @critical
    def advance(self, span: int, align: int) -> int:
        """Take `span` bytes of address space at the frontier: where they start, or 0 when there is no room."""
        start = self.frontier + align - 1 & -align
        stop = start + span
        if stop > self.address + self.extent:
            return 0
        self.frontier = stop
        return start

    def fence(self, first: int, edge: int, stop: int) -> bool:
        """Make [first, edge) usable, with guards up to `stop`. False when the system has no more mappings or memory."""
        pages = self.pages
        light = pages.light_guards
        try:
            if light:
                pages.commit(first, stop - first)
            else:
                pages.commit(first, edge - first)
            if not self.secret:
                pages.admit_to_dumps(first, (stop if light else edge) - first)
            if light:
                pages.guard(edge, stop - edge)
            if self.wild:  # one of these pages may have been touched, and closed again
                pages.unguard(first, edge - first)
        except CommitError:
            return False
        if not light and MAPPINGS_COUNT:
            self._count_mappings(1)
        return True

    def commit_range(self, start: int, least: int, target: int) -> int:
        """As any reservation's; what was opened there so that a program could go on counts for nothing."""
        if self.opened:
            self.close_again()
        upto = super().commit_range(start, least, target)
        if self.wild:
            self.pages.unguard(self.address + start, upto - start)
        return upto

    def gaps(self, start: int = 0) -> int:
        """As any reservation's: those of the shadow."""
        aheads = tuple(self.aheads)
        return sum(ahead.edge - ahead.committed for ahead in aheads if start <= ahead.start < self.size)

    def forget(self, ahead: Ahead) -> None:
        """Of what was taken ahead, and of what was taken of the shadow for it, nothing is left to know."""
        if isinstance(ahead, DebugAhead) and ahead.twin is not None:
            super().forget(ahead.twin)
        super().forget(ahead)

    def guards_fit(self) -> bool:
        """Whether one more block may have guards."""
        return self.pages.light_guards or not MAPPINGS_COUNT or Mapped.now < Mapped.most

    def close_off(self, spans: list[tuple[int, int]]) -> None:
        """Guard these pages, pairs of start and stop, and give them back."""
        ended: list[tuple[int, int]] = []
        for start, stop in sorted(spans):
            if ended and ended[-1][1] == start:
                ended[-1] = ended[-1][0], stop
            else:
                ended.append((start, stop))
        covered = [self.cover(start, stop) for start, stop in ended]
        if all(covered) and self.mapped:
            self._count_mappings(-len(spans))

    def cover(self, start: int, stop: int) -> bool:
        """Guard pages that are in use. False when there are too many mappings: then stale pointers find what was."""
        try:
            self.pages.guard(start, stop - start)
        except CommitError:
            return False
        return True

    def _count_mappings(self, more: int) -> None:
        self.mapped += more
        Mapped.now += more

    def close_all(self) -> None:
        """Guard all of it, for good."""
        start = self.ledger.zone
        try:
            if start < self.frontier:
                self.pages.guard(start, self.frontier - start)
            if self.committed:
                self.pages.decommit(self.address, self.committed)
        except CommitError:
            return
        self._count_mappings(-self.mapped)

    def open_up(self, address: int) -> bool:
        """Make the page usable in which an address lies, guard or not; whether that worked."""
        page = self.pages.page_size
        try:
            self.pages.commit(address & -page, page)  # what was never handed out is not even committed
            self.pages.unguard(address & -page, page)
        except CommitError:
            return False
        self.opened.append(address & -page)
        self.wild = True
        return True

    def close_again(self) -> None:
        """Guard again what was opened so that a program could go on: the next who touches it is told too."""
        opened = self.opened
        while opened:
            try:
                self.pages.guard(opened.pop(), self.pages.page_size)
            except (CommitError, IndexError):  # or another thread was faster
                return


def reserve(size: int, secret: bool) -> tuple[DebugReservation, CData]:
    """A reservation for a debug region, with as much room for guards as can be had."""
    zone = min(max(_ZONE_TIMES * size, _LEAST_ZONE), _MOST_ZONE)
    page = _pages.system_pages.page_size
    while True:
        extent = round_up(size, page) + page + zone if zone else size
        try:
            whole, mapping = _reserve(min(extent, sys.maxsize), secret)
        except ReserveError:
            if _quarantine:
                _let_oldest_go()
            elif zone:
                zone = zone // 8 if zone > page else 0
            else:
                raise
            continue
        reservation = DebugReservation(whole, size)
        _faults.watch(reservation)
        return reservation, mapping


# -- the quarantine


class _Gone(NamedTuple):
    """What is left of a region that is gone: its addresses, and what is known of its blocks."""

    reservation: DebugReservation
    mapping: CData


_quarantine: deque[_Gone] = deque()


def quarantine(reservation: DebugReservation, mapping: CData) -> None:
    """Guard all of a reservation, and keep its addresses from being used again."""
    reservation.close_all()
    _quarantine.append(_Gone(reservation, mapping))
    while len(_quarantine) > max(1, min(QUARANTINED, _MOST_QUARANTINED // reservation.extent)):
        _let_oldest_go()


def _let_oldest_go() -> None:
    try:
        gone = _quarantine.popleft()
    except IndexError:  # another thread was faster
        return
    _faults.unwatch(gone.reservation)  # before the mapping goes


class Custody:
    """Owns the mapping of a region; its death, with the last that points in, hands it to the quarantine."""

    __slots__ = ("__weakref__", "_mapping", "_reservation")

    def __init__(self, reservation: DebugReservation, mapping: CData) -> None:
        self._reservation = reservation
        self._mapping: CData | None = mapping

    def __del__(self, is_finalizing: Callable[[], bool] = sys.is_finalizing) -> None:
        mapping = getattr(self, "_mapping", None)  # None when it was interrupted as it was made
        self._mapping = None
        if mapping is not None and not is_finalizing():
            quarantine(self._reservation, mapping)


class DebugOwn:
    """The tenure of a debug region that belongs to no pool.

    Attributes:
        name: of the region.
    """

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def reserve(self, size: int, secret: bool) -> Chunk:
        """A chunk on a reservation of its own."""
        from ._chunk import DebugChunk

        reservation, mapping = reserve(size, secret)
        exporter = Exporter(reservation.address, reservation.extent, Custody(reservation, mapping))
        chunk = DebugChunk(reservation, exporter, self)
        chunk.life.name = self.name
        return chunk

    def renew(self, reservation: Reservation) -> Chunk:
        """The same again, for a reset that leaves memory to what points in."""
        return self.reserve(reservation.size, reservation.secret)

    def outlast(self, views: list[memoryview], exporter: Exporter | None) -> None:
        """As for a region without debug."""
        if not COUNTED and exporter is not None:
            _views.outlast(views, exporter.anchor)

    def end(self, chunk: Chunk, exporter: Exporter | None) -> ref[object] | None:
        """As for a region without debug."""
        return chunk.kept
