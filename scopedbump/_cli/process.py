# ruff: noqa: N802  # the names are Microsoft's
"""What the operating system says of this process: resident memory, and whether an address is mapped."""

from __future__ import annotations

import errno
import mmap
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

if TYPE_CHECKING:
    from _cffi_backend import CData

if sys.platform == "win32":
    from ._windows_abi import ffi

    class _Kernel32(Protocol):
        def GetCurrentProcess(self) -> CData: ...
        def K32GetProcessMemoryInfo(self, process: CData, counters: CData, size: int) -> int: ...
        def VirtualQuery(self, address: int, buffer: CData, length: int) -> int: ...

    class _Counters(Protocol):
        PageFaultCount: int
        WorkingSetSize: int

    class _Information(Protocol):
        State: int

    _MEM_FREE = 0x10000  # winnt.h
    _kernel32 = cast("_Kernel32", ffi.dlopen("kernel32.dll"))

    def _counters() -> _Counters:
        size = ffi.sizeof("struct process_memory_counters")
        counters = ffi.from_buffer("struct process_memory_counters *", bytearray(size))
        if not _kernel32.K32GetProcessMemoryInfo(_kernel32.GetCurrentProcess(), counters, size):
            code, message = ffi.getwinerror()
            raise OSError(0, message, None, code)
        return cast("_Counters", counters)

    def resident() -> int | None:
        """Bytes of RAM that this process takes, or None where there is no way to know."""
        return _counters().WorkingSetSize

    def page_faults() -> int:
        """Page faults of this process so far, those served without a disk."""
        return _counters().PageFaultCount

    def mapped(address: int) -> bool:
        """Whether the page at `address` belongs to a mapping or reservation of this process."""
        size = ffi.sizeof("struct memory_basic_information")
        information = ffi.from_buffer("struct memory_basic_information *", bytearray(size))
        if not _kernel32.VirtualQuery(address, information, size):
            code, message = ffi.getwinerror()
            raise OSError(0, message, None, code)
        return cast("_Information", information).State != _MEM_FREE

else:
    import resource

    from ._posix_abi import ffi

    class _LibC(Protocol):
        def msync(self, addr: int, length: int, flags: int) -> int: ...
        def proc_pidinfo(self, pid: int, flavor: int, arg: int, buffer: CData, buffersize: int) -> int: ...

    _MS_ASYNC = 1  # Linux and macOS alike
    _libc = cast("_LibC", ffi.dlopen(None))

    if sys.platform == "darwin":

        class _TaskInfo(Protocol):
            pti_resident_size: int

        _PROC_PIDTASKINFO = 4  # sys/proc_info.h

        def resident() -> int | None:
            """Bytes of RAM that this process takes, or None where there is no way to know."""
            size = ffi.sizeof("struct proc_taskinfo")
            info = ffi.from_buffer("struct proc_taskinfo *", bytearray(size))
            if _libc.proc_pidinfo(os.getpid(), _PROC_PIDTASKINFO, 0, info, size) != size:
                return None
            return cast("_TaskInfo", info).pti_resident_size

    else:

        def resident() -> int | None:
            """Bytes of RAM that this process takes, or None where there is no way to know."""
            try:
                # Counted page by page: the counters of statm may be megabytes late.
                with Path("/proc/self/smaps_rollup").open("rb") as rollup:
                    return next(int(line.split()[1]) << 10 for line in rollup if line.startswith(b"Rss:"))
            except (OSError, StopIteration):
                pass
            try:
                return int(Path("/proc/self/statm").read_bytes().split()[1]) * mmap.PAGESIZE
            except OSError:
                return None

    def page_faults() -> int:
        """Page faults of this process so far, those served without a disk."""
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

    def mapped(address: int) -> bool:
        """Whether the page at `address` belongs to a mapping or reservation of this process."""
        # Writing back what is not there to write back does nothing, and says whether there is a page.
        return not (_libc.msync(address & -mmap.PAGESIZE, 1, _MS_ASYNC) and ffi.errno == errno.ENOMEM)
