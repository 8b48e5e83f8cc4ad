"""Where buffers lie: absolute addresses, and whether they are a region's."""

from __future__ import annotations

from _operator import index

from ._lifetime import ADDRESS, ffi

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing_extensions import Buffer

    from ._chunk import Chunk


def address_in(chunk: Chunk, view: Buffer, region: object) -> int:
    """As `Region.address`."""
    start, stop = _extent(view)
    if not chunk.covers(start, stop):
        raise ValueError(f"{view!r} does not lie in {region!r}")
    return start


def lies_in(chunk: Chunk, item: Buffer | int) -> bool:
    """As `Region.__contains__`."""
    if isinstance(item, int):
        return chunk.covers(index(item), index(item) + 1)
    return chunk.covers(*_extent(item))


def _extent(view: Buffer) -> tuple[int, int]:
    try:
        data = ffi.from_buffer(view)
    except (TypeError, BufferError) as refusal:
        raise TypeError(f"a contiguous buffer is needed, not {view!r}: {refusal}") from None
    start = int(ffi.cast(ADDRESS, data))
    return start, start + len(data)
