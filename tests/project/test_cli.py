"""The command line: arguments, exit statuses, and what `info` says."""

from __future__ import annotations

import mmap
import subprocess
import sys

import pytest

from helpers.support import collect, needs_gil
from scopedbump import __version__, bump_region
from scopedbump.__main__ import main
from scopedbump._cli import figures, info


def test_info_states_the_system_and_what_a_region_costs(capsys: pytest.CaptureFixture[str]) -> None:
    """`info` names version, page size, limits and the four states of a region."""
    assert main(["info"]) == 0
    out, err = capsys.readouterr()
    assert not err
    assert out.startswith(f"scopedbump {__version__}\n")
    for word in ("machine", "Python", "GIL", "cffi", "granularity", "overcommit mode", "huge pages"):
        assert word in out
    assert figures.size(mmap.PAGESIZE) in out
    assert "1.0 GiB" in out
    assert "opened and closed in" in out


def test_info_runs_as_a_module() -> None:
    """`python -m scopedbump info` ends with status 0."""
    done = subprocess.run(
        [sys.executable, "-m", "scopedbump", "info"], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "address-space limit" in done.stdout


@pytest.mark.parametrize("arguments", [[], ["nonsense"], ["bench"], ["info", "extra"], ["demo", "a", "b"]])
def test_wrong_arguments_are_a_usage_error(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """What cannot be understood ends with status 2 and the usage on stderr."""
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2
    assert "usage:" in capsys.readouterr().err


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    """`--version` prints the version."""
    with pytest.raises(SystemExit) as end:
        main(["--version"])
    assert end.value.code == 0
    assert capsys.readouterr().out == f"scopedbump {__version__}\n"


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX pipes")
def test_a_reader_that_goes_away_is_no_traceback() -> None:
    """A closed pipe on stdout ends the command with status 1 and nothing on stderr."""
    command = [sys.executable, "-m", "scopedbump", "info"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stdout is not None and child.stderr is not None
        child.stdout.close()
        errors = child.stderr.read()
        assert child.wait(60) == 1
    assert not errors


@pytest.mark.skipif(sys.platform == "win32", reason="RLIMIT_AS is POSIX")
@needs_gil("without one the interpreter itself takes more address space than this limit")
def test_info_under_an_address_space_limit_says_what_is_wrong() -> None:
    """When the system refuses a default region, `info` ends with status 1 and the system's reason."""
    code = (
        "import resource, sys; from scopedbump.__main__ import main;"
        "resource.setrlimit(resource.RLIMIT_AS, (900 << 20, -1)); sys.exit(main(['info']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    if done.returncode == 0 and sys.platform == "darwin":
        pytest.skip("macOS does not enforce RLIMIT_AS")
    assert done.returncode == 1, done.stderr
    assert "900.0 MiB" in done.stdout
    assert "cannot reserve" in done.stderr and "Traceback" not in done.stderr


def test_the_command_line_costs_the_import_nothing() -> None:
    """Importing scopedbump brings in nothing of the command line."""
    code = "import sys, scopedbump; print([n for n in sys.modules if n.startswith('scopedbump._cli')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.skipif(figures.resident() is None, reason="/proc/self/smaps_rollup is Linux's")
def test_resident_memory_follows_what_is_touched() -> None:
    """Resident memory grows by what is written to, and falls when it is given back."""

    def resident() -> int:
        return figures.resident() or 0

    before = resident()
    size = 64 << 20
    with bump_region(size) as region:
        block = region.alloc(size)
        assert resident() - before < size // 4
        for at in range(0, size, mmap.PAGESIZE):
            block[at] = 1
        assert resident() - before > size * 3 // 4
        del block
    collect()
    assert resident() - before < size // 4


@pytest.mark.parametrize(
    ("count", "written"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1 << 20, "1.0 MiB"),
        ((1 << 20) - 1, "1.0 MiB"),
        (1 << 30, "1.0 GiB"),
        (1 << 63, "8.0 EiB"),
        (-4096, "-4.0 KiB"),
        (None, "unknown"),
    ],
)
def test_sizes_are_written_for_people(count: int | None, written: str) -> None:
    """A count of bytes is written with the unit that fits."""
    assert figures.size(count) == written


@pytest.mark.parametrize(
    ("seconds", "written"),
    [
        (3.14e-8, "31.4 ns"),
        (9.99e-7, "999 ns"),
        (1e-6, "1.00 us"),
        (0.0015, "1.50 ms"),
        (0.25, "250 ms"),
        (2.5, "2.50 s"),
    ],
)
def test_times_are_written_in_three_figures(seconds: float, written: str) -> None:
    """A time is written with the unit that fits and three figures."""
    assert figures.duration(seconds) == written


def test_tables_align_their_columns() -> None:
    """The first column stands to the left, the others to the right."""
    assert figures.table([("a", "10"), ("bcd", "2")]) == "a    10\nbcd   2"


def test_facts_are_strings_on_every_system() -> None:
    """Every fact has a name and a value."""
    found = info.facts()
    assert all(found.values())
    assert found["GIL"] in ("on", "off")
