"""What type checkers see of hooks: read by mypy and pyright, never run."""

from __future__ import annotations

from ctypes import CFUNCTYPE, POINTER, Structure, c_size_t, c_void_p, cast
from typing import Any, assert_type

import _cffi_backend

from scopedbump import CData, CffiHooks, CtypesHooks, Region, ScopedBumpError, heap

generated = _cffi_backend.FFI()


class Thing(Structure):
    """A C library's object."""


class Malloc(CFUNCTYPE(c_void_p, c_size_t)):  # type: ignore[misc]  # pyright: ignore[reportUntypedBaseClass]
    """A type of functions, as CFUNCTYPE makes it."""


def free(pointer: Any) -> None:
    """What a library has for its objects."""


def cffi_hooks(a: Region) -> None:
    hooks = a.cffi(generated).hooks()
    assert_type(hooks, CffiHooks)
    assert_type(hooks.refused, ScopedBumpError | None)
    malloc = hooks.malloc("void *(*)(size_t)", "size")
    assert_type(malloc, CData)
    malloc(8)
    assert_type(hooks.calloc(generated.typeof("void *(*)(size_t, size_t)"), "count size"), CData)
    assert_type(hooks.realloc("void *(*)(void *, size_t)", "ptr size"), CData)
    assert_type(hooks.free("void (*)(void *)", "ptr"), CData)
    assert_type(hooks.own(malloc), CData)
    hooks.own(malloc, free)
    hooks.own(malloc, None)
    heap.cffi(generated).hooks()


def ctypes_hooks(a: Region) -> None:
    hooks = a.ctypes.hooks()
    assert_type(hooks, CtypesHooks)
    assert_type(hooks.malloc(Malloc, "size"), Malloc)
    thing = cast(5, POINTER(Thing))
    assert_type(hooks.own(thing).contents, Thing)
    hooks.own(thing, free)


def wrong(a: Region) -> None:
    hooks = a.cffi(generated).hooks()
    hooks.malloc(3, "size")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    hooks.malloc("void *(*)(size_t)")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    hooks.free("void (*)(void *)", 3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    hooks.refused = None  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
    hooks.own(hooks.malloc("void *(*)(size_t)", "size"), 3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
