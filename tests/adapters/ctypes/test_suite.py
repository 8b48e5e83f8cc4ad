"""The standard library's own tests of ctypes give the same results with every object made in a region."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from helpers import TESTS

# What they look at, and what it is good for them to see differ.
DIFFERENT = {
    "_objects, where the memory is kept too": {
        "test_cast.Test.test_p2a_objects",
        "test_internals.ObjectsTestCase.test_c_char_p",
        "test_internals.ObjectsTestCase.test_embedded_structs",
        "test_internals.ObjectsTestCase.test_ints",
        "test_internals.ObjectsTestCase.test_ptr_struct",
        "test_internals.ObjectsTestCase.test_simple_struct",
        "test_internals.ObjectsTestCase.test_xxx",
        "test_keeprefs.ArrayTestCase.test_cint_array",
        "test_keeprefs.PointerTestCase.test_p_cint",
        "test_keeprefs.SimpleTestCase.test_ccharp",
        "test_keeprefs.SimpleTestCase.test_cint",
        "test_keeprefs.StructureTestCase.test_ccharp_struct",
        "test_keeprefs.StructureTestCase.test_cint_struct",
        "test_keeprefs.StructureTestCase.test_struct_struct",
    },
    "a __new__ of the type's own, which is not called": {"test_init.InitTest.test_get"},
    "ctypes.resize, for memory that is the object's own": {"test_varsize_struct.VarSizeTest.test_resize"},
    "paramflags, which are refused": {"test_prototypes.CharPointersTestCase.test_paramflags"},
    "the words of the TypeError for an abstract type": {
        "test_arrays.ArrayTestCase.test_metaclass_details",
        "test_simplesubclasses.Test.test_metaclass_details",
        "test_structures.StructureTestCase.test_metaclass_details",
        "test_unions.ArrayTestCase.test_metaclass_details",
    },
}


def outcomes(folder: Path, how: str) -> dict[str, Any]:
    """What became of each test, in a process of its own."""
    results = folder / f"{how}.json"
    command = [sys.executable, "-X", "faulthandler", "-W", "ignore", str(TESTS / "helpers" / "ctypes_suite.py")]
    done = subprocess.run(
        [*command, str(results), how],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=250,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-5000:]
    found: dict[str, Any] = json.loads(results.read_text())
    return found


@pytest.mark.long
@pytest.mark.skipif(sys.implementation.name != "cpython", reason="it is CPython's ctypes that they test")
@pytest.mark.skipif(
    importlib.util.find_spec("test.test_ctypes" if sys.version_info >= (3, 12) else "ctypes.test") is None,
    reason="this Python comes without its tests",
)
def test_the_standard_librarys_tests_see_no_difference(tmp_path: Path) -> None:
    """As many tests, and the same ones fail: but those that look at how ctypes keeps and owns memory."""
    plain, region = outcomes(tmp_path, "plain"), outcomes(tmp_path, "region")
    assert plain["made"] == 0 and region["made"] > 10_000
    assert len(plain["found"]) > 300 and plain["found"].keys() == region["found"].keys()
    expected = set[str]().union(*DIFFERENT.values())
    differ = {
        name: region["found"][name] or "passes"
        for name, said in plain["found"].items()
        if bool(said) != bool(region["found"][name]) and ".".join(name.rsplit(".", 3)[1:]) not in expected
    }
    assert not differ, "\n\n".join(f"{name}:\n{said}" for name, said in differ.items())
