"""Pointers of cffi that hold memory: as long as one lives, or one that was computed from it, the memory stays.

cffi's pointers know nothing of what they lead to, but each holds its type. So the pointers into a chunk have a type of
their own, made for it, and `keep_alive(the chunk's view, until=the type)` is all: when the last pointer dies, so does
the type, and so the view. It costs nothing for each pointer, and nobody can take it away: what `ffi.new_allocator`
makes refers to the pointer that its allocator returned until it dies, or is given to `ffi.release`.

What `ffi.new_allocator` made is finalized by the garbage collector *with* the other members of a dead cycle, in any
order, and lets go of its pointer then. A `__del__` that is run later may still read the object. So a view that loses
its last pointer in the middle of a collection stays until that is over.

Roads not taken:

- A destructor that refers to the memory: `ffi.gc(object, None)` takes it away.
- `ffi.gc` for the pointer too, with a destructor that refers to the memory: a sixth more time for each object.
- `ffi.from_buffer(memoryview)`: in a dead cycle it crashes the collector of CPython before 3.13.
"""

from __future__ import annotations

import gc
from _thread import get_ident

import _cffi_backend

from ._bytecode import try_from_entry
from ._lifetime import ffi, keep_alive

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from _cffi_backend import CData

_BYTE = _cffi_backend.new_primitive_type("signed char")


def holding_pointer(view: memoryview, address: int) -> CData:
    """A pointer to bytes that keeps `view` alive, and so does every `pointer + offset`."""
    item = _cffi_backend.new_enum_type("byte", (), (), _BYTE)  # of the types with a size the cheapest that is new
    ctype = _cffi_backend.new_pointer_type(item)
    keep_alive(_Held(view) if _collections_tell else view, ctype)
    return ffi.cast(ctype, address)


class _Collection:
    """The garbage collection that is going on.

    Attributes:
        thread: which thread collects; None when none does.
        views: what lost its last pointer in it.
    """

    __slots__ = ("thread", "views")

    def __init__(self) -> None:
        self.thread: int | None = None
        self.views: list[memoryview] = []

    @try_from_entry
    def note(self, phase: str, _: object) -> None:
        """Called by the collector before and after. It ignores exceptions: a signal handler's is raised later."""
        try:
            self.thread = get_ident() if phase == "start" else None
            self.views.clear()
        except BaseException as error:  # noqa: BLE001  # raised again
            from ._adapters._callbacks import raise_behind

            self.thread = get_ident() if phase == "start" else None
            self.views.clear()
            raise_behind(error)


_collection = _Collection()

_collections_tell = hasattr(gc, "callbacks")  # not on PyPy, where finalizers run in the order of what refers to what
if _collections_tell:
    gc.callbacks.append(_collection.note)


class _Held:
    """A view that outlasts the collection in which it is let go."""

    __slots__ = ("_view",)

    def __init__(self, view: memoryview) -> None:
        self._view = view

    # The names are bound here: at the end of the interpreter those of the module are gone.
    def __del__(self, collection: _Collection = _collection, this_thread: Callable[[], int] = get_ident) -> None:
        if collection.thread is not None and collection.thread == this_thread():
            collection.views.append(self._view)
