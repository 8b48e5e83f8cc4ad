"""The pytest plugin: what is found fails the test that did it, in its call phase, and the others go on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import scopedbump

tells_of_faults = pytest.mark.skipif(sys.implementation.name != "cpython", reason="CPython alone explains faults")
ROOT = Path(scopedbump.__file__).parent.parent

HEAD = """
import ctypes, pytest, scopedbump
kept = []
def poke(thing, at):
    ctypes.memset(ctypes.addressof(thing) + at, 1, 1)
"""


def run(folder: Path, tests: str, *arguments: str, alone: bool = True) -> tuple[int, str]:
    """Run tests in a pytest of their own, with no other plugins, which take longer; its exit status and output."""
    (folder / "test_them.py").write_text(HEAD + tests)
    (folder / "pytest.ini").touch(exist_ok=True)
    installed = [] if _is_installed() and not alone else ["-p", "scopedbump.pytest_plugin"]
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *installed, *arguments]
    environment = {**__import__("os").environ, "PYTHONPATH": str(ROOT), "COLUMNS": "400"}
    environment.pop("SCOPEDBUMP_DEBUG", None)
    if alone:
        environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=120, check=False, env=environment
    )
    return done.returncode, done.stdout + done.stderr


def _is_installed() -> bool:
    from importlib.metadata import entry_points

    return any(entry.value == "scopedbump.pytest_plugin" for entry in entry_points(group="pytest11"))


OVERRUN = """
def test_before(): pass
def test_overrun():
    with scopedbump.bump_region() as a:
        poke(a.ctypes.new(ctypes.c_int), 4)
def test_after():
    with scopedbump.bump_region() as a:
        a.alloc(16)
"""


@tells_of_faults
@pytest.mark.parametrize("how", ["option", "ini", "marker", "no faulthandler", "xdist"])
def test_an_overrun_fails_the_test_that_did_it(how: str, tmp_path: Path) -> None:
    """The test is FAILED, with its own section and the lines of both; the next tests run in the same process."""
    arguments = ["--scopedbump-debug"]
    tests = OVERRUN
    if how == "ini":
        (tmp_path / "pytest.ini").write_text("[pytest]\nscopedbump_debug = true\n")
        arguments = []
    elif how == "marker":
        tests = OVERRUN.replace("def test_overrun", "@pytest.mark.scopedbump(debug=True)\ndef test_overrun")
        arguments = ["--strict-markers"]
    elif how == "no faulthandler":
        arguments += ["-p", "no:faulthandler"]
    elif how == "xdist":
        pytest.importorskip("xdist")
        arguments += ["-p", "xdist", "-n", "1"]
    status, output = run(tmp_path, tests, *arguments)
    assert status == 1, output
    assert "1 failed, 2 passed" in output
    assert "Captured scopedbump call" in output
    assert "a write 1 byte past the end of the block of 4 bytes" in output
    line = 11 if how == "marker" else 10
    assert f"made at test_them.py:{line} in test_overrun" in output
    assert "by test_them.py:5 in poke" in output


@tells_of_faults
def test_each_kind_of_finding_fails_its_test(tmp_path: Path) -> None:
    """Canaries, use after the end, findings in the fixture's region, and escapes where the marker asks."""
    status, output = run(
        tmp_path,
        """
def test_canary(debug_region):
    poke(debug_region.ctypes.new(ctypes.c_int), -1)
def test_after_the_end():
    with scopedbump.bump_region() as a:
        address = a.address(a.alloc(16))
    ctypes.memset(address, 1, 1)
def test_fixture(debug_region):
    poke(debug_region.ctypes.new(ctypes.c_int), 4)
@pytest.mark.scopedbump(escapes=True)
def test_escape():
    with scopedbump.bump_region() as a:
        kept.append(a.ctypes.new(ctypes.c_int))
def test_no_escape_where_nobody_asks():
    with scopedbump.bump_region() as a:
        kept.append(a.ctypes.new(ctypes.c_int))
@pytest.mark.scopedbump(escapes=True)
def test_kept_traceback_is_no_escape():
    with scopedbump.bump_region() as a:
        def fail():
            number = a.ctypes.new(ctypes.c_int)
            raise ValueError
        with pytest.raises(ValueError) as info:
            fail()
@pytest.mark.scopedbump(debug=False)
def test_off():
    with scopedbump.bump_region() as a:
        poke(a.ctypes.new(ctypes.c_int), 4)
        assert "debug" not in a.report()
def test_its_own_failure_stays(debug_region):
    poke(debug_region.ctypes.new(ctypes.c_int), 4)
    raise KeyError("its own")
""",
        "--scopedbump-debug",
        "-v",
    )
    assert status == 1, output
    results = dict(line.split("::")[1].split()[:2] for line in output.splitlines() if " [" in line and "::" in line)
    assert results == {
        "test_canary": "FAILED",
        "test_after_the_end": "FAILED",
        "test_fixture": "FAILED",
        "test_escape": "FAILED",
        "test_no_escape_where_nobody_asks": "PASSED",
        "test_kept_traceback_is_no_escape": "PASSED",
        "test_off": "PASSED",
        "test_its_own_failure_stays": "FAILED",
    }
    assert "error" not in output.splitlines()[-1]
    assert "KeyError: 'its own'" in output
    assert "item 0 of the list 'kept' of test_them" in output


@pytest.mark.skipif(sys.platform == "win32", reason="there ctypes makes an OSError of a fault")
def test_a_real_crash_is_what_it_was(tmp_path: Path) -> None:
    """A fault that is no debug region's kills the process, and pytest's faulthandler shows it."""
    status, output = run(tmp_path, "def test_crash(debug_region):\n    ctypes.memset(8, 1, 1)\n", "--scopedbump-debug")
    assert status == -11
    assert "Fatal Python error: Segmentation fault" in output
    assert "in test_crash" in output


def test_nothing_is_imported_before_it_is_asked_for(tmp_path: Path) -> None:
    """With the plugin alone no module of the package but its own is there."""
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    status, output = run(
        tmp_path,
        """
def test_modules():
    import sys
    before = {name for name in sys.modules if name.startswith("scopedbump.")}
    assert before == {"scopedbump.pytest_plugin"}, before
""".replace("import ctypes, pytest, scopedbump", ""),
        alone=False,
    )
    assert status == 0, output


def test_a_wrong_marker_is_refused(tmp_path: Path) -> None:
    """An unknown argument is an error, not a test that silently checks nothing."""
    status, output = run(tmp_path, "@pytest.mark.scopedbump(debugg=True)\ndef test(): pass\n")
    assert status != 0
    assert "debugg" in output
