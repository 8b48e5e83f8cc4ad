"""Memory: a region as the adapters see it. Bytes for an object, taken back when it could not be made, and no more.

An initializer is only known to be wrong when it has been tried on the object. So whoever takes bytes is told where the
cursor was, and `rewind` puts it there again unless somebody else has allocated since.
"""

from __future__ import annotations

from ._atomic import fast_path
from ._chunk import OPEN, UNBACKED
from ._errors import RegionClosedError, ScopedBumpError
from ._holding import holding_pointer
from ._layout import PAGE, WINDOW
from ._slab import batches

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import TypeVar

    from _cffi_backend import CData
    from typing_extensions import Buffer

    from ._chunk import Chunk
    from ._region import Region

    T = TypeVar("T")


class Memory:
    """The bytes of one region."""

    __slots__ = ("_region",)

    def __init__(self, region: Region) -> None:
        self._region = region

    @fast_path
    def alloc_raw(self, size: int, align: int) -> tuple[memoryview, int, int, int]:
        """Take zeroed bytes: (view, start, mark, address).

        They are view[start:start + size], begin at the absolute `address`, and the cursor was at `mark`. What is made
        of them must hold the view, or a view of it: that is what pins.
        """
        chunk = self._region._chunk
        mark = chunk.cursor
        start = mark + align - 1 & -align
        stop = start + size
        if start < stop < chunk.limit and align <= PAGE:
            chunk.cursor = stop
            return chunk.view, start, mark, chunk.reservation.address + start  # type: ignore[return-value]  # not None
        return self.alloc_slowly(size, align, True)

    @fast_path
    def make(self, make: Callable[[memoryview, int], T], size: int, less: int) -> T:
        """What `make(view, start)` makes of that many zeroed bytes, 1 or more, whose alignment, less one, is `less`.

        The same as `alloc_raw`, in one call less, for alignments up to that of a page.
        """
        chunk = self._region._chunk
        start = chunk.cursor
        if start & less:
            start = (start | less) + 1
        stop = start + size
        if stop < chunk.limit:
            chunk.cursor = stop
            return make(chunk.view, start)  # type: ignore[arg-type]  # not None
        return make(*self.alloc_slowly(size, less + 1, True)[:2])

    def alloc_slowly(self, size: int, align: int, zero: bool) -> tuple[memoryview, int, int, int]:
        """The same for whatever may not fit the fast path; `zero=False` leaves what was there."""
        chunk, view, start, mark = self._region._alloc_raw(size, align, zero)
        return view, start, mark, chunk.reservation.address + start

    def rewind(self, view: memoryview, mark: int, stop: int) -> None:
        """Take back bytes that nothing points into: the cursor is at `mark` again, unless others allocated since."""
        self._region._chunk.rewind(view, mark, stop)

    def bumper(self, align: int) -> Bumper:
        """What takes bytes of this alignment for one user at a time, as long as the region is not reset."""
        while True:
            chunk = self._open_chunk()
            view = chunk.view
            if view is not None:
                return Bumper(self, chunk, view, holding_pointer(view, chunk.reservation.address), align)

    def blocks(self, former: Blocks | None) -> Blocks | None:
        """Raw blocks of what the region bumps in now; None when nothing can be allocated.

        Args:
            former: what this gave the last time: the same is given until the region is reset.
        """
        chunk = self._region._chunk
        if chunk.state != OPEN:
            return None
        return former if former is not None and former.is_of(chunk) else Blocks(chunk, self._region.name)

    def why_not(self) -> ScopedBumpError | None:
        """Why nothing can be allocated; None when it can."""
        try:
            self._open_chunk()
        except ScopedBumpError as why:
            return why.with_traceback(None)
        return None

    def batches(self, size: int, align: int, make: Callable[[memoryview, int, range], list[T]]) -> Iterator[T]:
        """The endless iterator over what `make(view, address, starts)` makes: the view begins at that address."""
        return batches(
            self._region, size, align, lambda chunk, view, starts: make(view, chunk.reservation.address, starts)
        )

    def at_end(self, key: int, let_go: Callable[[], None]) -> None:
        """Call `let_go` when the region ends or is reset."""
        self._open_chunk().at_end(key, let_go)

    def current_view(self) -> memoryview | None:
        """What bytes are cut from at present; None when nothing can be allocated."""
        chunk = self._region._chunk
        if chunk.state == UNBACKED:
            try:
                chunk = self._open_chunk()
            except ScopedBumpError:
                return None
        return chunk.view if chunk.state == OPEN else None

    def address(self, view: Buffer) -> int:
        """As `Region.address`."""
        return self._region.address(view)

    def check(self, view: Buffer) -> None:
        """Raise what `address` does for a buffer that does not lie in the region."""
        root = self._region._chunk.view
        if root is None or type(view) is not memoryview or view.obj is not root.obj:
            self._region.address(view)

    def surrounds(self, address: int) -> bool:
        """Whether an address lies in this region or one around it: they keep it as long as anything points in here."""
        reservation = self._region._chunk.reservation
        return reservation.address <= address < reservation.address + reservation.extent

    def _open_chunk(self) -> Chunk:
        return self._region._open_chunk()

    def __repr__(self) -> str:
        return repr(self._region)


