"""Region: what a user holds. It hands out memory of its chunk, nests, begins again and ends.

The rules (numbers are those of the promises in the README):

- `alloc` is one comparison and one store; what does not fit that goes the slow way, which ends in the same bump (1).
- Ending a region gives nothing back by itself: the chunk revokes its views and lets go of its memory, which goes with
  the last that refers to it. That is here and now when nothing points in (3, 4).
- A reset puts another chunk in the place of the old one: see `_restart`.
- When an exception of a signal handler interrupts an end, that is brought to its end before it goes on. When even this
  fails (no stack is left), the region counts as closed, and goes with its object (5).
- While a scope is open its parent's chunk is suspended. It goes on where it was, or behind the scope when something
  escaped (11).
"""

from __future__ import annotations

from _warnings import warn
from _weakref import ref

from . import _hints as hints
from . import _views
from ._addresses import address_in, lies_in
from ._atomic import fast_path
from ._bytecode import try_from_entry
from ._checks import checked_align, checked_escape, checked_int
from ._chunk import ENDED, OPEN, RESETTING, SUSPENDED, UNBACKED, Chunk
from ._content import ITEM_SIZES, alloc_array, cast, copy_buffer
from ._errors import RegionBusyError, RegionClosedError
from ._escape import tell_of_escape
from ._layout import ALIGN, PAGE, WINDOW, round_up
from ._lifetime import still_there
from ._restart import restart
from ._slab_of_blocks import block_slab
from ._unbacked import Unbacked

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any, Literal, overload

    from ._options import Options


