"""cffi objects in a region, of the types of the user's own ffi.

The rules:

- cffi makes the objects itself, with an allocator that takes its bytes from the region: what `ffi.new` accepts is
  accepted, and what it refuses is refused with its words.
- An object's destructor is what pins: a method of a tuple that holds the region's memory, and does nothing.
- An allocator holds the region's memory too. They are kept in a dict that the end of the region clears, so that an
  adapter in somebody's variable is no escape.
- Each allocator has one user at a time: it remembers its last claim, to take it back when the initializer is refused.
"""

from __future__ import annotations

import gc
import reprlib
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, cast, final

import _cffi_backend

from scopedbump._adapters._claim import POINTER_SIZE, claim, encoded, encoded_all, give_back, put_strings
from scopedbump._errors import RegionClosedError, ScopedBumpError
from scopedbump._exporter import CHAR_POINTER
from scopedbump._layout import ALIGN

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Buffer

    from scopedbump._region import Region


class CType(Protocol):
    """A C type as `ffi.typeof` gives it."""

    @property
    def kind(self) -> str:
        """What it is: "primitive", "pointer", "array", "struct", "union", "enum", "function" or "void"."""
        ...

    @property
    def cname(self) -> str:
        """Its name in C."""
        ...


CDecl: TypeAlias = str | CType
"""A declaration in C, such as "point *" or "int[]", or a type as `ffi.typeof` gives it."""


class FFI(Protocol):
    """What is used of a user's ffi: in-line `cffi.FFI()`, or the `ffi` of a generated module, in ABI or API mode.

    A Protocol, so that nobody's type checker needs stubs of cffi.
    """

    def typeof(self, cdecl: str, /) -> CType:
        """The type that a C declaration names."""
        ...


class CData(Protocol):
    """A C object, used as cffi documents it. Only C knows the types of its fields and items: they are Any here."""

    def __getattr__(self, field: str, /) -> Any: ...
    def __setattr__(self, field: str, value: Any, /) -> None: ...
    def __getitem__(self, index: Any, /) -> Any: ...
    def __setitem__(self, index: Any, value: Any, /) -> None: ...
    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[Any]: ...
    def __bool__(self) -> bool: ...
    def __add__(self, items: int, /) -> CData: ...
    def __sub__(self, other: Any, /) -> Any: ...


_ffi = _cffi_backend.FFI()  # takes the types of every ffi
_MAX_TYPES = 256


if TYPE_CHECKING:
    _Make: TypeAlias = Callable[[_cffi_backend.CType, object], CData]

    _Maker: TypeAlias = tuple[_Make, memoryview, list[int]]
    """An allocator of cffi for objects of one alignment, the memory it pins, and [cursor, end] of its last claim."""

    _Entry: TypeAlias = tuple[_cffi_backend.CType, _Make, int, list[_Maker]]
    """What is known of a declaration: type, an allocator for everybody, alignment, allocators with one user each."""


def _maker(region: Region, root: memoryview, align: int) -> _Maker:
    base = _ffi.cast(CHAR_POINTER, region._reservation.address + region._offset)
    mask = align - 1
    claimed = [0, 0]

    def claim_slowly(size: int) -> _cffi_backend.CData:
        got, cursor, start = claim(region, size, align)
        if got is not root:
            raise RegionClosedError(f"{region!r} was reset meanwhile")
        claimed[:] = cursor, start + size
        return base + start

    def claim_fast(size: int) -> _cffi_backend.CData:
        # What `claim` does: to call it costs half as much as `ffi.new`.
        start = cursor = region._cursor
        if start & mask:
            start += align - (start & mask)
        stop = start + size
        if start < stop <= region._limit and region._root is root:
            region._cursor = stop
            claimed[0] = cursor
            claimed[1] = stop
            return base + start
        return claim_slowly(size)

    alloc = claim_fast if align <= ALIGN else claim_slowly
    return cast("_Make", _ffi.new_allocator(alloc, _pin(root), False)), root, claimed


def _pin(root: memoryview) -> Callable[[object], None]:
    """A destructor for cffi, there to refer to the memory.

    The collector runs it with the other finalizers of a dead cycle, in any order: a `__del__` that comes later may
    still read the object, so the memory stays until the collection is over.
    """

    def let_go(_: object) -> None:
        if _collecting:
            _limbo.append(root)

    return let_go


