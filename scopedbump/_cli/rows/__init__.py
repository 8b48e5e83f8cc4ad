"""The rows of the table: what is measured, against what, and what was promised."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from importlib import import_module

from ..measure import Row, Sides

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
    """All rows: each module adds its own when it is imported."""
    for name in ("blocks", "foreign", "whole", "buffers", "numpy", "served", "imports"):
        import_module(f"{__name__}.{name}")
    return ROWS
