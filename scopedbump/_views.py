"""The views that a chunk handed out: kept in a list to be revoked, pruned when they are dead.

With reference counts the list holds the views, and dead are those that only the list refers to.
Without (PyPy) it holds weak references to them.

On a free-threaded CPython (3.14) memoryviews that are cut from the same one count each other without a lock, so there
every view is cut from a memoryview of its own. Nor does a memoryview wait with its release for a thread that is in the
middle of using it: a close is not safe there while another thread writes through a view.
"""

from __future__ import annotations

import sys
from _weakref import ref

from . import _atomic
from ._lifetime import COUNTED, keep_alive

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

PRUNE_AT = 256
"""How long the list is when it is first pruned; after that, twice as long as what was alive."""


def _cut(view: memoryview, start: int, stop: int) -> memoryview:
    return view[start:stop]


def _cut_apart(view: memoryview, start: int, stop: int) -> memoryview:
    return memoryview(view.obj)[start:stop]


cut: Callable[[memoryview, int, int], memoryview] = _cut_apart if _atomic.free_threaded else _cut
"""A view of view[start:stop]."""


def _referred_to(views: Iterable[memoryview], least: int) -> list[memoryview]:
    return [view for view in views if sys.getrefcount(view) > least]


# What the count says of an object that only a list holds differs between versions: measured, not known.
_ALONE = next(count for count in range(1, 9) if not _referred_to([memoryview(b"")], count)) if COUNTED else 0


def alive(views: Iterable[memoryview]) -> list[memoryview]:
    """Those of the list that something else refers to, as entries of such a list."""
    if COUNTED:
        return [view for view in views if sys.getrefcount(view) > _ALONE]
    return [entry for entry in views if entry() is not None]  # type: ignore[operator]  # a reference


def track(views: list[memoryview], new: Iterable[memoryview]) -> None:
    """Add views to the list."""
    views.extend(new if COUNTED else map(ref, new))  # type: ignore[arg-type]  # references stand for views


def _dereferenced(entries: Iterable[memoryview]) -> Iterable[memoryview]:
    return (view for entry in entries if (view := entry()) is not None)  # type: ignore[operator]  # a reference


def revoke(views: list[memoryview]) -> list[memoryview]:
    """Release every view of the list; those from which something was made pin. Returns those that are alive."""
    left: list[memoryview] = []
    for view in views if COUNTED else _dereferenced(views):
        try:
            view.release()
        except BufferError:
            pass
        if COUNTED and sys.getrefcount(view) > _ALONE:  # looked at here: each lease comes this way
            left.append(view)
    return left if COUNTED else alive(views)


def outlast(views: list[memoryview], owner: object) -> None:
    """Keep `owner` alive until the last of these views is gone as an object, revoked or not."""
    for view in views if COUNTED else _dereferenced(views):
        keep_alive(owner, view)


class _Ended(list["memoryview"]):
    """The list of a chunk that has ended: an allocation that was interrupted by the end comes too late for it."""

    __slots__ = ()

    def append(self, view: memoryview) -> None:
        view.release()

    def extend(self, views: Iterable[memoryview]) -> None:
        """Keep nothing: the slow path sees by itself that it came too late."""


ended: list[memoryview] = _Ended()
