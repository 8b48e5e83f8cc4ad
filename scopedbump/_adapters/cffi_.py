"""cffi objects in a region, of the types of the user's own ffi.

The rules:

- cffi makes the objects itself, with an allocator that takes its bytes from the region: what `ffi.new` accepts is
  accepted, and what it refuses is refused with its words.
- An object refers to the pointer that its allocator returned, which keeps the memory: see `_holding`. Where no
  allocator is called, it is `ffi.from_buffer` of an `ffi.buffer` over such a pointer.
- What is known of declarations holds the region's memory too. The end of the region lets an adapter forget it, so
  that an adapter in somebody's variable is no escape. An error's traceback is none either: no frame that it shows
  refers to memory.
- An allocator that fills its object has one user at a time: it remembers its last bytes, to take them back when the
  initializer is refused.
"""

from __future__ import annotations

import reprlib
from collections.abc import Iterable, Iterator
from itertools import repeat
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, cast

import _cffi_backend

from .. import _hints as hints
from .._errors import ScopedBumpError
from .._lifetime import ADDRESS, CHAR_POINTER, keep_alive
from .._lifetime import ffi as _ffi
from .._memory import Memory
from ._text import StringTable, encoded, encoded_all

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._memory import Bumper


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
    def __call__(self, *arguments: Any) -> Any: ...
    def __add__(self, items: int, /) -> CData: ...
    def __sub__(self, other: Any, /) -> Any: ...


if TYPE_CHECKING:
    _Make: TypeAlias = Callable[..., CData]

    _Maker: TypeAlias = tuple[_Make, Bumper]
    """An allocator of cffi for objects of one alignment, and where it takes its bytes."""

_MAX_TYPES = 256
_CHARS = _ffi.typeof("char[]")


class _Known:
    """What is known of a declaration, for one chunk of a region.

    Attributes:
        align: of what is made.
        bumper: where its bytes come from.
        ctype: what the declaration names.
        make: the allocator for what is made without an initializer, which everybody may use.
        needs: the least bytes behind a pointer of this type.
        spare: allocators that nobody uses at present.
    """

    __slots__ = ("align", "bumper", "ctype", "make", "needs", "spare")

    def __init__(self, bumper: Bumper, ctype: _cffi_backend.CType, align: int) -> None:
        self.ctype = ctype
        self.align = align
        self.make, self.bumper = _maker(bumper)
        self.needs = _needs(ctype)
        self.spare: list[_Maker] = []


def _maker(bumper: Bumper) -> _Maker:
    return cast("_Make", _ffi.new_allocator(bumper.alloc, None, False)), bumper


