"""The example of NumPy temporaries runs, and both ways compute the same."""

from __future__ import annotations

import subprocess
import sys

import pytest

from helpers import ROOT

pytest.importorskip("numpy", reason="NumPy is not installed")
if sys.implementation.name != "cpython" or not getattr(sys, "_is_gil_enabled", lambda: True)():
    pytest.skip("NumPy's allocator can be a region only on CPython with a GIL", allow_module_level=True)

EXAMPLE = ROOT / "examples" / "numpy_temporaries.py"


def test_the_example_computes_the_same_both_ways() -> None:
    """It asserts that itself, and prints time and page faults of both ways."""
    command = [sys.executable, "-X", "faulthandler", "-W", "error", str(EXAMPLE), "256", "3"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("page faults") == 2 and "ratio" in done.stdout
