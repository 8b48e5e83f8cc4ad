"""The region as NumPy's data allocator (NEP 49), without a compiler.

NumPy keeps, in a context variable, the capsule of a *handler*: a struct with functions and the *context* that it passes
to them. Each array refers to the capsule that it was made with, and is freed by it.

The rules (numbers are those of the promises in the README):

- A freed array may come with an exception set: `f(a * b, 1 / 0)` drops `a * b` while the ZeroDivisionError is on its
  way. A callback into Python would lose it, and crash. So `free` is no callback. It is the C function with which
  CPython runs a `__del__`, which puts the exception aside, and what it runs is C to the end: it takes the last block
  out of the context, a list, and calls it. Nothing there looks for signals, needs a stack frame, or can fail.
- That function is told which context, not which address. So each block has a context of its own, with a struct and a
  capsule: together a *handler slot*. Whenever one is used NumPy is given the next. A slot serves again when no array
  and no context variable refers to its capsule. Where more than the one array refers to it (NumPy keeps it to allocate
  again or to free NULL, a task inherits it) a call of `free` proves nothing: freeing such a block is *deferred* to the
  first allocation that finds its capsule without a reference.
- What is live holds a view of the region: an array that outlives the region keeps its memory (4).
- `malloc`, `calloc` and `realloc` are callbacks. Ctrl-C lands there as a rule: after a long operation NumPy's next call
  of Python is this, and what a signal handler raises comes at its entry. It would be lost, and NumPy told that there is
  no memory. So a callback keeps a record of how far it came, is protected from its entry on, goes on from there after
  an exception, and raises that again when NumPy is back in Python. For that nothing comes between taking something and
  noting it: CPython looks for signals after a call, but not between the steps of unpacking.
- Who serves is found by the slot. Where that is gone, or has been left, without NumPy having been told (a task that
  outlives it, a `with` that was torn up), the next callback gives NumPy back what it had before.
- Slots are never freed, for arrays may live until after the interpreter's end. From its exit on nothing of this is
  called: NumPy's default allocates, and nothing is freed.
"""

from __future__ import annotations

import atexit
import ctypes
import sys
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, cast
from weakref import ref

from .._bytecode import try_from_entry
from .._lifetime import ADDRESS, ffi
from ._callbacks import immortal, make_callback, raise_behind
from ._numpy_abi import (
    NAME,
    Handler,
    allocator,
    default,
    default_calloc,
    default_capsule,
    default_free,
    default_malloc,
    default_realloc,
    new_capsule,
    python,
    type_slot,
)

if TYPE_CHECKING:
    from ._numpy_blocks import FreeBlocks, Span


class Server(Protocol):
    """Where blocks come from."""

    @property
    def ended(self) -> bool:
        """Whether it serves no more."""
        ...

    def serve(self, size: int, zero: bool, call: Call) -> None:
        """Put a block into `call.block`, or nothing: then it counts as passed on, for the default is asked."""

    def pass_on(self, size: int) -> None:
        """The default is asked for so many bytes."""


class Serving(ref["Server"]):
    """Who serves: refers to it, as long as it is there.

    Attributes:
        before: the capsule that NumPy had.
    """

    __slots__ = ("before",)
    before: object


class Block(partial[None]):
    """One block. Called when it is freed: it goes to the free blocks of its region, or back to the default.

    Attributes:
        view: of the region that it keeps; None if it is the default's.
    """

    __slots__ = ("view",)
    view: memoryview | None

    @property
    def address(self) -> int:
        """Where it lies."""
        return cast("int", self.args[-2] if self.view is None else self.args[0].start)

    @property
    def length(self) -> int:
        """Its bytes."""
        return cast("int", self.args[-1] if self.view is None else self.args[0].stop - self.args[0].start)


class Call:
    """The record of a callback: how far it came.

    Attributes:
        free, view: the free blocks that are asked, and what keeps their memory meanwhile.
        span: what was taken from them.
        address: what was taken from the default, or of what was taken from them, when the block is made.
        block: what is made of either.
        noted: whether the slot has it: from here on it belongs to the array.
        old: the block that realloc was called with.
        freed: whether that went back.
        result: what NumPy gets; 0 when there is no memory.
    """

    free: FreeBlocks | None = None
    view: memoryview | None = None
    span: Span | None = None
    address: int = 0
    block: Block | None = None
    noted: bool = False
    old: Block | None = None
    freed: bool = False
    result: int = 0


