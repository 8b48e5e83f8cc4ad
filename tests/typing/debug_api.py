"""What type checkers see of debug regions: read by mypy and pyright, never run."""

from __future__ import annotations

from typing import Literal, assert_type

from scopedbump import OverrunError, Region, RegionPool, bump_region, debug


def right() -> None:
    with bump_region(debug=True) as a, RegionPool(debug=None) as pool, pool.region() as b:
        assert_type(a, Region)
        assert_type(b.report(), str)
        assert_type(debug.findings(), tuple[debug.Finding, ...])
        assert_type(debug.check(a), tuple[debug.Finding, ...])
        assert_type(debug.holders(a), tuple[debug.Holder, ...])
        assert_type(debug.svg(a), str)
        assert_type(debug.on_fault("go_on"), Literal["die", "go_on"])
    try:
        a.close()
    except OverrunError as error:
        for finding in error.findings:
            assert_type(finding, debug.Finding)
            assert_type(finding.block, debug.BlockInfo | None)
            assert_type(finding.stack, tuple[str, ...])


def wrong() -> None:
    bump_region(debug="yes")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    debug.on_fault("stop")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    debug.check(b"")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