class CffiAllocator:
    """Makes cffi objects in a region: `Region.cffi(ffi)` is one. `heap.cffi(ffi)` makes each by itself instead.

    Objects are zeroed, aligned as their type asks, and keep the region's memory as long as they live, or until
    `ffi.release`; so do `p[0]` of a struct, and `ffi.buffer`, `ffi.gc` and `ffi.new_handle` of them. What cffi makes of
    them that does not own is as raw here as it is with `ffi.new` (a struct within a struct or an array, a slice,
    `ffi.addressof`, `ffi.cast`, what a pointer field leads to): it dangles when the region has ended and nothing that
    owns is left.

    Of an object of any `ffi.new_allocator`, and so of these, cffi forgets things that it knows of those of `ffi.new`:
    `p[1]` of a pointer to anything but a struct or union is no IndexError; `ffi.buffer(x, size)` warns of too large a
    size only for pointers to structs and unions; of a struct with a flexible array `p.data` and `ffi.buffer(p)` know
    the length, but `ffi.sizeof(p[0])` does not count the array, and `p[0].data` has no length; `repr` does not say that
    it owns.

    Thread safety: as `Region.alloc`. cffi looks a function of a library up at its first use, and aborts the process
    when a signal handler or a finalizer uses the same one in the middle of that: use `lib.f` once at import.
    """

    __slots__ = ("_first", "_known", "_memory", "ffi")
    __signature__: object = hints.NOT_CALLED

    ffi: FFI

    def __init__(self, memory: Memory, ffi: FFI) -> None:
        self.ffi = _checked(ffi)
        self._memory = memory
        self._first: list[Bumper] = []  # in the chunk of the region that _known is for
        self._known: dict[CDecl, _Known] = {}

    def new(self, cdecl: CDecl, init: object = None) -> CData:
        """Make an object as `ffi.new` does: the same declarations, initializers and errors.

        Pointers in the initializer may lead anywhere in the region, and nobody need hold what they lead to:
        `c.new("config *", {"name": c.string("worker")})`. On the heap, the object keeps what its initializer refers
        to; what is stored in a field later you hold yourself.

        Args:
            cdecl: a pointer or array type, such as "point *", "int[3]", "int[]".
            init: what `ffi.new` takes for it.

        Returns:
            What `ffi.new` would, but for what cffi forgets of it: see the class.

        Raises:
            What `ffi.new` raises, and what `Region.alloc` does. The cursor has not moved.

        Lifetime:
            Pins: keeps the region's memory as long as it lives, or the struct `p[0]` does, or until `ffi.release`.
        """
        try:
            known = self._known[cdecl]
        except (KeyError, TypeError):
            known = self._know(cdecl)
        if init is None:
            try:
                return known.make(known.ctype)
            except ScopedBumpError as refusal:
                del known
                raise refusal.with_traceback(None) from None  # its frames hold the memory
        spare = known.spare
        try:
            maker = spare.pop()
        except IndexError:
            maker = _maker(known.bumper.another(known.align))
        make, bumper = maker
        bumper.stop = 0
        try:
            return make(known.ctype, init)
        except BaseException as error:
            bumper.rewind()
            if isinstance(error, ScopedBumpError):
                raise error.with_traceback(None) from None  # as above
            raise
        finally:
            spare.append(maker)
            del known, spare, maker, make, bumper

    def _know(self, cdecl: CDecl) -> _Known:
        ctype = _type(self.ffi, cdecl)
        align = _align(ctype)
        try:
            made = _Known(self._bumper(align or 1), ctype, align or 1)
            if align:
                if len(self._known) >= _MAX_TYPES:
                    self._known.clear()
                self._known[cdecl] = made
            if self._memory.current_view() is not made.bumper.view:  # it ended meanwhile, or a scope is open
                self._forget()
        except BaseException:
            self._forget()
            raise
        return made

    def _bumper(self, align: int) -> Bumper:
        try:
            return self._first[0].another(align)
        except IndexError:
            bumper = self._memory.bumper(align)
            self._first.append(bumper)
            self._memory.at_end(id(self), self._forget)
            return bumper

    def _forget(self) -> None:
        """Let go of the region's memory."""
        self._known.clear()
        self._first.clear()

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
        data = encoded(text)
        try:
            known = self._known["char[]"]
        except KeyError:
            known = self._know("char[]")
        try:
            return known.make(known.ctype, data)
        except ScopedBumpError as refusal:
            del known
            raise refusal.with_traceback(None) from None

    def strings(self, items: Iterable[str | bytes], /) -> CData:
        """Make a NULL-terminated `char *[]`, as for argv: the strings are in the region too.

        Args:
            items: any number of str or bytes, as for `string`.

        Raises:
            As `string`; also TypeError for a single string.

        Lifetime:
            Pins, as `new`.
        """
        table = StringTable(encoded_all(items))
        try:
            known = self._known["char *[]"]
        except KeyError:
            known = self._know("char *[]")
        try:
            return _table_at(known.bumper.alloc(table.size), known.ctype, table)
        except ScopedBumpError as refusal:
            del known
            raise refusal.with_traceback(None) from None

    def pointer(self, view: hints.Buffer, cdecl: CDecl = "char *", /) -> CData:
        """Make a pointer to a view that lies in this region; on the heap, to any.

        Unlike `ffi.from_buffer(view)`, which crashes CPython before 3.13 when it dies in one reference cycle with its
        memoryview.

        Args:
            view: a buffer that is contiguous and writable, such as `Region.alloc` gives.
            cdecl: the type of the pointer, such as "point *"; or an array type.

        Raises:
            TypeError, BufferError: view has no buffer of that kind.
            ValueError: it does not lie in this region, is revoked, or is smaller than what the pointer leads to.
            What `ffi.from_buffer` raises.

        Lifetime:
            Pins: keeps the region's memory as long as it lives, or until `ffi.release`; what is read through it does
            not, and the view itself is revoked at the end.
        """
        address, size = _extent(view)
        try:
            known = self._known[cdecl]
        except (KeyError, TypeError):
            known = self._know(cdecl)
        start = known.bumper.pointer(address, size)
        try:
            if start is None:
                raise ValueError(f"{view!r} does not lie in {self._memory!r}")
            if size < known.needs:
                raise _too_small(known.ctype, view)
            return _ffi.from_buffer(known.ctype, _ffi.buffer(start, size), True)
        finally:
            del known, start  # a traceback must not pin

    def hooks(self) -> hints.CffiHooks:
        """Functions with which a C library allocates in this region, until it ends or is reset.

        Raises:
            TypeError: there is no region: on the heap a library uses its own allocator.
            RegionClosedError, RegionBusyError: the region has ended, or a scope is open in it.
            NotImplementedError: this is a sub-interpreter.
        """
        from .hooks import CffiHooks

        return CffiHooks(self._memory, self.ffi)

    def slab(self, cdecl: CDecl, /) -> Iterator[CData]:
        """Raw: an endless iterator of pointers that keep nothing alive, the fastest way to make many objects.

        They dangle when the region ends: to use one after that reads or writes memory that is unmapped or somebody
        else's, or crashes. `new` makes what pins. On the heap each is what `new` makes, and owns its memory.

        Args:
            cdecl: a pointer type, such as "point *": what it leads to is made.

        Raises:
            TypeError, ValueError: cdecl is no pointer to something that has a size.
            As `Region.slab`.
        """
        ctype, size = _pointer_type(self.ffi, cdecl)

        def make(view: memoryview, address: int, starts: range) -> list[CData]:
            first = _ffi.cast(ctype, address + starts.start)
            return [first + index for index in range(len(starts))]

        return self._memory.batches(size, _ffi.alignof(ctype.item), make)

    def __repr__(self) -> str:
        return f"<scopedbump.CffiAllocator: {self._memory!r}>"


