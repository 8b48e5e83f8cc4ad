"""Region.writer: a block that grows, and a file whose consumers see no difference."""

from __future__ import annotations

import asyncio
import csv
import ctypes
import gc
import gzip
import hashlib
import io
import json
import pickle
import shutil
import signal
import socket
import struct
import sys
import tarfile
import threading
import zipfile
import zlib
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import pytest

from helpers.invariants import check
from helpers.stress import at_moment, both_builds, choose_build, in_process, needs_cpython
from helpers.support import FaultyPages, counts_references, run_threads
from scopedbump import (
    CommitError,
    Region,
    RegionBusyError,
    RegionClosedError,
    RegionFullError,
    RegionPool,
    Writer,
    _pages,
    bump_region,
)

MIB = 1 << 20
FOREIGN = b"\xee"
TEXT = "".join(f"line {number} of some text\n" for number in range(3000))


@pytest.fixture
def region() -> Iterator[Region]:
    with bump_region(64 * MIB) as a:
        yield a
        if not a.closed:
            check(a)


# -- a block that grows


def test_what_was_written_is_the_block(region: Region) -> None:
    """finish() gives all of it, from the start, as a writable view in the region, aligned as asked."""
    region.alloc(5)
    writer = region.writer(1000, align=256)
    assert writer.write(b"some ") == 5
    assert writer.write(bytearray(b"text")) == 4
    block = writer.finish()
    assert bytes(block) == b"some text"
    assert region.address(block) % 256 == 0
    block[0] = ord("S")
    assert bytes(writer.finish()) == b"Some text"


def test_what_was_not_filled_goes_back(region: Region) -> None:
    """The cursor goes back behind the block, if nothing lies there, and so does what was committed."""
    writer = region.writer(32 * MIB)
    writer.write(b"x" * 1000)
    assert region.used == 1000
    assert region.available == 32 * MIB
    writer.finish()
    assert (region.used, region.peak) == (1000, 1000)
    assert region.available == 64 * MIB - 1008
    assert region.alloc(8) == bytes(8)
    check(region)


def test_the_default_is_half_of_what_is_left(region: Region) -> None:
    """So that a second one, and blocks, still have room."""
    first, second = region.writer(), region.writer()
    assert region.available == 16 * MIB
    first.write(b"1" * 32 * MIB)
    second.write(b"2" * 16 * MIB)
    for writer in (first, second):
        with pytest.raises(RegionFullError, match="a writer in the region is full"):
            writer.write(b"x")
    assert region.alloc(16 * MIB) == bytes(16 * MIB)
    with pytest.raises(RegionFullError, match="asked for"):
        region.writer()


def test_room_is_no_memory(region: Region) -> None:
    """Promise 2: what a writer did not fill is address space; blocks behind it change nothing in that."""
    writer = region.writer(32 * MIB)
    block = region.alloc(100)
    writer.write(b"x" * 100)
    assert region.committed <= 3 * MIB
    assert region.used == 32 * MIB + 100 - (32 * MIB - 100)
    writer.write(b"y" * 10 * MIB)
    assert region.committed <= 18 * MIB
    assert writer.finish()[:101] == b"x" * 100 + b"y"
    assert block == bytes(100)


def test_it_never_moves(region: Region) -> None:
    """Views that were given before it grew show it still, and do not keep it from growing or shrinking."""
    writer = region.writer()
    writer.write(b"first")
    early = writer.getbuffer()
    writer.write(bytes(20 * MIB))
    early[:] = b"FIRST"
    writer.truncate(2)
    assert bytes(writer.finish()) == b"FI"
    assert bytes(early) == b"FIRST"
    assert region.alloc(100) == bytes(100)
    assert bytes(early) == b"FIRST"


