"""What the system says of this process, where it does."""

from __future__ import annotations

import sys
from pathlib import Path


def resident() -> int | None:
    """Bytes of RAM that this process takes; None where no file says so."""
    if sys.platform == "win32":  # Wine shows Linux's files
        return None
    try:
        # Counted page by page: the counters of statm may be megabytes late.
        with Path("/proc/self/smaps_rollup").open("rb") as rollup:
            return next(int(line.split()[1]) << 10 for line in rollup if line.startswith(b"Rss:"))
    except (OSError, StopIteration):
        return None


def page_faults() -> int | None:
    """How many pages the system had to find for this process so far; None where it does not say."""
    if sys.platform == "win32":
        return None
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
