"""What importing costs, each time in a fresh interpreter."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Generator
from tempfile import TemporaryDirectory

from ..measure import Loop, Sides
from . import row

# time is built in; nothing else may be there before the clock starts.
_CODE = "import time; start = time.perf_counter(); import {0}; print(time.perf_counter() - start)"


def _import(name: str, environment: dict[str, str]) -> Loop:
    command = [sys.executable, "-c", _CODE.format(name)]

    def run(count: int) -> float:
        taken = 0.0
        for _ in range(count):
            child = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60, env=environment)
            taken += float(child.stdout)
        return taken

    run(1)
    return run


@row("import scopedbump", "import _cffi_backend", 3.0)
def scopedbump() -> Generator[Sides]:
    # With byte code that is there, as after an installation.
    with TemporaryDirectory() as cache:
        environment = {**os.environ, "PYTHONPYCACHEPREFIX": cache}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        ways = [_import(name, environment) for name in ("scopedbump", "_cffi_backend", "typing")]
        yield Sides(ways[0], ways[1], ways[2], "import typing", batch=1)
