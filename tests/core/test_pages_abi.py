"""The two generated ABI modules are what the declarations say."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from scopedbump import _pages

pytest.importorskip("pycparser", reason="generating the ABI modules needs pycparser")


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with both modules, generated now."""
    folder = tmp_path_factory.mktemp("abi")
    importlib.import_module("scopedbump._pages._generate").generate(folder)
    return folder


@pytest.mark.parametrize("name", ["_posix_abi.py", "_windows_abi.py"])
def test_the_committed_module_is_what_generating_gives(generated: Path, name: str) -> None:
    """Regenerating an ABI module changes nothing."""
    committed = Path(_pages.__path__[0]) / name
    assert (generated / name).read_text() == committed.read_text()


def test_nothing_else_is_generated_or_committed(generated: Path) -> None:
    """Each committed ABI module of the pages is one that is generated, and the other way round."""
    committed = {path.name for path in Path(_pages.__path__[0]).glob("_*_abi.py")}
    assert {path.name for path in generated.iterdir()} == committed
