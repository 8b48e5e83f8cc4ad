"""Where moving the cursor needs a lock, and where it does not.

CPython with a GIL looks for other threads and for signals only at calls, at the entry of a function and at backward
jumps; before 3.12 the garbage collector may also run where a container is created. A stretch of byte code with none of
these is atomic, and every place that counts on it is such a stretch, after `with region._lock:`, which is then no lock.

A free-threaded CPython runs other threads at any time, so the stretch is under a lock. The lock is reentrant: a signal
handler or finalizer of the same thread can come before the stretch or after it, where it does no harm, but not inside.

PyPy looks between any two byte codes. There a handler that interrupts the stretch itself is refused, by `alone`.

A lock that another thread held when the process forked would be held for ever in the child, which makes it anew.
"""

from __future__ import annotations

import os
import sys
from _weakref import ref

from scopedbump._errors import RegionBusyError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Protocol

    class Lock(Protocol):
        def __enter__(self) -> object: ...
        def __exit__(
            self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
        ) -> None: ...


class _NoLock:
    __slots__ = ()

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        pass


_NO_LOCK = _NoLock()

cpython = sys.implementation.name == "cpython"
free_threaded: bool = not getattr(sys, "_is_gil_enabled", lambda: True)()
"""Whether threads run Python at the same time."""

atomic: bool = cpython and not free_threaded
"""Whether a stretch of byte code without calls is atomic here: the fast path is open, and the locks are none."""


def new_lock() -> Lock:
    """The lock of one region."""
    if atomic:
        return _NO_LOCK
    from threading import RLock

    lock: Lock = RLock()
    _locks.add(ref(lock, _locks.discard))
    return lock


def alone(lock: Lock) -> None:
    """Called first in every stretch, under its lock, wherever `atomic` is False.

    Raises:
        RegionBusyError: this came in the middle of another stretch of the same thread. A lock written in Python could
            say so itself, but an exception of a signal handler inside it would leave it locked.
    """
    if not cpython and lock._recursion_count() > 1:  # type: ignore[attr-defined]  # an RLock here
        raise RegionBusyError(
            "this allocation interrupts another one of the same thread in the same region (from a signal handler "
            "or a finalizer), which PyPy can't tell apart: try again outside of the handler"
        )


_locks: set[ref[Lock]] = set()


def _forked() -> None:
    for kept in _locks.copy():
        lock = kept()
        if lock is not None and not lock._is_owned():  # type: ignore[attr-defined]  # as threading itself does it
            lock._at_fork_reinit()  # type: ignore[attr-defined]


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)

if not atomic:
    new_lock()  # imports threading now: a signal in the middle of that import would break it for good
