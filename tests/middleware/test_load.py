"""Real servers under a mixed load: no request sees a byte of another, and nothing is left behind."""

from __future__ import annotations

import sys

import pytest

from helpers.load_service import MAX_IDLE, RETAIN
from helpers.serving import ask, load, serving

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="the listening socket is handed over as a file descriptor"),
    pytest.mark.skipif(
        sys.implementation.name != "cpython", reason="what is back at the end is told by reference counts"
    ),
]

MIB = 1 << 20
SERVERS = ["uvicorn-h11", "uvicorn-httptools", "waitress", "gunicorn", "gunicorn-preload"]


def under_load(server: str, warm_up: int, requests: int) -> None:
    workers = 2 if server.startswith("gunicorn") else 1
    with serving(server) as port:
        fresh = {report["pid"]: report for report in ask(port, workers=workers)}
        load(port, warm_up, seed=1000)
        warm = {report["pid"]: report for report in ask(port, workers=workers)}
        load(port, requests)
        after = {report["pid"]: report for report in ask(port, workers=workers)}
        closed = {report["pid"]: report for report in ask(port, "/close", workers=workers)}
    assert fresh.keys() == warm.keys() == after.keys() == closed.keys(), "a worker died"
    begun = 0
    for pid, report in after.items():
        assert report["wrong"] == []
        stats = report["stats"]
        begun += report["begun"]
        # The statistics add up.
        assert stats["leases"] == report["begun"] + report["leaked"]
        assert stats["hits"] + stats["misses"] == stats["leases"]
        assert (stats["out"], stats["escaped"]) == (0, 0)
        assert 0 < stats["idle"] <= MAX_IDLE
        assert stats["committed"] <= MAX_IDLE * RETAIN
        assert stats["peak"] < 2 * MIB
        # Mappings and memory are what they were; the libraries and stacks of threads come and go.
        assert report["maps"] <= warm[pid]["maps"] + 64
        assert report["ram"] <= warm[pid]["ram"] + 16 * MIB
        assert closed[pid]["stats"]["committed"] == closed[pid]["stats"]["idle"] == 0
        assert closed[pid]["maps"] <= report["maps"] - stats["idle"]
        assert closed[pid]["space"] < fresh[pid]["space"] + 1024 * MIB, "a reservation is left"
    # Those that quit in the middle of the request never began; fewer than one in ten quits at all.
    assert 0.9 * (warm_up + requests) <= begun <= warm_up + requests


@pytest.mark.parametrize("server", SERVERS)
def test_under_load(server: str) -> None:
    """Two thousand requests of all kinds, by sixteen clients at once."""
    under_load(server, 400, 1600)


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("server", ["uvicorn-httptools", "waitress", "gunicorn-preload"])
def test_a_hundred_thousand_requests(server: str) -> None:
    """The same for a hundred thousand requests: not one foreign byte, and not a mapping or a page left."""
    under_load(server, 4000, 100_000)


def bounded(server: str, when_full: str, requests: int) -> None:
    with serving(server, MAX_OUT="6", WHEN_FULL=when_full) as port:
        load(port, 800, seed=1000)
        (warm,) = ask(port)
        refused = load(port, requests)
        (after,) = ask(port)
    stats = after["stats"]
    assert after["wrong"] == []
    assert (stats["out"], stats["escaped"]) == (0, 0)
    assert stats["idle"] <= MAX_IDLE
    assert stats["refused"] - warm["stats"]["refused"] >= refused
    if when_full == "refuse":
        assert 0.2 * requests < refused < 0.8 * requests, refused
    else:
        assert refused == stats["refused"] == 0
        assert stats["waited"] > 0.2 * requests
    assert after["maps"] <= warm["maps"] + 64
    assert after["ram"] <= warm["ram"] + 16 * MIB


BOUNDED = [("uvicorn-httptools", "refuse"), ("uvicorn-httptools", "wait"), ("gevent", "refuse")]


def test_a_bounded_pool_under_load() -> None:
    """Half of the requests are refused: no foreign byte, nothing left, no more memory than before."""
    bounded("uvicorn-h11", "refuse", 800)


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("server", "when_full"), BOUNDED)
def test_a_bounded_pool_for_a_hundred_thousand_requests(server: str, when_full: str) -> None:
    """The same for a hundred thousand requests, which may also wait in turn instead."""
    bounded(server, when_full, 100_000)
