"""The region as NumPy's data allocator (NEP 49), without a compiler.

The rules (numbers are those of the promises in the README):

- A freed array may come with an exception set: `f(a * b, 1 / 0)` drops `a * b` while the ZeroDivisionError is on its
  way. A callback into Python would lose it, and crash. So `free` is no callback. It is the C function with which
  CPython runs a `__del__`, which puts the exception aside, and what it runs is C to the end: `_live.pop` of the ticket,
  then what it gave. Nothing there looks for signals, needs a stack frame, or can fail.
- That function is told which ticket, not which address. So each block has a ticket of its own, with a handler struct
  and a capsule: whenever one is used NumPy is given the next. A ticket serves again when no array and no context
  refers to its capsule. Where more than the one array refers to it (NumPy keeps it to allocate again or to free NULL,
  a task inherits it) a call of `free` proves nothing: such a block is *doubtful*, and goes at the first allocation that
  finds its capsule without a reference.
- What is live holds the region's root: an array that outlives the region keeps its memory (4).
- A freed block serves the next request of its size, while it is warm; the region's cursor never goes back.
- `malloc`, `calloc` and `realloc` are callbacks. Ctrl-C lands there as a rule: after a long operation NumPy's next call
  of Python is this. What a signal handler raises would be lost, so `_mend` finishes the call and raises it behind. For
  that nothing comes between taking something and noting it: CPython looks for signals after a call, but not between the
  steps of unpacking.
- Tickets, structs and capsules are never freed, for arrays may live until after the interpreter's end. From its exit
  on nothing of this is called: NumPy's default allocates, and nothing is freed.
"""

from __future__ import annotations

import atexit
import contextvars
import ctypes
import itertools
import sys
import threading
from collections import deque
from collections.abc import Callable
from functools import partial
from traceback import walk_tb
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, cast

from scopedbump._adapters._numpy_abi import (
    NAME,
    Handler,
    default,
    default_calloc,
    default_capsule,
    default_free,
    default_malloc,
    default_realloc,
    get_handler,
    new_capsule,
    python,
    raise_in,
    set_handler,
    type_slot,
)
from scopedbump._exporter import ADDRESS, ffi

if TYPE_CHECKING:
    from _cffi_backend import CData


class Server(Protocol):
    """Where blocks come from."""

    ended: bool

    def serve(self, size: int, zero: int) -> Block | None:
        """A block, or None: then the default is asked."""

    def passed(self, size: int) -> None:
        """The default was asked for so many bytes."""


current: contextvars.ContextVar[Server | None] = contextvars.ContextVar("scopedbump.numpy", default=None)
"""Who serves in this context, while NumPy has a handler from here."""


class Block(partial[None]):
    """One block. Called when it is freed: it goes to where the next of its size looks, or back to the default.

    Attributes:
        address: where it lies.
        length: its bytes.
        root: of the region that it keeps; None if it is the default's.
    """

    __slots__ = ("address", "length", "root")
    address: int
    length: int
    root: memoryview | None


_live: dict[int, Block] = {}
"""By ticket: what is called when its block is freed."""


# -- tickets


class _Ticket(int):
    """What `free` is told. CPython runs `__del__` so: it asks the property for what to call, and calls it."""

    __slots__ = ()
    __del__ = property(_live.pop)


class _Slot:
    """A ticket with what NumPy needs for it. Never freed."""

    __slots__ = ("capsule", "handler", "ticket")

    def __init__(self) -> None:
        self.ticket = _Ticket(next(_numbers))
        self.handler = Handler(b"scopedbump", 1, id(self.ticket), *_functions)
        self.capsule: object = new_capsule(ctypes.addressof(self.handler), NAME, 0)
        _slots[id(self.ticket)] = self
        _ours[id(self.capsule)] = self


