"""Real C libraries called with arguments in a region: the C library everywhere, kernel32 on Windows."""

from __future__ import annotations

import ctypes
import sys
from ctypes import CFUNCTYPE, POINTER, c_char, c_char_p, c_int, c_long, c_size_t, c_void_p, c_wchar_p
from pathlib import Path
from typing import Any

import pytest

from scopedbump import bump_region

C_LIBRARY = "ucrtbase.dll" if sys.platform == "win32" else None


@pytest.fixture(scope="module")
def libc() -> Any:
    return ctypes.CDLL(C_LIBRARY)


def test_the_c_library_reads_strings_of_the_region(libc: Any) -> None:
    """`strlen` and `strtol` see the text; the end pointer that `strtol` stores leads into the region."""
    libc.strlen.argtypes, libc.strlen.restype = [c_char_p], c_size_t
    libc.strtol.argtypes, libc.strtol.restype = [c_char_p, POINTER(c_char_p), c_int], c_long
    with bump_region() as a:
        text = a.ctypes.string("0x1f rest")
        end = a.ctypes.new(c_char_p)
        assert libc.strlen(text) == 9
        assert libc.strtol(text, ctypes.byref(end), 16) == 31
        assert end.value == b" rest"
        pointer = c_void_p.from_buffer(end).value or 0
        assert pointer == ctypes.addressof(text) + 4 and pointer in a


def test_the_c_library_sorts_an_array_of_the_region(libc: Any) -> None:
    """`qsort` with a callback that is in the region too, and `bsearch` for a key there."""
    compare_type = CFUNCTYPE(c_int, POINTER(c_int), POINTER(c_int))

    def compare(left: Any, right: Any) -> int:
        return int(left[0]) - int(right[0])

    libc.qsort.argtypes, libc.qsort.restype = [c_void_p, c_size_t, c_size_t, c_void_p], None
    libc.bsearch.argtypes, libc.bsearch.restype = [c_void_p, c_void_p, c_size_t, c_size_t, c_void_p], c_void_p
    with bump_region() as a:
        c = a.ctypes
        callback = c.new(compare_type, compare)
        numbers = c.array(c_int, [n * 37 % 101 for n in range(100)])
        libc.qsort(numbers, 100, 4, callback)
        assert list(numbers) == sorted(n * 37 % 101 for n in range(100))
        found = libc.bsearch(ctypes.byref(c.new(c_int, numbers[42])), numbers, 100, 4, callback)
        assert found == ctypes.addressof(numbers) + 42 * 4


def test_the_c_library_fills_a_view_through_a_pointer(libc: Any) -> None:
    """`memset` and `memcpy` through pointers to views."""
    libc.memset.argtypes = [POINTER(c_char), c_int, c_size_t]
    libc.memcpy.argtypes = [POINTER(c_char), POINTER(c_char), c_size_t]
    with bump_region() as a:
        one, two = a.alloc(100), a.alloc(100)
        libc.memset(a.ctypes.pointer(one), 0x41, 99)
        libc.memcpy(a.ctypes.pointer(two), a.ctypes.pointer(one), 100)
        assert two == b"A" * 99 + b"\0"


def test_cffi_calls_the_c_library_with_objects_of_the_region() -> None:
    """The same C library through an in-line ffi."""
    ffi: Any = pytest.importorskip("cffi").FFI()
    ffi.cdef(
        "size_t strlen(const char *); void *memcpy(void *, const void *, size_t); typedef struct {int x, y;} point;"
    )
    library = ffi.dlopen(C_LIBRARY)
    with bump_region() as a:
        c = a.cffi(ffi)
        assert library.strlen(c.string("grüß")) == 6
        one, two = c.new("point *", (1, 2)), c.new("point *")
        library.memcpy(two, one, ffi.sizeof("point"))
        assert (two.x, two.y) == (1, 2)


@pytest.mark.skipif(sys.platform != "win32", reason="kernel32 is a library of Windows")
def test_kernel32_reads_and_fills_objects_of_the_region(tmp_path: Path) -> None:
    """A file is written, measured and read by kernel32, with every argument in the region."""
    library: Any = getattr(ctypes, "WinDLL")  # noqa: B009  # type checkers know it on Windows alone
    kernel32 = library("kernel32", use_last_error=True)
    kernel32.CreateFileW.argtypes = [
        c_wchar_p,
        ctypes.c_uint,
        ctypes.c_uint,
        c_void_p,
        ctypes.c_uint,
        ctypes.c_uint,
        c_void_p,
    ]
    kernel32.CreateFileW.restype = c_void_p
    kernel32.WriteFile.argtypes = kernel32.ReadFile.argtypes = [
        c_void_p, c_void_p, ctypes.c_uint, POINTER(ctypes.c_uint), c_void_p
    ]  # fmt: skip
    kernel32.CloseHandle.argtypes = [c_void_p]
    kernel32.GetFileSizeEx.argtypes = [c_void_p, POINTER(ctypes.c_longlong)]
    kernel32.SetFilePointer.argtypes = [c_void_p, ctypes.c_long, c_void_p, ctypes.c_uint]
    with bump_region() as a:
        c = a.ctypes
        path = str(tmp_path / "file")
        name = c.new(c_wchar_p, c.array(ctypes.c_wchar, [*path, "\0"]))
        handle = kernel32.CreateFileW(name, 0xC0000000, 0, None, 2, 0x80, None)
        assert handle not in (None, ctypes.c_void_p(-1).value)
        text = c.string("written by kernel32")
        done = c.new(ctypes.c_uint)
        size = c.new(ctypes.c_longlong)
        assert kernel32.WriteFile(handle, text, 19, ctypes.byref(done), None) and done.value == 19
        assert kernel32.GetFileSizeEx(handle, ctypes.byref(size)) and size.value == 19
        kernel32.SetFilePointer(handle, 0, None, 0)
        view = a.alloc(64)
        assert kernel32.ReadFile(handle, c.pointer(view), 64, ctypes.byref(done), None)
        assert bytes(view[: done.value]) == b"written by kernel32"
        assert kernel32.CloseHandle(handle)
        large = c.new(ctypes.c_longlong)
        assert kernel32.QueryPerformanceFrequency(ctypes.byref(large)) and large.value > 0
