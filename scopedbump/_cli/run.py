"""`python -m scopedbump run`: an unmodified program, with NumPy's memory in a region from its first line to its last.

The program runs in this process, as `__main__`; exit status, signals and tracebacks are Python's own, for nobody stands
between. NumPy is not imported here: when the program has imported it, the region becomes its allocator, in the context
of that import. So a program may still set what NumPy reads from the environment, and one without NumPy costs nothing.
Threads that the program starts, and processes but for forks, have NumPy's own memory.
"""

import atexit
import os
import pkgutil
import runpy
import sys
from argparse import Namespace
from contextlib import suppress
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

from .. import Region, ScopedBumpError, bump_region
from .. import _hints as hints
from .figures import size

SAYS = "scopedbump run: "


def run(chosen: Namespace) -> int:
    """Take the memory and run the program. What that raises goes on, and is shown without the frames that lead here."""
    try:
        memory = _Memory(bump_region(chosen.size, name="run"), chosen.min_bytes)
    except ScopedBumpError as error:
        print(f"{SAYS}{error}", file=sys.stderr)
        return 1
    sys.meta_path.insert(0, memory)
    atexit.register(memory.end)
    folder = pkgutil.get_importer(chosen.program) is not None  # or a zip file
    path = Path(chosen.program).absolute()
    if not chosen.module and not sys.flags.safe_path:
        sys.path[0] = chosen.program if folder else str(path.resolve().parent)
    sys.argv = ["-m" if chosen.module else chosen.program, *chosen.arguments]
    main = sys.modules["__main__"] = ModuleType("__main__")
    try:
        if chosen.module or folder:  # the function that `python -m` calls
            vars(runpy)["_run_module_as_main"](chosen.program if chosen.module else "__main__", chosen.module)
        else:
            main.__file__ = str(path)
            exec(compile(_source(path), str(path), "exec", dont_inherit=True), vars(main))
    except BaseException as error:
        shown, hook = error.__traceback__ and error.__traceback__.tb_next, sys.excepthook
        sys.excepthook = lambda kind, error, _: hook(kind, error.with_traceback(shown), shown)
        raise
    return 0


def _source(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as why:
        print(f"{sys.executable}: can't open file {str(path)!r}: [Errno {why.errno}] {why.strerror}", file=sys.stderr)
        raise SystemExit(2) from None


class _Memory:
    """The region of the program, and a finder of modules by which it learns that NumPy was imported."""

    def __init__(self, region: Region, min_bytes: int) -> None:
        self._region = region
        self._min_bytes = min_bytes
        self._handler: hints.NumpyHandler | None = None
        self._process = os.getpid()
        self._why = "the program did not use NumPy"

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """What the other finders have for NumPy; its loader goes on here when it is done."""
        if name != "numpy" or self._handler is not None:
            return None
        others = (finder.find_spec(name, None) for finder in sys.meta_path if finder is not self)
        spec = next(filter(None, others), None)
        if spec is not None and spec.loader is not None:
            loader, load = vars(spec.loader), spec.loader.exec_module

            def exec_module(module: ModuleType) -> None:
                del loader["exec_module"]
                load(module)
                self._begin()

            loader["exec_module"] = exec_module
        return spec

    def _begin(self) -> None:
        try:
            self._handler = self._region.numpy.handler(self._min_bytes).__enter__()
            self._why = f"NumPy asked for no block of {size(self._min_bytes)} or more (--min-bytes) that fits (--size)"
        except (NotImplementedError, ScopedBumpError) as error:
            self._why = str(error)

    def end(self) -> None:
        """The program is over. Whoever started it is told when this was of no use to it."""
        if os.getpid() != self._process:
            return  # a child by a fork
        with suppress(RuntimeError):  # NumPy was imported in a task, or the program has a handler of its own
            if self._handler is not None:
                self._handler.__exit__(None, None, None)
        if sys.stderr is not None and not (self._handler and self._handler.served_blocks):
            print(f"{SAYS}{self._why}, so nothing of it was in a region", file=sys.stderr, flush=True)
        self._region.close()