_limbo: list[memoryview] = []
_collecting = False


def _note_collection(phase: str, _: object) -> None:
    global _collecting
    _collecting = phase == "start"
    if not _collecting:
        _limbo.clear()


if hasattr(gc, "callbacks"):  # not on PyPy, where finalizers run in the order of what refers to what
    gc.callbacks.append(_note_collection)


@final
class CffiAllocator:
    """Makes cffi objects in a region. `Region.cffi(ffi)` is one.

    Objects are zeroed, aligned as their type asks, and keep the region's memory as long as they live. What cffi makes
    of them that does not own is as raw here as it is with `ffi.new` (a struct within a struct or an array, a slice,
    `ffi.addressof`, `ffi.cast`, what a pointer field leads to): it dangles when the region has ended and nothing
    that owns is left.

    Thread safety: as `Region.alloc`.
    """

    __slots__ = ("_entries", "_region", "ffi")

    ffi: FFI

    def __init__(self, region: Region, ffi: FFI) -> None:
        if not callable(getattr(ffi, "typeof", None)):
            raise TypeError(f"an ffi of cffi is needed, not {reprlib.repr(ffi)}")
        self._region = region
        self._entries: dict[CDecl, _Entry] = {}
        self.ffi = ffi

    def new(self, cdecl: CDecl, init: object = None) -> CData:
        """Make an object as `ffi.new` does: the same declarations, initializers and errors.

        Pointers in the initializer may lead anywhere in the region, and nobody need hold what they lead to:
        `c.new("config *", {"name": c.string("worker")})`.

        Args:
            cdecl: a pointer or array type, such as "point *", "int[3]", "int[]".
            init: what `ffi.new` takes for it.

        Returns:
            What `ffi.new` would. Only a struct with a flexible array differs, as from every allocator of cffi:
            `ffi.sizeof(p[0])` and `ffi.buffer(p)` don't count the array.

        Raises:
            What `ffi.new` raises, and what `Region.alloc` does. The cursor has not moved.

        Lifetime:
            Pins: keeps the region's memory as long as it lives, or the struct `p[0]` does, or until `ffi.release`.
        """
        try:
            ctype, make, align, spare = self._entries[cdecl]
        except (KeyError, TypeError):
            ctype, make, align, spare = self._entry(cdecl)
        if init is None:
            try:
                return make(ctype, None)
            except ScopedBumpError as refusal:
                raise refusal.with_traceback(None) from None  # its frames hold the memory
        try:
            maker = spare.pop()
        except IndexError:
            maker = _maker(self._region, self._region._opened(), align)
        make, root, claimed = maker
        claimed[1] = 0
        try:
            return make(ctype, init)
        except BaseException as error:
            if claimed[1]:
                give_back(self._region, root, *claimed)
            if isinstance(error, ScopedBumpError):
                raise error.with_traceback(None) from None  # as above
            raise
        finally:
            spare.append(maker)
            del make, maker, root, spare  # a traceback must not pin

    def _entry(self, cdecl: CDecl) -> _Entry:
        region = self._region
        root = region._opened()
        ctype = self._type(cdecl)
        align = _align(ctype)
        spare: list[_Maker] = []
        entry = ctype, _maker(region, root, align or 1)[0], align or 1, spare
        if align:
            entries = self._entries
            if len(entries) >= _MAX_TYPES:
                entries.clear()
            region._slabs[id(entries)] = entries.clear
            entries[cdecl] = entry
            if region._root is not root:  # it ended meanwhile
                entries.clear()
        return entry

    def _type(self, cdecl: CDecl) -> _cffi_backend.CType:
        ctype = self.ffi.typeof(cdecl) if isinstance(cdecl, str) else cdecl
        if not isinstance(ctype, _ffi.CType):
            raise TypeError(f"cdecl must be a str or a type of cffi, not {reprlib.repr(cdecl)}")
        return ctype

    def string(self, text: str | bytes, /) -> CData:
        """Make a NUL-terminated `char[]`.

        Args:
            text: a str, encoded in UTF-8, or bytes.

        Raises:
            TypeError: text is neither.
            ValueError: text holds a NUL, or can't be encoded.
            As `Region.alloc`.

        Lifetime:
            Pins, as `new`.
        """
        return self.new("char[]", encoded(text))

    def strings(self, items: Iterable[str | bytes], /) -> CData:
        """Make a NULL-terminated `char *[]`, as for argv: the strings are in the region too.

        Args:
            items: any number of str or bytes, as for `string`.

        Raises:
            As `string`; also TypeError for a single string.

        Lifetime:
            Pins, as `new`.
        """
        texts = encoded_all(items)
        ctype = self._type("char *[]")
        root, start = put_strings(self._region, texts)
        address = self._region._reservation.address + self._region._offset + start
        return _pinning(ctype, address, POINTER_SIZE * (len(texts) + 1), root)

    def pointer(self, view: Buffer, cdecl: CDecl = "char *", /) -> CData:
        """Make a pointer to a view that lies in this region.

        Args:
            view: a buffer that is contiguous and writable, such as `Region.alloc` gives.
            cdecl: the type of the pointer, such as "point *"; or an array type.

        Raises:
            TypeError, BufferError: view has no buffer of that kind.
            ValueError: it does not lie in this region, is revoked, or is smaller than what the pointer leads to.
            What `ffi.from_buffer` raises.

        Lifetime:
            Pins: keeps the region's memory as long as it lives, and what is read through it does not; the view itself
            is revoked at the end.
        """
        ctype = self._type(cdecl)
        root = self._region._opened()
        address = self._region.address(view)
        size = memoryview(view).nbytes
        if ctype.kind == "pointer" and size < _size(ctype.item):
            raise ValueError(f"{_size(ctype.item)} bytes are needed behind a {ctype.cname!r}, not {view!r}")
        _ffi.from_buffer(ctype, view, require_writable=True)  # for its errors, and no more
        return _pinning(ctype, address, size, root)

    def slab(self, cdecl: CDecl, /) -> Iterator[CData]:
        """Raw: an endless iterator of pointers that keep nothing alive, the fastest way to make many objects.

        They dangle when the region ends: to use one after that reads or writes memory that is unmapped or somebody
        else's, or crashes. `new` makes what pins.

        Args:
            cdecl: a pointer type, such as "point *": what it leads to is made.

        Raises:
            TypeError, ValueError: cdecl is no pointer to something that has a size.
            As `Region.slab`.
        """
        ctype = self._type(cdecl)
        if ctype.kind != "pointer":
            raise TypeError(f"expected a pointer ctype, got {ctype.cname!r}")
        size = _size(ctype.item)
        if not size:
            raise TypeError(f"{ctype.item.cname!r} has no size, or no bytes to carve")
        region = self._region

        def carve(root: memoryview, starts: range) -> list[CData]:
            first = _ffi.cast(ctype, region._reservation.address + region._offset + starts.start)
            return [first + index for index in range(len(starts))]

        return region._slab(size, _ffi.alignof(ctype.item), carve)


