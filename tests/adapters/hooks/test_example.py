"""The example of a library on a region, run as its reader runs it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import scopedbump
from helpers import ROOT

pytest.importorskip("cffi", reason="in-line ffi objects need the whole of cffi")


def test_hostile_documents_end_in_their_quota_and_good_ones_leave_nothing() -> None:
    """expat's own error, with the region's reason; and parsers that nobody frees."""
    path = ROOT / "examples" / "library_on_a_region.py"
    if not path.exists():
        pytest.skip("the examples are not here")
    found = os.pathsep.join([str(Path(scopedbump.__file__).parent.parent), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-W", "error", str(path)],
        capture_output=True, text=True, timeout=100, check=False, env={**os.environ, "PYTHONPATH": found},
    )  # fmt: skip
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    if "expat is not on this machine" in done.stdout:
        pytest.skip("expat is not on this machine")
    assert "1,000 parsers that were never freed" in done.stdout
    for name in ("deep nesting", "entities that explode"):
        assert f"{name}: out of memory (region 'a document' is full" in done.stdout
