"""Figures: how they are written, and what the system says."""

import sys
from collections.abc import Sequence
from pathlib import Path


def size(count: int | None) -> str:
    """Bytes for a reader: 1.0 GiB, 64 B, or "unknown"."""
    if count is None or abs(count) < 1024:
        return "unknown" if count is None else f"{count} B"
    exponent = next(n for n in range(1, 7) if abs(count) < 999.95 * 1024**n or n == 6)
    return f"{count / 1024**exponent:.1f} {' KMGTPE'[exponent]}iB"


def duration(seconds: float) -> str:
    """A time for a reader, in three figures: 31.4 ns, 1.50 ms."""
    for factor, unit in ((1e9, "ns"), (1e6, "us"), (1e3, "ms")):
        if (value := seconds * factor) < 999.5:
            return f"{value:#.3g}".removesuffix(".") + f" {unit}"
    return f"{seconds:.2f} s"


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows in columns, the first of them aligned to the left, the others to the right."""
    first, *others = (max(map(len, column)) for column in zip(*rows, strict=True))
    return "\n".join("  ".join([name.ljust(first), *map(str.rjust, cells, others)]) for name, *cells in rows)


def resident() -> int | None:
    """Bytes of RAM that this process takes; None where no file says so."""
    words = said("/proc/self/smaps_rollup").split()  # counted page by page: statm may be megabytes late
    return int(words[words.index("Rss:") + 1]) << 10 if "Rss:" in words else None


def said(path: str) -> str:
    """What Linux says in this file; "unknown" where there is none."""
    try:
        return "unknown" if sys.platform == "win32" else Path(path).read_text().strip()  # Wine shows these files too
    except OSError:
        return "unknown"
