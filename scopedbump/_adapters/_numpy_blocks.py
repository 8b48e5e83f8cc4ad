"""Free blocks: what NumPy gave back of a region, to be given out again.

A freed block comes back by an append to a list, in C, at any moment (see `_numpy_memory`). The one that came last goes
out first when it has the right size: it is warm. For any other request the freed blocks are *joined* with what lies
next to them, and the smallest free range that is large enough serves it. Only when there is none does the cursor of the
region move; `settle` moves it back over what is free at the end.

- `_ranges` is never changed, only replaced. Whoever wants something computes what would come then, and the critical
  section in which it replaces the ranges sees whether they are still those that it looked at; if not, it looks again.
- To join costs as much as there are ranges, so it waits until enough blocks came back to pay for it.
- At the end of the region, or at its reset, what is free is given out no more. When something is alive, its pages
  remain, and no others.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from typing import TYPE_CHECKING, Protocol

from .._atomic import critical, fast_path, new_lock
from .._errors import ScopedBumpError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from .._atomic import Lock
    from .._memory import Blocks

ALIGN = 64
"""Of every block, in bytes: a cache line, and what the widest vector instructions like."""


class Span:
    """From which address to which: of a block that is in use, or that came back and was not joined."""

    __slots__ = ("start", "stop")

    def __init__(self, start: int, stop: int) -> None:
        self.start: int = start
        self.stop: int = stop


class Taker(Protocol):
    """Who asks for a block: it finds it in `span`, whatever interrupts the call."""

    span: Span | None


class FreeBlocks:
    """The blocks of one region, until its end or reset: those that came back, and where more come from.

    Attributes:
        blocks: where more come from.
        freed: the blocks that came back last.
        give_back: what is called when one comes back.
    """

    __slots__ = ("_gaps", "_in_use", "_pops", "_ranges", "blocks", "freed", "give_back", "lock")

    def __init__(self, blocks: Blocks) -> None:
        self.lock: Lock | None = new_lock()
        self.blocks: Blocks = blocks
        self.freed: list[Span] = []
        self.give_back: Callable[[Span], None] = self.freed.append
        self._ranges: list[tuple[int, int]] | None = []  # (size, start), the smallest first; None after the end
        # Goes up when something was taken out of `freed`. High: NumPy's tests count who refers to 0 and 1.
        self._pops = 1 << 20
        self._gaps: dict[int, int] = {}  # where the cursor was, where that was not aligned, by the block behind
        self._in_use = 0  # bytes that the cursor moved for, those that came back included
        blocks.at_end(self._end)

    @fast_path
    def take(self, size: int, taker: Taker, zero: bool) -> bool | None:
        """Find a block of `size` bytes, rounded up to a multiple of ALIGN, and put it into `taker.span`.

        Returns:
            Whether it may be full of what was there; None when there is no block.
        """
        size = size + ALIGN - 1 & -ALIGN or ALIGN
        freed = self.freed
        if freed and self._ranges is not None:
            span = freed[-1]
            if span.stop - span.start == size:
                self._pops += 1
                taker.span = span
                del freed[-1]
                return True
        ranges = self._ranges
        if ranges is not None and len(freed) * 4 > len(ranges):
            self._join()
        if self._take_smallest(size, taker):
            return True
        if self._take_new(size, taker, zero):
            return False
        self.settle()
        if self._take_smallest(size, taker):
            return True
        return False if self._take_new(size, taker, zero) else None

    def _take_smallest(self, size: int, taker: Taker) -> bool:
        """Take the smallest range that is large enough; what is left of it stays."""
        while True:
            ranges = self._ranges
            if ranges is None:
                return False
            at = bisect_left(ranges, (size, 0))
            if at == len(ranges):
                return False
            room, start = ranges[at]
            left = ranges[:at] + ranges[at + 1 :]
            if room > size:
                insort(left, (room - size, start + size))
            if self._replace(ranges, left, Span(start, start + size), taker):
                return True

    @critical
    def _replace(self, ranges: list[tuple[int, int]], by: list[tuple[int, int]], span: Span, taker: Taker) -> bool:
        if self._ranges is not ranges:
            return False
        self._ranges = by
        taker.span = span
        return True

    def _take_new(self, size: int, taker: Taker, zero: bool) -> bool:
        """Take a block that nobody here had before."""
        try:
            taken = self.blocks.take(size, ALIGN, zero)
        except ScopedBumpError:  # full, or ended meanwhile
            return False
        if taken is None:
            return False
        start, mark = taken
        if mark < start:
            self._gaps[start] = mark
        self._note(Span(start, start + size), size, taker)
        return True

    @critical
    def _note(self, span: Span, size: int, taker: Taker) -> None:
        self._in_use += size
        taker.span = span

    # -- what came back

    def _join(self) -> None:
        """Join the blocks that came back with each other and with the ranges next to them."""
        while True:
            ranges, freed, pops = self._ranges, self.freed, self._pops
            count = len(freed)
            if ranges is None or not count:
                return
            joined = _joined(ranges, freed[:count])
            if self._replace_joined(ranges, joined, pops, slice(0, count)):
                return

    @critical
    def _replace_joined(
        self, ranges: list[tuple[int, int]], joined: list[tuple[int, int]], pops: int, part: slice[int, int, None]
    ) -> bool:
        if self._ranges is not ranges or self._pops != pops:
            return False
        self._ranges = joined
        del self.freed[part]
        return True

    def settle(self) -> None:
        """Put the cursor back over what is free at the end of it."""
        self._join()
        ranges, view = self._ranges, self.blocks.view()
        if not ranges or view is None:
            return
        size, start = max(ranges, key=_start_of)
        if not self.blocks.reaches_cursor(start + size):
            return
        left = ranges[:]
        left.remove((size, start))
        if self._drop(ranges, left, size):
            if self.blocks.take_back(view, self._gaps.get(start, start), start + size):
                self._gaps.pop(start, None)
            else:  # somebody else has allocated meanwhile
                self._keep(Span(start, start + size), size)

    @critical
    def _drop(self, ranges: list[tuple[int, int]], by: list[tuple[int, int]], size: int) -> bool:
        if self._ranges is not ranges:
            return False
        self._ranges = by
        self._in_use -= size
        return True

    def _keep(self, span: Span, size: int) -> None:
        self._in_use += size
        self.freed.append(span)

    # -- the end

    def _end(self) -> None:
        """Give out nothing any more; when something is alive, give back what is not."""
        self._join()
        ranges = self._close()
        if ranges is not None and sum(size for size, _ in ranges) < self._in_use:
            self.blocks.discard((start, start + size) for size, start in ranges)

    @critical
    def _close(self) -> list[tuple[int, int]] | None:
        ranges = self._ranges
        self._ranges = None
        return ranges


def _start_of(block: tuple[int, int]) -> int:
    return block[1]


def _joined(ranges: Iterable[tuple[int, int]], spans: Iterable[Span]) -> list[tuple[int, int]]:
    """Ranges and spans, those that touch made one, as (size, start), the smallest first."""
    joined: list[tuple[int, int]] = []
    begin = end = -1
    for start, stop in sorted([(start, start + size) for size, start in ranges] + [(s.start, s.stop) for s in spans]):
        if start != end:
            joined.append((end - begin, begin))
            begin = start
        end = stop
    joined.append((end - begin, begin))
    return sorted(joined[1:])
