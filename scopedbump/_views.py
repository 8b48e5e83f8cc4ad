"""The views that a region handed out: kept in a list to be revoked, swept out of it when they are dead.

With reference counts the list holds the views, and dead are those that only the list refers to.
Without (PyPy) it holds weak references to them.

On a free-threaded CPython (3.14) memoryviews that are cut from the same one count each other without a lock, so there
every view is cut from a memoryview of its own. Nor does a memoryview wait with its release for a thread that is in the
middle of using it: a close is not safe there while another thread writes through a view.
"""

from __future__ import annotations

import sys
from _weakref import ref

from scopedbump import _atomic

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

SWEEP_AT = 256
"""How long the list is when it is first swept; after that, twice as long as what was alive."""

COUNTED = hasattr(sys, "getrefcount")
"""Whether Python counts references here."""

if TYPE_CHECKING or not _atomic.free_threaded:

    def cut(root: memoryview, start: int, stop: int) -> memoryview:
        """A view of root[start:stop]."""
        return root[start:stop]

else:

    def cut(root, start, stop):
        return memoryview(root.obj)[start:stop]


if TYPE_CHECKING or COUNTED:

    def track(views: list[memoryview], new: Iterable[memoryview]) -> None:
        """Add views to the list."""
        views.extend(new)

    def _referred_to(views: Iterable[memoryview], least: int) -> list[memoryview]:
        return [view for view in views if sys.getrefcount(view) > least]

    # What the count says of an object that only a list holds differs between versions: measured, not known.
    _ALONE = next(count for count in range(1, 9) if not _referred_to([memoryview(b"")], count))

    def alive(views: Iterable[memoryview]) -> list[memoryview]:
        """Those of the list that something else refers to."""
        return _referred_to(views, _ALONE)

    _views = iter

else:

    def track(views, new):
        views.extend(map(ref, new))

    def alive(views):
        return [kept for kept in views if kept() is not None]

    def _views(views):
        return (view for kept in views if (view := kept()) is not None)


def revoke(views: list[memoryview]) -> None:
    """Release every view of the list, but those from which something was made: they pin."""
    for view in _views(views):
        try:
            view.release()
        except BufferError:
            continue


class _Guard(ref[memoryview]):
    """Holds `what` until a view is gone, and is let go of in C: no exception of a signal handler can come between."""

    __slots__ = ("what",)
    __hash__ = object.__hash__  # a revoked memoryview has none
    what: object


_guards: set[_Guard] = set()
_let_go = _guards.discard


class _Ended(list["memoryview"]):
    """The list of a region that has ended: an allocation that was interrupted by the end comes too late for it."""

    __slots__ = ()

    def append(self, view: memoryview) -> None:
        view.release()

    def extend(self, views: Iterable[memoryview]) -> None:
        """Keep nothing: the slow path sees by itself that it came too late."""


ended: list[memoryview] = _Ended()


def outlast(views: list[memoryview], what: object) -> None:
    """Keep `what` alive until the last of the views is gone as an object, revoked or not."""
    for view in _views(views):
        guard = _Guard(view, _let_go)
        guard.what = what
        _guards.add(guard)


_look_at = 64


def let_go(always: bool = False) -> None:
    """Drop the guards whose views went without a word.

    So a garbage collection does, since Python 3.14, with weak references that a finalizer made to members of its cycle.
    """
    global _look_at
    if always or len(_guards) >= _look_at:
        for guard in _guards.copy():
            if guard() is None:
                _guards.discard(guard)
        _look_at = 2 * len(_guards) + 64
