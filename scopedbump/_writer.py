"""Writer: a block that grows at its end, in place, because address space was taken for it ahead. A file in memory.

What `io.BytesIO` does this does, with the same results and errors; its own are that it never moves, so that views of it
neither hinder it nor are left behind, and that it has a limit. The inside, and why it is safe, is in `_ahead`.

What is written comes first, and then counts as content: whatever interrupts a write, all of it was written, or nothing.
"""

from __future__ import annotations

import io
from _operator import index

from . import _hints as hints
from . import _views
from ._ahead import Ahead, make_room
from ._checks import checked_align, checked_int
from ._errors import RegionClosedError, RegionFullError
from ._layout import LARGE_CLEAR, place
from ._lifetime import Exporter, ffi

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ._chunk import Chunk
    from ._region import Region

_ROOM = 1 << 16
_MAX_STEP = 1 << 20
_LINE = 1 << 10


def open_writer(region: Region, limit: int | None, align: int) -> Writer:
    """As `Region.writer`."""
    align = checked_align(align)
    if limit is not None:
        limit = checked_int(limit, "limit", 1)
    while True:
        chunk = region._open_chunk()
        reservation = chunk.reservation
        left = reservation.size - place(reservation.address, chunk.cursor, align)
        size = max(left // 2, 1) if limit is None else limit
        ahead = _new_ahead(chunk)
        view = chunk.view
        if view is not None:
            reservation.aheads.append(ahead)
            if ahead.take(chunk, size, align, reservation.page_size):
                ahead.view = _views.cut(view, ahead.start, ahead.stop)
                chunk.track((ahead.view,))
                if chunk.view is view:
                    break
                ahead.let_go()
            reservation.forget(ahead)
            del view
        make_room(chunk, size, align, region.name)
    writer = Writer.__new__(Writer)
    writer._region = region
    writer._chunk = chunk
    writer._align = align
    writer._room = 0
    writer._ahead = ahead  # last: with it the writer can be ended
    return writer


def _new_ahead(chunk: Chunk) -> Ahead:
    if chunk.debug:
        from ._debug._ahead import DebugAhead

        return DebugAhead(chunk.reservation.lock)
    return Ahead(chunk.reservation.lock)


class Writer(io.BufferedIOBase):
    """A file in a region's memory, and at its end a block: made by `Region.writer()`.

    For what has no known size: an upload, a decompressor's output, an encoded answer. It takes address space ahead, and
    RAM as it is filled. It does what `io.BytesIO` does; and `get_buffer` and `buffer_updated` let a socket, a C library
    or an `asyncio.BufferedProtocol` fill it. It never moves: nothing is copied when it grows, and views of it
    stay true while it grows, and do not keep it from growing. Beyond its limit a write raises RegionFullError and
    writes nothing; what was written is there. A context manager: the end of its block finishes it.

    Lifetime:
        Using it after the region's end, or a reset, raises RegionClosedError. A writer that is dropped is finished.

    Thread safety:
        What several threads write without a lock of their own may come in any order, or be lost; it never gets
        anywhere but into this writer. The same holds for a signal handler in the middle of a write.
    """

    __slots__ = ("_ahead", "_align", "_chunk", "_region", "_room")
    __signature__: object = hints.NOT_CALLED

    _ahead: Ahead
    _align: int
    _chunk: Chunk
    _region: Region
    _room: int
    name: Any  # as typeshed has it for BytesIO: for protocols of files, which ask for one

    def __init__(self) -> None:
        raise TypeError("a Writer is made by Region.writer()")

    # -- writing

    def write(self, data: hints.Buffer, /) -> int:
        """Write all of `data`, or nothing.

        Args:
            data: any object with a contiguous buffer.

        Returns:
            How many bytes that were.

        Raises:
            TypeError, BufferError: data has no such buffer.
            RegionFullError: it does not fit into the limit.
            CommitError: the operating system refused the memory.
            RegionClosedError: the region has ended, or was reset.
            ValueError: the writer is finished.
        """
        if type(data) is bytes:
            size = len(data)
            ahead = self._ahead
            start = ahead.end
            stop = start + size
            if stop <= ahead.limit:
                # One statement, one line: nothing comes in between.
                ahead.view[start:stop], ahead.end = data, stop
                return size
        return self._write(data)

    def _write(self, data: hints.Buffer) -> int:
        self._check_open()
        with memoryview(data) as source:
            if not source.c_contiguous:
                raise BufferError("memoryview: underlying buffer is not C-contiguous")
            if source.ndim == 1 and source.format == "B":
                return self._put(source)
            with _flat(source) as content:
                return self._put(content)

    def _put(self, data: memoryview) -> int:
        size = len(data)
        ahead = self._ahead
        while size:
            end, seat = ahead.end, ahead.seat
            start = end if seat < 0 else seat
            stop = start + size
            self._make_ready(stop, start, size)
            try:
                if start > end:
                    self._zero(end, min(start, max(ahead.foreign, ahead.high)))
                if ahead.put(end, seat, slice(start, stop), data, stop):
                    break
            except ValueError:  # the view was released meanwhile
                self._check_open()
                raise
            self._check_open()
        return size

    def _make_ready(self, stop: int, start: int, size: int) -> None:
        """Commit memory up to `stop`, for `size` bytes at `start`."""
        ahead = self._ahead
        if stop <= ahead.ready:
            return
        most = ahead.size
        if stop > most:
            self._check_open()
            raise RegionFullError(size, 1, max(most - start, 0), most, self._region.name, writer=True)
        ready = min(most, stop + min(_ROOM + ahead.end // 8, _MAX_STEP))
        ahead.commit(self._chunk, ahead.start + ready)
        if not ahead.extend(self._chunk, ready):
            self._check_open()

    def _zero(self, start: int, stop: int) -> None:
        """Zero what others, or the writer itself, may have left there. Large stretches only where somebody wrote."""
        ahead = self._ahead
        if stop - start < LARGE_CLEAR:
            ahead.zero(start, stop)
            return
        base = ahead.start
        for first, last in self._chunk.reservation.touched(base + start, base + stop):
            ahead.zero(first - base, last - base)

    def truncate(self, size: int | None = None, /) -> int:
        """Cut the content off after `size` bytes, or at the current position. It never gets longer."""
        self._check_open()
        ahead = self._ahead
        size = ahead.position if size is None else index(size)
        if size < 0:
            raise ValueError(f"negative size value {size}")
        if size < ahead.end:
            self._chunk.note_peak()
            ahead.cut(size)
        return size

    # -- as asyncio.BufferedProtocol

    def get_buffer(self, sizehint: int = -1, /) -> memoryview:
        """Room behind the content, to be filled from outside: by `recv_into`, by a C library.

        Args:
            sizehint: bytes that would be good to have; -1 or 0 leaves it to the writer.

        Returns:
            A writable memoryview of at least one byte, and of `sizehint` where the limit allows it. What it shows is
            zero, or what the writer itself had there. It is revoked when the writer is finished.

        Raises:
            RegionFullError: the limit is reached.
            As `write`.
        """
        sizehint = index(sizehint)
        ahead = self._ahead
        while True:
            self._check_open()
            end = ahead.end
            left = ahead.size - end
            stop = end + min(sizehint if sizehint > 0 else _ROOM, max(left, 1))
            self._make_ready(stop, end, stop - end)
            clear_to = min(stop, ahead.foreign)
            try:
                base = self._room_base()
                self._zero(max(end, ahead.high), clear_to)
                if base is not None and ahead.show(end, stop):
                    room = base[end:stop]
                    break
            except ValueError:
                self._check_open()
                raise
            finally:
                base = None  # a traceback must not pin
        rooms = ahead.rooms
        if len(rooms) >= _views.PRUNE_AT:
            rooms[:] = _views.alive(rooms)
        _views.track(rooms, (room,))
        self._room = stop
        if not ahead.open or self._chunk.view is None:  # ended meanwhile
            room.release()
            self._check_open()
        return room

    def _room_base(self) -> memoryview | None:
        """A view of the whole range whose slices can be told from all others."""
        ahead = self._ahead
        if ahead.exporter is None:
            view = self._chunk.view
            if view is not None:
                address = self._chunk.reservation.address + ahead.start
                ahead.adopt(Exporter(address, ahead.size, view))
        exporter = ahead.exporter
        return None if exporter is None else exporter.view()

    def buffer_updated(self, nbytes: int, /) -> None:
        """So many bytes of what `get_buffer` gave were filled: they are content, and what comes next goes behind them.

        Raises:
            ValueError: that is more than it gave, or something was written or cut off since.
        """
        size = checked_int(nbytes, "nbytes", 0)
        self._check_open()
        ahead = self._ahead
        end = ahead.end
        if size and (size > self._room - end or not ahead.grow(end, size)):
            raise ValueError(f"nbytes must be at most what get_buffer() gave, {max(self._room - end, 0)}, not {size}")

    # -- reading

    def read(self, size: int | None = -1, /) -> bytes:
        """At most `size` bytes from the current position on; None or -1: all."""
        self._check_open()
        ahead = self._ahead
        start = ahead.position
        stop = end = max(ahead.end, start)
        if size is not None and (count := index(size)) >= 0:
            stop = min(end, start + count)
        data = self._content(start, stop)
        ahead.sit(stop)
        return data

    def read1(self, size: int | None = -1, /) -> bytes:
        """As `read`."""
        return self.read(size)

    def readinto(self, buffer: hints.Buffer, /) -> int:
        """Read into a writable buffer. How many bytes that were: 0 at the end."""
        self._check_open()
        with memoryview(buffer) as target:
            if target.readonly or not target.c_contiguous:
                raise TypeError(f"a contiguous read-write bytes-like object is needed, not {type(buffer).__name__}")
            ahead = self._ahead
            start = ahead.position
            count = min(target.nbytes, max(ahead.end - start, 0))
            if count:
                ffi.memmove(target, self._content(start, start + count), count)
                ahead.sit(start + count)
            return count

    readinto1 = readinto

    def readline(self, size: int | None = -1, /) -> bytes:
        """Up to and with the next newline, or `size` bytes."""
        self._check_open()
        ahead = self._ahead
        start = ahead.position
        stop = end = max(ahead.end, start)
        if size is not None and (count := index(size)) >= 0:
            stop = end = min(end, start + count)
        step = _LINE
        at = start
        while at < end:
            found = self._content(at, min(at + step, end)).find(b"\n")
            if found >= 0:
                stop = at + found + 1
                break
            at += step
            step *= 2
        data = self._content(start, stop)
        ahead.sit(stop)
        return data

    def _content(self, start: int, stop: int) -> bytes:
        try:
            return bytes(self._ahead.view[start:stop])
        except ValueError:  # released meanwhile
            self._check_open()
            raise

    def getvalue(self) -> bytes:
        """A copy of the content."""
        self._check_open()
        return self._content(0, self._ahead.end)

    def getbuffer(self) -> memoryview:
        """A writable memoryview of the content, without a copy.

        Lifetime:
            As the block of `finish()`. Unlike BytesIO's it does not keep the writer from growing or being finished.
        """
        self._check_open()
        return self._block()

    def _block(self) -> memoryview:
        chunk = self._chunk
        view = chunk.view
        if view is None:
            raise self._closed_error()
        ahead = self._ahead
        block = _views.cut(view, ahead.start, ahead.start + ahead.show_content())
        chunk.track((block,))
        if chunk.view is not view:
            block.release()
            del view, block  # a traceback must not pin
            raise self._closed_error()
        return block

    # -- the position

    def tell(self) -> int:
        """The current position."""
        self._check_open()
        return self._ahead.position

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Go to a position: from the start, from the current one (whence=1) or from the end (whence=2).

        Behind the end it may be, too: what is written there comes after zeros.
        """
        self._check_open()
        offset, whence = index(offset), index(whence)
        if not ~_LARGEST <= offset <= _LARGEST:
            raise OverflowError(f"offset must fit into 64 bits, not {offset.bit_length()}")
        ahead = self._ahead
        if whence == 0:
            if offset < 0:
                raise ValueError(f"negative seek value {offset}")
        elif whence == 1:
            offset += ahead.position
        elif whence == 2:
            offset += ahead.end
        else:
            raise ValueError(f"invalid whence ({whence}, should be 0, 1 or 2)")
        if offset > _LARGEST:
            raise OverflowError("new position too large")
        offset = max(offset, 0)
        ahead.sit(offset)
        return offset

    # -- the end

    def finish(self) -> memoryview:
        """End the writer: its block, all that was written, from the start. What it did not fill goes back.

        May be called again, also after `close()` and after its `with`: each time it gives a view of the same block.

        Returns:
            A writable memoryview, format "B".

        Raises:
            RegionClosedError: the region has ended, or was reset.

        Lifetime:
            As for `Region.alloc`. The writer itself can neither be written nor read any more (ValueError).
        """
        self._finish()
        return self._block()

    def close(self) -> None:
        """As `finish`, without a view of the block, which is there until the end of the region. May be repeated."""
        self._finish()

    def _finish(self) -> None:
        """The steps of an end, each of which may be repeated."""
        ahead, chunk = self._ahead, self._chunk
        if ahead.open:
            ahead.seal()
        if ahead.start < 0 or chunk.view is None or ahead not in chunk.reservation.aheads:
            return
        if chunk.reservation.secret:
            try:
                ahead.zero(ahead.end, ahead.high)
            except ValueError:  # it was released meanwhile
                pass
        chunk.views.extend(ahead.withdraw())  # a pool waits for them
        if ahead.settle(chunk):
            if ahead.keep <= ahead.end:  # else there is a hole to know of
                chunk.reservation.forget(ahead)
            chunk.prepare()

    @property
    def closed(self) -> bool:
        """Whether the writer is finished, or its region over."""
        return not self._ahead.open or self._chunk.view is None

    def _check_open(self) -> None:
        if self._chunk.view is None:
            raise self._closed_error()
        if not self._ahead.open:
            raise ValueError(f"I/O operation on closed file: {self!r} is finished")

    def _closed_error(self) -> RegionClosedError:
        region = self._region
        if region.closed:
            return region._closed_error()
        return RegionClosedError(f"{region!r} was reset since this writer was made: make a new one")

    # -- what else a file has

    def __enter__(self) -> hints.Self:
        self._check_open()
        return self

    def __iter__(self) -> hints.Self:
        self._check_open()
        return self

    def writelines(self, lines: hints.Iterable[hints.Buffer], /) -> None:
        """Write all of them."""
        self._check_open()
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Do nothing."""
        self._check_open()

    def isatty(self) -> bool:
        """False."""
        self._check_open()
        return False

    def readable(self) -> bool:
        """True."""
        self._check_open()
        return True

    def writable(self) -> bool:
        """True."""
        self._check_open()
        return True

    def seekable(self) -> bool:
        """True."""
        self._check_open()
        return True

    def __reduce__(self) -> hints.NoReturn:
        raise TypeError(f"{self!r} can't be copied or pickled: its memory is in this process, once")

    def __repr__(self) -> str:
        ahead = self._ahead
        state = "its region is over" if self._chunk.view is None else "open" if ahead.open else "finished"
        return f"<scopedbump.Writer: {ahead.end} bytes written, {state}>"


def _flat(view: memoryview) -> memoryview:
    """The bytes of a contiguous view."""
    try:
        return view.cast("B")
    except (TypeError, ValueError):  # of a format that is not the machine's, or with an empty dimension
        return memoryview(view.tobytes())


_LARGEST = (1 << 63) - 1

Writer.__module__ = "scopedbump"