# -- slots


class Slot(list[Block]):
    """A handler slot, and itself the context that `free` is told: it holds the block, until that is freed.

    CPython runs `__del__` so: it asks the property for what to call, and calls it. Never freed.
    """

    __slots__ = ("capsule", "handler", "serving")
    __del__ = property(cast("Callable[[Any], Any]", list[Any].pop))
    serving: Serving

    def __init__(self) -> None:
        self.handler = Handler(b"scopedbump", 1, id(self), *_functions)
        self.capsule: object = new_capsule(ctypes.addressof(self.handler), NAME, 0)
        slots[id(self)] = self
        _by_capsule[id(self.capsule)] = self

    def defer(self) -> None:
        """Free its blocks not before nothing refers to its capsule."""
        while self:
            block = self[0]
            pair = [(self, block)]
            deferred = _deferred
            if self and self[0] is block:
                deferred += pair
                del self[0]


slots: dict[int, Slot] = {}
"""All there are, by the context that callbacks are told."""
_by_capsule: dict[int, Slot] = {}
_used: deque[Slot] = deque()
_TRIES = (1, 2, 3)
_deferred: list[tuple[Slot, Block]] = []
"""Blocks whose capsule somebody else refers to: what is freed by it may be another block, or none (NULL)."""


def next_slot(serving: Serving) -> Slot:
    """A slot for the next block of this server. Who gives it to NumPy puts it back into `_used`."""
    try:
        slot = _used.popleft()
        if sys.getrefcount(slot.capsule) != _alone:
            slot = _idle_slot(slot)
    except IndexError:
        slot = Slot()
    slot.serving = serving
    return slot


def first_capsule(serving: Serving) -> object:
    """The capsule with which a server begins. Its slot goes back with a reference to it, so that no thread takes it."""
    slot = next_slot(serving)
    capsule = slot.capsule
    _used.append(slot)
    return capsule


def _idle_slot(slot: Slot) -> Slot:
    """Another slot than this one, which somebody refers to; a new one when the next few are no better."""
    for _ in _TRIES:
        _used.append(slot)
        slot = _used.popleft()
        if sys.getrefcount(slot.capsule) == _alone:
            return slot
    _used.append(slot)
    return Slot()


def serving_now() -> Serving | None:
    """Who is NumPy's allocator in this context; None when it is none from here."""
    while True:
        slot = _by_capsule.get(id(allocator.get()))
        if slot is None:
            return None
        server = slot.serving()
        if server is not None and not server.ended:
            return slot.serving
        _put_right(slot)


def _put_right(slot: Slot) -> None:
    """Its server is over: NumPy has again what it had before."""
    if allocator.get() is slot.capsule:
        allocator.set(slot.serving.before)
        slot.serving.before = default_capsule  # other contexts that inherited it; a capsule that is kept serves nobody


def sweep() -> None:
    """Free the deferred blocks that nothing can refer to any more."""
    for pair in tuple(_deferred):
        if sys.getrefcount(pair[0].capsule) == _alone:
            try:
                _deferred.remove(pair)
            except ValueError:  # another thread was faster
                continue
            pair[1]()


# -- the callbacks: each goes on from where its record says


def _allocate(zero: bool, ctx: int, size: int, call: Call) -> None:
    slot = slots[ctx]
    block = call.block
    if block is None:
        block = _obtain(slot, size, zero, call)
        if block is None:
            return
    if not call.noted:
        call.noted = True
        slot.append(block)
    if allocator.get() is slot.capsule:  # else somebody else's handler is at work by now, or another slot
        following = next_slot(slot.serving)
        allocator.set(following.capsule)
        _used.append(following)
    if _deferred:
        sweep()
    if len(slot) > 1 or sys.getrefcount(slot.capsule) > _alone + 1:  # not only the array's
        slot.defer()
    call.result = call.address


def _obtain(slot: Slot, size: int, zero: bool, call: Call) -> Block | None:
    """A block from the server of the slot, or from the default; None when that has no memory either."""
    if not call.address:
        server = slot.serving()
        if server is None or server.ended:
            _put_right(slot)
        else:
            server.serve(size, zero, call)
            if call.block is not None:
                return call.block
        (call.address,) = map(default_calloc, (size,), (1,)) if zero else map(default_malloc, (size,))
    return _default_block(size, call)