class Bumper:
    """Takes bytes as an allocator of cffi does: `alloc(size)` is a pointer to them, which keeps the memory.

    Attributes:
        view: what they are cut from.
        mark, stop: where the cursor was before the last call, and after it; 0 when nothing was taken.
    """

    __slots__ = ("_align", "_chunk", "_gap", "_mask", "_memory", "_start", "mark", "stop", "view")

    mark: int
    stop: int
    view: memoryview

    def __init__(self, memory: Memory, chunk: Chunk, view: memoryview, start: CData, align: int) -> None:
        self._memory = memory
        self._chunk = chunk
        self._align = align
        self._gap = align - 1
        self._mask = -align
        self.view = view
        self._start = start
        self.mark = self.stop = 0

    @fast_path
    def alloc(self, size: int) -> CData:
        """Take `size` zeroed bytes."""
        chunk = self._chunk
        mark = chunk.cursor
        start = mark + self._gap & self._mask
        stop = start + size
        if start < stop < chunk.limit and self._gap < PAGE:
            chunk.cursor = stop
            self.mark = mark
            self.stop = stop
            return self._start + start
        view, start, mark, _ = self._memory.alloc_slowly(size, self._align, True)
        if view is not self.view:
            raise RegionClosedError(f"{self._memory!r} was reset meanwhile")
        self.mark = mark
        self.stop = start + size
        return self._start + start

    def another(self, align: int) -> Bumper:
        """One for the same memory."""
        return Bumper(self._memory, self._chunk, self.view, self._start, align)

    def pointer(self, address: int, size: int) -> CData | None:
        """A pointer to bytes that somebody has already, which keeps the memory; None when they lie somewhere else."""
        chunk = self._chunk
        start = address - chunk.reservation.address
        if (chunk.start if size else 0) <= start and start + size <= chunk.reservation.extent:
            return self._start + start
        return None

    def rewind(self) -> None:
        """Take back what was taken last."""
        if self.stop:
            self._chunk.rewind(self.view, self.mark, self.stop)


class Blocks:
    """Raw blocks, for an allocator that hands them out again: as long as the region is not reset.

    Addresses are absolute. Whoever works on a block holds the view: that pins.
    """

    __slots__ = ("_chunk", "_name")

    def __init__(self, chunk: Chunk, name: str) -> None:
        self._chunk = chunk
        self._name = name

    @property
    def debug(self) -> bool:
        """Whether they are those of a debug region."""
        return self._chunk.debug

    def lend(self, address: int) -> None:
        """In a debug region: note that this block is a C library's, which should free it."""
        self._chunk.lend(address)

    def end_block(self, address: int, moved_to: int = 0, repeated: bool = False) -> None:
        """In a debug region: this block was given back, or has moved. Repeated is what an exception interrupted."""
        self._chunk.end_block(address, moved_to, repeated)

    def moved_to(self, address: int) -> int:
        """In a debug region: where this block has moved to; 0 when it is where it was."""
        return self._chunk.moved_to(address)

    def is_of(self, chunk: Chunk) -> bool:
        """Whether they come from this chunk."""
        return self._chunk is chunk

    def view(self) -> memoryview | None:
        """What keeps the memory; None when nothing can be allocated here: the region has ended, or a scope is open."""
        chunk = self._chunk
        return None if chunk.state else chunk.view

    def take(self, size: int, align: int, zero: bool) -> tuple[int, int] | None:
        """Take a block: where it starts, and where the cursor was. None when nothing can be allocated here.

        Raises:
            RegionFullError, CommitError: there is no room for it.
        """
        chunk = self._chunk
        while (taken := chunk.bump(size, align)) is None:
            if chunk.state != OPEN:
                return None
            chunk.make_room(size, align, self._name)
        view, start, mark, zeroed = taken
        if zero and zeroed < start + size:
            chunk.clear(view, max(start, zeroed), start + size)
        elif zeroed < 0:
            chunk.spoil(view, start, start + size)
        if size <= WINDOW:
            chunk.prepare()
        address = chunk.reservation.address
        return address + start, address + mark

    def covers(self, address: int) -> bool:
        """Whether a block that was taken may begin there."""
        chunk = self._chunk
        start = chunk.reservation.address
        return start + chunk.start <= address < start + chunk.reservation.extent

    def readable(self, address: int, stop: int) -> int:
        """Up to where memory can be read, from a block on and up to one that lies behind it."""
        base = self._chunk.reservation.address
        return base + self._chunk.readable(address - base, stop - base)

    def reaches_cursor(self, stop: int) -> bool:
        """Whether a block that ends there was the last that was taken."""
        chunk = self._chunk
        return chunk.reservation.address + chunk.cursor == stop

    def take_back(self, view: memoryview, mark: int, stop: int) -> bool:
        """Put the cursor back from `stop` to `mark`: nobody uses what lies between. Whether it was at `stop`."""
        chunk = self._chunk
        address = chunk.reservation.address
        return chunk.take_back(view, mark - address, stop - address, stop - address - chunk.holes())

    def at_end(self, let_go: Callable[[], None]) -> None:
        """Call `let_go` when the region ends or is reset, while the memory is still there."""
        self._chunk.at_end(id(let_go), let_go)

    def discard(self, free: Iterable[tuple[int, int]]) -> None:
        """After the end: give back the pages between these addresses, and those that nobody has taken.

        What points in keeps the rest of them, and no more.
        """
        chunk = self._chunk
        reservation = chunk.reservation
        for start, stop in free:
            reservation.discard(start - reservation.address, stop - reservation.address)
        if chunk.outer is None:  # a scope's are its region's again
            reservation.discard(chunk.cursor, reservation.committed)
