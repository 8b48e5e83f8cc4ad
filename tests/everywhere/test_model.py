"""Whole programs of operations against a byte model: promises 1, 3, 4, 6, 7, 8 and 11 together."""

from __future__ import annotations

import os
import sys
import warnings
from array import array
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from helpers.invariants import check
from helpers.support import collect
from scopedbump import Region, RegionBusyError, RegionClosedError, RegionFullError, RegionPool, bump_region

SIZE = 1 << 20
block_sizes = st.one_of(st.integers(0, 200), st.sampled_from([4096, 33_000, 70_000, 200_000]))
alignments = st.sampled_from([1, 2, 8, 16, 16, 16, 64, 4096])
far_alignments = st.sampled_from([8192, 1 << 16, 1 << 22])
"""What a block then costs depends on where the system put the region, and a program must be the same each time."""

CODES = "bBhHiIlLqQfd"


def refuses(error: type[Exception], function: Callable[..., object], *arguments: object) -> bool:
    """What pytest.raises looks for; but that leaves frames to the garbage collector, whose variables may be pins."""
    try:
        function(*arguments)
    except error:
        return True
    return False


SCOPES_GIVE_BACK = sys.implementation.name == "cpython"
"""Whether a scope's memory is its region's again at its end: not where nothing counts references."""


@dataclass
class Block:
    """A view, what it must read, where it ends, and what was made from it (an escape when its level ends)."""

    view: memoryview | None
    content: bytes
    stop: int
    pins: list[memoryview] = field(default_factory=list)

    def write(self, seed: int) -> None:
        if self.view is not None:
            self.content = bytes([seed % 255 + 1]) * len(self.content)
            with self.view.cast("B") as as_bytes:
                as_bytes[:] = self.content


@dataclass
class Level:
    """A region, where it starts in the outermost one, the blocks that it handed out, and its slab."""

    region: Region
    start: int
    blocks: list[Block] = field(default_factory=list)
    slab_size: int = 0
    slab: object = None


