"""What is known of blocks: where each lies, who made it, and how it ended. Nothing here refers to memory."""

from __future__ import annotations

from bisect import bisect_right, insort
from typing import TYPE_CHECKING, NamedTuple

from ._call_sites import CallSite, told

if TYPE_CHECKING:
    from ._findings import Finding


class BlockInfo(NamedTuple):
    """A block of a debug region, as findings and holders tell of it.

    Attributes:
        address: of its first byte.
        size: bytes that were asked for.
        align: the alignment that was asked for, in bytes.
        made: the place in Python that made it: "file:line in function".
        region: the name of its region.
        ended: how it ended ("its scope ended", "its region was reset", "its region ended", "it was freed"), and where;
            None while it is good.
    """

    address: int
    size: int
    align: int
    made: str
    region: str
    ended: str | None

    def __str__(self) -> str:
        return f"the block of {self.size} bytes at {self.address:#x}, made at {self.made}"


BlockInfo.__module__ = "scopedbump.debug"


class Life:
    """What the blocks of a chunk share: from when to when they were good.

    Attributes:
        blocks: in the order in which they were made.
        ended: how they ended; None while they are good.
        ended_at: where that was.
        name: of the region.
        opened_at: where that began.
        packed: how many of them have canaries only.
        pending: findings that the end of the region tells.
        scope: whether this is a scope's.
        then: whose findings they are when these are good no more: what the region has after a reset, or around a scope.
        unguarded: how many of them have neither guards nor canaries.
    """

    __slots__ = ("blocks", "ended", "ended_at", "name", "opened_at", "packed", "pending", "scope", "then", "unguarded")

    def __init__(self, name: str, scope: bool, opened_at: CallSite, pending: list[Finding]) -> None:
        self.name = name
        self.scope = scope
        self.opened_at = opened_at
        self.pending = pending
        self.blocks: list[Block] = []
        self.ended: str | None = None
        self.ended_at: CallSite = None
        self.then: Life | None = None
        self.packed = self.unguarded = 0

    def end(self, how: str, site: CallSite) -> None:
        """The blocks are good no more; what was said first stands."""
        if self.ended is None:
            self.ended_at = site
            self.ended = how


class Block:
    """One block: all but `mark` and `stop` are addresses.

    Attributes:
        address: of its first byte.
        align: the alignment that was asked for.
        back: whether its bytes were taken back because no object could be made of them.
        edge: where its pages end, and its guard begins.
        first: where its pages begin.
        freed: whether C, or NumPy, gave it back.
        freed_at: where that was.
        grows: whether it is a writer's that is not finished: then `size` is what it may grow to.
        lent: whether it is a C library's, which should free it.
        life: what it shares with the others of its chunk.
        made: where it was made.
        mark, stop: where the cursor was before it, and behind it.
        moved_to: where a realloc has moved it to; 0 when none has.
        size: bytes that were asked for.
        traced: whether tracemalloc knows it.
    """

    __slots__ = (
        "address",
        "align",
        "back",
        "edge",
        "first",
        "freed",
        "freed_at",
        "grows",
        "lent",
        "life",
        "made",
        "mark",
        "moved_to",
        "size",
        "stop",
        "traced",
    )

    def __init__(
        self, life: Life, size: int, align: int, made: CallSite, mark: int, stop: int, pages: tuple[int, int, int]
    ) -> None:
        self.life = life
        self.size = size
        self.align = align
        self.made = made
        self.mark = mark
        self.stop = stop
        self.address, self.first, self.edge = pages
        self.freed_at: CallSite = None
        self.moved_to = 0
        self.back = self.freed = self.grows = self.lent = self.traced = False

    def info(self) -> BlockInfo:
        """What may be told of it."""
        return BlockInfo(self.address, self.size, self.align, told(self.made), self.life.name, self.end_in_words())

    def end_in_words(self) -> str | None:
        """How it ended, and where."""
        if self.freed:
            return f"it was freed at {told(self.freed_at)}"
        life = self.life
        return f"{life.ended} at {told(life.ended_at)}" if life.ended else None


class Ledger:
    """The blocks of one reservation, by address.

    Attributes:
        start, stop: what the reservation covers.
        zone: where blocks with pages of their own begin.
    """

    __slots__ = ("_blocks", "_firsts", "start", "stop", "zone")

    def __init__(self, start: int, zone: int, stop: int) -> None:
        self.start = start
        self.zone = zone
        self.stop = stop
        self._firsts: list[int] = []
        self._blocks: dict[int, Block] = {}

    def add(self, block: Block) -> None:
        """Note a block. The dict first: whoever finds its key in the list finds it there."""
        if self._blocks.setdefault(block.first, block) is block:
            insort(self._firsts, block.first)  # in C to its end: no other thread sees half of it
        else:  # the shadow is used again and again
            self._blocks[block.first] = block

    def around(self, address: int) -> tuple[Block | None, Block | None]:
        """The last block whose pages begin at or below an address, and the next one."""
        firsts = self._firsts
        while True:
            count = len(firsts)
            at = bisect_right(firsts, address)
            before = firsts[at - 1] if at else -1  # where no block begins
            after = firsts[at] if at < count else -1
            if len(firsts) == count:  # else another thread's block came in between: they are not noted in order
                break
        return self._blocks.get(before), self._blocks.get(after)

    def all(self) -> list[Block]:
        """All of them, in the order of their addresses."""
        return [self._blocks[first] for first in tuple(self._firsts)]
