"""`python -m scopedbump info`: the system, the limits, and what a default region costs here."""

from __future__ import annotations

import mmap
import os
import platform
import sys
import time
from pathlib import Path

import _cffi_backend

from .. import DEFAULT_SIZE, __version__, _atomic, bump_region
from . import process, text

_ROUNDS = 200
_MIB = 1 << 20


def run() -> int:
    """Print it all."""
    print(f"scopedbump {__version__}\n")
    print(text.table([*facts().items()], left=2))
    print(f"\na default region ({text.size(DEFAULT_SIZE)}), measured now\n")
    print(text.table([("", "reserved", "committed", "resident"), *_steps()]))
    print(f"\nopened and closed in {text.duration(_open_and_close())} (best of {_ROUNDS})")
    return 0


def facts() -> dict[str, str]:
    """What a figure depends on, and what the system grants."""
    gil = getattr(sys, "_is_gil_enabled", lambda: True)()
    found = {
        "machine": f"{platform.system()} {platform.release()}, {platform.machine()}, {os.cpu_count()} CPUs",
        "Python": f"{platform.python_implementation()} {platform.python_version()}, {sys.maxsize.bit_length() + 1}-bit",
        "GIL": "on" if gil else "off",
        "bump": "without a lock" if _atomic.atomic else "under a lock (only a GIL as CPython's makes it atomic)",
        "cffi": str(getattr(_cffi_backend, "__version__", "unknown")),
        "page size": text.size(mmap.PAGESIZE),
        "granularity": text.size(mmap.ALLOCATIONGRANULARITY),
    }
    return found | _limits()


def _limits() -> dict[str, str]:
    if sys.platform == "win32":
        return {
            "overcommit mode": "none: what is committed is charged, what is reserved is not",
            "huge pages": "none: only by privilege, and not used",
            "address-space limit": "none",
        }
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    most = "no limit" if hard == resource.RLIM_INFINITY else text.size(hard)
    raised = f"{text.size(soft)}, may be raised to {most} (RLIMIT_AS)"
    mode = _read("/proc/sys/vm/overcommit_memory")
    meaning = {"0": "heuristic", "1": "always", "2": "strict: what is committed is charged"}.get(mode, "")
    huge = _read("/sys/kernel/mm/transparent_hugepage/enabled").partition("[")[2].partition("]")[0]
    size = _read("/sys/kernel/mm/transparent_hugepage/hpage_pmd_size")
    mappings = _read("/proc/sys/vm/max_map_count")
    return {
        "overcommit mode": f"{mode} ({meaning})" if mode else "unknown",
        "huge pages": (huge or "unknown") + (f", {text.size(int(size))}" if size else ""),
        "address-space limit": "none (RLIMIT_AS)" if soft == resource.RLIM_INFINITY else raised,
        "mappings": f"at most {mappings} (vm.max_map_count)" if mappings else "unknown",
    }


def _read(path: str) -> str:
    try:
        return Path(path).read_text("utf-8", "replace").strip()
    except OSError:
        return ""


def _steps() -> list[tuple[str, str, str, str]]:
    before = process.resident()
    before = process.resident()  # what asking costs is paid by now

    def more() -> str:
        now = process.resident()
        return "unknown" if now is None or before is None else text.size(max(now - before, 0))

    with bump_region() as region:
        opened = ("open", text.size(region.size), text.size(region.committed), more())
        block = region.alloc(64)
        block[0] = 1
        first = ("64 bytes used", text.size(region.size), text.size(region.committed), more())
        region.copy(bytes(_MIB))
        used = ("and 1 MiB more", text.size(region.size), text.size(region.committed), more())
    return [opened, first, used, ("closed", "0 B", "0 B", more())]


def _open_and_close() -> float:
    best = float("inf")
    for _ in range(_ROUNDS):
        start = time.perf_counter()
        bump_region().close()
        best = min(best, time.perf_counter() - start)
    return best
