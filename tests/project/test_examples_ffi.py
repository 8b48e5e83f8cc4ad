"""The examples of foreign calls and of a typed library, run as their reader runs them."""

from __future__ import annotations

import os
import re
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


def test_an_overrun_is_found_both_ways() -> None:
    """The block, the line that made it and the one that called C are named; the README shows how the output begins."""
    pytest.importorskip("cffi")
    said = run("find_the_overrun.py")
    if "can't be told here" in said or "there is no" in said:
        pytest.skip(said)
    said = re.sub(r"\S*(examples/find_the_overrun\.py)", r"\1", said)
    said = re.sub(r"    at lib\S+ \(.*\)\n", "", said)  # which instruction that is depends on the library
    assert said.count("a write 1 byte past the end of the block of 4096 bytes") == 2, said
    for function in ("unpack_with_ctypes", "unpack_with_cffi"):
        place = rf"examples/find_the_overrun\.py:\d+ in {function}\n"
        assert re.search(rf"{function}: the right text, but\n.*\n.*, made at {place} +by {place}", said), said
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    shown = readme.partition("$ python examples/find_the_overrun.py\n")[2].partition("```")[0]
    shown = re.sub(r"    at lib\S+ \(.*\)\n", "", shown)
    expected, given = (re.sub("0x[0-9a-f]+", "0x", text) for text in (shown, said))
    assert shown and given.startswith(expected)


def test_a_library_that_takes_an_allocator_serves_all_callers() -> None:
    """The same results from a region, from scopes and from the heap."""
    said = run("typed_library.py")
    assert "the same from a region, from scopes and from the heap" in said
    assert "objects of C, the same for all callers: [b'one', b'two'], b'a body', b'a body'" in said
