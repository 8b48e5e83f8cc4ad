"""ctypes objects in a region.

An object holds a view of the region's memory, as `_ctypes_types` explains: that is what pins. Bytes that lie in the
region need no handle. What a ctypes object refers to (a callback, the bytes of a `char *`) does not lie there: so
whatever stores the object's address refers to the object.

What the type itself takes is left to it. Only what it refuses is tried again, with pointers made of what lies in the
region. An `__init__` that a user wrote is called once, with what was given.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterable, Iterator
from ctypes import Array, _Pointer, addressof, c_char, c_char_p, c_void_p, c_wchar, c_wchar_p
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, cast, final, overload

from .. import _hints as hints
from .. import _views
from .._bytecode import cpython
from .._checks import checked_int
from .._layout import PAGE
from .._memory import Memory
from ._ctypes_types import (
    ANY_POINTER,
    ARRAY,
    CTYPE,
    FUNCTION,
    OWN_INITS,
    SIMPLE,
    STRUCT,
    TUPLE,
    also_keep,
    array_maker,
    array_type,
    at,
    batch_items,
    batch_singly,
    batch_values,
    fields_of,
    function_from,
    is_value,
    layout,
    leading,
    names_of,
    place,
    place_function,
    refers,
)
from ._text import encoded, encoded_all, put_strings

if TYPE_CHECKING:
    from collections.abc import Callable
    from ctypes import _CData  # in a string

    _Facts: TypeAlias = tuple[Callable[[memoryview, int], Any], int, int]
    """What makes an object, its size, its alignment less one."""

T = TypeVar("T", bound="_CData")

_MAX_TYPES = 256
_COUNTED = hasattr(sys, "getrefcount")


@final
class CtypesAllocator:
    """Makes ctypes objects: `Region.ctypes` in the region, `heap.ctypes` each by itself.

    On the heap "the region's memory" is the block of the object, and what "lies in this region" is any ctypes object.

    Objects are zeroed, aligned as their type asks, and keep the region's memory as long as they live, and as long as
    anything lives that was made of them: sub-objects, items, pointers, casts, `byref`, memoryviews. `addressof` is raw;
    on PyPy so are `byref` and memoryviews. `ctypes.cast` makes a reference cycle, which keeps the memory until the next
    collection; `pointer` makes none.

    Thread safety: as `Region.alloc`.
    """

    __slots__ = ("_known", "_memory")
    __signature__: object = hints.NOT_CALLED

    def __init__(self, memory: Memory | hints.HeapMemory) -> None:
        self._memory = memory
        self._known: dict[Any, _Facts] = {}

    def new(self, ctype: type[T], /, *args: Any, **kwargs: Any) -> T:
        """Make an object, as `ctype(*args, **kwargs)` does: the same values and errors.

        A pointer (c_char_p, c_wchar_p, c_void_p, `POINTER(T)`) may also be given what lies in this region, or in one
        around it, and needs no cast: `string()` for a `char *`, a T for a `POINTER(T)`, anything for a `void *`. So may
        the fields and items that are pointers, in nested tuples too. Nobody need hold what it leads to, nor what that
        refers to (callbacks, bytes): this object does, until another one is assigned to the pointer.

        Args:
            ctype: any ctypes type. A `__new__` of its own is not called.
            args, kwargs: what the type takes. An `__init__` of its own gets them as they are.

        Raises:
            TypeError: ctype is no ctypes type, or a pointer type that does not say what it points to.
            NotImplementedError: a function pointer with paramflags: ctypes keeps those beside its memory.
            What the type raises, and what `Region.alloc` does. The cursor has not moved, unless an `__init__` of
            your own raised: its traceback refers to the object.

        Lifetime:
            Pins: keeps the region's memory as long as it, or what was made of it, lives. `ctypes.resize` refuses it,
            as any object whose memory is not its own.
        """
        if args or kwargs:
            try:
                return self._filled(ctype, args, kwargs)
            finally:
                del args, kwargs  # a traceback must not pin
        try:
            make, size, less = self._known[ctype]
        except (KeyError, TypeError):
            return self._filled(ctype, args, kwargs)
        made: T = self._memory.make(make, size, less)
        return made

    def _filled(self, ctype: type[T], args: tuple[Any, ...], kwargs: dict[str, Any]) -> T:
        """An object that was initialized with these arguments."""
        made: list[T] = []
        try:
            make, size, less = self._know(ctype)
            calls = ctype.__init__ not in OWN_INITS
            if issubclass(ctype, FUNCTION):
                if args:
                    make = partial(place_function, ctype, function_from(ctype, args, kwargs))
            elif args or kwargs:
                if not (_COUNTED or calls):
                    # Refused before anything is taken: later nobody could tell who keeps it.
                    self._initialize([make(memoryview(bytearray(size)), 0)], args, kwargs)
                calls = True
            view, start, mark, _ = self._memory.alloc_raw(size, less + 1)
            made.append(make(view, start))
            try:
                if calls:
                    self._initialize(made, args, kwargs)
            except BaseException:
                if _COUNTED and not _views.alive(made):  # type: ignore[arg-type]  # any object will do
                    made.clear()
                    self._memory.rewind(view, mark, start + size)
                raise
            return made[0]
        finally:
            made.clear()
            make = view = args = kwargs = None  # type: ignore[assignment]  # a traceback must not pin

    def _initialize(self, made: list[T], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Call `__init__` of the one object that was made; where ctypes refuses, again with pointers that it takes."""
        ctype: Any = made[0].__class__
        try:
            try:
                if cpython or ctype.__init__ not in OWN_INITS:  # PyPy's takes pointers, and forgets them
                    made[0].__init__(*args, **kwargs)  # type: ignore[misc]  # as a call of the type does
                    return
            except (TypeError, RuntimeError):  # the latter from inside a field
                if ctype.__init__ not in OWN_INITS:
                    raise
            address = self._address(ctype, args[0]) if len(args) == 1 and issubclass(ctype, SIMPLE) else 0
            if address:
                also_keep(made[0], args[0])
                args = (address,)
            else:
                args, kwargs = self._fitted(ctype, args, kwargs)
            made[0].__init__(*args, **kwargs)  # type: ignore[misc]  # as above
        finally:
            del args, kwargs  # a traceback must not pin

    def _know(self, ctype: type[T]) -> _Facts:
        """What is known of a type. Kept are types that can be made again and again without a look at them."""
        try:
            return self._known[ctype]
        except (KeyError, TypeError):
            size, align = layout(ctype)
        refers_or_function = refers(ctype) or issubclass(ctype, FUNCTION)
        make = partial(place, ctype) if refers_or_function else cast("Any", ctype).from_buffer
        facts = make, size, align - 1
        if size and align <= PAGE and ctype.__init__ in OWN_INITS:  # no size: its fields are not known yet
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
        data = text if type(text) is bytes and 0 not in text else encoded(text)
        size = len(data) + 1
        made = self._memory.make(array_maker(c_char, size), size, 0)
        made.value = data
        return made

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
        view, start, _ = put_strings(self._memory, texts)
        return array_maker(c_char_p, len(texts) + 1)(view, start)

    @overload
    def pointer(self, view: hints.Buffer, /) -> _Pointer[c_char]: ...
    @overload
    def pointer(self, view: hints.Buffer, ctype: type[T], /) -> _Pointer[T]: ...
    def pointer(self, view: hints.Buffer, ctype: type[Any] = c_char, /) -> Any:
        """Make a `POINTER(ctype)` to a view that lies in this region, without a new type for each size.

        Args:
            view: a buffer that is contiguous and writable, such as `Region.alloc` gives; an empty one is where nothing
                is to be read or written.
            ctype: what the pointer leads to.

        Raises:
            TypeError: view has no buffer of that kind, or ctype is no ctypes type.
            ValueError: it does not lie in this region, is revoked, or is smaller than one ctype.

        Lifetime:
            Pins: keeps the region's memory as long as it lives; the view itself is revoked at the end. ctypes keeps
            the type `POINTER(ctype)` for ever, before Python 3.14.
        """
        _, size, _ = self._know(ctype)
        self._memory.check(view)
        seen = memoryview(view)  # PyPy keeps what it is given here, and the view itself will be revoked
        length = seen.nbytes
        if length >= size and not seen.readonly:
            return ctypes.pointer(at(ctype, seen))
        if seen.readonly:
            del seen  # a traceback must not pin
            raise TypeError(f"a writable buffer is needed, not {view!r}")
        if length:
            del seen  # as above
            raise ValueError(f"{size} bytes are needed for a {ctype.__name__}, not {length}")
        return leading(ctypes.POINTER(ctype), self._memory.address(view), seen)

    def slab(self, ctype: type[T], /) -> Iterator[T]:
        """An endless iterator of zeroed objects, the fastest way to make many.

        Objects are made in chunks (8, 16 ... 256 of them), so the cursor runs ahead of what was taken. A `__del__` of
        their own also runs for those that were made ahead and never taken, when the slab or the region ends. On the
        heap each is made when it is taken.

        Args:
            ctype: any ctypes type that has a size. Neither `__new__` nor `__init__` of its own is called.

        Raises:
            TypeError, ValueError: ctype is no ctypes type, or has no bytes.
            As `Region.slab`.

        Lifetime:
            Pins: each keeps the region's memory, and what was assigned to any object of its chunk.
        """
        size, align = layout(ctype)
        if not size:
            raise ValueError(f"{ctype!r} has no bytes to carve")
        make = batch_singly if size % align or not cpython else batch_values if is_value(ctype) else batch_items
        return self._memory.batches(size, align, make(ctype))

    def hooks(self) -> hints.CtypesHooks:
        """Functions with which a C library allocates in this region, until it ends or is reset.

        Raises:
            TypeError: there is no region: on the heap a library uses its own allocator.
            RegionClosedError, RegionBusyError: the region has ended, or a scope is open in it.
            NotImplementedError: this is a sub-interpreter.
        """
        from .hooks import CtypesHooks, no_hooks_on_the_heap

        if not isinstance(self._memory, Memory):
            no_hooks_on_the_heap()
        return CtypesHooks(self._memory)

    # -- what lies in the region, as the value of a pointer

    def _fitted(
        self, ctype: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments for a type, each as the field or item takes it that it is for."""
        if issubclass(ctype, ARRAY):
            return tuple(self._fit(ctype._type_, value) for value in args), kwargs
        if not issubclass(ctype, STRUCT):
            return args, kwargs
        fields = [field for _, field in fields_of(ctype)]
        named = names_of(ctype)
        return (
            (*map(self._fit, fields, args), *args[len(fields) :]),
            {name: self._fit(named[name], value) if name in named else value for name, value in kwargs.items()},
        )

    def _fit(self, ctype: Any, value: Any) -> Any:
        """The value as a field of this type takes it; as it was, where ctypes shall decide."""
        if isinstance(value, TUPLE):
            return self._fitted(ctype, value, {})[0] if ctype.__init__ in OWN_INITS else value
        if not isinstance(value, CTYPE) or isinstance(value, ctype):
            return value
        if issubclass(ctype, ANY_POINTER):
            target: Any = getattr(ctype, "_type_", ())
            leads = isinstance(value, target) and self._memory.surrounds(addressof(value))
            return ctype(value) if leads else value
        address = self._address(ctype, value)
        return leading(ctype, address, value) if address else value

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
        return address if self._memory.surrounds(address) else 0

    def __repr__(self) -> str:
        return f"<scopedbump.CtypesAllocator: {self._memory!r}>"


_ITEMS: dict[Any, Any] = {c_char_p: c_char, c_wchar_p: c_wchar}


def _target(value: Any) -> int:
    """Where a pointer leads to, or anything else lies."""
    if isinstance(value, (ANY_POINTER, c_char_p, c_wchar_p, c_void_p)):
        return c_void_p.from_buffer(value).value or 0  # a ctypes.cast would put the pointer into a cycle
    return addressof(value)


CtypesAllocator.__module__ = "scopedbump"
