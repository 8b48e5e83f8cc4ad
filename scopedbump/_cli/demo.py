"""`python -m scopedbump demo [FILE]`: a region at work on a real file.

The file goes through scratch buffers of one region, into the system's libz and back out of it; then the same work is
timed as a server would do it: one request with fresh scratch memory each time.
"""

from __future__ import annotations

import gc
import hashlib
import os
import stat
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

import _cffi_backend

from .. import Region, __version__, bump_region
from . import libz, process, text
from .errors import CommandError
from .progress import Progress

_SIZE = 1 << 30
_CHUNK = 1 << 18
_REQUEST = 1 << 20
_LEVEL = 6
_SECONDS = 0.8


def run(name: str | None) -> int:
    """Do it all with the file of that name, or with one that is certainly there."""
    library, found = libz.load()
    path = Path(name) if name is not None else largest_at_hand()
    with _opened(path) as file:
        length = os.fstat(file.fileno()).st_size
        print(f"scopedbump {__version__}: {path} ({text.size(length)}), libz is {found}\n")
        _main_job(file, length, library)
        _requests(file, min(length, _REQUEST), library)
    return 0


def largest_at_hand() -> Path:
    """The largest of what is everywhere: the executable, cffi's own module, the standard library."""
    library = Path(os.__file__).parent
    names = (name for name in (sys.executable, getattr(_cffi_backend, "__file__", "")) if name)
    candidates = [*map(Path, names), *library.glob("*.py"), *library.glob("pydoc_data/*.py")]
    there = [path for path in candidates if path.is_file() and os.access(path, os.R_OK)]
    if not there:
        raise CommandError("no file is at hand here: name one (python -m scopedbump demo FILE)")
    return max(there, key=lambda path: path.stat().st_size)


@contextmanager
def _opened(path: Path) -> Generator[FileIO]:
    try:
        kind = path.stat().st_mode
        if stat.S_ISDIR(kind):
            raise CommandError(f"{path} is a directory: name a file")
        if not stat.S_ISREG(kind):
            raise CommandError(f"{path} is not a regular file: it may have no end")
        file = FileIO(path)
    except (OSError, ValueError) as error:  # a name may hold a NUL
        reason = error.strerror if isinstance(error, OSError) else error
        raise CommandError(f"cannot read {path}: {reason}") from None
    with file:
        if not os.fstat(file.fileno()).st_size:
            raise CommandError(f"{path} is empty: there is nothing to do")
        yield file


# -- the main job


@dataclass
class _Done:
    read: int = 0
    packed: int = 0
    restored: int = 0
    same: bool = False


def _main_job(file: FileIO, length: int, library: libz.LibZ) -> None:
    hashlib.sha256()
    process.resident()  # what these cost is paid before anything is measured
    rows = [("", "reserved", "committed", "resident"), ("before", "0 B", "0 B", text.size(process.resident()))]

    def note(state: str, region: Region) -> None:
        rows.append((state, text.size(region.size), text.size(region.committed), text.size(process.resident())))

    start = time.perf_counter()
    with bump_region(_SIZE, name="demo", debug=False) as region:
        note("region open", region)
        source = region.alloc(_CHUNK)
        address = region.address(source)
        done = _round_trip(file, length, library, region, source)
        note("work done", region)
        peak = region.peak
    refusal = _refusal(source)
    if sys.implementation.name != "cpython":
        del source  # without reference counts a view that is still referred to may be all that keeps the memory
    gone = _gone(region, address)
    seconds = time.perf_counter() - start
    rows.append(("block ended", "0 B" if gone else "still there", "0 B", text.size(process.resident())))
    print(text.table(rows))
    print(
        f"\nread {done.read} bytes into scratch memory, deflated them to {done.packed}, inflated these to "
        f"{done.restored}\nin {text.duration(seconds)}, with {text.size(peak)} of the region used"
    )
    if not done.same:
        raise CommandError("what came back from libz is not what was read: the SHA-256 differ")
    print("the round trip is right: both SHA-256 are the same")
    if not gone:
        raise CommandError(f"the mapping at {address:#x} is still there")
    print(f"the mapping at {address:#x} is gone, and the buffer that was read into says: {refusal}")


