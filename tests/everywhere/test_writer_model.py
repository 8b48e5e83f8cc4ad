"""Writers against io.BytesIO: the same content, results and errors, whatever else the region is used for meanwhile."""

from __future__ import annotations

import io
import os
import sys
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
from helpers.support import counts_references
from scopedbump import Region, RegionBusyError, RegionClosedError, RegionFullError, RegionPool, Writer, bump_region

COUNTED = sys.implementation.name == "cpython"
SIZE = 1 << 20
sizes = st.one_of(st.integers(-2, 300), st.sampled_from([4096, 33_000, 70_000]))
positions = st.one_of(st.integers(-5, 300), st.sampled_from([4095, 30_000, 140_000, 1 << 63, -(1 << 63)]))
limits = st.one_of(st.none(), st.integers(1, 200), st.sampled_from([4096, 70_000, 200_000]))
pieces = st.one_of(
    st.binary(max_size=300),
    st.sampled_from([b"", bytes(5000), b"x" * 33_000, b"line\nline\n\nrest" * 300, b"y" * 140_000]),
)


def outcome(function: Callable[..., object], *arguments: object) -> object:
    """What a call gives, or the class of its error."""
    try:
        result = function(*arguments)
    except (TypeError, ValueError, OverflowError, BufferError, RegionFullError) as error:
        return type(error)
    return bytes(result) if isinstance(result, memoryview) else result


@dataclass
class File:
    """A writer, what it must be like, and the views that it gave."""

    writer: Writer
    model: io.BytesIO
    limit: int
    room: memoryview | None = None
    pins: list[memoryview] = field(default_factory=list)
    kept: list[tuple[memoryview, bytes]] = field(default_factory=list)
    shown: int = 0
    own: set[int] = field(default_factory=lambda: {0})
    finished: bytes | None = None

    def end(self) -> None:
        """It is finished: what is pinned now stays as it is."""
        self.finished = self.model.getvalue()
        self.model.close()
        self.kept = [(pin, bytes(pin)) for pin in self.pins]
        self.pins.clear()
        self.room = None

    def agree(self, name: str, *arguments: Any) -> None:
        ours = outcome(getattr(self.writer, name), *arguments)
        theirs = outcome(getattr(self.model, name), *arguments)
        if self.finished is not None and theirs in (
            TypeError,
            OverflowError,
        ):  # which it looks at first is nobody's business
            theirs = ValueError if ours is ValueError else theirs
        assert ours == theirs, name


@dataclass
class Level:
    """A region with its blocks and files."""

    region: Region
    files: list[File] = field(default_factory=list)
    blocks: list[tuple[memoryview, bytes]] = field(default_factory=list)


