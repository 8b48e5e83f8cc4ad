"""The arithmetic, without an operating system."""

from __future__ import annotations

import sys
from enum import IntEnum

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scopedbump._checks import checked_align, checked_int
from scopedbump._layout import FIRST_COMMIT, MAX_COMMIT_STEP, commit_target, place, round_up

aligns = st.integers(0, 30).map(lambda shift: 1 << shift)
sizes = st.integers(0, 1 << 48)


@given(sizes, aligns)
def test_round_up_is_the_next_multiple(value: int, align: int) -> None:
    """The result is a multiple, not below the value, and less than one step above it."""
    rounded = round_up(value, align)
    assert rounded % align == 0
    assert value <= rounded < value + align


@given(sizes, sizes, aligns)
def test_place_aligns_the_absolute_address(base: int, cursor: int, align: int) -> None:
    """Promise 7: base + start is aligned whatever the base is, and no gap is wider than needed."""
    start = place(base, cursor, align)
    assert (base + start) % align == 0
    assert cursor <= start < cursor + align


@given(st.integers(0, 1 << 40), st.integers(1, 1 << 40), st.sampled_from([1 << 12, 1 << 14, 1 << 16]))
def test_commit_grows_in_whole_pages_and_covers_what_is_needed(committed: int, needed: int, page: int) -> None:
    """Promise 2: RAM follows in steps: at least what is needed, at most one large step more, never beyond the end."""
    size = max(committed, needed) + (1 << 30)
    committed = round_up(committed, page)
    target = commit_target(committed, needed, size, page)
    assert target % page == 0
    assert needed <= target
    assert target <= round_up(max(needed, committed + max(FIRST_COMMIT, MAX_COMMIT_STEP)), page)
    assert commit_target(committed, needed, needed, page) == round_up(needed, page)


def test_commit_doubles_up_to_the_largest_step() -> None:
    """A region that grows to 1 GiB asks the system about thirty times, not a thousand."""
    committed = calls = 0
    while committed < 1 << 30:
        committed = commit_target(committed, committed + 1, 1 << 30, 4096)
        calls += 1
    assert calls < 30


class Colour(IntEnum):
    RED = 7


@pytest.mark.parametrize(("value", "number"), [(0, 0), (5, 5), (True, 1), (Colour.RED, 7), (sys.maxsize, sys.maxsize)])
def test_what_has_an_index_is_an_int(value: int, number: int) -> None:
    """Anything with __index__ is taken, and comes out as a plain int."""
    checked = checked_int(value, "size", 0)
    assert checked == number
    assert type(checked) is int


@pytest.mark.parametrize("value", ["5", 5.0, None, b"5", 5j, [5], float("nan")])
def test_a_wrong_type_is_named_with_its_value(value: object) -> None:
    """TypeError says what was given."""
    with pytest.raises(TypeError, match="size must be an int, not") as caught:
        checked_int(value, "size", 0)
    assert type(value).__name__ in str(caught.value)


@pytest.mark.parametrize(("value", "least"), [(-1, 0), (0, 1), (sys.maxsize + 1, 0), (-(10**30), 0)])
def test_a_wrong_value_is_named(value: int, least: int) -> None:
    """ValueError says which value was wrong."""
    with pytest.raises(ValueError, match=str(value)):
        checked_int(value, "size", least)


@pytest.mark.parametrize("value", [10**5000, -(10**5000)], ids=["huge", "negative"])
def test_a_number_too_long_to_print_is_described(value: int) -> None:
    """Python refuses to print such an int; the error must not fail over that."""
    with pytest.raises(ValueError, match=r"size must be .*2\*\*16609 or so"):
        checked_int(value, "size", 0)


@pytest.mark.parametrize("value", [0, -1, 3, 24, (1 << 20) + 1])
def test_an_alignment_is_a_power_of_two(value: int) -> None:
    """Everything else is refused by name."""
    with pytest.raises(ValueError, match=f"not {value}"):
        checked_align(value)
