"""The standard library's own tests of ctypes, with each object made in a region where they make one.

Run as a script by adapters/ctypes/test_suite.py, in a process of its own: `ctypes_suite.py RESULTS region|plain`. Every
call in the source of a test is asked first whether it makes an object of ctypes; what became of each test is written
into the file RESULTS.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import json
import pkgutil
import sys
import unittest
from ctypes import Structure
from pathlib import Path
from types import ModuleType
from typing import Any

from scopedbump import Region, bump_region

CTYPE: Any = Structure.__mro__[-2]
LOOK_AT_THEIR_CALLER = {"super", "locals", "vars", "dir", "eval", "exec"}

made = 0
region: Region | None = None


def call(function: Any, *args: Any, **kwargs: Any) -> Any:
    """Stands for each call in the tests."""
    global made
    if region is not None and isinstance(function, type) and issubclass(function, CTYPE):
        result: Any = region.ctypes.new(function, *args, **kwargs)
        made += 1
        return result
    return function(*args, **kwargs)


class _Calls(ast.NodeTransformer):
    def visit_Call(self, node: ast.Call) -> ast.Call:
        self.generic_visit(node)
        if isinstance(node.func, ast.Name) and node.func.id in LOOK_AT_THEIR_CALLER:
            return node
        name = ast.copy_location(ast.Name("__call_or_make__", ast.Load()), node)
        return ast.copy_location(ast.Call(name, [node.func, *node.args], node.keywords), node)


def load(name: str) -> ModuleType:
    """Import a module of tests with its calls replaced."""
    spec = importlib.util.find_spec(name)
    assert spec is not None and spec.origin is not None
    tree = ast.fix_missing_locations(_Calls().visit(ast.parse(Path(spec.origin).read_text(encoding="utf-8"))))
    module = importlib.util.module_from_spec(spec)
    module.__dict__["__call_or_make__"] = call
    sys.modules[name] = module
    exec(compile(tree, spec.origin, "exec"), module.__dict__)
    return module


class _Results(unittest.TestResult):
    def __init__(self, in_regions: bool) -> None:
        super().__init__()
        self.in_regions = in_regions
        self.found: dict[str, str] = {}

    def startTest(self, test: unittest.TestCase) -> None:  # noqa: N802  # the name is unittest's
        global region
        region = bump_region(1 << 28) if self.in_regions else None
        super().startTest(test)

    def stopTest(self, test: unittest.TestCase) -> None:  # noqa: N802  # the name is unittest's
        global region
        super().stopTest(test)
        if region is not None:
            region.close()
            region = None
        said = (what for failed, what in self.errors + self.failures if getattr(failed, "test_case", failed) is test)
        self.found[test.id()] = "\n".join(said)


def packages() -> list[str]:
    """Where the tests are, if they are there: since 3.12 they lie elsewhere."""
    name = "test.test_ctypes" if sys.version_info >= (3, 12) else "ctypes.test"
    package = importlib.import_module(name)
    modules = (module.name for module in pkgutil.iter_modules(package.__path__))
    return sorted(f"{name}.{module}" for module in modules if module.startswith("test_"))


def main(results: str, how: str) -> None:
    """Run them all, each test in a region of its own or in none."""
    result = _Results(how == "region")
    for name in packages():
        try:
            module = load(name)
        except unittest.SkipTest:
            continue
        unittest.defaultTestLoader.loadTestsFromModule(module).run(result)
    Path(results).write_text(json.dumps({"made": made, "found": result.found}))


if __name__ == "__main__":
    main(*sys.argv[1:])
