"""What a region, its scopes and the regions of a pool have in common: what their user chose."""

from __future__ import annotations

from . import _hints as hints

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

DEFAULT_SIZE: Final = 1 << 30
"""Bytes of address space that a region reserves when no size is given: 1 GiB."""


class Options:
    """What a user chose."""

    __slots__ = ("escape", "name", "retain", "wipe")

    def __init__(self, name: str, escape: hints.Escape, wipe: bool, retain: int | None) -> None:
        self.name = name
        self.escape: hints.Escape = escape
        self.wipe = wipe
        self.retain = retain

    def with_escape(self, escape: hints.Escape) -> Options:
        """The same, with another escape policy."""
        return self if escape == self.escape else Options(self.name, escape, self.wipe, self.retain)
