"""Calls into system libraries, with every argument in a region.

Run it: `python examples/ffi_calls.py`. It calls `writev` and `readv` with an iovec array, `getaddrinfo` with hints and
a linked list of results, and `qsort` with a callback through ctypes; and zlib and SQLite through cffi. Where a library
is not there, it says so and goes on. Nothing is kept alive by hand, nothing is freed: the block does both.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import os
import socket
import struct
import sys
import zlib
from collections.abc import Callable
from ctypes import CFUNCTYPE, POINTER, Structure, c_char_p, c_int, c_size_t, c_void_p
from typing import Any

from scopedbump import Region, bump_region


def c_library() -> ctypes.CDLL:
    """The C library of this system."""
    return ctypes.CDLL("ucrtbase" if sys.platform == "win32" else None, use_errno=True)


# -- ctypes


class IoVec(Structure):
    """`struct iovec`."""

    _fields_ = [("iov_base", c_void_p), ("iov_len", c_size_t)]


def gather_and_scatter(a: Region) -> None:
    """`writev` three strings into a pipe in one call, `readv` them out into blocks of other sizes."""
    if sys.platform == "win32":
        print("writev: not on Windows")
        return
    libc = c_library()
    for name in ("readv", "writev"):
        function = getattr(libc, name)
        function.argtypes, function.restype = [c_int, POINTER(IoVec), c_int], ctypes.c_ssize_t
    read_end, write_end = os.pipe()
    try:
        c = a.ctypes
        texts = [c.string(text) for text in ("gathered ", "from three ", "places")]
        written = libc.writev(write_end, c.array(IoVec, [(text, len(text) - 1) for text in texts]), len(texts))
        blocks = [a.alloc(size) for size in (8, 8, 64)]
        parts = c.array(IoVec, [(c.pointer(block), len(block)) for block in blocks])
        got = libc.readv(read_end, parts, len(blocks))
        assert written == got == 26
        print("readv:", b"".join(blocks)[:got].decode())
    finally:
        os.close(read_end)
        os.close(write_end)


class AddrInfo(Structure):
    """`struct addrinfo`: its order differs between systems."""


_LAST: list[Any] = [("ai_addr", c_void_p), ("ai_canonname", c_char_p)]
AddrInfo._fields_ = [
    ("ai_flags", c_int),
    ("ai_family", c_int),
    ("ai_socktype", c_int),
    ("ai_protocol", c_int),
    ("ai_addrlen", c_size_t if sys.platform == "win32" else ctypes.c_uint32),
    *(_LAST if sys.platform.startswith("linux") else reversed(_LAST)),
    ("ai_next", POINTER(AddrInfo)),
]


def look_up(a: Region) -> None:
    """`getaddrinfo` with hints: both strings, the hints and the place for the result are in the region."""
    c = a.ctypes
    if sys.platform == "win32":
        library: ctypes.CDLL = ctypes.WinDLL("ws2_32")
    else:
        library = c_library()
    result = c.new(POINTER(AddrInfo))
    hints = c.new(AddrInfo, ai_flags=socket.AI_NUMERICHOST, ai_family=socket.AF_INET, ai_socktype=socket.SOCK_STREAM)
    with socket.socket():  # starts Windows' sockets
        error = library.getaddrinfo(c.string("127.0.0.1"), c.string("80"), ctypes.byref(hints), ctypes.byref(result))
    assert error == 0, error
    each, found = result, list[str]()
    while each:
        info = each.contents
        address = ctypes.string_at(info.ai_addr, info.ai_addrlen)
        (port,) = struct.unpack_from("!H", address, 2)
        found.append(f"{socket.inet_ntoa(address[4:8])}:{port}")
        each = info.ai_next
    library.freeaddrinfo.argtypes = [POINTER(AddrInfo)]  # the list is the library's own
    library.freeaddrinfo(result)
    assert found == ["127.0.0.1:80"], found
    print("getaddrinfo:", *found)


class Reading(Structure):
    """A record to sort."""

    sensor: int
    value: float
    _fields_ = [("sensor", c_int), ("value", ctypes.c_double)]


def sort(a: Region) -> None:
    """`qsort` records in place, compared by a Python function."""
    compare_type = CFUNCTYPE(c_int, POINTER(Reading), POINTER(Reading))

    def compare(left: Any, right: Any) -> int:
        return int(left[0].value > right[0].value) - int(left[0].value < right[0].value)

    c = a.ctypes
    readings = c.array(Reading, ((number, number * 7 % 10) for number in range(10)))
    qsort = c_library().qsort
    qsort.argtypes, qsort.restype = [c_void_p, c_size_t, c_size_t, c_void_p], None
    qsort(readings, len(readings), ctypes.sizeof(Reading), c.new(compare_type, compare))
    assert [reading.value for reading in readings] == list(range(10))
    print("qsort: sensors by value", [reading.sensor for reading in readings])


# -- cffi


def compress(a: Region, ffi: Any) -> None:
    """zlib's own `compress` and `uncompress`: buffers, and the lengths that are passed by reference."""
    name = ctypes.util.find_library("z")
    if name is None:
        print("zlib: there is no shared library of it")
        return
    libz = ffi.dlopen(name)
    c = a.cffi(ffi)
    text = a.copy(b"scratch memory " * 1000)
    packed = a.alloc(libz.compressBound(len(text)))
    length = c.new("unsigned long *", len(packed))
    source = c.pointer(text, "unsigned char *")
    assert libz.compress(c.pointer(packed, "unsigned char *"), length, source, len(text)) == 0
    assert zlib.decompress(packed[: length[0]]) == text
    again = a.alloc(len(text))
    size = c.new("unsigned long *", len(again))
    assert (
        libz.uncompress(c.pointer(again, "unsigned char *"), size, c.pointer(packed, "unsigned char *"), length[0]) == 0
    )
    assert again == text
    print(f"zlib: {len(text)} bytes in {length[0]}")


