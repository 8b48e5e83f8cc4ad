"""Bad input: whatever is passed to whichever public call, documented errors come out, and the region is whole."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import math
import random
import sys
from array import array as real_array
from collections.abc import Callable
from typing import Any

import pytest

import scopedbump
from helpers.invariants import check
from helpers.stress import in_process
from scopedbump import Region, RegionPool, ScopedBumpError, bump_region, current_region


class Raised(Exception):  # noqa: N818  # it is no error of ours
    """What hostile objects raise: it is theirs, and may come through."""


DOCUMENTED = (TypeError, ValueError, ScopedBumpError, Raised)


class Index:
    """Has `__index__`, which does something first."""

    def __init__(self, value: object, action: Callable[[], object] = lambda: None) -> None:
        self.value = value
        self.action = action

    def __index__(self) -> int:
        self.action()
        return self.value  # type: ignore[return-value]


class Changing:
    """Says something else each time."""

    def __init__(self) -> None:
        self.said = 0

    def __index__(self) -> int:
        self.said += 1000
        return self.said


class Liar(int):
    """An int that lies in comparisons and sums, and raises in some."""

    def __index__(self) -> int:
        return -5

    def __add__(self, other: object) -> int:
        return 1 << 62

    __radd__ = __sub__ = __rsub__ = __add__

    def __lt__(self, other: object) -> bool:
        return False

    __gt__ = __le__ = __eq__ = __lt__

    def __ge__(self, other: object) -> bool:
        raise Raised

    def __hash__(self) -> int:
        return 16


class Rude:
    """Raises at everything."""

    def __getattribute__(self, name: str) -> object:
        raise Raised(name)

    def __repr__(self) -> str:
        raise Raised

    def __bool__(self) -> bool:
        raise Raised

    def __eq__(self, other: object) -> bool:
        raise Raised

    __hash__ = None  # type: ignore[assignment]


class array:  # noqa: N801  # the name of a class that others treat by its name
    pass


class Text(str):
    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return hash("keep")


class Exporting:
    """A buffer that runs code when it is asked for (3.12 and later)."""

    def __init__(self, action: Callable[[], object], what: object = b"exported") -> None:
        self.action = action
        self.what = what

    def __buffer__(self, flags: int) -> memoryview:
        self.action()
        return memoryview(self.what)  # type: ignore[arg-type]

    def __release_buffer__(self, view: memoryview) -> None:
        self.action()


def values(a: Region, other: Region, chance: random.Random) -> list[object]:
    """Everything that may be passed: honest, wrong and hostile."""

    def quietly(call: Callable[[], object]) -> Callable[[], None]:
        def run() -> None:
            with contextlib.suppress(*DOCUMENTED):
                call()

        return run

    def fail() -> None:
        raise Raised

    deeds: list[Callable[[], object]] = [
        quietly(a.close),
        quietly(a.reset),
        quietly(a.scope),
        quietly(lambda: a.alloc(chance.randrange(100_000))),
        quietly(lambda: next(a.slab(32))),
        quietly(other.close),
        gc.collect,
        fail,
    ]
    view = other.alloc(64) if not other.closed else memoryview(b"")
    released = memoryview(bytearray(8))
    released.release()
    resized = (ctypes.c_char * 8)()
    grown = (ctypes.c_char * 8)()
    if sys.implementation.name == "cpython":  # PyPy can't
        ctypes.resize(grown, 4096)
    return [
        0,
        1,
        7,
        15,
        16,
        17,
        64,
        4096,
        65_536,
        1 << 20,
        3,
        -1,
        -(1 << 70),
        1 << 31,
        1 << 62,
        sys.maxsize,
        1 << 63,
        1 << 64,
        10**5000,
        -(10**5000),
        True,
        False,
        None,
        1.0,
        math.nan,
        math.inf,
        1j,
        "16",
        "keep",
        "raise",
        "warn",
        "drop",
        "",
        "\udc80",
        b"",
        b"12",
        bytearray(b"123"),
        [],
        (),
        {},
        object(),
        type,
        Rude(),
        Liar(16),
        Liar(0),
        Text("x"),
        array(),
        Changing(),
        Index(10),
        Index(-1),
        Index("10"),
        Index(1.5),
        Index(1 << 64),
        *[Index(24, deed) for deed in deeds],
        memoryview(b"abcdef")[::2],
        memoryview(bytes(12)).cast("B", (3, 4)),
        memoryview(b"a").toreadonly(),
        released,
        view,
        memoryview(real_array("d", [1.0, 2.0])),
        real_array("q", [1]),
        resized,
        grown,
        ctypes.c_int(5),
        (ctypes.c_int * 0)(),
        *[Exporting(deed) for deed in deeds],
        Exporting(gc.collect, memoryview(b"abcdef")[::2]),
        Exporting(lambda: None, view),
        a,
        other,
        Region,
        ...,
    ]


CALLS: dict[str, Callable[[Region, RegionPool, Any, Any, Any], object]] = {
    "alloc": lambda a, p, x, y, z: a.alloc(x),
    "alloc align": lambda a, p, x, y, z: a.alloc(x, y),
    "alloc zero": lambda a, p, x, y, z: a.alloc(x, y, zero=z),
    "copy": lambda a, p, x, y, z: a.copy(x),
    "copy align": lambda a, p, x, y, z: a.copy(x, y),
    "array": lambda a, p, x, y, z: a.array(x, y),
    "array of int": lambda a, p, x, y, z: a.array("i", x),
    "array of float": lambda a, p, x, y, z: a.array("d", [x, y]),
    "free": lambda a, p, x, y, z: a.free(x),
    "slab": lambda a, p, x, y, z: next(a.slab(x, y)),
    "scope": lambda a, p, x, y, z: a.scope(escape=x).close(),
    "address": lambda a, p, x, y, z: a.address(x),
    "in": lambda a, p, x, y, z: x in a,
    "exit": lambda a, p, x, y, z: a.__exit__(x, y, z),
    "as_current": lambda a, p, x, y, z: a.as_current().__exit__(x, y, z),
    "bump_region": lambda a, p, x, y, z: bump_region(x).close(),
    "bump_region name": lambda a, p, x, y, z: bump_region(1 << 16, name=x).close(),
    "bump_region escape": lambda a, p, x, y, z: bump_region(1 << 16, escape=x).close(),
    "pool": lambda a, p, x, y, z: RegionPool(x, max_idle=y, retain=z).region().close(),
    "pool region": lambda a, p, x, y, z: p.region(escape=x).close(),
    "pool name": lambda a, p, x, y, z: RegionPool(name=x),
    "ctypes new": lambda a, p, x, y, z: a.ctypes.new(x, y),
    "ctypes c_int": lambda a, p, x, y, z: a.ctypes.new(ctypes.c_int, x),
    "ctypes array": lambda a, p, x, y, z: a.ctypes.array(x, y),
    "ctypes array of int": lambda a, p, x, y, z: a.ctypes.array(ctypes.c_int, x),
    "ctypes string": lambda a, p, x, y, z: a.ctypes.string(x),
    "ctypes strings": lambda a, p, x, y, z: a.ctypes.strings([x, y]),
    "ctypes strings of": lambda a, p, x, y, z: a.ctypes.strings(x),
    "ctypes pointer": lambda a, p, x, y, z: a.ctypes.pointer(x, y),
    "ctypes slab": lambda a, p, x, y, z: next(a.ctypes.slab(x)),
    "cffi": lambda a, p, x, y, z: a.cffi(x).new(y),
    "cffi new": lambda a, p, x, y, z: a.cffi(cffi_ffi()).new(x, y),
    "cffi int": lambda a, p, x, y, z: a.cffi(cffi_ffi()).new("int[]", x),
    "cffi string": lambda a, p, x, y, z: a.cffi(cffi_ffi()).string(x),
    "cffi pointer": lambda a, p, x, y, z: a.cffi(cffi_ffi()).pointer(x, y),
    "cffi slab": lambda a, p, x, y, z: next(a.cffi(cffi_ffi()).slab(x)),
    "numpy empty": lambda a, p, x, y, z: a.numpy.empty(x, y),
    "numpy zeros": lambda a, p, x, y, z: a.numpy.zeros(x, y),
    "numpy full": lambda a, p, x, y, z: a.numpy.full(x, y),
    "numpy copy": lambda a, p, x, y, z: a.numpy.copy(x),
}
FOREIGN = ("array", "ctypes", "cffi", "numpy")
"""Whose calls also pass on what array, ctypes, cffi and NumPy raise for such arguments."""


def cffi_ffi() -> Any:
    import cffi

    if not hasattr(cffi_ffi, "made"):
        cffi_ffi.made = cffi.FFI()  # type: ignore[attr-defined]
    return cffi_ffi.made  # type: ignore[attr-defined]


def fuzz(seed: int, count: int) -> None:
    """Programs of random calls with random arguments; the seed repeats one."""
    have_numpy = True
    try:
        import numpy as np

        np.zeros(1)
    except ImportError:
        have_numpy = False
    import warnings

    warnings.simplefilter("ignore")
    chance = random.Random(seed)
    calls = {name: call for name, call in CALLS.items() if have_numpy or not name.startswith("numpy")}
    tried = refused = 0
    while tried < count:
        a, other = bump_region(1 << 22), bump_region(1 << 20)
        pool = RegionPool(1 << 20, max_idle=1)
        held: list[object] = []
        pin = a.alloc(100)[:]
        pin[:] = b"p" * 100
        drawn = values(a, other, chance)
        for _ in range(60):
            name = chance.choice(list(calls))
            x, y, z = (chance.choice(drawn) for _ in range(3))
            where = a if chance.random() < 0.8 or other.closed else other
            tried += 1
            try:
                result = calls[name](where, pool, x, y, z)
                if chance.random() < 0.3:
                    held.append(result)
                del result
            except DOCUMENTED:
                refused += 1
            except Exception as error:
                refused += 1
                if not name.startswith(FOREIGN):
                    print(f"seed {seed}, call {tried}: {name}: {error!r}")
                    raise
            except BaseException as error:
                print(f"seed {seed}, call {tried}: {name}: {error!r}")
                raise
            for region in (a, other):
                check(region)
            assert pin == b"p" * 100, f"seed {seed}, call {tried}: {name} wrote into a pin"
        a.close()
        other.close()
        pool.close()
        check(a)
        del drawn, x, y, z
    print(tried, refused)


@pytest.mark.parametrize("seed", range(3))
def test_hostile_arguments(seed: int) -> None:
    """Only documented errors, or those that the hostile objects raise themselves; no crash; every invariant holds."""
    tried, refused = in_process(__file__, "fuzz", seed, 3000).split()
    assert int(tried) >= 3000 and int(refused) > 500


@pytest.mark.long
@pytest.mark.parametrize("seed", range(100, 110))
def test_many_hostile_arguments(seed: int) -> None:
    """The same, ten times twenty thousand calls."""
    in_process(__file__, "fuzz", seed, 20_000, timeout=400)


@pytest.mark.parametrize(
    "value", [1.0, "16", None, array(), math.nan, b"1", [], object()], ids=lambda value: type(value).__name__
)
def test_what_is_no_int_is_named(value: Any) -> None:
    """A TypeError that names the value, before anything has changed."""
    with bump_region(1 << 16) as a:
        for call in (a.alloc, a.slab, bump_region, lambda v: a.alloc(16, v)):
            with pytest.raises(TypeError, match="must be an int, not"):
                call(value)
        assert a.used == 0


def test_nothing_is_current_in_an_odd_place() -> None:
    """`current_region` outside of any block says so."""
    with pytest.raises((LookupError, ScopedBumpError)):
        current_region()


def test_a_region_without_its_beginning() -> None:
    """A Region whose `__init__` never ran, or failed half way, crashes nothing."""
    bare = Region.__new__(Region)
    for use in (lambda: bare.alloc(1), bare.__repr__, bare.close, lambda: bare.used):
        with pytest.raises(AttributeError):
            use()
    del bare
    with pytest.raises((TypeError, AttributeError)):
        Region(1, 2, 3, "", "keep")
    assert scopedbump.__version__
