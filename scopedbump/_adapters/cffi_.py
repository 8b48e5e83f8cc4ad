"""cffi objects in a region, of the types of the user's own ffi."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Protocol, SupportsIndex, TypeAlias, final

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from scopedbump._region import Region


class FFI(Protocol):
    """What is used of a user's ffi: in-line `cffi.FFI()`, or the `ffi` of a generated module (ABI or API mode).

    A Protocol, so that nobody's type checker needs stubs of cffi for this.
    """

    def typeof(self, cdecl: str, /) -> Any: ...  # noqa: ANN401, D102
    def alignof(self, cdecl: Any, /) -> int: ...  # noqa: ANN401, D102
    def sizeof(self, cdecl: Any, /) -> int: ...  # noqa: ANN401, D102
    def getctype(self, cdecl: Any, replace_with: str = "", /) -> str: ...  # noqa: ANN401, D102


class CType(Protocol):
    """A C type as `ffi.typeof` gives it."""

    @property
    def kind(self) -> str: ...  # noqa: D102
    @property
    def cname(self) -> str: ...  # noqa: D102


CDecl: TypeAlias = "str | CType"


class CData(Protocol):
    """A C object: fields, items and arithmetic, as cffi documents them. What is read is typed by C alone."""

    def __getattr__(self, field: str, /) -> Any: ...  # noqa: ANN401
    def __setattr__(self, field: str, value: Any, /) -> None: ...  # noqa: ANN401
    def __getitem__(self, index: Any, /) -> Any: ...  # noqa: ANN401
    def __setitem__(self, index: Any, value: Any, /) -> None: ...  # noqa: ANN401
    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[Any]: ...
    def __bool__(self) -> bool: ...
    def __add__(self, items: SupportsIndex, /) -> CData: ...
    def __sub__(self, other: Any, /) -> Any: ...  # noqa: ANN401


@final
class CffiAllocator:
    """Makes cffi objects in a region. `Region.cffi(ffi)` is one."""

    __slots__ = ("_region", "ffi")

    ffi: FFI

    def __init__(self, region: Region, ffi: FFI) -> None:
        self._region = region
        self.ffi = ffi

    def new(self, cdecl: CDecl, init: object = None) -> CData:
        raise NotImplementedError

    def string(self, text: str | bytes, /) -> CData:
        raise NotImplementedError

    def strings(self, items: Iterable[str | bytes], /) -> CData:
        raise NotImplementedError

    def pointer(self, view: Buffer, cdecl: CDecl = "char *") -> CData:
        raise NotImplementedError

    def slab(self, cdecl: CDecl) -> Iterator[CData]:
        raise NotImplementedError


CffiAllocator.__module__ = CData.__module__ = CType.__module__ = FFI.__module__ = "scopedbump"