def query(a: Region, ffi: Any) -> None:
    """SQLite: a database in memory, a prepared statement, and text that is bound without a copy."""
    name = ctypes.util.find_library("sqlite3")
    if name is None:
        print("SQLite: there is no shared library of it")
        return
    sqlite = ffi.dlopen(name)
    c = a.cffi(ffi)
    handle, statement = c.new("sqlite3 **"), c.new("sqlite3_stmt **")

    def check(code: int) -> None:
        assert code in (0, 100, 101), ffi.string(sqlite.sqlite3_errmsg(handle[0]))

    check(sqlite.sqlite3_open(c.string(":memory:"), handle))
    try:
        check(sqlite.sqlite3_exec(handle[0], c.string("create table t (name, size)"), ffi.NULL, ffi.NULL, ffi.NULL))
        check(sqlite.sqlite3_prepare_v2(handle[0], c.string("insert into t values (?, ?)"), -1, statement, ffi.NULL))
        for number, text in enumerate(("eins", "zwei", "drei")):
            # SQLITE_STATIC: SQLite keeps the pointer. The handle is dropped at once; the region keeps the text.
            check(sqlite.sqlite3_bind_text(statement[0], 1, c.string(text), -1, ffi.NULL))
            check(sqlite.sqlite3_bind_int64(statement[0], 2, number))
            check(sqlite.sqlite3_step(statement[0]))
            check(sqlite.sqlite3_reset(statement[0]))
        check(sqlite.sqlite3_finalize(statement[0]))
        check(
            sqlite.sqlite3_prepare_v2(
                handle[0], c.string("select name from t order by size desc"), -1, statement, ffi.NULL
            )
        )
        names: list[str] = []
        while sqlite.sqlite3_step(statement[0]) == 100:
            names.append(ffi.string(sqlite.sqlite3_column_text(statement[0], 0)).decode())
        check(sqlite.sqlite3_finalize(statement[0]))
    finally:
        sqlite.sqlite3_close(handle[0])
    assert names == ["drei", "zwei", "eins"], names
    print("SQLite:", *names)


CDEF = """
    unsigned long compressBound(unsigned long length);
    int compress(unsigned char *dest, unsigned long *length, const unsigned char *source, unsigned long size);
    int uncompress(unsigned char *dest, unsigned long *length, const unsigned char *source, unsigned long size);

    typedef struct sqlite3 sqlite3;
    typedef struct sqlite3_stmt sqlite3_stmt;
    int sqlite3_open(const char *name, sqlite3 **handle);
    int sqlite3_close(sqlite3 *handle);
    int sqlite3_exec(sqlite3 *handle, const char *sql, void *callback, void *argument, char **error);
    int sqlite3_prepare_v2(sqlite3 *handle, const char *sql, int size, sqlite3_stmt **statement, const char **tail);
    int sqlite3_bind_text(sqlite3_stmt *statement, int index, const char *text, int size, void *destructor);
    int sqlite3_bind_int64(sqlite3_stmt *statement, int index, long long value);
    int sqlite3_step(sqlite3_stmt *statement);
    int sqlite3_reset(sqlite3_stmt *statement);
    int sqlite3_finalize(sqlite3_stmt *statement);
    const char *sqlite3_column_text(sqlite3_stmt *statement, int column);
    const char *sqlite3_errmsg(sqlite3 *handle);
"""


def main() -> None:
    """Make all the calls, each in a scope of one region."""
    import cffi

    ffi: Any = cffi.FFI()
    ffi.cdef(CDEF)
    calls: list[Callable[[Region], None]] = [
        gather_and_scatter,
        look_up,
        sort,
        lambda a: compress(a, ffi),
        lambda a: query(a, ffi),
    ]
    with bump_region(1 << 20, name="calls", escape="warn") as region:
        for call in calls:
            with region.scope() as scope:
                call(scope)
        print(f"at most {region.peak} bytes were in use")


if __name__ == "__main__":
    main()
