"""What is said when something still points into a region at its end. Debug regions say more: see `_debug._holders`."""

from __future__ import annotations

from _warnings import warn

from . import _hints as hints
from ._errors import EscapeError, EscapeWarning


def tell_of_escape(region: object, escape: hints.Escape) -> None:
    """Raise or warn, as the region's user chose; called by what its `close` and `__exit__` call."""
    what = (
        f"{region!r}: something still points into it at its end (a slice, an ndarray, a ctypes or cffi object "
        "made from it) and keeps its memory; drop it first, or copy what is needed longer "
        "(with debug=True or SCOPEDBUMP_DEBUG=1 it is said what it is, and where it was made)"
    )
    if escape == "raise":
        raise EscapeError(what)
    warn(what, EscapeWarning, stacklevel=4)
