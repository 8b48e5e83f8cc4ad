"""The picture of a region that the README shows is what its example draws today."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from helpers import ROOT
from helpers.support import ENVIRONMENT

_PICTURE = ROOT / "examples" / "region.svg"


@pytest.mark.skipif(not _PICTURE.exists(), reason="the examples are not here")
@pytest.mark.skipif(sys.implementation.name != "cpython", reason="a scope gives nothing back before its region ends")
def test_the_picture_is_what_the_example_draws(tmp_path: Path) -> None:
    """Drawn again it differs in addresses only, and the README shows it."""
    drawn = tmp_path / "region.svg"
    done = subprocess.run(
        [sys.executable, "-W", "error", "examples/region_picture.py", str(drawn)],
        cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    now, shown = (
        re.sub("0x[0-9a-f]+", "0x", path.read_text(encoding="utf-8")).replace("\\", "/") for path in (drawn, _PICTURE)
    )
    assert now == shown
    assert "](examples/region.svg)" in (ROOT / "README.md").read_text(encoding="utf-8")