class HeapObjects(CffiAllocator):
    """The same without a region: each object by itself, garbage collected as what `ffi.new` makes."""

    __slots__ = ()

    def __init__(self, ffi: FFI) -> None:
        self.ffi = _checked(ffi)

    def new(self, cdecl: CDecl, init: object = None) -> CData:
        ctype = _type(self.ffi, cdecl)
        made = _ffi.new(ctype, init)
        if init is not None:
            owner = made[0] if ctype.kind == "pointer" and ctype.item.kind in ("struct", "union") else made
            for part in _parts(init):
                keep_alive(part, owner)
        return made

    def string(self, text: str | bytes, /) -> CData:
        return _ffi.new(_CHARS, encoded(text))

    def strings(self, items: Iterable[str | bytes], /) -> CData:
        table = StringTable(encoded_all(items))
        return _table_at(_ffi.new(_CHARS, table.size), _type(self.ffi, "char *[]"), table)

    def pointer(self, view: hints.Buffer, cdecl: CDecl = "char *", /) -> CData:
        ctype = _type(self.ffi, cdecl)
        keeper = memoryview(view)
        address, size = _extent(keeper)
        if size < _needs(ctype):
            raise _too_small(ctype, view)
        start = _ffi.cast(CHAR_POINTER, address)
        keep_alive(keeper, start)
        return _ffi.from_buffer(ctype, _ffi.buffer(start, size), True)

    def hooks(self) -> hints.CffiHooks:
        from .hooks import no_hooks_on_the_heap

        no_hooks_on_the_heap()

    def slab(self, cdecl: CDecl, /) -> Iterator[CData]:
        return map(_ffi.new, repeat(_pointer_type(self.ffi, cdecl)[0]))

    def __repr__(self) -> str:
        return "<scopedbump.CffiAllocator: heap>"


