"""What stands behind a slab's iterator: it makes the next batch of objects when the last one is used up.

The iterator itself is `chain.from_iterable`, in C. It drops its source at the first error, even while another thread,
or the frame that a signal handler interrupted, is still inside that source. A generator would be freed while it runs
and crash the interpreter, so the source is a `map`, which touches nothing of its own after the call. Then several
threads may also share one iterator. Each makes a batch of its own, the latest is the one that goes on, and what is
left of the others is wasted; no list is filled twice, for an older iterator may still be going along it.

A slab belongs to one chunk, and ends with it. The chunk knows how to empty the batch that was made ahead: objects in
it may pin.
"""

from __future__ import annotations

from itertools import chain, repeat

from ._errors import RegionClosedError, RegionFullError
from ._layout import WINDOW, round_up

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any, Protocol, TypeVar

    from ._chunk import Chunk

    T = TypeVar("T")

    class Source(Protocol):
        """A region."""

        def _open_chunk(self) -> Chunk: ...

        def _alloc_raw(self, size: int, align: int, zero: bool = True, /) -> tuple[Chunk, memoryview, int, int]: ...

    Make = Callable[[Chunk, memoryview, range], list[T]]
    """Makes the objects that start at these places of the view."""


_FIRST_BATCH = 8


class _Latest:
    """The batch that the consumer iterates over, in C. It is all that the chunk knows: it empties it."""

    __slots__ = ("batch",)

    def __init__(self) -> None:
        self.batch: list[Any] = []

    def clear(self) -> None:
        self.batch.clear()


class _Batches:
    """Makes batch after batch, until the chunk has ended."""

    __slots__ = ("_align", "_chunk", "_count", "_latest", "_make", "_most", "_size", "_source", "_stride")

    def __init__(self, source: Source, size: int, align: int, make: Make[Any]) -> None:
        self._source = source
        self._size = size
        self._align = align
        self._make = make
        self._stride = round_up(size, align)
        self._latest = _Latest()
        chunk = self._chunk = source._open_chunk()
        self._most = max(1, min(chunk.max_batch, WINDOW // self._stride))
        self._count = min(_FIRST_BATCH, self._most)
        chunk.at_end(id(self), self._latest.clear)

    def more(self, _: None) -> list[Any]:
        latest = self._latest
        if self._is_open():
            latest.clear()
            view, starts = self._take()
            batch = self._make(self._chunk, view, starts)
            del view  # a traceback must not pin
            self._count = min(2 * len(starts), self._most)
            other, latest.batch = latest.batch, batch
            other.clear()
            if self._is_open():
                return batch
            batch.clear()  # a close or reset came in between
        self._source._open_chunk()
        raise self._ended()

    def _is_open(self) -> bool:
        batches = self._chunk.batches
        return batches is not None and id(self) in batches

    def _ended(self) -> RegionClosedError:
        return RegionClosedError(f"{self._source!r} was reset since this slab was made: make a new one")

    def _take(self) -> tuple[memoryview, range]:
        """The bytes of the next batch: fewer objects when no more fit."""
        count = self._count
        stride = self._stride
        while True:
            try:
                chunk, view, start, _ = self._source._alloc_raw(stride * (count - 1) + self._size, self._align)
            except RegionFullError:
                if count == 1:
                    raise
                count //= 2
            else:
                if chunk is not self._chunk:
                    raise self._ended()
                return view, range(start, start + stride * count, stride)

    def __del__(self) -> None:
        chunk = getattr(self, "_chunk", None)
        if chunk is not None and chunk.batches is not None:
            chunk.batches.pop(id(self), None)
            self._latest.clear()


def batches(source: Source, size: int, align: int, make: Make[T]) -> Iterator[T]:
    """The endless iterator over what `make(chunk, view, starts)` makes of each batch."""
    return chain.from_iterable(map(_Batches(source, size, align, make).more, repeat(None)))
