"""Where moving the cursor needs a lock, and where it does not.

CPython with a GIL looks for other threads and for signals only at calls, at the entry of a function and at backward
jumps; before 3.12 the garbage collector may also run where a container is created. A stretch of byte code with none of
these is atomic, and every place that counts on it is such a stretch, after `with region._lock:`, which is then no lock.

A free-threaded CPython runs other threads at any time, so the stretch is under a lock. The lock is reentrant: a signal
handler or finalizer of the same thread can come before the stretch or after it, where it does no harm, but not inside.

PyPy looks between any two byte codes. There the lock refuses a handler that interrupts the stretch itself.
"""

from __future__ import annotations

import sys
import threading
from types import TracebackType
from typing import Protocol

from scopedbump._errors import RegionBusyError


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


class _GuardedLock:
    __slots__ = ("_inside", "_lock")

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._inside = False

    def __enter__(self) -> None:
        self._lock.acquire()
        if self._inside:
            self._lock.release()
            raise RegionBusyError(
                "this allocation interrupts another one of the same thread in the same region (from a signal handler "
                "or a finalizer), which PyPy can't tell apart: try again outside of the handler"
            )
        self._inside = True

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        self._inside = False
        self._lock.release()


_NO_LOCK = _NoLock()

cpython = sys.implementation.name == "cpython"
atomic: bool = cpython and getattr(sys, "_is_gil_enabled", lambda: True)()
"""Whether a stretch of byte code without calls is atomic here: the fast path is open, and the locks are none."""


def new_lock() -> Lock:
    """The lock of one region."""
    if atomic:
        return _NO_LOCK
    return threading.RLock() if cpython else _GuardedLock()