def _parts(init: object) -> Iterator[object]:
    """What an initializer leads to: the objects of cffi in it.

    But handles and callbacks, which may well lead back: then nothing would ever be collected.
    """
    if isinstance(init, _ffi.CData):
        ctype = _ffi.typeof(init)
        if ctype.kind != "function" and (ctype.kind != "pointer" or ctype.item.kind != "void"):
            yield init
    elif isinstance(init, dict):
        for value in cast("dict[object, object]", init).values():
            yield from _parts(value)
    elif isinstance(init, (list, tuple)):
        for value in cast("Iterable[object]", init):
            yield from _parts(value)


def _table_at(start: _cffi_backend.CData, ctype: _cffi_backend.CType, table: StringTable) -> CData:
    """A `char *[]` in memory that this pointer holds."""
    _ffi.memmove(start, table.content(int(_ffi.cast(ADDRESS, start))), table.size)
    return _ffi.from_buffer(ctype, _ffi.buffer(start, table.pointers), True)


def _extent(view: hints.Buffer) -> tuple[int, int]:
    """Where a buffer begins, and its bytes.

    Raises:
        TypeError: it is none, or not contiguous.
        BufferError: it can't be written.
    """
    try:
        # Not in a variable, which a traceback would keep: see _holding for what `from_buffer` of a memoryview may do.
        return int(_ffi.cast(ADDRESS, _ffi.from_buffer(_CHARS, view, True))), memoryview(view).nbytes
    except BufferError as refusal:
        if memoryview(view).c_contiguous:
            raise
        raise TypeError(f"a contiguous buffer is needed, not {view!r}: {refusal}") from None


def _checked(ffi: FFI) -> FFI:
    if not callable(getattr(ffi, "typeof", None)):
        raise TypeError(f"an ffi of cffi is needed, not {reprlib.repr(ffi)}")
    return ffi


def _type(ffi: FFI, cdecl: CDecl) -> _cffi_backend.CType:
    """The type that a declaration names."""
    ctype = ffi.typeof(cdecl) if isinstance(cdecl, str) else cdecl
    if not isinstance(ctype, _ffi.CType):
        raise TypeError(f"cdecl must be a str or a type of cffi, not {reprlib.repr(cdecl)}")
    return ctype


def _pointer_type(ffi: FFI, cdecl: CDecl) -> tuple[_cffi_backend.CType, int]:
    """The pointer type that a declaration names, and the size of what it leads to."""
    ctype = _type(ffi, cdecl)
    if ctype.kind != "pointer":
        raise TypeError(f"expected a pointer ctype, got {ctype.cname!r}")
    size = _size(ctype.item)
    if not size:
        raise TypeError(f"{ctype.item.cname!r} has no size, or no bytes to carve")
    return ctype, size


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


def _needs(ctype: _cffi_backend.CType) -> int:
    """The least bytes behind a pointer of this type. A pointer to bytes may lead to none."""
    size = _size(ctype.item) if ctype.kind == "pointer" else 0
    return size if size > 1 else 0


def _too_small(ctype: _cffi_backend.CType, view: object) -> ValueError:
    return ValueError(f"{_needs(ctype)} bytes are needed behind a {ctype.cname!r}, not {view!r}")


CffiAllocator.__module__ = CData.__module__ = CType.__module__ = FFI.__module__ = "scopedbump"
