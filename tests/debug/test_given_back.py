"""What C and NumPy give back of a debug region is guarded: hooks, whose `free` frees there, and NumPy's handler."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from scopedbump import OverrunError, Region, bump_region, debug

pytestmark = pytest.mark.usefixtures("going_on")

MALLOC = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_size_t)
REALLOC = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)
FREE = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


class Functions:
    """What a C library is given."""

    def __init__(self, region: Region) -> None:
        hooks = region.ctypes.hooks()
        self.malloc: Callable[[int], int] = hooks.malloc(MALLOC, "size")
        self.calloc: Callable[[int], int] = hooks.calloc(MALLOC, "size")
        self.realloc: Callable[[int | None, int], int] = hooks.realloc(REALLOC, "ptr size")
        self.free: Callable[[int], None] = hooks.free(FREE, "ptr")


@pytest.fixture
def region() -> Iterator[Region]:
    """A debug region in which something is found."""
    with pytest.raises(OverrunError), bump_region(1 << 24, debug=True, name="library") as a:
        yield a


def found_after(before: int) -> debug.Finding:
    """The one finding that came since then."""
    new = debug.findings()[before:]
    assert len(new) == 1, new
    return new[0]


def test_what_c_freed_is_guarded(region: Region, library: Any) -> None:
    """A read of a block that the library freed faults, and says where it was made and freed."""
    c = Functions(region)
    address = c.malloc(100)
    c.free(address)
    before = len(debug.findings())
    library.peek(address, 7)
    finding = found_after(before)
    assert finding.kind == "use after end"
    assert "a read at byte 7 of the block of 100 bytes" in finding.text
    assert finding.text.count("test_given_back.py") >= 3
    assert "it was freed at" in finding.text
    assert c.malloc(100) != address


def test_what_realloc_left_is_guarded(region: Region, library: Any) -> None:
    """A realloc moves always, smaller or larger, with the content; the old block is guarded."""
    c = Functions(region)
    address = c.malloc(3000)
    for size in (5000, 4000, 100, 100, 70_000):
        ctypes.memset(address, size & 0xFF, min(size, 100))
        new = c.realloc(address, size)
        assert ctypes.string_at(new, min(size, 100)) == bytes((size & 0xFF,)) * min(size, 100)
        before = len(debug.findings())
        library.poke(address, 0)
        assert found_after(before).kind == "use after end"
        address = new
    assert not c.realloc(None, 0)
    assert not c.realloc(address, 0)
    before = len(debug.findings())
    library.poke(address, 0)
    assert found_after(before).kind == "use after end"
    before = len(debug.findings())
    library.poke(c.realloc(None, 64), 64)
    assert found_after(before).kind == "write past"


def test_a_wrong_free_is_found(region: Region) -> None:
    """A block that is freed twice, and an address inside a block, are findings; NULL is none."""
    c = Functions(region)
    address = c.malloc(100)
    c.free(0)
    before = len(debug.findings())
    c.free(address + 5)
    assert "wrong free of byte 5 of the block of 100 bytes" in found_after(before).text
    c.free(address)
    before = len(debug.findings())
    c.free(address)
    finding = found_after(before)
    assert finding.kind == "wrong free"
    assert "it was freed at" in finding.text
    assert "test_given_back.py" in finding.stack[0]


def test_an_overrun_is_found_when_it_is_freed(region: Region, library: Any) -> None:
    """Canaries are looked at when a block is freed, while one knows by whom."""
    c = Functions(region)
    address = c.malloc(100)
    library.poke(address, 100)
    before = len(debug.findings())
    c.free(address)
    assert found_after(before).kind == "canary changed"


def test_what_a_library_never_freed_is_listed() -> None:
    """The report has a table of the blocks that were not freed, by the line that called C; after the end too."""
    with bump_region(1 << 24, debug=True) as a:
        c = Functions(a)
        a.alloc(99)
        freed = c.malloc(1234)
        for _ in range(3):
            c.calloc(50)
        c.free(freed)
        c.free(c.realloc(c.malloc(77), 88))
        lines = a.report().splitlines()
        left = lines[next(at for at, line in enumerate(lines) if "not freed by C" in line) + 1 :]
        assert len(left) == 1
        assert left[0].split()[:2] == ["3", "150"]
        assert "test_given_back.py" in left[0]
    assert left[0] in a.report()
    with bump_region(debug=True) as a:
        a.alloc(10)
        assert "not freed" not in a.report()


def test_after_the_end_free_does_nothing() -> None:
    """As without debug: C may free what it likes when the region is over, and when another one is served."""
    with bump_region(1 << 24, debug=True) as a:
        c = Functions(a)
        address = c.malloc(100)
    c.free(address)
    with bump_region(1 << 24, debug=True) as b:
        other = Functions(b).malloc(100)
        c.free(address)
        ctypes.memset(other, 1, 100)
    with bump_region(1 << 24, debug=False) as b:
        other = Functions(b).malloc(100)
        c.free(other)
        ctypes.memset(other, 1, 100)


def test_an_overrun_inside_a_library_on_hooks_is_named(region: Region, library: Any) -> None:
    """A library that keeps a list in memory of its hooks, and writes past one of its items, is found doing it."""
    c = Functions(region)
    library.make_list.restype = ctypes.c_void_p
    library.make_list.argtypes = [MALLOC, ctypes.c_long]
    library.spoil_list.argtypes = [ctypes.c_void_p, ctypes.c_long]
    first = library.make_list(c.malloc, 5)
    before = len(debug.findings())
    library.spoil_list(first, 3)
    finding = found_after(before)
    assert finding.kind == "write past"
    assert finding.block is not None
    assert finding.block.size == 32
    assert "in test_an_overrun_inside_a_library_on_hooks_is_named" in finding.block.made
    assert "spoil_list" in finding.text


def test_what_numpy_freed_is_guarded(region: Region, library: Any) -> None:
    """Under the handler an array that is gone is guarded, from the next array on; its bytes count as free."""
    np = pytest.importorskip("numpy")
    with region.numpy.handler(min_bytes=0):
        array = np.arange(1001.0)
        address = array.ctypes.data
        for _ in range(100):
            other = array * 2 + array
        assert region.used < 100_000
        assert other.sum() == 1_501_500
        del array
        np.zeros(1000)
        before = len(debug.findings())
        library.peek(address, 0)
        finding = found_after(before)
        assert finding.kind == "use after end"
        assert "the block of 8008 bytes" in finding.text
        assert "it was freed at" in finding.text
        before = len(debug.findings())
        library.poke(other.ctypes.data, 8008)
        debug.check(region)
        assert "past the end of the block of 8008 bytes" in found_after(before).text
        del other
    assert region.used < 100


def test_the_handler_fills_what_need_not_be_zero() -> None:
    """`numpy.empty` is full of 0xA5, `numpy.zeros` of zeros, also where bytes were given back before."""
    np = pytest.importorskip("numpy")
    with bump_region(1 << 24, debug=True) as a, a.numpy.handler(min_bytes=0):
        for _ in range(3):
            assert set(np.empty(1000, "B").tolist()) == {0xA5}
            assert not np.zeros(1000).any()
