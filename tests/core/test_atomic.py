"""Promise 9 at its root: the stretches of byte code that nothing can interrupt, and a hammer on them."""

from __future__ import annotations

import dis
import sys
from collections.abc import Callable, Iterator
from types import CodeType

import pytest

from helpers.support import run_threads
from scopedbump import Region, RegionClosedError, RegionFullError, _atomic, _reset, bump_region
from scopedbump._pool import _PooledReservation
from scopedbump._reservation import Reservation

# Everything that calls, so that CPython may look for signals and threads after it; LOAD_ATTR is not among them for
# slots and for instances of C types, which is all that these stretches load.
BREAKS = ("CALL", "JUMP_BACKWARD", "RESUME", "FOR_ITER", "SEND", "YIELD", "IMPORT", "BUILD_", "WITH")


def stretch(
    code: CodeType, first: Callable[[dis.Instruction], bool], last: Callable[[dis.Instruction], bool]
) -> list[str]:
    """The names of the byte codes from the first that fits to the last that does, in the order of the code."""
    instructions = list(dis.get_instructions(code))
    begin = next(n for n, i in enumerate(instructions) if first(i))
    end = max(n for n, i in enumerate(instructions) if last(i))
    assert begin < end
    return [i.opname for i in instructions[begin : end + 1]]


def loads(name: str) -> Callable[[dis.Instruction], bool]:
    return lambda i: i.opname == "LOAD_ATTR" and i.argval == name


def stores(*names: str) -> Callable[[dis.Instruction], bool]:
    return lambda i: i.opname == "STORE_ATTR" and i.argval in names


@pytest.mark.skipif(sys.implementation.name != "cpython", reason="the byte code of CPython is meant")
@pytest.mark.parametrize(
    ("function", "first", "last"),
    [
        (Region.alloc, loads("_cursor"), stores("_cursor")),
        (Region._take, loads("_root"), stores("_cursor", "_ready", "_limit")),
        (Region._advance, loads("_busy"), stores("_limit")),
        (Region._resume, loads("_busy"), stores("_busy")),
        (Region.reset, loads("_busy"), stores("_limit")),
        (_reset._go_on, loads("_busy"), stores("_busy")),
        (Region.scope, loads("_busy"), stores("_limit")),
        (Region._stop, loads("_peak"), stores("_root")),
        (_PooledReservation.end, lambda i: i.opname == "CONTAINS_OP", lambda i: i.opname == "DELETE_SUBSCR"),
    ],
    ids=lambda value: value.__name__ if hasattr(value, "__name__") and value.__name__ != "<lambda>" else "",
)
def test_between_reading_and_writing_there_is_no_break(
    function: Callable[..., object],
    first: Callable[[dis.Instruction], bool],
    last: Callable[[dis.Instruction], bool],
) -> None:
    """Promise 9: between the check and the last store there is no byte code at which CPython looks up."""
    names = stretch(function.__code__, first, last)
    assert not [name for name in names if any(part in name for part in BREAKS)], names


def test_the_adapters_bump_without_a_break_too() -> None:
    """Promise 9: what the adapters for ctypes and cffi do by themselves is such a stretch as well."""
    from scopedbump._adapters import _claim, cffi_

    inner = next(c for c in cffi_._maker.__code__.co_consts if getattr(c, "co_name", "") == "claim_fast")
    for code in (_claim.claim.__code__, inner):
        names = stretch(code, loads("_cursor"), stores("_cursor"))
        assert not [name for name in names if any(part in name for part in BREAKS)], names


def test_the_slots_are_slots() -> None:
    """The stretches above load attributes of a region: a property or __getattr__ there would be a call."""
    for name in ("_cursor", "_limit", "_root", "_views", "_ready", "_busy", "_peak"):
        assert type(getattr(Region, name)).__name__ in ("member_descriptor", "getset_descriptor")
    for name in ("address", "committed", "dirty"):
        assert type(getattr(Reservation, name)).__name__ in ("member_descriptor", "getset_descriptor")
    assert "__getattr__" not in vars(Region)
    assert "__setattr__" not in vars(Region)


@pytest.fixture(params=["as here", "locked"])
def build(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Regions as this interpreter has them, and as one without a GIL has them; threads switch as often as they can."""
    if request.param == "locked":
        monkeypatch.setattr(_atomic, "atomic", False)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield request.param
    sys.setswitchinterval(interval)


def test_two_threads_never_get_the_same_bytes(build: str) -> None:
    """Promise 9: four threads write their number over every block they get, and find it unchanged."""
    with bump_region(1 << 26) as a:

        def body(number: int) -> None:
            mine = []
            for turn in range(1500):
                view = a.alloc(turn % 97 + 1)
                assert not any(view)
                view[:] = bytes([number]) * view.nbytes
                mine.append(view)
            assert all(set(view) == {number} for view in mine)

        run_threads(*[lambda number=number: body(number) for number in range(1, 5)])
        a._check()
        assert a.used >= 4 * sum(turn % 97 + 1 for turn in range(1500))


def test_recycled_memory_is_cleared_before_anybody_has_it(build: str) -> None:
    """Promises 6 and 9: clearing races with handing out; nobody's bytes are cleared, nobody gets uncleared ones."""
    with bump_region(1 << 24) as a:
        for _ in range(20):
            view = a.alloc(1 << 20)
            view[:] = b"\xff" * (1 << 20)
            del view
            a.reset()

            def body(number: int) -> None:
                for turn in range(40):
                    view = a.alloc(5000 if turn % 5 else 70_000)
                    assert not any(view)
                    view[:] = bytes([number]) * view.nbytes
                    assert set(view) == {number}

            run_threads(*[lambda number=number: body(number) for number in range(1, 4)])
            a.reset()


def test_close_against_alloc(build: str) -> None:
    """Promise 9: while one thread closes, the others get a valid block or RegionClosedError, nothing else."""
    for _ in range(100):
        a = bump_region(1 << 20)

        def body(a: Region = a) -> None:
            while True:
                try:
                    view = a.alloc(100)
                    view[:] = b"x" * 100
                except RegionClosedError:
                    return
                except (RegionFullError, ValueError):  # full, or revoked between alloc and use
                    continue

        run_threads(body, body, a.close)
        assert a.closed
