# ruff: noqa: N802, N803  # the names are zlib's
"""The system's own libz, called with cffi: deflate and inflate from one buffer into another.

A stream's z_stream lies in memory that the caller gives, like the buffers. libz keeps its own state on its heap.
"""

from __future__ import annotations

import ctypes.util
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self, cast

from ._libz_abi import ffi
from .errors import CommandError

if TYPE_CHECKING:
    from _cffi_backend import CData
    from typing_extensions import Buffer


class LibZ(Protocol):
    def deflateInit2_(
        self,
        strm: ZStream,
        level: int,
        method: int,
        windowBits: int,
        memLevel: int,
        strategy: int,
        version: bytes,
        stream_size: int,
    ) -> int: ...
    def deflate(self, strm: ZStream, flush: int) -> int: ...
    def deflateEnd(self, strm: ZStream) -> int: ...
    def inflateInit2_(self, strm: ZStream, windowBits: int, version: bytes, stream_size: int) -> int: ...
    def inflate(self, strm: ZStream, flush: int) -> int: ...
    def inflateEnd(self, strm: ZStream) -> int: ...


class ZStream(Protocol):
    next_in: CData
    avail_in: int
    next_out: CData
    avail_out: int


# zlib.h
_NO_FLUSH = 0
_FINISH = 4
_OK = 0
_STREAM_END = 1
_BUF_ERROR = -5  # no progress was possible: not an error in a loop like the one below
_DEFLATED = 8
_WINDOW = 15
_MEM_LEVEL = 8
_VERSION = b"1"  # libz compares the first character

STREAM_SIZE = ffi.sizeof("struct z_stream_s")
_NAMES = ("deflateInit2_", "deflate", "deflateEnd", "inflateInit2_", "inflate", "inflateEnd")


class LibzError(CommandError):
    """libz is missing, or said no."""


def load() -> tuple[LibZ, str]:
    """The library and the name that it was found by."""
    tried: list[str] = []
    for name in _candidates():
        try:
            library = ffi.dlopen(name)
        except OSError:
            tried.append(name)
            continue
        try:
            for function in _NAMES:
                getattr(library, function)
        except (AttributeError, ffi.error):
            tried.append(f"{name} (not a whole zlib)")
            continue
        return cast("LibZ", library), name
    hint = "install zlib1.dll where Windows looks for it" if sys.platform == "win32" else "install zlib"
    raise LibzError(f"the system has no libz that can be loaded: {hint}; tried {', '.join(tried)}")


def _candidates() -> Iterator[str]:
    if sys.platform == "win32":
        yield from ("zlib1.dll", "zlib.dll")
        # The zlib that is a part of Windows: .NET Framework's own. 32-bit ones may not call it the C way.
        if sys.maxsize > 1 << 32:
            framework = Path(os.environ.get("SYSTEMROOT", r"C:\Windows"), "Microsoft.NET", "Framework64", "v4.0.30319")
            yield str(framework / "clrcompression.dll")
        return
    if sys.platform == "darwin":
        yield from ("/usr/lib/libz.1.dylib", "libz.1.dylib", "libz.dylib")
    yield from ("libz.so.1", "libz.so")
    found = ctypes.util.find_library("z")  # asks ldconfig, gcc or ld where there are such
    if found is not None:
        yield found


class Stream:
    """A deflater or an inflater. A context manager: libz's own state ends with the block."""

    def __init__(
        self,
        memory: Buffer,
        begin: Callable[[ZStream], int],
        step: Callable[[ZStream, int], int],
        end: Callable[[ZStream], int],
    ) -> None:
        self._stream = cast("ZStream", ffi.from_buffer("struct z_stream_s *", memory))
        self._step = step
        self._end = end
        code = begin(self._stream)
        if code != _OK:
            raise LibzError(f"libz cannot begin a stream: error {code}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end(self._stream)

    def feed(self, data: Buffer, size: int, out: Buffer, last: bool = False) -> Iterator[int]:
        """Take the first `size` bytes of `data`, and yield each time how many bytes are in `out` now."""
        stream = self._stream
        # libz gets bare pointers: these two names keep what they point to while it works.
        source = ffi.from_buffer("unsigned char[]", data)
        target = ffi.from_buffer("unsigned char[]", out, require_writable=True)
        stream.next_in = source
        stream.avail_in = size
        room = len(target)
        while True:
            stream.next_out = target
            stream.avail_out = room
            code = self._step(stream, _FINISH if last else _NO_FLUSH)
            if code not in (_OK, _STREAM_END, _BUF_ERROR):
                raise LibzError(f"libz cannot go on: error {code}")
            yield room - stream.avail_out
            if stream.avail_out:
                return


def deflater(libz: LibZ, memory: Buffer, level: int = 6) -> Stream:
    """A stream that packs. `memory` is STREAM_SIZE zeroed bytes for the z_stream."""

    def begin(stream: ZStream) -> int:
        return libz.deflateInit2_(stream, level, _DEFLATED, _WINDOW, _MEM_LEVEL, 0, _VERSION, STREAM_SIZE)

    return Stream(memory, begin, libz.deflate, libz.deflateEnd)


def inflater(libz: LibZ, memory: Buffer) -> Stream:
    """A stream that unpacks. `memory` as for `deflater`."""

    def begin(stream: ZStream) -> int:
        return libz.inflateInit2_(stream, _WINDOW, _VERSION, STREAM_SIZE)

    return Stream(memory, begin, libz.inflate, libz.inflateEnd)
