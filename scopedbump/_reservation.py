"""A reservation of address space, and the lease that tells when nothing points into it any more.

The rules (numbers are those of the promises in the README):

- Every view of a region is a slice of one memoryview over one *exporter*, an `ffi.buffer`. Slices, casts,
  ndarrays, ctypes and cffi objects all keep the exporter alive, so nothing per allocation is needed to know
  whether something still points in (4).
- Below the exporter lies its *anchor*, a plain cffi pointer that nothing else refers to. The lease is a weak
  reference to the anchor, not to the exporter: the garbage collector clears weak references to the members of a
  dead cycle *before* it runs their finalizers, and the exporter can be such a member; a `__del__` would then read
  memory that is gone. A plain pointer is not tracked by the collector: it dies by its count, after all of them.
- The end of a lease can come at any moment, in any thread, inside a garbage collection, and while the interpreter
  shuts down. It takes no lock. It is noted in C, so that no exception from a signal handler can lose it, and what
  was noted is retired at once, or, if that was interrupted, by the next `retire_ended`. Retiring twice does nothing.
"""

from __future__ import annotations

import sys
import weakref
from typing import TYPE_CHECKING, Protocol

import _cffi_backend

import scopedbump._pages as _pages
from scopedbump._atomic import new_lock
from scopedbump._errors import CommitError, ReserveError
from scopedbump._layout import commit_target, round_up

if TYPE_CHECKING:
    from _cffi_backend import CData

    from scopedbump._pages import Pages

ffi = _cffi_backend.FFI()


class Owner(Protocol):
    """Whoever leases memory out, and gets it back when nobody points in any more."""

    @property
    def reservation(self) -> Reservation:
        """Where the memory lies."""

    def retire(self) -> Owner:
        """The lease is over. May be called again; must not wait or take a lock. Returns who owns the lease now."""

    def guard(self, views: list[memoryview]) -> weakref.ref[Owner] | None:
        """A lease ends with these views, revoked by now.

        An owner that will not have its memory back before they are gone as objects too returns a weak reference to
        itself, which is dead when it has.
        """

    def fresh(self) -> Owner:
        """The owner of other memory of the same kind, for a region whose own is kept by an escape."""


class _Nobody:
    """The owner of a lease that is over: a closed region refers to its lease, and must not keep an owner by that."""

    __slots__ = ("reservation",)
    reservation: Reservation

    def retire(self) -> Owner:
        return self

    def guard(self, views: list[memoryview]) -> None:
        return None

    def fresh(self) -> Owner:
        raise AssertionError("a lease that is over has no memory to replace")


nobody: Owner = _Nobody()


class Lease(weakref.ref["CData"]):
    """One use of a range of memory. Calling it gives the anchor, or None once nothing points in any more."""

    __slots__ = ("_prompt", "owner")
    __hash__ = object.__hash__  # a weak reference's own hash asks the referent
    _prompt: weakref.ref[CData]
    owner: Owner

    @property
    def over(self) -> bool:
        """Whether nothing points into the memory any more."""
        return self() is None


_running: dict[int, Lease] = {}
_ended: set[Lease] = set()
_note_end = _ended.add


def lease(anchor: CData, size: int, owner: Owner) -> tuple[Lease, memoryview]:
    """Begin a use of `size` bytes at `anchor`; the memoryview returned is all that keeps it running."""
    # Callbacks run in the order of the latest first: the end is noted, then retired.
    prompt = weakref.ref(anchor, retire_ended)
    new = Lease(anchor, _note_end)
    new._prompt = prompt
    new.owner = owner
    _running[id(new)] = new
    return new, memoryview(ffi.buffer(anchor, size))


def retire_ended(_: object = None) -> None:
    """Give back the memory of all leases that are noted as ended."""
    for ended in _ended.copy():  # in C, and with no garbage collection between two members
        if hasattr(ended, "owner"):  # not when an exception came before it was given one
            ended.owner = ended.owner.retire()
        _running.pop(id(ended), None)
        _ended.discard(ended)


class Reservation:
    """A range of address space and how far it is committed.

    Attributes:
        address: where it starts.
        size: bytes that were asked for; the reservation itself is rounded up to the system's granularity.
        committed: bytes from the start that are usable; only ever raised while the reservation is leased.
        dirty: bytes from the start that may have been written to; those above are zero.
    """

    __slots__ = ("_length", "_lock", "_pages", "_taken", "address", "committed", "dirty", "size")

    def __init__(self, size: int) -> None:
        taken: list[int] = []
        # Yields the address once: whoever consumes it releases the reservation.
        self._taken = iter(taken)
        if _ended or _refused:
            retire_ended()
            _release_refused()
        self._pages: Pages = _pages.system_pages
        self._lock = new_lock()
        self._length = round_up(size, self._pages.granularity)
        self._pages.reserve(self._length, taken)
        self.address = taken[0]
        self.size = size
        self.committed = 0
        self.dirty = 0

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
        """Give back the pages above the first `keep` bytes, while nothing is leased.

        Raises:
            CommitError: the system refused; nothing has changed.
        """
        keep = round_up(keep, self._pages.page_size)
        if keep < self.committed:
            self._pages.decommit(self.address + keep, self.committed - keep)
            self.committed = keep
            self.dirty = min(self.dirty, keep)

    def release(self) -> None:
        """Give the address space back, once, however often this is called."""
        try:
            self._pages.release(self._taken, self._length)
        except ReserveError:
            self._taken = iter([self.address])
            _refused.append(self)

    # What follows makes a reservation the owner of its own lease: one that nobody keeps for the next.

    @property
    def reservation(self) -> Reservation:
        return self

    def retire(self) -> Owner:
        self.release()
        return nobody

    def guard(self, views: list[memoryview]) -> None:
        return None

    def fresh(self) -> Owner:
        return Reservation(self.size)

    def __del__(self) -> None:
        # When the interpreter shuts down something may still point in, and the process gives all back in a moment.
        if hasattr(self, "_length") and not sys.is_finalizing():
            self.release()


_refused: list[Reservation] = []


def _release_refused() -> None:
    """Try again what the system refused to take back, as it does with too many mappings."""
    for _ in range(len(_refused)):
        _refused.pop().release()
