"""What stands behind a slab's iterator: it carves the next chunk of a region when the last one is used up.

The iterator itself is `chain.from_iterable`, in C. It drops its source at the first error, even while another thread,
or the frame that a signal handler interrupted, is still inside that source. A generator would be freed while it runs
and crash the interpreter, so the source is a `map`, which touches nothing of its own after the call. Then several
threads may also share one iterator. Each carves a chunk of its own, the latest is the one that goes on, and what is
left of the others is wasted; no list is filled twice, for an older iterator may still be going along it.
"""

from __future__ import annotations

from itertools import chain, repeat

from scopedbump._errors import RegionClosedError, RegionFullError
from scopedbump._layout import WINDOW, round_up

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Generic, TypeVar

    from scopedbump._bump import Bump

    T = TypeVar("T")

    class _Of(Generic[T]):
        __slots__ = ()

else:
    T = None

    class _Of:
        __slots__ = ()

        def __class_getitem__(cls, _):
            return cls


_FIRST_CHUNK = 8
_MAX_CHUNK = 256  # more objects at once would set off the garbage collector


class _Latest(_Of[T]):
    """The chunk that the consumer iterates over, in C. It is all that the region knows: it empties it."""

    __slots__ = ("chunk",)

    def __init__(self) -> None:
        self.chunk: list[T] = []

    def clear(self) -> None:
        self.chunk.clear()


class _Chunks(_Of[T]):
    """Carves chunk after chunk, until the region takes its key away."""

    __slots__ = ("_align", "_carve", "_count", "_latest", "_most", "_region", "_size", "_stride")

    def __init__(self, region: Bump, size: int, align: int, carve: Callable[[memoryview, range], list[T]]) -> None:
        self._region = region
        self._size = size
        self._align = align
        self._carve = carve
        self._stride = round_up(size, align)
        self._most = max(1, min(_MAX_CHUNK, WINDOW // self._stride))
        self._count = min(_FIRST_CHUNK, self._most)
        self._latest: _Latest[T] = _Latest()
        region._slabs[id(self)] = self._latest.clear
        if region._root is None and region._busy is None:  # closed meanwhile, and maybe before it was entered
            region._slabs.pop(id(self), None)

    def more(self, _: None) -> list[T]:
        region = self._region
        latest = self._latest
        if id(self) in region._slabs:
            latest.clear()
            root, starts = self._claim(region)
            chunk = self._carve(root, starts)
            del root  # a traceback must not pin
            self._count = min(2 * len(starts), self._most)
            other, latest.chunk = latest.chunk, chunk
            other.clear()
            if id(self) in region._slabs:
                return chunk
            chunk.clear()  # a close or reset came in between
        region._opened()
        raise RegionClosedError(f"{region!r} was reset since this slab was made: make a new one")

    def _claim(self, region: Bump) -> tuple[memoryview, range]:
        """The bytes of the next chunk: fewer blocks when no more fit."""
        count = self._count
        stride = self._stride
        while True:
            try:
                root, _, start = region._claim(stride * (count - 1) + self._size, self._align)
            except RegionFullError:
                if count == 1:
                    raise
                count //= 2
            else:
                return root, range(start, start + stride * count, stride)

    def __del__(self) -> None:
        if hasattr(self, "_latest"):
            self._region._slabs.pop(id(self), None)
            self._latest.clear()


def chunks(region: Bump, size: int, align: int, carve: Callable[[memoryview, range], list[T]]) -> Iterator[T]:
    """The endless iterator over what `carve(root, starts)` makes of each chunk."""
    return chain.from_iterable(map(_Chunks(region, size, align, carve).more, repeat(None)))