_numbers = itertools.count()
_slots: dict[int, _Slot] = {}
_ours: dict[int, _Slot] = {}
_used: deque[_Slot] = deque()
_TRIES = (1, 2, 3)
_doubtful: list[tuple[_Slot, Block]] = []
"""Blocks whose capsule somebody else refers to: what is freed by it may be another block, or none (NULL)."""


def enter(server: Server) -> tuple[contextvars.Token[Server | None], object]:
    """Make a server NumPy's allocator in this context: what `leave` needs."""
    slot = _next_slot()
    token = current.set(server)
    (before,) = map(set_handler, (slot.capsule,))
    _used.append(slot)
    return token, before


def is_ours() -> bool:
    """Whether NumPy's handler in this context is one from here."""
    return id(get_handler()) in _ours


def restore(before: object) -> None:
    """Give NumPy the handler back that it had before."""
    set_handler(before)


def _next_slot() -> _Slot:
    """A slot that nothing refers to; who gives it to NumPy puts it back into `_used`."""
    for _ in _TRIES:
        try:
            slot = _used.popleft()
        except IndexError:
            break
        if sys.getrefcount(slot.capsule) == _ALONE:
            return slot
        _used.append(slot)
    return _Slot()


def _rotate(slot: _Slot, handler: Server) -> None:
    """Give NumPy the next ticket, now that this one is used."""
    if handler.ended:  # a task has outlived it
        (before,) = map(set_handler, (default_capsule,))
    else:
        following = _next_slot()
        (before,) = map(set_handler, (following.capsule,))
        _used.append(following)
    if before is not slot.capsule and id(before) not in _ours:
        set_handler(before)  # somebody else's handler is at work here, and got a block of ours to copy


def _doubt(slot: _Slot, block: Block) -> None:
    """Free a block not before nothing refers to its capsule."""
    _doubtful.append((slot, block))
    if _live.get(slot.ticket) is block:
        del _live[slot.ticket]


def sweep() -> None:
    """Free the doubtful blocks that nothing can refer to any more."""
    for pair in tuple(_doubtful):
        if sys.getrefcount(pair[0].capsule) == _ALONE:
            try:
                _doubtful.remove(pair)
            except ValueError:  # another thread was faster
                continue
            pair[1]()


def _default_block(address: int, size: int) -> Block:
    block = Block(default_free, address, size)
    block.address = address
    block.length = size
    block.root = None
    return block


# -- the callbacks


def _allocate(zero: int, ctx: int, size: int, each: int = 1) -> int:
    size *= each
    each = 1
    slot = _slots[ctx]
    handler = current.get()
    block = handler.serve(size, zero) if handler is not None else None
    if block is not None:
        address = block.address
    else:
        if handler is not None:
            handler.passed(size)
        (address,) = map(default_calloc, (size,), (1,)) if zero else map(default_malloc, (size,))
        if not address:
            return 0
        block = _default_block(address, size)
    before = _live.get(slot.ticket)
    if before is None:
        _live[slot.ticket] = block
    else:
        _doubt(slot, before)
        _doubt(slot, block)
    noted = address
    if handler is not None:
        _rotate(slot, handler)
    if _doubtful:
        sweep()
    if before is None and sys.getrefcount(slot.capsule) > _ALONE + 1:  # not only the array's
        _doubt(slot, block)
    return noted


def _realloc(ctx: int, old: int, size: int) -> int:
    slot = _slots[ctx]
    block = _find(slot, old)
    if block is None:
        return 0
    handler = current.get()
    if block.root is None:
        if handler is not None:
            handler.passed(size)
        (address,) = map(default_realloc, (old,), (size,))
        new = None
    elif size <= block.length:
        return old
    else:
        new = handler.serve(size, 0) if handler is not None else None
        if new is not None:
            address = new.address
        else:
            if handler is not None:
                handler.passed(size)
            (address,) = map(default_malloc, (size,))
    if not address:
        return 0
    _move(slot, block, new, address, size)
    noted = address
    if block.root is not None:
        block()
    return noted


