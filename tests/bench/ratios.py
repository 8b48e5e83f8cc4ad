"""Every ratio that the design sets itself: `python tests/bench/ratios.py [ROW-SUBSTRING ...] [--json FILE] [--quick]`.

`PYTHONPATH=CHECKOUT python tests/bench/ratios.py` measures another version: only public names are used, and a row whose
names are not there prints "-". Both sides are taken in turn in one run, 15 times; which comes first alternates, and the
best of each counts.

Small calls (`Calls`) are in loops that are compiled around their statement, as timeit's: what a statement uses are
locals, and the garbage collector is off meanwhile. A batch takes 20 ms. A region that would fill up is reset once in
10,000 calls, and the reset is in the time: the memory is warm, it was handed out before, and each call bears its share
of clearing it window by window and of dropping dead views. On fresh memory nothing is cleared: a row that says so opens
a new region once in 10,000 calls, which is not in the time.

What depends on the state of malloc's heap, and imports, take a fresh process each time (`Process`). It does the work
once (first), or for 0.2 s, of which the best counts (young: it has freed no large blocks but those of this work; old:
it has freed blocks of up to 32 MiB before, after which glibc gives less back to the system). The page faults of one
operation stand beside these.
"""

from __future__ import annotations

import argparse
import gc
import importlib.util
import json
import os
import platform
import sys
import sysconfig
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple, Protocol

from ratio_calls import Calls
from ratio_processes import Effort, Loop, Process, Sample, Work

import scopedbump

_MIB = 1 << 20
_RESET = "a.reset()"
_HANDLER = (  # whether NumPy's allocator can be a region here
    importlib.util.find_spec("numpy") is not None
    and sys.implementation.name == "cpython"
    and not sysconfig.get_config_var("Py_GIL_DISABLED")
)
FULL = Effort(rounds=15, batch=0.02, process=0.2, calls=10_000)
QUICK = Effort(rounds=1, batch=0.001, process=0.0, calls=500)


class Side(Protocol):
    """One of the two ways to do something."""

    def prepare(self, effort: Effort) -> Callable[[], Sample] | None:
        """What measures it once; None where something that it needs is not there."""
        ...

    def timed(self) -> Loop | None:
        """The same as a loop for pyperf."""
        ...


class Row(NamedTuple):
    """A line of the table. `most` is what the design allows, a ratio or a time; "" where it says nothing."""

    work: str
    against: str
    most: str
    ours: Side
    theirs: Side


def _processes(work: str, against: str, most: str, name: str, size: int, age: str) -> Row:
    can_run = not name.startswith("handler") or _HANDLER
    ours, theirs = (Work(name, side, size, age, can_run) for side in ("ours", "theirs"))
    return Row(work, against, most, ours, theirs)


def _import(statements: str, most: str) -> Row:
    def timed(code: str) -> Process:
        clock = "import time; start = time.perf_counter(); {}; print([time.perf_counter() - start])"
        return Process(("-P", "-c", clock.format(code)))

    return Row(statements, "import _cffi_backend", most, timed(statements), timed("import _cffi_backend"))


def _sized(sizes: dict[int, str]) -> Iterator[tuple[int, str, str]]:
    for size, most in sizes.items():
        yield size, f"{size >> 20} MiB" if size >= _MIB else f"{size >> 10} KiB", most