def test_beyond_the_limit_nothing_is_written(region: Region) -> None:
    """Promise 8: the error says what is left, and that much can be written."""
    writer = region.writer(10)
    writer.write(b"12345")
    with pytest.raises(RegionFullError, match="6 bytes were to be written, 5 of its 10 are left") as caught:
        writer.write(b"abcdef")
    assert pickle.loads(pickle.dumps(caught.value)).available == caught.value.available == 5
    assert writer.getvalue() == b"12345"
    writer.write(b"abcde")
    with pytest.raises(RegionFullError):
        writer.get_buffer()
    assert writer.seek(100) == 100
    with pytest.raises(RegionFullError):
        writer.write(b"x")
    assert bytes(writer.finish()) == b"12345abcde"


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"limit": 0}, ValueError),
        ({"limit": -5}, ValueError),
        ({"limit": "5"}, TypeError),
        ({"limit": 1.5}, TypeError),
        ({"align": 3}, ValueError),
        ({"align": 0}, ValueError),
        ({"align": None}, TypeError),
        ({"limit": 65 * MIB}, RegionFullError),
    ],
)
def test_bad_arguments_change_nothing(region: Region, arguments: dict[str, Any], error: type[Exception]) -> None:
    """Each is an error that names it."""
    with pytest.raises(error):
        region.writer(**arguments)
    assert (region.used, region.available) == (0, 64 * MIB)
    with pytest.raises(TypeError, match=r"Region\.writer"):
        Writer()


def test_finishing_again_gives_the_same_block(region: Region) -> None:
    """After finish, close, or the end of its with; reading and writing it is over then."""
    with region.writer() as writer:
        writer.write(b"abc")
    assert writer.closed
    writer.close()
    first, second = writer.finish(), writer.finish()
    first[0] = ord("A")
    assert bytes(second) == b"Abc"
    for use in (
        writer.read,
        writer.tell,
        writer.getbuffer,
        writer.get_buffer,
        writer.__enter__,
        lambda: writer.write(b""),
    ):
        with pytest.raises(ValueError, match="closed file"):
            use()


@counts_references
def test_a_writer_that_is_dropped_is_finished(region: Region) -> None:
    """What it took is there again."""
    region.writer().write(b"abc")
    assert region.used == 3
    assert region.available == 64 * MIB - 16
    assert not region._chunk.reservation.aheads


@counts_references
def test_writers_in_any_order(region: Region) -> None:
    """Side by side, with blocks and scopes behind them; the last one gives back more than the first."""
    one, two = region.writer(MIB), region.writer(MIB)
    one.write(b"1" * 100)
    with region.scope() as scope:
        inner = scope.writer(MIB)
        inner.write(b"3" * 5000)
        two.write(b"2" * 300_000)  # no allocation: its address space is there
        with pytest.raises(RegionBusyError):
            region.writer()
        assert inner.finish() == b"3" * 5000
    assert one.finish() == b"1" * 100
    assert region.available == 62 * MIB
    assert two.finish() == b"2" * 300_000
    assert region.available == 63 * MIB - 300_000
    assert region.alloc(100_000) == bytes(100_000)


def test_a_large_empty_block_is_not_where_nothing_is(region: Region) -> None:
    """An empty block has an address that can be read, also when writers took all there is."""
    writer = region.writer(64 * MIB)
    empty = region.alloc(0)
    ctypes.string_at(region.address(empty), 1)
    with pytest.raises(RegionFullError):
        region.alloc(0, MIB)
    assert bytes(writer.finish()) == b""


# -- zeroed


