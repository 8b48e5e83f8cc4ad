"""Every way to allocate in a debug region makes blocks of their own size: one byte past each of them is found."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import cffi
import pytest

from scopedbump import OverrunError, Region, bump_region, debug

pytestmark = pytest.mark.usefixtures("going_on")

ffi = cffi.FFI()
ffi.cdef("typedef struct { int number; char letter; } thing;")


def at(pointer: Any) -> int:
    """Where a pointer of cffi points to."""
    return int(ffi.cast("uintptr_t", pointer))


WAYS: dict[str, tuple[Callable[[Region], tuple[object, int]], int]] = {
    "alloc": (lambda a: ((block := a.alloc(24)), a.address(block)), 24),
    "copy": (lambda a: ((block := a.copy(b"x" * 33)), a.address(block)), 33),
    "array": (lambda a: ((block := a.array("d", [1.0, 2.0])), a.address(block)), 16),
    "array of zeros": (lambda a: ((block := a.array("i", 3)), a.address(block)), 12),
    "slab": (lambda a: ((block := next(a.slab(40))), a.address(block)), 40),
    "ctypes new": (lambda a: ((made := a.ctypes.new(ctypes.c_int * 5)), ctypes.addressof(made)), 20),
    "ctypes string": (lambda a: ((made := a.ctypes.string(b"hello")), ctypes.addressof(made)), 6),
    "ctypes slab": (lambda a: ((made := next(a.ctypes.slab(ctypes.c_int))), ctypes.addressof(made)), 4),
    "cffi new": (lambda a: ((made := a.cffi(ffi).new("thing *")), at(made)), 8),
    "cffi array": (lambda a: ((made := a.cffi(ffi).new("int[5]")), at(made)), 20),
    "cffi string": (lambda a: ((made := a.cffi(ffi).string(b"hello")), at(made)), 6),
    "cffi slab": (lambda a: ((made := next(a.cffi(ffi).slab("thing *"))), at(made)), 8),
}


@pytest.mark.parametrize("way", WAYS)
def test_one_byte_past_is_found_whatever_made_the_block(way: str) -> None:
    """The block that is named has the size that was asked for."""
    make, size = WAYS[way]
    with pytest.raises(OverrunError) as caught, bump_region(1 << 24, debug=True) as a:
        made, address = make(a)
        ctypes.memset(address + size, 1, 1)
        del made
    finding = caught.value.findings[0]
    assert finding.kind in ("write past", "canary changed")
    assert finding.block is not None
    assert (finding.block.address, finding.block.size) == (address, size)
    assert "test_ways.py" in finding.block.made


def test_one_byte_past_an_array_of_numpy_is_found() -> None:
    """Whether it lies in the region or came by the handler."""
    np = pytest.importorskip("numpy")
    for by_handler in (False, True):
        with pytest.raises(OverrunError) as caught, bump_region(1 << 24, debug=True) as a:
            if by_handler:
                with a.numpy.handler(min_bytes=0):
                    array = np.arange(9.0)
            else:
                array = a.numpy.zeros(9)
            address = array.ctypes.data
            ctypes.memset(address + 72, 1, 1)
            debug.check(a)
            del array
        block = caught.value.findings[0].block
        assert block is not None
        assert (block.address, block.size) == (address, 72)
