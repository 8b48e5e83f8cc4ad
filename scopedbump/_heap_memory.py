"""The heap as the adapters see it: for each object a block of its own, which goes with the last that refers to it.

A block is as long as the object, unless that wants a larger alignment than the heap gives. So tools that watch the heap
(`PYTHONMALLOC=malloc` with Valgrind or a sanitizer) see who writes behind it, as they do with any memory of C.
"""

from __future__ import annotations

from itertools import chain, repeat

from ._lifetime import ADDRESS, ffi

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import TypeVar

    from typing_extensions import Buffer

    T = TypeVar("T")

_BYTES = ffi.typeof("char[]")


class HeapMemory:
    """What `Memory` is for a region, without one: there is no cursor, and nothing ends."""

    __slots__ = ()

    def alloc_raw(self, size: int, align: int) -> tuple[memoryview, int, int, int]:
        """Take zeroed bytes: (view, start, 0, address), as `Memory.alloc_raw`. An empty block has an address, too."""
        block = ffi.new(_BYTES, size or 1)
        address = int(ffi.cast(ADDRESS, block))
        if address & align - 1:
            block = ffi.new(_BYTES, size + align)
            address = int(ffi.cast(ADDRESS, block))
        start = -address & align - 1
        return memoryview(ffi.buffer(block)), start, 0, address + start

    def make(self, make: Callable[[memoryview, int], T], size: int, less: int) -> T:
        """As `Memory.make`."""
        view, start, _, _ = self.alloc_raw(size, less + 1)
        return make(view, start)

    def rewind(self, view: memoryview, mark: int, stop: int) -> None:
        """Do nothing: the block goes by itself."""

    def batches(self, size: int, align: int, make: Callable[[memoryview, int, range], list[T]]) -> Iterator[T]:
        """As `Memory.batches`, in batches of one."""

        def more(again: None) -> list[T]:
            view, start, _, address = self.alloc_raw(size, align)
            return make(view, address - start, range(start, start + 1))

        return chain.from_iterable(map(more, repeat(None)))

    def address(self, view: Buffer) -> int:
        """Where a buffer lies. Any will do: whatever points there keeps it.

        Raises:
            TypeError: view has no buffer, or one that is not contiguous.
        """
        try:
            return int(ffi.cast(ADDRESS, ffi.from_buffer(view)))
        except (TypeError, BufferError) as refusal:
            raise TypeError(f"a contiguous buffer is needed, not {view!r}: {refusal}") from None

    def check(self, view: Buffer) -> None:
        """As `Memory.check`."""
        self.address(view)

    def surrounds(self, address: int) -> bool:
        """Whether a pointer may lead there: anywhere, for it keeps what it leads to."""
        return address != 0

    def __repr__(self) -> str:
        return "heap"