def used_pool(wipe: bool = False, size: int = 8 * MIB) -> RegionPool:
    """A pool whose next region finds what another one wrote."""
    pool = RegionPool(size, retain=size, wipe=wipe)
    with pool.region() as a:
        a.alloc(size // 4 * 3)[:] = FOREIGN * (size // 4 * 3)
    return pool


@pytest.mark.parametrize("wipe", [False, True])
def test_a_writer_shows_nothing_of_others(wipe: bool) -> None:
    """Promise 6: room, gaps and what is cut off: zero, or its own."""
    pool = used_pool(wipe)
    with pool.region() as a:
        writer = a.writer(6 * MIB)
        room = writer.get_buffer(200_000)  # more than a region clears ahead of its cursor
        assert room == bytes(200_000)
        room[:] = b"r" * 200_000
        writer.buffer_updated(10)
        assert writer.get_buffer(300_000) == b"r" * 199_990 + bytes(100_010)
        writer.seek(4 * MIB)
        writer.write(b"end")
        content = writer.getvalue()
        assert content == b"r" * 10 + bytes(4 * MIB - 10) + b"end"
        writer.truncate(3)
        writer.seek(100)
        writer.write(b"!")
        assert writer.getvalue() == b"rrr" + bytes(97) + b"!"
        writer.finish()
        del room
        rest = a.alloc(a.available)
        assert not any(rest)
    with pool.region() as a:
        assert not any(a.alloc(a.available))


@pytest.mark.parametrize("ended", ["finished", "open", "lost"])
@pytest.mark.parametrize("behind", [False, True])
def test_the_next_lease_sees_nothing_of_a_writer(ended: str, behind: bool) -> None:
    """Promise 6: however it ended, whatever lay behind it, also what was only room."""
    pool = RegionPool(8 * MIB, retain=8 * MIB)
    for _ in range(3):
        with pool.region() as a:
            writer = a.writer(3 * MIB)
            if behind:
                a.alloc(2 * MIB)[:] = FOREIGN * (2 * MIB)
            writer.write(FOREIGN * 100_000)
            writer.get_buffer(50_000)[:] = FOREIGN * 50_000
            writer.seek(1 * MIB)
            writer.write(FOREIGN * 100_000)
            writer.truncate(1000)
            if ended == "finished":
                writer.finish()
            elif ended == "lost":
                del writer
                gc.collect()
        writer = None  # type: ignore[assignment]  # a pool waits for views, and it has one
        gc.collect()
        with pool.region() as b:
            assert not any(b.alloc(b.available))


@counts_references
@pytest.mark.parametrize("finished", [True, False])
def test_a_secret_in_a_writer_is_wiped(finished: bool) -> None:
    """wipe=True: also what was cut off, and what was room."""
    with bump_region(MIB, wipe=True) as outer, outer.scope() as a:
        address = outer.address(a.alloc(0))
        writer = a.writer()
        writer.write(b"secret" * 20_000)  # more than a region clears ahead of its cursor
        writer.get_buffer(6)[:] = b"secret"
        writer.truncate(0)
        if finished:
            writer.finish()
        a.close()
        assert b"secret" not in ctypes.string_at(address, 120_006)


@counts_references
def test_only_what_was_written_counts() -> None:
    """`peak`, the pool and its retain see the content, not the room; idle reservations keep no more than that."""
    pool = RegionPool(64 * MIB)
    for _ in range(3):
        with pool.region() as a:
            writer = a.writer()
            writer.write(b"x" * 100_000)
            assert a.peak == 100_000
            writer.truncate(10)
            assert (a.used, a.peak) == (10, 100_000)
            del writer
        assert a.peak == 100_000
    assert pool.stats().peak == 100_000
    assert pool.stats().committed < MIB
    with pool.region() as a:
        writer = a.writer()
        block = a.alloc(10)
        writer.write(b"x" * 50_000)
        stats = pool.stats()
        assert stats.committed < 3 * MIB
        assert block == bytes(10)
        del writer, block


def test_the_pool_hits_after_writers() -> None:
    """A writer, finished or not, costs no reservation."""
    pool = RegionPool(64 * MIB)
    for number in range(10):
        with pool.region() as a:
            writer = a.writer()
            writer.write(b"x" * 100)
            if number % 2:
                writer.finish()
            del writer
            gc.collect()
    if sys.implementation.name == "cpython":
        assert pool.stats().hits == 9


# -- the end of the region


@pytest.mark.parametrize("how", ["close", "reset", "scope"])
def test_after_the_end_of_its_region(region: Region, how: str) -> None:
    """Every use is a RegionClosedError, which is the ValueError of a closed file; close() is fine."""
    own = region.scope() if how == "scope" else region
    writer = own.writer()
    writer.write(b"content" * 10_000)
    view, room = writer.getbuffer(), writer.get_buffer()
    if how == "reset":
        own.reset()
    else:
        own.close()
    for revoked in (view, room):
        with pytest.raises(ValueError, match="released"):
            len(revoked)
    assert writer.closed
    uses: list[Callable[[], object]] = [
        lambda: writer.write(b"x"), writer.read, writer.getvalue, writer.getbuffer, writer.get_buffer, writer.finish,
        writer.truncate, lambda: writer.seek(0), writer.tell, writer.readline, lambda: next(writer), writer.flush,
        lambda: writer.buffer_updated(1), lambda: writer.readinto(bytearray(1)), lambda: writer.writelines([b"x"]),
    ]  # fmt: skip
    for use in uses:
        with pytest.raises(RegionClosedError):
            use()
    writer.close()
    repr(writer)


@counts_references
def test_what_points_into_a_writer_keeps_the_memory() -> None:
    """Promise 4: a slice of its room or its content is an escape."""
    with bump_region(MIB) as a:
        writer = a.writer()
        writer.write(b"content")
        slices = [writer.getbuffer()[:], writer.get_buffer(100)[:]]
        slices[1][:] = b"r" * 100
    while slices:
        assert not a.released
        assert set(slices.pop().tobytes()) <= {*b"contentr"}
    assert a.released


@counts_references
def test_a_pinned_room_is_not_given_to_others(region: Region) -> None:
    """Promise 4: what may still be written through a slice of the room stays out of use; revoked views do not."""
    writer = region.writer()
    pin = writer.get_buffer(5000)[:]
    pin[:] = b"p" * 5000
    block = writer.finish()
    other = region.alloc(10_000)
    other[:] = b"o" * 10_000
    pin[:] = b"q" * 5000
    assert other == b"o" * 10_000
    assert len(block) == 0


@counts_references
def test_it_keeps_nothing_alive(region: Region) -> None:
    """A region that is dropped with an open writer is lost at once, and no cycle is left."""
    gc.collect()
    gc.disable()
    try:
        a = bump_region(MIB)
        a.writer().get_buffer()
        writer = a.writer()
        with pytest.warns(ResourceWarning, match="lost"):
            del a, writer
            gc.collect()
    finally:
        gc.enable()


@counts_references
def test_refused_memory_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """CommitError at any call: what was written is there, and the writer goes on."""
    for refuse in range(1, 9):
        pages = FaultyPages(refuse)
        monkeypatch.setattr(_pages, "system_pages", pages)
        written = b""
        with bump_region(64 * MIB) as a:
            writer = None
            while len(written) < 4 * MIB:
                try:
                    writer = writer or a.writer()
                    writer.write(b"x" * 700_000)
                    written += b"x" * 700_000
                    a.alloc(100)
                except CommitError:
                    assert writer is None or writer.getvalue() == written
                check(a)
            assert writer is not None
            assert writer.finish() == written
            del writer
            check(a)


# -- hostile use


@both_builds
def test_two_threads_and_one_writer(build: str) -> None:
    """Promise 9: what two threads write to one writer gets nowhere else, also when a third finishes it."""
    in_process(__file__, "hammer", build)


def hammer(build: str) -> None:
    choose_build(build)
    for round_ in range(15):
        with bump_region(64 * MIB) as a:
            before = a.alloc(1000)
            writer = a.writer(8 * MIB)
            behind: list[memoryview] = []
            pieces = [b"1" * 64, b"2" * 5000, bytearray(b"3" * 70_000)]

            def write(piece: Any, writer: Writer = writer) -> None:
                try:
                    for number in count():
                        writer.write(piece)
                        if number % 7 == 0:
                            writer.truncate(1000)
                        if number % 5 == 0:
                            writer.get_buffer(3000)[:] = b"4" * 3000
                            writer.seek(0, 2)
                except (ValueError, RegionFullError):
                    return

            def finish(
                a: Region = a, writer: Writer = writer, behind: list[memoryview] = behind, last: int = round_
            ) -> None:
                for _ in range(last):
                    writer.tell()
                writer.finish()
                for _ in range(300):
                    behind.append(a.alloc(1000))
                    assert behind[-1] == bytes(1000)
                    behind[-1][:] = b"b" * 1000

            run_threads(*(lambda piece=piece: write(piece) for piece in pieces), finish)
            assert before == bytes(1000)
            assert all(view == b"b" * 1000 for view in behind)
            assert set(writer.finish().tobytes()) <= {*b"\x001234"}
            check(a)


@needs_cpython
@pytest.mark.parametrize("raises", [False, True])
@pytest.mark.parametrize("step", [5, pytest.param(1, marks=pytest.mark.long)])
def test_a_handler_at_every_moment(step: int, raises: bool) -> None:
    """Promise 9: writing, finishing, allocating or closing in a handler, or an exception from it, in any operation."""
    in_process(__file__, "every_moment", raises, step, timeout=250)


SMALL = 1 << 18


class InterruptError(Exception):
    """What a handler raises."""


def every_moment(raises: bool, step: int) -> None:
    def one(number: int, act: str, program: str) -> bool:
        pool = used_pool(size=SMALL)
        with pool.region() as a:
            writer = a.writer(SMALL // 2)
            writer.write(b"before")
            other = a.writer(SMALL // 8) if number % 2 else None

            def action() -> None:
                if act == "write":
                    writer.write(b"handler")
                elif act == "finish":
                    writer.finish()
                elif act == "alloc":
                    view = a.alloc(100)
                    assert view == bytes(100)
                    view[:] = b"a" * 100
                elif act == "close":
                    a.close()
                if raises:
                    raise InterruptError

            def body() -> None:
                if program == "write":
                    writer.write(b"1" * 64)
                    writer.write(bytearray(70_000))
                elif program == "room":
                    writer.get_buffer(100)[:50] = b"2" * 50
                    writer.buffer_updated(50)
                elif program == "gap":
                    writer.seek(50_000)
                    writer.write(b"3")
                    writer.truncate(20_000)
                else:
                    writer.finish()

            try:
                moment = at_moment(number, action, body)
            except ValueError as error:
                raise AssertionError(program, number) from error
            assert moment.error in (None, InterruptError, ValueError, RegionClosedError), (moment.error, moment.place)
            if not a.closed:
                check(a)
                try:
                    content = bytes(writer.finish())
                except RegionClosedError:
                    content = b""
                assert set(content) <= {*b"\x00beforehandler123"}, (program, act, moment.place, set(content))
                assert a.alloc(60_000) == bytes(60_000), (program, act, moment.place)
                check(a)
            del writer, other
        with pool.region() as b:
            assert not any(b.alloc(b.available))
        return moment.happened

    for program in ("write", "room", "gap", "finish"):
        for act in ("write", "finish", "alloc", "close", "nothing"):
            assert one(0, act, program)
            for number in count(1, step):
                if not one(number, act, program):
                    break


@needs_cpython
def test_a_real_signal_loses_nothing() -> None:
    """What comes in between by a real handler is written before or behind, and all of it."""
    if not hasattr(signal, "setitimer"):
        pytest.skip("there are no interval timers here")
    in_process(__file__, "signals")


def signals() -> None:
    with bump_region(256 * MIB) as a:
        writer = a.writer()
        hits = 0

        def handler(*_: object) -> None:
            nonlocal hits
            hits += 1
            writer.write(b"H" * 10)

        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
        for _ in range(30_000):
            writer.write(b"main")
        for _ in range(1000):
            writer.write(bytearray(b"MAIN"))
        signal.setitimer(signal.ITIMER_REAL, 0)
        content = bytes(writer.finish())
        assert hits > 3
        assert content.count(b"H") == 10 * hits
        assert len(content) == 4 * 31_000 + 10 * hits


def test_views_of_it_while_it_grows(region: Region) -> None:
    """A view that another object holds shows what comes, and does not hinder: BytesIO refuses here."""
    writer = region.writer()
    writer.write(b"x" * 10)
    with memoryview(writer.getbuffer()) as held:
        for _ in range(100):
            writer.write(b"y" * 10_000)
        writer.truncate(5)
        block = writer.finish()
        region.alloc(MIB)[:] = b"z" * MIB
        assert held == b"x" * 10
    assert bytes(block) == b"xxxxx"


def test_it_writes_itself(region: Region) -> None:
    """A view of its own content, and of its own room, are data as any other."""
    writer = region.writer()
    writer.write(b"abc")
    writer.write(writer.getbuffer())
    writer.seek(1)
    writer.write(writer.getbuffer()[:5])
    assert writer.getvalue() == b"aabcab"


@pytest.mark.parametrize("data", ["text", 5, None, memoryview(b"abcdef")[::2], [b"x"]])
def test_what_has_no_bytes_is_refused_as_bytesio_does(region: Region, data: Any) -> None:
    """The same error."""
    with pytest.raises((TypeError, BufferError)) as theirs:
        io.BytesIO().write(data)
    with pytest.raises(theirs.type):
        region.writer(MIB).write(data)


def test_any_buffer_is_data(region: Region) -> None:
    """Whatever format and shape, as BytesIO."""
    ours, theirs = region.writer(), io.BytesIO()
    array = (ctypes.c_int32.__ctype_be__ * 3)(1, 2, 3)
    data: list[Any] = [array, memoryview(bytes(12)).cast("i", [3, 1]), memoryview(b"").cast("B"), (ctypes.c_int * 0)()]
    for piece in data:
        assert ours.write(piece) == theirs.write(piece)
    assert ours.getvalue() == theirs.getvalue()


def test_it_can_not_be_pickled_or_copied(region: Region) -> None:
    """Its memory is in this process, once."""
    with pytest.raises(TypeError, match="copied or pickled"):
        pickle.dumps(region.writer(100))


def test_a_room_counts_for_what_lies_behind_the_content(region: Region) -> None:
    """buffer_updated after something else was written, or with more than there was, is an error."""
    writer = region.writer()
    writer.get_buffer(10)
    writer.buffer_updated(3)
    writer.buffer_updated(7)
    for wrong in (1, -1, 1 << 70):
        with pytest.raises(ValueError, match="nbytes"):
            writer.buffer_updated(wrong)
    with pytest.raises(TypeError):
        writer.buffer_updated("1")  # type: ignore[arg-type]  # what is tested
    assert len(writer.finish()) == 10


# -- real consumers


def text_file(file: Any) -> io.TextIOWrapper:
    return io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)


def use_copyfileobj(file: Any) -> object:
    shutil.copyfileobj(io.BytesIO(TEXT.encode() * 20), file)
    file.seek(0)
    out = io.BytesIO()
    shutil.copyfileobj(file, out)
    return out.getvalue()


def use_zipfile(file: Any) -> object:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(zipfile.ZipInfo("one"), TEXT)
        archive.writestr(zipfile.ZipInfo("two"), b"2" * 100_000)
    with zipfile.ZipFile(file) as archive:
        assert archive.testzip() is None
        return archive.read("one")


def use_tarfile(file: Any) -> object:
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        info = tarfile.TarInfo("one")
        info.size = len(TEXT)
        archive.addfile(info, io.BytesIO(TEXT.encode()))
    file.seek(0)
    with tarfile.open(fileobj=file) as archive:
        member = archive.extractfile("one")
        assert member is not None
        found = member.read()
    file.seek(0)
    file.truncate()
    return found


def use_gzip(file: Any) -> object:
    with gzip.GzipFile(fileobj=file, mode="wb", mtime=0) as packed:
        packed.write(TEXT.encode())
    file.seek(0)
    with gzip.GzipFile(fileobj=file) as packed:
        return packed.readlines()


def use_csv_and_json(file: Any) -> object:
    text = text_file(file)
    csv.writer(text).writerows([[number, "a, b", None] for number in range(500)])
    text.seek(0)
    rows = list(csv.DictReader(text))
    json.dump(rows, text)
    text.detach()
    return rows


def use_pickle(file: Any) -> object:
    pickle.dump({"a": [TEXT, bytes(200_000)]}, file, protocol=5)
    file.seek(0)
    return pickle.load(file)


def use_struct(file: Any) -> object:
    for number in range(1000):
        file.write(struct.pack("<Id", number, number / 7))
    return list(struct.iter_unpack("<Id", file.getbuffer()))


def use_numpy(file: Any) -> object:
    numpy = pytest.importorskip("numpy")
    numpy.save(file, numpy.arange(100_000.0))
    file.seek(0)
    return numpy.load(file).tolist()


def use_pillow(file: Any) -> object:
    image = pytest.importorskip("PIL.Image")
    image.new("RGB", (200, 100), (1, 2, 3)).save(file, "PNG")
    file.seek(0)
    return image.open(file).tobytes()


def use_pyarrow(file: Any) -> object:
    arrow = pytest.importorskip("pyarrow")
    table = arrow.table({"a": [1, 2, 3]})
    with arrow.ipc.new_stream(file, table.schema) as stream:
        stream.write_table(table)
    file.seek(0)
    return arrow.ipc.open_stream(file).read_all().to_pydict()


def use_buffered_reader(file: Any) -> object:
    file.write(TEXT.encode())
    file.seek(0)
    reader = io.BufferedReader(file)
    lines = reader.readlines()
    reader.detach()
    return lines


def use_lines(file: Any) -> object:
    file.writelines([b"one\n", b"two", b"\nthree"])
    file.seek(0)
    return [*file], file.readlines(), file.readline()


CONSUMERS = [function for name, function in sorted(globals().items()) if name.startswith("use_")]


@pytest.mark.parametrize("use", CONSUMERS, ids=lambda use: use.__name__[4:])
def test_a_real_consumer_sees_no_difference(region: Region, use: Callable[[Any], object]) -> None:
    """What it reads back, and what it wrote, are as with BytesIO."""
    ours, theirs = region.writer(), io.BytesIO()
    region.alloc(100)
    assert use(ours) == use(theirs)
    if use is not use_tarfile:  # its gzip holds the time
        assert ours.finish() == theirs.getvalue()


def test_what_is_received_goes_straight_in(region: Region) -> None:
    """socket.recv_into, and readinto of a file."""
    data = hashlib.sha256(b"seed").digest() * 3000
    writer = region.writer()
    left, right = socket.socketpair()
    with left, right:

        def send() -> None:
            left.sendall(data)
            left.close()

        sender = threading.Thread(target=send)
        sender.start()
        while received := right.recv_into(writer.get_buffer()):
            writer.buffer_updated(received)
        sender.join()
    with io.BytesIO(data) as file:
        while received := file.readinto(writer.get_buffer(1000)):
            writer.buffer_updated(received)
    assert writer.finish() == data * 2


def test_a_decompressor_of_unknown_output(region: Region) -> None:
    """A loop of zlib.decompressobj, and libz itself filling the room."""
    data = TEXT.encode() * 50
    packed = zlib.compress(data)
    writer = region.writer()
    stream = zlib.decompressobj()
    rest = packed
    while rest:
        writer.write(stream.decompress(rest, 10_000))
        rest = stream.unconsumed_tail
    writer.write(stream.flush())
    assert writer.finish() == data


LIBZ = """
typedef struct { const unsigned char *next_in; unsigned int avail_in; unsigned long total_in; unsigned char *next_out;
    unsigned int avail_out; unsigned long total_out; const char *msg; void *state; void *zalloc; void *zfree;
    void *opaque; int data_type; unsigned long adler; unsigned long reserved; } z_stream;
int inflateInit_(z_stream *s, const char *version, int size); int inflate(z_stream *s, int flush);
int inflateEnd(z_stream *s); const char *zlibVersion(void);
"""


def test_libz_through_cffi_fills_the_room(region: Region) -> None:
    """A C library writes behind the content, where the block will be: without a copy."""
    cffi = pytest.importorskip("cffi")
    pytest.importorskip("pycparser")
    ffi = cffi.FFI()
    ffi.cdef(LIBZ)
    try:
        libz = ffi.dlopen("libz.so.1")
    except OSError:
        pytest.skip("there is no libz.so.1")
    data = TEXT.encode() * 50
    packed = zlib.compress(data)
    stream, source = ffi.new("z_stream *"), ffi.from_buffer(packed)
    stream.next_in, stream.avail_in = ffi.cast("unsigned char *", source), len(packed)
    assert libz.inflateInit_(stream, libz.zlibVersion(), ffi.sizeof("z_stream")) == 0
    writer = region.writer()
    status = 0
    while status == 0:
        room = writer.get_buffer(10_000)
        target = ffi.from_buffer("unsigned char[]", room, require_writable=True)
        stream.next_out, stream.avail_out = target, len(room)
        status = libz.inflate(stream, 0)
        writer.buffer_updated(len(room) - stream.avail_out)
        del target, room
    libz.inflateEnd(stream)
    assert status == 1
    assert writer.finish() == data


def test_a_buffered_protocol(region: Region) -> None:
    """asyncio reads a stream into it: `get_buffer` and `buffer_updated` are the protocol's own."""
    data = hashlib.sha256(b"seed").digest() * 30_000

    class Upload(asyncio.BufferedProtocol):
        def __init__(self) -> None:
            self.writer = region.writer()
            self.over = asyncio.get_running_loop().create_future()

        def get_buffer(self, sizehint: int) -> memoryview:
            return self.writer.get_buffer(sizehint)

        def buffer_updated(self, nbytes: int) -> None:
            self.writer.buffer_updated(nbytes)

        def connection_lost(self, exc: Exception | None) -> None:
            self.over.set_result(self.writer.finish())

    async def main() -> memoryview:
        made: list[Upload] = []

        def make() -> Upload:
            made.append(Upload())
            return made[-1]

        server = await asyncio.get_running_loop().create_server(make, "127.0.0.1", 0)
        _, sender = await asyncio.open_connection(*server.sockets[0].getsockname()[:2])
        sender.write(data)
        await sender.drain()
        sender.close()
        await sender.wait_closed()
        block: memoryview = await made[0].over
        server.close()
        return block

    assert asyncio.run(main()) == data


def test_an_upload_of_unknown_length() -> None:
    """Starlette: the body's pieces are written as they come, and the answer is sent from the block."""
    pytest.importorskip("starlette")
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import StreamingResponse
    from starlette.routing import Route

    from scopedbump.asgi import ScratchMiddleware

    pool = RegionPool(64 * MIB)

    async def echo(request: Request) -> StreamingResponse:
        writer = request.state.scratch.writer()
        async for piece in request.stream():
            writer.write(piece)
        return StreamingResponse(iter([writer.finish()]))

    app: Any = ScratchMiddleware(Starlette(routes=[Route("/", echo, methods=["POST"])]), pool)
    pieces = [b"%d" % number * 1000 for number in range(100)]

    async def main() -> bytes:
        left = iter([*pieces, b""])
        sent: list[bytes] = []

        async def receive() -> dict[str, Any]:
            piece = next(left)
            return {"type": "http.request", "body": piece, "more_body": bool(piece)}

        async def send(message: dict[str, Any]) -> None:
            sent.append(bytes(message.get("body", b"")))

        scope = {"type": "http", "method": "POST", "path": "/", "headers": [], "query_string": b"", "root_path": ""}
        await app({**scope, "asgi": {"version": "3.0", "spec_version": "2.4"}}, receive, send)
        return b"".join(sent)

    for _ in range(3):
        assert asyncio.run(main()) == b"".join(pieces)
    pool.close()
