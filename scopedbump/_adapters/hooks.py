"""Hooks: functions with which a C library allocates in a region. What is behind them is `_hook_slots`'.

Not for speed, but so that what a library takes has a limit and an end: a document that explodes is out of memory inside
its region, and what the library never frees goes with it.
"""

from __future__ import annotations

import reprlib
from collections.abc import Callable
from functools import partial
from typing import Any, NoReturn, TypeVar, final

from .. import _hints as hints
from .._errors import RegionClosedError, ScopedBumpError
from .._holding import holding_pointer
from .._lifetime import ADDRESS, CHAR_POINTER
from .._lifetime import ffi as _ffi
from .._memory import Memory
from . import _hook_slots as slots
from ._callbacks import is_main_interpreter
from ._hook_roles import Signature, cffi_roles, ctypes_roles
from .cffi_ import FFI, CData, CDecl

F = TypeVar("F")
P = TypeVar("P")


class _Destroy(partial[object]):
    """Destroys an object of C, and keeps its memory until then. Called by C, without a frame of Python.

    Attributes:
        keeps: the memory, and the slots of the hooks.
    """

    __slots__ = ("keeps",)
    keeps: object


class _Hooks:
    """What both kinds of hooks have in common."""

    __slots__ = ("_made", "_memory", "_turn")
    __signature__: object = hints.NOT_CALLED

    def __init__(self, memory: Memory) -> None:
        if not is_main_interpreter():
            raise NotImplementedError("a C library can allocate in a region only in the main interpreter")
        blocks = None
        while blocks is None:
            blocks = memory.blocks(None)
            why = memory.why_not()
            if blocks is None and why is not None:
                raise why
        self._memory = memory
        self._turn = slots.Turn(memory, blocks)
        self._made: dict[tuple[str, tuple[str, ...], Signature], int] = {}

    @property
    def refused(self) -> ScopedBumpError | None:
        """Why the last NULL: C only says "no memory". None when there was none."""
        return self._turn.refused

    def _function(self, kind: str, names: tuple[str, ...], signature: Signature) -> int:
        """The address of a function; the same for the same arguments."""
        if kind == "free" and not self._turn.blocks.debug:
            return slots.NO_OP
        key = kind, names, signature
        made = self._made.get(key)
        if made is None or self._turn.loan is None:
            made = self._made[key] = slots.lend(self._turn, kind, names, signature)
        return made

    def _destroyer(self, pointer: object, address: int, destroy: Callable[..., object] | None) -> _Destroy:
        if not address:
            raise ValueError(f"own() of a NULL: {pointer!r}") from self.refused
        if destroy is not None and not callable(destroy):
            raise TypeError(f"destroy must be callable or None, not {reprlib.repr(destroy)}")
        view, loan = self._turn.blocks.view(), self._turn.loan
        if view is None or loan is None:
            raise self._memory.why_not() or RegionClosedError(
                f"{self._memory!r} was reset: and so have ended its hooks"
            )
        destroyer = _Destroy(destroy or id)
        destroyer.keeps = holding_pointer(view, 0), loan
        return destroyer

    def __repr__(self) -> str:
        ended = "ended, " if self._turn.loan is None else ""
        return f"<scopedbump.{type(self).__name__}: {len(self._made)} functions, {ended}{self._memory!r}>"


