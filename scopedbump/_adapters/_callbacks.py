"""Python that C calls: how such callbacks are made, and what becomes of an exception that comes to them.

An exception can't pass through C. What a signal handler raised is raised again as soon as its thread runs Python: with
CPython's own means for exceptions from elsewhere, and as the last thing that a callback does, by unpacking, for it
would come at the next call. A callback that found no stack, or no memory, has told C so; then that is all.
"""

from __future__ import annotations

import errno
import sys
import threading
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, cast

from .._bytecode import cpython
from .._errors import CallbackRefusedError
from .._lifetime import ffi

if TYPE_CHECKING:
    from _cffi_backend import CData

_raise_in: Callable[[int, type[BaseException]], int] | None = None
if cpython:
    import ctypes

    _raise_in = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_ulong, ctypes.py_object)(
        ("PyThreadState_SetAsyncExc", ctypes.pythonapi)
    )


def raise_behind(error: BaseException) -> None:
    """Raise it in this thread as soon as that runs Python again. The last thing to do: by unpacking, not by a call."""
    if isinstance(error, (RecursionError, MemoryError)):
        return
    if _raise_in is None:  # PyPy has no such means
        import _thread

        if isinstance(error, KeyboardInterrupt):
            _thread.interrupt_main()
        else:
            sys.excepthook(type(error), error, error.__traceback__)
        return
    thread = threading.get_ident()
    _errors[thread] = error.with_traceback(None)  # its frames hold blocks
    (_threads,) = map(_raise_in, (thread,), (_Again,))


_errors: dict[int, BaseException] = {}


class _Again(BaseException):
    """Raised in a thread, it becomes the error that is kept for it.

    One class for all: to make one makes garbage, and the collection that comes of it may run Python, in which the error
    would be lost.
    """

    def __new__(cls, *_: object) -> Any:
        # The interpreter takes what it gets here for the exception.
        return _errors.pop(threading.get_ident(), None) or BaseException.__new__(cls)


def give_up(_: type[BaseException], error: BaseException, trace: TracebackType | None) -> int:
    """No stack was left, or what interrupted a callback came a second time: C gets a NULL."""
    raise_behind(error)
    return 0


class _Callbacks(Protocol):
    def callback(self, cdecl: str, function: Callable[..., int], *, onerror: Callable[..., int]) -> CData: ...


def make_callback(cdecl: str, function: Callable[..., int], instead: str) -> CData:
    """A function of C, of this type, that calls Python. It works as long as the object lives.

    Args:
        cdecl: its type, with integers for pointers.
        function: what it calls.
        instead: what a user can do where the system refuses.

    Raises:
        CallbackRefusedError: it does.
    """
    try:
        return cast("_Callbacks", ffi).callback(cdecl, function, onerror=give_up)
    except MemoryError as refusal:  # so cffi says it
        raise CallbackRefusedError(
            errno.EACCES,
            "C can't call back into Python: this system refuses memory that is written to and then executed "
            f"(PR_SET_MDWE, SELinux, a hardened kernel); {instead}",
        ) from refusal


def is_main_interpreter() -> bool:
    """Whether C can call Python here: in a sub-interpreter it would wait for ever."""
    if not cpython:
        return True
    import ctypes

    python = ctypes.pythonapi
    current, main = python.PyInterpreterState_Get, python.PyInterpreterState_Main
    current.restype = main.restype = ctypes.c_void_p
    return bool(current() == main())


def immortal(what: object) -> None:
    """Never free it: C may call it until the process is gone."""
    if cpython:
        import ctypes

        ctypes.pythonapi.Py_IncRef(ctypes.py_object(what))
