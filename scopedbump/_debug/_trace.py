"""The blocks of debug regions in the snapshots of tracemalloc, in a domain of their own."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ._blocks import Block

DOMAIN: Final = 0x5C0BED
"""tracemalloc's number for what lies in regions."""


def _api() -> tuple[Callable[..., int], Callable[..., int]] | None:
    try:
        track = ctypes.pythonapi.PyTraceMalloc_Track
        untrack = ctypes.pythonapi.PyTraceMalloc_Untrack
    except AttributeError:  # not CPython
        return None
    track.argtypes = [ctypes.c_uint, ctypes.c_size_t, ctypes.c_size_t]
    untrack.argtypes = [ctypes.c_uint, ctypes.c_size_t]
    return track, untrack


_found = _api()


def _never() -> bool:
    return False


try:
    from _tracemalloc import is_tracing as is_tracing  # noqa: PLC0414  # others use it from here
except ImportError:  # not CPython
    is_tracing = _never


def track(block: Block) -> None:
    """Tell tracemalloc of a block."""
    if _found is not None:
        _found[0](DOMAIN, block.address, block.size)
        block.traced = True


def untrack(blocks: Iterable[Block]) -> None:
    """These are no more."""
    if _found is not None:
        for block in blocks:
            if block.traced:
                block.traced = False
                _found[1](DOMAIN, block.address)