@final
class CffiHooks(_Hooks):
    """Functions, of the types of your own ffi, with which a C library allocates in a region. `a.cffi(ffi).hooks()`.

    Not for speed. A library gets a quota: a document that explodes ends as its own "out of memory". What it never freed
    goes with the block, and what it holds is wiped with `wipe=True`.

    `roles` names the parameters of C in order, separated by blanks:

        opaque  what the library passes through, and _ any other: ignored
        size    bytes; of each item, where there is a count
        count   how many items
        ptr     the block that is resized or freed
        old     its size before: need not be exact for a NULL
        align   a power of two

    The functions serve until the region or scope ends, or is reset: from then on they return NULL. They return NULL
    too when the region is full, or a scope is open in it, and `refused` says why. No exception goes through C: what a
    signal handler raised is raised when C is back. A freed block is not used again.

    Where some libraries take them, and the roles of theirs:

        zlib, bzip2, lzma  in z_stream, bz_stream, lzma_allocator: "opaque count size"; "opaque ptr"
        zstd, lz4, brotli  ZSTD_createCCtx_advanced, LZ4F_createCompressionContext_advanced (also a calloc),
                           BrotliEncoderCreateInstance: "opaque size"; "opaque ptr"
        expat              XML_ParserCreate_MM: "size"; "ptr size"; "ptr"
        pcre2              pcre2_general_context_create: "size opaque"; "ptr opaque"
        yajl               yajl_alloc, yajl_gen_alloc: "opaque size"; "opaque ptr size"; "opaque ptr"
        nghttp2            nghttp2_mem: "size opaque"; "count size opaque"; "ptr size opaque"; "ptr opaque"
        FreeType           FT_New_Library: "opaque size"; "opaque old size ptr"; "opaque ptr"
        libpng             png_create_write_struct_2: "_ size"; "_ ptr"
        Duktape            duk_create_heap: "opaque size"; "opaque ptr size"; "opaque ptr"
        Lua                lua_newstate: "opaque ptr old size", a realloc that frees too
        cmark              cmark_parser_new_with_mem: "count size"; "ptr size"; "ptr"

    Hooks that hold for a whole process (sqlite3, libxml2, OpenSSL, curl, GMP) are not for a region: what others made
    there would go with it. A library that takes a buffer (ZSTD_initStaticCCtx, yyjson_alc_pool_init) needs no hooks.

    Lifetime:
        Raw: what the library made lies in the region, and dangles after it, but for what `own` holds. Objects that are
        still used then get NULL, and later may be served by hooks of another region: own them, or use them no more.

    Thread safety:
        Any thread may call the functions, the library's own too.
    """

    __slots__ = ("_ffi",)
    _ffi: FFI

    def __init__(self, memory: Memory, ffi: FFI) -> None:
        super().__init__(memory)
        self._ffi = ffi

    def malloc(self, ctype: CDecl, roles: str, /) -> CData:
        """A function that allocates.

        Args:
            ctype: its type, such as "void *(*)(void *, size_t)", or the name of such a type.
            roles: "opaque size", "opaque count size", "size opaque", "size" and so on: see the class.

        Returns:
            A function pointer of this type. Blocks are aligned to 16 bytes at least.

        Raises:
            TypeError, ValueError: ctype is no type of a function that returns a pointer, or the roles do not fit it.
            CallbackRefusedError: this system lets no C call Python.
            RegionClosedError: the hooks have ended.

        Lifetime:
            See the class.
        """
        return self._make("malloc", ctype, roles)

    def calloc(self, ctype: CDecl, roles: str, /) -> CData:
        """A function that allocates zeroed memory: "count size", "opaque size". As `malloc`."""
        return self._make("calloc", ctype, roles)

    def realloc(self, ctype: CDecl, roles: str, /) -> CData:
        """A function that resizes a block: "ptr size", "opaque ptr old size", "opaque old size ptr". As `malloc`.

        A NULL is allocated, a size of 0 gives NULL. The last block grows in place, others are copied.
        """
        return self._make("realloc", ctype, roles)

    def free(self, ctype: CDecl, roles: str, /) -> CData:
        """A function that does nothing, for ever: "ptr", "opaque ptr", "ptr opaque".

        In a debug region it guards the block.

        Args:
            ctype: its type, such as "void (*)(void *)".
            roles: as for `malloc`.

        Raises:
            TypeError, ValueError: as for `malloc`.
        """
        return self._make("free", ctype, roles)

    def _make(self, kind: str, cdecl: CDecl, roles: str) -> CData:
        ctype: Any = self._ffi.typeof(cdecl) if isinstance(cdecl, str) else cdecl
        if not isinstance(ctype, _ffi.CType):
            raise TypeError(f"ctype must be a str or a type of cffi, not {reprlib.repr(cdecl)}")
        names, signature = cffi_roles(kind, ctype, _checked_roles(roles))
        return _ffi.cast(ctype, self._function(kind, names, signature))

    def own(self, pointer: CData, destroy: Callable[[Any], object] | None = None, /) -> CData:
        """Own an object that a library made with these hooks: it keeps the region's memory, and is destroyed first.

        Args:
            pointer: what the library returned.
            destroy: what to call with it when the last reference is gone, such as the library's function for that.

        Returns:
            The same pointer, owning.

        Raises:
            TypeError: pointer is no pointer of cffi, or destroy can't be called.
            ValueError: pointer is NULL; `refused`, which may say why, is its cause.
            RegionClosedError: the hooks have ended.
            RegionBusyError: a scope is open in the region.

        Lifetime:
            Pins, as long as it lives or until `ffi.release`. What the library allocates after the region's end is NULL.
        """
        if not isinstance(pointer, _ffi.CData) or _ffi.typeof(pointer).kind != "pointer":
            raise TypeError(f"pointer must be a pointer of cffi, not {reprlib.repr(pointer)}")
        address = int(_ffi.cast(ADDRESS, pointer))
        return _ffi.gc(pointer, self._destroyer(pointer, address, destroy))


