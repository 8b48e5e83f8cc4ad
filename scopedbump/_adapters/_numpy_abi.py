"""NumPy's side of NEP 49, by ctypes: its allocator's struct, how one is set, and what its default allocates with.

The source of all this is numpy/core/include/numpy/ndarraytypes.h and NEP 49.
"""

from __future__ import annotations

import contextvars
import ctypes
import importlib
from collections.abc import Callable
from functools import partial


class Handler(ctypes.Structure):
    """PyDataMem_Handler, version 1."""

    _fields_ = (
        ("name", ctypes.c_char * 127),
        ("version", ctypes.c_uint8),
        ("ctx", ctypes.c_size_t),
        ("malloc", ctypes.c_size_t),
        ("calloc", ctypes.c_size_t),
        ("realloc", ctypes.c_size_t),
        ("free", ctypes.c_size_t),
    )
    ctx: int
    malloc: int
    calloc: int
    realloc: int
    free: int


NAME = b"mem_handler"  # capsules keep the pointer
_word = ctypes.c_size_t
_object = ctypes.py_object
python = ctypes.pythonapi
capsule_pointer = ctypes.PYFUNCTYPE(_word, _object, ctypes.c_char_p)(("PyCapsule_GetPointer", python))
new_capsule = ctypes.PYFUNCTYPE(_object, _word, ctypes.c_char_p, _word)(("PyCapsule_New", python))
type_slot = ctypes.PYFUNCTYPE(_word, _object, ctypes.c_int)(("PyType_GetSlot", python))

try:
    umath = importlib.import_module("numpy._core._multiarray_umath")
except ImportError:  # NumPy 1
    umath = importlib.import_module("numpy.core._multiarray_umath")
_api = (_word * 306).from_address(capsule_pointer(umath._ARRAY_API, None))
_set_handler: Callable[[object], object] = ctypes.PYFUNCTYPE(_object, _object)(_api[304])
_get_handler: Callable[[], object] = ctypes.PYFUNCTYPE(_object)(_api[305])

# In an empty context there is no handler but the default. All its functions want the GIL: its cache has no lock.
_empty = contextvars.Context()
default_capsule = _empty.run(_get_handler)
_empty.run(_set_handler, default_capsule)
allocator: contextvars.ContextVar[object] = next(iter(_empty))
"""Where NumPy itself looks for the capsule of its handler: to set it here is what PyDataMem_SetHandler does."""

default = Handler.from_address(capsule_pointer(default_capsule, NAME))
default_calloc: Callable[..., int] = partial(ctypes.PYFUNCTYPE(_word, _word, _word, _word)(default.calloc), default.ctx)
default_malloc: Callable[..., int] = partial(ctypes.PYFUNCTYPE(_word, _word, _word)(default.malloc), default.ctx)
default_realloc: Callable[..., int] = partial(
    ctypes.PYFUNCTYPE(_word, _word, _word, _word)(default.realloc), default.ctx
)
default_free = partial(ctypes.PYFUNCTYPE(None, _word, _word, _word)(default.free), default.ctx)
