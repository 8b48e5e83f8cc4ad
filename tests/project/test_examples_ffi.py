"""The examples of foreign calls and of a typed library, run as their reader runs them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import scopedbump
from helpers import ROOT

# Where nothing counts references every region may have an escape at its end, and escape="warn" says so.
STRICT = ["-W", "error"] if sys.implementation.name == "cpython" else ["-W", "ignore"]


def run(name: str) -> str:
    """Run an example; its output, or a failure that shows it."""
    path = ROOT / "examples" / name
    if not path.exists():
        pytest.skip("the examples are not here")
    found = os.pathsep.join([str(Path(scopedbump.__file__).parent.parent), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", *STRICT, str(path)],
        capture_output=True, text=True, timeout=60, check=False, env={**os.environ, "PYTHONPATH": found},
    )  # fmt: skip
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def test_system_libraries_are_called_with_arguments_in_a_region() -> None:
    """Each call gives what it should, and nothing escapes its scope."""
    pytest.importorskip("cffi")
    said = run("ffi_calls.py")
    for what in (
        "writev" if sys.platform == "win32" else "readv: gathered from three places",
        "qsort",
        "zlib",
        "SQLite",
    ):
        assert what in said
    assert "getaddrinfo: 127.0.0.1:80" in said


def test_a_library_that_takes_an_allocator_serves_all_callers() -> None:
    """The same results from a region, from scopes and from the heap."""
    said = run("typed_library.py")
    assert "the same from a region, from scopes and from the heap" in said
    assert "objects of C, the same for all callers: [b'one', b'two'], b'a body', b'a body'" in said