def _pinning(ctype: _cffi_backend.CType, address: int, size: int, root: memoryview) -> CData:
    """A pointer or array of this type at an address, that refers to root by its destructor.

    Not `from_buffer` of a memoryview: in a dead cycle that crashes the collector of CPython before 3.13.
    """
    let_go = _pin(root)
    start = _ffi.cast(CHAR_POINTER, address)
    if ctype.kind == "array":
        length = size // _ffi.sizeof(ctype.item) if ctype.length is None else None
        return cast("_Make", _ffi.new_allocator(lambda _: start, let_go, False))(ctype, length)
    return _ffi.gc(_ffi.cast(ctype, start), let_go)


def _align(ctype: _cffi_backend.CType) -> int:
    """The alignment of what is made for this type; 0 when nothing can be, or not yet."""
    if ctype.kind not in ("pointer", "array"):
        return 0
    try:
        return _ffi.alignof(ctype.item)
    except (TypeError, ValueError, _ffi.error):
        return 0


def _size(ctype: _cffi_backend.CType) -> int:
    """Bytes of this type; 0 when C does not say."""
    if ctype.kind in ("void", "function"):
        return 0
    try:
        return _ffi.sizeof(ctype)
    except (TypeError, ValueError, _ffi.error):
        return 0


CffiAllocator.__module__ = CData.__module__ = CType.__module__ = FFI.__module__ = "scopedbump"
