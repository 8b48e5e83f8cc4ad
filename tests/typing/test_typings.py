"""The stubs in typings/ agree with the cffi that is installed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from helpers import ROOT

pytest.importorskip("mypy", reason="stubtest is part of mypy")

TYPINGS = ROOT / "typings"

ALLOWED = {
    # cffi answers these in C, where there is no method to find
    r"_cffi_backend\._CDataBase\.__getattr__",
    r"_cffi_backend\.Lib\.__getattr__",
    r"_cffi_backend\.buffer\.__buffer__",  # since Python 3.12 there is one
    r"_cffi_backend\.FFI\.getwinerror",  # on Windows alone
    r"_cffi_backend\.CData",  # the name that FFI gives to the class: FFI.CData
}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("module", ["_cffi_backend", "cffi"])
def test_the_stub_says_nothing_that_the_module_does_not_hold(module: str, tmp_path: Path) -> None:
    """mypy.stubtest finds every name of the stub in the installed module, with the same parameters."""
    allowlist = tmp_path / "allowed"
    allowlist.write_text("\n".join(sorted(ALLOWED)))
    done = subprocess.run(
        [sys.executable, "-m", "mypy.stubtest", module, "--ignore-missing-stub", "--ignore-unused-allowlist",
         "--allowlist", allowlist, "--concise"],
        env={**os.environ, "MYPYPATH": str(TYPINGS)}, cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_an_error_in_a_stub_is_seen(tmp_path: Path) -> None:
    """The check above can fail: a stub that names what isn't there is refused."""
    (tmp_path / "_cffi_backend.pyi").write_text("class FFI:\n    def nonsense(self) -> int: ...\n")
    done = subprocess.run(
        [sys.executable, "-m", "mypy.stubtest", "_cffi_backend", "--ignore-missing-stub", "--concise"],
        env={**os.environ, "MYPYPATH": str(tmp_path)}, cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "FFI.nonsense" in done.stdout
