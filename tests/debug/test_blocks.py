"""Every byte beside a block is a guard or a canary, whatever its size and alignment; counting is as without debug."""

from __future__ import annotations

import ctypes
import threading
from typing import Any

import pytest

from helpers.support import run_threads
from scopedbump import OverrunError, Region, RegionFullError, bump_region, debug
from scopedbump._debug._blocks import Block, Ledger, Life
from scopedbump.debug import Finding

SIZES = [1, 2, 3, 7, 8, 15, 16, 17, 31, 32, 63, 64, 65, 100, 255, 1000, 2048, 4079, 4080, 4081, 4095, 4096, 4097]
ALIGNS = [1 << power for power in range(14)]

pytestmark = pytest.mark.usefixtures("going_on")


def found_after(region: Region, before: int) -> Finding:
    """The one finding that came since then."""
    debug.check(region)
    new = debug.findings()[before:]
    assert len(new) == 1, new
    return new[0]


def line_here() -> int:
    """The line that calls this."""
    import sys

    return sys._getframe(1).f_lineno


@pytest.mark.parametrize("align", ALIGNS)
def test_one_byte_over_or_under_is_found_for_every_size(align: int, library: Any) -> None:
    """A write of one byte past or before a block names that block and the line that made it, by guard or canary."""
    with pytest.raises(OverrunError) as caught, bump_region(1 << 24, debug=True) as a:
        for size in SIZES:
            for at in (size, -1):
                neighbour = a.alloc(16)
                block, line = a.alloc(size, align), line_here()
                address = a.address(block)
                assert address % align == 0
                assert bytes(block) == bytes(size)
                before = len(debug.findings())
                library.poke(address, at)
                finding = found_after(a, before)
                assert finding.block is not None
                assert (finding.block.address, finding.block.size) == (address, size), (size, align, at)
                assert f"test_blocks.py:{line} in " in finding.block.made
                assert finding.kind == "canary changed" or finding.kind.endswith("past" if at == size else "before")
                assert bytes(block) == bytes(size)
                assert bytes(neighbour) == bytes(16)
    assert len(caught.value.findings) == 2 * len(SIZES)


@pytest.mark.parametrize("align", ALIGNS)
def test_reads_and_writes_far_over_fault(align: int, library: Any) -> None:
    """A page past the end of the last block is a guard, for reads and for writes."""
    a = bump_region(1 << 24, debug=True)
    for size in SIZES:
        for touch, did in ((library.peek, "read past"), (library.poke, "write past")):
            address = a.address(a.alloc(size, align))
            before = len(debug.findings())
            touch(address, (size | 4095) + 1)
            finding = found_after(a, before)
            assert finding.kind == did
            assert finding.block is not None
            assert finding.block.address == address
            assert "test_blocks.py" in finding.stack[0]
    with pytest.raises(OverrunError):
        a.close()


@pytest.mark.parametrize("size", [16, 48, 4096, 8192])
def test_reading_one_byte_over_faults_where_the_alignment_lets_a_block_end_at_its_page(size: int, library: Any) -> None:
    """A block whose size is a multiple of its alignment has its guard at the very next byte."""
    with pytest.raises(OverrunError, match="a read 1 byte past the end"), bump_region(debug=True) as a:
        assert library.peek(a.address(a.alloc(size)), size) == 0


def test_both_neighbours_are_named_where_either_may_be_meant(library: Any) -> None:
    """A fault between two blocks names the nearer one first, and the other too."""
    a = bump_region(debug=True)
    first = a.address(a.alloc(16))
    second = a.address(a.alloc(4096))
    library.poke(second, -1)
    debug.check(a)
    library.poke(first, 16)
    near_second, near_first = debug.check(a)
    assert near_second.kind == "write before"
    assert near_second.block is not None
    assert near_second.block.address == second
    assert f"{first:#x}" in near_second.text
    assert near_first.kind == "write past"
    assert near_first.block is not None
    assert near_first.block.address == first
    assert f"{second:#x}" in near_first.text
    with pytest.raises(OverrunError):
        a.close()


def test_a_debug_region_counts_as_any_other() -> None:
    """size, used, peak, available, and what is refused are the same with and without debug."""
    plain, checked = bump_region(5000, debug=False), bump_region(5000, debug=True)
    with plain, checked:
        for size, align in [(1, 16), (7, 1), (0, 16), (100, 64), (1, 2), (4000, 8)]:
            for region in (plain, checked):
                region.alloc(size, align)
            assert (plain.size, plain.used, plain.peak) == (checked.size, checked.used, checked.peak)
            assert plain.available == checked.available
        refusals = []
        for region in (plain, checked):
            with pytest.raises(RegionFullError) as refusal:
                region.alloc(2000)
            refusals.append(str(refusal.value))
            region.alloc(refusal.value.available)
        assert refusals[0] == refusals[1]
        assert plain.used == checked.used