def _call_rows() -> Iterator[Row]:
    alloc = Calls("a.alloc(64)", _RESET)
    opened = partial(Calls, setup="a = bump_region()", last="a.close()")
    fresh = opened("a.alloc(64)", untimed="a.close(); a = bump_region()")
    yield Row("alloc(64)", "memoryview(bytearray(64))", "1.3", alloc, Calls("memoryview(bytearray(64))"))
    yield Row("alloc(64), fresh memory", "memoryview(bytearray(64))", "1.3", fresh, Calls("memoryview(bytearray(64))"))
    yield Row("alloc(64, zero=False)", "alloc(64)", "1.1", Calls("a.alloc(64, zero=False)", _RESET), alloc)
    yield Row("alloc(64, 64)", "alloc(64)", "1.4", Calls("a.alloc(64, 64)", _RESET), alloc)
    yield Row("alloc(64, 8)", "alloc(64)", "1.4", Calls("a.alloc(64, 8)", _RESET), alloc)
    yield Row("alloc(0)", "alloc(64)", "1.5", Calls("a.alloc(0)", _RESET), alloc)
    yield Row("alloc(64)", "bytearray(64)", "", alloc, Calls("bytearray(64)"))
    yield Row("alloc(64)", "create_string_buffer(64)", "", alloc, Calls("create_string_buffer(64)"))
    # ctypes makes an array type for each size and keeps it until a collection finds it: none may be left over.
    sizes = partial(Calls, untimed="collect(); sizes = count(64)")
    by_hand = sizes("create_string_buffer(next(sizes))")
    yield Row("alloc(n), n varying", "create_string_buffer(n)", "", sizes("a.alloc(next(sizes))", _RESET), by_hand)
    by_hand = Calls("keep(memoryview(bytearray(64)))")
    yield Row(
        "alloc(64), 1,000 kept", "memoryview(bytearray(64)), kept", "", Calls("keep(a.alloc(64))", _RESET), by_hand
    )
    by_hand = Calls("memoryview(bytearray(4096))")
    yield Row("alloc(4096)", "memoryview(bytearray(4096))", "", Calls("a.alloc(4096)", _RESET), by_hand)
    made = Calls("next(blocks)", "a.reset(); blocks = a.slab(64)")
    yield Row("slab(64), a block", "memoryview(bytearray(64))", "", made, Calls("memoryview(bytearray(64))"))
    late = Calls("a.alloc(64)", untimed="a.alloc(64)", setup="a = used(1_000_000)", last="a.close()")
    early = opened("a.alloc(64)", untimed="a.close(); a = used(1_000)")
    yield Row("the 1,000,000th alloc(64)", "the 1,000th", "1.2", late, early)
    by_hand = Calls("memoryview(bytearray(data))")
    yield Row("copy of 64 bytes", "memoryview(bytearray(data))", "4", Calls("a.copy(data)", _RESET), by_hand)
    made = Calls('a.array("d", 8)', _RESET, needs="Region.array")
    yield Row('array("d", 8)', 'array.array("d", bytes(64))', "3", made, Calls('array("d", bytes(64))'))
    made = Calls("n.empty(8)", "a.reset(); n = a.numpy", needs="empty")
    yield Row("a.numpy.empty(8)", "numpy.empty(8)", "20", made, Calls("empty(8)", needs="empty"))


def _foreign_rows() -> Iterator[Row]:
    own = Calls("T()")
    c = partial(Calls, first="a.reset(); c = a.ctypes")
    yield Row("a.ctypes.new(T)", "T()", "9", c("c.new(T)"), own)
    floor = Calls("T.from_buffer(view)", setup="view = memoryview(bytearray(64))")
    yield Row("T.from_buffer(memoryview), the floor of it", "T()", "", floor, own)
    yield Row("a.ctypes.slab(T), an object", "T()", "1.3", Calls("next(s)", "a.reset(); s = a.ctypes.slab(T)"), own)
    by_hand = Calls("create_string_buffer(text)")
    yield Row("a.ctypes.string(text)", "create_string_buffer(text)", "3", c("c.string(text)"), by_hand)
    by_hand = Calls("(c_char_p * 4)(*texts)")
    yield Row("a.ctypes.strings of three", "(c_char_p * 4)(*texts)", "4", c("c.strings(texts)"), by_hand)
    made = Calls("c.new(Out, c.pointer(view), 4096)", "a.reset(); c = a.ctypes; view = a.alloc(4096)")
    by_hand = Calls("Out(pointer(c_char.from_buffer(view)), 4096)", setup="view = memoryview(bytearray(4096))")
    yield Row("c.new(Out, c.pointer(view), n)", "by hand, with from_buffer", "3 us", made, by_hand)

    c = partial(Calls, first="a.reset(); c = a.cffi(ffi)", needs="ffi")
    own = Calls('new("point *")', needs="ffi")
    yield Row('a.cffi(ffi).new("point *")', 'ffi.new("point *")', "2.2", c('c.new("point *")'), own)
    made = Calls("next(s)", 'a.reset(); s = a.cffi(ffi).slab("point *")', needs="ffi")
    yield Row('a.cffi(ffi).slab("point *"), an object', 'ffi.new("point *")', "0.4", made, own)
    by_hand = Calls('new("char[]", text)', needs="ffi")
    yield Row("a.cffi(ffi).string(text)", 'ffi.new("char[]", text)', "3", c("c.string(text)"), by_hand)
    by_hand = Calls('kept = [new("char[]", text) for text in texts]; new("char *[]", [*kept, NULL])', needs="ffi")
    yield Row("a.cffi(ffi).strings of three", "by hand, with ffi.new", "", c("c.strings(texts)"), by_hand)


