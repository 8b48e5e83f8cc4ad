"""What the adapters for ctypes and cffi share: bytes for one object, taken back when it could not be made; and text.

An initializer is only known to be wrong when it has been tried on the object. So a claim remembers where the cursor
was, and `give_back` puts it there again unless somebody else has allocated since.
"""

from __future__ import annotations

import reprlib
import struct
from collections.abc import Iterable
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from scopedbump._region import Region

POINTER_SIZE = struct.calcsize("P")


def claim(region: Region, size: int, align: int) -> tuple[memoryview, int, int]:
    """Take zeroed bytes: (root, cursor, start), the object's at root[start:start + size], the cursor's old place.

    As `Region._claim`; it too is a stretch without calls from reading the cursor to writing it.
    """
    address = region._reservation.address + region._offset
    cursor = region._cursor
    start = (address + cursor + align - 1 & -align) - address
    stop = start + size
    if start < stop <= region._limit:
        region._cursor = stop
        return region._root, cursor, start  # type: ignore[return-value]  # not None: the limit was not -1
    return region._claim(size, align)


def give_back(region: Region, root: memoryview, cursor: int, stop: int) -> None:
    """Take back a claim that nothing points into: the cursor is where it was, unless somebody has allocated since."""
    root[cursor:stop] = bytes(stop - cursor)  # what is ready and above the cursor is zero
    with region._lock:
        if region._root is root and region._cursor == stop and region._busy is None:
            region._cursor = cursor


def encoded(text: object) -> bytes:
    """The bytes of one C string, without its NUL.

    Raises:
        TypeError: it is neither str nor bytes.
        ValueError: it holds a NUL, or can't be encoded.
    """
    if not isinstance(text, str | bytes):
        raise TypeError(f"text must be str or bytes, not {reprlib.repr(text)} ({type(text).__name__})")
    data = text.encode() if isinstance(text, str) else bytes(text)
    if b"\0" in data:
        raise ValueError(f"embedded null byte in {reprlib.repr(text)}")
    return data


def encoded_all(items: object) -> list[bytes]:
    """The same for each item of an iterable, which must not be a single string."""
    if isinstance(items, str | bytes) or not isinstance(items, Iterable):
        raise TypeError(f"items must be an iterable of str or bytes, not {reprlib.repr(items)}")
    return [encoded(item) for item in cast("Iterable[object]", items)]


def put_strings(region: Region, strings: list[bytes]) -> tuple[memoryview, int]:
    """A NULL-terminated `char *[]`, and behind it what it points to: (root, start)."""
    table = POINTER_SIZE * (len(strings) + 1)
    text = b"".join(data + b"\0" for data in strings)
    root, _, start = claim(region, table + len(text), POINTER_SIZE)
    at = region._reservation.address + region._offset + start + table
    addresses: list[int] = []
    for data in strings:
        addresses.append(at)
        at += len(data) + 1
    root[start : start + table + len(text)] = struct.pack(f"{len(strings) + 1}P", *addresses, 0) + text
    return root, start