def _find(slot: _Slot, address: int) -> Block | None:
    blocks = [_live.get(slot.ticket), *(block for other, block in _doubtful if other is slot)]
    return next((block for block in blocks if block is not None and block.address == address), None)


def _move(slot: _Slot, block: Block, new: Block | None, address: int, size: int) -> None:
    if block.root is not None:
        ctypes.memmove(address, block.address, block.length)
    new = new or _default_block(address, size)
    if _live.get(slot.ticket) is block:
        _live[slot.ticket] = new
    else:
        _doubtful.append((slot, new))
        _doubtful.remove((slot, block))


def _mend(_: type[BaseException], error: BaseException, trace: TracebackType | None) -> int:
    """Finish a call that an exception interrupted, and raise the exception again when NumPy is back in Python."""
    frames = {frame.f_code: frame for frame, _line in walk_tb(trace)}
    result = 0
    if (frame := frames.get(_allocate.__code__)) is not None:
        result = _finish_allocate(**frame.f_locals)
    elif (frame := frames.get(_realloc.__code__)) is not None:
        result = _finish_realloc(**frame.f_locals)
    if not isinstance(error, (RecursionError, MemoryError)):
        once = [error.with_traceback(None)]  # its frames hold blocks

        class Again(BaseException):
            def __new__(cls, *_: object) -> Any:
                return once.pop()  # the interpreter takes what it gets here for the exception

        # By unpacking: after a call it would be raised here.
        (_threads,) = map(raise_in, (threading.get_ident(),), (Again,))
    return result


def _finish_allocate(
    zero: int,
    ctx: int,
    size: int,
    each: int,
    block: Block | None = None,
    address: int = 0,
    noted: int = 0,
    handler: Server | None = None,
    **_: object,
) -> int:
    if not address:
        return _allocate(zero, ctx, size, each)
    slot, block = _slots[ctx], block or _default_block(address, size)
    if noted and handler is not None:
        _rotate(slot, handler)
    if not noted or sys.getrefcount(slot.capsule) > _ALONE + 1:
        _doubt(slot, block)
    return address


def _finish_realloc(
    ctx: int,
    old: int,
    size: int,
    block: Block | None = None,
    new: Block | None = None,
    address: int = 0,
    noted: int = 0,
    **_: object,
) -> int:
    if noted:
        return noted
    if not address or block is None:
        return _realloc(ctx, old, size)
    _move(_slots[ctx], block, new, address, size)
    return address


class _Callbacks(Protocol):
    def callback(self, cdecl: str, function: Callable[..., int], *, onerror: Callable[..., int]) -> CData: ...


_callbacks = [
    cast("_Callbacks", ffi).callback(f"uintptr_t(*)({arguments})", function, onerror=_mend)
    for function, arguments in (
        (partial(_allocate, 0), "uintptr_t, size_t"),
        (partial(_allocate, 1), "uintptr_t, size_t, size_t"),
        (_realloc, "uintptr_t, uintptr_t, size_t"),
    )
]
_TP_FINALIZE = 80  # Include/typeslots.h
_functions = [*(int(ffi.cast(ADDRESS, callback)) for callback in _callbacks), type_slot(_Ticket, _TP_FINALIZE)]
_used.append(_Slot())
_ALONE = sys.getrefcount(_used[0].capsule)

# Never freed, whatever becomes of this module.
_immortal = (NAME, _callbacks, _slots, _live, _doubtful)
python.Py_IncRef(ctypes.py_object(_immortal))


def _retire() -> None:
    """The process ends: from here on NumPy's default allocates, and nothing is freed."""
    harmless = ctypes.cast(python.Py_IsInitialized, ctypes.c_void_p).value or 0  # it ignores what it is given
    for slot in tuple(_slots.values()):
        slot.handler.free = harmless
        slot.handler.malloc, slot.handler.calloc = default.malloc, default.calloc


atexit.register(_retire)
