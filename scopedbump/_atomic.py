"""Critical sections: what may not be interrupted, and how each Python is kept from interrupting it.

A *critical section* is a method marked `@critical`: it checks shared state and changes it, and between its first look
and its last store nothing else may run, neither another thread nor a signal handler, a finalizer or a trace function.

- CPython with a GIL looks for threads and signals only at calls, at the entry of a function and at backward jumps, and
  before 3.12 the garbage collector may also run where a container is made. These are its *switch points*. A critical
  section has none between look and store, so there it needs no lock, and the mark adds nothing to what a call costs.
- Debuggers, line tracers and `sys.monitoring` run Python where a line begins. So the byte code of a critical section is
  said to lie on one line, that of its `def`: all of it comes after the one event that such a tool gets.
- A free-threaded CPython runs other threads at any time, so there the mark puts a lock around the method. The lock is
  reentrant: a signal handler or finalizer of the same thread can come before the section or after it, where it does no
  harm, but not inside.
- PyPy looks between any two byte codes. There a handler that interrupts the section itself is refused.

A *fast path* is a method that begins as a critical section would, and goes on with calls. It counts on a `limit` that
is -1 wherever a bump needs a lock, so that it never gets anywhere there.

No other code of the package takes a lock. Not held is this under tools that run Python between two byte codes of one
line (`f_trace_opcodes`, the events INSTRUCTION and BRANCH of `sys.monitoring` when set for these functions).

A lock that another thread held when the process forked would be held for ever in the child, which makes it anew. The
locks of a free-threaded CPython's own objects nobody makes anew: a fork while other threads allocate may hang there.
"""

from __future__ import annotations

import os
import sys
from _weakref import ref

from ._bytecode import cpython, on_one_line
from ._errors import RegionBusyError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Any, Protocol, TypeVar

    class Lock(Protocol):
        def __enter__(self) -> object: ...
        def __exit__(
            self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
        ) -> None: ...

    Method = TypeVar("Method", bound=Callable[..., Any])


free_threaded: bool = not getattr(sys, "_is_gil_enabled", lambda: True)()
"""Whether threads run Python at the same time."""

atomic: bool = cpython and not free_threaded
"""Whether byte code without switch points is uninterruptible here: then there are no locks, and fast paths are open."""

critical_sections: list[Callable[..., Any]] = []
"""The functions marked `@critical`, as they were written."""

fast_paths: list[Callable[..., Any]] = []
"""The functions marked `@fast_path`."""


def critical(method: Method) -> Method:
    """Mark a critical section: a method of an object that has a `lock`, from `new_lock`."""
    critical_sections.append(method)
    return on_one_line(method) if atomic else _locked(method)


def fast_path(method: Method) -> Method:
    """Mark a fast path."""
    fast_paths.append(method)
    return on_one_line(method)


def _locked(method: Method) -> Method:
    from functools import wraps

    @wraps(method)
    def locked(self: Any, *args: Any) -> Any:
        lock = self.lock
        with lock:
            _forbid_reentry(lock)
            return method(self, *args)

    return locked  # type: ignore[return-value]  # a method with the same arguments


def new_lock() -> Lock | None:
    """A lock for critical sections; None where they need none."""
    if atomic:
        return None
    from threading import RLock

    lock: Lock = RLock()
    _locks.add(ref(lock, _locks.discard))
    return lock


def _forbid_reentry(lock: Lock) -> None:
    """Refuse what came in the middle of another critical section of the same thread.

    A lock written in Python could say so itself, but an exception of a signal handler inside it would leave it locked.
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
    import functools  # noqa: F401  # pyright: ignore[reportUnusedImport]  # now: a signal in an import would break it
    import threading  # noqa: F401  # pyright: ignore[reportUnusedImport]
