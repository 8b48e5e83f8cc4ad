"""How figures are written: sizes, times, and tables of them."""

from __future__ import annotations

from collections.abc import Sequence


def size(count: int | None) -> str:
    """Bytes for a reader: 1.0 GiB, 64 B, or "unknown"."""
    if count is None:
        return "unknown"
    if abs(count) < 1024:
        return f"{count} B"
    value = float(count)
    for unit in ("KiB", "MiB", "GiB", "TiB", "PiB"):
        value /= 1024
        if abs(value) < 999.95:
            return f"{value:.1f} {unit}"
    return f"{value / 1024:.1f} EiB"


def duration(seconds: float) -> str:
    """A time for a reader, in three figures: 31.4 ns, 1.50 ms."""
    for factor, unit in ((1e9, "ns"), (1e6, "us"), (1e3, "ms")):
        value = seconds * factor
        if value < 999.5:
            return f"{value:#.3g}".removesuffix(".") + f" {unit}"
    return f"{seconds:.2f} s"


def table(rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """Rows in columns, the first `left` of them aligned to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = (
        "  ".join(
            cell.ljust(width) if at < left else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )
    return "\n".join(line.rstrip() for line in lines)
