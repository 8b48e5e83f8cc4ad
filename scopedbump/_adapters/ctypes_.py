"""ctypes objects in a region.

The rules:

- An object made by `from_buffer` holds a view of the region's root, in a dict (`_objects`) where ctypes also keeps
  what its fields refer to: that is what pins. Types of one value that refers to something (c_char_p, py_object) have
  no dict but a single place there, and the first assignment would throw the view out. These objects are made as the
  target of a pointer, which has a dict; function pointers as the item of an array, where ctypes fills them.
- Pointer and array types are made here for as long as they are used: ctypes keeps what `POINTER(T)` makes for ever.
- What lies in the region needs no handle: it is stored as a bare address, and the object that it is stored in pins.
"""

from __future__ import annotations

import ctypes
import reprlib
import sys
from collections.abc import Iterable, Iterator
from ctypes import (
    CFUNCTYPE,
    Array,
    Structure,
    Union,
    _Pointer,
    addressof,
    c_char,
    c_char_p,
    c_void_p,
    c_wchar,
    c_wchar_p,
)
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, TypeVar, cast, final, overload

from scopedbump import _views
from scopedbump._adapters._claim import claim, encoded, encoded_all, give_back, put_strings
from scopedbump._layout import checked_int

if TYPE_CHECKING:
    from collections.abc import Callable
    from ctypes import _CData

    from typing_extensions import Buffer

    from scopedbump._region import Region

T = TypeVar("T", bound="_CData")

# Any, because type checkers know ctypes' classes by what they hold, and here only the class is asked for.
_CTYPE: Any = Structure.__mro__[-2]  # the base of all, which has no name in ctypes
_SIMPLE: Any = c_char.__mro__[1]
_FUNCTION: Any = CFUNCTYPE(None).__mro__[1]
_POINTER: Any = _Pointer
_ARRAY: Any = Array
_STRUCT: Any = (Structure, Union)
_TUPLE: Any = tuple
_OWN_INITS = [base.__init__ for base in (*_STRUCT, _ARRAY, _POINTER, _SIMPLE)]
_REFERS = "zZOX"  # the codes of c_char_p, c_wchar_p, py_object, BSTR
_COUNTED = hasattr(sys, "getrefcount")


