"""Allocating: promises 1, 2, 6, 7, 8."""

from __future__ import annotations

import array
import sys
from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import scopedbump
from helpers.invariants import check
from helpers.support import counts_references, needs_gil, needs_maps, run_script
from scopedbump import RegionBusyError, RegionClosedError, RegionFullError, bump_region
from scopedbump._layout import WINDOW


def test_a_block_is_writable_zeroed_and_in_the_region() -> None:
    """A block is a flat writable memoryview of bytes, zero, inside the region's addresses."""
    with bump_region() as a:
        view = a.alloc(100)
        assert (view.nbytes, view.format, view.readonly, view.ndim) == (100, "B", False, 1)
        assert bytes(view) == bytes(100)
        view[:] = b"x" * 100
        assert view in a
        assert a.address(view) in a


def test_alloc_moves_the_cursor() -> None:
    """Promise 1: blocks follow one another, and `free` changes nothing."""
    with bump_region() as a:
        first, second = a.alloc(16), a.alloc(1)
        assert a.address(second) == a.address(first) + 16
        assert a.used == 17
        a.free(second)
        a.free("anything")
        assert a.address(a.alloc(1)) == a.address(first) + 32
        assert a.used == 33
        assert a.available == a.size - 48


@pytest.mark.parametrize("align", [1 << shift for shift in range(22)])
def test_alignment_of_the_absolute_address(align: int) -> None:
    """Promise 7: from 1 to 2 MiB, on the absolute address, also inside a scope."""
    with bump_region(1 << 24) as a:
        a.alloc(1, 1)
        assert a.address(a.alloc(10, align)) % align == 0
        a.alloc(3, 1)
        with a.scope() as inner:
            inner.alloc(1, 1)
            assert inner.address(inner.alloc(10, align)) % align == 0
        check(a)


def test_alignment_of_one_packs() -> None:
    """Promise 7: with align=1 there are no gaps."""
    with bump_region() as a:
        for _ in range(100):
            a.alloc(3, 1)
        assert a.used == 300


@pytest.mark.parametrize("size", [0, 1])
def test_zero_sized_blocks_work_even_in_a_full_region(size: int) -> None:
    """A block of no bytes is an empty view, and fits everywhere."""
    with bump_region(100) as a:
        assert a.alloc(0).nbytes == 0
        a.alloc(99 + size, 1)
        empty = a.alloc(0)
        assert (empty.nbytes, bytes(empty)) == (0, b"")
        assert a.copy(b"").nbytes == 0
        assert empty in a
        check(a)


def test_recycled_memory_is_zero() -> None:
    """Promise 6: blocks of every size, through the window and beyond it, are zero after a reset and after a scope."""
    with bump_region(1 << 23) as a:
        for _ in range(2):
            for size in (1, 64, 100, 4096, 1 << 15, 1 << 18, 1 << 20):
                view = a.alloc(size)
                assert not any(view), size
                view[:] = b"\xff" * size
            with a.scope() as inner:
                view = inner.alloc(70_000)
                assert not any(view)
                view[:] = b"\xee" * 70_000
            view = a.alloc(90_000)
            assert not any(view)
            view[:] = b"\xdd" * 90_000
            check(a)
            del view
            a.reset()


@counts_references
def test_zero_false_skips_clearing() -> None:
    """Promise 6: with zero=False a block holds what was there, or zeros; either way nothing is cleared for it."""
    with bump_region(1 << 22) as a:
        view = a.alloc(1 << 20)
        view[:] = b"\xaa" * (1 << 20)
        del view
        a.reset()
        view = a.alloc(1 << 20, zero=False)
        assert set(bytes(view[:WINDOW])) <= {0, 0xAA}  # the reset may have made it ready for small blocks
        assert set(bytes(view[WINDOW:])) == {0xAA}
        assert not any(a.alloc(1 << 20))


@pytest.mark.parametrize("size", [1001, 1 << 20, sys.maxsize])
def test_a_full_region_says_so_and_goes_on(size: int) -> None:
    """Promise 8: the error carries the figures and the cure, the cursor has not moved, what fits is served."""
    with bump_region(1000, name="small") as a:
        a.alloc(100)
        used = a.used
        with pytest.raises(RegionFullError) as caught:
            a.alloc(size)
        error = caught.value
        assert isinstance(error, MemoryError)
        assert (error.requested, error.align, error.available, error.size) == (size, 16, 888, 1000)
        for words in ("'small'", str(size), "888 of 1000", "larger size", "scope()", "reset()"):
            assert words in str(error)
        assert a.used == used
        assert a.alloc(888).nbytes == 888
        check(a)


