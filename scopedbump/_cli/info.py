"""`python -m scopedbump info`: the system, the limits, and what a default region costs here."""

import gc
import mmap
import os
import platform
import sys
import timeit

import _cffi_backend

from .. import DEFAULT_SIZE, __version__, _atomic, bump_region
from .figures import duration, resident, said, size, table


def run(_: object) -> int:
    """Print it all."""
    print(f"scopedbump {__version__}\n")
    for name, value in facts().items():
        print(f"{name:<21}{value}")
    print(f"\na default region ({size(DEFAULT_SIZE)}), measured now\n")
    print(memory({"open": 0, "64 bytes used": 64, "and 1 MiB more": 1 << 20}))
    best = min(timeit.repeat(lambda: bump_region().close(), number=1, repeat=200))
    print(f"\nopened and closed in {duration(best)} (best of 200)")
    return 0


def facts() -> dict[str, str]:
    """What a figure depends on, and what the system grants."""
    found = {
        "machine": f"{platform.system()} {platform.release()}, {platform.machine()}, {os.cpu_count()} CPUs",
        "Python": f"{platform.python_implementation()} {platform.python_version()}, {sys.maxsize.bit_length() + 1}-bit",
        "GIL": "on" if getattr(sys, "_is_gil_enabled", lambda: True)() else "off",
        "bump": "without a lock" if _atomic.atomic else "under a lock (only a GIL as CPython's makes it atomic)",
        "cffi": str(getattr(_cffi_backend, "__version__", "unknown")),
        "page size": f"{size(mmap.PAGESIZE)}, granularity {size(mmap.ALLOCATIONGRANULARITY)}",
        "overcommit mode": said("/proc/sys/vm/overcommit_memory") + " (0: heuristic, 1: always, 2: strict)",
        "huge pages": said("/sys/kernel/mm/transparent_hugepage/enabled"),
        "mappings": f"at most {said('/proc/sys/vm/max_map_count')} (vm.max_map_count)",
        "address-space limit": "none",
    }
    if sys.platform != "win32":
        import resource

        limit, _ = resource.getrlimit(resource.RLIMIT_AS)
        found["address-space limit"] = ("none" if limit == resource.RLIM_INFINITY else size(limit)) + " (RLIMIT_AS)"
    return found


def memory(steps: dict[str, int]) -> str:
    """A table of what a default region takes after each step, which writes so many bytes, and after its end."""
    rows = [("", "reserved", "committed", "more resident")]
    before = [resident(), resident()][1]  # what the first question costs is paid before anything is measured

    def note(state: str) -> None:
        now, there = resident(), not region.released
        more = max(now - before, 0) if now and before else None
        rows.append((state, size(region.size * there), size(region.committed * there), size(more)))

    with bump_region(debug=False) as region:
        for state, count in steps.items():
            if count:
                region.copy(bytes(count))
            note(state)
    for _ in range(5):  # where nothing counts references, each collection frees what the last one let go of
        gc.collect()
    note("the block has ended")
    return table(rows)
