"""ctypes objects in a region.

An object holds a view of the region's root, as `_kinds` explains: that is what pins. What lies in the region needs no
handle: a pointer field stores its bare address, and the object that the field is in pins the region.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterable, Iterator
from ctypes import Array, _Pointer, addressof, c_char, c_char_p, c_void_p, c_wchar, c_wchar_p
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, cast, final, overload

from scopedbump import _views
from scopedbump._adapters._claim import claim, encoded, encoded_all, give_back, put_strings
from scopedbump._adapters._kinds import (
    ANY_POINTER,
    ARRAY,
    CTYPE,
    FUNCTION,
    OWN_INITS,
    STRUCT,
    TUPLE,
    array_type,
    at,
    carve_items,
    carve_singly,
    carve_values,
    char_array,
    fields_of,
    is_value,
    layout,
    names_of,
    place,
    place_function,
    refers,
)
from scopedbump._atomic import cpython
from scopedbump._layout import checked_int

if TYPE_CHECKING:
    from collections.abc import Callable
    from ctypes import _CData

    from typing_extensions import Buffer

    from scopedbump._lease import Lease
    from scopedbump._region import Region

    _Facts: TypeAlias = tuple[int, int, Callable[[memoryview, int], Any] | None, bool]
    """Size, alignment, what makes an object (but a function pointer), whether the type's __init__ is ctypes' own."""

T = TypeVar("T", bound="_CData")

_MAX_TYPES = 256
_COUNTED = hasattr(sys, "getrefcount")


@final
class CtypesAllocator:
    """Makes ctypes objects in a region. `Region.ctypes` is one.

    Objects are zeroed, aligned as their type asks, and keep the region's memory as long as they live, and as long as
    anything lives that was made of them: sub-objects, items, pointers, casts, `byref`, memoryviews. `addressof` is raw.

    Thread safety: as `Region.alloc`.
    """

    __slots__ = ("_known", "_region")

    def __init__(self, region: Region) -> None:
        self._region = region
        self._known: dict[Any, _Facts] = {}

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
        try:
            size, align, make, plain = self._known[ctype]
        except (KeyError, TypeError):
            size, align, make, plain = self._know(ctype)
        if args or kwargs:
            args, kwargs = self._fitted(ctype, args, kwargs)
            if make is None:
                filled = ctype(*args, **kwargs)  # a function pointer is filled by its __new__
                root, _, start = claim(self._region, size, align)
                return place_function(ctype, root, start, filled)
            if plain and not _COUNTED:
                ctype(*args, **kwargs)  # refused before anything is claimed: later nobody could tell who keeps it
        root, cursor, start = claim(self._region, size, align)
        if make is None:
            return place_function(ctype, root, start, None)
        made: list[T] = [make(root, start)]
        if plain and not args and not kwargs:
            return made[0]
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

    def _know(self, ctype: type[T]) -> _Facts:
        size, align = layout(ctype)
        make: Callable[[memoryview, int], Any] | None = partial(place, ctype)
        if issubclass(ctype, FUNCTION):
            make = None
        elif not refers(ctype):
            make = cast("Any", ctype).from_buffer
        facts = size, align, make, ctype.__init__ in OWN_INITS
        if size:  # or its fields are not known yet
            if len(self._known) >= _MAX_TYPES:
                self._known.clear()
            self._known[ctype] = facts
        return facts

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
        layout(ctype)
        if isinstance(values, Iterable):
            values = tuple(values)
            return self.new(array_type(ctype, len(values)), *values)
        return self.new(array_type(ctype, checked_int(values, "values", 0)))

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
        ctype = char_array(len(data))
        root, _, start = claim(self._region, len(data), 1)
        root[start : start + len(data)] = data
        return at(ctype, root, start)

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
        ctype = array_type(c_char_p, len(texts) + 1)
        return at(ctype, *put_strings(self._region, texts))

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
            Pins: keeps the region's memory as long as it lives; the view itself is revoked at the end. ctypes keeps
            the type `POINTER(ctype)` for ever, before Python 3.14.
        """
        size, _ = layout(ctype)
        self._region.address(view)
        with memoryview(view) as seen:
            if seen.readonly:
                raise TypeError(f"a writable buffer is needed, not {view!r}")
            if seen.nbytes < size:
                raise ValueError(f"{size} bytes are needed for a {ctype.__name__}, not {seen.nbytes}")
        # PyPy keeps what it is given here, and the view itself will be revoked.
        return ctypes.pointer(at(ctype, memoryview(view)))

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
        size, align = layout(ctype)
        if not size:
            raise ValueError(f"{ctype!r} has no bytes to carve")
        carve = carve_singly if size % align or not cpython else carve_values if is_value(ctype) else carve_items
        return self._region._slab(size, align, carve(ctype))

    # -- what lies in the region, as the value of a pointer

    def _fitted(
        self, ctype: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments for a type, each as the field takes it that it is for."""
        if not any(isinstance(value, (CTYPE, tuple)) for value in (*args, *kwargs.values())):
            return args, kwargs
        if issubclass(ctype, ANY_POINTER):  # takes what it leads to
            return args, kwargs
        if issubclass(ctype, ARRAY):
            return tuple(self._fit(ctype._type_, value) for value in args), kwargs
        if not issubclass(ctype, STRUCT):
            return tuple(self._address(ctype, value) or value for value in args), kwargs
        fields = [field for _, field in fields_of(ctype)]
        named = names_of(ctype)
        return (
            (*map(self._fit, fields, args), *args[len(fields) :]),
            {name: self._fit(named[name], value) if name in named else value for name, value in kwargs.items()},
        )

    def _fit(self, ctype: Any, value: Any) -> Any:
        """The value as a field of this type takes it; as it was, where ctypes shall decide."""
        if isinstance(value, TUPLE):
            return self._fitted(ctype, value, {})[0] if issubclass(ctype, (*STRUCT, ARRAY)) else value
        if not isinstance(value, CTYPE) or isinstance(value, ctype):
            return value
        if issubclass(ctype, ANY_POINTER):
            target: Any = getattr(ctype, "_type_", ())
            leads = isinstance(value, target) and self._covers(addressof(value))
            return ctype(value) if leads else value
        address = self._address(ctype, value)
        return ctype(address) if address else value

    def _address(self, ctype: Any, value: Any) -> int:
        """What an untyped pointer of this type stores for something in the region; 0 where ctypes shall decide."""
        if not isinstance(value, CTYPE) or isinstance(value, (ctype, FUNCTION)):
            return 0
        for pointer, item in _ITEMS.items():
            if issubclass(ctype, pointer):
                if not isinstance(value, (ARRAY, ANY_POINTER)) or value._type_ is not item:
                    return 0
                break
        else:
            if not issubclass(ctype, c_void_p):
                return 0
        address = _target(value)
        return address if self._covers(address) else 0

    def _covers(self, address: int) -> bool:
        """Whether an address lies in this region or one around it: both keep it as long as anything points in here."""
        region: Lease = self._region
        while region._parent is not None:
            region = region._parent
        return region._covers(address, address + 1)


_ITEMS: dict[Any, Any] = {c_char_p: c_char, c_wchar_p: c_wchar}


def _target(value: Any) -> int:
    """Where a pointer leads to, or anything else lies."""
    if isinstance(value, (ANY_POINTER, c_char_p, c_wchar_p)):
        return c_void_p.from_buffer(value).value or 0  # a ctypes.cast would put the pointer into a cycle
    return addressof(value)


CtypesAllocator.__module__ = "scopedbump"
