"""What importing scopedbump costs, and where: `python tests/bench/import_time.py [--quick]`.

Every import in a fresh interpreter, with byte code that is there; the best of many.
"""

from __future__ import annotations

import os
import subprocess
import sys
from tempfile import TemporaryDirectory

from scopedbump._cli import text

_NAMES = ("_cffi_backend", "typing", "weakref", "mmap", "threading", "scopedbump")
_CODE = "import time; start = time.perf_counter(); import {0}; print(time.perf_counter() - start)"


def seconds(name: str, times: int, environment: dict[str, str]) -> float:
    """The best time of an import."""
    command = [sys.executable, "-c", _CODE.format(name)]
    return min(
        float(subprocess.check_output(command, text=True, timeout=60, env=environment)) for _ in range(times + 1)
    )


def dearest(environment: dict[str, str], most: int) -> list[tuple[str, float]]:
    """The modules that take the longest by themselves when scopedbump is imported, in seconds."""
    command = [sys.executable, "-X", "importtime", "-c", "import scopedbump"]
    child = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60, env=environment)
    found: list[tuple[str, float]] = []
    for line in child.stderr.splitlines():
        own, _, name = line.removeprefix("import time:").split("|")
        if own.strip().isdecimal():
            found.append((name.strip(), int(own) / 1e6))
    return sorted(found, key=lambda each: -each[1])[:most]


def main(quick: bool) -> None:
    """The imports side by side, then the dearest modules of the last."""
    with TemporaryDirectory() as cache:
        environment = {**os.environ, "PYTHONPYCACHEPREFIX": cache}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        names, times = (_NAMES[::5], 1) if quick else (_NAMES, 20)
        rows = [(name, text.duration(seconds(name, times, environment))) for name in names]
        print(text.table([("import", "time"), *rows]))
        if sys.implementation.name == "cpython":
            rows = [(name, text.duration(own)) for name, own in dearest(environment, 3 if quick else 20)]
            print("\n" + text.table([("of import scopedbump, by itself", "time"), *rows]))


if __name__ == "__main__":
    main("--quick" in sys.argv)
