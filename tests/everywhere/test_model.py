"""Whole programs of operations against a byte model: promises 1, 3, 4, 6, 7, 8 and 11 together."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field

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

from scopedbump import Region, RegionBusyError, RegionClosedError, RegionFullError, bump_region

SIZE = 1 << 20
block_sizes = st.one_of(st.integers(0, 200), st.sampled_from([4096, 33_000, 70_000, 200_000]))
alignments = st.sampled_from([1, 2, 8, 16, 16, 16, 64, 4096])


def refuses(error: type[Exception], function: Callable[..., object], *arguments: object) -> bool:
    """What pytest.raises looks for; but that leaves frames to the garbage collector, whose variables may be pins."""
    try:
        function(*arguments)
    except error:
        return True
    return False


@dataclass
class Block:
    """A view, what it must read, and what was made from it (an escape when its level ends)."""

    view: memoryview | None
    content: bytes
    pins: list[memoryview] = field(default_factory=list)

    def write(self, seed: int) -> None:
        if self.view is not None:
            self.content = bytes([seed % 255 + 1]) * len(self.content)
            self.view[:] = self.content


@dataclass
class Level:
    """A region, the blocks that it handed out, and its slab."""

    region: Region
    blocks: list[Block] = field(default_factory=list)
    slab_size: int = 0
    slab: object = None


class Machine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.levels: list[Level] = []
        self.escaped: list[tuple[memoryview, bytes]] = []
        self.revoked: list[memoryview] = []
        self.seed = 0

    @initialize()
    def open(self) -> None:
        self.levels = [Level(bump_region(SIZE))]

    @property
    def top(self) -> Level:
        return self.levels[-1]

    def add(self, view: memoryview) -> None:
        block = Block(view, bytes(view.nbytes))
        self.seed += 1
        block.write(self.seed)
        self.top.blocks.append(block)

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
        used, available = region.used, region.available
        try:
            view = region.alloc(size, align, zero=zero)
        except RegionFullError as error:
            assert size + align > available
            assert (error.requested, error.available) == (size, available)
            assert region.used == used
            return
        assert view.nbytes == size
        assert region.address(view) % align == 0 or (size == 0 and region.available == 0)
        assert not (zero and any(view))
        assert used <= region.used < used + size + align
        self.add(view)

    @rule(data=st.binary(max_size=5000))
    def copy(self, data: bytes) -> None:
        try:
            view = self.top.region.copy(data)
        except RegionFullError:
            return
        assert bytes(view) == data
        self.add(view)

    @rule(size=st.integers(1, 300))
    def start_slab(self, size: int) -> None:
        self.top.slab, self.top.slab_size = self.top.region.slab(size), size

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
            self.levels.append(Level(parent.scope()))
            assert refuses(RegionBusyError, parent.alloc, 1)

    @precondition(lambda self: len(self.levels) > 1)
    @rule(outer=st.integers(0, 2))
    def close_scope(self, outer: int) -> None:
        """Close the innermost scope, or one further out with all that are inside it."""
        index = max(1, len(self.levels) - 1 - outer)
        self.levels[index].region.close()
        for level in self.levels[index:]:
            assert level.region.closed
            assert refuses(RegionClosedError, level.region.alloc, 1)
            self.end(level)
        del self.levels[index:]

    @rule()
    def reset(self) -> None:
        self.top.region.reset()
        self.end(self.top)

    @precondition(lambda self: any(level.blocks for level in self.levels))
    @rule(data=st.data())
    def touch(self, data: st.DataObject) -> None:
        """Write to a block, pin it, drop its pin, or drop the view itself."""
        level = data.draw(st.sampled_from([level for level in self.levels if level.blocks]), label="level")
        block = data.draw(st.sampled_from(level.blocks), label="block")
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

    @rule()
    def start_again(self) -> None:
        root = self.levels[0].region
        root.close()
        for level in self.levels:
            assert level.region.closed
            self.end(level)
        self.open()

    @invariant()
    def everything_reads_as_written(self) -> None:
        for level in self.levels:
            for block in level.blocks:
                for view in (block.view, *block.pins):
                    assert view is None or view == block.content
        for pin, content in self.escaped:
            assert pin == content
        for view in self.revoked:
            assert refuses(ValueError, len, view)
        self.revoked.clear()
        if self.levels:
            self.levels[0].region._check()

    def teardown(self) -> None:
        if self.levels:
            self.levels[0].region.close()
        for pin, content in self.escaped:
            assert pin == content


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
    run(60, 40)


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_a_million_operations_against_the_model() -> None:
    """The same, for a million operations."""
    steps = 200
    run(int(os.environ.get("SCOPEDBUMP_MODEL_OPERATIONS", "1000000")) // steps, steps)
