"""`python -m scopedbump run`: a program does in a region what it does without."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from helpers.support import ENVIRONMENT
from scopedbump import _atomic
from scopedbump._cli import compare

needs_handler = pytest.mark.skipif(
    not _atomic.atomic or importlib.util.find_spec("numpy") is None,
    reason="NumPy's allocator can be a region only on CPython with a GIL, with NumPy",
)

SCIPY = """
import numpy as np
from scipy import ndimage, signal

field = np.random.default_rng(1).random((700, 700))
for _ in range(3):
    field = ndimage.gaussian_filter(field, 2.0) + np.roll(field, 3, 0) * 0.5
spectrum = np.abs(np.fft.rfft2(field))
print(f"{field.sum():.6f} {spectrum.max():.6f} {signal.fftconvolve(field, field[::-1], mode='same').mean():.6f}")
"""

PANDAS = """
import sys
import numpy as np
import pandas as pd

rng = np.random.default_rng(2)
count = 300_000
table = pd.DataFrame({"group": rng.integers(0, 50, count), "value": rng.random(count)})
table["day"] = rng.integers(0, 9, count)
table["scaled"] = (table["value"] - table["value"].mean()) / table["value"].std()
result = table.groupby(["group", "day"])["scaled"].agg(["mean", "max", "count"]).reset_index()
print(result.merge(table.drop_duplicates("group"), on="group").head(int(sys.argv[1])).to_csv(index=False))
"""

PILLOW = """
import hashlib
import sys
import numpy as np
from PIL import Image, ImageFilter

y, x = np.mgrid[0:900, 0:900]
pixels = np.stack([x % 256, y % 256, (x * y) % 256], axis=-1).astype(np.uint8)
image = Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(3))
grey = np.asarray(image, dtype=np.float32) @ np.array([0.3, 0.6, 0.1], dtype=np.float32)
edges = np.hypot(np.diff(grey, axis=0)[:, :-1], np.diff(grey, axis=1)[:-1])
Image.fromarray((edges * 16).clip(0, 255).astype(np.uint8)).save(sys.argv[1])
print(hashlib.sha256(open(sys.argv[1], "rb").read()).hexdigest(), image.size)
"""

MODULE = """
import sys
import numpy as np
from . import helper

print(__name__, __package__, __spec__.name, sys.argv[1:], helper.answer(np.arange(1 << 19)))
"""

FAILS = """
import atexit
import sys
import numpy as np

atexit.register(lambda: print("at exit", kept.sum()))
kept = np.ones(1 << 18)
print((kept * 2 + 1).sum(), file=sys.stderr)
sys.exit(3)
"""

TRACEBACK = """
import numpy as np

def work(x):
    try:
        return x + np.ones(3)
    except ValueError as error:
        raise RuntimeError("mine") from error

work(np.ones(1 << 18))
"""

TREATS = """
import pickle, sys, threading, multiprocessing

class Kept:
    pass

def work(n):
    return n * n

if __name__ == "__main__":
    import __main__
    assert __main__.Kept is Kept and type(pickle.loads(pickle.dumps(Kept()))) is Kept
    print(__file__, __spec__, sys.argv, sys.path[0], sys.stdin.read())
    for method in ("fork", "spawn"):
        with multiprocessing.get_context(method).Pool(2) as pool:
            print(pool.map(work, range(5)))
"""


def python(*arguments: str, cwd: Path, text: str = "") -> tuple[int, str, str]:
    """Status, output and errors of a Python of its own."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        input=text,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**ENVIRONMENT, "PYTHONDONTWRITEBYTECODE": "1"},
    )
    return done.returncode, done.stdout, done.stderr


def both_ways(*program: str, cwd: Path, options: tuple[str, ...] = (), text: str = "") -> tuple[int, str, str]:
    """What the program says with its memory in a region; it is what it says without.

    So nothing is said of a region that served nothing.
    """
    plain = python(*program, cwd=cwd, text=text)
    ours = python("-m", "scopedbump", "run", *options, *program, cwd=cwd, text=text)
    assert ours == plain
    return ours


def script(folder: Path, code: str) -> str:
    (folder / "program.py").write_text(code)
    return "program.py"


# -- real programs


@needs_handler
@pytest.mark.parametrize("options", [(), ("--size", "8000000"), ("--min-bytes", "0")], ids=["", "full", "all"])
@pytest.mark.parametrize(
    ("needs", "code", "arguments"),
    [
        ("scipy", SCIPY, ()),
        pytest.param("pandas", PANDAS, ("5",), marks=pytest.mark.long),
        ("PIL", PILLOW, ("out.png",)),
        ("numpy", FAILS, ()),
        ("numpy", TRACEBACK, ()),
    ],
    ids=["scipy", "pandas", "image", "fails", "traceback"],
)
def test_a_program_does_the_same(
    needs: str, code: str, arguments: tuple[str, ...], options: tuple[str, ...], tmp_path: Path
) -> None:
    """Output, errors and status are those without, also when the region is full, and when it takes the smallest."""
    pytest.importorskip(needs, exc_type=ImportError)
    program = script(tmp_path, code)
    status, output, errors = both_ways(program, *arguments, cwd=tmp_path, options=options)
    assert status == {FAILS: 3, TRACEBACK: 1}.get(code, 0), errors
    assert output or errors


