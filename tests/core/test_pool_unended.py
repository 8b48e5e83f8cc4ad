"""Regions of a pool that never came to their end: what they wrote is not seen by the next."""

from __future__ import annotations

import sys
import warnings
from contextlib import ExitStack

import pytest

from helpers.stress import CPYTHON, Moment, at_moment, collect, in_process, needs_cpython
from scopedbump import Region, RegionBusyError, RegionClosedError, RegionPool

FINALIZED = next(kind for kind in Region.__mro__ if "__del__" in vars(kind))
"""Where the finalizer is defined: PyPy asks there alone."""
SIZE = 1 << 20
WRITTEN = 300_000


def write(region: Region) -> None:
    region.alloc(WRITTEN)[:] = b"\x11" * WRITTEN


def look_at_the_next(pool: RegionPool, first: int) -> None:
    """As many leases at once as can't all come by without the memory at `first`: they read zeros from end to end.

    One after the other they would not do. What a lost region has used may come back in the middle of the next lease,
    which then took fresh memory; and what was given back last, that fresh memory, is what those after it get.
    """
    with ExitStack() as opened:
        leases = [opened.enter_context(pool.region()) for _ in range(4)]
        found = [lease.address(lease.alloc(16)) for lease in leases]
        assert first in found or not CPYTHON  # elsewhere a collection says when it is back
        for lease in leases:
            assert lease.alloc(SIZE - 16) == bytes(SIZE - 16), "bytes of a request that was before"


@pytest.mark.parametrize("moment", ["at once", "after a reset", "in a scope", "in the scope alone"])
def test_a_region_kept_from_its_end(moment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Promise 6: an exception of a signal handler may hit a finalizer at its first step, so that it does nothing."""
    with RegionPool(SIZE) as pool:
        a = pool.region()
        first = a.address(a.alloc(16))
        inner = a
        if moment == "after a reset":
            a.reset()
        elif "scope" in moment:
            inner = a.scope()
        write(inner)
        with monkeypatch.context() as interrupted:
            interrupted.setattr(FINALIZED, "__del__", lambda self: None)
            if moment == "in the scope alone":
                del inner
                collect()
                a.close()
            else:
                del a, inner
                collect()
        look_at_the_next(pool, first)


def lose_a_scope(depth: int, hold: bool, number: int) -> Moment:
    """Raise at the N-th moment of losing the innermost of `depth` scopes. What is around it is used on and closed."""

    def fail() -> None:
        raise KeyboardInterrupt

    with RegionPool(SIZE) as pool, pool.region() as a:
        first = a.address(a.alloc(16))
        around = [a]
        while len(around) < depth:
            around.append(around[-1].scope())
        lost = [around[-1].scope()]
        write(lost[0])
        held = lost[0].copy(b"held")[:] if hold else memoryview(b"held")
        moment = at_moment(number, fail, lost.clear)
        for region in reversed(around[1:]):
            region.close()
        if depth > 1:
            block = a.alloc(a.available, 1)
            assert hold or block.nbytes > WRITTEN, "the memory of a scope is taken again"
            assert block == bytes(block.nbytes), "bytes of a scope that was before"
            block[:] = b"\x22" * block.nbytes
            del block
        a.close()
        assert bytes(held) == b"held"
        del held
        look_at_the_next(pool, first)
    return moment


def lose_a_scope_at_every_moment(depth: int, hold: bool) -> None:
    warnings.simplefilter("ignore")
    sys.unraisablehook = lambda what: None  # the finalizer was hit, which can't pass it on
    number = 0
    while True:
        try:
            moment = lose_a_scope(depth, hold, number)
        except BaseException:
            print(f"lose_a_scope({depth}, {hold}, {number})")
            raise
        if not moment.happened:
            break
        number += 1
    print(number)


@needs_cpython
@pytest.mark.parametrize("hold", [False, True])
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_a_scope_that_is_interrupted_while_it_is_lost(depth: int, hold: bool) -> None:
    """Promises 6 and 11: its finalizer may come to nothing or stop anywhere, what is around it is closed properly."""
    assert int(in_process(__file__, "lose_a_scope_at_every_moment", depth, hold)) > 5


@needs_cpython
def test_a_scope_that_is_lost_in_the_middle_of_a_close(monkeypatch: pytest.MonkeyPatch) -> None:
    """Promise 6: at whatever moment of a close a handler opens a scope, which then does not come to its end."""
    number = came = 0
    moment = Moment()
    while not number or moment.happened:
        with RegionPool(SIZE) as pool:
            a = pool.region()
            first = a.address(a.alloc(16))

            def come(a: Region = a) -> None:
                nonlocal came
                try:
                    inner = a.scope()
                except (RegionBusyError, RegionClosedError):
                    return
                write(inner)
                came += 1
                with monkeypatch.context() as interrupted:
                    interrupted.setattr(FINALIZED, "__del__", lambda self: None)
                    del inner

            moment = at_moment(number, come, a.close)
            assert moment.error is None and a.closed
            look_at_the_next(pool, first)
        number += 1
    assert came