class Machine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.pool = RegionPool(SIZE, max_idle=2)
        self.levels: list[Level] = []
        self.escaped: list[tuple[memoryview, bytes]] = []
        self.seed = 0

    @initialize(pooled=st.booleans())
    def open(self, pooled: bool) -> None:
        self.levels = [Level(self.pool.region() if pooled else bump_region(SIZE))]

    @property
    def top(self) -> Level:
        return self.levels[-1]

    def file(self, data: st.DataObject) -> File | None:
        """One of the writers that there are, of outer regions too."""
        files = [file for level in self.levels for file in level.files]
        return files[data.draw(st.integers(0, len(files) - 1), label="file")] if files else None

    @rule(limit=limits, align=st.sampled_from([1, 16, 4096]))
    def make(self, limit: int | None, align: int) -> None:
        region = self.top.region
        used, available = region.used, region.available
        try:
            writer = region.writer(limit, align=align)
        except RegionFullError as error:
            assert (limit or 1) > error.available
            assert region.used == used
            return
        assert region.available <= available
        if limit is None:
            # The rounding may be other than that of `available`.
            assert available - region.available >= available // 2 - align - 16
        self.top.files.append(File(writer, io.BytesIO(), writer._ahead.size))
        assert writer._ahead.size == limit or limit is None

    @rule(data=st.data(), piece=pieces, wrap=st.sampled_from([bytes, bytearray, memoryview]))
    def write(self, data: st.DataObject, piece: bytes, wrap: Callable[[bytes], Any]) -> None:
        file = self.file(data)
        if file is None:
            return
        if file.finished is None and piece and file.model.tell() + len(piece) > file.limit:
            before = file.model.getvalue()
            try:
                file.writer.write(wrap(piece))
            except RegionFullError as error:
                assert error.requested == len(piece)
                assert error.available == max(file.limit - file.model.tell(), 0)
                assert file.writer.getvalue() == before
                return
            raise AssertionError("it is beyond the limit")
        file.own |= set(piece)
        file.agree("write", wrap(piece))

    @rule(data=st.data(), what=st.sampled_from(["read", "read1", "readline", "readlines"]), size=sizes)
    def read(self, data: st.DataObject, what: str, size: int) -> None:
        file = self.file(data)
        if file is not None:
            file.agree(what, size)

    @rule(data=st.data(), size=st.integers(0, 5000))
    def readinto(self, data: st.DataObject, size: int) -> None:
        file = self.file(data)
        if file is not None:
            ours, theirs = bytearray(b"?" * size), bytearray(b"?" * size)
            assert outcome(file.writer.readinto, ours) == outcome(file.model.readinto, theirs)
            assert ours == theirs

    @rule(data=st.data(), offset=positions, whence=st.sampled_from([0, 0, 1, 2, 3]))
    def seek(self, data: st.DataObject, offset: int, whence: int) -> None:
        file = self.file(data)
        if file is not None:
            file.agree("seek", offset, whence)

    @rule(data=st.data(), size=st.one_of(st.none(), sizes))
    def truncate(self, data: st.DataObject, size: int | None) -> None:
        file = self.file(data)
        if file is not None:
            file.agree("truncate", size)

    @rule(
        data=st.data(),
        call=st.sampled_from(
            [
                *[("write", "text"), ("write", 7), ("read", 1.5), ("seek", 1.5), ("seek", None), ("truncate", "3")],
                *[("readinto", b"read-only"), ("readline", "x"), ("seek", 0, "0"), ("tell",), ("isatty",), ("flush",)],
                *[("readable",), ("writable",), ("seekable",), ("fileno",), ("detach",), ("writelines", [b"a", b"b"])],
            ]
        ),
    )
    def odd_calls(self, data: st.DataObject, call: tuple[Any, ...]) -> None:
        file = self.file(data)
        if file is None or (
            call[0] == "writelines" and (file.finished is not None or file.model.tell() > file.limit - 2)
        ):
            return
        if call[0] == "writelines":
            file.own |= {*b"ab"}
        file.agree(*call)

    @rule(data=st.data(), sizehint=st.sampled_from([-1, 0, 1, 100, 5000, 100_000]), fill=st.integers(0, 5000))
    def get_buffer(self, data: st.DataObject, sizehint: int, fill: int) -> None:
        """Room is zero or the writer's own, and what was filled of it is content."""
        file = self.file(data)
        if file is None or file.finished is not None:
            return
        end = len(file.model.getbuffer())
        if end == file.limit:
            assert outcome(file.writer.get_buffer, sizehint) is RegionFullError
            return
        room = file.writer.get_buffer(sizehint)
        assert len(room) == min(sizehint, file.limit - end) or (sizehint <= 0 and len(room) > 0)
        assert set(bytes(room)) <= file.own
        fill = min(fill, len(room))
        self.seed += 1
        piece = bytes([self.seed % 255 + 1]) * fill
        room[:fill] = piece
        file.own |= set(piece)
        assert outcome(file.writer.buffer_updated, len(room) + 1) is ValueError
        file.writer.buffer_updated(fill)
        if fill:
            file.model.seek(0, 2)
            file.model.write(piece)
        file.room = room if data.draw(st.booleans(), label="keep the room") else None
        if data.draw(st.booleans(), label="pin it"):
            file.pins.append(room[fill:])

    @rule(data=st.data())
    def getbuffer(self, data: st.DataObject) -> None:
        file = self.file(data)
        if file is not None:
            file.agree("getbuffer")
            if file.finished is None:
                file.shown = max(file.shown, len(file.model.getvalue()))

    @rule(data=st.data(), close=st.sampled_from(["finish", "close", "with"]))
    def finish(self, data: st.DataObject, close: str) -> None:
        file = self.file(data)
        if file is None or file.finished is not None:
            return
        content, room = file.model.getvalue(), file.room
        used, position = self.top.region.used, file.writer._ahead.stop
        last = file in self.top.files and self.top.region._chunk.cursor == position
        if close == "finish":
            assert file.writer.finish() == content
        elif close == "with":
            with file.writer:
                pass
        else:
            file.writer.close()
        gone = not file.pins
        file.end()
        assert file.writer.closed
        if room is not None:
            assert outcome(len, room) is ValueError
        assert self.top.region.used == used
        if last and gone and file.shown <= len(content) and COUNTED:  # all that it did not fill is there again
            assert self.top.region._chunk.cursor == position - file.limit + len(content)

    @rule(data=st.binary(min_size=1, max_size=5000))
    def alloc(self, data: bytes) -> None:
        region = self.top.region
        try:
            view = region.alloc(len(data))
        except RegionFullError as error:
            assert len(data) > error.available
            return
        assert not any(view)
        view[:] = data
        self.top.blocks.append((view, data))

    @rule(data=st.binary(min_size=1, max_size=3))
    def alloc_large(self, data: bytes) -> None:
        self.alloc(data * 20_000)

    @precondition(lambda self: len(self.levels) < 5)
    @rule()
    def open_scope(self) -> None:
        parent = self.top.region
        self.levels.append(Level(parent.scope()))
        try:
            parent.writer(1)
        except RegionBusyError:
            return
        raise AssertionError("the parent allocates")

    @precondition(lambda self: len(self.levels) > 1)
    @rule(pinned=st.booleans())
    def close_scope(self, pinned: bool) -> None:
        level, outer = self.top, self.levels[-2]
        used = outer.region.used
        self.escape(level, pinned)
        escapes = bool(self.escaped)
        level.region.close()
        self.levels.pop()
        self.end(level)
        assert escapes or outer.region.used == used

    def escape(self, level: Level, pinned: bool) -> None:
        """Slices of blocks, and of files, that stay."""
        for file in level.files:
            if file.finished is None and pinned:
                block = file.writer.finish()
                file.end()
                self.escaped.append((block[:], bytes(block)))
            self.escaped += file.kept
            self.escaped += [(pin, bytes(pin)) for pin in file.pins]
        if pinned:
            self.escaped += [(view[:], content) for view, content in level.blocks]

    def end(self, level: Level) -> None:
        for file in level.files:
            for call in (
                "getvalue",
                "tell",
                "finish",
                "get_buffer",
                "read",
                "readline",
                "flush",
                "truncate",
                "__iter__",
            ):
                assert outcome(getattr(file.writer, call)) is RegionClosedError
            assert outcome(file.writer.write, b"late") is RegionClosedError
            assert file.writer.closed
            file.writer.close()
        for view, _ in level.blocks:
            assert outcome(len, view) is ValueError

    @rule(pinned=st.booleans())
    def reset(self, pinned: bool) -> None:
        level = self.top
        self.escape(level, pinned)
        level.region.reset()
        self.end(level)
        self.levels[-1] = Level(level.region)

    @rule(pooled=st.booleans(), pinned=st.booleans())
    def start_again(self, pooled: bool, pinned: bool) -> None:
        for level in self.levels:
            self.escape(level, pinned)
        self.levels[0].region.close()
        for level in self.levels:
            self.end(level)
        self.open(pooled)

    @precondition(lambda self: self.escaped)
    @rule()
    def drop_escapes(self) -> None:
        self.escaped.clear()

    @invariant()
    def everything_is_as_the_model_says(self) -> None:
        for level in self.levels:
            for file in level.files:
                if file.finished is None:
                    assert file.writer.getvalue() == file.model.getvalue()
                    assert file.writer.tell() == file.model.tell()
                else:
                    assert file.writer.finish() == file.finished
                for pin, found in file.kept:
                    assert pin == found
            for view, content in level.blocks:
                assert view == content
            assert level.region.used <= level.region.peak <= level.region.size
        for view, content in self.escaped:
            assert view == content
        if self.levels:
            check(self.levels[0].region)

    def teardown(self) -> None:
        if self.levels:
            self.levels[0].region.close()
        self.pool.close()


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


@counts_references
def test_programs_with_writers_against_bytesio() -> None:
    """Random programs of all that files and regions do behave as BytesIO does, with every invariant after each step."""
    run(40, 40)


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_many_programs_with_writers() -> None:
    """The same, for an eighth of a million operations, or as many as the environment says."""
    steps = 200
    run(int(os.environ.get("SCOPEDBUMP_MODEL_OPERATIONS", "125000")) // steps, steps)
