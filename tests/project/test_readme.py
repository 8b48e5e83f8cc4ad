"""The README does what it says: its code runs, and its commands are those that are tried."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tomllib
from importlib.metadata import metadata
from pathlib import Path
from typing import NamedTuple

import pytest

from helpers import ROOT
from helpers.support import ENVIRONMENT, missing_imports
from scopedbump import _atomic

README = (ROOT / "README.md").read_text(encoding="utf-8")
DEMO = "python3 -m venv .venv && .venv/bin/python -m pip install -q . && .venv/bin/python -m scopedbump demo"
TESTS = "python3 -m venv .venv && .venv/bin/python -m pip install -q '.[test]' && .venv/bin/python -m pytest"


class Block(NamedTuple):
    """A fenced block: what language, from which line of the README, and its text."""

    language: str
    line: int
    text: str


def blocks(*languages: str) -> list[Block]:
    """The README's blocks in these languages, in order."""
    found = re.finditer(r"^```(\w+)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    every = [Block(match[1], README.count("\n", 0, match.start()) + 1, match[2]) for match in found]
    return [block for block in every if block.language in languages]


def commands(*languages: str) -> list[str]:
    """The commands in these blocks, one a line, without prompts, comments and output."""
    lines = [(block.language, line) for block in blocks(*languages) for line in block.text.splitlines()]
    shown = [line.removeprefix("$ ") for language, line in lines if language != "console" or line.startswith("$ ")]
    return [line.partition("  #")[0].strip() for line in shown if line.strip() and not line.startswith("#")]


def test_every_block_names_its_language() -> None:
    """No block escapes the tests below for want of a language, and none has one that nobody looks at."""
    fences = re.findall(r"^ *```(.*)$", README, re.MULTILINE)
    assert len(fences) % 2 == 0
    assert set(fences[::2]) <= {"python", "sh", "console", "powershell", "mermaid", "text"}
    assert set(fences[1::2]) == {""}


@pytest.mark.parametrize("block", [pytest.param(block, id=f"line-{block.line}") for block in blocks("python")])
def test_the_code_runs(block: Block, tmp_path: Path) -> None:
    """Each Python block runs on its own, from top to bottom, with warnings as errors."""
    if missing := missing_imports(block.text):
        pytest.skip(f"needs {', '.join(missing)}")
    if sys.implementation.name != "cpython" and "stats()" in block.text:
        pytest.skip("what is held is known only after a collection, where nothing counts references")
    if ".handler(" in block.text and not _atomic.atomic:
        pytest.skip("NumPy's allocator can be a region only on CPython with a GIL")
    # The file begins at the block's line, so that a traceback names the line of the README.
    script = tmp_path / "README.md.py"
    script.write_text("\n" * block.line + block.text, encoding="utf-8")
    run = "import runpy, sys; runpy.run_path(sys.argv[1], run_name='__main__')"
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-W", "error", "-c", run, script],
        cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.skipif(sys.platform != "linux" or sys.implementation.name != "cpython", reason="shows Linux's report")
def test_the_report_of_a_debug_region_is_real(tmp_path: Path) -> None:
    """What the README shows is what its code prints, but for addresses and lines."""
    (shown,) = (block.text for block in blocks("text"))
    (code,) = (block.text for block in blocks("python") if "debug=True" in block.text)
    (tmp_path / "request.py").write_text(code)
    command = [sys.executable, "request.py"]
    printed = subprocess.check_output(command, text=True, timeout=60, cwd=tmp_path, env=ENVIRONMENT)
    if "past the end" not in printed:
        pytest.skip(printed)

    def bare(text: str) -> str:
        return re.sub(r"0x[0-9a-f]+|:\d+|at \S+\+", "_", text.replace(f"{tmp_path}/", ""))

    assert bare(printed) == bare(shown)


def test_the_two_commands_are_those_that_the_gate_runs() -> None:
    """The README holds one command for the demo and one for the tests; `.ci/run` takes them from there by this form."""
    environments = [line for line in commands("sh") if line.startswith("python3 -m venv ")]
    assert environments == [DEMO, TESTS]


def test_windows_is_told_the_same() -> None:
    """The commands for PowerShell are the same two, as PowerShell wants them."""
    translated = [
        command.replace("python3 -m venv", "py -m venv")
        .replace(".venv/bin/python", r".venv\Scripts\python")
        .replace(" && ", "; ")
        .replace("'", '"')
        for command in (DEMO, TESTS)
    ]
    assert [line for line in commands("powershell") if line.startswith("py -m venv ")] == translated


@pytest.mark.parametrize("command", sorted(set(commands("sh", "console")) - {DEMO, TESTS}))
def test_every_other_command_exists(command: str) -> None:
    """A command that the README names elsewhere is one that this project has, with the options that it takes."""
    words = shlex.split(command)
    if words[:2] == ["bash", ".ci/run"]:
        if not (ROOT / ".ci").exists():
            pytest.skip("this is no checkout")
        assert (ROOT / ".ci" / "run").exists()
    elif "scopedbump" in words and words[words.index("scopedbump") - 1] == "-m":
        arguments = words[words.index("scopedbump") + 1 :]
        done = subprocess.run(
            [sys.executable, "-m", "scopedbump", *arguments[:1], "--help"], capture_output=True, text=True, check=True
        )
        for option in arguments[1:]:
            assert not option.startswith("-") or option in done.stdout
    elif words[1:4] == ["-m", "pip", "install"]:
        for named in re.findall(r"\[(.*?)\]", command):
            assert set(named.split(",")) <= set(metadata("scopedbump").get_all("Provides-Extra") or [])
        for group in re.findall("--group (.*)", command):
            assert group in tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]
    elif words[1:3] == ["-m", "pytest"]:
        assert (ROOT / "tests").is_dir()
    elif words[0].endswith("python") or words[0] == "python3":
        assert (ROOT / words[1]).is_file()
    else:
        assert words[:3] in (["sudo", "apt", "install"], ["git", "clone"]), f"nobody tries {command!r}"