@needs_handler
def test_a_module_does_the_same(tmp_path: Path) -> None:
    """`-m` of a module in a package, with options of its own that look like ours."""
    package = tmp_path / "tool" / "inner"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (tmp_path / "tool" / "__init__.py").touch()
    (package / "helper.py").write_text("def answer(x):\n    return int((x * 2 + 1).sum())\n")
    (package / "job.py").write_text(MODULE)
    (package / "__main__.py").write_text(MODULE)
    for name in ("tool.inner.job", "tool.inner"):
        status, output, errors = both_ways("-m", name, "--size", "-m", "--compare", "--", "-x", cwd=tmp_path)
        assert status == 0, errors
        assert "['--size', '-m', '--compare', '--', '-x']" in output


# -- as Python does it


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_main_is_the_programs(tmp_path: Path) -> None:
    """`__main__`, arguments, sys.path, standard input, and processes that import the program again."""
    script(tmp_path, TREATS)
    (tmp_path / "elsewhere").mkdir()
    status, output, errors = python(
        "-m", "scopedbump", "run", "../program.py", "a", "--size", cwd=tmp_path / "elsewhere", text="typed"
    )
    assert status == 0, errors
    assert (status, output) == python("../program.py", "a", "--size", cwd=tmp_path / "elsewhere", text="typed")[:2]
    assert "typed" in output and str(tmp_path) in output


@pytest.mark.parametrize(
    "code", ["x = (", "import sys; sys.exit('a text')", "raise KeyError('x')", "raise SystemExit", "import nowhere"]
)
def test_every_way_to_end(code: str, tmp_path: Path) -> None:
    """The same status, and what Python itself would write on stderr; ours is a line about NumPy after it."""
    program = script(tmp_path, code)
    status, output, errors = python("-m", "scopedbump", "run", program, cwd=tmp_path)
    expected = python(program, cwd=tmp_path)
    lines = [line for line in errors.splitlines() if not line.startswith("scopedbump run: ")]
    assert (status, output, lines) == (expected[0], expected[1], expected[2].splitlines())
    assert "scopedbump run: " in errors and "NumPy" in errors


def test_what_is_not_there(tmp_path: Path) -> None:
    """A file or module that does not exist is what Python says of it."""
    for program in (("no.py",), ("-m", "no")):
        ours = python("-m", "scopedbump", "run", *program, cwd=tmp_path)
        plain = python(*program, cwd=tmp_path)
        assert ours[0] == plain[0] != 0
        assert program[-1] in ours[2] and "Traceback" not in ours[2]
        if sys.implementation.name == "cpython":
            assert plain[2].strip() in ours[2]


def test_folders_and_zip_files(tmp_path: Path) -> None:
    """What has a `__main__.py` runs."""
    import zipfile

    folder = tmp_path / "app"
    folder.mkdir()
    (folder / "__main__.py").write_text("import part, sys; print(part.__name__, __name__, sys.argv)")
    (folder / "part.py").touch()
    with zipfile.ZipFile(tmp_path / "app.zip", "w") as file:
        for name in ("__main__.py", "part.py"):
            file.write(folder / name, name)
    for program in ("app", "app.zip"):
        status, output, errors = python("-m", "scopedbump", "run", program, "x", cwd=tmp_path)
        assert (status, output) == python(program, "x", cwd=tmp_path)[:2]
        assert output.startswith("part __main__"), errors


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGKILL"])
def test_signals_are_the_programs(name: str, tmp_path: Path) -> None:
    """It ends by the signal, as without, and by a handler of its own if it has one."""
    number = signal.Signals[name]
    program = script(tmp_path, "import sys, time; print('up', flush=True); time.sleep(60)")
    command = [sys.executable, "-m", "scopedbump", "run", program]
    before = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a child inherits it where it is ignored: behind an `&`
    with subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT
    ) as child:
        signal.signal(signal.SIGINT, before)
        assert child.stdout is not None
        assert child.stdout.readline() == b"up\n"
        time.sleep(0.05)
        child.send_signal(number)
        assert child.wait(30) == -number


@needs_handler
def test_numpy_is_imported_by_the_program_alone(tmp_path: Path) -> None:
    """A program without it pays nothing and is told; one that sets up its environment first still can."""
    program = script(tmp_path, "import sys; print([name for name in sys.modules if name.startswith('numpy')])")
    status, output, errors = python("-m", "scopedbump", "run", program, cwd=tmp_path)
    assert (status, output) == (0, "[]\n")
    assert errors == "scopedbump run: the program did not use NumPy, so nothing of it was in a region\n"
    code = """
import importlib.util
assert importlib.util.find_spec("numpy"), "to ask whether it is there is not to import it"
import numpy
print(numpy.ones(1 << 18).sum(), vars(numpy.__loader__), numpy.__spec__.loader is numpy.__loader__)
"""
    assert both_ways(script(tmp_path, code), cwd=tmp_path)[0] == 0