@final
class CtypesHooks(_Hooks):
    """Functions, of types that `CFUNCTYPE` makes, with which a C library allocates in a region. `a.ctypes.hooks()`.

    As `CffiHooks`, which explains the roles, in all but the types.
    """

    __slots__ = ()

    def malloc(self, ctype: type[F], roles: str, /) -> F:
        """A function that allocates: "opaque size", "opaque count size", "size opaque", "size". As `CffiHooks.malloc`.

        Args:
            ctype: its type, such as `CFUNCTYPE(c_void_p, c_void_p, c_size_t)`.
            roles: see `CffiHooks`.
        """
        return self._make("malloc", ctype, roles)

    def calloc(self, ctype: type[F], roles: str, /) -> F:
        """A function that allocates zeroed memory: "count size", "opaque size"."""
        return self._make("calloc", ctype, roles)

    def realloc(self, ctype: type[F], roles: str, /) -> F:
        """A function that resizes a block: "ptr size", "opaque ptr old size". As `CffiHooks.realloc`."""
        return self._make("realloc", ctype, roles)

    def free(self, ctype: type[F], roles: str, /) -> F:
        """A function that does nothing, for ever: "ptr", "opaque ptr"."""
        return self._make("free", ctype, roles)

    def _make(self, kind: str, ctype: type[F], roles: str) -> F:
        from ._ctypes_types import FUNCTION

        if not (isinstance(ctype, type) and issubclass(ctype, FUNCTION)):
            raise TypeError(f"ctype must be a type that CFUNCTYPE makes, not {reprlib.repr(ctype)}")
        made: Any = ctype
        names, signature = ctypes_roles(kind, made, _checked_roles(roles))
        function: F = made(self._function(kind, names, signature))
        return function

    def own(self, pointer: P, destroy: Callable[[P], object] | None = None, /) -> P:
        """Own an object that a library made with these hooks: it keeps the region's memory, and is destroyed first.

        Args:
            pointer: a pointer, `POINTER(T)` or c_void_p.
            destroy: what to call with it when the last reference is gone.

        Returns:
            Another pointer to it, of the same type, owning.

        Raises:
            As `CffiHooks.own`.

        Lifetime:
            Pins, as long as it, or what was made of it, lives.
        """
        from ctypes import c_void_p

        from ._ctypes_types import ANY_POINTER, leading

        if not isinstance(pointer, (ANY_POINTER, c_void_p)):
            raise TypeError(f"pointer must be a pointer of ctypes, not {reprlib.repr(pointer)}")
        made: Any = pointer
        address = c_void_p.from_buffer(made).value or 0
        same: Any = made.__class__
        bare = leading(same, address, None)  # what is destroyed is not what keeps

        def end(_: object) -> object:
            return destroy(bare) if destroy is not None else None

        if destroy is not None and not callable(destroy):
            raise TypeError(f"destroy must be callable or None, not {reprlib.repr(destroy)}")
        owner = _ffi.gc(_ffi.cast(CHAR_POINTER, address), self._destroyer(pointer, address, end))
        owned: P = leading(same, address, owner)
        return owned


def _checked_roles(roles: object) -> str:
    if not isinstance(roles, str):
        raise TypeError(f"roles must be a str, not {reprlib.repr(roles)}")
    return roles


def no_hooks_on_the_heap() -> NoReturn:
    """What `heap` says."""
    raise TypeError("hooks need a region: on the heap give the library no allocator, and it uses its own")


CffiHooks.__module__ = CtypesHooks.__module__ = "scopedbump"
