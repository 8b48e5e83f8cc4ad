"""A pytest plugin for NumPy's own tests: each in a region that is NumPy's allocator, unless told not to.

Loaded by adapters/numpy/test_suite.py in a process of its own; writes what became of each test into the file that the
environment variable SUITE_RESULTS names. Runs those alone that the file SUITE_ONLY lists, if it does.
"""

from __future__ import annotations

import json
import os
from collections.abc import Generator
from pathlib import Path

import pytest

from scopedbump import RegionPool

_results: dict[str, str] = {}
_served: list[int] = []
_pool = RegionPool(1 << 28)
_BEGIN = 1 << 20


def _key(nodeid: str, location: tuple[str, int | None, str]) -> str:
    name = nodeid.rpartition("::")[2] if "::" in nodeid else nodeid
    return f"{Path(location[0]).name}:{location[1]}:{location[2]}:{name}"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out what is not asked for."""
    only: list[str] | None = json.loads(Path(os.environ["SUITE_ONLY"]).read_text())
    if only is not None:
        wanted = set(only)
        items[:] = [item for item in items if _key(item.nodeid, item.location) in wanted]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol() -> Generator[None, object, object]:
    """Set up, call and tear down under a handler."""
    if os.environ["SUITE_HANDLER"] == "0":
        return (yield)
    with _pool.region() as region, region.numpy.handler(min_bytes=0) as handler:
        # Some tests count the references to the int 0 or 1 in the whole process: it shall be none of the counters.
        region.alloc(1000)
        handler.served_blocks = handler.served_bytes = handler.passed_blocks = handler.passed_bytes = _BEGIN
        result = yield
        _served.append(handler.served_blocks - _BEGIN)
        return result


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Note how each call ended, or what else went wrong."""
    if report.when == "call" or report.outcome != "passed":
        expected = "expected " if hasattr(report, "wasxfail") else ""
        _results[_key(report.nodeid, report.location)] = expected + report.outcome


def pytest_sessionfinish() -> None:
    """Write it all down."""
    Path(os.environ["SUITE_RESULTS"]).write_text(json.dumps({"served": sum(_served), "results": _results}))
