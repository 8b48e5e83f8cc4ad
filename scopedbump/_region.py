"""Region: what a user holds. It allocates (`_bump`), begins and ends (`_lease`), and here it answers questions."""

from __future__ import annotations

from _operator import index

from scopedbump._exporter import ADDRESS, ffi
from scopedbump._layout import checked_int
from scopedbump._lease import Lease, checked_escape, checked_name
from scopedbump._reservation import Reservation

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final, final

    from typing_extensions import Buffer

    from scopedbump._adapters.cffi_ import FFI, CffiAllocator
    from scopedbump._adapters.ctypes_ import CtypesAllocator
    from scopedbump._adapters.numpy_ import NumpyAllocator
    from scopedbump._current import Current
    from scopedbump._escape import Escape
else:

    def final(cls):
        return cls


DEFAULT_SIZE: Final = 1 << 30
"""Bytes of address space that a region reserves when no size is given: 1 GiB."""


def bump_region(size: int = DEFAULT_SIZE, *, name: str = "", escape: Escape = "keep", wipe: bool = False) -> Region:
    """Reserve address space and return a region that allocates from it.

    Use it in a `with` block, or call `close()`.

    Args:
        size: bytes to reserve. They cost no RAM before they are touched.
        name: shown in `repr` and in errors.
        escape: what happens at the close when something still points into the region: "keep" lets it keep
            the memory, "warn" also issues an EscapeWarning, "raise" also raises EscapeError.
        wipe: True zeroes what was used before it is given back or used again, for secrets: at the end of the region
            and of its scopes, and at a reset. What something still points into then is not wiped.

    Raises:
        TypeError, ValueError: size is no int, or not from 1 to sys.maxsize; escape is none of the three.
        ReserveError: the operating system has no such range, or a limit (RLIMIT_AS) forbids it.
    """
    size = checked_int(size, "size", 1)
    name = checked_name(name)
    escape = checked_escape(escape)
    reservation = Reservation(size)
    return Region(reservation, reservation.exporter(), size, name, escape, bool(wipe))


@final
class Region(Lease):
    """One lease of a reservation: allocates by moving a cursor and gives everything back at its end.

    Made by `bump_region()`, `Region.scope()` and `RegionPool.region()`. A context manager: the end of the block
    closes it.

    Thread safety: any thread may allocate at any moment. Scopes, `reset` and `close` belong to one thread;
    called while others allocate they are safe, and what others then get is an error or a valid block.
    """

    __slots__ = ()

    def as_current(self) -> Current:
        """A `with` block in which `current_region()` is this region. It does not close the region.

        Raises:
            RegionClosedError: the region has ended.
        """
        if self.closed:
            raise self._closed_error()
        from scopedbump._current import Current

        return Current(self)

    # -- adapters, made on first use

    @property
    def ctypes(self) -> CtypesAllocator:
        """Makes ctypes objects in this region."""
        made = self._ctypes
        if made is None:
            from scopedbump._adapters.ctypes_ import CtypesAllocator

            made = CtypesAllocator(self)
            if not self._done:  # a closed region would never break the cycle
                self._ctypes = made
        return made

    @property
    def numpy(self) -> NumpyAllocator:
        """Makes ndarrays in this region, and is NumPy's own allocator where asked for."""
        made = self._numpy
        if made is None:
            from scopedbump._adapters.numpy_ import NumpyAllocator

            made = NumpyAllocator(self)
            if not self._done:
                self._numpy = made
        return made

    def cffi(self, ffi: FFI) -> CffiAllocator:
        """Makes cffi objects of `ffi`'s types in this region."""
        made = self._cffi
        if made is None or made.ffi is not ffi:
            from scopedbump._adapters.cffi_ import CffiAllocator

            made = CffiAllocator(self, ffi)
            if not self._done:
                self._cffi = made
        return made

    # -- what can be asked

    @property
    def size(self) -> int:
        """Bytes of address space in this region."""
        return self._size

    @property
    def used(self) -> int:
        """Bytes handed out, the gaps of alignment included; 0 after the end."""
        return 0 if self.closed else self._cursor

    @property
    def available(self) -> int:
        """Bytes left; 0 after the end."""
        return 0 if self.closed else self._size - self._cursor

    @property
    def committed(self) -> int:
        """Bytes of this region that the operating system has made usable; 0 after the end."""
        return 0 if self.closed else min(max(self._reservation.committed - self._offset, 0), self._size)

    @property
    def peak(self) -> int:
        """The most bytes that were in use at a time, scopes included; it survives `reset` and the end."""
        return max(self._peak, self._cursor)

    def address(self, view: Buffer) -> int:
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
        start, stop = _extent(view)
        if not self._covers(start, stop):
            raise ValueError(f"{view!r} does not lie in {self!r}")
        return start

    def __contains__(self, item: Buffer | int) -> bool:
        """Whether a buffer or an absolute address lies in this region; nothing lies in a closed one."""
        if self.closed:
            return False
        if isinstance(item, int):
            return self._covers(index(item), index(item) + 1)
        return self._covers(*_extent(item))

    def __repr__(self) -> str:
        if not self.closed:
            state = "open" if self._busy is None else "resetting" if self._busy == "reset" else "a scope is open"
        else:
            state = "closed" if not self._done or self.released else "closed, memory kept by what still points in"
        name = f" {self.name!r}" if self.name else ""
        return f"<scopedbump.Region{name}: {self.used} of {self._size} bytes used, peak {self.peak}, {state}>"


Region.__module__ = bump_region.__module__ = "scopedbump"


def _extent(view: Buffer) -> tuple[int, int]:
    try:
        data = ffi.from_buffer(view)
    except (TypeError, BufferError) as refusal:
        raise TypeError(f"a contiguous buffer is needed, not {view!r}: {refusal}") from None
    start = int(ffi.cast(ADDRESS, data))
    return start, start + len(data)
