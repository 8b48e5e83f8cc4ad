"""Writes this package's ABI modules: `python -m scopedbump._cli._generate`.

As in `scopedbump._pages._generate`: the modules are committed, and a test runs this again and compares.
"""

from __future__ import annotations

import sys
from pathlib import Path

from cffi import FFI

# zlib.h. Plain C types for zlib's own names: uInt, uLong and Bytef never were anything else.
LIBZ = """
    struct z_stream_s {
        unsigned char *next_in;
        unsigned int avail_in;
        unsigned long total_in;
        unsigned char *next_out;
        unsigned int avail_out;
        unsigned long total_out;
        char *msg;
        void *state;
        void *zalloc;
        void *zfree;
        void *opaque;
        int data_type;
        unsigned long adler;
        unsigned long reserved;
    };
    int deflateInit2_(struct z_stream_s *strm, int level, int method, int windowBits, int memLevel, int strategy,
                      char *version, int stream_size);
    int deflate(struct z_stream_s *strm, int flush);
    int deflateEnd(struct z_stream_s *strm);
    int inflateInit2_(struct z_stream_s *strm, int windowBits, char *version, int stream_size);
    int inflate(struct z_stream_s *strm, int flush);
    int inflateEnd(struct z_stream_s *strm);
"""

# macOS: libproc.h and sys/proc_info.h. Only the head of proc_taskinfo is read.
POSIX = """
    int msync(uintptr_t addr, size_t length, int flags);
    struct proc_taskinfo { uint64_t pti_virtual_size; uint64_t pti_resident_size; uint64_t rest[10]; };
    int proc_pidinfo(int pid, int flavor, uint64_t arg, void *buffer, int buffersize);
"""

# https://learn.microsoft.com/windows/win32/api/psapi/ and .../api/memoryapi/
WINDOWS = """
    struct process_memory_counters {
        uint32_t cb;
        uint32_t PageFaultCount;
        size_t PeakWorkingSetSize;
        size_t WorkingSetSize;
        size_t QuotaPeakPagedPoolUsage;
        size_t QuotaPagedPoolUsage;
        size_t QuotaPeakNonPagedPoolUsage;
        size_t QuotaNonPagedPoolUsage;
        size_t PagefileUsage;
        size_t PeakPagefileUsage;
    };
    struct memory_basic_information {
        void *BaseAddress;
        void *AllocationBase;
        uint32_t AllocationProtect;
        size_t RegionSize;
        uint32_t State;
        uint32_t Protect;
        uint32_t Type;
    };
    void * __stdcall GetCurrentProcess(void);
    int __stdcall K32GetProcessMemoryInfo(void *process, struct process_memory_counters *counters, uint32_t size);
    size_t __stdcall VirtualQuery(uintptr_t address, struct memory_basic_information *buffer, size_t length);
"""

MODULES = {"_libz_abi": LIBZ, "_posix_abi": POSIX, "_windows_abi": WINDOWS}


def generate(folder: Path) -> None:
    """Write the ABI modules into `folder`."""
    for name, declarations in MODULES.items():
        ffi = FFI()
        ffi.cdef(declarations)
        ffi.set_source(f"scopedbump._cli.{name}", None)
        ffi.emit_python_code(str(folder / f"{name}.py"))


if __name__ == "__main__":
    generate(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
