"""Bump: the cursor over a region's memory, and the views that were handed out.

The rules (numbers are those of the promises in the README):

- `_limit` is where the *ready* part ends: committed, and zero above the cursor. The fast path of `alloc` needs one
  comparison against it; committing, clearing, refusing and explaining are the slow path's. It is -1 while a scope is
  open, after the end, and always where a bump is not atomic (see `_atomic`). `_ready` is the same bound without that.
- Bytes change hands in one place each: `alloc` and `_take`, both a check and a store with nothing between (9).
- Whoever works on memory between reading the cursor and handing out the view holds `root` in a local variable.
  That pins, so a close or reset in another thread, a finalizer or a signal handler takes it for an escape and neither
  unmaps nor reuses what is being handed out (4). For that `_root` is dropped, never released.
"""

from __future__ import annotations

from itertools import islice

from scopedbump import _atomic, _views
from scopedbump._errors import RegionBusyError, RegionClosedError, RegionFullError
from scopedbump._exporter import ffi
from scopedbump._layout import ALIGN, WINDOW, checked_align, checked_int, place, round_up
from scopedbump._slab import chunks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _weakref import ref
    from collections.abc import Callable, Iterable, Iterator
    from typing import Literal, TypeVar

    from typing_extensions import Buffer

    from scopedbump._lease import Lease
    from scopedbump._reservation import Reservation

    T = TypeVar("T")

_ZEROS = bytes(WINDOW)


