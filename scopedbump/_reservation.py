"""A reservation of address space: how far it is committed and written, who points in, and its end."""

from __future__ import annotations

import sys

from scopedbump import _pages
from scopedbump._atomic import new_lock
from scopedbump._errors import CommitError, ReserveError
from scopedbump._exporter import Exporter, in_use, noted, rescue, retire_left
from scopedbump._layout import commit_target, round_up

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from scopedbump._exporter import Owner, Use
    from scopedbump._pages import Pages


class Reservation:
    """A range of address space, for one region at a time.

    Attributes:
        address: where it starts.
        size: bytes that were asked for; the reservation itself is rounded up to the system's granularity.
        committed: bytes from the start that are usable; only ever raised while a region uses them.
        dirty: bytes from the start that may have been written to; those above are zero.
        gone: whether the address space was given back.
    """

    __slots__ = (
        "_exporter",
        "_length",
        "_lock",
        "_pages",
        "_taken",
        "address",
        "committed",
        "dirty",
        "gone",
        "size",
    )

    def __init__(self, size: int) -> None:
        taken: list[int] = []
        # Yields the address once: whoever consumes it releases the reservation.
        self._taken = iter(taken)
        self.gone: bool = False
        self._exporter: Exporter | None = None
        if noted or _refused:
            retire_left()
            _release_refused()
        _rescue_some()
        self._pages: Pages = _pages.system_pages
        self._lock = new_lock()
        self._length = round_up(size, self._pages.granularity)
        self._pages.reserve(self._length, taken)
        self.address: int = taken[0]
        self.size: int = size
        self.committed: int = 0
        self.dirty: int = 0

    def exporter(self) -> Exporter:
        """The exporter of the whole range: a new one where the last was left to what pointed in."""
        exporter = self._exporter
        if exporter is None or exporter.left is not None:
            exporter = self._exporter = Exporter(self.address, self.size)
        return exporter

    def pinned(self) -> bool:
        """Whether something points in."""
        return self._exporter is not None and self._exporter.pinned()

    def commit(self, needed: int) -> None:
        """Make at least the first `needed` bytes usable. Any number of threads may do so at a time.

        Raises:
            CommitError: the system refused; what was usable still is.
        """
        committed = self.committed
        if needed <= committed:
            return
        pages = self._pages
        least = round_up(needed, pages.page_size)
        target = commit_target(committed, needed, self.size, pages.page_size)
        try:
            pages.commit(self.address + committed, target - committed)
        except CommitError:
            if target == least:
                raise
            target = least
            pages.commit(self.address + committed, target - committed)
        # Commit is idempotent, so threads may overlap in it; the boundary is never lowered.
        with self._lock:
            if self.committed < target:
                self.committed = target

    def trim(self, keep: int) -> None:
        """Give back the pages above the first `keep` bytes, while no region uses them.

        Raises:
            CommitError: the system refused; nothing has changed.
        """
        keep = round_up(keep, self._pages.page_size)
        if keep < self.committed:
            self._pages.decommit(self.address + keep, self.committed - keep)
            self.committed = keep
            self.dirty = min(self.dirty, keep)

    def release(self) -> None:
        """Give the address space back, once, however often this is called. Nothing may point in."""
        self.gone = True
        try:
            self._pages.release(self._taken, self._length)
        except ReserveError:
            self._taken = iter([self.address])
            _refused.append(self)

    # -- what a region asks of its reservation, and a pool answers in another way

    def end(self, views: list[memoryview], pinned: bool, use: Use | None) -> Callable[[], object] | None:
        """The region has ended: give the memory back, or leave it to what points in. Each step may be repeated.

        Args:
            views: what it handed out, revoked by now.
            pinned: whether something points in.
            use: what `in_use` says of the region; None when it never came to that.

        Returns:
            None when it went back, or what to call to see whether it has: None then.
        """
        exporter = self._exporter
        if pinned:
            self.leave(self)
        elif exporter is not None:
            waiting = exporter.left
            exporter.drop()  # where this was interrupted before, it is what the watch still waits for
            if waiting is None:
                self.release()
        in_use.pop(id(self), None)
        return None if exporter is None else exporter.left

    def outlive(self, views: list[memoryview]) -> None:
        """The region goes on after a reset or a scope without these views, revoked by now."""

    def fresh(self) -> Reservation:
        """Another reservation of the same kind, for a region whose own is left to what points in."""
        return Reservation(self.size)

    def leave(self, owner: Owner) -> None:
        """Leave the memory to what points in; `owner` is retired when that is gone. May be repeated."""
        exporter = self._exporter
        if exporter is not None:
            exporter.leave(owner)
            if self._exporter is exporter:  # otherwise it is in use again
                self._exporter = None

    def all_written(self) -> None:
        """Note that what is usable may have been written to, all of it: how far is not known."""
        with self._lock:
            self.dirty = self.committed

    def rescue(self, use: Use) -> None:
        self.all_written()
        self.end([], self.pinned(), use)

    def retire(self) -> None:
        self.release()

    def __del__(self, is_finalizing: Callable[[], bool] = sys.is_finalizing) -> None:
        # Never used, or idle. When the interpreter shuts down the process gives all back in a moment.
        if hasattr(self, "_length") and not is_finalizing():
            if self.pinned():
                self.leave(self)
            else:
                self.release()


_rescue_at = 16


def _rescue_some() -> None:
    """Look for what lost its region, so rarely that it costs nothing."""
    global _rescue_at
    if len(in_use) > _rescue_at:
        rescue()
        _rescue_at = 2 * len(in_use) + 16


_refused: list[Reservation] = []


def _release_refused() -> None:
    """Try again what the system refused to take back, as it does with too many mappings."""
    for _ in range(len(_refused)):
        _refused.pop().release()
