"""A region as NumPy's allocator: which blocks it serves, and for how long. How NumPy gets them is `_numpy_memory`'s.

To enter is one call, which NumPy's handler changes hands in, and nothing comes behind it. To leave is one as well; an
exception that comes before it, or after, finds the way out protected from its entry on, and is raised when all is done
(5).
"""

from __future__ import annotations

import ctypes
from types import TracebackType
from typing import TYPE_CHECKING, Self, final

from .. import _hints as hints
from .._bytecode import try_from_entry
from . import _numpy_memory as memory
from ._numpy_abi import allocator, default_capsule

if TYPE_CHECKING:
    from contextvars import Token

    from .numpy_ import NumpyAllocator

_SCALAR = 16


@final
class NumpyHandler:
    """A region as NumPy's allocator, for the body of one `with` block. Made by `Region.numpy.handler()`.

    A block that NumPy frees serves its next requests. A long expression gains by that; a lone temporary does not where
    malloc hands the same warm bytes out again and again, and small arrays lose.

    Each request of NumPy's (malloc, calloc, realloc) counts once.

    Attributes:
        ended: whether the block has been left.
        min_bytes: smaller blocks are left to NumPy's default.
        served_blocks: how many requests the region served.
        served_bytes: their bytes in all.
        passed_blocks: how many were handed on to NumPy's default. Not counted is what has up to 16 bytes: a scalar,
            of which NumPy makes one or two in nearly every call.
        passed_bytes: their bytes in all.
    """

    __slots__ = (
        "__weakref__",
        "_serving",
        "_source",
        "_token",
        "ended",
        "min_bytes",
        "passed_blocks",
        "passed_bytes",
        "served_blocks",
        "served_bytes",
    )
    __signature__: object = hints.NOT_CALLED

    def __init__(self, source: hints.NumpyAllocator, min_bytes: int) -> None:
        self.min_bytes: int = min_bytes
        self.served_blocks: int = 0
        self.served_bytes: int = 0
        self.passed_blocks: int = 0
        self.passed_bytes: int = 0
        self.ended: bool = False
        self._source: NumpyAllocator | None = source
        self._serving: memory.Serving | None = None
        self._token: Token[object] | None = None

    def __enter__(self) -> Self:
        if self.ended or self._token is not None:
            raise RuntimeError(f"{self!r} can be entered only once: call handler() again")
        capsule = self._first_capsule()
        (self._token,) = map(allocator.set, (capsule,))  # the last that an exception can come before: see the head
        return self

    def _first_capsule(self) -> object:
        serving = self._serving = memory.Serving(self)
        serving.before = allocator.get()
        return memory.first_capsule(serving)

    @try_from_entry
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            refusal = self._leave()
        except BaseException:  # of a signal handler: what was begun is brought to its end
            self._leave()
            raise
        if refusal and error is None:
            raise RuntimeError(refusal)
        if refusal and error is not None:
            error.add_note(f"scopedbump: {refusal}")  # an exception on its way is never replaced

    def _leave(self) -> str | None:
        """Give NumPy back the handler that it had before, or say why that can't be. May be repeated."""
        token = self._token
        if token is not None and not self.ended:
            if memory.serving_now() is not self._serving:
                return f"{self!r} is not NumPy's present allocator here: leave what was entered later first"
            try:
                (_,) = map(allocator.reset, (token,))
                self.ended = True
            except ValueError:
                return f"{self!r} was entered in another context: leave it there"
        self.ended = True
        if self._serving is not None:
            self._serving.before = default_capsule
        source, self._source, self._token = self._source, None, None
        memory.sweep()
        if source is not None and source._free is not None:
            source._free.settle()
        return None

    def __repr__(self) -> str:
        return (
            f"<scopedbump.NumpyHandler: {self.served_blocks} blocks ({self.served_bytes} bytes) served, "
            f"{self.passed_blocks} ({self.passed_bytes} bytes) handed on>"
        )

    def pass_on(self, size: int) -> None:
        """NumPy's default is asked for so many bytes."""
        if size > _SCALAR:
            self.passed_blocks += 1
            self.passed_bytes += size

    def serve(self, size: int, zero: bool, call: memory.Call) -> None:
        """Put a block of the region into `call.block`, or pass on."""
        span = call.span
        used: bool | None = True  # as far as one knows who goes on with a call
        if span is None and size >= self.min_bytes and (source := self._source) is not None:
            free = source._free
            if free is None or (view := free.blocks.view()) is None:
                free = source._renew_free()
                view = free.blocks.view() if free is not None else None
            if free is not None and view is not None:
                call.free = free
                call.view = view
                used = free.take(size, call, zero)
                span = call.span
        if span is None or (free := call.free) is None:
            self.pass_on(size)
            return
        if zero and used:
            ctypes.memset(span.start, 0, size)
        block = memory.Block(free.give_back, span)
        block.view = call.view
        call.address = span.start
        call.block = block
        self.served_blocks += 1
        self.served_bytes += size


NumpyHandler.__module__ = "scopedbump"