class Bump:
    """What of a region hands out memory. `Region` is the one class that is made of it."""

    __slots__ = (
        "_busy",
        "_cursor",
        "_limit",
        "_lock",
        "_offset",
        "_ready",
        "_reservation",
        "_root",
        "_size",
        "_slabs",
        "_sweep_at",
        "_sweeps",
        "_views",
        "name",
    )

    name: str
    _busy: ref[Lease] | Literal["reset"] | None
    _cursor: int
    _limit: int
    _lock: _atomic.Lock
    _offset: int
    _ready: int
    _reservation: Reservation
    _root: memoryview | None
    _size: int
    _slabs: dict[int, Callable[[], None]]
    _sweep_at: int
    _sweeps: int
    _views: list[memoryview]

    def alloc(self, size: int, align: int = 16, *, zero: bool = True) -> memoryview:
        """Allocate a block.

        Args:
            size: bytes, 0 or more.
            align: what the block's absolute address is a multiple of, in bytes: a power of two.
            zero: False skips clearing memory that was used before; the content is then whatever was there.

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
            slice, an ndarray, a ctypes object) keeps the region's memory instead.
        """
        if type(size) is int and align is ALIGN:
            start = self._cursor
            if start & 15:
                start += 16 - (start & 15)
            stop = start + size
            if start < stop <= self._limit:
                self._cursor = stop
                view: memoryview = self._root[start:stop]  # type: ignore[index]  # not None: the limit was not -1
                self._views.append(view)  # pyright: ignore[reportUnknownArgumentType]  # for the same reason
                return view  # pyright: ignore[reportUnknownVariableType]
        return self._alloc(size, align, zero)

    def _alloc(self, size: int, align: int, zero: bool) -> memoryview:
        size = checked_int(size, "size", 0)
        align = checked_align(align)
        while True:
            root, _, start = self._claim(size, align, zero)
            view = _views.cut(root, start, start + size)
            self._track((view,))
            if self._root is root:
                return view
            # Closed or reset by another thread: the next round says which.
            view.release()

    def _claim(self, size: int, align: int = ALIGN, zero: bool = True) -> tuple[memoryview, int, int]:
        """Take `size` bytes: (root, cursor, start), they are root[start:start + size], and the cursor was there.

        They are committed, aligned, and the caller's alone. For the adapters: whatever they make must hold root or a
        view of it.
        """
        tried = ahead = False
        while True:
            root = self._root
            if root is None or self._busy is not None:
                del root  # a traceback must not pin
                root = self._opened()
            taken = None
            if ahead or self._cursor + size <= self._ready:
                taken = self._take(root, size, align, ahead)
            if taken is not None:
                cursor, start, ready, dirty = taken
                if zero and ready < start + size:
                    clear(root, max(start, ready), min(start + size, dirty))
                return root, cursor, start
            reservation = self._reservation
            cursor = self._cursor
            ready = self._ready
            if self._root is not root:
                continue  # a close or reset came in between: root does not keep this reservation
            stop = size + place(reservation.address + self._offset, cursor, align)
            if size and stop > self._size:
                del root  # as above
                raise RegionFullError(size, align, self._size - cursor, self._size, self.name)
            ahead = tried or not zero or stop > cursor + WINDOW
            if ahead:
                reservation.commit(self._offset + min(stop, self._size))
            elif stop > ready:
                tried = True  # once: a handler at every moment would move the cursor at each
                self._advance(reservation, root, cursor, ready)

    def _opened(self) -> memoryview:
        """The root, or the error that says why nothing can be allocated."""
        if self._busy is not None:
            what = "being reset" if self._busy == "reset" else "in use by an open scope"
            raise RegionBusyError(f"{self!r} is {what}: allocate from the scope, or end it first")
        root = self._root
        if root is None:
            raise self._closed_error()
        return root

    def _closed_error(self) -> RegionClosedError:
        return RegionClosedError(f"{self!r} has ended: what is needed longer belongs into a region that lives longer")

    def _take(self, root: memoryview, size: int, align: int, ahead: bool) -> tuple[int, int, int, int] | None:
        """Move the cursor over `size` bytes that are ready, or with `ahead` committed: None if there are not so many.

        Returns where the cursor was, where they start, and, as they were, up to where bytes were ready and written.
        """
        taken = False
        cursor = start = ready = dirty = 0
        with self._lock:
            if not _atomic.atomic:
                _atomic.alone(self._lock)
            if self._root is root and self._busy is None:
                cursor = self._cursor
                ready = self._ready
                base = self._reservation.address + self._offset
                start = (base + cursor + align - 1 & -align) - base  # as `place`: a call would end the stretch
                if start > self._size and not size:
                    start = self._size
                stop = start + size
                usable = self._reservation.committed - self._offset if ahead else ready
                if stop <= usable and stop <= self._size:
                    taken = True
                    dirty = self._reservation.dirty - self._offset
                    self._cursor = stop
                    if ready < stop:
                        self._ready = stop
                        if self._limit >= 0:
                            self._limit = stop
        return (cursor, start, ready, dirty) if taken else None

    def _advance(self, reservation: Reservation, root: memoryview, cursor: int, ready: int) -> None:
        """Make a window from the cursor on ready: commit and clear it, if nobody has done so meanwhile."""
        target = min(cursor + WINDOW, self._size)
        if self._offset + target > reservation.committed:
            reservation.commit(self._offset + target)
        dirty = reservation.dirty
        end = max(ready, min(target, dirty - self._offset))
        # Made here: making anything is where a garbage collection may come in.
        used = slice(ready, end)
        zeros = memoryview(_ZEROS)[: end - ready]
        limit = target if _atomic.atomic else -1
        with self._lock:
            if not _atomic.atomic:
                _atomic.alone(self._lock)
            # Whoever else came this far may have handed out these bytes: then they must not be cleared again.
            # A scope that came and went may have left `_ready` where it was, but not the bytes behind it.
            if self._root is root and self._ready == ready and self._busy is None and reservation.dirty == dirty:
                root[used] = zeros
                self._ready = target
                self._limit = limit

    def _track(self, new: Iterable[memoryview]) -> None:
        views = self._views
        _views.track(views, new)
        if len(views) >= self._sweep_at:
            self._sweep(views, len(views))

    def _sweep(self, views: list[memoryview], count: int) -> None:
        """Drop the dead ones among the first `count` views."""
        sweeps = self._sweeps
        alive = _views.alive(islice(views, count))
        swept = slice(0, count)
        sweep_at = max(_views.SWEEP_AT, 2 * len(alive))
        with self._lock:
            if not _atomic.atomic:
                _atomic.alone(self._lock)
            # Unless another sweep was faster: views that came since then stand behind these. Not under a revocation,
            # which goes along this list. Counted first: dropping a view may run the callback of a weak reference.
            if self._views is views and self._sweeps == sweeps and self._root is not None:
                self._sweeps = sweeps + 1
                self._sweep_at = sweep_at
                views[swept] = alive

    def copy(self, data: Buffer, align: int = 16) -> memoryview:
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
        with memoryview(data) as source:
            view = self.alloc(source.nbytes, align, zero=False)
            if source.nbytes:
                content = source if source.c_contiguous else source.tobytes()
                try:
                    ffi.memmove(view, content, source.nbytes)
                except ValueError:  # revoked meanwhile: the next try says whether by a close or a reset
                    return self.copy(content, align)
            return view

    def free(self, block: object) -> None:
        """Do nothing: a region frees everything at its end. For code written against an allocator with `free`."""

    def slab(self, size: int, align: int = 16) -> Iterator[memoryview]:
        """An endless iterator of equal blocks, the fastest way to make many.

        Blocks are carved in chunks (8, 16 ... 256 of them), so the cursor runs ahead of what was taken.

        Args:
            size: bytes of each block, 1 or more.
            align: as for `alloc`, for each block.

        Raises:
            As `alloc`; also when the next chunk is carved. An error ends the iterator.

        Lifetime:
            As for `alloc`: all are revoked at the close or reset, and the iterator then raises RegionClosedError.

        Thread safety:
            Threads may share an iterator: no block is handed out twice, some may be left out.
        """
        size = checked_int(size, "size", 1)
        align = checked_align(align)
        stride = round_up(size, align)
        made: list[slice[int, int, None]] = []  # kept: to build a slice takes as long as to use it
        apart = _atomic.free_threaded

        def carve(root: memoryview, starts: range) -> list[memoryview]:
            nonlocal made
            if apart:
                views = [_views.cut(root, start, start + size) for start in starts]
            else:
                chunk = root[starts.start : starts[-1] + size]
                cuts = made
                if len(cuts) != len(starts):
                    made = cuts = [slice(at, at + size) for at in range(0, len(starts) * stride, stride)]
                views = [chunk[cut] for cut in cuts]
            self._track(views)
            if self._root is not root:  # closed or reset meanwhile: the revocation may not have seen them
                for view in views:
                    view.release()
            return views

        return self._slab(size, align, carve)

    def _slab(self, size: int, align: int, carve: Callable[[memoryview, range], list[T]]) -> Iterator[T]:
        """The iterator over what `carve(root, starts)` makes of each chunk. For the adapters too."""
        self._opened()
        return chunks(self, size, align, carve)

    def _covers(self, start: int, stop: int) -> bool:
        base = self._reservation.address + self._offset
        return base <= start and stop <= base + self._size

    def _prime(self) -> None:
        """Make the first window ready, as far as it is committed: before anybody else has the region."""
        reservation = self._reservation
        committed = reservation.committed - self._offset
        root = self._root
        if committed <= 0 or root is None:
            return
        ready = min(WINDOW, self._size, committed)
        dirty = min(ready, reservation.dirty - self._offset)
        if dirty > 0:
            root[:dirty] = memoryview(_ZEROS)[:dirty]
        limit = ready if _atomic.atomic else -1
        with self._lock:
            if not _atomic.atomic:
                _atomic.alone(self._lock)
            if self._root is root:  # a scope may have been ended meanwhile, together with the region around it
                self._ready = ready
                self._limit = limit


def clear(root: memoryview, start: int, stop: int) -> None:
    """Zero root[start:stop], which belongs to the caller alone: others may run meanwhile."""
    zeros = memoryview(_ZEROS)
    for at in range(start, stop, WINDOW):
        end = min(at + WINDOW, stop)
        root[at:end] = zeros[: end - at]
