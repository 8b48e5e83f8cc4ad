"""Pages by mmap, mprotect, madvise and munmap: Linux, macOS and the BSDs."""

from __future__ import annotations

import errno
import mmap
import os
import sys
from itertools import starmap

from .._errors import CommitError, ReserveError
from ._posix_abi import ffi

assert sys.platform != "win32"  # for type checkers, which look at this file on every platform


TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Protocol

    class _LibC(Protocol):
        def mmap(self, addr: int, length: int, prot: int, flags: int, fd: int, offset: int, /) -> int: ...
        def mprotect(self, addr: int, length: int, prot: int, /) -> int: ...
        def munmap(self, addr: int, length: int, /) -> int: ...
        def madvise(self, addr: int, length: int, advice: int, /) -> int: ...
        def memset(self, addr: int, value: int, length: int, /) -> int: ...


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
# Elsewhere it may leave the content where it was, as it may: but then it saves nothing.
_DONTNEED: int | None = mmap.MADV_DONTNEED if sys.platform == "linux" else None
_RESERVED = mmap.MAP_PRIVATE | mmap.MAP_ANON | _NORESERVE
# The advice of linux/include/uapi/asm-generic/mman-common.h. The numbers mean other things elsewhere.
_HUGEPAGE, _DONTDUMP, _DODUMP, _GUARD_INSTALL, _GUARD_REMOVE = 14, 16, 17, 102, 103
_LINUX = sys.platform == "linux"


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
        self._madvise = libc.madvise
        self._memset = libc.memset
        self._light_guards: bool | None = None  # not yet asked for
        self.huge_size = 1 << 21 if _LINUX else 0  # of x86-64, and of arm64 with small pages

    def reserve(self, size: int, taken: list[int]) -> None:
        taken.extend(starmap(self._mmap, ((0, size, _PROT_NONE, _RESERVED, -1, 0),)))
        if taken[-1] == _FAILED:
            taken.pop()
            raise _reserve_error(ffi.errno, f"cannot reserve {size} bytes of address space")
        if _LINUX:  # gdb writes all that is reserved into a core dump otherwise
            self._madvise(taken[-1], size, _DONTDUMP)

    def commit(self, address: int, size: int) -> None:
        if self._mprotect(address, size, _USABLE):
            raise _commit_error(ffi.errno, f"cannot commit {size} bytes")

    def decommit(self, address: int, size: int) -> None:
        # A new mapping over the old one: this alone refunds the charge, and it zeroes on macOS too, where
        # MADV_DONTNEED does not.
        if self._mmap(address, size, _PROT_NONE, _RESERVED | _MAP_FIXED, -1, 0) == _FAILED:
            raise _commit_error(ffi.errno, f"cannot decommit {size} bytes")
        if _LINUX:
            self._madvise(address, size, _DONTDUMP)

    def admit_to_dumps(self, address: int, size: int) -> None:
        if _LINUX:
            self._madvise(address, size, _DODUMP)

    def advise_huge(self, address: int, size: int) -> None:
        if _LINUX:  # refused where the kernel has none
            self._madvise(address, size, _HUGEPAGE)

    def touched(self, address: int, size: int) -> list[tuple[int, int]]:
        if not _LINUX:
            return [(address, address + size)]
        from ._pagemap import touched

        return touched(address, size)

    def clear(self, address: int, size: int) -> None:
        self._memset(address, 0, size)

    def discard(self, address: int, size: int) -> None:
        if _DONTNEED is not None:
            self._madvise(address, size, _DONTNEED)  # refused for locked memory: then it stays

    @property
    def light_guards(self) -> bool:
        known = self._light_guards
        if known is None:
            known = self._light_guards = _LINUX and self._try_guard()
        return known

    def _try_guard(self) -> bool:
        """Whether the kernel has guards without mappings: Linux 6.13 and later, and not in locked memory."""
        size = self.page_size
        address = self._mmap(0, size, _USABLE, _RESERVED, -1, 0)
        if address == _FAILED:
            return False
        refused = self._madvise(address, size, _GUARD_INSTALL)
        self._munmap(address, size)
        return not refused

    def guard(self, address: int, size: int) -> None:
        if self.light_guards:
            if not self._madvise(address, size, _GUARD_INSTALL):
                return
            self._light_guards = False  # memory was locked since
        self.decommit(address, size)

    def unguard(self, address: int, size: int) -> None:
        if self.light_guards and not self._madvise(address, size, _GUARD_REMOVE):
            return
        self.commit(address, size)

    def release(self, taken: Iterator[int], size: int) -> Iterator[object]:
        return map(self._munmap, taken, (size,))


_HINTS = {
    errno.EAGAIN: "the process has locked its memory (mlockall with MCL_FUTURE): raise RLIMIT_MEMLOCK, or ask for less",
    errno.EINVAL: "ask for less: Valgrind, for one, refuses large ranges",
}
_HINT = "look at vm.max_map_count (too many mappings), RLIMIT_AS and RLIMIT_DATA (ulimit -v, -d)"


def _reserve_error(code: int, what: str) -> ReserveError:
    hint = f"ask for less, or {_HINT}" if code == errno.ENOMEM else _HINTS.get(code)
    return ReserveError(code, f"{what}: {os.strerror(code)}" + (f": {hint}" if hint else ""))


def _commit_error(code: int, what: str) -> CommitError:
    hint = f": memory is short; {_HINT}, and vm.overcommit_memory=2" if code == errno.ENOMEM else ""
    return CommitError(f"{what}: {os.strerror(code)} (errno {code}){hint}", errno=code)
