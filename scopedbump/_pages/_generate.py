"""Writes the two ABI modules: `python scopedbump/_pages/_generate.py`.

cffi turns the declarations below into small Python modules that need neither a compiler nor pycparser
when they are imported. They are committed; a test runs this again and compares.
ABI mode knows no `off_t`, so mmap's last argument is a `long`: it is always 0 here, and as wide as off_t
on every system whose C library has a 64-bit `long`; on 32-bit ones the symbol `mmap` takes a 32-bit offset too.
"""

from __future__ import annotations

import sys
from pathlib import Path

from cffi import FFI

# Addresses are declared as the integers that they are here: nothing is ever dereferenced through these calls.
POSIX = """
    uintptr_t mmap(uintptr_t addr, size_t length, int prot, int flags, int fd, long offset);
    int mprotect(uintptr_t addr, size_t length, int prot);
    int munmap(uintptr_t addr, size_t length);
    int madvise(uintptr_t addr, size_t length, int advice);
    uintptr_t memset(uintptr_t addr, int value, size_t length);
"""

# https://learn.microsoft.com/windows/win32/api/memoryapi/ and .../windows-hardware/drivers/ddi/wdm/nf-wdm-rtlzeromemory
WINDOWS = """
    uintptr_t __stdcall VirtualAlloc(uintptr_t address, size_t size, uint32_t type, uint32_t protect);
    int __stdcall VirtualFree(uintptr_t address, size_t size, uint32_t type);
    void __stdcall RtlZeroMemory(uintptr_t address, size_t size);
"""


def generate(folder: Path) -> None:
    """Write `_posix_abi.py` and `_windows_abi.py` into `folder`."""
    for name, declarations in (("_posix_abi", POSIX), ("_windows_abi", WINDOWS)):
        ffi = FFI()
        ffi.cdef(declarations)
        ffi.set_source(f"scopedbump._pages.{name}", None)
        ffi.emit_python_code(str(folder / f"{name}.py"))


if __name__ == "__main__":
    generate(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
