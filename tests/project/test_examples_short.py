"""The short examples run as they stand: one for each framework, and asyncio_protocol.py."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from helpers import ROOT
from helpers.support import missing_imports

EXAMPLES = [*(ROOT / "examples" / "frameworks").glob("*.py"), ROOT / "examples" / "asyncio_protocol.py"]


@pytest.mark.parametrize("path", [pytest.param(path, id=path.stem) for path in sorted(EXAMPLES) if path.exists()])
def test_it_runs(path: Path) -> None:
    """Each ends with status 0, without a warning."""
    if missing := missing_imports(path.read_text(encoding="utf-8")):
        pytest.skip(f"needs {', '.join(missing)}")
    command = [sys.executable, "-X", "faulthandler", "-W", "error", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
