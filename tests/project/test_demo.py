"""`python -m scopedbump demo`: what it shows, on real files."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from scopedbump.__main__ import main
from scopedbump._cli import demo


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "_ROUNDS", 2)


def test_demo_needs_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a name it makes a file; it shows a request of several buffers, the memory, and an overrun."""
    assert main(["demo"]) == 0
    out, err = capsys.readouterr()
    assert not err
    rows = {line.split("  ")[0]: re.split(" {2,}", line)[1:] for line in out.splitlines()}
    assert rows["bytearrays"] and rows["bytearrays, later"] and rows["a region of a pool"]
    assert rows["64 MiB are written"][:2] == ["1.0 GiB", "64.0 MiB"]
    assert rows["the block has ended"][:2] == ["0 B", "0 B"]
    told = "16 bytes (align 16)" in out and "by demo.py:5 in <module>" in out
    assert told or "That can't be told here" in out


@pytest.mark.parametrize("size", [0, 1, 3_000_000])
def test_demo_reads_a_file_of_any_size(size: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of a small file it reads all, of a large one the first MiB."""
    path = tmp_path / "body"
    path.write_bytes(bytes(size))
    assert main(["demo", str(path)]) == 0
    assert "a region of a pool" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["nothing", "."])
def test_what_cannot_be_read(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file that is not there, or a folder, is named, with the system's reason and status 1."""
    assert main(["demo", str(tmp_path / name)]) == 1
    out, err = capsys.readouterr()
    assert err.startswith("scopedbump demo: [Errno") and repr(str(tmp_path))[1:-1] in err
    assert not out


@pytest.mark.skipif(sys.platform != "linux", reason="/proc/self/mem is Linux's")
def test_a_file_that_fails_while_it_is_read(capsys: pytest.CaptureFixture[str]) -> None:
    """An error in the middle of the work is reported, though the file could be opened."""
    assert main(["demo", "/proc/self/mem"]) == 1
    assert capsys.readouterr().err.startswith("scopedbump demo: ")


def test_demo_runs_as_a_module_on_a_file_of_any_name(tmp_path: Path) -> None:
    """`python -m scopedbump demo` takes a name that the terminal cannot write, and ends with status 0."""
    path = tmp_path / "naïve ☃.txt"
    path.write_bytes(b"some text " * 1000)
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-W", "error", "-m", "scopedbump", "demo", str(path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )
    assert done.returncode == 0, done.stderr
    assert "the block has ended" in done.stdout
