"""`python -m scopedbump run`: an unmodified program, with NumPy's memory in a region from its first line to its last.

The program runs in this process and as Python itself would run it: `__main__` is a fresh module that stays, sys.argv
and sys.path are the program's, an exception leaves through Python's own way out, and frames of ours are cut off its
traceback. Exit status and signals are Python's, for nobody stands between.

NumPy is not imported here. When the program has imported it, the region becomes its allocator, in the context of that
import: in the main thread, as a rule. So a program may still set what NumPy reads from the environment, and one
without NumPy costs nothing. Threads that the program starts, and processes but for forks, have NumPy's own memory.
"""

from __future__ import annotations

import atexit
import builtins
import importlib.util
import os
import pkgutil
import runpy
import sys
from argparse import Namespace
from collections.abc import Callable
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType, TracebackType
from typing import TYPE_CHECKING, cast

from .. import ScopedBumpError, bump_region

if TYPE_CHECKING:
    from importlib.abc import Loader

    from .. import NumpyHandler, Region


def prepare(chosen: Namespace) -> Callable[[], int]:
    """Take the memory, and return what runs the program. What that raises is the program's and goes on.

    Raises:
        ReserveError: there is no such memory.
    """
    memory = _Memory(bump_region(chosen.size, name="run"), chosen.min_bytes, chosen.report)
    sys.meta_path.insert(0, _Watch("numpy", memory.begin))
    atexit.register(memory.end)
    return lambda: _run(chosen)


def _run(chosen: Namespace) -> int:
    sys.modules["__main__"] = main = ModuleType("__main__")
    main.__dict__["__builtins__"] = builtins
    sys.argv = [chosen.program, *chosen.arguments]
    if chosen.module:
        sys.argv[0] = "-m"
        return _as_python_does(lambda: _run_module(chosen.program, True))
    if pkgutil.get_importer(chosen.program) is not None:  # a folder, or a zip file
        _search_first(chosen.program)
        return _as_python_does(lambda: _run_module("__main__", False))
    return _run_script(chosen.program, main)


def say(line: str) -> None:
    """A line to whoever started the program, beside its own output."""
    if sys.stderr is not None:
        print(f"scopedbump run: {line}", file=sys.stderr, flush=True)


# -- what Python does


def _run_script(program: str, main: ModuleType) -> int:
    path = os.path.join(os.getcwd(), program.removeprefix(f".{os.sep}"))  # noqa: PTH109, PTH118  # as Python does it
    try:
        source = Path(path).read_bytes()
    except OSError as error:
        reason = f"[Errno {error.errno}] {error.strerror}"
        print(f"{sys.executable}: can't open file {path!r}: {reason}", file=sys.stderr)
        return 2
    _search_first(os.path.dirname(os.path.realpath(path)))  # noqa: PTH120
    main.__file__ = path
    main.__loader__ = SourceFileLoader("__main__", path)
    main.__dict__["__cached__"] = None
    return _as_python_does(lambda: exec(_code(source, path), main.__dict__))


def _code(source: bytes, path: str) -> CodeType:
    if path.endswith(".pyc"):
        with Path(path).open("rb") as file:
            code: CodeType | None = pkgutil.read_code(file)
        if code is not None:
            return code
    return compile(source, path, "exec", dont_inherit=True)


def _run_module(name: str, alter_argv: bool) -> None:
    vars(runpy)["_run_module_as_main"](name, alter_argv)  # the function that `python -m` calls


def _search_first(folder: str) -> None:
    if not sys.flags.safe_path:
        sys.path[0] = folder


def _as_python_does(program: Callable[[], object]) -> int:
    """Call it. What it raises goes on, and is shown without the frames that lead here."""
    try:
        program()
    except SystemExit:
        raise
    except BaseException as error:
        _cut_traceback(error)
        raise
    return 0


def _cut_traceback(error: BaseException) -> None:
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_globals is globals():
        trace = trace.tb_next
    shown, hook = trace, sys.excepthook

    def show(kind: type[BaseException], error: BaseException, _: TracebackType | None) -> None:
        hook(kind, error.with_traceback(shown), shown)

    sys.excepthook = show


# -- NumPy's memory


class _Memory:
    """The region of the program, and NumPy's handler in it."""

    def __init__(self, region: Region, min_bytes: int | None, report: str | None) -> None:
        self._region = region
        self._min_bytes = min_bytes
        self._report = report
        self._process = os.getpid()
        self._handler: NumpyHandler | None = None
        self._refused = False

    def begin(self) -> None:
        """NumPy is there."""
        arrays = self._region.numpy
        try:
            handler = arrays.handler() if self._min_bytes is None else arrays.handler(self._min_bytes)
            handler.__enter__()
            self._handler = handler
        except (NotImplementedError, ScopedBumpError) as error:
            self._refused = True
            say(f"the program goes on with NumPy's own memory: {error}")

    def end(self) -> None:
        """The program is over."""
        if os.getpid() != self._process:
            return  # a child by a fork
        handler = self._handler
        if handler is not None:
            try:
                handler.__exit__(None, None, None)
            except RuntimeError:  # NumPy was imported in a task, or the program has a handler of its own
                pass
        elif not self._refused and self._report is None:
            say(f"{_why_not()}, so nothing of it was in a region")
        if self._report is not None:
            import json

            Path(self._report).write_text(json.dumps(self._figures()), encoding="utf-8")
        self._region.close()

    def _figures(self) -> dict[str, int | str]:
        handler = self._handler
        if handler is None:
            return {"why_not": "NumPy's memory could not be in a region here" if self._refused else _why_not()}
        return {
            "served_blocks": handler.served_blocks,
            "served_bytes": handler.served_bytes,
            "passed_bytes": handler.passed_bytes,
            "min_bytes": handler.min_bytes,
        }


def _why_not() -> str:
    if importlib.util.find_spec("numpy") is None:
        return "NumPy is not installed"
    return "the program did not use NumPy"


class _Watch:
    """Finder of modules: leaves one to the others, and calls `then` when it has been imported."""

    def __init__(self, name: str, then: Callable[[], None]) -> None:
        self._name = name
        self._then = then

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """What the others find, with a loader that says when it is done."""
        if name != self._name:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None:
            spec.loader = cast("Loader", _Then(spec.loader, self._then))
        return spec


class _Then:
    """The loader of one import. No subclass of `importlib.abc.Loader`: to import that takes longer than all of this."""

    def __init__(self, loader: Loader, then: Callable[[], None]) -> None:
        self._loader = loader
        self._then = then

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """As the loader itself does it."""
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """Load the module, as if this had not been here, and go on."""
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        self._then()
