"""After each kind of end the addresses stay, and whoever touches them is told which block it was, and how it ended."""

from __future__ import annotations

import ctypes
import os
import pickle
import subprocess
import sys
from typing import Any

import pytest

from helpers.invariants import check
from scopedbump import OverrunError, RegionPool, bump_region, debug
from scopedbump._debug import _memory

pytestmark = pytest.mark.usefixtures("going_on")


def used_after_end(address: int, library: Any) -> debug.Finding:
    """What a read there gives as the one finding."""
    before = len(debug.findings())
    assert library.peek(address, 0) == 0
    new = debug.findings()[before:]
    assert len(new) == 1, new
    assert new[0].kind == "use after end"
    assert new[0].block is not None
    assert new[0].block.address == address
    return new[0]


def test_a_scope_that_ended(library: Any) -> None:
    """A pointer into an ended scope faults, while its region goes on, and the region's end tells it."""
    with pytest.raises(OverrunError, match="its scope ended at"), bump_region(debug=True) as a:
        with a.scope() as scope:
            address = scope.address(scope.alloc(100))
        assert a.used == 0
        a.alloc(100)
        finding = used_after_end(address, library)
        assert "a scope" not in (finding.block.made if finding.block else "")
        assert "its scope ended at" in finding.text


def test_a_reset(library: Any) -> None:
    """A pointer from before a reset faults, and what is allocated after it lies elsewhere."""
    with pytest.raises(OverrunError, match="its region was reset at"), bump_region(debug=True) as a:
        address = a.address(a.alloc(100))
        a.reset()
        assert a.used == 0
        assert a.address(a.alloc(100)) != address
        used_after_end(address, library)


def test_a_reset_with_an_escape_moves(library: Any) -> None:
    """What is pinned at a reset is not guarded; the region goes on elsewhere, and canaries are looked at."""
    with pytest.raises(OverrunError, match="was reset at"), bump_region(debug=True) as a:
        kept = a.ctypes.new(ctypes.c_int, 7)
        address = ctypes.addressof(kept)
        a.reset()
        assert kept.value == 7
        del kept
        used_after_end(address, library)


def test_a_region_that_ended(library: Any) -> None:
    """A pointer into a closed region faults, and the finding says where it was closed."""
    with bump_region(debug=True, name="gone") as a:
        address = a.address(a.alloc(100))
    finding = used_after_end(address, library)
    assert "test_ends.py" in finding.text
    assert "'gone'" in finding.text


def test_what_is_pinned_is_not_guarded(library: Any) -> None:
    """An escape keeps its memory with its content; once it is gone the addresses are guarded too."""
    with bump_region(debug=True) as a:
        kept = a.ctypes.new(ctypes.c_int, 7)
    address = ctypes.addressof(kept)
    assert kept.value == 7
    del kept
    used_after_end(address, library)


def test_a_scope_that_is_pinned_is_not_guarded() -> None:
    """An escape from a scope can be read as long as it lives."""
    with bump_region(debug=True) as a:
        with a.scope() as scope:
            kept = scope.ctypes.new(ctypes.c_int, 7)
        a.alloc(100)
        assert kept.value == 7
    assert kept.value == 7


def test_every_lease_of_a_pool_has_fresh_addresses(library: Any) -> None:
    """A pointer that C kept faults instead of writing into the next request."""
    with RegionPool(debug=True, name="requests") as pool:
        seen: list[int] = []
        for _ in range(3):
            with pool.region() as a:
                seen.append(a.address(a.alloc(64)))
        assert len(set(seen)) == 3
        assert "'requests'" in used_after_end(seen[0], library).text
        stats = pool.stats()
        assert (stats.leases, stats.hits, stats.idle, stats.out, stats.escaped) == (3, 0, 0, 0, 0)
        with pool.region() as a:
            kept = a.ctypes.new(ctypes.c_int)
        assert pool.stats().escaped == 1
        address = ctypes.addressof(kept)
        del kept
        assert pool.stats().escaped == 0
        used_after_end(address, library)


def test_the_last_64_reservations_stay(library: Any) -> None:
    """Addresses are given back when 64 more regions have gone."""
    with bump_region(4096, debug=True) as a:
        address = a.address(a.alloc(16))
    for _ in range(_memory.QUARANTINED - 1):
        bump_region(4096, debug=True).close()
    used_after_end(address, library)
    assert len(_memory._quarantine) == _memory.QUARANTINED
    bump_region(4096, debug=True).close()
    assert len(_memory._quarantine) == _memory.QUARANTINED
    assert all(
        not gone.reservation.ledger.start <= address < gone.reservation.ledger.stop for gone in _memory._quarantine
    )


def test_many_scopes_in_one_region_stay_within_their_bounds() -> None:
    """Scope after scope in one region ends in an order that keeps all invariants."""
    with bump_region(1 << 20, debug=True) as a:
        for _ in range(500):
            with a.scope() as scope, scope.scope() as inner:
                inner.alloc(5000)
                check(a)
        check(a)
        assert a.used == 0
        assert a.peak == 5000


def test_a_debug_pool_is_one_in_other_processes() -> None:
    """What a pickle makes elsewhere has debug regions too, and is told what the environment there does not say."""
    code = """if True:
        import pickle, sys
        with pickle.loads(sys.stdin.buffer.read()).region() as a:
            print("a debug region" in a.report())
    """
    for is_debug in (True, False):
        environment = {**os.environ, "SCOPEDBUMP_DEBUG": "0" if is_debug else "1"}
        command = [sys.executable, "-c", code]
        with RegionPool(1 << 20, debug=is_debug) as pool:
            sent = pickle.dumps(pool)
            said = subprocess.run(command, input=sent, check=True, env=environment, capture_output=True).stdout
        assert said.decode().split() == [str(is_debug)]


def test_nothing_of_it_is_imported_before_it_is_asked_for() -> None:
    """An ordinary region, with all that it does, imports none of it."""
    code = """if True:
        import sys, scopedbump
        with scopedbump.bump_region(debug=False) as a, scopedbump.RegionPool(debug=False) as pool, pool.region() as b:
            a.alloc(1), a.ctypes, b.writer().write(b"abc"), a.report(), a._repr_html_()
            a.reset()
        assert not [name for name in sys.modules if "debug" in name and name.startswith("scopedbump")]
        scopedbump.bump_region(debug=True).close()
        assert "scopedbump._debug._chunk" in sys.modules
    """
    environment = {**os.environ, "SCOPEDBUMP_DEBUG": "1"}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)


@pytest.mark.parametrize(("variable", "argument", "is_debug"), [
    ("1", None, True), ("0", None, False), ("", None, False), ("1", False, False), ("", True, True),
])  # fmt: skip
def test_the_environment_says_what_is_not_said(variable: str, argument: bool | None, is_debug: bool) -> None:
    """SCOPEDBUMP_DEBUG=1 makes debug regions of programs as they are, and debug=False overrules it."""
    script = (
        "import scopedbump, sys\n"
        f"a = scopedbump.bump_region(debug={argument}); p = scopedbump.RegionPool(debug={argument})\n"
        "print('scopedbump._debug' in sys.modules, *('a debug region' in r.report() for r in (a, p.region())))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "SCOPEDBUMP_DEBUG": variable},
    )
    assert done.stdout.split() == [str(is_debug)] * 3
