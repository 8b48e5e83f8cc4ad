"""`Region.array`: numbers in scratch memory, as `array.array` makes them on the heap."""

from __future__ import annotations

import array
import sys
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.invariants import check
from helpers.stress import needs_cpython
from helpers.support import collect, counts_references
from scopedbump import RegionClosedError, RegionFullError, bump_region

TYPECODES = "bBhHiIlLqQfd"
each_code = pytest.mark.parametrize("code", TYPECODES)


def make(a: Any, code: str, values: Any) -> memoryview[Any]:
    view: memoryview[Any] = a.array(code, values)
    return view


@each_code
@pytest.mark.parametrize("count", [0, 1, 7, 1000, 100_000])
def test_so_many_zeros(code: str, count: int) -> None:
    """An int is a count: a writable, flat view of that format, zero, aligned for its items; memory was used before."""
    with bump_region(1 << 23) as a:
        a.alloc(1 << 20)[:] = b"\xff" * (1 << 20)
        a.reset()
        a.alloc(1, 1)
        view = make(a, code, count)
        expected = array.array(code, bytes(count * array.array(code).itemsize))
        assert (view.format, view.itemsize, view.readonly, view.ndim) == (code, expected.itemsize, False, 1)
        assert len(view) == count and view.nbytes == count * expected.itemsize
        assert view == expected
        assert view in a and a.address(view) % 16 == 0
        for number in range(min(count, 10)):
            view[number] = number
        assert view.tolist()[:10] == list(range(min(count, 10)))
        check(a)


@each_code
def test_items(code: str) -> None:
    """Any iterable: a list, a generator, a range, another array, a view, a dict's keys."""
    with bump_region(1 << 20) as a:
        items = [3, 1, 4, 1, 5]
        for values in (items, tuple(items), (item for item in items), array.array("q", items), dict.fromkeys(items)):
            expected = [*dict.fromkeys(items)] if isinstance(values, dict) else items
            assert make(a, code, values).tolist() == expected
        assert make(a, code, range(100)).tolist() == [*range(100)]
        if sys.implementation.name == "cpython":  # PyPy's array.array takes a view for machine values
            assert make(a, code, memoryview(array.array("h", items))).tolist() == items
        assert make(a, code, []).tolist() == []
        check(a)


@given(st.sampled_from("fd"), st.lists(st.floats(width=32)))
def test_floats_come_back_bit_by_bit(code: str, values: list[float]) -> None:
    """Not a number and minus zero included."""
    with bump_region(1 << 20) as a:
        assert bytes(make(a, code, values)) == array.array(code, values).tobytes()


@each_code
def test_bytes_are_machine_values(code: str) -> None:
    """As for array.array: bytes and bytearrays are the memory of the items."""
    with bump_region(1 << 20) as a:
        data = bytes(range(32))
        for values in (data, bytearray(data)):
            view = make(a, code, values)
            assert view.tobytes() == data
            assert view == array.array(code, data)
        size = view.itemsize
        if size > 1:
            with pytest.raises(ValueError, match="multiple of item size"):
                make(a, code, bytes(size + 1))


