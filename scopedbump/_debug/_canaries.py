"""Canaries: bytes in what is left of a block's pages, which nobody has a reason to change."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from .._lifetime import CHAR_POINTER, ffi
from ._findings import of_canary

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ._blocks import Block
    from ._findings import Finding

LEAST: Final = 32
"""Bytes of canary on each side of a block that has no guard."""

_BYTE = 0xFD
_FILL = 0xA5
_MOST = 1 << 16
_CANARY = bytes((_BYTE,)) * _MOST
_SPOILT = bytes((_FILL,)) * _MOST


def _sides(block: Block) -> tuple[tuple[int, int], tuple[int, int]]:
    """Where canaries lie, as addresses: before the block, and behind it, where that is not a writer's to be filled."""
    end = block.address + block.size
    before = max(block.first, block.address - _MOST)
    return (before, block.address), (end, end if block.grows else min(block.edge, end + _MOST))


def put(view: memoryview, base: int, block: Block) -> None:
    """Put canaries around a block; the view begins at `base`."""
    for start, stop in _sides(block):
        if start < stop:
            view[start - base : stop - base] = _CANARY[: stop - start]


def put_behind(view: memoryview, base: int, block: Block) -> None:
    """Put canaries behind a block whose end is known only now."""
    start = block.address + block.size
    stop = min(block.edge, start + _MOST)
    if start < stop:
        view[start - base : stop - base] = _CANARY[: stop - start]


def spoil(view: memoryview, start: int, stop: int) -> None:
    """Fill view[start:stop] with what nobody takes for a value: memory that need not be zero."""
    for at in range(start, stop, _MOST):
        end = min(at + _MOST, stop)
        view[at:end] = _SPOILT[: end - at]


def changed(blocks: Iterable[Block]) -> list[Finding]:
    """What canaries tell, which are then put anew: each change is told once."""
    findings: list[Finding] = []
    for block in tuple(blocks):
        for start, stop in _sides(block):
            if start >= stop or block.back or block.freed:
                continue
            pointer = ffi.cast(CHAR_POINTER, start)
            seen = ffi.buffer(pointer, stop - start)
            if (now := seen[:]) != _CANARY[: stop - start]:
                wrong = [at for at, byte in enumerate(now) if byte != _BYTE]
                seen[:] = _CANARY[: stop - start]
                findings.append(of_canary(block, start + wrong[0], wrong[-1] - wrong[0] + 1))
    return findings
