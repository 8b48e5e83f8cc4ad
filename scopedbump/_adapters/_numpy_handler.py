"""A region as NumPy's allocator: which blocks it serves, and for how long. How NumPy gets them is `_numpy_memory`'s."""

from __future__ import annotations

import ctypes
import weakref
from collections import defaultdict
from types import TracebackType
from typing import TYPE_CHECKING, final

from scopedbump._adapters import _numpy_memory as memory
from scopedbump._errors import ScopedBumpError
from scopedbump._exporter import ADDRESS, ffi

if TYPE_CHECKING:
    from contextvars import Token
    from typing import Self

    from scopedbump._adapters.numpy_ import NumpyAllocator

ALIGN = 64
"""Of every block, in bytes: a cache line, and what the widest vector instructions like."""


class Lot:
    """What was taken from one lease: where it starts, and the blocks that came back, by size. Keeps nothing alive."""

    __slots__ = ("base", "root", "spare")

    def __init__(self, root: memoryview) -> None:
        self.root = weakref.ref(root)
        self.base = int(ffi.cast(ADDRESS, ffi.from_buffer(root)))
        self.spare: defaultdict[int, list[int]] = defaultdict(list)


@final
class NumpyHandler:
    """A region as NumPy's allocator, for the body of one `with` block. Made by `Region.numpy.handler()`.

    Each request of NumPy's (malloc, calloc, realloc) counts once.

    Attributes:
        ended: whether the block has been left.
        min_bytes: smaller blocks are left to NumPy's default.
        served_blocks: how many requests the region served.
        served_bytes: their bytes in all.
        passed_blocks: how many were handed on to NumPy's default.
        passed_bytes: their bytes in all.
    """

    __slots__ = (
        "_previous",
        "_source",
        "_token",
        "ended",
        "min_bytes",
        "passed_blocks",
        "passed_bytes",
        "served_blocks",
        "served_bytes",
    )

    def __init__(self, source: NumpyAllocator, min_bytes: int) -> None:
        self.min_bytes: int = min_bytes
        self.served_blocks: int = 0
        self.served_bytes: int = 0
        self.passed_blocks: int = 0
        self.passed_bytes: int = 0
        self._source: NumpyAllocator | None = source
        self.ended: bool = False
        self._token: Token[memory.Server | None] | None = None
        self._previous: object = None

    def __enter__(self) -> Self:
        if self.ended or self._token is not None:
            raise RuntimeError(f"{self!r} can be entered only once: call handler() again")
        self._token, self._previous = memory.enter(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._leave()
        except RuntimeError as refusal:
            if error is None:
                raise
            error.add_note(f"scopedbump: {refusal}")  # an exception on its way is never replaced
        except BaseException:  # of a signal handler: what was begun is brought to its end
            self._leave()
            raise

    def _leave(self) -> None:
        if self.ended:
            return
        token = self._token
        if token is not None:
            if memory.current.get() is not self or not memory.is_ours():
                raise RuntimeError(
                    f"{self!r} is not NumPy's present allocator here: leave what was entered later first"
                )
            try:
                memory.current.reset(token)
            except ValueError:
                raise RuntimeError(f"{self!r} was entered in another context: leave it there") from None
            self._token = None
        memory.restore(self._previous)
        self.ended = True
        self._previous = self._source = None
        memory.sweep()

    def __repr__(self) -> str:
        return (
            f"<scopedbump.NumpyHandler: {self.served_blocks} blocks ({self.served_bytes} bytes) served, "
            f"{self.passed_blocks} ({self.passed_bytes} bytes) handed on>"
        )

    def passed(self, size: int) -> None:
        self.passed_blocks += 1
        self.passed_bytes += size

    def serve(self, size: int, zero: int) -> memory.Block | None:
        """A block from the region, or None."""
        source = self._source
        if size < self.min_bytes or source is None:
            return None
        region = source._region
        root = region._root
        if root is None or region._busy is not None:
            return None
        lot = source._lot
        if lot is None or lot.root() is not root:
            lot = source._lot = Lot(root)
        length = size + ALIGN - 1 & -ALIGN
        spare = lot.spare[length]
        try:
            address = spare.pop()
        except IndexError:
            address = 0
        # Outside of the except clause: what a signal handler raised in there would keep root by its __context__.
        if address:
            if zero:
                ctypes.memset(address, 0, size)
        else:
            try:
                claimed, _, start = region._claim(length, ALIGN, zero != 0)
            except ScopedBumpError:  # full, or ended meanwhile
                return None
            if claimed is not root:
                return self.serve(size, zero)  # it was reset meanwhile
            address = lot.base + start
        self.served_blocks += 1
        self.served_bytes += size
        block = memory.Block(spare.append, address)
        block.address = address
        block.length = length
        block.root = root
        return block


NumpyHandler.__module__ = "scopedbump"
