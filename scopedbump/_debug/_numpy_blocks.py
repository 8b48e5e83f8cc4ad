"""Blocks of NumPy's handler in a debug region: none is used again, and what NumPy gave back is guarded.

It counts as free all the same: as many bytes as came back are handed out again, at other addresses, before the cursor
of the region moves.
"""

from __future__ import annotations

from .._adapters._numpy_blocks import ALIGN, FreeBlocks, Span, Taker
from .._errors import ScopedBumpError
from .._layout import round_up
from .._memory import Blocks
from ._chunk import DebugChunk


class DebugFreeBlocks(FreeBlocks):
    """The blocks that came back. That they did is noted in C, so they are guarded when the next one is taken."""

    __slots__ = ("_spare",)

    def __init__(self, blocks: Blocks) -> None:
        super().__init__(blocks)
        self._spare = 0  # bytes that the cursor moved for and nobody uses

    def take(self, size: int, taker: Taker, zero: bool) -> bool | None:
        """A block of `size` bytes that nobody had before."""
        self._end_freed()
        counted = round_up(size, ALIGN)
        if counted <= self._spare and (address := self._debug_chunk().take_apart(size, ALIGN, zero)):
            self._spare -= counted
        else:
            try:
                taken = self.blocks.take(size or 1, ALIGN, zero)
            except ScopedBumpError:  # full, or ended meanwhile
                return None
            if taken is None:
                return None
            address = taken[0]
        taker.span = Span(address, address + size)
        return False

    def settle(self) -> None:
        """Guard what came back, and put the cursor back over what is free at the end of it."""
        self._end_freed()
        self._spare -= self._debug_chunk().take_back_freed(self._spare)

    def _debug_chunk(self) -> DebugChunk:
        chunk = self.blocks._chunk
        assert isinstance(chunk, DebugChunk)
        return chunk

    def _end(self) -> None:
        """The end of the region."""
        self._end_freed()

    def _end_freed(self) -> None:
        freed = self.freed
        while freed:
            try:
                span = freed.pop()
            except IndexError:  # another thread was faster
                return
            self._spare += round_up(span.stop - span.start, ALIGN)
            self.blocks.end_block(span.start)