@final
class CtypesAllocator:
    """Makes ctypes objects in a region. `Region.ctypes` is one.

    Objects are zeroed, aligned as their type asks, and keep the region's memory as long as they live, and as long as
    anything lives that was made of them: sub-objects, items, pointers, casts, `byref`, memoryviews. `addressof` is raw.

    Thread safety: as `Region.alloc`.
    """

    __slots__ = ("_region",)

    def __init__(self, region: Region) -> None:
        self._region = region

    def new(self, ctype: type[T], /, *args: Any, **kwargs: Any) -> T:
        """Make an object, as `ctype(*args, **kwargs)` does: the same values and errors.

        A pointer (c_char_p, c_wchar_p, c_void_p, `POINTER(T)`) may also be given what lies in this region, or in one
        around it, and needs no cast: `string()` for a `char *`, a T for a `POINTER(T)`, anything for a `void *`.
        Nobody need hold what it leads to.

        Args:
            ctype: any ctypes type. A `__new__` of its own is not called.
            args, kwargs: what the type takes.

        Raises:
            TypeError: ctype is no ctypes type.
            What the type raises, and what `Region.alloc` does. The cursor has not moved, unless an `__init__` of
            your own raised: its traceback refers to the object.

        Lifetime:
            Pins: keeps the region's memory as long as it, or what was made of it, lives.
        """
        size, align = _layout(ctype)
        args, kwargs = self._fitted(ctype, args, kwargs)
        if issubclass(ctype, _FUNCTION):
            return self._function(ctype, ctype(*args, **kwargs))
        if not _COUNTED and ctype.__init__ in _OWN_INITS:
            ctype(*args, **kwargs)  # refused before anything is claimed: later nobody could tell who has kept it
        root, cursor, start = claim(self._region, size, align)
        made = [_place(ctype, root, start)]
        try:
            made[0].__init__(*args, **kwargs)  # type: ignore[misc]  # as a call of the type does
        except BaseException:
            if _COUNTED and not _views.alive(made):  # type: ignore[arg-type]  # any object will do
                made.clear()
                give_back(self._region, root, cursor, start + size)
            made.clear()
            del root  # a traceback must not pin
            raise
        return made[0]

    def _function(self, ctype: type[T], plain: T) -> T:
        size, align = _layout(ctype)
        one = _array(ctype, 1)
        root, _, start = claim(self._region, size, align)
        holder = _at(one, root, start)
        holder[0] = plain
        made: T = holder[0]
        return made

    def array(self, ctype: type[T], values: int | Iterable[Any], /) -> Array[T]:
        """Make an array, as `(ctype * n)(*values)` does.

        Args:
            ctype: the type of the items.
            values: how many items, all zero; or the items' values, which may be what `new` takes.

        Raises:
            TypeError, ValueError, OverflowError: ctype is no ctypes type, or there are less than 0 or too many items.
            As `new`.

        Lifetime:
            Pins, as `new`.
        """
        _layout(ctype)
        if isinstance(values, Iterable):
            values = tuple(values)
            return self.new(_array(ctype, len(values)), *values)
        return self.new(_array(ctype, checked_int(values, "values", 0)))

    def string(self, text: str | bytes, /) -> Array[c_char]:
        """Make a NUL-terminated array of c_char.

        Args:
            text: a str, encoded in UTF-8, or bytes.

        Raises:
            TypeError: text is neither.
            ValueError: text holds a NUL, or can't be encoded.
            As `Region.alloc`.

        Lifetime:
            Pins, as `new`.
        """
        data = encoded(text) + b"\0"
        ctype = _char_array(len(data))
        root, _, start = claim(self._region, len(data), 1)
        root[start : start + len(data)] = data
        return _at(ctype, root, start)

    def strings(self, items: Iterable[str | bytes], /) -> Array[c_char_p]:
        """Make a NULL-terminated `char *[]`, as for argv: the strings are in the region too.

        Args:
            items: any number of str or bytes, as for `string`.

        Raises:
            As `string`; also TypeError for a single string.

        Lifetime:
            Pins, as `new`. The bytes that an item gives are a copy.
        """
        texts = encoded_all(items)
        ctype = _array(c_char_p, len(texts) + 1)
        return _at(ctype, *put_strings(self._region, texts))

    @overload
    def pointer(self, view: Buffer, /) -> _Pointer[c_char]: ...
    @overload
    def pointer(self, view: Buffer, ctype: type[T], /) -> _Pointer[T]: ...
    def pointer(self, view: Buffer, ctype: type[_CData] = c_char, /) -> _Pointer[Any]:
        """Make a `POINTER(ctype)` to a view that lies in this region, without a new type for each size.

        Args:
            view: a buffer that is contiguous and writable, such as `Region.alloc` gives.
            ctype: what the pointer leads to.

        Raises:
            TypeError: view has no buffer of that kind, or ctype is no ctypes type.
            ValueError: it does not lie in this region, is revoked, or is smaller than one ctype.

        Lifetime:
            Pins: keeps the region's memory, and the view, as long as it lives. ctypes itself keeps the type
            `POINTER(ctype)` for ever, before Python 3.14.
        """
        _layout(ctype)
        self._region.address(view)
        return ctypes.pointer(_at(ctype, view))

    def slab(self, ctype: type[T], /) -> Iterator[T]:
        """An endless iterator of zeroed objects, the fastest way to make many.

        Objects are made in chunks (8, 16 ... 256 of them), so the cursor runs ahead of what was taken.

        Args:
            ctype: any ctypes type that has a size. Neither `__new__` nor `__init__` of its own is called.

        Raises:
            TypeError, ValueError: ctype is no ctypes type, or has no bytes.
            As `Region.slab`.

        Lifetime:
            Pins: each keeps the region's memory, and they keep the chunk that they were made in.
        """
        size, align = _layout(ctype)
        if not size:
            raise ValueError(f"{ctype!r} has no bytes to carve")
        carve = _carve_singly if size % align or _is_value(ctype) else _carve
        return self._region._slab(size, align, carve(ctype))

    # -- what lies in the region, as the value of a pointer

    def _fitted(
        self, ctype: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments for a type, each as the field takes it that it is for."""
        if not any(isinstance(value, (_CTYPE, tuple)) for value in (*args, *kwargs.values())):
            return args, kwargs
        if not issubclass(ctype, _STRUCT):
            item = ctype._type_ if issubclass(ctype, _ARRAY) else ctype
            return tuple(self._fit(item, value) for value in args), kwargs
        fields = [field for _, field in _fields(ctype)]
        named = _names(ctype)
        return (
            (*map(self._fit, fields, args), *args[len(fields) :]),
            {name: self._fit(named[name], value) if name in named else value for name, value in kwargs.items()},
        )

    def _fit(self, ctype: Any, value: Any) -> Any:
        """The value as a field of this type takes it; as it was, where ctypes shall decide."""
        if isinstance(value, _TUPLE):
            return self._fitted(ctype, value, {})[0] if issubclass(ctype, (*_STRUCT, _ARRAY)) else value
        if not isinstance(value, _CTYPE) or isinstance(value, ctype):
            return value
        if issubclass(ctype, _POINTER):
            target: Any = getattr(ctype, "_type_", ())
            leads = isinstance(value, target) and self._covers(addressof(value))
            return ctype(value) if leads else value
        for pointer, item in _ITEMS.items():
            if issubclass(ctype, pointer) and isinstance(value, (_ARRAY, _POINTER)):
                leads = value._type_ is item and self._covers(_target(value))
                return _target(value) if leads else value
        leads = issubclass(ctype, c_void_p) and not isinstance(value, _FUNCTION) and self._covers(_target(value))
        return _target(value) if leads else value

    def _covers(self, address: int) -> bool:
        """Whether an address lies in this region or one around it: both keep it as long as anything points in here."""
        region = self._region
        while region._parent is not None:
            region = region._parent
        return region._covers(address, address + 1)


_ITEMS: dict[Any, Any] = {c_char_p: c_char, c_wchar_p: c_wchar}


def _target(value: Any) -> int:
    """Where a pointer leads to, or anything else lies."""
    if isinstance(value, (_POINTER, c_char_p, c_wchar_p)):
        return ctypes.cast(value, c_void_p).value or 0
    return addressof(value)


def _fields(ctype: Any) -> Iterator[tuple[str, Any]]:
    """Names and types in the order of positional arguments: those of the base classes first."""
    for each in reversed(ctype.__mro__):
        declared: Iterable[tuple[Any, ...]] = each.__dict__.get("_fields_", ())
        for field in declared:
            yield field[0], field[1]  # the third, if any, is how many bits


def _names(ctype: Any) -> dict[str, Any]:
    """What may be given by name: the fields, and those of anonymous ones."""
    named = dict(_fields(ctype))
    for each in ctype.__mro__:
        anonymous: Iterable[str] = each.__dict__.get("_anonymous_", ())
        for name in anonymous:
            named = _names(named[name]) | named
    return named


def _layout(ctype: type[_CData]) -> tuple[int, int]:
    """Size and alignment in bytes, of what must be a ctypes type."""
    if not (isinstance(ctype, type) and issubclass(ctype, _CTYPE)):
        raise TypeError(f"a ctypes type is needed, not {reprlib.repr(ctype)}")
    return ctypes.sizeof(ctype), ctypes.alignment(ctype) or 1  # 0 for a struct whose fields are not known yet


def _at(ctype: type[T], buffer: Buffer, start: int = 0) -> T:
    """The object of this type in a buffer, which it keeps."""
    untyped: Any = ctype
    made: T = untyped.from_buffer(buffer, start)
    return made


def _array(ctype: type[T], length: int) -> type[Array[T]]:
    untyped: Any = ctype
    made: type[Array[T]] = untyped * length
    return made


_char_array = lru_cache(maxsize=128)(partial(_array, c_char))


def _new_pointer_type(ctype: type[_CData]) -> Any:
    """A `POINTER(ctype)` that ctypes does not keep."""
    return type(f"LP_{ctype.__name__}", (_Pointer,), {"_type_": ctype})


_pointer_type = cast("Callable[[type[_CData]], Any]", lru_cache(maxsize=64)(_new_pointer_type))


def _place(ctype: type[T], root: memoryview, start: int) -> T:
    """The object of this type at root[start], so that nothing assigned to it can end the pin."""
    made = _at(ctype, root, start)
    if issubclass(ctype, _SIMPLE) and getattr(ctype, "_type_") in _REFERS:  # noqa: B009  # simple types alone have it
        made = _pointer_type(ctype)(made).contents
    return made


def _carve(ctype: type[T]) -> Callable[[memoryview, range], list[T]]:
    """Makes a chunk of objects as items behind one pointer, in C."""
    pointer = _pointer_type(ctype)

    def carve(root: memoryview, starts: range) -> list[T]:
        chunk: list[T] = pointer(_at(ctype, root, starts.start))[: len(starts)]
        return chunk

    return carve


def _carve_singly(ctype: type[T]) -> Callable[[memoryview, range], list[T]]:
    def carve(root: memoryview, starts: range) -> list[T]:
        return [_place(ctype, root, start) for start in starts]

    return carve


def _is_value(ctype: type[_CData]) -> bool:
    """Whether items of this type come out of an array as plain Python values."""
    return _SIMPLE in ctype.__bases__


CtypesAllocator.__module__ = "scopedbump"
