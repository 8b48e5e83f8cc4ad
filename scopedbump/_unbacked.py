"""Unbacked: the chunk of a region that was not asked for memory yet. It has none, and ends without a trace."""

from __future__ import annotations

from . import _views
from ._atomic import critical
from ._chunk import ENDED, UNBACKED, Chunk
from ._lifetime import Exporter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ._reservation import Reservation
    from ._tenure import Holder


class Unbacked(Chunk):
    """What the regions have that were not asked for memory yet, all those of a kind the same. It never changes.

    Attributes:
        back: makes a chunk with memory for such a region.
        over: what such a region has when it ends.
    """

    __slots__ = ("back", "over")

    back: Callable[[Any], Chunk]
    over: Chunk

    def __init__(self, nowhere: Reservation, back: Callable[[Any], Chunk]) -> None:
        super().__init__(nowhere, Exporter(0, 0, None), None)
        self.over = Chunk(nowhere, Exporter(0, 0, None), None)
        self.back = back
        for chunk, state in ((self, UNBACKED), (self.over, ENDED)):
            chunk.state = state
            chunk.view = chunk.exporter = None
            chunk.views = _views.ended

    @critical
    def replace(self, holder: Holder, new: Chunk) -> bool:
        """The region goes on with another chunk, unless somebody was faster."""
        if holder._chunk is not self:
            return False
        holder._chunk = new
        return True
