"""Regions of a pool that never came to their end: what they wrote is not seen by the next."""

from __future__ import annotations

import gc

import pytest

from scopedbump import RegionPool
from scopedbump._lease import Lease


@pytest.mark.parametrize("moment", ["at once", "after a reset", "in a scope", "in the scope alone"])
def test_a_region_kept_from_its_end(moment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Promise 6: an exception of a signal handler may hit a finalizer at its first step, so that it does nothing."""
    with RegionPool(1 << 20) as pool:
        a = pool.region()
        inner = a
        if moment == "after a reset":
            a.alloc(10)
            a.reset()
        elif "scope" in moment:
            inner = a.scope()
        inner.alloc(300_000)[:] = b"\x11" * 300_000
        with monkeypatch.context() as interrupted:
            interrupted.setattr(Lease, "__del__", lambda self: None)
            if moment == "in the scope alone":
                del inner
                gc.collect()
                a.close()
            else:
                del a, inner
                gc.collect()
        for _ in range(3):
            with pool.region() as b:
                assert b.alloc(500_000) == bytes(500_000)
