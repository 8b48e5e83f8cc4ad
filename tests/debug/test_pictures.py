"""Reports and pictures of regions, and their blocks in tracemalloc's snapshots."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from scopedbump import RegionPool, bump_region, debug
from scopedbump._debug import _trace


def test_a_report_tells_the_totals_and_the_places() -> None:
    """Any region has totals; a debug region has a table by place too, the largest first."""
    with bump_region(debug=False, name="plain") as a:
        a.alloc(64)
        assert "used 64, peak 64" in a.report()
        assert "made at" not in a.report()
    with bump_region(debug=True) as a:
        for _ in range(3):
            a.alloc(100)
        a.alloc(4000)
        lines = a.report().splitlines()
        first = next(at for at, line in enumerate(lines) if "made at" in line) + 1
        assert lines[first].split()[:2] == ["1", "4000"]
        assert lines[first + 1].split()[:2] == ["3", "300"]
        assert all("test_pictures.py:" in line for line in lines[first : first + 2])


def test_a_region_of_a_middleware_that_was_not_used_has_a_report() -> None:
    """It has no memory yet, and so no blocks; with the first of them it has."""
    with RegionPool(1 << 20, debug=True) as pool, pool._region_on_demand(pool._options) as a:
        assert "used 0" in a.report()
        assert "used 0" in a._repr_html_()
        assert not debug.check(a)
        assert not debug.holders(a)
        assert debug.svg(a).startswith("<svg")
        a.alloc(10)
        assert "1 blocks" in a.report()


def test_a_picture_shows_blocks_by_place_and_fades_what_has_ended() -> None:
    """It is well-formed, has a colour for each place, and is faded where a scope has ended."""
    with bump_region(debug=True) as a:
        a.alloc(100)
        with a.scope() as scope:
            scope.alloc(50)
        picture = debug.svg(a)
        marks = [mark for mark in ET.fromstring(picture).iter("{http://www.w3.org/2000/svg}rect") if len(mark)]
        assert [mark.get("opacity") for mark in marks] == [None, "0.3"]
        assert len({mark.get("fill") for mark in marks}) == 2
        assert "test_pictures.py" in picture
        assert picture in a._repr_html_()
    with bump_region(debug=False) as a:
        assert "<svg" not in a._repr_html_()


def test_a_picture_of_many_blocks_is_bounded() -> None:
    """100,000 blocks make a picture of some hundred kilobytes at most."""
    with bump_region(debug=True) as a:
        chunk = a._chunk
        for _ in range(5000):
            a.alloc(16)
        small = len(debug.svg(a))
        assert chunk.life.blocks  # type: ignore[attr-defined]
        assert small < 1 << 20


@pytest.mark.skipif(_trace._found is None, reason="there is no tracemalloc to tell")
def test_blocks_are_in_the_snapshots_of_tracemalloc_until_they_end() -> None:
    """While tracemalloc traces, blocks are in a domain of their own; after the end they are gone."""
    import tracemalloc

    def bytes_of_blocks() -> int:
        snapshot = tracemalloc.take_snapshot().filter_traces([tracemalloc.DomainFilter(True, _trace.DOMAIN)])
        return sum(trace.size for trace in snapshot.traces)

    with bump_region(debug=True) as a:
        a.alloc(10)
        tracemalloc.start()
        try:
            a.alloc(1000)
            with a.scope() as scope:
                scope.alloc(500)
                assert bytes_of_blocks() == 1500
            assert bytes_of_blocks() == 1000
            a.close()
            assert bytes_of_blocks() == 0
        finally:
            tracemalloc.stop()
