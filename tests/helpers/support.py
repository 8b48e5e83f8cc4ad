"""What several test files need: the mappings, scripts in a process of their own, a page source that refuses."""

from __future__ import annotations

import ast
import gc
import importlib.util
import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import scopedbump
from scopedbump import CommitError, Region, ReserveError
from scopedbump._pages import system_pages

MAPS = Path("/proc/self/maps")
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(scopedbump.__file__).parents[1])}
"""For children in another folder: they find the package that is tested here, which need not be installed."""

needs_maps = pytest.mark.skipif(sys.platform != "linux", reason="there is no /proc/self/maps to read")
counts_references = pytest.mark.skipif(
    sys.implementation.name != "cpython", reason="memory goes at the next collection where nothing counts references"
)


def needs_gil(reason: str) -> pytest.MarkDecorator:
    """Not on a free-threaded CPython."""
    return pytest.mark.skipif(not getattr(sys, "_is_gil_enabled", lambda: True)(), reason=reason)


forks_among_threads = needs_gil(
    "CPython leaves the locks of dicts that another thread used at the fork held in the child"
)


def collect() -> None:
    """Let what is dead die: nothing to do where references are counted."""
    if sys.implementation.name != "cpython":
        for _ in range(8):  # each may free only what nothing else that is dead refers to
            gc.collect()


def end_quarantine() -> None:
    """Give back what debug regions left guarded, where it is counted or looked at what was given back."""
    memory = sys.modules.get("scopedbump._debug._memory")
    while memory is not None and memory._quarantine:
        memory._let_oldest_go()


def mapped(address: int) -> bool:
    """Whether a mapping of this process covers `address`. What is in quarantine does not count."""
    end_quarantine()
    for line in MAPS.read_text().splitlines():
        start, stop = (int(part, 16) for part in line.split(" ", 1)[0].split("-"))
        if start <= address < stop:
            return True
    return False


def next_address(region: Region) -> int:
    """Where the next byte of an open region lies."""
    return region.address(region.alloc(0))


def run_script(code: str, *arguments: str, timeout: float = 60) -> str:
    """Run a script that may crash in a process of its own; its output, or a failure that shows all of it."""
    command = [sys.executable, "-X", "faulthandler", "-W", "error", "-c", textwrap.dedent(code), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
    assert done.returncode == 0, f"exit status {done.returncode}\n{code}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def run_threads(*bodies: Callable[[], object], timeout: float = 60) -> None:
    """Run the bodies at the same time, switching as often as can be; the first failure is raised."""
    failures: list[BaseException] = []
    begin = threading.Barrier(len(bodies))

    def guarded(body: Callable[[], object]) -> None:
        try:
            begin.wait(timeout)
            body()
        except BaseException as error:  # noqa: BLE001  # raised below
            failures.append(error)

    threads = [threading.Thread(target=guarded, args=(body,), daemon=True) for body in bodies]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout)
    finally:
        sys.setswitchinterval(interval)
    assert not any(thread.is_alive() for thread in threads), "a deadlock"
    if failures:
        raise failures[0]


def missing_imports(code: str) -> list[str]:
    """Optional packages that the code imports and that are not installed here."""
    imported: set[str] = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            imported.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            imported.add(node.module)
    packages = {name.partition(".")[0] for name in imported} - sys.stdlib_module_names - {"scopedbump"}
    return sorted(package for package in packages if importlib.util.find_spec(package) is None)


class FaultyPages:
    """The system's pages, refusing the N-th call (from 0) and keeping book of what is reserved."""

    def __init__(self, refuse: int = -1) -> None:
        self.page_size = system_pages.page_size
        self.granularity = system_pages.granularity
        self.huge_size = 0
        self.refuse = refuse
        self.calls: list[str] = []
        self.reserved: dict[int, int] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(system_pages, name)  # what can't be refused

    def _refuses(self, call: str) -> bool:
        self.calls.append(call)
        return len(self.calls) - 1 == self.refuse

    def reserve(self, size: int, taken: list[int]) -> None:
        if self._refuses("reserve"):
            raise ReserveError(12, "refused by the test")
        system_pages.reserve(size, taken)
        self.reserved[taken[-1]] = size

    def commit(self, address: int, size: int) -> None:
        if self._refuses("commit"):
            raise CommitError("refused by the test", errno=12)
        system_pages.commit(address, size)

    def decommit(self, address: int, size: int) -> None:
        if self._refuses("decommit"):
            raise CommitError("refused by the test", errno=12)
        system_pages.decommit(address, size)

    def discard(self, address: int, size: int) -> None:
        if not self._refuses("discard"):  # where it is refused nothing happens
            system_pages.discard(address, size)

    def release(self, taken: Iterator[int], size: int) -> Iterator[object]:
        for address in taken:
            refused = self._refuses("release")
            if not refused:
                refused = any(system_pages.release(iter((address,)), size))
                del self.reserved[address]
            yield refused
