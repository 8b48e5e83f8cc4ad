"""`python -m scopedbump demo` on real files with the system's real libz."""

from __future__ import annotations

import os
import random
import re
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scopedbump import bump_region
from scopedbump.__main__ import main
from scopedbump._cli import _generate, demo, libz
from scopedbump._cli.progress import Progress

try:
    LIBRARY, NAME = libz.load()
except libz.LibzError as missing:
    pytest.skip(str(missing), allow_module_level=True)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "_SECONDS", 0.0)


def test_demo_needs_no_file(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a name it works on a file that is there, and says that the mapping is gone."""
    assert main(["demo"]) == 0
    out, err = capsys.readouterr()
    assert not err
    assert str(demo.largest_at_hand()) in out
    assert "both SHA-256 are the same" in out
    assert re.search(r"the mapping at 0x[0-9a-f]+ is gone", out)
    assert "ValueError" in out


@pytest.mark.parametrize("size", [1, 4095, (1 << 18) - 1, 1 << 18, (1 << 18) + 1, 3_000_000])
def test_demo_reads_every_byte(size: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Files around the sizes of the buffers are read whole and come back whole, random ones too."""
    path = tmp_path / "body"
    path.write_bytes(random.Random(size).randbytes(size))
    assert main(["demo", str(path)]) == 0
    assert f"read {size} bytes" in capsys.readouterr().out


def test_demo_shows_what_memory_did(capsys: pytest.CaptureFixture[str]) -> None:
    """Reserved, committed and resident are shown for each state, and the three ways of the requests."""
    assert main(["demo"]) == 0
    out = capsys.readouterr().out
    rows = {line.split("  ")[0] for line in out.splitlines()}
    assert {"before", "region open", "work done", "block ended"} <= rows
    assert {"a fresh region", "one region, reset", "bytearrays"} <= rows


def test_missing_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file that is not there is named, with the system's reason and status 1."""
    assert main(["demo", str(tmp_path / "nothing")]) == 1
    err = capsys.readouterr().err
    assert "cannot read" in err and "nothing" in err
    assert err.count(": ") >= 2 and "Traceback" not in err


def test_a_directory_is_no_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A directory is refused as one."""
    assert main(["demo", str(tmp_path)]) == 1
    assert "is a directory" in capsys.readouterr().err


def test_an_empty_file_has_nothing_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An empty file is refused as one."""
    (tmp_path / "empty").touch()
    assert main(["demo", str(tmp_path / "empty")]) == 1
    assert "is empty" in capsys.readouterr().err


def test_a_name_with_a_nul(capsys: pytest.CaptureFixture[str]) -> None:
    """A name that no file can have is an error like that of a missing file."""
    assert main(["demo", "a\0b"]) == 1
    assert "cannot read" in capsys.readouterr().err


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX devices")
def test_a_device_without_end_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """/dev/zero has no end, and is not begun."""
    assert main(["demo", "/dev/zero"]) == 1
    assert "not a regular file" in capsys.readouterr().err


@pytest.mark.skipif(sys.platform == "win32" or (hasattr(os, "geteuid") and os.geteuid() == 0), reason="POSIX, not root")
def test_an_unreadable_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file without permission to read gives the system's reason."""
    path = tmp_path / "secret"
    path.write_text("x")
    path.chmod(0)
    assert main(["demo", str(path)]) == 1
    assert os.strerror(13) in capsys.readouterr().err


@pytest.mark.skipif(sys.platform != "linux", reason="/proc/self/mem is Linux's")
def test_a_file_that_fails_while_it_is_read(capsys: pytest.CaptureFixture[str]) -> None:
    """An error in the middle of the work is reported, whether or not the file looked readable."""
    assert main(["demo", "/proc/self/mem"]) == 1
    assert capsys.readouterr().err.startswith("scopedbump demo: ")


def test_a_missing_libz_is_an_error(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a libz the demo says which names it tried and ends with status 1."""
    monkeypatch.setattr(libz, "_candidates", lambda: iter(["no-such-libz"]))
    assert main(["demo"]) == 1
    err = capsys.readouterr().err
    assert "no libz" in err and "no-such-libz" in err


def test_a_library_that_is_no_libz_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """A library of a right name without zlib's functions is not called."""
    other = {"win32": "kernel32.dll", "darwin": "libSystem.B.dylib"}.get(sys.platform, "libm.so.6")
    monkeypatch.setattr(libz, "_candidates", lambda: iter([other]))
    with pytest.raises(libz.LibzError, match=f"{other} .not a whole zlib"):
        libz.load()


def test_a_slow_file_shows_progress(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """When the work takes longer than the patience, a line on stderr says how far it is."""
    monkeypatch.setattr(demo, "Progress", lambda: Progress(patience=-1.0))
    path = tmp_path / "body"
    path.write_bytes(bytes(1 << 20))
    assert main(["demo", str(path)]) == 0
    assert "256.0 KiB of 1.0 MiB: 25 %" in capsys.readouterr().err


def test_a_wrong_round_trip_is_reported(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """If what comes back differs, the demo fails loudly."""
    original = libz.Stream.feed

    def feed(self: libz.Stream, data: memoryview, size: int, out: memoryview, last: bool = False) -> object:
        for count in original(self, data, size, out, last):
            if count:
                out[0] ^= 1
            yield count

    monkeypatch.setattr(libz.Stream, "feed", feed)
    assert main(["demo"]) == 1
    assert "libz cannot go on" in capsys.readouterr().err


@settings(max_examples=60, deadline=None)
@given(st.lists(st.binary(max_size=300), max_size=8), st.integers(1, 64), st.integers(0, 9))
def test_the_stream_packs_what_python_unpacks(pieces: list[bytes], room: int, level: int) -> None:
    """Whatever the pieces and however small the output buffer, Python's zlib restores the bytes, and ours too."""
    with bump_region(1 << 24) as region:
        out = region.alloc(room)
        packed = bytearray()
        with libz.deflater(LIBRARY, region.alloc(libz.STREAM_SIZE), level) as stream:
            for at, piece in enumerate([*pieces, b""]):
                for count in stream.feed(region.copy(piece), len(piece), out, last=at == len(pieces)):
                    packed += out[:count]
        assert zlib.decompress(packed) == b"".join(pieces)
        restored = bytearray()
        with libz.inflater(LIBRARY, region.alloc(libz.STREAM_SIZE)) as stream:
            for count in stream.feed(region.copy(packed), len(packed), out):
                restored += out[:count]
        assert restored == b"".join(pieces)


def test_what_is_no_deflate_stream_is_an_error() -> None:
    """Bytes that libz cannot inflate raise LibzError with its code."""
    with (
        bump_region(1 << 20) as region,
        libz.inflater(LIBRARY, region.alloc(libz.STREAM_SIZE)) as stream,
        pytest.raises(libz.LibzError, match="-3"),
    ):
        list(stream.feed(b"not zlib at all", 15, region.alloc(64)))


def test_the_generated_modules_are_what_the_declarations_give(tmp_path: Path) -> None:
    """Generating the ABI modules again gives what is committed, line endings aside."""
    pytest.importorskip("pycparser", reason="cffi generates with pycparser")
    _generate.generate(tmp_path)
    committed = Path(_generate.__file__).parent
    for name in _generate.MODULES:
        assert (tmp_path / f"{name}.py").read_text() == (committed / f"{name}.py").read_text(), name


def test_demo_runs_as_a_module_on_a_file_of_any_name(tmp_path: Path) -> None:
    """`python -m scopedbump demo` takes a name that the terminal cannot write, and ends with status 0."""
    path = tmp_path / "naïve ☃.txt"
    path.write_bytes(b"some text " * 1000)
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-m", "scopedbump", "demo", str(path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    assert "read 10000 bytes" in done.stdout