def test_full_because_of_alignment() -> None:
    """Promise 8: what would fit unaligned, and does not aligned, is refused without moving the cursor."""
    with bump_region(100) as a:
        a.alloc(1)
        with pytest.raises(RegionFullError, match="90 bytes aligned to 16"):
            a.alloc(90)
        assert a.used == 1
        assert a.alloc(90, 1).nbytes == 90


@pytest.mark.parametrize("bad", ["1", 1.0, None, b"1", float("nan"), object()])
def test_a_size_or_align_of_a_wrong_type(bad: object) -> None:
    """TypeError names the value; nothing has changed."""
    with bump_region() as a:
        for call in (
            lambda: a.alloc(bad),  # type: ignore[arg-type]
            lambda: a.alloc(8, bad),  # type: ignore[arg-type]
            lambda: a.slab(bad),  # type: ignore[arg-type]
            lambda: a.slab(8, bad),  # type: ignore[arg-type]
            lambda: a.copy(b"x", bad),  # type: ignore[arg-type]
            lambda: bump_region(bad),  # type: ignore[arg-type]
        ):
            with pytest.raises(TypeError, match="must be an int"):
                call()
        assert a.used == 0
        check(a)


@pytest.mark.parametrize("bad", [-1, -(2**70), sys.maxsize + 1, 10**5000], ids=["-1", "low", "high", "huge"])
def test_a_size_out_of_range(bad: int) -> None:
    """ValueError names the value; nothing has changed."""
    with bump_region() as a:
        for call in (lambda: a.alloc(bad), lambda: a.slab(bad), lambda: a.alloc(8, bad), lambda: bump_region(bad)):
            with pytest.raises(ValueError, match=r"(size|align) must be"):
                call()
        for call in (lambda: a.slab(0), lambda: a.alloc(8, 0), lambda: a.alloc(8, 48), lambda: bump_region(0)):
            with pytest.raises(ValueError, match=r"(size|align) must be"):
                call()
        assert a.used == 0
        check(a)


def test_other_bad_arguments() -> None:
    """name and escape are checked too, before anything is reserved."""
    with pytest.raises(TypeError, match="name must be a str, not 5"):
        bump_region(name=5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="escape must be .* not 'ignore'"):
        bump_region(escape="ignore")  # type: ignore[arg-type]
    with bump_region() as a, pytest.raises(ValueError, match="escape must be .* not 'never'"):
        a.scope(escape="never")  # type: ignore[arg-type]


def test_allocating_after_the_end() -> None:
    """A closed region refuses everything with one error, which is also a ValueError."""
    with bump_region(name="gone") as a:
        pass
    for call in (lambda: a.alloc(1), lambda: a.copy(b"x"), lambda: a.slab(8), a.scope, a.reset, a.__enter__):
        with pytest.raises(RegionClosedError, match="'gone'.* has ended"):
            call()
    with pytest.raises(RegionClosedError):
        a.address(b"x")
    assert (0 in a, b"x" in a) == (False, False)
    assert issubclass(RegionClosedError, ValueError)
    assert (a.used, a.available, a.committed, a.closed) == (0, 0, 0, True)


def test_allocating_during_a_scope() -> None:
    """Promise 11: the parent refuses, and says why."""
    with bump_region() as a, a.scope():
        for call in (lambda: a.alloc(1), lambda: a.alloc(1, 64), lambda: a.slab(8), a.scope, a.reset):
            with pytest.raises(RegionBusyError, match="in use by an open scope"):
                call()


def test_copy_takes_any_buffer() -> None:
    """copy accepts every exporter: formats, dimensions and strides included, in C order."""
    with bump_region() as a:
        assert bytes(a.copy(b"hello")) == b"hello"
        assert bytes(a.copy(bytearray(b"hello"), 1)) == b"hello"
        numbers = array.array("d", [1.0, 2.0])
        assert bytes(a.copy(numbers)) == numbers.tobytes()
        assert bytes(a.copy(memoryview(b"abcdef")[::-2])) == b"fdb"
        square = memoryview(bytes(range(12))).cast("B", (3, 4))
        assert bytes(a.copy(square)) == bytes(range(12))
        assert bytes(a.copy(a.alloc(5))) == bytes(5)
        used = a.used
        with pytest.raises(TypeError, match="bytes-like"):
            a.copy("text")  # type: ignore[arg-type]
        assert a.used == used
        check(a)


