"""The list of views: tracked, pruned, revoked, outlasted. And that a region does all of it."""

from __future__ import annotations

import weakref
from collections.abc import Callable

import pytest

from helpers.support import collect, counts_references
from scopedbump import Region, _views, bump_region
from scopedbump._lifetime import COUNTED, ffi


def some(count: int) -> list[memoryview]:
    return [memoryview(bytearray(8)) for _ in range(count)]


def tracked(views: list[memoryview]) -> list[memoryview]:
    entries: list[memoryview] = []
    _views.track(entries, views)
    return entries


def is_released(view: memoryview) -> bool:
    try:
        view.nbytes  # noqa: B018  # it is what raises
    except ValueError:
        return True
    return False


def test_the_living_are_told_from_the_dead() -> None:
    """Dead is what only the list refers to; revoked or not does not matter."""
    views = some(100)
    entries = tracked(views)
    assert len(_views.alive(entries)) == 100
    for view in views[::2]:
        view.release()
    assert len(_views.alive(entries)) == 100
    del views[::3], view
    collect()
    assert len(_views.alive(entries)) == 66
    views.clear()
    collect()
    assert _views.alive(entries) == []


def test_a_view_with_something_made_from_it_is_alive() -> None:
    """What was made from a view refers to its exporter, and not to the view: the view itself must be kept to count."""
    views = some(1)
    entries = tracked(views)
    slice_of_it = views[0][2:]
    views.clear()
    collect()
    assert _views.alive(entries) == []
    assert slice_of_it.nbytes == 6


def test_revoking_releases_all_but_what_pins() -> None:
    """Promise 3: views with exports can't be released; the others are, and one that is released already is no error."""
    views = some(10)
    entries = tracked(views)
    part, array = views[3][1:], memoryview(views[4])
    views[5].release()
    _views.revoke(entries)
    _views.revoke(entries)
    if COUNTED:
        # A slice does not keep its view from being released: it holds the memory by itself.
        assert [is_released(view) for view in views] == [True] * 10
    assert bytes(part) == bytes(7) and bytes(array) == bytes(8)


@counts_references
def test_revoking_leaves_a_view_in_use() -> None:
    """Promise 4: a view whose buffer somebody holds stays whole, and is no obstacle for those behind it."""
    views = some(3)
    held = ffi.from_buffer(views[1])
    _views.revoke(tracked(views))
    assert [is_released(view) for view in views] == [True, False, True]
    held[0] = b"x"
    assert views[1][0] == ord("x")


class Owner:
    """Something that memory belongs to."""


def test_an_owner_outlasts_views_as_objects() -> None:
    """Promise 4 in a pool: revoked views that are still referred to keep the owner, and the last of them lets it go."""
    views = some(3)
    entries = tracked(views)
    owner = Owner()
    kept = weakref.ref(owner)
    left = _views.revoke(entries)
    assert len(left) == 3
    _views.outlast(left, owner)
    entries.clear()
    left.clear()
    del owner
    while views:
        collect()
        assert kept() is not None
        views.pop()
    collect()
    assert kept() is None


def test_nothing_is_kept_for_views_that_are_gone() -> None:
    """To revoke says so: only those count that something else refers to, pins among them."""
    views = some(4)
    entries = tracked(views)
    part = views[1][1:2]
    del views[2:]
    collect()
    left = _views.revoke(entries)
    assert len(left) == 2 and is_released(views[0]) and len(part) == 1
    views.clear()
    entries.clear()
    collect()
    assert not _views.alive(left)


@pytest.mark.parametrize("cut", [_views.cut, _views._cut, _views._cut_apart])
def test_a_cut_is_a_view_of_its_own(cut: Callable[[memoryview, int, int], memoryview]) -> None:
    """Either way of cutting gives a writable view of those bytes of the exporter."""
    memory = bytearray(range(100))
    view = cut(memoryview(memory), 10, 14)
    assert (bytes(view), view.readonly, view.format) == (bytes(range(10, 14)), False, "B")
    view[0] = 255
    assert memory[10] == 255


def test_a_view_for_an_ended_list_is_released_at_once() -> None:
    """Promise 3: an allocation that the end overtook hands out a revoked view."""
    (view,) = some(1)
    _views.ended.append(view)
    assert is_released(view)
    assert len(_views.ended) == 0
    _views.ended.extend(some(3))
    assert len(_views.ended) == 0


# -- what a region does with them


def held_by(region: Region) -> int:
    """How many views the region remembers."""
    return len(region._chunk.views)


def test_a_million_blocks_are_not_kept() -> None:
    """A region with a million dead views holds a few hundred of them, not a million."""
    with bump_region() as a:
        for _ in range(1_000_000):
            a.alloc(64)
        assert held_by(a) < (5000 if COUNTED else 500_000)  # there the dead are known after a collection
        assert a.used == 64_000_000


def test_dead_views_of_large_blocks_are_not_kept_either() -> None:
    """Neither where each block is more than a window."""
    with bump_region(1 << 30) as a:
        for _ in range(20_000):
            a.alloc(50_000, zero=False)
        assert held_by(a) < 5000 or not COUNTED


def test_the_views_that_live_are_kept_through_pruning() -> None:
    """Promise 3: pruning drops only what is dead; every live view is revoked at the end."""
    with bump_region() as a:
        alive = [view for number in range(20_000) if (view := a.alloc(16)) is not None and number % 7 == 0]
        for number, view in enumerate(alive):
            view[0] = number % 256
        assert len(alive) <= held_by(a)
        assert held_by(a) < 3 * len(alive) + 5000 or not COUNTED
    for view in alive:
        with pytest.raises(ValueError, match="released"):
            view[0]


@counts_references
def test_pruning_costs_no_more_with_many_living_views() -> None:
    """The list is looked through when it has doubled, not each time: a hundred thousand live views are no burden."""
    looked = 0
    alive = _views.alive

    def counting(views: object) -> list[memoryview]:
        nonlocal looked
        found = alive(views)  # type: ignore[arg-type]  # as it came
        looked += len(found)
        return found

    with bump_region() as a, pytest.MonkeyPatch.context() as patch:
        patch.setattr(_views, "alive", counting)
        kept = [a.alloc(16) for _ in range(100_000)]
        assert 0 < looked < 3 * len(kept)
