"""Who keeps what alive: one primitive, `keep_alive`, and the exporter that every view of a range refers to.

The rules (numbers are those of the promises in the README):

- Every view is a slice of one memoryview over an *exporter*, an `ffi.buffer`. Slices, casts, ndarrays, ctypes and cffi
  objects all refer to it: its reference count tells whether something still points in (4). Where nothing counts
  references (PyPy), something may always point in.
- Below the exporter lies its *anchor*, a plain cffi pointer. `keep_alive(owner, anchor)` keeps what the memory belongs
  to (a mapping, a pool's lease, the memory around a scope) exactly as long as that: to give memory back is to let go.

      a view: revoked at the end       --.
      a pin: a slice, ndarray, C object --+-> exporter -> anchor -> keeper -> owner: a mapping, a lease, or
      the chunk of an open region      --'                                    the view of the region around a scope

- All of it happens in C: no signal handler, thread or finalizer can come between the death of the anchor and that of
  its owner, in a collection or at the end of the interpreter either.
- The keepers are reachable from this module, so the collector never takes an owner for garbage.

Roads not taken:

- The exporter itself as what is waited for: the collector clears weak references to the members of a dead cycle
  *before* it runs their finalizers, and the exporter can be such a member; a `__del__` would read memory that is gone.
  A plain pointer is not tracked by the collector: it dies by its count, after all of them.
- `ffi.gc` as the anchor: such pointers are tracked, and finalized before other members of a dead cycle.
- `mmap.mmap` as the exporter: read-only over pages without access, and it can't only reserve on Windows.

This and the modules that a region needs import neither typing nor weakref, each of which takes longer than all of
scopedbump: `TYPE_CHECKING = False` is what type checkers know as True.
"""

from __future__ import annotations

import gc
import sys
from _weakref import ref

import _cffi_backend

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from _cffi_backend import CData, buffer

ffi = _cffi_backend.FFI()
# Types, not their names: cffi is not to be interrupted where it reads a name for the first time.
CHAR_POINTER = ffi.typeof("char *")
ADDRESS = ffi.typeof("uintptr_t")

COUNTED: bool = hasattr(sys, "getrefcount")
"""Whether Python counts references here."""


class _Keeper(ref["object"]):
    """Refers to `owner` until the object that it watches is gone."""

    __slots__ = ("owner",)
    __hash__: Callable[[object], int] = object.__hash__  # type: ignore[assignment]  # a reference's own asks the object
    owner: object


_keepers: set[_Keeper] = set()
_drop = _keepers.discard


def keep_alive(owner: object, until: object) -> None:
    """Keep `owner` alive as long as `until` is."""
    keeper = _Keeper(until, _drop)
    keeper.owner = owner
    _keepers.add(keeper)


def owners() -> list[object]:
    """What is kept alive at present: once for each object that it is kept for."""
    return [keeper.owner for keeper in _keepers.copy()]


_look_at = 64


def drop_dead_keepers(always: bool = False) -> None:
    """Let go of what was kept for objects that went without a word.

    So a garbage collection does, since Python 3.14, with weak references that a finalizer made to members of its cycle.
    Without `always` it looks so rarely that it costs nothing.
    """
    global _look_at
    if always or len(_keepers) >= _look_at:
        for keeper in _keepers.copy():
            if keeper() is None:
                _keepers.discard(keeper)
        _look_at = 2 * len(_keepers) + 64


class Exporter:
    """The exporter of a range of memory, which belongs to `owner`.

    Attributes:
        anchor: dies when nothing points in any more, and nobody refers to the exporter.
        keeper: keeps the owner until then. Whoever takes the exporter over, when nothing points in, puts another owner
            there.
    """

    __slots__ = ("_buffer", "anchor", "keeper")

    anchor: CData
    keeper: _Keeper
    _buffer: buffer

    def __init__(self, address: int, size: int, owner: object) -> None:
        anchor = self.anchor = ffi.cast(CHAR_POINTER, address)
        keeper = self.keeper = _Keeper(anchor, _drop)  # as `keep_alive`
        keeper.owner = owner
        _keepers.add(keeper)
        self._buffer = ffi.buffer(anchor, size)

    def view(self) -> memoryview:
        """A memoryview of it all, which every other view is cut from. Whoever holds it points in."""
        return memoryview(self._buffer)

    def pinned(self) -> bool:
        """Whether something points in."""
        return not COUNTED or sys.getrefcount(self._buffer) > _alone


# What the count says of a buffer that only its Exporter holds differs between versions: measured, not known.
_alone = 0
if COUNTED:
    _probe = Exporter(0, 0, None)
    while _probe.pinned():
        _alone += 1
    del _probe


def still_there(kept: ref[object] | None) -> bool:
    """Whether memory was not given back; where nothing counts references, a collection tells."""
    if not COUNTED:
        for _ in range(3):  # an object, what it refers to, and what that refers to
            gc.collect()
    return kept is not None and kept() is not None
