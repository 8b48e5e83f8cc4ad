"""A small library whose functions take an `Allocator`: their callers say how long the memory lives.

Run it: `python examples/typed_library.py`. It reads records from a file, a request at a time, with a region, with a
scope for each request, and without any region; the library can't tell and does not care. Functions that make objects
of C take a `TypedAllocator`, and serve the same callers.
"""

from __future__ import annotations

import ctypes
import struct
import tempfile
import zlib
from collections.abc import Iterator
from io import BufferedIOBase
from pathlib import Path

import cffi

from scopedbump import Allocator, CData, RegionPool, TypedAllocator, bump_region, heap

HEADER = struct.Struct("<II")  # length and CRC-32 of what follows


# -- the library: asks for memory, returns views of it, and never frees any


def write_record(file: BufferedIOBase, body: bytes) -> None:
    """Append a record to a file."""
    file.write(HEADER.pack(len(body), zlib.crc32(body)) + body)


def fill(file: BufferedIOBase, block: memoryview) -> bool:
    """Read until the block is full; False at the end of the file."""
    done = 0
    while done < len(block):
        got = file.readinto(block[done:])
        if not got:
            return False
        done += got
    return True


def read_record(file: BufferedIOBase, memory: Allocator) -> memoryview | None:
    """The next record's body, or None at the end of the file. It lives as long as `memory` says.

    Raises:
        ValueError: the record is damaged.
    """
    header = memory.alloc(HEADER.size)
    if not fill(file, header):
        return None
    length, checksum = HEADER.unpack(header)
    body = memory.alloc(length, zero=False)  # it is overwritten at once
    if not fill(file, body) or zlib.crc32(body) != checksum:
        raise ValueError(f"a record of {length} bytes is damaged")
    return body


def upper(text: memoryview, memory: Allocator) -> memoryview:
    """A copy of ASCII text in capitals."""
    result = memory.alloc(len(text), zero=False)
    for index, byte in enumerate(text):
        result[index] = byte - 32 if 97 <= byte <= 122 else byte
    return result


ffi = cffi.FFI()
ffi.cdef(
    "struct part { char *data; size_t size; }; typedef struct { char **names; int count; struct part body; } form;"
)


class Part(ctypes.Structure):
    """The same struct as `struct part`, for those who call C with ctypes."""

    _fields_ = [("data", ctypes.POINTER(ctypes.c_char)), ("size", ctypes.c_size_t)]


def form(names: list[str], body: bytes, memory: TypedAllocator) -> CData:
    """A `form *` for C, with all that it leads to: nobody need keep a piece of it.

    Pointers are given with the initializer. Who stores one in a field later holds what it leads to, unless the caller
    gave a region.
    """
    c = memory.cffi(ffi)
    block = memory.alloc(len(body), zero=False)
    block[:] = body
    part = {"data": c.pointer(block), "size": len(body)}
    return c.new("form *", {"names": c.strings(names), "count": len(names), "body": part})


def part(body: bytes, memory: TypedAllocator) -> Part:
    """The same for ctypes: a `Part` that leads to its bytes."""
    text = memory.ctypes.string(body)
    return memory.ctypes.new(Part, text, len(body))


# -- its callers


def records(file: BufferedIOBase, memory: Allocator) -> Iterator[memoryview]:
    file.seek(0)
    while (body := read_record(file, memory)) is not None:
        yield body


def whole_file(file: BufferedIOBase) -> int:
    """All records at a time: a region that lives as long as the work does."""
    with bump_region(1 << 24, name="whole file") as region:
        bodies = list(records(file, region))
        return sum(len(upper(body, region)) for body in bodies)


def one_by_one(file: BufferedIOBase) -> int:
    """A record at a time, in memory that is taken again: the peak is that of the largest record."""
    total = 0
    file.seek(0)
    with bump_region(1 << 24, name="one by one") as region:
        while True:
            with region.scope() as scope:
                body = read_record(file, scope)
                if body is None:
                    break
                total += len(upper(body, scope))
        print(f"one by one: {region.peak} bytes at most")
    return total


def kept(file: BufferedIOBase) -> list[memoryview]:
    """Results that outlive the function: from the heap, where each lives as long as it is referred to."""
    return [upper(body, heap) for body in records(file, heap)]


def described(form: CData) -> str:
    """What a C function would see."""
    names = [ffi.string(form.names[index]) for index in range(form.count)]
    return f"{names}, {bytes(ffi.buffer(form.body.data, form.body.size))!r}"


def made_for_c(memory: TypedAllocator) -> str:
    """Make both, and look at them as C does."""
    other = part(b"a body", memory)
    return f"{described(form(['one', 'two'], b'a body', memory))}, {other.data[: other.size]!r}"


def for_all_callers() -> set[str]:
    """The same from a region, from a scope, from a pool's region and from the heap."""
    with bump_region(1 << 20) as region, RegionPool(1 << 20) as pool, pool.region() as lease:
        results = {made_for_c(region), made_for_c(lease), made_for_c(heap)}
        with region.scope() as scope:
            results.add(made_for_c(scope))
    return results


def main() -> None:
    """Write a file of records and read it in the three ways."""
    bodies = [f"record {number}: {'x' * (number * 37 % 1000)}".encode() for number in range(1000)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "records"
        with path.open("wb") as file:
            for body in bodies:
                write_record(file, body)
        read_in_three_ways(path, bodies)
    (result,) = for_all_callers()
    print(f"objects of C, the same for all callers: {result}")


def read_in_three_ways(path: Path, bodies: list[bytes]) -> None:
    with path.open("rb") as file:
        expected = sum(map(len, bodies))
        assert whole_file(file) == expected
        assert one_by_one(file) == expected
        results = kept(file)
        assert [bytes(result) for result in results] == [body.upper() for body in bodies]
        print(f"{len(bodies)} records, {expected} bytes, the same from a region, from scopes and from the heap")


if __name__ == "__main__":
    main()
