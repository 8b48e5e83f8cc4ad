"""A small library whose functions take an `Allocator`: their callers say how long the memory lives.

Run it: `python examples/typed_library.py`. It reads records from a file, a request at a time, with a region, with a
scope for each request, and without any region; the library can't tell and does not care.
"""

from __future__ import annotations

import struct
import tempfile
import zlib
from collections.abc import Iterator
from io import BufferedIOBase
from pathlib import Path

from scopedbump import Allocator, bump_region, heap

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


def main() -> None:
    """Write a file of records and read it in the three ways."""
    bodies = [f"record {number}: {'x' * (number * 37 % 1000)}".encode() for number in range(1000)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "records"
        with path.open("wb") as file:
            for body in bodies:
                write_record(file, body)
        read_in_three_ways(path, bodies)


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
