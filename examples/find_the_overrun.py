"""A buffer that is one byte too short, given to a real C library: a debug region says which one, and who did it.

Run it: `python examples/find_the_overrun.py`. zlib is told that there is room for a text and its NUL, where there is
room for the text. That writes one byte past the block, which nobody would see: here it is found at the instruction,
once through ctypes and once through cffi. Nothing is compiled for it, and zlib is the system's own.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import zlib
from typing import Any

from scopedbump import OverrunError, Region, bump_region, debug

TEXT = b"forty-two words " * 256
PACKED = zlib.compress(TEXT + b"\0")


def unpack_with_ctypes(a: Region, path: str) -> bytes:
    """Unpack by zlib's `uncompress`, called with ctypes."""
    libz = ctypes.CDLL(path)
    libz.uncompress.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_ulong]
    text = a.alloc(len(TEXT))  # the NUL was forgotten here
    length = a.ctypes.new(ctypes.c_ulong, len(TEXT) + 1)
    libz.uncompress(a.ctypes.pointer(text), ctypes.byref(length), PACKED, len(PACKED))
    return bytes(text)


def unpack_with_cffi(a: Region, path: str) -> bytes:
    """The same, called with cffi."""
    from cffi import FFI

    ffi = FFI()
    ffi.cdef("int uncompress(char *, unsigned long *, const char *, unsigned long);")
    libz: Any = ffi.dlopen(path)
    c = a.cffi(ffi)
    text: Any = c.new(f"char[{len(TEXT)}]")  # and here
    length = c.new("unsigned long *", len(TEXT) + 1)
    libz.uncompress(text, length, PACKED, len(PACKED))
    return bytes(ffi.buffer(text))


def main() -> None:
    """Find it both ways."""
    path = ctypes.util.find_library("z")
    if path is None:
        print("there is no zlib here to call")
        return
    try:
        debug.on_fault("go_on")
    except NotImplementedError as refusal:
        print(f"overruns can't be told here: {refusal}")
        return
    for unpack in (unpack_with_ctypes, unpack_with_cffi):
        try:
            with bump_region(name="unpack", debug=True) as a:
                same = unpack(a, path) == TEXT
                print(f"{unpack.__name__}: {'the right text' if same else 'a wrong text'}, but")
        except OverrunError as error:
            print(error)
        except ImportError:
            print(f"{unpack.__name__}: there is no cffi with its compiler of declarations here")


if __name__ == "__main__":
    main()