def test_address_and_contains() -> None:
    """address is checked to lie in the region; `in` takes buffers and addresses."""
    with bump_region(name="mine") as a, bump_region() as b:
        view = a.alloc(64)
        address = a.address(view)
        assert a.address(view[5:]) == address + 5
        assert (view in a, view in b, view[3:] in a, b"bytes" in a) == (True, False, True, False)
        assert (address in a, address - 1 in a, address + a.size in a) == (True, False, False)
        with pytest.raises(ValueError, match="does not lie in <scopedbump.Region 'mine'"):
            a.address(b.alloc(1))
        with pytest.raises(TypeError, match="contiguous buffer"):
            a.address("text")  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="contiguous buffer"):
            a.address(view[::2])


@given(st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 12), st.booleans()), max_size=60))
@settings(max_examples=60, deadline=None)
def test_blocks_never_overlap(requests: list[tuple[int, int, bool]]) -> None:
    """Promise 1: whatever is asked for, each block keeps what was written to it."""
    with bump_region(1 << 20) as a:
        written: list[tuple[memoryview, bytes]] = []
        for number, (size, shift, zero) in enumerate(requests):
            view = a.alloc(size, 1 << shift, zero=zero)
            assert a.address(view) % (1 << shift) == 0
            content = bytes([number % 255 + 1]) * size
            view[:] = content
            written.append((view, content))
        assert all(view == content for view, content in written)
        check(a)


@needs_maps
def test_reserving_costs_no_memory() -> None:
    """Promise 2: 1 TiB is reserved, 1 MiB touched: the process grows by little more than 1 MiB."""
    grown = run_script("""
        from scopedbump import ReserveError, bump_region
        def resident():
            with open("/proc/self/statm") as statm:
                return int(statm.read().split()[1]) * 4096
        with bump_region(1 << 20) as a:
            a.alloc(1 << 19)[:] = b"x" * (1 << 19)
        text = b"x" * (1 << 20)
        before = resident()
        with bump_region(1 << 40) as a:
            view = a.alloc(1 << 20)
            view[:] = text
            print(resident() - before)
    """)
    assert 1 << 20 <= int(grown) < (1 << 20) + (1 << 19)


@pytest.mark.skipif(sys.platform == "win32", reason="there is no RLIMIT_AS")
@pytest.mark.skipif(sys.implementation.name != "cpython", reason="PyPy does not start under this limit")
@needs_gil("without one the interpreter itself takes more address space than this limit")
def test_a_refused_reservation_says_why() -> None:
    """Promise 2: under RLIMIT_AS, ReserveError carries the errno and names the limit."""
    output = run_script("""
        import resource
        from scopedbump import ReserveError, bump_region
        resource.setrlimit(resource.RLIMIT_AS, (1 << 30, resource.RLIM_INFINITY))
        try:
            bump_region(1 << 40)
        except ReserveError as error:
            assert isinstance(error, OSError)
            print(error.errno, error)
        with bump_region(1 << 20) as a:
            a.alloc(100)
    """)
    assert output.startswith("12 ")
    assert "RLIMIT_AS" in output
    assert str(1 << 40) in output


def test_repr_shows_name_use_and_state() -> None:
    """A repr tells which region it is, how full, and in what state."""
    with bump_region(1000, name="upload") as a:
        a.alloc(100)
        assert repr(a) == "<scopedbump.Region 'upload': 100 of 1000 bytes used, peak 100, open>"
        with a.scope():
            assert "a scope is open" in repr(a)
        escaped = a.alloc(1)[:]
    assert "closed, memory kept by what still points in" in repr(a)
    del escaped
    assert scopedbump.Region.__module__ == "scopedbump"


# -- blocks of no bytes


def test_an_empty_block_has_an_address_that_can_be_read() -> None:
    """Promise 4: CPython itself reads one byte behind an empty buffer; whatever is full, committed or aligned."""
    run_script("""
        import binascii, ctypes, sys
        from scopedbump import RegionPool, bump_region, _pages

        def look(region, *align):
            view = region.alloc(0, *align)
            assert view.nbytes == 0
            ctypes.string_at(region.address(view), 1)
            assert region.address(view) % (align or (16,))[0] == 0 and view in region
            for empty in (view, memoryview(bytearray(0))):  # of a bytearray the byte behind it is zero
                try:
                    assert len(binascii.a2b_uu(empty)) in (32, 0) or empty is view
                except binascii.Error:  # what later Pythons say instead of reading it
                    pass
            ctypes.string_at(region.address(region.copy(b"")), 1)
            ctypes.string_at(region.address(region.array("d", 0)), 1)

        page = _pages.system_pages.page_size
        for size in (1, 100, page, page + 1, 1 << 20, (1 << 20) + 5, 1 << 24):
            with bump_region(size) as a:
                look(a)
                for align in (1, 16, 64, page, 4 * page):
                    if align <= size // 4:
                        look(a, align)
                for filled in (size // 2, size // 4, 1):
                    a.alloc(min(filled, a.available)); look(a)
                a.alloc(a.available); a.alloc(a.size - a.used, 1)
                assert a.used == a.size
                look(a); look(a, 1); look(a)
                with a.scope() as inner:
                    look(inner); look(inner, 1)
                a.reset(); look(a)
        for committed in (page, 1 << 20):  # to the end of what is usable, and not of the region
            with bump_region(1 << 24) as a:
                a.alloc(1)
                a.alloc(a.committed - a.used, 1)
                assert a.used == a.committed
                look(a); look(a, page)
        with RegionPool(1 << 20, retain=0) as pool:
            for _ in range(3):
                with pool.region() as a:
                    look(a)
    """)


