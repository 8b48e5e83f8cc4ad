"""NumPy's own tests, each under a handler, pass as they do without."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from helpers import TESTS

np = pytest.importorskip("numpy", reason="NumPy is not installed")
if sys.implementation.name != "cpython" or not getattr(sys, "_is_gil_enabled", lambda: True)():
    pytest.skip("NumPy's allocator can be a region only on CPython with a GIL", allow_module_level=True)

PACKAGES = ["numpy.lib", "numpy.linalg", "numpy.ma", "numpy.random", "numpy.fft"]

# They set handlers of their own, by an extension module that they build, and look for the default by its name.
ABOUT_THE_DEFAULT = "test_mem_policy.py"


def outcomes(folder: Path, handler: bool, package: str, only: list[str] | None = None) -> dict[str, Any]:
    """What became of each of NumPy's tests, or of some, in a process of its own."""
    results, wanted = folder / f"{handler}.json", folder / "only.json"
    wanted.write_text(json.dumps(only))
    environment = dict(
        os.environ,
        NPY_AVAILABLE_MEM="1 GB",  # no test that wants more
        PYTHONPATH=os.pathsep.join([str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])]),
        SUITE_HANDLER=str(int(handler)),
        SUITE_ONLY=str(wanted),
        SUITE_RESULTS=str(results),
    )
    options = ["-q", "-W", "ignore", "-o", "addopts=", "-p", "no:cacheprovider", "-o", "timeout=600"]
    options += ["-m", "not slow"]  # as numpy.test() does
    command = [sys.executable, "-X", "faulthandler", "-m", "pytest", *options, "-p", "helpers.numpy_suite_plugin"]
    done = subprocess.run(
        [*command, "--pyargs", package],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=1500,
    )
    assert results.exists() and done.returncode in (0, 1, 5), done.stdout[-5000:] + done.stderr[-5000:]
    found: dict[str, Any] = json.loads(results.read_text())
    return found


def compare(folder: Path, package: str) -> None:
    """What did not pass under the handler gives the same result without it; and the region did serve."""
    under_it = outcomes(folder, True, package)
    assert under_it["served"] > 100 and len(under_it["results"]) > 50
    others = {name: result for name, result in under_it["results"].items() if result != "passed"}
    without = outcomes(folder, False, package, only=list(others))
    assert without["served"] == 0 and without["results"].keys() == others.keys()
    differ = {
        name: (result, without["results"][name])
        for name, result in others.items()
        if result != without["results"][name] and ABOUT_THE_DEFAULT not in name
    }
    assert not differ


@pytest.mark.long
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("package", ["numpy._core", *PACKAGES])
def test_numpys_own_tests_do_not_notice(package: str, tmp_path: Path) -> None:
    """Every test passes under a handler, or gives the same result as without one."""
    if package == "numpy._core" and np.__version__ < "2":
        package = "numpy.core"
    compare(tmp_path, package)
