"""The exporter of a region's memory: who still points in, and what happens when the last of them goes.

The rules (numbers are those of the promises in the README):

- Every view of a region is a slice of one memoryview over one *exporter*, an `ffi.buffer`. Slices, casts, ndarrays,
  ctypes and cffi objects all refer to it, so nothing per allocation is needed to know whether something still points
  in (4): its reference count tells. Where nothing counts references (PyPy), something may always point in.
- When something points in at the end of a region, the memory is left to it. A *watch* then tells when the last of
  them is gone. It looks at the exporter's *anchor*, the plain cffi pointer below it, and not at the exporter: the
  garbage collector clears weak references to the members of a dead cycle *before* it runs their finalizers, and the
  exporter can be such a member; a `__del__` would then read memory that is gone. A plain pointer is not tracked by the
  collector: it dies by its count, after all of them.
- That moment can come at any time, in any thread, inside a garbage collection, and while the interpreter shuts down.
  It takes no lock. It is noted in C, so that no exception from a signal handler can lose it, and what was noted is
  retired at once, or, if that was interrupted, by the next `retire_left`.

This and the modules around it import neither typing nor weakref, each of which takes longer than all of scopedbump:
`TYPE_CHECKING = False` is what type checkers know as True.
"""

from __future__ import annotations

import gc
import sys
from _thread import get_ident
from _weakref import ref

import _cffi_backend

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    from _cffi_backend import CData, buffer

    from scopedbump._reservation import Reservation

    class Owner(Protocol):
        """Whoever gets memory back that was left to what pointed in."""

        def retire(self) -> None:
            """Nothing points in any more. May be called again; must not wait or take a lock."""

    class InUse(Protocol):
        """What a region uses: a reservation, or (a scope's) the exporter of a part of one."""

        def rescue(self, use: Use) -> None:
            """Its region died without its end, because exceptions of signal handlers hit even its finalizer."""

    Use = tuple[InUse, Callable[[], object]]
    """What is used, and a weak reference that is dead when its region is, its finalizer included."""


ffi = _cffi_backend.FFI()
# Types, not their names: cffi is not to be interrupted where it reads a name for the first time.
CHAR_POINTER = ffi.typeof("char *")
ADDRESS = ffi.typeof("uintptr_t")


class Exporter:
    """Owns the exporter of a range of memory, until the end or until the memory is left to what points in."""

    __slots__ = ("_anchor", "_around", "_buffer", "_watch", "_within")

    def __init__(
        self, address: int, size: int, around: memoryview | None = None, within: Reservation | None = None
    ) -> None:
        self._anchor: CData | None = ffi.cast(CHAR_POINTER, address)
        self._buffer: buffer | None = ffi.buffer(self._anchor, size)
        self._around = around  # of a scope: the root that its memory is part of
        self._within = within  # the reservation of that
        self._watch: Watch | None = None

    def root(self) -> memoryview | None:
        """A memoryview of it all, which every view is cut from; None after the end. Whoever holds it points in."""
        return None if self._buffer is None else memoryview(self._buffer)

    if TYPE_CHECKING or hasattr(sys, "getrefcount"):

        def pinned(self) -> bool:
            """Whether something points in."""
            return self._buffer is not None and sys.getrefcount(self._buffer) > _alone

    else:

        def pinned(self):
            return self._buffer is not None

    def drop(self) -> None:
        """The end, when nothing points in."""
        self._buffer = self._anchor = self._around = None

    def leave(self, owner: Owner) -> None:
        """Leave the memory to what points in; `owner` is retired when that is gone. Each step may be repeated."""
        anchor = self._anchor
        if anchor is not None:
            self._watch = watch(anchor, owner)
        del anchor
        self.drop()  # from here on the memory may be somebody else's

    @property
    def anchor(self) -> CData | None:
        """What dies with the exporter; None after the end. Whoever holds it keeps the memory."""
        return self._anchor

    @property
    def left(self) -> Watch | None:
        """What to call to see whether something still points in: None when nothing does. None when it was not left."""
        return self._watch

    def end(self, pinned: bool) -> None:
        """The end of a scope. What points in keeps the memory around it."""
        if pinned and self._around is not None:
            self.leave(_Around(self._around))
        self.drop()
        in_use.pop(id(self), None)

    def rescue(self, use: Use) -> None:
        if self._within is not None:
            self._within.all_written()  # first: from its end on the memory around it may be somebody else's
        self.end(self.pinned())


class _Around:
    """The owner of what escaped from a scope: keeps the memory around it, by being referred to."""

    __slots__ = ("_root",)

    def __init__(self, root: memoryview) -> None:
        self._root = root

    def retire(self) -> None:
        """Nothing to do: being let go is what counts."""


class Watch(ref["CData"]):
    """Waits for the last object that points into memory which was left to it. It gives None when that is gone."""

    __slots__ = ("_prompt", "owner")
    __hash__: Callable[[object], int] = object.__hash__  # type: ignore[assignment]  # a reference's own asks the referent
    _prompt: ref[CData]
    owner: Owner | None


_watching: dict[int, Watch] = {}
noted: set[Watch] = set()
_note = noted.add


def watch(anchor: CData, owner: Owner) -> Watch:
    """Retire `owner` when the last reference to the anchor is gone, the caller's own included."""
    # Callbacks run in the order of the latest first: the end is noted, then acted upon.
    prompt = ref(anchor, retire_left)
    new = Watch(anchor, _note)
    new._prompt = prompt
    new.owner = owner
    _watching[id(new)] = new
    return new


def retire_left(_: object = None) -> None:
    """Give back the memory of all that has been noted."""
    for ended in noted.copy():  # in C, and with no garbage collection between two members
        owner = getattr(ended, "owner", None)  # none when an exception came before it was given one
        if owner is not None:
            owner.retire()
        ended.owner = None  # a closed region refers to its watch, and must not keep the owner by that
        _watching.pop(id(ended), None)
        noted.discard(ended)


def still_there(left: Callable[[], object] | None) -> bool:
    """Whether something points into memory that was left to it; where nothing counts references, a collection tells."""
    if sys.implementation.name != "cpython":
        for _ in range(3):  # an object, what it refers to, and what that refers to
            gc.collect()
    return left is not None and left() is not None


in_use: dict[int, Use] = {}
"""Each with a weak reference that is dead when its region is, its finalizer included. What is garbage together with
its region would be finalized while that is still used; what is in here is not garbage."""

NOWHERE = ffi.cast(CHAR_POINTER, 0)
"""`NOWHERE + 0` is new each time, and not tracked by the collector: what a region refers to for `in_use`."""

_claimed: dict[int, tuple[int, object]] = {}


def claim(entry: object) -> bool:
    """Whether it is for this thread to end what an entry of `in_use` says: not while another thread is at it."""
    me = get_ident()
    return _claimed.setdefault(id(entry), (me, entry))[0] == me  # in C


def disclaim(entry: object) -> None:
    """It has been ended."""
    _claimed.pop(id(entry), None)


def rescue() -> None:
    """End what belongs to regions that died without their end."""
    for entry in in_use.copy().values():
        used, alive = entry
        if alive() is None and claim(entry):
            # Looked up again: it may have ended since, and be used by another region.
            if in_use.get(id(used)) is entry:
                used.rescue(entry)
            disclaim(entry)


# What the count says of a buffer that only its Exporter holds differs between versions: measured, not known.
_alone = 0
if hasattr(sys, "getrefcount"):
    _probe = Exporter(0, 0)
    while _probe.pinned():
        _alone += 1
