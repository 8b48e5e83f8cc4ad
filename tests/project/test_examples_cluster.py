"""The example of a cluster: on processes that it makes itself, and on a cluster that runs already."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from helpers import ROOT
from helpers.support import ENVIRONMENT

pytest.importorskip("numpy", reason="NumPy is not installed")
pytest.importorskip("distributed", reason="distributed is not installed")
pytestmark = pytest.mark.long  # a cluster takes its time to start

EXAMPLE = ROOT / "examples" / "cluster.py"


def run(*arguments: str) -> str:
    """What the example prints."""
    command = [sys.executable, "-X", "faulthandler", str(EXAMPLE), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=150, env=ENVIRONMENT)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def assert_warm(output: str, frames: int) -> None:
    """All frames were done, and nearly all of them on warm memory."""
    assert output.startswith(f"{frames} frames in ")
    figures = re.findall(r"(\d+) regions, (\d+) of them on warm memory, (\d+) held", output)
    regions, warm, held = (sum(int(each[at]) for each in figures) for at in range(3))
    assert regions == frames and held == 0
    assert regions - warm <= 2 * len(figures)


@contextmanager
def started(*arguments: str, waits_for: str) -> Iterator[str]:
    """A part of a cluster; the line that says it is there."""
    command = [sys.executable, "-m", "distributed.cli." + arguments[0], *arguments[1:]]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT) as process:
        assert process.stderr is not None
        try:
            said: list[str] = []
            for line in process.stderr:
                said.append(line)
                if waits_for in line:
                    break
            else:
                pytest.fail("".join(said))
            yield line
        finally:
            process.kill()


def test_on_this_machine() -> None:
    """Two processes of its own."""
    assert_warm(run("--frames", "12"), 12)


def test_on_a_cluster_that_runs_already() -> None:
    """By the scheduler's address, with a worker that was started by hand and knows nothing of the program."""
    with started("dask_scheduler", "--port", "0", "--no-dashboard", waits_for="Scheduler at:") as line:
        address = line.split()[-1]
        with started("dask_worker", address, "--nthreads", "1", "--no-dashboard", waits_for="Registered to:"):
            assert_warm(run("--frames", "6", "--scheduler", address), 6)
