"""Writes the ABI modules of debug regions: `python scopedbump/_debug/_generate.py`. As that of the pages."""

from __future__ import annotations

import sys
from pathlib import Path

from cffi import FFI

# Structs are declared as the addresses that they are here.
SIGNALS = """
    int sigaction(int number, uintptr_t action, uintptr_t former);
    uintptr_t signal(int number, uintptr_t handler);
    int raise(int number);
    int dladdr(uintptr_t address, uintptr_t info);
    int mprotect(uintptr_t address, size_t size, int protection);
"""

# https://learn.microsoft.com/windows/win32/api/errhandlingapi/nf-errhandlingapi-addvectoredexceptionhandler
VECTORED = """
    unsigned long __stdcall RemoveVectoredExceptionHandler(uintptr_t handle);
    uintptr_t __stdcall AddVectoredExceptionHandler(uint32_t first, uintptr_t handler);
    int __stdcall VirtualProtect(uintptr_t address, size_t size, uint32_t protect, uintptr_t former);
"""


def generate(folder: Path) -> None:
    """Write `_signals_abi.py` and `_vectored_abi.py` into `folder`."""
    for name, declarations in (("_signals_abi", SIGNALS), ("_vectored_abi", VECTORED)):
        ffi = FFI()
        ffi.cdef(declarations)
        ffi.set_source(f"scopedbump._debug.{name}", None)
        ffi.emit_python_code(str(folder / f"{name}.py"))


if __name__ == "__main__":
    generate(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
