"""The machine code of the fault handler is what the assembler makes of its source, and the ABI is what is declared."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path
from shutil import which

import pytest

from scopedbump import _debug
from scopedbump._debug import _machine

WORDS = "table:\n.quad 0\ncallback:\n.quad 0\nbefore:\n.quad 0\nsignal:\n.quad 0\nraise:\n.quad 0\n"


CODES = {
    "x86_64": (_machine.X86_64_SOURCE, _machine.X86_64),
    "windows": (_machine.WINDOWS_SOURCE, _machine.WINDOWS),
    "aarch64": (_machine.ARM64_SOURCE, _machine.ARM64),
}


@pytest.mark.parametrize("kind", CODES)
def test_the_code_is_what_its_source_says(kind: str, tmp_path: Path) -> None:
    """Assembling the source again gives the committed bytes."""
    machine = "aarch64" if kind == "aarch64" else "x86_64"
    prefix = "" if sys.platform == "linux" and os.uname().machine == machine else f"{machine}-linux-gnu-"
    found, copy = which(f"{prefix}as"), which(f"{prefix}objcopy")
    if found is None or copy is None:
        pytest.skip(f"there is no assembler for {machine}")
    source, code = CODES[kind]
    head = "" if machine == "aarch64" else ".intel_syntax noprefix\n"
    (tmp_path / "code.s").write_text(f"{head}.text\nhandler:\n{source}\n{WORDS}")
    subprocess.run([found, "-o", tmp_path / "code.o", tmp_path / "code.s"], check=True)
    subprocess.run([copy, "-O", "binary", "-j", ".text", tmp_path / "code.o", tmp_path / "code"], check=True)
    assert (tmp_path / "code").read_bytes() == code + bytes(40)


def test_the_words_behind_the_code_are_aligned() -> None:
    """Each machine's code is a multiple of eight bytes long: the words behind it are read as such."""
    assert all(len(code) % 8 == 0 for _, code in CODES.values())


def test_the_table_matches_nothing_while_an_entry_is_written() -> None:
    """Entries are used again, and an empty one ends before it begins."""
    if sys.platform == "win32":
        pytest.skip("the table is the same there, and its memory another")
    table = _machine.Table(1 << 12)
    most = (1 << 12) // 16 - 1
    assert all(table.add(start * 4096 + 4096, start * 4096 + 8192) for start in range(most))
    assert not table.add(1, 2)
    table.remove(4096)
    assert tuple(table._words[:2]) == (1, 0)
    assert table.add(1 << 40, 1 << 41)
    table.clear()
    assert not any(table._words[1::2])


def test_the_abi_modules_are_what_the_declarations_say(tmp_path: Path) -> None:
    """Regenerating them changes nothing."""
    pytest.importorskip("pycparser")
    importlib.import_module("scopedbump._debug._generate").generate(tmp_path)
    committed = Path(_debug.__path__[0])
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in committed.glob("_*_abi.py")}
    for made in tmp_path.iterdir():
        assert made.read_text() == (committed / made.name).read_text()
