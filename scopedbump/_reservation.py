"""A reservation of address space: its numbers. What keeps the address space itself is in `_mapping`.

The two are apart, so that whoever still knows the numbers of a range does not keep it.
"""

from __future__ import annotations

from . import _pages
from ._atomic import critical, new_lock
from ._errors import CommitError
from ._layout import SMALL_PAGES, commit_target, round_up
from ._mapping import map_range

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _cffi_backend import CData

    from ._ahead import Ahead
    from ._atomic import Lock
    from ._pages import Pages


class Reservation:
    """The numbers of a range of address space, for one region and its scopes at a time.

    Attributes:
        address: where it starts.
        size: bytes that were asked for; the range itself is rounded up to the system's granularity.
        aheads: what was taken ahead, for blocks that grow: gaps in what is committed.
        backed: bytes from the start that have memory behind them, but for short stretches: they are cleared unasked.
        committed: bytes from the start that are usable, but for those gaps.
        dirty: bytes from the start that may have been written to; those above are zero.
        extent: bytes of the range in which blocks lie: `size`, and in debug regions more.
        lock: for the critical sections of whoever bumps in here.
        lowered: how often `committed` was lowered.
        pages: what to ask of the operating system.
        secret: whether core dumps leave it out.
    """

    __slots__ = (
        "address",
        "aheads",
        "backed",
        "committed",
        "dirty",
        "extent",
        "lock",
        "lowered",
        "pages",
        "secret",
        "size",
    )

    def __init__(self, address: int, size: int, secret: bool, pages: Pages) -> None:
        self.pages: Pages = pages
        self.secret: bool = secret
        self.lock: Lock | None = new_lock()
        self.address: int = address
        self.size: int = size
        self.extent: int = size
        self.committed: int = 0
        self.dirty: int = 0
        self.backed: int = 0
        self.lowered: int = 0
        self.aheads: list[Ahead] = []

    @property
    def page_size(self) -> int:
        """Bytes of a page."""
        return self.pages.page_size

    def commit(self, needed: int) -> None:
        """Make at least the first `needed` bytes usable. Any number of threads may do so at a time.

        Raises:
            CommitError: the system refused; what was usable still is.
        """
        while True:
            lowered = self.lowered
            committed = self.committed
            if needed <= committed:
                return
            page = self.pages.page_size
            target = commit_target(committed, needed, self.size, page, self.gaps() if self.aheads else 0)
            self._raise_committed(self.commit_range(committed, round_up(needed, page), target), lowered)

    def commit_range(self, start: int, least: int, target: int) -> int:
        """Make whole pages from `start` on usable, up to `target`, or at least up to `least`. Up to where they are.

        Raises:
            CommitError: the system refused.
        """
        pages = self.pages
        try:
            pages.commit(self.address + start, target - start)
        except CommitError:
            if target == least:
                raise
            target = least
            pages.commit(self.address + start, target - start)
        if not self.secret:
            pages.admit_to_dumps(self.address + start, target - start)
        huge = pages.huge_size
        if huge and target > SMALL_PAGES:
            # One block that does not fit into what has small pages is large from its beginning.
            first = round_up(start, huge) if least > SMALL_PAGES else max(start, SMALL_PAGES)
            if first < target:
                pages.advise_huge(self.address + first, target - first)
        return target

    @critical
    def _raise_committed(self, target: int, lowered: int) -> None:
        """Commits may overlap in several threads. Was the boundary lowered meanwhile, nothing is known of it."""
        if self.lowered == lowered and self.committed < target:
            self.committed = target

    def usable(self, start: int) -> int:
        """Bytes from `start` on that are usable."""
        return min(max(self.committed - start, 0), self.size - start) - self.gaps(start)

    def gaps(self, start: int = 0) -> int:
        """Bytes from `start` on that are not usable, though `committed` says so."""
        return sum(ahead.edge - ahead.committed for ahead in tuple(self.aheads) if ahead.start >= start)

    def touched(self, start: int, stop: int) -> list[tuple[int, int]]:
        """Where something may have been written between two positions."""
        found = self.pages.touched(self.address + start, stop - start)
        return [(first - self.address, last - self.address) for first, last in found]

    def discard(self, start: int, stop: int) -> None:
        """Let go of the content of these bytes, as far as they are whole pages, to save RAM: nobody uses them."""
        pages = self.pages
        start = round_up(start, pages.page_size)
        stop = min(stop & -pages.page_size, self.committed)
        if start < stop:
            self.backed = min(self.backed, start)
            pages.discard(self.address + start, stop - start)

    def trim(self, keep: int) -> None:
        """Give back the pages above the first `keep` bytes, while no region uses them.

        Raises:
            CommitError: the system refused; nothing has changed.
        """
        page = self.pages.page_size
        keep = round_up(keep, page)
        top = max(self.committed, round_up(self.dirty, page))  # behind a gap that was given up are pages too
        if keep < top:
            self.pages.decommit(self.address + keep, top - keep)
            self.lowered += 1
            self.committed = min(self.committed, keep)
            self.dirty = min(self.dirty, keep)
            self.backed = min(self.backed, keep)

    def forget(self, ahead: Ahead) -> None:
        """Of what was taken ahead, nothing is left to know."""
        try:
            self.aheads.remove(ahead)
        except ValueError:  # somebody else was faster
            return


def reserve(size: int, secret: bool = False) -> tuple[Reservation, CData]:
    """Take address space: its numbers, and the mapping, which stands as long as anybody refers to it.

    Raises:
        ReserveError: the operating system refused.
    """
    pages = _pages.system_pages
    address, mapping = map_range(size, pages)
    return Reservation(address, size, secret, pages), mapping
