"""The public names, and what importing them costs others."""

from __future__ import annotations

import importlib.util
import inspect
import os
import pydoc
import re
import rlcompleter
import shutil
import subprocess
import sys
import typing
from collections.abc import Callable, Iterator
from pathlib import Path

import _cffi_backend
import pytest

import scopedbump
from helpers.support import needs_gil
from scopedbump import _atomic, _bytecode, debug

PUBLIC = {
    "DEFAULT_SIZE",
    "FFI",
    "Allocator",
    "CData",
    "CallbackRefusedError",
    "CffiAllocator",
    "CffiHooks",
    "CommitError",
    "CtypesAllocator",
    "CtypesHooks",
    "Escape",
    "EscapeError",
    "EscapeWarning",
    "HeapAllocator",
    "NoRegionError",
    "OpenRegion",
    "OverrunError",
    "PoolFullError",
    "PoolStats",
    "Region",
    "RegionBusyError",
    "RegionClosedError",
    "RegionFullError",
    "RegionPool",
    "ReserveError",
    "ScopedBumpError",
    "TypedAllocator",
    "Writer",
    "bump_region",
    "current_region",
    "heap",
}

METHODS = {
    "Region": {
        "address",
        "alloc",
        "array",
        "as_current",
        "available",
        "cffi",
        "close",
        "closed",
        "committed",
        "copy",
        "ctypes",
        "free",
        "name",
        "numpy",
        "peak",
        "released",
        "report",
        "reset",
        "scope",
        "size",
        "slab",
        "used",
        "writer",
    },
    "RegionPool": {"close", "closed", "name", "open_regions", "region", "scoped", "size", "stats"},
    "PoolStats": {
        "committed",
        "count",
        "escaped",
        "hits",
        "idle",
        "index",
        "leases",
        "misses",
        "out",
        "overflowed",
        "peak",
        "refused",
        "waited",
    },
    "Allocator": {"alloc"},
    "HeapAllocator": {"alloc", "cffi", "ctypes"},
    "CffiAllocator": {"ffi", "hooks", "new", "pointer", "slab", "string", "strings"},
    "CffiHooks": {"calloc", "free", "malloc", "own", "realloc", "refused"},
    "CtypesAllocator": {"array", "hooks", "new", "pointer", "slab", "string", "strings"},
    "CtypesHooks": {"calloc", "free", "malloc", "own", "realloc", "refused"},
}


@pytest.mark.parametrize("name", sorted(METHODS))
def test_the_public_methods_are_these(name: str) -> None:
    """What `dir` shows of a class without an underscore is the pinned list; new names are added knowingly."""
    assert {found for found in dir(getattr(scopedbump, name)) if not found.startswith("_")} == METHODS[name]


def signatures(thing: object) -> Iterator[Callable[..., object]]:
    """The public functions that a public name stands for, with `__init__` and the like."""
    if inspect.isfunction(thing):
        yield thing
    elif inspect.isclass(thing):
        for name, member in vars(thing).items():
            function = member.fget if isinstance(member, property) else member
            if inspect.isfunction(function) and (not name.startswith("_") or name.endswith("__")):
                yield function


@pytest.mark.parametrize("module", ["scopedbump", "scopedbump.asgi", "scopedbump.debug", "scopedbump.wsgi"])
def test_annotations_resolve(module: str) -> None:
    """`typing.get_type_hints` finds what every public signature names, as tools that work at run time do."""
    pytest.importorskip("numpy", reason="some signatures name types of NumPy's")
    names = [*PUBLIC, "NumpyAllocator", "NumpyHandler"] if module == "scopedbump" else ["ScratchMiddleware"]
    if module == "scopedbump.debug":
        names = [*debug.__all__]
    if not _atomic.atomic and "NumpyHandler" in names:
        names.remove("NumpyHandler")
    count = 0
    for name in names:
        for function in signatures(getattr(importlib.import_module(module), name)):
            if function.__module__ is not None and function.__module__.startswith("scopedbump"):
                hints = typing.get_type_hints(function)
                assert set(hints) <= {*inspect.signature(function).parameters, "return"}
                count += bool(hints)
    assert count >= (60 if module == "scopedbump" else 2)


def test_it_works_as_a_part_of_another_package(tmp_path: Path) -> None:
    """A copy under another name works, imports nothing under its own, and its commands run: all names are relative."""
    pytest.importorskip("numpy", reason="all modules are imported, NumPy's too")
    if not _bytecode.cpython:
        pytest.skip("what speaks to NumPy in C is for CPython")
    shutil.copytree(
        Path(scopedbump.__file__).parent, tmp_path / "app" / "parts" / "memory", ignore=shutil.ignore_patterns("*.pyc")
    )
    script = """
import importlib, pathlib, sys, warnings
from app.parts.memory import RegionPool, bump_region, current_region

package = pathlib.Path(sys.modules["app.parts.memory"].__file__).parent
for file in sorted(package.rglob("*.py")):
    name = ".".join(file.relative_to(package.parents[2]).with_suffix("").parts).removesuffix(".__init__")
    system = "posix" if sys.platform == "win32" else "windows"
    try:
        if not name.endswith(("." + system, ".__main__")):
            importlib.import_module(name)
    except ImportError as error:
        assert error.name in ("cffi", "numpy", "resource"), error
with bump_region(1 << 20) as a, a.as_current():
    current_region().alloc(8)
    assert a.ctypes.string("text").value == b"text"
with RegionPool(1 << 20) as pool, pool.region() as a:
    a.alloc(8)
assert not [name for name in sys.modules if name.partition(".")[0] == "scopedbump"], "another copy was imported"
print("done")
"""
    for arguments in (["-c", script], ["-m", "app.parts.memory", "info"]):
        done = subprocess.run(
            [sys.executable, "-W", "error", *arguments],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            check=False,
            env={**os.environ, "PYTHONPATH": str(tmp_path)},
        )
        assert done.returncode == 0, done.stderr
        assert "done" in done.stdout or "scopedbump" in done.stdout


