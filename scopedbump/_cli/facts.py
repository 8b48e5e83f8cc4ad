"""What is said of the machine, the interpreter and the limits that a region meets."""

from __future__ import annotations

import mmap
import os
import platform
import sys
from pathlib import Path

import _cffi_backend

from .. import _atomic
from . import text


def machine() -> dict[str, str]:
    """The facts that a figure depends on."""
    return {
        "machine": f"{platform.system()} {platform.release()}, {_processor()}, {os.cpu_count()} CPUs",
        "Python": f"{platform.python_implementation()} {platform.python_version()}, {sys.maxsize.bit_length() + 1}-bit",
        "GIL": "on" if _gil() else "off",
        "bump": "without a lock" if _atomic.atomic else "under a lock (only a GIL as CPython's makes it atomic)",
        "cffi": str(getattr(_cffi_backend, "__version__", "unknown")),
    }


def limits() -> dict[str, str]:
    """What the system grants, and how."""
    found = {
        "page size": text.size(mmap.PAGESIZE),
        "granularity": text.size(mmap.ALLOCATIONGRANULARITY),
        "overcommit mode": _overcommit(),
        "huge pages": _huge_pages(),
        "address-space limit": _address_space(),
    }
    mappings = _read("/proc/sys/vm/max_map_count")
    if mappings and sys.platform != "win32":  # Wine shows Linux's files
        found["mappings"] = f"at most {mappings} (vm.max_map_count)"
    return found


def _gil() -> bool:
    asked = getattr(sys, "_is_gil_enabled", None)
    return True if asked is None else bool(asked())


def _processor() -> str:
    for line in _read("/proc/cpuinfo").splitlines():
        if line.startswith("model name"):
            return f"{line.partition(':')[2].strip()} ({platform.machine()})"
    return platform.processor() or platform.machine()


def _overcommit() -> str:
    if sys.platform == "win32":
        return "none: what is committed is charged, what is reserved is not"
    mode = _read("/proc/sys/vm/overcommit_memory")
    meaning = {"0": "heuristic", "1": "always", "2": "strict: what is committed is charged"}.get(mode, "")
    return f"{mode} ({meaning})" if mode else "unknown"


def _huge_pages() -> str:
    if sys.platform == "win32":
        return "none: only by privilege, and not used"
    chosen = _read("/sys/kernel/mm/transparent_hugepage/enabled").partition("[")[2].partition("]")[0]
    size = _read("/sys/kernel/mm/transparent_hugepage/hpage_pmd_size")
    return f"{chosen or 'unknown'}" + (f", {text.size(int(size))}" if size else "")


def _address_space() -> str:
    if sys.platform == "win32":
        return "none"
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    if soft == resource.RLIM_INFINITY:
        return "none (RLIMIT_AS)"
    most = "no limit" if hard == resource.RLIM_INFINITY else text.size(hard)
    return f"{text.size(soft)}, may be raised to {most} (RLIMIT_AS)"


def _read(path: str) -> str:
    try:
        return Path(path).read_text("utf-8", "replace").strip()
    except OSError:
        return ""