def _whole_rows() -> Iterator[Row]:
    mapped = Calls("m = mmap(-1, 1 << 20); m[0] = 1; m.close()")
    lease = Calls("with pool.region() as a: a.alloc(64)[0] = 1")
    scope = Calls("with a.scope() as inner: inner.alloc(64)[0] = 1")
    yield Row("lease of a pool, alloc 64 B, touch, end", "mmap.mmap(-1, 1 << 20), touch, close", "0.16", lease, mapped)
    floor = Calls("with bare.region() as a: a.alloc(64)[0] = 1", setup="bare = BarePool()")
    yield Row("a lease by hand, which keeps no promise", "mmap.mmap(-1, 1 << 20), touch, close", "", floor, mapped)
    # The design allows a scope 0.7 of an older version's lease, which cannot be here: mmap links the runs of the two.
    yield Row("scope, alloc 64 B, touch, end", "mmap.mmap(-1, 1 << 20), touch, close", "", scope, mapped)
    yield Row("scope, alloc 64 B, touch, end", "a lease of this version", "", scope, lease)
    touched = Calls("memoryview(bytearray(64))[0] = 1")
    yield Row("lease of a pool, alloc 64 B, touch, end", "memoryview(bytearray(64)), touch", "", lease, touched)
    reset = Calls("a.alloc(64)[0] = 1; a.reset()")
    yield Row("alloc 64 B, touch, reset", "memoryview(bytearray(64)), touch", "", reset, touched)
    first, then, last = (
        "p = map_(NULL, 1 << 30, 0, RESERVED, -1, 0)",
        "protect(p, 1 << 20, 3)",
        "p[0] = 1; unmap(p, 1 << 30)",
    )
    bare = Calls(f"{first}; {then}; {last}", needs="libc")
    region = Calls("with bump_region() as a: a.alloc(64)[0] = 1")
    yield Row("open, alloc 64 B, touch, close", "the bare system calls", "1.4", region, bare)
    if sys.platform == "linux":  # MADV_DONTDUMP, MADV_DODUMP: what is only reserved stays out of core dumps
        all_four = Calls(f"{first}; advise(p, 1 << 30, 16); {then}; advise(p, 1 << 20, 17); {last}", needs="libc")
        yield Row("the bare system calls and those for core dumps", "the bare system calls", "", all_four, bare)


def _large_rows() -> Iterator[Row]:
    work = "a fresh region for 16 MiB, filled, closed"
    yield _processes(work, "the first such bytearray of a process", "0.25", "fresh", 16 * _MIB, "first")
    yield _processes(work, "bytearray, old process", "1.3", "fresh", 16 * _MIB, "old")
    for size, shown, most in _sized({64 << 10: "", _MIB: "1.2", 4 * _MIB: "1.05", 16 * _MIB: "0.8"}):
        work = f"take {shown} from a pool, zeroed, fill, give back"
        yield _processes(work, "bytearray, old process", most, "taken", size, "old")
    for age, bounds in ("young", ("0.1", "0.1", "0.1")), ("old", ("1.0", "0.8", "1.0")):
        for size, shown, most in _sized(dict(zip((_MIB, 4 * _MIB, 16 * _MIB), bounds, strict=True))):
            work = f"two buffers of {shown}, default pool: fill one, copy"
            yield _processes(work, f"two bytearrays, {age} process", most, "pair", size, age)
    bounds_of = {
        ("young", "handler()"): {256 << 10: "0.4", _MIB: "0.4", 4 * _MIB: "0.4"},
        ("young", "handler(min_bytes=65536)"): {256 << 10: "0.4"},
        ("old", "handler()"): {4 << 10: "", _MIB: "1.05", 4 * _MIB: "1.05", 16 * _MIB: "1.05", 40 * _MIB: "0.8"},
        ("old", "handler(), retain="): {40 * _MIB: "0.8"},
    }
    for (age, name), most_of in bounds_of.items():
        for size, shown, most in _sized(most_of):
            work = f"NumPy temporaries of {shown}, {name}"
            yield _processes(work, f"without, {age} process", most, name, size, age)


