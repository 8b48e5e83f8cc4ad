"""Writers in a debug region: guarded at their limit, and behind what was filled once they are finished."""

from __future__ import annotations

from typing import Any

import pytest

from helpers.invariants import check
from scopedbump import OverrunError, RegionFullError, bump_region, debug

pytestmark = pytest.mark.usefixtures("going_on")
PAGE = 4096


def found_after(before: int) -> debug.Finding:
    """The one finding that came since then."""
    new = debug.findings()[before:]
    assert len(new) == 1, new
    return new[0]


@pytest.mark.parametrize("limit", [16, 4096, 5008, 1 << 20])
def test_a_writer_has_a_guard_behind_its_limit(limit: int, library: Any) -> None:
    """One byte past what a writer may grow to is a guard, before it is finished and after, when it is full."""
    with pytest.raises(OverrunError, match=f"of {limit} bytes"), bump_region(1 << 24, debug=True) as a:
        writer = a.writer(limit)
        writer.write(b"x" * limit)
        address = a.address(writer.getbuffer())
        for size in ("writer of up to", "block of"):
            before = len(debug.findings())
            library.poke(address, limit)
            finding = found_after(before)
            assert finding.kind == "write past"
            assert f"a write 1 byte past the end of the {size} {limit} bytes" in finding.text
            assert finding.block is not None
            assert "test_writers.py" in finding.block.made
            writer.close()
        assert bytes(writer.finish()) == b"x" * limit


@pytest.mark.parametrize("filled", [1, 100, 4095, 4096, 4097, 70_000])
@pytest.mark.parametrize("limit", [70_000, 10 << 20])
def test_a_finished_writer_has_a_guard_behind_what_was_filled(filled: int, limit: int, library: Any) -> None:
    """Behind the content come canaries, and from the next page on a guard: what could have been filled is gone."""
    with pytest.raises(OverrunError), bump_region(1 << 25, debug=True) as a:
        with a.writer(limit) as writer:
            writer.write(b"y" * filled)
        assert a.used == filled
        block = writer.finish()
        address = a.address(block)
        before = len(debug.findings())
        library.poke(address, filled)
        debug.check(a)
        finding = found_after(before)
        assert finding.kind in ("canary changed", "write past")
        assert f"1 byte past the end of the block of {filled} byte" in finding.text
        before = len(debug.findings())
        library.poke(address, filled + PAGE)
        assert found_after(before).kind == "write past"
        assert bytes(block) == b"y" * filled
        check(a)


def test_what_a_writer_did_not_ask_for_yet_is_a_guard(library: Any) -> None:
    """Far beyond what was filled nothing is there, and a fault says so; the writer then fills it with what is right."""
    said = "at byte 900000, where nothing was filled yet, of the writer of up to"
    with pytest.raises(OverrunError, match=said), bump_region(1 << 24, debug=True) as a:
        writer = a.writer(1 << 20)
        writer.write(b"abc")
        address = a.address(writer.getbuffer())
        before = len(debug.findings())
        library.poke(address, 900_000)
        assert found_after(before).kind == "write past"
        writer.write(bytes(range(256)) * 4095)
        a.alloc(16)
        assert bytes(writer.finish()) == b"abc" + bytes(range(256)) * 4095


def test_a_write_before_a_writer_is_found(library: Any) -> None:
    """What lies before its first byte holds canaries."""
    said = "canary changed: something wrote up to 1 byte before the start"
    with pytest.raises(OverrunError, match=said), bump_region(debug=True) as a:
        writer = a.writer(100)
        writer.write(b"abc")
        library.poke(a.address(writer.getbuffer()), -1)


def test_a_pointer_into_a_writer_faults_after_its_region(library: Any) -> None:
    """After the end of its scope, finished or not, a writer's block is guarded."""
    with pytest.raises(OverrunError, match="its scope ended"), bump_region(debug=True) as a:
        addresses = []
        with a.scope() as scope:
            for finish in (True, False):
                writer = scope.writer(5000)
                writer.write(b"abc")
                addresses.append(scope.address(writer.getbuffer()))
                if finish:
                    writer.close()
        assert a.used == 0
        check(a)
        for address in addresses:
            before = len(debug.findings())
            library.peek(address, 0)
            assert found_after(before).kind == "use after end"


def test_writers_count_as_without_debug() -> None:
    """What is used, left and refused is the same; so is what comes of several writers, scopes and resets."""

    def numbers(is_debug: bool) -> list[object]:
        seen: list[object] = []
        with bump_region(1 << 20, debug=is_debug) as a:

            def look(what: object = None) -> None:
                seen.append((a.used, a.available, a.peak, a.committed, what))
                check(a)

            a.alloc(100)
            first, second = a.writer(50_000, align=64), a.writer(1000)
            look()
            first.write(b"x" * 40_000)
            second.write(b"y" * 10)
            look()
            a.alloc(10)
            first.truncate(3)
            look(first.finish().tobytes())
            look(second.finish().tobytes())
            with a.writer() as last:
                last.write(b"z" * 100_000)
                look()
            look(len(last.finish()))
            with a.scope() as scope:
                inner = scope.writer(10_000)
                inner.write(b"abc")
                look((scope.used, scope.available, scope.peak))
            look()
            for size in (1 << 20, a.available + 1):
                with pytest.raises(RegionFullError) as caught:
                    a.writer(size)
                look(str(caught.value))
            a.reset()
            look()
            empty = a.writer(100)
            look(len(empty.finish()))
        seen.append(a.peak)
        return seen

    assert numbers(True) == numbers(False)


def test_where_the_addresses_are_used_up_a_writer_has_no_guard(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then it lies where it would without debug, and works as there."""
    from scopedbump._debug import _memory

    monkeypatch.setattr(_memory, "_LEAST_ZONE", 1 << 14)
    monkeypatch.setattr(_memory, "_MOST_ZONE", 1 << 14)
    with bump_region(1 << 20, debug=True) as a:
        with a.writer(100_000) as writer:
            writer.write(b"x" * 90_000)
            check(a)
        assert bytes(writer.finish()) == b"x" * 90_000
        assert a.used == 90_000
        check(a)
        assert "1 blocks have neither guard nor canaries" in a.report()


def test_many_writers_take_few_mappings(library: Any) -> None:
    """Small writers take no mapping each: a hundred thousand of them fit a process."""
    from pathlib import Path

    maps = Path("/proc/self/maps")
    if not maps.exists():
        pytest.skip("there is no way to count mappings here")
    with bump_region(debug=True) as a:
        if "marked within a mapping" not in a.report():
            pytest.skip("here each guard takes a mapping")
        before = maps.read_text().count("\n")
        for _ in range(500):
            with a.writer(1000) as writer:
                writer.write(b"abc")
        assert maps.read_text().count("\n") < before + 20
