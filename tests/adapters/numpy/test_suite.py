"""NumPy's own tests give the same results with every test under a handler as without."""

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


def outcomes(folder: Path, handler: bool, *packages: str) -> dict[str, Any]:
    """What became of each of NumPy's tests, in a process of its own."""
    results = folder / f"{handler}.json"
    environment = dict(
        os.environ,
        NPY_AVAILABLE_MEM="1 GB",  # no test that wants more
        PYTHONPATH=os.pathsep.join([str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])]),
        SUITE_HANDLER=str(int(handler)),
        SUITE_RESULTS=str(results),
    )
    options = ["-q", "-W", "ignore", "-o", "addopts=", "-p", "no:cacheprovider", "-o", "timeout=600"]
    command = [sys.executable, "-X", "faulthandler", "-m", "pytest", *options, "-p", "helpers.numpy_suite_plugin"]
    done = subprocess.run(
        [*command, "--pyargs", *packages],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=1500,
    )
    assert results.exists() and done.returncode in (0, 1), done.stdout[-5000:] + done.stderr[-5000:]
    found: dict[str, Any] = json.loads(results.read_text())
    return found


def compare(folder: Path, *packages: str) -> None:
    """The same tests, the same results, and the region did serve."""
    with_it, without = outcomes(folder, True, *packages), outcomes(folder, False, *packages)
    assert with_it["served"] > 100 and without["served"] == 0
    assert with_it["results"].keys() == without["results"].keys() and len(without["results"]) > 50
    differ = {
        name: (result, without["results"][name])
        for name, result in with_it["results"].items()
        if result != without["results"][name] and ABOUT_THE_DEFAULT not in name
    }
    assert not differ


def test_numpys_fft_tests_do_not_notice(tmp_path: Path) -> None:
    """The smallest of the packages, in every run."""
    compare(tmp_path, "numpy.fft")


@pytest.mark.long
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("package", ["numpy._core", *PACKAGES])
def test_numpys_own_tests_do_not_notice(package: str, tmp_path: Path) -> None:
    """Every test gives the same result under a handler as without one."""
    if package == "numpy._core" and np.__version__ < "2":
        package = "numpy.core"
    compare(tmp_path, package)
