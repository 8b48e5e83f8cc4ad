"""What is asked of ctypes' types, and how their objects are made in a buffer that they keep.

The objects of most types hold a view of the buffer in a dict (`_objects`), where ctypes also keeps what their fields
refer to. Types of one value that refers to something (c_char_p, py_object) have a single place there, and the first
assignment throws the view out: their objects are made as the target of a pointer, which has a dict. Function pointers
are made as the item of an array, where ctypes fills them. Types that are needed for this are made here: ctypes keeps
what `POINTER(T)` makes, and with it T, for ever.
"""

from __future__ import annotations

import ctypes
import reprlib
import struct
from collections.abc import Iterable, Iterator
from ctypes import CFUNCTYPE, Array, Structure, Union, _Pointer, addressof, c_char
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, TypeVar, cast

if TYPE_CHECKING:
    from collections.abc import Callable
    from ctypes import _CData

    from typing_extensions import Buffer

T = TypeVar("T", bound="_CData")

# Any, because type checkers know ctypes' classes by what they hold, and here only the class is asked for.
CTYPE: Any = Structure.__mro__[-2]  # the base of all, which has no name in ctypes
SIMPLE: Any = c_char.__mro__[1]
FUNCTION: Any = CFUNCTYPE(None).__mro__[1]
ANY_POINTER: Any = _Pointer
ARRAY: Any = Array
STRUCT: Any = (Structure, Union)
TUPLE: Any = tuple
OWN_INITS = [base.__init__ for base in (*STRUCT, ARRAY, ANY_POINTER, SIMPLE)]
_REFERS = "zZOX"  # the codes of c_char_p, c_wchar_p, py_object, BSTR


def fields_of(ctype: Any) -> Iterator[tuple[str, Any]]:
    """Names and types in the order of positional arguments: those of the base classes first."""
    for each in reversed(ctype.__mro__):
        declared: Iterable[tuple[Any, ...]] = each.__dict__.get("_fields_", ())
        for field in declared:
            yield field[0], field[1]  # the third, if any, is how many bits


def names_of(ctype: Any) -> dict[str, Any]:
    """What may be given by name: the fields, and those of anonymous ones."""
    named = dict(fields_of(ctype))
    for each in ctype.__mro__:
        anonymous: Iterable[str] = each.__dict__.get("_anonymous_", ())
        for name in anonymous:
            named = names_of(named[name]) | named
    return named


def layout(ctype: type[_CData]) -> tuple[int, int]:
    """Size and alignment in bytes, of what must be a ctypes type."""
    if not (isinstance(ctype, type) and issubclass(ctype, CTYPE)):
        raise TypeError(f"a ctypes type is needed, not {reprlib.repr(ctype)}")
    return ctypes.sizeof(ctype), ctypes.alignment(ctype) or 1  # 0 for a struct whose fields are not known yet


def at(ctype: type[T], buffer: Buffer, start: int = 0) -> T:
    """The object of this type in a buffer, which it keeps."""
    untyped: Any = ctype
    made: T = untyped.from_buffer(buffer, start)
    return made


def array_type(ctype: type[T], length: int) -> type[Array[T]]:
    untyped: Any = ctype
    made: type[Array[T]] = untyped * length
    return made


char_array = lru_cache(maxsize=128)(partial(array_type, c_char))


def _new_pointer_type(ctype: type[_CData]) -> Any:
    """A `POINTER(ctype)` that ctypes does not keep."""
    return type(f"LP_{ctype.__name__}", (_Pointer,), {"_type_": ctype})


pointer_type = cast("Callable[[type[_CData]], Any]", lru_cache(maxsize=64)(_new_pointer_type))


def refers(ctype: type[_CData]) -> bool:
    """Whether it is one value that refers to something."""
    return issubclass(ctype, SIMPLE) and getattr(ctype, "_type_", "") in _REFERS


def place(ctype: type[T], root: memoryview, start: int) -> T:
    """The object at root[start], whatever is assigned to it later."""
    if issubclass(ctype, FUNCTION):
        return place_function(ctype, root, start, None)
    made = at(ctype, root, start)
    if refers(ctype):
        made = pointer_type(ctype)(made).contents
    return made


def place_function(ctype: type[T], root: memoryview, start: int, value: T | None) -> T:
    holder = at(array_type(ctype, 1), root, start)
    if value is not None:
        holder[0] = value
    made: T = holder[0]
    return made


def carve_items(ctype: type[T]) -> Callable[[memoryview, range], list[T]]:
    """Makes a chunk of objects as items behind one pointer, in C."""
    pointer = pointer_type(ctype)

    def carve(root: memoryview, starts: range) -> list[T]:
        chunk: list[T] = pointer(at(ctype, root, starts.start))[: len(starts)]
        return chunk

    return carve


def carve_values(ctype: type[T]) -> Callable[[memoryview, range], list[T]]:
    """The same for types whose items are plain values: as the targets of pointers that lie behind a pointer."""
    pointer = pointer_type(ctype)
    pointers = pointer_type(pointer)

    def carve(root: memoryview, starts: range) -> list[T]:
        base = addressof(c_char.from_buffer(root))
        addresses = range(base + starts.start, base + starts.stop, starts.step)
        table = bytearray(struct.pack(f"{len(starts)}P", *addresses))
        behind = pointers(pointer.from_buffer(table))
        behind._objects["root"] = root
        return [each.contents for each in behind[: len(starts)]]

    return carve


def carve_singly(ctype: type[T]) -> Callable[[memoryview, range], list[T]]:
    def carve(root: memoryview, starts: range) -> list[T]:
        return [place(ctype, root, start) for start in starts]

    return carve


def is_value(ctype: type[_CData]) -> bool:
    """Whether items of this type come out of an array as plain Python values."""
    return SIMPLE in ctype.__bases__
