"""Pages by mmap, mprotect and munmap: Linux, macOS and the BSDs."""

from __future__ import annotations

import errno
import mmap
import os
import sys
from itertools import starmap

from scopedbump._errors import CommitError, ReserveError
from scopedbump._pages._posix_abi import ffi

assert sys.platform != "win32"  # for type checkers, which look at this file on every platform


TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Protocol

    class _LibC(Protocol):
        def mmap(self, addr: int, length: int, prot: int, flags: int, fd: int, offset: int, /) -> int: ...
        def mprotect(self, addr: int, length: int, prot: int, /) -> int: ...
        def munmap(self, addr: int, length: int, /) -> int: ...


_FAILED = (1 << 8 * ffi.sizeof("uintptr_t")) - 1  # MAP_FAILED, (void *)-1
_PROT_NONE = 0
_USABLE = mmap.PROT_READ | mmap.PROT_WRITE
# The mmap module has MAP_FIXED nowhere and MAP_NORESERVE only since 3.13. Values from the kernels' headers:
# linux/include/uapi/asm-generic/mman-common.h, xnu/bsd/sys/mman.h; FreeBSD took MAP_NORESERVE out.
_MAP_FIXED = 0x10
if sys.platform == "linux":
    _NORESERVE = getattr(mmap, "MAP_NORESERVE", 0x40 if os.uname().machine.startswith("ppc") else 0x4000)
else:
    _NORESERVE = getattr(mmap, "MAP_NORESERVE", 0x40 if sys.platform == "darwin" else 0)
_RESERVED = mmap.MAP_PRIVATE | mmap.MAP_ANON | _NORESERVE


class PosixPages:
    """The C library's mmap family. PROT_NONE costs neither RAM nor commit charge, in every overcommit mode."""

    def __init__(self) -> None:
        self.page_size = mmap.PAGESIZE
        self.granularity = mmap.ALLOCATIONGRANULARITY
        # cffi finds the names when they are used
        libc: _LibC = ffi.dlopen(None)  # pyright: ignore[reportAssignmentType]
        # Found now: a handler that uses one in the middle of its first use would make cffi abort the process.
        self._mmap = libc.mmap
        self._mprotect = libc.mprotect
        self._munmap = libc.munmap

    def reserve(self, size: int, taken: list[int]) -> None:
        taken.extend(starmap(self._mmap, ((0, size, _PROT_NONE, _RESERVED, -1, 0),)))
        if taken[-1] == _FAILED:
            taken.pop()
            raise _reserve_error(ffi.errno, f"cannot reserve {size} bytes of address space")

    def commit(self, address: int, size: int) -> None:
        if self._mprotect(address, size, _USABLE):
            raise _commit_error(ffi.errno, f"cannot commit {size} bytes")

    def decommit(self, address: int, size: int) -> None:
        # A new mapping over the old one: this alone refunds the charge, and it zeroes on macOS too, where
        # MADV_DONTNEED does not.
        if self._mmap(address, size, _PROT_NONE, _RESERVED | _MAP_FIXED, -1, 0) == _FAILED:
            raise _commit_error(ffi.errno, f"cannot decommit {size} bytes")

    def release(self, taken: Iterator[int], size: int) -> None:
        if any(map(self._munmap, taken, (size,))):
            raise _reserve_error(ffi.errno, f"cannot release {size} bytes of address space")


_HINT = "look at vm.max_map_count (too many mappings), RLIMIT_AS and RLIMIT_DATA (ulimit -v, -d)"


def _reserve_error(code: int, what: str) -> ReserveError:
    hint = f": ask for less, or {_HINT}" if code == errno.ENOMEM else ""
    return ReserveError(code, f"{what}: {os.strerror(code)}{hint}")


def _commit_error(code: int, what: str) -> CommitError:
    hint = f": memory is short; {_HINT}, and vm.overcommit_memory=2" if code == errno.ENOMEM else ""
    return CommitError(f"{what}: {os.strerror(code)} (errno {code}){hint}", errno=code)
