"""Promise 12: what type checkers say of the package, of correct client code and of wrong client code."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from helpers import ROOT

CLIENTS = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "tests" / "typing").glob("*_api.py"))
EXAMPLES = ["examples/ffi_calls.py", "examples/typed_library.py"]  # those that need no framework


def checker(name: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(importlib.util.find_spec(name) is None, reason=f"{name} is not installed")


needs_sources = pytest.mark.skipif(
    not (ROOT / "scopedbump").is_dir() or not (ROOT / "typings").is_dir(),
    reason="this is about the sources, and only the wheel is here",
)


needs_frameworks = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("aiohttp", "django", "flask")),
    reason="pyright knows the types of a framework where it is installed",
)


def run(*arguments: str, folder: Path = ROOT) -> str:
    """Run a checker on the sources; what it said, or a failure that shows it."""
    command = [sys.executable, "-m", *arguments]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        cwd=folder,
        timeout=110,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@needs_sources
@checker("mypy")
@pytest.mark.long  # of all three the gate has a leg
@pytest.mark.parametrize("platform", ["linux", "darwin", "win32"])
def test_mypy_is_content_on_every_platform(platform: str, tmp_path: Path) -> None:
    """Strict: right uses are accepted with their exact type, each wrong one is an error that an ignore names."""
    assert len(CLIENTS) >= 4
    run("mypy", "--strict", "--warn-unused-ignores", "--platform", platform, "--cache-dir", str(tmp_path),
        "--exclude", r"_pages/posix\.py" if platform == "win32" else "^$",
        "scopedbump", *CLIENTS, *EXAMPLES)  # fmt: skip


@needs_sources
@checker("pyright")
@needs_frameworks
@pytest.mark.long
def test_pyright_is_content() -> None:
    """The same in pyright's strict mode."""
    run("pyright", "--pythonpath", sys.executable, "scopedbump", *CLIENTS, *EXAMPLES)


@needs_sources
@checker("pyright")
@pytest.mark.long
def test_every_public_name_has_a_type(tmp_path: Path) -> None:
    """`pyright --verifytypes` finds nothing public whose type is missing, partial or ambiguous."""
    arguments = ["pyright", "--verifytypes", "scopedbump", "--ignoreexternal"]
    assert "Type completeness score: 100%" in run(*arguments, folder=tmp_path)


@needs_sources
@checker("mypy")
@pytest.mark.long
@pytest.mark.skipif(sys.platform == "win32", reason="stubtest wants the modules of this platform and not of others")
def test_stubtest_is_content(tmp_path: Path) -> None:
    """What the annotations of public names say is what is there at run time."""
    allowed = tmp_path / "allowed"
    # Public names are checked where they are found. An alias of Literal is a union to mypy, and none at run time. The
    # types of a framework are for type checkers alone: it is not imported before it is used.
    names = (
        r"scopedbump\._.*",
        r"scopedbump\.Escape",
        r"scopedbump\.aiohttp\.(Handler|Middleware|web)",
        r"scopedbump\.pytest_plugin\._Judge\._(findings|of_escapes)",
        r"scopedbump\.wsgi\._OpenTuple",
    )
    allowed.write_text("\n".join(names))
    run("mypy.stubtest", "scopedbump", "--mypy-config-file", "pyproject.toml", "--allowlist", str(allowed),
        "--ignore-unused-allowlist")  # fmt: skip
