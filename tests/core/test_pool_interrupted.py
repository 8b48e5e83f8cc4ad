"""A pool under exceptions of signal handlers: at every moment of a lease's end, what is held stays out of the pool."""

from __future__ import annotations

import gc
import sys
import warnings
from collections.abc import Callable

import pytest

from helpers.stress import Moment, at_moment, in_process, needs_cpython
from helpers.support import next_address
from scopedbump import Region, RegionPool

pytestmark = needs_cpython


def pinned(region: Region) -> tuple[Callable[[], object], object]:
    view = region.alloc(100)
    view[:] = b"\x11" * 100
    return region.close, view[:]


def viewed(region: Region) -> tuple[Callable[[], object], object]:
    return region.close, region.alloc(100)


def pinned_and_viewed(region: Region) -> tuple[Callable[[], object], object]:
    return region.close, [pinned(region)[1], *(region.alloc(10) for _ in range(3))]


def viewed_before_a_reset(region: Region) -> tuple[Callable[[], object], object]:
    held = [region.alloc(100) for _ in range(3)]
    region.reset()
    region.alloc(10)
    return region.close, held


def viewed_in_a_scope(region: Region) -> tuple[Callable[[], object], object]:
    with region.scope() as inner:
        held = inner.alloc(100)
    return region.close, held


def pinned_at_a_reset(region: Region) -> tuple[Callable[[], object], object]:
    return region.reset, pinned(region)[1]


def interrupt(scenario: str, number: int) -> Moment:
    """Raise at the N-th moment of what the scenario returns; what it holds lies apart from all leases after it."""

    def fail() -> None:
        raise KeyboardInterrupt

    pool = RegionPool(1 << 20, max_idle=8)
    region = pool.region()
    address = next_address(region)
    step, held = globals()[scenario](region)
    moment = at_moment(number, fail, step)
    region.close()
    assert region.closed
    del step, region
    others = [pool.region() for _ in range(4)]
    for other in others:
        assert next_address(other) != address, "somebody has what is held"
        block = other.alloc(1000)
        assert block == bytes(1000)
        block[:] = b"\xee" * 1000
    if isinstance(held, memoryview) and scenario.startswith("pinned"):
        assert held == b"\x11" * 100
    del held, block
    for other in others:
        other.close()
    del other, others
    gc.collect()
    stats = pool.stats()
    assert (stats.out, stats.escaped) == (0, 0), stats
    assert stats.idle >= 4, stats
    pool.close()
    return moment


def interrupt_everywhere(scenario: str) -> None:
    warnings.simplefilter("ignore")
    sys.unraisablehook = lambda what: None  # a callback was hit, which can't pass it on
    number = 0
    moment = interrupt(scenario, number)
    while moment.happened:
        number += 1
        try:
            moment = interrupt(scenario, number)
        except BaseException:
            print(f"{scenario}, moment {number}")
            raise
    assert number > 5
    print(number)


@pytest.mark.parametrize(
    "scenario",
    [pinned, viewed, pinned_and_viewed, viewed_before_a_reset, viewed_in_a_scope, pinned_at_a_reset],
)
def test_what_is_held_stays_out(scenario: Callable[..., object]) -> None:
    """Promise 4: interrupted anywhere, the end of a lease gives no memory to the next that something still holds."""
    in_process(__file__, "interrupt_everywhere", scenario.__name__)
