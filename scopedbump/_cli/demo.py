"""`python -m scopedbump demo [FILE]`: a region at work, in figures of this machine, in a few seconds."""

from __future__ import annotations

import gc
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from io import FileIO

from .. import DEFAULT_SIZE, OverrunError, RegionPool, __version__, bump_region, debug
from . import process, text

_MIB = 1 << 20
_ROUNDS = 100
_OVERRUN = """\
import ctypes

with bump_region(name="demo", debug=True) as region:
    block = region.alloc(16)
    ctypes.memmove(region.address(block), b"x" * 20, 20)
"""


def run(name: str | None) -> int:
    """Do it all with the file of that name, or with one made for it."""
    with ExitStack() as stack:
        if name is None:
            made = stack.enter_context(tempfile.TemporaryFile(buffering=0))
            made.write(b"some real input " * (_MIB // 16))
            file = FileIO(made.fileno(), closefd=False)
        else:
            file = stack.enter_context(FileIO(name))
        print(f"scopedbump {__version__}")
        _requests(file)
    _memory()
    _lifetimes()
    _overrun()
    return 0


# -- a request of several buffers


def _requests(file: FileIO) -> None:
    def request(body: memoryview, message: memoryview, answer: memoryview) -> None:
        file.seek(0)
        size = file.readinto(body)
        message[16 : 16 + size] = body[:size]  # behind a header
        answer[: len(message)] = message

    def bytearrays() -> None:
        request(memoryview(bytearray(_MIB)), memoryview(bytearray(_MIB + 16)), memoryview(bytearray(_MIB + 16)))

    def region() -> None:
        with pool.region() as a:  # each is written before it is read, so it need not be cleared
            request(a.alloc(_MIB, zero=False), a.alloc(_MIB + 16, zero=False), a.alloc(_MIB + 16, zero=False))

    rows: list[tuple[str, ...]] = [("scratch memory from", "time", "page faults")]
    with RegionPool(debug=False) as pool:  # whatever SCOPEDBUMP_DEBUG says: it is measured
        ways = {"bytearrays": bytearrays, "a region of a pool": region}
        rows += [(name, *_cost(way)) for name, way in ways.items()]
        for mib in (1, 2, 4, 8, 16, 30):  # after which glibc's malloc gives less back to the system
            bytearray(mib << 20)
        rows += [(f"{name}, later", *_cost(way)) for name, way in ways.items()]
    print("\nA request reads 1 MiB of a file and makes its answer in two more buffers (best of many; later: after this")
    print("process has freed blocks of up to 30 MiB, which changes what malloc does):\n")
    print(text.table(rows))


def _cost(work: Callable[[], None]) -> tuple[str, str]:
    """The best time of the work, and its page faults on average."""
    for _ in range(3):
        work()
    best = float("inf")
    before = process.page_faults()
    for _ in range(_ROUNDS):
        start = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - start)
    after = process.page_faults()
    faults = "unknown" if before is None or after is None else f"{(after - before) / _ROUNDS:.0f}"
    return text.duration(best), faults


# -- memory before and after


def _memory() -> None:
    _gone(lambda: False)  # what was before, where nothing counts references
    process.resident()  # what the first question costs is paid before anything is measured
    rows = [("", "reserved", "committed", "resident"), ("before", "0 B", "0 B", text.size(process.resident()))]

    def note(state: str) -> None:
        rows.append((state, text.size(region.size), text.size(region.committed), text.size(process.resident())))

    data = b"x" * _MIB
    with bump_region(debug=False) as region:
        note("a region is open")
        for _ in range(64):
            region.copy(data)
        note("64 MiB are written")
    kept = "0 B" if _gone(lambda: region.released) else "still there"
    rows.append(("the block has ended", kept, kept, text.size(process.resident())))
    print(f"\n{text.size(DEFAULT_SIZE)} of address space, and the RAM that is touched, given back at the end:\n")
    print(text.table(rows))


def _gone(released: Callable[[], bool]) -> bool:
    for _ in range(5):  # without reference counts each collection frees what the last one let go of
        if released():
            break
        gc.collect()
    return released()


# -- what still points in at the end


def _lifetimes() -> None:
    with bump_region() as region:
        view = region.copy(b"scratch")
        part = region.copy(b"kept by a slice")[8:]
    print("\nAfter the block, what still points into it:\n")
    try:
        view[0]
    except ValueError as error:
        print(f"a view    is revoked:         ValueError: {error}")
    print(f"a slice   keeps its memory:   {bytes(part)!r}, released: {region.released}")
    del view, part
    print(f"          until it is gone:   released: {_gone(lambda: region.released)}")


# -- C that writes too far


def _overrun() -> None:
    print(f"\nC is told to write 20 bytes into a block of 16, in a debug region:\n\n{_OVERRUN}")
    try:
        before = debug.on_fault("go_on")
    except NotImplementedError as refusal:
        print(f"That can't be told here, where it is a segmentation fault: {refusal}")
        return
    try:
        exec(compile(_OVERRUN, "demo.py", "exec"), {"__name__": "demo", "bump_region": bump_region})
    except OverrunError as error:
        print(error)
    finally:
        debug.on_fault(before)
