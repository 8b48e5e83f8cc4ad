"""The scripts of this folder run and print figures; how large these are is nobody's business here."""

from __future__ import annotations

import importlib.util
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.support import ENVIRONMENT
from scopedbump import _atomic

_HERE = Path(__file__).parent
_CHEAP_ROWS = "alloc( array( 'copy of' ctypes cffi c.new lease scope open 'buffers of 1 MiB' 'scopedbump;'"

needs_wrk = pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")
needs_uvicorn = pytest.mark.skipif(importlib.util.find_spec("uvicorn") is None, reason="uvicorn is not installed")
needs_handler = pytest.mark.skipif(
    not _atomic.atomic or importlib.util.find_spec("numpy") is None,
    reason="NumPy's allocator can be a region only on CPython with a GIL, with NumPy",
)


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("growth.py", ["1,000", "100,000", "MiB"]),
        ("resident_memory.py", ["1 TiB reserved", "1,000,000 blocks"]),
        ("libraries.py", ["allocations", "zlib", "Lua"]),
        ("batch_job.py loop threads", ["loop", "threads", "bytearrays", "glibc's variables", "pool.scoped"]),
        pytest.param("uploads.py", ["8 MiB", "writer", "bytearray", "list"], marks=needs_uvicorn),
        pytest.param(
            "requests_a_second.py",
            ["no scratch", "two buffers of 1 MiB"],
            marks=[needs_uvicorn, needs_wrk, pytest.mark.long],
        ),
        pytest.param("large_tables.py", ["young", "with the variables", "NumPy"], marks=needs_handler),
        pytest.param("frames.py 270p", ["270p", "young", "old", "ratio"], marks=needs_handler),
        (f"ratios.py {_CHEAP_ROWS}", ["alloc(64)", "ffi.new", "bytearrays, young", "bytearrays, old", "at most"]),
    ],
)
def test_script_prints_its_table(script: str, words: list[str]) -> None:
    """Each script ends with status 0 and prints its lines."""
    name, *arguments = shlex.split(script)
    command = [sys.executable, str(_HERE / name), "--quick", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=110, check=False, env=ENVIRONMENT)
    assert done.returncode == 0, done.stderr
    for word in words:
        assert word in done.stdout


def test_pyperf_measures_the_rows(tmp_path: Path) -> None:
    """Both sides of a row under pyperf, in its worker processes, and what it says of the two."""
    pytest.importorskip("pyperf")

    def python(*arguments: str) -> str:
        command = [sys.executable, *arguments]
        return subprocess.check_output(command, text=True, timeout=110, env=ENVIRONMENT, cwd=tmp_path)

    for side in ("ours", "theirs"):
        options = ("--debug-single-value", "--quiet", "--only", "alloc(0) / alloc(64)", "-o", f"{side}.json")
        python(str(_HERE / "bench.py"), "--side", side, *options)
    table = python("-m", "pyperf", "compare_to", "--table", "theirs.json", "ours.json")
    assert "theirs" in table and "ours" in table