def test_the_public_names_are_these() -> None:
    """What `dir` shows without an underscore is the pinned list; new names are added knowingly."""
    assert set(scopedbump.__all__) < PUBLIC
    assert {name for name in dir(scopedbump) if not name.startswith("_")} == PUBLIC
    assert all(getattr(scopedbump, name) is not None for name in PUBLIC)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        scopedbump.nothing  # type: ignore[attr-defined]  # noqa: B018


def test_help_of_the_package_fits_on_a_few_screens() -> None:
    """It names all that is public at once, and prints whole what one begins with."""
    lines = pydoc.plain(pydoc.render_doc(scopedbump)).splitlines()
    assert len(lines) < 300
    summary = "\n".join(lines[: lines.index("PACKAGE CONTENTS")])
    assert all(name in summary for name in PUBLIC)


def test_a_prompt_completes_the_public_names() -> None:
    """What Python's own prompt offers after a dot are the public names, of objects too, and nothing private."""
    pytest.importorskip("numpy", reason="what has no value is not offered, and Region.numpy needs NumPy")
    with scopedbump.bump_region(4096) as a:
        offered = rlcompleter.Completer({"scopedbump": scopedbump, "a": a, "c": a.ctypes, "heap": scopedbump.heap})
        kinds = {"a": "Region", "c": "CtypesAllocator", "heap": "HeapAllocator"}
        for prompt, expected in {"scopedbump": PUBLIC, **{each: METHODS[kind] for each, kind in kinds.items()}}.items():
            matches: list[str] = vars(rlcompleter.Completer)["attr_matches"](offered, f"{prompt}.")
            assert {match.removeprefix(f"{prompt}.").rstrip("()") for match in matches} == expected


@pytest.mark.parametrize(
    "name",
    [
        "Region",
        "Writer",
        "CtypesAllocator",
        "CffiAllocator",
        "CtypesHooks",
        "CffiHooks",
        "NumpyAllocator",
        "NumpyHandler",
    ],
)
def test_help_begins_with_what_a_class_is(name: str) -> None:
    """No arguments that are not for users come before the summary, which says how one gets such an object."""
    if name.startswith("Numpy"):
        pytest.importorskip("numpy", reason="NumPy is not installed")
    if not _atomic.atomic and name == "NumpyHandler":
        pytest.skip("NumPy's allocator can be a region only on CPython with a GIL")
    kind: type = getattr(scopedbump, name)
    assert kind.__doc__
    title, first, *_ = pydoc.plain(pydoc.render_doc(kind)).splitlines()[2:]
    assert title.startswith(f"class {name}(")
    assert first.removeprefix(" |  ") == kind.__doc__.splitlines()[0]
    assert "Region." in kind.__doc__ or "`a." in kind.__doc__


def test_the_summary_of_the_package_names_all_that_is_public() -> None:
    """The first screen of `help(scopedbump)` has every public name."""
    assert scopedbump.__doc__
    assert {*re.findall(r"\w+", scopedbump.__doc__)} >= PUBLIC
    assert len(scopedbump.__doc__.splitlines()) < 40


def test_reprs_say_whose_memory_it_is() -> None:
    """What a prompt shows of an adapter names the region, or the heap."""
    ffi = _cffi_backend.FFI()
    with scopedbump.bump_region(4096, name="work") as a:
        shown = repr(a)
        numpy = [a.numpy] if importlib.util.find_spec("numpy") else []
        for adapter in (a.ctypes, a.cffi(ffi), a.as_current(), *numpy):
            assert shown in repr(adapter) and "object at" not in repr(adapter)
    assert repr(scopedbump.heap) == "scopedbump.heap"
    assert repr(scopedbump.heap.ctypes) == "<scopedbump.CtypesAllocator: heap>"
    assert repr(scopedbump.heap.cffi(ffi)) == "<scopedbump.CffiAllocator: heap>"


@pytest.mark.parametrize("name", sorted(name for name in PUBLIC if name.endswith(("Error", "Warning"))))
def test_an_error_can_be_made_without_its_arguments(name: str) -> None:
    """As tblib does, with which Dask sends exceptions from process to process: `cls.__new__(cls)`, and then state."""
    kind = getattr(scopedbump, name)
    assert type(kind.__new__(kind)) is kind


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
