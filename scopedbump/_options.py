"""What a region, its scopes and the regions of a pool have in common: what their user chose."""

from __future__ import annotations

import os

from . import _hints as hints

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

DEFAULT_SIZE: Final = 1 << 30
"""Bytes of address space that a region reserves when no size is given: 1 GiB."""


debug_by_default: bool = os.environ.get("SCOPEDBUMP_DEBUG", "") not in ("", "0")
"""Whether regions are debug regions when nothing is said."""


def wants_debug(debug: bool | None) -> bool:
    """Whether a debug region is asked for."""
    return debug_by_default if debug is None else bool(debug)


class Options:
    """What a user chose.

    Attributes:
        debug: whether they are debug regions.
        ends_with_response: whether each belongs to a response and ends with that object at the latest: none is lost.
        escape, name, retain: as for `bump_region`.
        secret: whether they are to be wiped.
        wipe: whether there is work for `Chunk.erase`: in debug regions always, for that guards what was used.
    """

    __slots__ = ("debug", "ends_with_response", "escape", "name", "retain", "secret", "wipe")

    def __init__(self, name: str, escape: hints.Escape, wipe: bool, retain: int | None, debug: bool = False) -> None:
        self.debug = debug
        self.name = name
        self.escape: hints.Escape = escape
        self.secret = wipe
        self.wipe = wipe or debug
        self.retain = retain
        self.ends_with_response = False

    def with_escape(self, escape: hints.Escape) -> Options:
        """The same, with another escape policy."""
        return self if escape == self.escape else Options(self.name, escape, self.secret, self.retain, self.debug)

    def for_responses(self, escape: hints.Escape) -> Options:
        """The same, with that escape policy, for regions that end with the response of a request."""
        options = Options(self.name, escape, self.secret, self.retain, self.debug)
        options.ends_with_response = True
        return options
