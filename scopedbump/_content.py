"""Blocks that begin with content: copies of buffers, and arrays of numbers, which are memoryviews with a format."""

from __future__ import annotations

from . import _views
from ._checks import checked_int
from ._layout import ALIGN
from ._lifetime import ffi

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from typing_extensions import Buffer

    from ._region import Region

cast: Callable[[memoryview, str], memoryview[Any]] = memoryview.cast  # type: ignore[assignment]  # wants literals

ITEM_SIZES = {code: cast(memoryview(bytes(8)), code).itemsize for code in "bBhHiIlLqQfd"}
"""Bytes of an item, by its type code."""


def copy_buffer(region: Region, data: Buffer, align: int) -> memoryview:
    """As `Region.copy`, for any buffer."""
    with memoryview(data) as source:
        view = region.alloc(source.nbytes, align, zero=False)
        if source.nbytes:
            content = source if source.c_contiguous else source.tobytes()
            try:
                ffi.memmove(view, content, source.nbytes)
            except ValueError:  # as above
                return region.copy(content, align)
        return view


def alloc_array(region: Region, typecode: str, values: int | Iterable[float]) -> memoryview[Any]:
    """As `Region.array`."""
    if not isinstance(typecode, str):
        raise TypeError(f"typecode must be a str, not {typecode!r}")
    size = ITEM_SIZES.get(typecode)
    if size is None:
        raise ValueError(f"typecode must be one of {', '.join(ITEM_SIZES)}, not {typecode!r}")
    items: Any = None
    if hasattr(type(values), "__index__"):
        size = checked_int(size * checked_int(values, "values", 0), "bytes of values", 0)
    else:
        from array import array

        items = array(typecode, values)  # type: ignore[arg-type]  # it says what is wrong
        size *= len(items)
    while True:
        chunk, view, start, _ = region._alloc_raw(size, ALIGN, items is None)
        block = cast(_views.cut(view, start, start + size), typecode)
        if items:
            block[:] = items
        chunk.track((block,))
        if chunk.view is view:
            return block
        block.release()  # closed or reset by another thread: the next round says which
