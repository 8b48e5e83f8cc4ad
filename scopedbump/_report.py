"""What is in a region, in words and for notebooks."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._chunk import Chunk
    from ._region import Region


def report(region: Region, chunk: Chunk) -> str:
    """As `Region.report`."""
    numbers = f"used {region.used}, peak {region.peak}, available {region.available}, committed {region.committed}"
    totals = f"{region!r}\n  {numbers}"
    if not chunk.debug:
        return totals
    from ._debug._pictures import table_of

    return f"{totals}\n{table_of(chunk)}"


def html(region: Region, chunk: Chunk) -> str:
    """The same for a notebook, with a picture of a debug region."""
    text = f"<pre>{escape(region.report())}</pre>"
    if not chunk.debug:
        return text
    from .debug import svg

    return text + svg(region)