def test_memory_that_need_not_be_zero_is_not(library: Any) -> None:
    """zero=False memory of a debug region holds 0xA5, and all other is zero."""
    with bump_region(debug=True) as a:
        assert bytes(a.alloc(70_000, zero=False)) == b"\xa5" * 70_000
        assert bytes(a.alloc(5000)) == bytes(5000)
        assert bytes(a.copy(b"abc")) == b"abc"
        assert list(a.array("i", [1, 2])) == [1, 2]


def test_slabs_make_one_block_at_a_time(library: Any) -> None:
    """Each object of a slab has a guard of its own."""
    with pytest.raises(OverrunError), bump_region(debug=True) as a:
        blocks = a.slab(16)
        first, second = next(blocks), next(blocks)
        addresses = a.address(first), a.address(second)
        items = a.ctypes.slab(ctypes.c_int)
        all_of_them = [*addresses, ctypes.addressof(next(items)), ctypes.addressof(next(items))]
        del items
        for address, size in zip(all_of_them, (16, 16, 4, 4), strict=True):
            library.poke(address, size)
        assert [each.block.address for each in debug.check(a) if each.block] == all_of_them


def test_what_could_not_be_made_is_taken_back() -> None:
    """A refused initializer leaves the cursor where it was, and what comes next is zero and has its guard."""
    with bump_region(debug=True) as a:
        with pytest.raises(TypeError):
            a.ctypes.new(ctypes.c_int, "text")
        assert a.used == 0
        assert a.ctypes.new(ctypes.c_int).value == 0


def test_an_overrun_never_replaces_an_exception(library: Any) -> None:
    """An exception that leaves the block stays what it is; the finding is in findings()."""
    before = len(debug.findings())
    with pytest.raises(KeyError), bump_region(debug=True) as a:
        library.poke(a.address(a.alloc(16)), 16)
        raise KeyError
    assert len(debug.findings()) == before + 1


def test_a_scope_tells_its_own_findings(library: Any) -> None:
    """The end of a scope raises what was found in it, and the region around it does not say it again."""
    with bump_region(debug=True) as a:
        with pytest.raises(OverrunError), a.scope() as scope:
            library.poke(a.address(scope.alloc(16)), 16)
        with pytest.raises(KeyError), a.scope() as scope:
            library.poke(a.address(scope.alloc(16)), 16)
            raise KeyError
        assert len(debug.check(a)) == 1  # what the scope could not say
        with pytest.raises(OverrunError):
            a.close()


def test_without_room_for_guards_a_region_still_serves_all_of_its_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the addresses behind the shadow are used up blocks have no guard, and the report says so."""
    from scopedbump._debug import _memory

    monkeypatch.setattr(_memory, "_LEAST_ZONE", 1 << 16)
    monkeypatch.setattr(_memory, "_MOST_ZONE", 1 << 16)
    with bump_region(1600, debug=True) as a:
        blocks = [a.alloc(16) for _ in range(100)]
        assert a.available == 0
        assert "neither guard nor canaries" in a.report()
        assert all(bytes(block) == bytes(16) for block in blocks)
        assert len({a.address(block) for block in blocks}) == 100


def test_with_too_many_mappings_blocks_have_canaries(monkeypatch: pytest.MonkeyPatch, library: Any) -> None:
    """Where each guard takes mappings there is a bound to them; behind it blocks have canaries. The report says so."""
    from scopedbump._debug import _memory
    from scopedbump._pages import system_pages

    monkeypatch.setattr(type(system_pages), "light_guards", False)
    monkeypatch.setattr(_memory.Mapped, "most", _memory.Mapped.now + 3)
    if not _memory.MAPPINGS_COUNT:
        pytest.skip("mappings are not bounded here")
    with pytest.raises(OverrunError, match="canary changed"), bump_region(debug=True) as a:
        addresses = [a.address(a.alloc(16)) for _ in range(10)]
        assert "7 blocks have canaries and no guard" in a.report()
        library.poke(addresses[5], 16)
        assert "canary changed" in debug.check(a)[0].text
    assert _memory.Mapped.now <= _memory.Mapped.most


def test_a_block_is_found_while_others_are_noted_out_of_order() -> None:
    """Promise 9: threads note blocks in another order than they took them: none is taken for another one."""
    ledger = Ledger(0, 0, 1 << 40)
    life = Life("", False, None, [])

    def note(address: int) -> Block:
        block = Block(life, 16, 16, None, 0, 16, (address, address, address + 16))
        ledger.add(block)
        return block

    last = note(1 << 30)
    done = threading.Event()

    def others() -> None:
        for address in range(0, 20_000 * 16, 16):
            note(address)
        done.set()

    def look() -> None:
        while not done.is_set():
            assert ledger.around(last.address) == (last, None)

    run_threads(others, look)
    assert len(ledger.all()) == 20_001