class Machine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.pool = RegionPool(SIZE, max_idle=2)
        self.levels: list[Level] = []
        self.escaped: list[tuple[memoryview, bytes]] = []
        self.revoked: list[memoryview] = []
        self.seed = 0
        self.base = 0

    @initialize(pooled=st.booleans())
    def open(self, pooled: bool) -> None:
        """Open a region: on fresh memory, or on what the regions before it have written to."""
        self.levels = [Level(self.pool.region() if pooled else bump_region(SIZE), 0)]
        self.find_base()

    def find_base(self) -> None:
        """Where the memory of the outermost region begins, of which nothing is used."""
        root = self.levels[0].region
        assert root.used == 0
        self.base = root.address(root.alloc(0, 1))
        assert root.used == 0

    @property
    def top(self) -> Level:
        return self.levels[-1]

    def next_start(self, align: int) -> int:
        """Where a block must start, counted from the base."""
        return self.round_up(self.top.start + self.top.region.used, align)

    def round_up(self, cursor: int, align: int) -> int:
        return -(-(self.base + cursor) // align) * align - self.base

    def add(self, view: memoryview) -> None:
        block = Block(view, bytes(view.nbytes), self.top.region.address(view) - self.base + view.nbytes)
        self.seed += 1
        block.write(self.seed)
        self.top.blocks.append(block)

    def placed(self, view: memoryview, start: int, align: int) -> None:
        """A block that was asked for starts where the cursor was, aligned, and an empty one can be read there too."""
        address = self.top.region.address(view)
        assert address % align == 0
        assert self.base <= address < self.base + SIZE
        if view.nbytes:
            assert address == self.base + start
            assert self.top.start + self.top.region.used == start + view.nbytes

    @staticmethod
    def pinned_until(levels: list[Level]) -> int:
        """Where the last block ends that something was made from; nothing else may come before."""
        return max((block.stop for level in levels for block in level.blocks if block.pins), default=0)

    def end(self, level: Level) -> None:
        """What must be true of the blocks of a level that has ended."""
        for block in level.blocks:
            self.escaped += [(pin, block.content) for pin in block.pins]
            if block.view is not None:
                self.revoked.append(block.view)
        level.blocks.clear()
        level.slab = None

    @rule(size=block_sizes, align=alignments, zero=st.booleans())
    def alloc(self, size: int, align: int, zero: bool) -> None:
        region = self.top.region
        used, start = region.used, self.next_start(align)
        assert region.available == max(SIZE - self.next_start(16), 0)
        left = max(SIZE - start, 0)
        try:
            view = region.alloc(size, align, zero=zero)
        except RegionFullError as error:
            assert size > left
            assert (error.requested, error.available) == (size, left)
            assert region.used == used
            return
        assert view.nbytes == size
        assert view.format == "B"
        assert size <= left
        self.placed(view, start, align)
        assert not (zero and any(view))
        self.add(view)

    @precondition(lambda _: SCOPES_GIVE_BACK)
    @rule(size=block_sizes, align=far_alignments)
    def alloc_far(self, size: int, align: int) -> None:
        """In a scope, after which the cursor is where it was."""
        region = self.top.region
        used, start = region.used, self.round_up(min(self.next_start(16), SIZE), align)
        with region.scope() as s:
            try:
                view = s.alloc(size, align)
            except RegionFullError as error:
                assert (error.requested, error.available) == (size, max(SIZE - start, 0))
                assert size > error.available or start >= SIZE
            else:
                assert s.address(view) % align == 0
                assert size == 0 or s.address(view) == self.base + start
                assert not any(view)
                view[:] = b"\xff" * size
        assert region.used == used

    @precondition(lambda _: SCOPES_GIVE_BACK)
    @rule(align=alignments)
    def alloc_what_is_left(self, align: int) -> None:
        """What a refusal says is left can be had; then only what is empty. In a scope: it is given back again."""
        region = self.top.region
        used = region.used
        with region.scope() as s:
            try:
                s.alloc(2 * SIZE, align)
            except RegionFullError as error:
                left = error.available
            assert s.alloc(left, align, zero=False).nbytes == left
            if left:
                assert refuses(RegionFullError, s.alloc, 1)
            address = s.address(s.alloc(0, align))
            assert address % align == 0
            assert self.base <= address < self.base + SIZE
        assert region.used == used

    @rule(data=st.binary(max_size=5000), align=alignments)
    def copy(self, data: bytes, align: int) -> None:
        start = self.next_start(align)
        try:
            view = self.top.region.copy(data, align)
        except RegionFullError:
            assert start + max(len(data), 1) > SIZE
            return
        self.placed(view, start, align)
        assert view == data
        self.add(view)

    @rule(
        code=st.sampled_from(CODES), values=st.one_of(st.integers(0, 9000), st.lists(st.integers(0, 100), max_size=50))
    )
    def array(self, code: str, values: int | list[int]) -> None:
        start = self.next_start(16)
        model = array(code, bytes(values * array(code).itemsize) if isinstance(values, int) else values)
        try:
            view: memoryview[Any] = self.top.region.array(code, values)  # type: ignore[call-overload]  # any of them
        except RegionFullError:
            assert start + max(len(model) * model.itemsize, 1) > SIZE
            return
        self.placed(view, start, 16)
        assert (view.format, view.nbytes) == (code, len(model) * model.itemsize)
        assert view.tolist() == model.tolist()
        self.add(view)

    @rule(size=st.integers(1, 300), align=alignments)
    def start_slab(self, size: int, align: int) -> None:
        self.top.slab, self.top.slab_size = self.top.region.slab(size, align), size

    @precondition(lambda self: self.levels and self.top.slab is not None)
    @rule(count=st.integers(1, 30))
    def take_from_slab(self, count: int) -> None:
        level = self.top
        for _ in range(count):
            try:
                view = next(level.slab)  # type: ignore[call-overload]
            except RegionFullError:
                level.slab = None
                return
            assert view.nbytes == level.slab_size
            assert not any(view)
            self.add(view)

    @rule()
    def open_scope(self) -> None:
        if len(self.levels) < 6:
            parent = self.top.region
            start = min(self.next_start(16), SIZE)
            self.levels.append(Level(parent.scope(), start))
            assert self.top.region.size == SIZE - start
            assert refuses(RegionBusyError, parent.alloc, 1)
            assert refuses(RegionBusyError, parent.reset)

    @precondition(lambda self: len(self.levels) > 1)
    @rule(outer=st.integers(0, 2), lost=st.booleans())
    def close_scope(self, outer: int, lost: bool) -> None:
        """Close the innermost scope, or one further out with all that are inside it; or lose them all."""
        index = max(1, len(self.levels) - 1 - outer)
        before = self.levels[index - 1].region.used
        pinned = self.pinned_until(self.levels[index:])
        if lost:
            self.lose(index)
        else:
            self.levels[index].region.close()
            for level in self.levels[index:]:
                assert level.region.closed
                assert refuses(RegionClosedError, level.region.alloc, 1)
                self.end(level)
            del self.levels[index:]
        if sys.implementation.name == "cpython":
            assert self.top.start + self.top.region.used >= pinned
            assert pinned or self.escaped or self.top.region.used == before

    def lose(self, index: int) -> None:
        """Drop the regions from this level on without closing them."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            for level in self.levels[index:]:
                self.end(level)
            del level, self.levels[index:]
            collect()

    @rule()
    def reset(self) -> None:
        pinned = self.pinned_until([self.top])
        self.top.region.reset()
        self.end(self.top)
        if len(self.levels) == 1:
            self.find_base()
        elif sys.implementation.name == "cpython":
            assert self.top.start + self.top.region.used >= pinned

    @precondition(lambda self: any(level.blocks for level in self.levels))
    @rule(data=st.data())
    def touch(self, data: st.DataObject) -> None:
        """Write to a block, pin it, drop its pin, or drop the view itself."""
        blocks = [block for level in self.levels for block in level.blocks]
        block = blocks[data.draw(st.integers(0, len(blocks) - 1), label="block")]  # strategies keep what they draw from
        what = data.draw(st.sampled_from(["write", "pin", "unpin", "drop"]), label="what")
        if what == "write":
            self.seed += 1
            block.write(self.seed)
        elif what == "pin" and block.view is not None:
            block.pins.append(block.view[:])
        elif what == "unpin" and block.pins:
            block.pins.pop()
        elif what == "drop":
            block.view = None

    @precondition(lambda self: self.escaped)
    @rule()
    def drop_escapes(self) -> None:
        self.escaped.clear()

    @rule(pooled=st.booleans(), lost=st.booleans())
    def start_again(self, pooled: bool, lost: bool) -> None:
        if lost:
            self.lose(0)
        else:
            root = self.levels[0].region
            pinned = any(block.pins for level in self.levels for block in level.blocks)
            root.close()
            for level in self.levels:
                assert level.region.closed
                self.end(level)
            if sys.implementation.name == "cpython":
                assert not (root.released and pinned)
                self.revoked_are_revoked()
                assert root.released or self.escaped
        self.open(pooled)

    def revoked_are_revoked(self) -> None:
        for view in self.revoked:
            assert refuses(ValueError, len, view)
        self.revoked.clear()

    @invariant()
    def everything_reads_as_written(self) -> None:
        for level in self.levels:
            for block in level.blocks:
                for view in (block.view, *block.pins):
                    assert view is None or view.tobytes() == block.content
            assert level.region.used <= level.region.peak <= level.region.size
        for pin, content in self.escaped:
            assert pin.tobytes() == content
        self.revoked_are_revoked()
        if self.levels:
            check(self.levels[0].region)

    def teardown(self) -> None:
        if self.levels:
            self.levels[0].region.close()
        self.pool.close()
        for pin, content in self.escaped:
            assert pin.tobytes() == content


def run(examples: int, steps: int) -> None:
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_programs_against_the_model() -> None:
    """Random programs of every operation behave as the model says, with every invariant after each step."""
    run(70 if sys.implementation.name == "cpython" else 8, 50)


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_long_programs_against_the_model() -> None:
    """The same, for a quarter of a million operations, or as many as the environment says."""
    steps = 200
    run(int(os.environ.get("SCOPEDBUMP_MODEL_OPERATIONS", "250000")) // steps, steps)