def _round_trip(file: FileIO, length: int, library: libz.LibZ, region: Region, source: memoryview) -> _Done:
    packed = region.alloc(_CHUNK)
    restored = region.alloc(_CHUNK)
    before, after = hashlib.sha256(), hashlib.sha256()
    done = _Done()
    progress = Progress()
    with (
        libz.deflater(library, region.alloc(libz.STREAM_SIZE), _LEVEL) as pack,
        libz.inflater(library, region.alloc(libz.STREAM_SIZE)) as unpack,
    ):
        try:
            last = False
            while not last:
                count = file.readinto(source)
                last = not count
                before.update(source[:count])
                done.read += count
                for more in pack.feed(source, count, packed, last):
                    done.packed += more
                    for back in unpack.feed(packed, more, restored):
                        done.restored += back
                        after.update(restored[:back])
                progress.show(f"{text.size(done.read)} of {text.size(length)}: {min(100 * done.read // length, 100)} %")
        finally:
            progress.done()
    done.same = before.digest() == after.digest()
    return done


def _gone(region: Region, address: int) -> bool:
    if not region.released:
        for _ in range(5):  # PyPy has no reference counts: each collection frees what the last one let go of
            gc.collect()
    return region.released and not process.mapped(address)


def _refusal(view: memoryview) -> str:
    try:
        view[0]
    except ValueError as error:
        return f"{type(error).__name__}: {error}"
    raise CommandError("a view of the region is still usable after its end")


# -- the same as a server would do it


def _requests(file: FileIO, size: int, library: libz.LibZ) -> None:
    def read(body: memoryview | bytearray, _packed: memoryview | bytearray, _stream: memoryview | bytearray) -> None:
        file.seek(0)
        file.readinto(body)

    def read_and_pack(
        body: memoryview | bytearray, packed: memoryview | bytearray, stream: memoryview | bytearray
    ) -> None:
        read(body, packed, stream)
        with libz.deflater(library, stream, 1) as pack:
            for _ in pack.feed(body, size, packed, last=True):
                pass

    whole = _timed(size, read_and_pack)
    alone = _timed(size, read)
    rows = [("scratch memory from", "whole request", "without deflate")]
    rows += [(way, text.duration(whole[way]), text.duration(alone[way])) for way in whole]
    print(f"\na request reads {text.size(size)} of the file and deflates it (level 1); time for each, best of many\n")
    print(text.table(rows))


_Work = Callable[["memoryview | bytearray", "memoryview | bytearray", "memoryview | bytearray"], None]


def _timed(size: int, work: _Work) -> dict[str, float]:
    """The best time of each way to get scratch memory for `work`, taken in turn."""

    def fresh() -> None:
        with bump_region(_SIZE, debug=False) as region:
            work(region.alloc(size), region.alloc(size), region.alloc(libz.STREAM_SIZE))

    def reset() -> None:
        # The first two are overwritten before they are read: no need to clear them.
        body = kept.alloc(size, zero=False)
        work(body, kept.alloc(size, zero=False), kept.alloc(libz.STREAM_SIZE))
        del body
        kept.reset()

    def bytearrays() -> None:
        work(bytearray(size), bytearray(size), bytearray(libz.STREAM_SIZE))

    ways = {"a fresh region": fresh, "one region, reset": reset, "bytearrays": bytearrays}
    best = dict.fromkeys(ways, float("inf"))
    with bump_region(_SIZE, debug=False) as kept:
        end = time.perf_counter() + _SECONDS
        rounds = 0
        while rounds < 3 or time.perf_counter() < end:
            rounds += 1
            for name, way in ways.items():
                start = time.perf_counter()
                way()
                best[name] = min(best[name], time.perf_counter() - start)
    return best
