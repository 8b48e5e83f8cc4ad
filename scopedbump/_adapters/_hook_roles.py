"""Roles: what the parameters of an allocator's function mean. Their types are the user's, and are looked at here.

Types alone can't tell `(opaque, size)` from `(ptr, size)`: the user names the parameters, in the order of C.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from .._lifetime import ffi

if TYPE_CHECKING:
    from _cffi_backend import CType

POINTER: Final = "uintptr_t"
NOTHING: Final = "void"
_ROLES = "opaque", "count", "size", "old", "ptr", "align", "_"
_NUMBERS = "count", "size", "old", "align"
_ALLOWED = {
    "malloc": ("opaque", "count", "size", "align", "_"),
    "calloc": ("opaque", "count", "size", "align", "_"),
    "realloc": _ROLES,
    "free": ("opaque", "ptr", "size", "_"),
}
_NEEDED = {"malloc": ("size",), "calloc": ("size",), "realloc": ("ptr", "size"), "free": ("ptr",)}


class Signature(NamedTuple):
    """A function's type with integers for pointers: `uintptr_t`, `int32_t` and the like, or `void`; "" for others.

    Attributes:
        name: of the type, as its user writes it.
        result: of the function.
        parameters: in order.
    """

    name: str
    result: str
    parameters: tuple[str, ...]

    @property
    def cdecl(self) -> str:
        """The type in C."""
        return f"{self.result}(*)({', '.join(self.parameters) or NOTHING})"


@lru_cache(maxsize=256)  # it takes ten times as long as the rest of making a function
def cffi_roles(kind: str, ctype: CType, roles: str) -> tuple[tuple[str, ...], Signature]:
    """The role of each parameter of a function pointer of cffi, and its signature. Raises what `parse` does."""
    signature = _cffi_signature(ctype)
    return parse(kind, roles, signature), signature


@lru_cache(maxsize=256)
def ctypes_roles(kind: str, ctype: Any, roles: str) -> tuple[tuple[str, ...], Signature]:
    """The same for a function type of ctypes, such as CFUNCTYPE makes."""
    signature = _ctypes_signature(ctype)
    return parse(kind, roles, signature), signature


def parse(kind: str, roles: str, signature: Signature) -> tuple[str, ...]:
    """The role of each parameter.

    Args:
        kind: "malloc", "calloc", "realloc" or "free".
        roles: as the user gave them.
        signature: of the function's type.

    Raises:
        ValueError: they are no roles, or do not fit the type.
    """
    names = tuple(roles.split())
    allowed = _ALLOWED[kind]
    for name in names:
        if name not in allowed:
            raise ValueError(f"{name!r} in roles {roles!r} of {kind} is none of: {', '.join(allowed)}")
        if name != "_" and names.count(name) > 1:
            raise ValueError(f"{name!r} stands twice in roles {roles!r}")
    for name in _NEEDED[kind]:
        if name not in names:
            raise ValueError(f"{name!r} is missing in roles {roles!r}: {kind} needs it")
    _check_fit(kind, roles, names, signature)
    return names


def _check_fit(kind: str, roles: str, names: tuple[str, ...], signature: Signature) -> None:
    """Refuse roles that the types of the parameters can't have."""
    what, result, parameters = signature
    if len(names) != len(parameters):
        raise ValueError(f"roles {roles!r} name {len(names)} parameters, {what!r} has {len(parameters)}")
    expected, word = (NOTHING, "nothing") if kind == "free" else (POINTER, "a pointer")
    if result != expected:
        raise ValueError(f"{kind} returns {word}, which {what!r} does not")
    for name, parameter in zip(names, parameters, strict=True):
        if not parameter:
            raise ValueError(f"{name!r} in roles {roles!r} is neither a pointer nor an integer in {what!r}")
        if name == "ptr" and parameter != POINTER:
            raise ValueError(f"'ptr' in roles {roles!r} is no pointer in {what!r}")
        if name in _NUMBERS and parameter == POINTER:
            raise ValueError(f"{name!r} in roles {roles!r} is a pointer in {what!r}, and should be an integer")


_NO_INTEGERS = ("_Bool", "char", "wchar_t", "char16_t", "char32_t", "float", "double", "long double")


def _cffi_signature(ctype: CType) -> Signature:
    """The signature of a function pointer of cffi."""
    if ctype.kind != "function":
        raise TypeError(f"ctype must be a function pointer, not {ctype.cname!r}")
    if ctype.ellipsis:
        raise ValueError(f"{ctype.cname!r} takes any number of arguments")
    return Signature(ctype.cname, _cffi_word(ctype.result), tuple(map(_cffi_word, ctype.args)))


def _cffi_word(ctype: CType) -> str:
    if ctype.kind in ("pointer", "function"):
        return POINTER
    if ctype.kind == "void":
        return NOTHING
    if ctype.kind == "enum" or (ctype.kind == "primitive" and ctype.cname not in _NO_INTEGERS):
        try:
            return _integer(ffi.sizeof(ctype), int(ffi.cast(ctype, -1)) < 0)
        except (TypeError, ValueError, ffi.error):  # a complex number
            return ""
    return ""


def _integer(size: int, signed: bool) -> str:
    return f"{'' if signed else 'u'}int{8 * size}_t"


def _ctypes_signature(ctype: Any) -> Signature:
    """The signature of a function type of ctypes, such as CFUNCTYPE makes."""
    import ctypes

    parameters: Any = getattr(ctype, "_argtypes_", ())
    result: Any = getattr(ctype, "_restype_", None)
    word = NOTHING if result is None else _ctypes_word(ctypes, result)
    words = tuple(_ctypes_word(ctypes, parameter) for parameter in parameters)
    names = ", ".join(parameter.__name__ for parameter in parameters)
    return Signature(f"{'None' if result is None else result.__name__} ({names})", word, words)


def _ctypes_word(ctypes: Any, ctype: Any) -> str:
    from ._ctypes_types import ANY_POINTER, FUNCTION

    if issubclass(ctype, (ANY_POINTER, FUNCTION, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_wchar_p)):
        return POINTER
    code: Any = getattr(ctype, "_type_", "")
    if isinstance(code, str) and code in "bBhHiIlLqQ" and code:
        return _integer(ctypes.sizeof(ctype), code.islower())
    return ""
