"""ctypes objects in a region."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar, final, overload

if TYPE_CHECKING:
    from ctypes import Array, _CData, _Pointer, c_char, c_char_p

    from typing_extensions import Buffer

    from scopedbump._region import Region

T = TypeVar("T", bound="_CData")


@final
class CtypesAllocator:
    """Makes ctypes objects in a region. `Region.ctypes` is one."""

    __slots__ = ("_region",)

    def __init__(self, region: Region) -> None:
        self._region = region

    def new(self, ctype: type[T], /, *args: Any, **kwargs: Any) -> T:  # noqa: ANN401  # what the type takes
        raise NotImplementedError

    def array(self, ctype: type[T], values: int | Iterable[Any], /) -> Array[T]:
        raise NotImplementedError

    def string(self, text: str | bytes, /) -> Array[c_char]:
        raise NotImplementedError

    def strings(self, items: Iterable[str | bytes], /) -> Array[c_char_p]:
        raise NotImplementedError

    @overload
    def pointer(self, view: Buffer, /) -> _Pointer[c_char]: ...
    @overload
    def pointer(self, view: Buffer, ctype: type[T], /) -> _Pointer[T]: ...
    def pointer(self, view: Buffer, ctype: type[_CData] = ctypes.c_char, /) -> _Pointer[Any]:
        raise NotImplementedError

    def slab(self, ctype: type[T], /) -> Iterator[T]:
        raise NotImplementedError


CtypesAllocator.__module__ = "scopedbump"
