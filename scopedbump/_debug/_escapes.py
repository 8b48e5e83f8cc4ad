"""Regions that ended while something pointed in: to be looked at again later, when whoever calls has let go."""

from __future__ import annotations

import gc
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from .._lifetime import still_there
from ._holders import holders_of, in_words

if TYPE_CHECKING:
    from weakref import ref

    from ._blocks import Ledger

collecting = False
"""Whether ends are noted here."""


class Ended(NamedTuple):
    """What is left of a region: its name, what is dead when its memory went, and where its blocks lay."""

    region: str
    kept: ref[object] | None
    ranges: list[tuple[int, int]]
    ledger: Ledger


ended: deque[Ended] = deque(maxlen=1_000)


def told() -> list[str]:
    """What of it still keeps its memory, in words; each is told once."""
    if not ended:
        return []
    gc.collect()
    texts: list[str] = []
    while ended:
        each = ended.popleft()
        if still_there(each.kept):
            found = holders_of(each.ranges, each.ledger)
            texts.append(f"something still points into {each.region} after the test: {in_words(found)}")
    return texts