@hints.final
class Region:
    """Scratch memory: allocates by moving a cursor and gives everything back at its end.

    Made by `bump_region()`, `RegionPool.region()` and `Region.scope()`. A context manager: the end of the block
    closes it.

        with bump_region() as a:
            view = a.alloc(100)  # a memoryview

        to allocate   alloc, copy, array, slab, writer (free does nothing)
        for C         ctypes, cffi(ffi); for NumPy: numpy
        to use again  scope, reset
        to end        close, or the end of the block
        to ask        report(); name, size, used, available, committed, peak, closed, released; address(view)
        as_current    makes it what current_region() returns

    Thread safety: any thread may allocate at any moment. Scopes, `reset` and `close` belong to one thread;
    called while others allocate they are safe, and what others then get is an error or a valid block.
    """

    __slots__ = ("__weakref__", "_adapters", "_chunk", "_options", "_parent")
    __signature__: object = hints.NOT_CALLED

    _adapters: dict[object, Any] | None
    _chunk: Chunk
    _options: Options
    _parent: Region | None

    def __init__(self, *arguments: object, **options: object) -> None:
        """Not to be called: a region is made by bump_region(), RegionPool.region() or Region.scope()."""
        raise TypeError("a Region is made by bump_region(), RegionPool.region() or Region.scope()")

    # -- allocating

    @fast_path
    def alloc(self, size: int, align: int = 16, *, zero: bool = True) -> memoryview:
        """Allocate a block.

        Args:
            size: bytes, 0 or more.
            align: what the block's absolute address is a multiple of, in bytes: a power of two. Above 4,096 it takes a
                microsecond.
            zero: False skips clearing memory that was used before; the content is then whatever was there. What was
                never written is zero, and is not touched to make it so (where the system can tell: Linux 6.7).

        Returns:
            A writable memoryview of `size` bytes, format "B", zeroed unless `zero` is False.

        Raises:
            TypeError, ValueError: size or align is not of that kind.
            RegionFullError: it does not fit; the cursor has not moved.
            RegionBusyError: a scope is open in this region.
            RegionClosedError: the region is closed.
            CommitError: the operating system refused the memory.

        Lifetime:
            Revoked when the region closes or is reset: using it then raises ValueError. What was made from it (a
            slice, an ndarray, a ctypes object) keeps the region's memory instead. Raw is what a consumer keeps after it
            gave the buffer back (`torch.frombuffer`, pyzmq's `send(copy=False)`): hand it a slice, `view[:]`.
            `view.obj` spans the whole region: reading it beyond what is in use faults.
        """
        chunk = self._chunk
        if type(size) is int:
            if align is ALIGN:
                start = chunk.cursor
                if start & 15:
                    start += 16 - (start & 15)
            elif type(align) is int and 0 < align <= PAGE and not align & align - 1:
                start = chunk.cursor + align - 1 & -align  # the last call lies before this
            else:
                return self._alloc(size, align, zero)
            stop = start + size
            if start <= stop < chunk.limit:
                chunk.cursor = stop
                view: memoryview = chunk.view[start:stop]  # type: ignore[index]  # not None: the limit was not -1
                chunk.views.append(view)  # pyright: ignore[reportUnknownArgumentType]  # for the same reason
                return view  # pyright: ignore[reportUnknownVariableType]
        return self._alloc(size, align, zero)

    def _alloc(self, size: int, align: int, zero: bool) -> memoryview:
        size = checked_int(size, "size", 0)
        align = checked_align(align)
        while True:
            chunk, view, start, _ = self._alloc_raw(size, align, zero)
            block = _views.cut(view, start, start + size)
            chunk.track((block,))
            if chunk.view is view:
                return block
            # Closed or reset by another thread: the next round says which.
            block.release()

    def _alloc_raw(self, size: int, align: int, zero: bool = True, /) -> tuple[Chunk, memoryview, int, int]:
        """Take bytes: (chunk, view, start, mark), they are view[start:start + size], and the cursor was at `mark`.

        They are committed, aligned, zero unless `zero` is False, and the caller's alone. Whatever is made of them must
        refer to the view, or to a view of it.
        """
        while True:
            chunk = self._chunk
            taken = chunk.bump(size, align)
            if taken is not None:
                view, start, mark, zeroed = taken
                if zero and zeroed < start + size:
                    chunk.clear(view, max(zeroed, start), start + size)
                elif zeroed < 0:
                    chunk.spoil(view, start, start + size)
                if size <= WINDOW:  # behind a large block most often comes another one, or nothing
                    chunk.prepare()
                return chunk, view, start, mark
            if chunk.state == UNBACKED:
                self._back(chunk)
            else:
                self._open_chunk().make_room(size, align, self.name)

    def _open_chunk(self) -> Chunk:
        """The chunk, or the error that says why nothing can be allocated."""
        while True:
            chunk = self._chunk
            state = chunk.state
            if state == OPEN:
                return chunk
            if state == ENDED:
                if chunk is not self._chunk:
                    continue  # reset by another thread
                raise self._closed_error()
            if state == UNBACKED:
                self._back(chunk)
                continue
            inner = chunk.inner
            if inner is not None and (inner.state == ENDED or inner.region() is None):
                inner.stop(ENDED)  # it is at its end, or was lost: its own end, or its finalizer, may be interrupted
                inner.let_go(self._options.wipe)
                continue
            what = "in use by an open scope" if state == SUSPENDED else "being reset"
            raise RegionBusyError(f"{self!r} is {what}: allocate from the scope, or end it first")

    def _back(self, chunk: Chunk) -> None:
        """Take memory, now that somebody asks for it."""
        assert isinstance(chunk, Unbacked)
        new = chunk.back(self)
        if not chunk.replace(self, new):  # another thread has ended it, or was faster
            new.stop(ENDED)
            new.let_go(False)

    def _closed_error(self) -> RegionClosedError:
        return RegionClosedError(f"{self!r} has ended: what is needed longer belongs into a region that lives longer")

    def copy(self, data: hints.Buffer, align: int = 16) -> memoryview:
        """Allocate a block and copy `data` into it.

        Args:
            data: any object with the buffer protocol; not contiguous memory is copied in C order.
            align: as for `alloc`.

        Returns:
            A writable memoryview of the bytes, format "B".

        Raises:
            TypeError: data has no buffer.
            As `alloc`.
        """
        if type(data) is bytes or type(data) is bytearray:
            view = self.alloc(len(data), align, zero=False)
            try:
                view[:] = data
            except ValueError:  # revoked meanwhile: the next try says whether by a close or a reset
                return self.copy(data, align)
            return view
        return copy_buffer(self, data, align)

    if TYPE_CHECKING:

        @overload
        def array(self, typecode: Literal["f", "d"], values: int | Iterable[float], /) -> memoryview[float]: ...
        @overload
        def array(
            self,
            typecode: Literal["b", "B", "h", "H", "i", "I", "l", "L", "q", "Q"],
            values: int | Iterable[int],
            /,
        ) -> memoryview[int]: ...

    @fast_path
    def array(self, typecode: str, values: int | hints.Iterable[float], /) -> hints.View:
        """Allocate an array of numbers.

        Args:
            typecode: the type of an item, as for `array.array`: "b", "B", "h", "H", "i", "I", "l", "L", "q", "Q", "f"
                or "d".
            values: how many items, all zero; or the items, as `array.array` takes them (bytes are its machine values).

        Returns:
            A writable memoryview of that format, with an item for each value.

        Raises:
            TypeError, ValueError, OverflowError: typecode is none of these, or values are no such items.
            As `alloc`.

        Lifetime:
            As for `alloc`: it is revoked when the region closes or is reset.
        """
        chunk = self._chunk
        if type(values) is int and type(typecode) is str and typecode in ITEM_SIZES:
            start = chunk.cursor + 15 & -16
            stop = start + values * ITEM_SIZES[typecode]
            if start <= stop < chunk.limit:
                chunk.cursor = stop
                block: memoryview[Any] = cast(chunk.view[start:stop], typecode)  # type: ignore[index]  # as in `alloc`
                chunk.views.append(block)
                return block
        return alloc_array(self, typecode, values)

    def free(self, block: object) -> None:
        """Do nothing: a region frees everything at its end. For code written against an allocator with `free`."""

    def slab(self, size: int, align: int = 16) -> hints.Iterator[memoryview]:
        """An endless iterator of equal blocks, the fastest way to make many.

        Blocks are made in batches (8, 16 ... 256 of them), so the cursor runs ahead of what was taken.

        Args:
            size: bytes of each block, 1 or more.
            align: as for `alloc`, for each block.

        Raises:
            As `alloc`; also when the next batch is made. An error ends the iterator.

        Lifetime:
            As for `alloc`: all are revoked at the close or reset, and the iterator then raises RegionClosedError.

        Thread safety:
            Threads may share an iterator: no block is handed out twice, some may be left out.
        """
        return block_slab(self, checked_int(size, "size", 1), checked_align(align))

    def writer(self, limit: int | None = None, *, align: int = 16) -> hints.Writer:
        """A block that grows as it is written, in place: a file in memory, as `io.BytesIO`.

        For content whose size nobody knows beforehand. It takes address space ahead, and RAM as it is filled.

        Args:
            limit: bytes that it may grow to. None: half of what is left.
            align: as for `alloc`.

        Raises:
            As `alloc`, for `limit` bytes.

        Lifetime:
            It ends with `finish()`, the end of its `with`, or `close()`; what it did not fill is then there for others
            again. Its block, and every view of it, is revoked when the region closes or is reset, as those of `alloc`.
        """
        from ._writer import open_writer

        return open_writer(self, limit, align)

    # -- nesting and beginning again

    def scope(self, *, escape: hints.Escape | None = None) -> Region:
        """A region inside this one, whose memory is taken again when it ends.

        Until then this region refuses to allocate (RegionBusyError).

        Args:
            escape: as for `bump_region`; None takes this region's.

        Raises:
            RegionBusyError: a scope is open already: open the next one inside that.
            RegionClosedError: the region is closed.

        Lifetime:
            What still points into a scope at its end keeps its bytes: this region then goes on behind them. On PyPy,
            which has no reference counts, a scope gives nothing back before the region itself ends.
        """
        options = self._options
        if escape is not None:
            options = options.with_escape(checked_escape(escape))
        while True:
            chunk = self._open_chunk()
            cursor = chunk.cursor
            inner = chunk.rest(cursor)
            if inner is None:
                continue  # a close or reset came in between; the next round says which
            scope = new_region(inner, options, self)
            inner.region = ref(scope)
            if chunk.suspend(inner, cursor):
                inner.prepare()  # now that nobody else can come to these bytes
                return scope
            scope.close()

    def reset(self) -> None:
        """Revoke every view and begin again at the start, on pages that are warm.

        With an escape alive (on PyPy: always) the region moves to a fresh reservation, and the old one goes with the
        escape; a scope then stays where it is and goes on behind the escape.

        Raises:
            RegionBusyError: a scope is open in this region.
            RegionClosedError: the region is closed.
            ReserveError, MemoryError: there was no fresh reservation to be had, or no memory for it. The views are
                revoked, the region goes on behind what was used.
        """
        if self._chunk.state != UNBACKED:  # else nothing was used
            restart(self, self._options)

    def as_current(self) -> hints.Current:
        """A `with` block in which `current_region()` is this region. It does not close the region.

        Raises:
            RegionClosedError: the region has ended.
        """
        if self.closed:
            raise self._closed_error()
        from ._current import Current

        return Current(self)

    # -- the end

    def close(self) -> None:
        """End the region: revoke its views and give its memory back, or leave it to what still points in.

        Scopes that are open inside end first. Closing again does nothing.

        Raises:
            EscapeError: with escape="raise", when something still points in. The region is closed all the same.
        """
        self._end(self._options.escape)

    def __enter__(self) -> hints.Self:
        if self._chunk.state == ENDED and self.closed:
            raise self._closed_error()
        return self

    @try_from_entry
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: hints.TracebackType | None,
    ) -> None:
        try:
            # An exception on its way is never replaced, and its traceback is full of escapes.
            self._end(self._options.escape if kind is None else "keep", told=kind is None)
        except RecursionError:
            if kind is None or not issubclass(kind, Exception):
                raise
        except BaseException:  # of a signal handler, which may have come before the first line
            self._end("keep", told=False)
            raise

    def __del__(self) -> None:
        try:
            chunk = self._chunk
        except AttributeError:  # interrupted when it was made
            return
        if chunk.state == UNBACKED or (chunk.state == ENDED and chunk.tenure is None):
            return
        try:
            if chunk.state != ENDED and not (self._options.ends_with_response and self._parent is None):
                warn(f"{self!r} was lost without being closed", ResourceWarning, stacklevel=1, source=self)
        finally:
            self._end("keep", told=False)

    def _end(self, escape: hints.Escape, told: bool = True) -> None:
        chunk = self._chunk
        if chunk.state == UNBACKED:
            if chunk.replace(self, chunk.over):  # type: ignore[attr-defined]  # no other is in this state
                self._adapters = None
                return
            chunk = self._chunk
        wipe = self._options.wipe
        try:
            mine = chunk.stop(ENDED)
            while chunk is not self._chunk:  # a reset has put another one in its place
                chunk = self._chunk
                mine = chunk.stop(ENDED)
            if not mine and chunk.tenure is None:
                return
            chunk.let_go(wipe)
        except BaseException:  # of a signal handler: what was begun is brought to its end
            chunk.stop(ENDED)
            chunk.let_go(wipe)
            raise
        self._adapters = None
        if mine and self._options.debug:
            chunk.tell_of_end(self, escape, told)
        elif mine and escape != "keep" and chunk.escaped and still_there(chunk.kept):
            tell_of_escape(self, escape)

    def __reduce__(self) -> hints.NoReturn:
        raise TypeError(
            f"{self!r} can't be copied or pickled: its memory is in this process, once. "
            "Send its pool, which is each process's own there, and bytes(view) of what is in it"
        )

    # -- adapters, made on first use

    @property
    def ctypes(self) -> hints.CtypesAllocator:
        """Makes ctypes objects in this region."""
        made: hints.CtypesAllocator = self._adapter("ctypes", "CtypesAllocator")
        return made

    @property
    def numpy(self) -> hints.NumpyAllocator:
        """Makes ndarrays in this region, and is NumPy's own allocator where asked for."""
        made: hints.NumpyAllocator = self._adapter("numpy", "NumpyAllocator")
        return made

    def cffi(self, ffi: hints.FFI) -> hints.CffiAllocator:
        """Makes cffi objects of `ffi`'s types in this region."""
        made: hints.CffiAllocator = self._adapter(ffi, "CffiAllocator", ffi)
        return made

    # -- what can be asked

    @property
    def name(self) -> str:
        """Shown in `repr` and in errors."""
        return self._options.name

    @property
    def size(self) -> int:
        """Bytes of address space in this region."""
        chunk = self._chunk
        return chunk.reservation.size - chunk.start

    @property
    def used(self) -> int:
        """Bytes handed out, the gaps of alignment included; 0 after the end. Of a writer counts what it filled."""
        chunk = self._chunk
        return 0 if self.closed else chunk.cursor - chunk.holes() - chunk.start

    @property
    def available(self) -> int:
        """Bytes left, for a block of the default alignment; 0 after the end. The room of writers is not among them."""
        chunk = self._chunk
        return 0 if self.closed else max(chunk.reservation.size - round_up(chunk.cursor, ALIGN), 0)

    @property
    def committed(self) -> int:
        """Bytes of this region that the operating system has made usable; 0 after the end."""
        chunk = self._chunk
        return 0 if self.closed else chunk.reservation.usable(chunk.start)

    @property
    def peak(self) -> int:
        """The most bytes that were in use at a time, scopes included; it survives `reset` and the end."""
        chunk = self._chunk
        return max(chunk.peak - chunk.start, self.used)

    @property
    def closed(self) -> bool:
        """Whether the region has ended."""
        chunk = self._chunk
        return chunk.state == ENDED and chunk is self._chunk

    @property
    def released(self) -> bool:
        """Whether the memory is gone: unmapped, back in its pool, or (a scope's) back in the region around it."""
        chunk = self._chunk
        return self.closed and chunk.tenure is None and (chunk.kept is None or chunk.kept() is None)

    def address(self, view: hints.Buffer) -> int:
        """The raw address of a view's first byte: nothing keeps it valid after the region.

        Args:
            view: a buffer that lies in this region.

        Raises:
            TypeError: view has no buffer, or one that is not contiguous.
            ValueError: it does not lie in this region, or is revoked.
            RegionClosedError: the region is closed.
        """
        if self.closed:
            raise self._closed_error()
        return address_in(self._chunk, view, self)

    def __contains__(self, item: hints.Buffer | int) -> bool:
        """Whether a buffer or an absolute address lies in this region; nothing lies in a closed one."""
        if self.closed:
            return False
        return lies_in(self._chunk, item)

    def report(self) -> str:
        """What is in this region, in words: totals, and of a debug region a table of its blocks by place."""
        from ._report import report

        return report(self, self._chunk)

    def _repr_html_(self) -> str:
        """For notebooks."""
        from ._report import html

        return html(self, self._chunk)

    def __repr__(self) -> str:
        state = self._chunk.state
        if not self.closed:
            words = "open" if state in (OPEN, UNBACKED) else "resetting" if state == RESETTING else "a scope is open"
        else:
            over = self._chunk.tenure is not None or self.released
            words = "closed" if over else "closed, memory kept by what still points in"
        name = f" {self.name!r}" if self.name else ""
        return f"<scopedbump.Region{name}: {self.used} of {self.size} bytes used, peak {self.peak}, {words}>"

    # -- for the package

    def _adapter(self, key: object, kind: str, *arguments: object) -> Any:
        """The adapter of this kind, made on first use. A closed region keeps none: it would never break the cycle."""
        made = None if self._adapters is None else self._adapters.get(key)
        if made is None:
            made = getattr(hints, kind)(hints.Memory(self), *arguments)
            if not self.closed:
                self._adapters = {**(self._adapters or {}), key: made}
        return made


_new = object.__new__


def new_region(chunk: Chunk, options: Options, parent: Region | None = None) -> Region:
    """A region on a chunk. Not its `__init__`: that a user has no use for it is what `help` and errors should say."""
    region = _new(Region)
    region._options = options
    region._parent = parent
    region._adapters = None
    region._chunk = chunk  # last: with it the region can be ended
    return region


Region.__module__ = "scopedbump"
