"""Pages by VirtualAlloc and VirtualFree: Windows."""

from __future__ import annotations

import mmap
from _operator import not_
from itertools import starmap

from .._errors import CommitError, ReserveError
from ._windows_abi import ffi

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Protocol

    class _Kernel32(Protocol):
        def VirtualAlloc(self, address: int, size: int, kind: int, protect: int, /) -> int: ...
        def VirtualFree(self, address: int, size: int, kind: int, /) -> int: ...
        def RtlZeroMemory(self, address: int, size: int, /) -> None: ...


# winnt.h
_MEM_COMMIT = 0x1000
_MEM_RESERVE = 0x2000
_MEM_DECOMMIT = 0x4000
_MEM_RELEASE = 0x8000
_PAGE_NOACCESS = 0x01
_PAGE_READWRITE = 0x04

# winerror.h
_SHORT_OF_MEMORY = {8, 14, 1450, 1455}  # NOT_ENOUGH_MEMORY, OUTOFMEMORY, NO_SYSTEM_RESOURCES, COMMITMENT_LIMIT


class WindowsPages:
    """The virtual memory calls of kernel32. What is reserved counts against nothing; what is committed is charged."""

    def __init__(self) -> None:
        self.page_size = mmap.PAGESIZE
        self.granularity = mmap.ALLOCATIONGRANULARITY
        # cffi finds the names when they are used
        kernel32: _Kernel32 = ffi.dlopen("kernel32.dll")  # pyright: ignore[reportAssignmentType]
        # Found now: a handler that uses one in the middle of its first use would make cffi abort the process.
        self._alloc = kernel32.VirtualAlloc
        self._free = kernel32.VirtualFree
        self._zero = kernel32.RtlZeroMemory
        self.light_guards = False
        self.huge_size = 0  # large pages need a privilege, and are locked in memory

    def reserve(self, size: int, taken: list[int]) -> None:
        taken.extend(starmap(self._alloc, ((0, size, _MEM_RESERVE, _PAGE_NOACCESS),)))
        if not taken[-1]:
            taken.pop()
            raise _reserve_error(f"cannot reserve {size} bytes of address space")

    def commit(self, address: int, size: int) -> None:
        if not self._alloc(address, size, _MEM_COMMIT, _PAGE_READWRITE):
            raise _commit_error(f"cannot commit {size} bytes")

    def decommit(self, address: int, size: int) -> None:
        if not self._free(address, size, _MEM_DECOMMIT):
            raise _commit_error(f"cannot decommit {size} bytes")

    def admit_to_dumps(self, address: int, size: int) -> None:
        """What is not committed is in no dump."""

    def advise_huge(self, address: int, size: int) -> None:
        """There is no such advice."""

    def touched(self, address: int, size: int) -> list[tuple[int, int]]:
        return [(address, address + size)]

    def clear(self, address: int, size: int) -> None:
        self._zero(address, size)

    def discard(self, address: int, size: int) -> None:
        """Nothing: to decommit alone gives pages back, and then nobody may touch them."""

    def guard(self, address: int, size: int) -> None:
        self.decommit(address, size)

    def unguard(self, address: int, size: int) -> None:
        self.commit(address, size)

    def release(self, taken: Iterator[int], size: int) -> Iterator[object]:
        # MEM_RELEASE wants size 0 and the exact base.
        return map(not_, map(self._free, taken, (0,), (_MEM_RELEASE,)))


def _refusal(what: str, hint: str) -> tuple[int, str]:
    code, message = ffi.getwinerror()
    return code, f"{what}: {message}" + (f": {hint}" if code in _SHORT_OF_MEMORY else "")


def _reserve_error(what: str) -> ReserveError:
    code, message = _refusal(what, "ask for less: the address space is exhausted")
    return ReserveError(0, message, None, code)  # OSError turns the winerror into an errno


def _commit_error(what: str) -> CommitError:
    code, message = _refusal(what, "the commit charge is at its limit: enlarge the page file, or free memory")
    return CommitError(f"{message} (winerror {code})", winerror=code)