EDITABLE = """
import atexit, os, pickle, sys
from importlib.machinery import PathFinder
from importlib.util import find_spec

class Finder:
    folder = os.path.dirname(os.path.dirname(find_spec("numpy").origin))

    def find_spec(self, name, path=None, target=None):
        return PathFinder.find_spec(name, [self.folder]) if name == "numpy" else None

sys.path.remove(Finder.folder)
sys.meta_path.append(Finder())
import numpy
print(numpy.ones(1 << 18).sum())
atexit.register(lambda: print(type(pickle.loads(pickle.dumps(Finder())))))
"""


@needs_handler
def test_numpy_may_be_found_by_any_finder(tmp_path: Path) -> None:
    """As those of editable installs; and what runs at exit still finds the program in `__main__`."""
    status, output, errors = both_ways(script(tmp_path, EDITABLE), cwd=tmp_path)
    assert status == 0, errors
    assert output == "262144.0\n<class '__main__.Finder'>\n"


@needs_handler
@pytest.mark.parametrize("options", [("--size", "65536"), ("--min-bytes", "9999999")])
def test_a_region_that_served_nothing_is_told(options: tuple[str, str], tmp_path: Path) -> None:
    """When all blocks were too large for it, or too small, there is one line on stderr."""
    program = script(tmp_path, "import numpy; print(numpy.ones(1 << 18).sum())")
    status, output, errors = python("-m", "scopedbump", "run", *options, program, cwd=tmp_path)
    assert (status, output) == (0, "262144.0\n")
    assert errors.startswith("scopedbump run: NumPy asked for no block of ") and errors.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--size", "0"), "0 is no size"),
        (("--min-bytes", "-1"), "-1 is negative"),
        (("--size", "x"), "invalid size value: 'x'"),
    ],
)
def test_wrong_options(options: tuple[str, str], words: str, tmp_path: Path) -> None:
    """Each is named, and the program does not begin."""
    status, output, errors = python("-m", "scopedbump", "run", *options, script(tmp_path, "print(1)"), cwd=tmp_path)
    assert status == 2 and not output
    assert words in errors and "Traceback" not in errors


# -- comparing


@needs_handler
def test_compare_prints_both_ways(tmp_path: Path) -> None:
    """Times, page faults and peak memory of both, and a verdict; nothing of what the program prints."""
    program = script(tmp_path, "import numpy as np\nx = np.ones(1 << 18)\nprint('hidden', (x + x * 2).sum())")
    status, output, errors = python("-m", "scopedbump", "run", "--compare", program, cwd=tmp_path)
    assert status == 0, errors
    assert "hidden" not in output
    words = ["time"] if sys.platform == "win32" else ["time", "CPU time", "page faults", "peak memory"]
    assert all(any(line.startswith(word) for line in output.splitlines()) for word in words)
    assert "pay here" in output


def test_compare_says_when_there_is_no_numpy(tmp_path: Path) -> None:
    """And keeps the status of a program that fails both ways out of its own."""
    program = script(tmp_path, "import sys; sys.exit(3)")
    status, output, errors = python("-m", "scopedbump", "run", "--compare", program, cwd=tmp_path)
    assert status == 0, errors
    assert "the program ended with status 3, both ways" in output
    assert "It does not pay here" in output and "NumPy" in output


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_compare_stops_at_what_is_killed(tmp_path: Path) -> None:
    """Figures of a run that was killed say nothing."""
    program = script(
        tmp_path, "import os, sys; print('last words', file=sys.stderr, flush=True); os.kill(os.getpid(), 9)"
    )
    status, output, errors = python("-m", "scopedbump", "run", "--compare", program, cwd=tmp_path)
    assert status == 1 and not output
    assert "status -9" in errors and "last words" in errors and "Traceback" not in errors


@pytest.mark.parametrize(
    ("ratios", "why", "words"),
    [
        ([0.5, 0.6, 0.5, 0.55, 0.7], "", "It pays here: 0.55"),
        ([0.5, 0.6, 0.5, 0.55, 1.7], "", "It pays here: 0.55"),
        ([0.98, 0.99, 0.98, 0.99, 0.98], "", "no difference"),
        ([0.8, 0.9, 1.1, 1.2, 1.0], "", "no difference"),
        ([1.1, 1.2, 1.1, 0.9, 1.3], "", "It does not pay here: 1.10"),
        (
            [0.5, 0.6, 0.5, 0.55, 0.7],
            "NumPy was not used",
            "It does not pay here: no difference beyond the noise (0.50 to 0.70).\nNumPy was not used.",
        ),
    ],
)
def test_verdicts(ratios: list[float], why: str, words: str) -> None:
    """It pays when all turns but one say so and something was served."""
    assert words in compare.verdict(ratios, why)
