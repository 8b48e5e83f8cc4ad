"""What is asked of ctypes' types, and how their objects are made in a buffer that they keep.

The objects of most types hold a view of the buffer in a dict (`_objects`), where ctypes also keeps what their fields
refer to. Types of one value that refers to something (c_char_p, py_object) have a single place there, and the first
assignment throws the view out: their objects are made as the target of a pointer, which has a dict. Function pointers
are made as the item of an array, where ctypes fills them. Types that are needed for this are made here: ctypes keeps
what `POINTER(T)` makes, and with it T, for ever.

Where a bare address is stored (in a `void *` or `char *`), `leading` makes a pointer that refers to the object it leads
to. ctypes then keeps it as it keeps anything that is assigned: in the dict of the object that the field is in, until
another object is assigned there, or that object goes.
"""

from __future__ import annotations

import ctypes
import reprlib
import struct
from collections.abc import Iterable, Iterator
from ctypes import CFUNCTYPE, Array, Structure, Union, _Pointer, c_char
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar, cast

from .._bytecode import cpython

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
OWN_INITS = frozenset(base.__init__ for base in (*STRUCT, ARRAY, ANY_POINTER, SIMPLE, FUNCTION))
_REFERS = "zZOXP"  # the codes of c_char_p, c_wchar_p, py_object, BSTR, c_void_p


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
    if issubclass(ctype, ANY_POINTER) and not isinstance(getattr(ctype, "_type_", None), type):
        raise TypeError(f"{ctype.__name__} does not say what it points to: it has no _type_")
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


@lru_cache(maxsize=128)
def array_maker(ctype: type[T], length: int) -> Callable[[memoryview, int], Array[T]]:
    """`at` for the arrays of a type and length that are made again and again."""
    untyped: Any = array_type(ctype, length)
    made: Callable[[memoryview, int], Array[T]] = untyped.from_buffer
    return made


def _new_pointer_type(ctype: type[_CData]) -> Any:
    """A `POINTER(ctype)` that ctypes does not keep."""
    return type(f"LP_{ctype.__name__}", (_Pointer,), {"_type_": ctype})


pointer_type = cast("Callable[[type[_CData]], Any]", lru_cache(maxsize=64)(_new_pointer_type))


def refers(ctype: type[_CData]) -> bool:
    """Whether it is one value that refers to something."""
    return issubclass(ctype, SIMPLE) and getattr(ctype, "_type_", "") in _REFERS


def place(ctype: type[T], view: memoryview, start: int) -> T:
    """The object at view[start], whatever is assigned to it later."""
    if issubclass(ctype, FUNCTION):
        return place_function(ctype, None, view, start)
    made = at(ctype, view, start)
    if refers(ctype):
        made = pointer_type(ctype)(made).contents
    return made


def function_from(ctype: type[T], args: tuple[Any, ...], kwargs: dict[str, Any]) -> T:
    """A function pointer as ctypes makes it, to be copied."""
    made: T = FUNCTION.__new__(ctype, *args, **kwargs)
    if not cpython:  # there it is filled by its `__init__`
        FUNCTION.__init__(made, *args, **kwargs)
    if len(args) > 1 and args[1] is not None:
        raise NotImplementedError(
            f"{ctype.__name__}: ctypes keeps paramflags ({args[1]!r}) beside the memory of a function pointer, and "
            "can't put them on one that lies somewhere else: call the type itself"
        )
    return made


def place_function(ctype: type[T], value: T | None, view: memoryview, start: int) -> T:
    """A function pointer at view[start], a copy of the value."""
    holder = at(array_type(ctype, 1), view, start)
    if value is not None:
        holder[0] = value
    made: T = holder[0]
    return made


class _Address(bytearray):
    """An address, and the object that lies there."""

    __slots__ = ("of",)
    of: object


def leading(ctype: type[T], address: int, of: object) -> T:
    """A pointer of this type to an address, which refers to what lies there."""
    stored = _Address(struct.pack("P", address))
    stored.of = of
    return at(ctype, stored)


def also_keep(made: _CData, what: object) -> None:
    """Let an object of a type that `refers` keep something, as long as it lives."""
    pointer: Any = made
    if cpython:
        pointer._b_base_._objects["leads to"] = what
    else:
        pointer._objects = pointer._b_base_, what


def batch_items(ctype: type[T]) -> Callable[[memoryview, int, range], list[T]]:
    """Makes a batch of objects as items behind one pointer, in C."""
    pointer = pointer_type(ctype)

    def make(view: memoryview, address: int, starts: range) -> list[T]:
        # Not a pointer to an object there: that would be one object more, and a `__del__` of its own would run too.
        behind = pointer.from_buffer(bytearray(struct.pack("P", address + starts.start)))
        behind._objects["view"] = view
        batch: list[T] = behind[: len(starts)]
        return batch

    return make


def batch_values(ctype: type[T]) -> Callable[[memoryview, int, range], list[T]]:
    """The same for types whose items are plain values: as the targets of pointers that lie behind a pointer."""
    pointer = pointer_type(ctype)
    pointers = pointer_type(pointer)

    def make(view: memoryview, address: int, starts: range) -> list[T]:
        addresses = range(address + starts.start, address + starts.stop, starts.step)
        table = bytearray(struct.pack(f"{len(starts)}P", *addresses))
        behind = pointers(pointer.from_buffer(table))
        behind._objects["view"] = view
        return [each.contents for each in behind[: len(starts)]]

    return make


def batch_singly(ctype: type[T]) -> Callable[[memoryview, int, range], list[T]]:
    def make(view: memoryview, address: int, starts: range) -> list[T]:
        return [place(ctype, view, start) for start in starts]

    return make


def is_value(ctype: type[_CData]) -> bool:
    """Whether items of this type come out of an array as plain Python values."""
    return SIMPLE in ctype.__bases__