def _growing_rows() -> Iterator[Row]:
    for against in ("BytesIO", "bytearray"):
        for size, shown, most in (64, "64 B", "3"), (4096, "4 KiB", "1.2"), (_MIB, "1 MiB", "0.8"):
            work = f"a writer: append pieces of {shown} up to 64 MiB"
            yield _processes(work, f"{against}, young process", most, f"append, {against}", size, "young")


def rows() -> list[Row]:
    """All of them."""
    imports = [_import("import scopedbump", "1.5"), _import("import scopedbump; scopedbump.bump_region", "")]
    return [*_call_rows(), *_foreign_rows(), *_whole_rows(), *_large_rows(), *_growing_rows(), *imports]


# -- the table

_LINE = "{:54} {:38} {:>6} {:>8} {:>8} {:>8} {:>14}"


def measured(row: Row, effort: Effort) -> tuple[Sample, Sample] | None:
    """The best of each side; None where one of them can't be had."""
    ours, theirs = row.ours.prepare(effort), row.theirs.prepare(effort)
    if ours is None or theirs is None:
        return None
    gc.collect()
    samples: dict[Callable[[], Sample], list[Sample]] = {ours: [], theirs: []}
    for turn in range(effort.rounds):
        for side in (ours, theirs) if turn % 2 else (theirs, ours):
            samples[side].append(side())
    return min(samples[ours]), min(samples[theirs])


def duration(seconds: float) -> str:
    """A time in three figures."""
    unit, factor = ("ns", 1e9) if seconds < 0.9995e-6 else ("us", 1e6) if seconds < 0.9995e-3 else ("ms", 1e3)
    return f"{seconds * factor:#.3g}".removesuffix(".") + f" {unit}"


def line(row: Row, best: tuple[Sample, Sample] | None) -> str:
    """How a row is printed."""
    cells = ["-", row.most, "", "", ""]
    if best is not None:
        ours, theirs = best
        cells[0] = f"{ours.seconds / theirs.seconds:.2f}"
        cells[2:4] = duration(ours.seconds), duration(theirs.seconds)
        if ours.faults is not None and theirs.faults is not None:
            cells[4] = f"{ours.faults:.0f} / {theirs.faults:.0f}"
    return _LINE.format(row.work, row.against, *cells).rstrip()


def main() -> None:
    """Measure the rows that were asked for, and print each when it is done."""
    parser = argparse.ArgumentParser(description="The ratios of the design.")
    parser.add_argument("rows", nargs="*", metavar="ROW-SUBSTRING", help="part of what a row says of the work")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    parser.add_argument("--quick", action="store_true", help="see whether it runs")
    chosen = parser.parse_args()
    print(f"scopedbump {scopedbump.__version__} in {Path(scopedbump.__file__).parent}")
    print(f"{platform.python_implementation()} {platform.python_version()}, {platform.platform()}\n")
    print(_LINE.format("work", "against", "ratio", "at most", "ours", "theirs", "page faults"))
    figures: list[dict[str, object]] = []
    with TemporaryDirectory() as byte_code:  # imports are those of an installed package
        os.environ["PYTHONPYCACHEPREFIX"] = byte_code
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        for row in rows():
            if chosen.rows and not any(part in row.work for part in chosen.rows):
                continue
            best = measured(row, QUICK if chosen.quick else FULL)
            print(line(row, best), flush=True)
            sides = None if best is None else {"ours": best[0]._asdict(), "theirs": best[1]._asdict()}
            figures.append({"work": row.work, "against": row.against, "most": row.most, "best": sides})
    if chosen.json:
        chosen.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
