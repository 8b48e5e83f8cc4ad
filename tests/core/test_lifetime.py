"""Who keeps what alive: the primitive, and the exporter behind every view of a range."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable, Iterator

import pytest

from helpers.stress import CPYTHON
from helpers.support import collect, counts_references, needs_gil, run_threads
from scopedbump import _lifetime, bump_region
from scopedbump._lifetime import CHAR_POINTER, Exporter, drop_dead_keepers, ffi, keep_alive, still_there


class Owner:
    """Something that memory belongs to."""


class Watched:
    """Something that something is kept for."""


def owned() -> tuple[Owner, weakref.ref[Owner]]:
    owner = Owner()
    return owner, weakref.ref(owner)


@pytest.fixture
def alone() -> Iterator[None]:
    """Nothing is kept afterwards that was not kept before."""
    gc.collect()
    collect()
    before = _lifetime._keepers.copy()
    yield
    collect()
    assert _lifetime._keepers <= before


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("make", [Watched, lambda: ffi.cast(CHAR_POINTER, 1), lambda: memoryview(b"")])
def test_an_owner_lives_as_long_as_what_it_is_kept_for(make: Callable[[], object]) -> None:
    """Promise 4: not longer, not shorter, whatever kind of object that is."""
    owner, kept = owned()
    until = make()
    keep_alive(owner, until)
    del owner
    collect()
    assert kept() is not None
    del until
    collect()
    assert kept() is None


@pytest.mark.usefixtures("alone")
def test_one_owner_kept_for_many() -> None:
    """Promise 4: it goes with the last of them, in whatever order they go."""
    owner, kept = owned()
    untils = [Watched() for _ in range(10)]
    for until in untils:
        keep_alive(owner, until)
        keep_alive(owner, until)
    del owner, until
    while untils:
        assert kept() is not None
        untils.pop(len(untils) // 2)
        collect()
    assert kept() is None


@pytest.mark.usefixtures("alone")
def test_owners_kept_for_one_another_in_a_row() -> None:
    """Promises 4 and 11: as scopes are: memory that belongs to memory that belongs to memory."""
    owner, kept = owned()
    last: object = owner
    length = 50 if CPYTHON else 5  # elsewhere one of them goes with each collection
    for _ in range(length):
        following = Watched()
        keep_alive(last, following)
        last = following
    del owner, following
    collect()
    assert kept() is not None
    del last
    for _ in range(length):
        collect()
    assert kept() is None


@pytest.mark.usefixtures("alone")
def test_what_is_watched_is_not_asked_for_its_equals() -> None:
    """A watched object may be unhashable, and equal to all others: they are told apart."""

    class Same:
        __hash__ = None  # type: ignore[assignment]  # that is the point

        def __eq__(self, other: object) -> bool:
            return True

    (owner, kept), (other, other_kept) = owned(), owned()
    first, second = Same(), Same()
    keep_alive(owner, first)
    keep_alive(other, second)
    del owner, other, first
    collect()
    assert kept() is None
    assert other_kept() is not None
    del second


@counts_references
@pytest.mark.usefixtures("alone")
def test_the_owner_dies_in_the_call_that_drops_the_last() -> None:
    """Promise 3: memory goes at once, without a collection, and without byte code in between."""
    owner, kept = owned()
    until = Watched()
    keep_alive(owner, until)
    gone: list[bool] = []
    reference = weakref.ref(until, lambda _: gone.append(kept() is not None))
    gc.disable()
    try:
        del owner, until
        assert kept() is None
    finally:
        gc.enable()
    assert reference() is None and gone == [True]  # the younger reference is told first


@counts_references
@pytest.mark.usefixtures("alone")
def test_an_owner_outlasts_the_finalizers_of_a_dead_cycle() -> None:
    """Promise 4: the collector clears weak references first; the anchor is nothing that it knows of."""
    owner, kept = owned()
    exporter = Exporter(0, 0, owner)
    seen: list[bool] = []

    class Node:
        def __init__(self) -> None:
            self.me = self
            self.view = exporter.view()

        def __del__(self) -> None:
            seen.append(kept() is not None)

    node = Node()
    del owner, exporter, node
    gc.collect()
    assert seen == [True]
    assert kept() is None


@pytest.mark.usefixtures("alone")
def test_the_owner_is_no_garbage() -> None:
    """Promise 4: an owner in a cycle of its own, that nothing else refers to, is not collected before its time."""
    owner, kept = owned()
    owner.me = owner  # type: ignore[attr-defined]  # so that only the collector could end it
    until = Watched()
    keep_alive(owner, until)
    del owner
    for _ in range(3):
        gc.collect()
    assert kept() is not None
    del until
    for _ in range(4):
        gc.collect()
    assert kept() is None


@pytest.mark.usefixtures("alone")
def test_keepers_that_were_not_told_are_dropped_in_time() -> None:
    """Promise 3: some collections clear weak references without a word; sooner or later somebody looks."""
    owner, kept = owned()
    mute = _lifetime._Keeper(ffi.cast(CHAR_POINTER, 1), lambda _: None)
    mute.owner = owner
    _lifetime._keepers.add(mute)
    collect()
    assert mute() is None
    del owner, mute
    assert kept() is not None
    drop_dead_keepers(always=True)
    collect()
    assert kept() is None


@counts_references
@pytest.mark.usefixtures("alone")
def test_looking_for_dead_keepers_now_and_then() -> None:
    """Promise 13: without being asked it happens before they are as many again as there were, and not at each call."""
    drop_dead_keepers(always=True)
    looked = 0
    for _ in range(1000):
        mute = _lifetime._Keeper(ffi.cast(CHAR_POINTER, 1), lambda _: None)
        mute.owner = None
        _lifetime._keepers.add(mute)
        del mute
        before = len(_lifetime._keepers)
        drop_dead_keepers()
        looked += len(_lifetime._keepers) < before
        assert len(_lifetime._keepers) <= 200
    drop_dead_keepers(always=True)
    assert 5 <= looked <= 30


@counts_references
@pytest.mark.usefixtures("alone")
def test_an_exporter_knows_whether_something_points_in() -> None:
    """Promise 4: a view, what is made of it, and what is made of that; not the exporter itself."""
    exporter = Exporter(0, 0, None)
    assert not exporter.pinned()
    view = exporter.view()
    assert exporter.pinned()
    part = view[:]
    del view
    assert exporter.pinned()
    data = ffi.from_buffer(part)
    part = part.cast("B")
    del part
    assert exporter.pinned()
    del data
    assert not exporter.pinned()
    view = exporter.view()
    view.release()
    assert not exporter.pinned()


@counts_references
@pytest.mark.usefixtures("alone")
def test_what_points_in_keeps_the_owner_without_the_exporter() -> None:
    """Promise 4: to give memory back is to let go of the exporter."""
    owner, kept = owned()
    exporter = Exporter(0, 0, owner)
    reference: weakref.ref[object] = weakref.ref(exporter.anchor)
    part = exporter.view()[:]
    del owner, exporter
    assert kept() is not None and still_there(reference)
    del part
    assert kept() is None and not still_there(reference)


def test_nothing_is_there_of_what_was_never_kept() -> None:
    """A chunk that gave its memory back at once has nothing to look at."""
    assert not still_there(None)


@needs_gil("there a thread may see another one's keeper before it dies")
@pytest.mark.usefixtures("alone")
def test_threads_keep_and_drop() -> None:
    """Promise 9: the registry is shared by all threads."""
    kept: list[weakref.ref[Owner]] = []

    def body() -> None:
        for _ in range(2000):
            owner, reference = owned()
            until = Watched()
            keep_alive(owner, until)
            del owner
            assert reference() is not None
            drop_dead_keepers(always=True) if len(kept) % 50 == 0 else None
            kept.append(reference)

    run_threads(body, body, body)
    collect()
    assert not any(reference() for reference in kept)


@counts_references
def test_a_region_of_another_thread_goes_with_its_last_escape() -> None:
    """Promise 4: whoever drops the last, and in whatever thread."""
    with bump_region(1 << 20) as a:
        escaped = [a.copy(b"kept")[:]]
    assert not a.released
    thread = threading.Thread(target=escaped.clear)
    thread.start()
    thread.join()
    assert a.released
