"""The sdist and the wheel hold what they should, and say the right things of themselves."""

from __future__ import annotations

import ast
import email
import subprocess
import sys
import tarfile
import zipfile
from email.message import Message
from pathlib import Path

import pytest

import scopedbump
from helpers import ROOT

pytest.importorskip("build", reason="builds the package")
pytest.importorskip("hatchling", reason="builds the package, without the network")

if not (ROOT / "scopedbump").is_dir():
    pytest.skip("the sources are not here", allow_module_level=True)
VERSION = scopedbump.__version__


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist and the wheel that was built from it."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def wheel(built: Path) -> zipfile.ZipFile:
    """The wheel."""
    return zipfile.ZipFile(built / f"scopedbump-{VERSION}-py3-none-any.whl")


@pytest.fixture(scope="module")
def described(wheel: zipfile.ZipFile) -> Message:
    """The wheel's metadata."""
    return email.message_from_bytes(wheel.read(f"scopedbump-{VERSION}.dist-info/METADATA"))


def sources() -> set[str]:
    """The package's files in the tree, as a wheel names them."""
    files = (path for path in (ROOT / "scopedbump").rglob("*") if path.is_file() and path.suffix != ".pyc")
    return {path.relative_to(ROOT).as_posix() for path in files}


def test_the_wheel_is_the_package_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    """Every file of the package is in the wheel, `py.typed` among them; no tests, examples, benchmarks or stubs."""
    names = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert names == sources()
    assert "scopedbump/py.typed" in names
    assert not [name for name in names if "bench" in name or b"pyperf" in wheel.read(name)]


def test_the_wheel_is_pure(wheel: zipfile.ZipFile) -> None:
    """One wheel for every Python 3 and every system."""
    about = wheel.read(f"scopedbump-{VERSION}.dist-info/WHEEL").decode()
    assert "Root-Is-Purelib: true" in about
    assert "Tag: py3-none-any" in about


def test_the_sdist_holds_all_that_is_needed_to_test(built: Path) -> None:
    """The sdist holds the package, the tests, the stubs, the README that the tests read, and no leftovers."""
    with tarfile.open(built / f"scopedbump-{VERSION}.tar.gz") as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    assert sources() <= names
    for name in ("README.md", "LICENSE", "pyproject.toml", "tests/conftest.py", "typings/_cffi_backend.pyi", ".ci/run"):
        assert name in names
    assert not [name for name in names if "__pycache__" in name or name.startswith((".venv", "dist", ".hypothesis"))]


def test_the_metadata(described: Message) -> None:
    """Name, version, licence, Python and dependencies are right: cffi is the only one at run time."""
    assert (described["Name"], described["Version"]) == ("scopedbump", VERSION)
    assert described["License-Expression"] == "CC0-1.0"
    assert described["License-File"] == "LICENSE"
    assert described["Requires-Python"] == ">=3.11"
    requirements = described.get_all("Requires-Dist") or []
    assert [line.split(">")[0] for line in requirements if "extra ==" not in line] == ["cffi"]
    assert set(described.get_all("Provides-Extra") or []) == {"numpy", "test"}


def test_the_long_description_is_the_readme(described: Message) -> None:
    """What an index shows is the README."""
    assert described["Description-Content-Type"] == "text/markdown"
    payload = described.get_payload(decode=True)
    assert isinstance(payload, bytes)
    assert payload.decode().strip() == (ROOT / "README.md").read_text(encoding="utf-8").strip()


def test_the_sources_parse_on_the_oldest_python(wheel: zipfile.ZipFile) -> None:
    """No file of the wheel uses syntax that Python 3.11 does not know."""
    for name in wheel.namelist():
        if name.endswith(".py"):
            ast.parse(wheel.read(name), name, feature_version=(3, 11))
