"""Text for C: the bytes of strings, and NULL-terminated tables of them.

Speed counts here: a string is an everyday argument, and is made in little more than it takes to copy it.
"""

from __future__ import annotations

import reprlib
import struct
from functools import lru_cache
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._heap_memory import HeapMemory
    from .._memory import Memory

POINTER_SIZE = struct.calcsize("P")


def encoded(text: object) -> bytes:
    """The bytes of one C string, without its NUL.

    Raises:
        TypeError: it is neither str nor bytes.
        ValueError: it holds a NUL, or can't be encoded.
    """
    if type(text) is bytes:
        data = text
    elif isinstance(text, str):
        data = text.encode()
    elif isinstance(text, bytes):
        data = bytes(text)
    else:
        raise TypeError(f"text must be str or bytes, not {reprlib.repr(text)} ({type(text).__name__})")
    if 0 in data:  # a NUL: to look for b"\0" takes much longer
        raise ValueError(f"embedded null byte in {reprlib.repr(text)}")
    return data


def encoded_all(items: Any) -> list[bytes]:
    """The same for each item of an iterable, which must not be a single string."""
    if isinstance(items, (str, bytes)) or not hasattr(cast("object", items), "__iter__"):
        raise TypeError(f"items must be an iterable of str or bytes, not {reprlib.repr(items)}")
    return [
        item if type(item) is bytes and 0 not in item else encoded(item)  # most are fine, and need no call
        for item in items
    ]


class StringTable:
    """A NULL-terminated `char *[]`, and behind it what it points to.

    Attributes:
        pointers: bytes of the pointers.
        size: bytes of it all.
    """

    __slots__ = ("_text", "_texts", "pointers", "size")

    def __init__(self, texts: list[bytes]) -> None:
        self._texts = texts
        text = self._text = b"\0".join(texts) + b"\0"
        pointers = self.pointers = POINTER_SIZE * (len(texts) + 1)
        self.size = pointers + len(text)

    def content(self, address: int) -> bytes:
        """What there is at this address."""
        at = address + self.pointers
        addresses: list[int] = []
        for text in self._texts:
            addresses.append(at)
            at += len(text) + 1
        addresses.append(0)
        return _packer(len(addresses))(*addresses) + self._text


@lru_cache(maxsize=64)
def _packer(length: int) -> Callable[..., bytes]:
    return struct.Struct(f"{length}P").pack


def put_strings(memory: Memory | HeapMemory, strings: list[bytes]) -> tuple[memoryview, int, int]:
    """A NULL-terminated `char *[]`, and behind it what it points to: (view, start, address)."""
    table = StringTable(strings)
    view, start, _, address = memory.alloc_raw(table.size, POINTER_SIZE)
    view[start : start + table.size] = table.content(address)
    return view, start, address
