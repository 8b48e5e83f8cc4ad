"""A slab of plain blocks, as `Region.slab` gives it."""

from __future__ import annotations

from . import _views
from ._atomic import free_threaded
from ._layout import round_up
from ._slab import batches

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from ._chunk import Chunk
    from ._region import Region


def block_slab(region: Region, size: int, align: int) -> Iterator[memoryview]:
    """As `Region.slab`."""
    stride = round_up(size, align)
    made: list[slice[int, int, None]] = []  # kept: to build a slice takes as long as to use it

    def make(chunk: Chunk, view: memoryview, starts: range) -> list[memoryview]:
        nonlocal made
        if free_threaded:
            blocks = [_views.cut(view, start, start + size) for start in starts]
        else:
            batch = view[starts.start : starts[-1] + size]
            cuts = made
            if len(cuts) != len(starts):
                made = cuts = [slice(at, at + size) for at in range(0, len(starts) * stride, stride)]
            blocks = [batch[cut] for cut in cuts]
        chunk.track(blocks)
        if chunk.view is not view:  # closed or reset meanwhile: the revocation may not have seen them
            for block in blocks:
                block.release()
        return blocks

    return batches(region, size, align, make)
