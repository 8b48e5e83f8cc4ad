"""The public names, and what importing them costs others."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest

import scopedbump
from helpers.support import needs_gil
from scopedbump import _atomic

PUBLIC = {
    "DEFAULT_SIZE",
    "FFI",
    "Allocator",
    "CData",
    "CffiAllocator",
    "CommitError",
    "CtypesAllocator",
    "Escape",
    "EscapeError",
    "EscapeWarning",
    "HeapAllocator",
    "NoRegionError",
    "PoolStats",
    "Region",
    "RegionBusyError",
    "RegionClosedError",
    "RegionFullError",
    "RegionPool",
    "ReserveError",
    "ScopedBumpError",
    "bump_region",
    "current_region",
    "heap",
}


def test_the_public_names_are_these() -> None:
    """`__all__`, and what `dir` shows without an underscore, are the pinned list; new names are added knowingly."""
    assert set(scopedbump.__all__) == PUBLIC
    assert len(scopedbump.__all__) == len(PUBLIC)
    assert {name for name in dir(scopedbump) if not name.startswith("_")} == PUBLIC
    assert all(getattr(scopedbump, name) is not None for name in PUBLIC)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        scopedbump.nothing  # type: ignore[attr-defined]  # noqa: B018


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_a_public_class_or_function_says_where_it_is_found(name: str) -> None:
    """Classes and functions name `scopedbump` as their module, so that reprs, tracebacks and pickles say it."""
    value: object = getattr(scopedbump, name)
    if inspect.isclass(value) or inspect.isfunction(value):
        assert value.__module__ == "scopedbump"
        assert value.__doc__
    else:
        assert name in {"DEFAULT_SIZE", "Escape", "heap"}


@pytest.mark.parametrize("name", ["NumpyAllocator", "NumpyHandler"])
def test_what_needs_numpy_is_found_but_not_imported_by_a_star(name: str) -> None:
    """`from scopedbump import *` works without NumPy."""
    assert name not in scopedbump.__all__
    pytest.importorskip("numpy", reason="NumPy is not installed")
    if not _atomic.atomic and name == "NumpyHandler":
        pytest.skip("NumPy's allocator can be a region only on CPython with a GIL")
    assert getattr(scopedbump, name).__module__ == "scopedbump"


def imported_by(statement: str) -> set[str]:
    """The modules that a fresh interpreter has after the statement and had not before."""
    code = f"import sys; before = set(sys.modules); {statement}; print(*sorted(set(sys.modules) - before), sep='\\n')"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_importing_pulls_in_nothing() -> None:
    """Importing scopedbump imports nothing else; it is there when it is used."""
    assert imported_by("import scopedbump") == {"scopedbump"}


@needs_gil("without one a region needs a lock")
def test_the_region_pulls_in_nothing_heavy() -> None:
    """The region needs cffi's module in C, and none of what is slow to import."""
    modules = imported_by("from scopedbump import bump_region")
    assert {"scopedbump._region", "_cffi_backend"} <= modules
    assert not {name for name in modules if name.startswith("scopedbump._adapters.")}
    assert not modules & {"numpy", "pycparser", "asyncio", "cffi", "ctypes", "typing_extensions", "inspect", "logging"}
    if sys.implementation.name == "cpython" and "typing" not in imported_by("import _cffi_backend"):
        assert not modules & {"typing", "collections", "functools", "weakref", "threading", "warnings"}


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/maps")
def test_importing_maps_nothing() -> None:
    """Importing scopedbump reserves no address space: no mapping without a file and without access is added."""
    code = """
import _cffi_backend

def reserved():
    with open("/proc/self/maps") as maps:
        lines = [line.split() for line in maps]
    return {fields[0] for fields in lines if fields[1] == "---p" and len(fields) == 5}

before = reserved()
from scopedbump import RegionPool, bump_region
assert reserved() <= before, reserved() - before
with bump_region(1 << 40):
    assert not reserved() <= before, "the test would not see a reservation"
"""
    subprocess.run([sys.executable, "-X", "faulthandler", "-c", code], check=True)
