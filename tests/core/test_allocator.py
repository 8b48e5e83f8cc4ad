"""`Allocator` and the heap: what a library may ask for, with a region or without."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scopedbump import Allocator, bump_region, heap

ALLOCATORS: list[Callable[[], AbstractContextManager[Allocator]]] = [bump_region, lambda: nullcontext(heap)]
each = pytest.mark.parametrize("opened", ALLOCATORS, ids=["region", "heap"])


@each
@given(size=st.integers(0, 5000), power=st.integers(0, 13), zero=st.booleans())
def test_a_block_is_what_was_asked_for(
    opened: Callable[[], AbstractContextManager[Allocator]], size: int, power: int, zero: bool
) -> None:
    """A region and the heap give the same: writable bytes, zero, aligned."""
    with opened() as memory:
        block = memory.alloc(size, 1 << power, zero=zero)
        assert (block.nbytes, block.format, block.readonly, block.c_contiguous) == (size, "B", False, True)
        assert block == bytes(size)
        assert not size or ctypes.addressof(ctypes.c_char.from_buffer(block)) % (1 << power) == 0
        block[:] = b"\xff" * size


@each
@pytest.mark.parametrize(
    "arguments", [(-1,), ("1",), (1.5,), (None,), (1, 3), (1, 0), (1, -16), (1, "16"), (1 << 64,), (1, 1 << 64)]
)
def test_a_wrong_argument_gives_the_same_error_from_both(
    opened: Callable[[], AbstractContextManager[Allocator]], arguments: tuple[Any, ...]
) -> None:
    """The heap checks as a region does, with the same words."""
    with bump_region() as region, pytest.raises((TypeError, ValueError)) as expected:
        region.alloc(*arguments)
    with opened() as memory, pytest.raises(type(expected.value)) as caught:
        memory.alloc(*arguments)
    assert str(caught.value) == str(expected.value)


@pytest.mark.skipif(sys.implementation.name == "pypy", reason="PyPy's bytearray takes more than there is")
@each
def test_too_much_is_a_memory_error(opened: Callable[[], AbstractContextManager[Allocator]]) -> None:
    """What nobody has is a MemoryError, from the largest size down."""
    with opened() as memory:
        for size in (sys.maxsize, sys.maxsize - 15, sys.maxsize // 2):
            with pytest.raises(MemoryError):
                memory.alloc(size)
            with pytest.raises(MemoryError):
                memory.alloc(size, 1 << 62)


def test_blocks_of_the_heap_lie_apart_and_last() -> None:
    """Nothing of the heap is revoked, and no two blocks share a byte."""
    blocks = [heap.alloc(7, 64) for _ in range(100)]
    for number, block in enumerate(blocks):
        block[:] = bytes([number]) * 7
    assert [bytes(block) for block in blocks] == [bytes([number]) * 7 for number in range(100)]
