"""The rows of the table: what is measured, against what, and what was promised."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager

from scopedbump._cli.measure import Row, Sides

ROWS: list[Row] = []
"""In the order of the table."""


def row(
    work: str, against: str, most: float | None = None
) -> Callable[[Callable[[], Generator[Sides]]], Callable[[], Generator[Sides]]]:
    """Add a row, prepared by the generator function that follows."""

    def add(prepare: Callable[[], Generator[Sides]]) -> Callable[[], Generator[Sides]]:
        ROWS.append(Row(work, against, most, contextmanager(prepare)))
        return prepare

    return add


def every() -> list[Row]:
    """All rows."""
    # Each module adds its own.
    from scopedbump._cli.rows import blocks, buffers, foreign, imports, numpy, served, whole

    assert {blocks, buffers, foreign, imports, numpy, served, whole}
    return ROWS