@given(st.sampled_from(TYPECODES), st.lists(st.one_of(st.integers(-(2**70), 2**70), st.floats(), st.text(max_size=2))))
def test_what_array_refuses_is_refused(code: str, values: list[Any]) -> None:
    """The same items, or the same error with the same words; nothing has changed then."""
    with bump_region(1 << 20) as a:
        try:
            expected = array.array(code, values)
        except Exception as refusal:  # noqa: BLE001  # whatever it is
            used = a.used
            with pytest.raises(type(refusal)) as caught:
                make(a, code, values)
            assert str(caught.value) == str(refusal)
            assert a.used == used
        else:
            assert bytes(make(a, code, values)) == expected.tobytes()


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        (("x", 5), ValueError, "typecode must be .*not 'x'"),
        (("", 5), ValueError, "typecode must be .*not ''"),
        (("dd", 5), ValueError, "typecode must be .*not 'dd'"),
        (("u", 5), ValueError, "typecode must be .*not 'u'"),
        ((5, 5), TypeError, "typecode must be .*not 5"),
        ((b"d", 5), TypeError, "typecode must be .*not b'd'"),
        ((None, 5), TypeError, "typecode must be .*not None"),
        ((["d"], 5), TypeError, r"typecode must be .*not \['d'\]"),
        (("d", -1), ValueError, "values must be zero or more, not -1"),
        (("d", sys.maxsize + 1), ValueError, "values must be at most"),
        (("d", sys.maxsize), (ValueError, RegionFullError), str(sys.maxsize)),
        (("d", 1.5), TypeError, "float"),
        (("d", None), TypeError, "NoneType"),
        (("d", object()), TypeError, "object"),
        (("b", [200]), OverflowError, "greater than maximum"),
        (("i", "12"), TypeError, "str"),
        (("B", [1.5]), TypeError, "float"),
        pytest.param(("q", [Fraction(1, 2)]), TypeError, "Fraction", marks=needs_cpython),
    ],
)
def test_bad_arguments(arguments: tuple[Any, Any], error: Any, text: str) -> None:
    """Each is named; nothing has changed."""
    with bump_region(1 << 20) as a:
        with pytest.raises(error, match=text):
            make(a, *arguments)
        assert a.used == 0
        check(a)


def test_a_count_may_be_anything_with_an_index() -> None:
    """As everywhere."""

    class Five:
        def __index__(self) -> int:
            return 5

    with bump_region(1 << 20) as a:
        assert make(a, "h", Five()).tolist() == [0] * 5
        assert make(a, "h", True).tolist() == [0]


def test_it_is_revoked_at_the_end_and_by_a_reset() -> None:
    """Promise 3: as every view."""
    with bump_region(1 << 20) as a:
        before, large = a.array("d", 5), a.array("i", 50_000)
        a.reset()
        after, items = a.array("d", 5), a.array("d", [1.0, 2.0])
    for view in (before, large, after, items):
        with pytest.raises(ValueError, match="released"):
            view[0]


@counts_references
def test_an_array_that_is_held_keeps_nothing() -> None:
    """Promise 3: the memory goes at the end of the block although a local variable holds the revoked view."""
    with bump_region(1 << 20) as a:
        view = a.array("d", [1.0])
    assert a.released
    del view


def test_a_slice_of_it_pins() -> None:
    """Promise 4: with its content, until it goes."""
    with bump_region(1 << 20) as a:
        part = a.array("i", [1, 2, 3, 4])[1:3]
    collect()
    assert not a.released
    with bump_region(1 << 20) as b:
        b.alloc(1 << 19)[:] = b"\xff" * (1 << 19)
    assert part.tolist() == [2, 3]
    del part
    collect()
    assert a.released


def test_a_full_region_says_so() -> None:
    """Promise 8: in bytes, and goes on."""
    with bump_region(1000) as a:
        for values in (126, [0.0] * 126):
            with pytest.raises(RegionFullError, match="1008 bytes aligned to 16 were asked for, 1000 of 1000 are left"):
                a.array("d", values)
        assert len(a.array("d", 125)) == 125
        assert a.used == 1000


def test_values_may_use_the_region() -> None:
    """Promise 9: an iterable that allocates, resets or closes in the middle gets no bytes that are handed out."""
    with bump_region(1 << 20) as a:
        taken: list[memoryview] = []

        def allocating() -> Any:
            for number in range(10):
                taken.append(a.alloc(8))
                taken[-1][:] = b"\xff" * 8
                yield number

        assert make(a, "q", allocating()).tolist() == [*range(10)]
        assert all(block == b"\xff" * 8 for block in taken)

        def resetting() -> Any:
            yield 1
            a.reset()
            yield 2

        assert make(a, "q", resetting()).tolist() == [1, 2]

        def closing() -> Any:
            yield 1
            a.close()

        with pytest.raises(RegionClosedError):
            make(a, "q", closing())


def test_in_a_scope() -> None:
    """A scope is a region."""
    with bump_region(1 << 20) as a:
        a.alloc(3)
        with a.scope() as inner:
            assert inner.array("d", [1.5, 2.5]).tolist() == [1.5, 2.5]
            assert inner.array("B", 100_000).nbytes == 100_000
            check(inner)
