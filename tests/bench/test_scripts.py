"""The scripts of this folder run and print figures; how large these are is nobody's business here."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import scopedbump

_HERE = Path(__file__).parent
_CHEAP_ROWS = "alloc( array( 'copy of' ctypes cffi c.new lease scope open 'buffers of 1 MiB' 'scopedbump;'"


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("growth.py", ["1,000", "100,000", "MiB"]),
        ("resident_memory.py", ["1 TiB reserved", "1,000,000 blocks"]),
        ("page_faults.py", ["fresh region", "bytearrays", "1.0 MiB"]),
        ("libraries.py", ["allocations", "zlib", "Lua"]),
        ("large_tables.py", ["young", "with the variables", "NumPy"]),
        ("frames.py 270p", ["270p", "young", "old", "ratio"]),
        ("import_time.py", ["_cffi_backend", "scopedbump"]),
        ("executors.py loop threads", ["loop", "threads", "bytearrays", "glibc's variables", "pool.scoped"]),
        (f"ratios.py {_CHEAP_ROWS}", ["alloc(64)", "ffi.new", "bytearrays, young", "bytearrays, old", "at most"]),
    ],
)
def test_script_prints_its_table(script: str, words: list[str]) -> None:
    """Each script ends with status 0 and prints its lines."""
    name, *arguments = shlex.split(script)
    command = [sys.executable, str(_HERE / name), "--quick", *arguments]
    # The package that is tested here need not be installed.
    environment = {**os.environ, "PYTHONPATH": str(Path(scopedbump.__file__).parents[1])}
    done = subprocess.run(command, capture_output=True, text=True, timeout=110, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    for word in words:
        assert word in done.stdout