def _default_block(size: int, call: Call) -> Block | None:
    if not call.address:
        return None
    block = Block(default_free, call.address, size)
    block.view = None
    call.block = block
    return block


def _reallocate(ctx: int, old: int, size: int, call: Call) -> None:
    slot = slots[ctx]
    if call.old is None:
        call.old = _find(slot, old)
    block = call.old
    if block is None:
        return
    if call.block is None:
        if block.view is None:
            _grow_default(slot, old, size, call)
        elif size <= block.length:
            call.result = old
            return
        else:
            _obtain(slot, size, False, call)
    new = call.block
    if new is None:
        return
    if not call.noted:
        if block.view is not None:
            ctypes.memmove(call.address, old, block.length)
        while not call.noted:
            _replace(slot, block, new, call)
    if block.view is not None and not call.freed:
        call.freed = True
        block()
    call.result = call.address


def _grow_default(slot: Slot, old: int, size: int, call: Call) -> None:
    """A block of the default stays one."""
    if not call.address:
        server = slot.serving()
        if server is not None:
            server.pass_on(size)
        (call.address,) = map(default_realloc, (old,), (size,))
    _default_block(size, call)


def _find(slot: Slot, address: int) -> Block | None:
    # No generators: an exception in the middle of one that is dropped would be lost.
    for block in tuple(slot):
        if block.address == address:
            return block
    for other, block in tuple(_deferred):
        if other is slot and block.address == address:
            return block
    return None


def _replace(slot: Slot, block: Block, new: Block, call: Call) -> None:
    """The array has another block now."""
    pair = (slot, new)
    for at in range(len(slot)):
        if at < len(slot) and slot[at] is block:
            slot[at] = new
            call.noted = True
            return
    for at in range(len(_deferred)):
        if at < len(_deferred) and _deferred[at][1] is block:
            _deferred[at] = pair
            call.noted = True
            return


# -- from C, and after an exception


@try_from_entry
def _malloc(ctx: int, size: int, call: Call | None = None) -> int:
    try:
        call = Call()
        _allocate(False, ctx, size, call)
        return call.result
    except BaseException as error:  # noqa: BLE001  # raised again
        return _resume(error, partial(_allocate, False, ctx, size), call)


@try_from_entry
def _calloc(ctx: int, count: int, size: int, call: Call | None = None) -> int:
    try:
        call = Call()
        _allocate(True, ctx, count * size, call)
        return call.result
    except BaseException as error:  # noqa: BLE001  # raised again
        return _resume(error, partial(_allocate, True, ctx, count * size), call)


@try_from_entry
def _realloc(ctx: int, old: int, size: int, call: Call | None = None) -> int:
    try:
        call = Call()
        _reallocate(ctx, old, size, call)
        return call.result
    except BaseException as error:  # noqa: BLE001  # raised again
        return _resume(error, partial(_reallocate, ctx, old, size), call)


def _resume(error: BaseException, go_on: Callable[[Call], None], call: Call | None) -> int:
    """Go on with a call that an exception interrupted, and raise that again when NumPy is back in Python."""
    call = call or Call()
    go_on(call)
    raise_behind(error)
    return call.result


_callbacks = [
    make_callback(f"uintptr_t(*)({arguments})", function, "arrays of Region.numpy need no callbacks")
    for function, arguments in (
        (_malloc, "uintptr_t, size_t"),
        (_calloc, "uintptr_t, size_t, size_t"),
        (_realloc, "uintptr_t, uintptr_t, size_t"),
    )
]
_TP_FINALIZE = 80  # Include/typeslots.h
_functions = [*(int(ffi.cast(ADDRESS, callback)) for callback in _callbacks), type_slot(Slot, _TP_FINALIZE)]
_used.append(Slot())
_alone = sys.getrefcount(_used[0].capsule)

# Never freed, whatever becomes of this module.
_immortal = (NAME, _callbacks, slots, _deferred)
immortal(_immortal)


def _retire() -> None:
    """The process ends: from here on NumPy's default allocates, and nothing is freed."""
    harmless = ctypes.cast(python.Py_IsInitialized, ctypes.c_void_p).value or 0  # it ignores what it is given
    for slot in tuple(slots.values()):
        slot.handler.free = harmless
        slot.handler.malloc, slot.handler.calloc = default.malloc, default.calloc


atexit.register(_retire)
