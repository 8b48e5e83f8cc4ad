"""A pytest plugin for cffi's own tests: each has a region, in which `ffi.new` makes its objects, unless told not to.

Loaded by adapters/cffi/test_suite.py in a process of its own; writes what became of each test into the file that the
environment variable SUITE_RESULTS names.
"""

from __future__ import annotations

import json
import os
from collections.abc import Generator
from pathlib import Path
from typing import Any

import _cffi_backend
import cffi
import pytest

from scopedbump import RegionPool

_results: dict[str, str] = {}
_pool = RegionPool(1 << 28)
_region: Any = None
_served = 0


class _InRegion:
    """The `ffi` of a generated module, but for where its objects are made."""

    def __init__(self, ffi: Any) -> None:
        self.__dict__["of"] = ffi

    def __getattr__(self, name: str) -> Any:
        return getattr(self.of, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.of, name, value)

    def new(self, cdecl: Any, init: Any = None) -> Any:
        return _new(self.of, cdecl, init)


def _new(ffi: Any, cdecl: Any, init: Any = None) -> Any:
    global _served
    _served += 1
    return _region.cffi(ffi).new(cdecl, init)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Function) -> Generator[None, object, object]:
    """Call a test in a region of its own."""
    global _region
    if os.environ["SUITE_REGION"] == "0":
        return (yield)
    module: Any = item.module
    generated = getattr(module, "ffi", None)
    in_line: Any = cffi.FFI
    plain = in_line.new
    with _pool.region() as _region:
        in_line.new = _new
        if isinstance(generated, _cffi_backend.FFI):
            module.ffi = _InRegion(generated)
        try:
            return (yield)
        finally:
            in_line.new = plain
            if generated is not None:
                module.ffi = generated


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Note how each call ended, or what else went wrong."""
    if report.when == "call" or report.outcome != "passed":
        outcome = ("expected " if hasattr(report, "wasxfail") else "") + report.outcome
        _results[report.nodeid] = outcome if report.outcome != "failed" else f"{outcome}: {_reason(report)}"


def _reason(report: pytest.TestReport) -> str:
    return getattr(getattr(report.longrepr, "reprcrash", None), "message", "?").partition("\n")[0]


def pytest_sessionfinish() -> None:
    """Write it all down."""
    Path(os.environ["SUITE_RESULTS"]).write_text(json.dumps({"served": _served, "results": _results}))
