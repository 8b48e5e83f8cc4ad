"""The short examples run as they stand: one for each framework, asyncio_protocol.py, and scoped_function.py."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from helpers import ROOT
from helpers.support import ENVIRONMENT, missing_imports

EXAMPLES = ROOT / "examples"
ALONE = [*(EXAMPLES / "frameworks").glob("*.py"), EXAMPLES / "asyncio_protocol.py"]

pytestmark = pytest.mark.skipif(not EXAMPLES.exists(), reason="the examples are not here")


def run(*command: str) -> None:
    """Run an example, whose children find the package that is tested."""
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", *command],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        env=ENVIRONMENT,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", [pytest.param(path, id=path.stem) for path in sorted(ALONE) if path.exists()])
def test_it_runs(path: Path) -> None:
    """Each ends with status 0, without a warning."""
    if missing := missing_imports(path.read_text(encoding="utf-8")):
        pytest.skip(f"needs {', '.join(missing)}")
    run("-W", "error", str(path))


@pytest.mark.long
@pytest.mark.parametrize(
    ("executor", "needs"),
    [
        ("threads", "concurrent"),
        ("asyncio", "asyncio"),
        ("processes", "concurrent"),
        ("multiprocessing", "multiprocessing"),
        ("joblib", "joblib"),
        ("dask", "distributed"),
    ],
)
def test_a_scoped_function_runs_in(executor: str, needs: str) -> None:
    """Each executor gives the results of the function, in a program of its own."""
    if importlib.util.find_spec(needs) is None:
        pytest.skip(f"needs {needs}")
    run(str(EXAMPLES / "scoped_function.py"), executor)
