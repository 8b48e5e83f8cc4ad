"""cffi's own tests give the same results with every object that they make in a region as without."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest

from helpers import TESTS

cffi: Any = pytest.importorskip("cffi", reason="these are the tests of the whole of cffi")

FILES = ["cffi0/test_ffi_backend.py", "cffi1/test_new_ffi_1.py"]  # in-line, and of a generated module in API mode

# What differs, as it does with everything that `ffi.new_allocator` makes.
DIFFERS = {
    **dict.fromkeys(
        ["test_new_single_integer", "test_new_array_args", "test_new_array_varsize", "test_repr",
         "test_functionptr_simple", "test_pointer_to_array", "test_ffi_new_allocator_2"],
        "looks for `owning ... bytes` in a repr",
    ),
    "test_gc_disable": "`ffi.gc(object, None)` does nothing where it is refused for what ffi.new makes",
}  # fmt: skip


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sources of the cffi that is installed."""
    folder = tmp_path_factory.mktemp("sources")
    command = [
        "download",
        "--quiet",
        "--no-deps",
        "--no-binary",
        "cffi",
        "--dest",
        str(folder),
        f"cffi=={cffi.__version__}",
    ]
    done = subprocess.run([sys.executable, "-m", "pip", *command], capture_output=True, check=False, timeout=200)
    archives = list(folder.glob("*.tar.gz"))
    if done.returncode or not archives:
        pytest.skip("the sources of cffi can't be had")
    with tarfile.open(archives[0]) as archive:
        archive.extraction_filter = getattr(tarfile, "data_filter", None)  # since 3.11.4
        archive.extractall(folder)
    (found,) = folder.glob("*/testing")
    return found


def outcomes(sources: Path, folder: Path, region: bool) -> dict[str, Any]:
    """What became of each of cffi's tests, in a process of its own."""
    results = folder / f"{region}.json"
    environment = dict(
        os.environ,
        PYTHONPATH=os.pathsep.join([str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])]),
        SUITE_REGION=str(int(region)),
        SUITE_RESULTS=str(results),
    )
    options = ["-q", "-W", "ignore", "-o", "addopts=", "-p", "no:cacheprovider", "-p", "helpers.cffi_suite_plugin"]
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-m", "pytest", *options, *(sources / file for file in FILES)],
        cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=600,
    )  # fmt: skip
    assert results.exists() and done.returncode in (0, 1), done.stdout[-5000:] + done.stderr[-5000:]
    found: dict[str, Any] = json.loads(results.read_text())
    return found


@pytest.mark.long
@pytest.mark.timeout(1500)
@pytest.mark.skipif(not (shutil.which("gcc") or shutil.which("cc")), reason="cffi's tests need a C compiler")
@pytest.mark.skipif(sys.implementation.name != "cpython", reason="PyPy's cffi is its own, and words its errors so")
def test_cffis_own_tests_do_not_notice(sources: Path, tmp_path: Path) -> None:
    """Each test gives the same result, but for those that look at what no allocator of cffi does."""
    within, without = outcomes(sources, tmp_path, True), outcomes(sources, tmp_path, False)
    assert within["served"] > 500 and without["served"] == 0
    assert within["results"].keys() == without["results"].keys() and len(without["results"]) > 300
    differ = {
        name: (result, without["results"][name])
        for name, result in within["results"].items()
        if result != without["results"][name] and name.rpartition("::")[2] not in DIFFERS
    }
    assert not differ