def test_empty_blocks_take_no_room() -> None:
    """Promise 1: but the gap that an alignment needs."""
    with bump_region(1000) as a:
        a.alloc(3, 1)
        for _ in range(100):
            a.alloc(0, 1)
        assert a.used == 3
        for _ in range(100):
            a.alloc(0)
        assert a.used <= 16
        assert a.alloc(1, 1).nbytes == 1
        check(a)


# -- alignments, and what is left


ALIGNMENTS = [1 << shift for shift in range(24)]


@pytest.mark.parametrize("align", ALIGNMENTS)
def test_every_way_to_allocate_with_every_alignment(align: int) -> None:
    """Promise 7: small, large, empty, uncleared, copied, in slabs and scopes, over memory that was used; all apart."""
    with bump_region(1 << 28) as a:
        for _ in range(2):
            blocks: list[memoryview] = []
            a.alloc(3, 1)
            for size in (1, 40, 0, 33_000):
                blocks.append(a.alloc(size, align))
                assert not any(blocks[-1])
            blocks.append(a.alloc(100, align, zero=False))
            blocks.append(a.copy(b"x" * 77, align))
            blocks += islice(a.slab(5, align), 3)
            for number, block in enumerate(blocks, 1):
                assert not block.nbytes or a.address(block) % align == 0
                block[:] = bytes([number]) * block.nbytes
            with a.scope() as inner:
                inner.alloc(1, 1)
                block = inner.alloc(9, align)
                assert inner.address(block) % align == 0
                block[:] = b"\xff" * 9
            assert all(set(block) <= {number} for number, block in enumerate(blocks, 1))
            check(a)
            a.reset()


@pytest.mark.parametrize("align", ALIGNMENTS)
@pytest.mark.parametrize("before", [0, 1, 15, 4097, 100_001])
def test_what_the_refusal_names_can_be_had(align: int, before: int) -> None:
    """Promise 8: `available` of the error is for that alignment: so much fits, and not a byte more."""
    for in_scope in (False, True):
        with bump_region(1 << 20) as a:
            a.alloc(before, 1)
            region = a.scope() if in_scope else a
            with pytest.raises(RegionFullError) as caught:
                region.alloc(1 << 20, align) if before else region.alloc((1 << 20) + 1, align)
            left = caught.value.available
            assert f"{left} of {region.size} are left" in str(caught.value)
            with pytest.raises(RegionFullError):
                region.alloc(left + 1, align)
            if left:
                block = region.alloc(left, align)
                assert block.nbytes == left and region.address(block) % align == 0
                block[-1] = 1
            check(region)


@pytest.mark.parametrize("before", [0, 1, 16, 999, 1000])
def test_what_is_available_can_be_had(before: int) -> None:
    """Promise 8: `available` is for the default alignment: so much fits, and not a byte more."""
    with bump_region(1000) as a:
        a.alloc(before, 1)
        with pytest.raises(RegionFullError):
            a.alloc(a.available + 1)
        left = a.available
        assert a.alloc(left).nbytes == left
        assert a.available == 0


def test_a_region_is_made_by_what_makes_regions() -> None:
    """`Region()` refuses and says what to call; nothing of it warns or crashes later."""
    with pytest.raises(TypeError, match=r"bump_region\(\), RegionPool\.region\(\) or Region\.scope\(\)"):
        scopedbump.Region()
    with pytest.raises(TypeError):
        scopedbump.Region(1 << 20)  # that is the point
    with pytest.raises(TypeError):
        type("Mine", (scopedbump.Region,), {})()
    bare = scopedbump.Region.__new__(scopedbump.Region)
    with pytest.raises((AttributeError, TypeError)):
        bare.alloc(1)
    del bare
