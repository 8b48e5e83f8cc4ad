"""The chunk: its states, its window of zeroed memory, and what comes too late for it.

All of it on chunks alone, without a region.
"""

from __future__ import annotations

from collections.abc import Callable
from weakref import ref

import pytest

from helpers.support import collect, counts_references
from scopedbump import CommitError, RegionFullError, _views
from scopedbump._atomic import atomic
from scopedbump._chunk import ENDED, OPEN, RESETTING, SUSPENDED, Chunk
from scopedbump._layout import WINDOW
from scopedbump._lifetime import COUNTED, Exporter
from scopedbump._reservation import Reservation, reserve

SIZE = 1 << 20


class Holder:
    """Whoever bumps in a chunk."""

    def __init__(self, chunk: Chunk) -> None:
        self._chunk = chunk


class Terms:
    """The tenure of these chunks: the memory is theirs."""

    def outlast(self, views: list[memoryview], exporter: Exporter | None) -> None:
        """Nothing: revoked views are harmless here."""

    def renew(self, reservation: Reservation) -> Chunk:
        return new(reservation.size)

    def end(self, chunk: Chunk, exporter: Exporter | None) -> ref[object] | None:
        return chunk.kept


def new(size: int = SIZE) -> Chunk:
    reservation, mapping = reserve(size)
    return Chunk(reservation, Exporter(reservation.address, size, mapping), Terms())


def take(chunk: Chunk, size: int, align: int = 16) -> tuple[memoryview, int, int, int]:
    """Bump, with room made for it."""
    taken = chunk.bump(size, align)
    if taken is None:
        chunk.make_room(size, align, "")
        taken = chunk.bump(size, align)
    assert taken is not None
    return taken


def suspended(chunk: Chunk) -> Chunk:
    """The chunk of a scope in it."""
    inner = chunk.rest(chunk.cursor)
    assert inner is not None
    assert chunk.suspend(inner, chunk.cursor)
    return inner


def opened() -> Chunk:
    chunk = new()
    take(chunk, 100)
    chunk.prepare()
    return chunk


def resetting() -> Chunk:
    chunk = opened()
    assert chunk.stop(RESETTING)
    return chunk


def in_scope() -> Chunk:
    chunk = opened()
    suspended(chunk)
    return chunk


def ended() -> Chunk:
    chunk = opened()
    assert chunk.stop(ENDED)
    return chunk


STATES: dict[Callable[[], Chunk], int] = {opened: OPEN, in_scope: SUSPENDED, resetting: RESETTING, ended: ENDED}
each_state = pytest.mark.parametrize(("make", "state"), STATES.items(), ids=[make.__name__ for make in STATES])


@each_state
def test_the_table_of_states(make: Callable[[], Chunk], state: int) -> None:
    """What the head of the module says of limit, view and inner in each state."""
    chunk = make()
    assert chunk.state == state
    assert (chunk.limit >= 0) == (state == OPEN and atomic)
    assert (chunk.view is not None) == (state in (OPEN, SUSPENDED))
    assert (chunk.inner is not None) == (state == SUSPENDED)


@each_state
def test_only_an_open_chunk_gives_bytes(make: Callable[[], Chunk], state: int) -> None:
    """Promise 11: in all other states a bump comes to nothing and moves no cursor."""
    chunk = make()
    cursor = chunk.cursor
    assert (chunk.bump(10, 16) is not None) == (state == OPEN)
    assert (chunk.cursor > cursor) == (state == OPEN)


@each_state
def test_only_an_open_chunk_opens_a_scope_or_resets(make: Callable[[], Chunk], state: int) -> None:
    """Promise 11: and whoever tries is told."""
    chunk = make()
    inner = Chunk(chunk.reservation, chunk.exporter, chunk.tenure)  # type: ignore[arg-type]  # there before the end
    assert chunk.suspend(inner, chunk.cursor) == (state == OPEN)
    chunk = make()
    assert chunk.stop(RESETTING) == (state == OPEN)
    assert chunk.state == (RESETTING if state == OPEN else state)


@each_state
def test_every_state_can_end_once(make: Callable[[], Chunk], state: int) -> None:
    """Promise 5: a second end does nothing, and says so."""
    chunk = make()
    assert chunk.stop(ENDED) == (state != ENDED)
    assert not chunk.stop(ENDED)
    assert chunk.state == ENDED and chunk.limit == -1 and chunk.view is None


@each_state
def test_a_window_opens_in_an_open_chunk_only(make: Callable[[], Chunk], state: int) -> None:
    """Promise 11: an allocation that was interrupted by a scope or an end does not open the fast path afterwards."""
    chunk = make()
    chunk.prepare()
    assert (chunk.limit >= 0) == (state == OPEN and atomic)


def test_a_scope_does_not_open_where_the_cursor_has_moved() -> None:
    """Promise 9: a handler allocated since the scope was measured: its block would lie in the scope."""
    chunk = new()
    inner = chunk.rest(chunk.cursor)
    assert inner is not None
    cursor = chunk.cursor
    take(chunk, 10)
    assert not chunk.suspend(inner, cursor)
    assert chunk.state == OPEN


def test_a_scope_begins_behind_what_was_used() -> None:
    """Promise 7: aligned, and not beyond the end."""
    chunk = new(1000)
    take(chunk, 3, 1)
    inner = chunk.rest(chunk.cursor)
    assert inner is not None and (inner.start, inner.cursor) == (16, 16)
    take(chunk, 994, 1)
    inner = chunk.rest(chunk.cursor)
    assert inner is not None and (inner.start, inner.cursor) == (1000, 1000)


def test_only_the_scope_that_is_open_resumes() -> None:
    """Promise 11: a scope may be ended by two threads; what opened after it is not ended with it."""
    chunk = opened()
    first = suspended(chunk)
    chunk.resume(first, 0)
    second = suspended(chunk)
    chunk.resume(first, 5000)
    assert chunk.state == SUSPENDED and chunk.inner is second and chunk.cursor == 100
    chunk.resume(second, 5000)
    assert chunk.state == OPEN and chunk.inner is None and chunk.cursor == 5000


def test_after_a_scope_nothing_counts_as_zeroed() -> None:
    """Promise 6: the scope wrote where its parent had zeroed ahead."""
    chunk = opened()
    inner = suspended(chunk)
    view, start, _, _ = take(inner, 1000)
    view[start : start + 1000] = b"\xff" * 1000
    del view
    inner.stop(ENDED)
    chunk.resume(inner, 0)
    assert chunk.zeroed == chunk.cursor and chunk.limit == -1
    assert chunk.peak >= start + 1000
    chunk.prepare()
    view, start, _, zeroed = take(chunk, 1000)
    assert zeroed >= start + 1000
    assert not any(view[start : start + 1000])


def test_a_window_is_not_cleared_over_what_was_handed_out_meanwhile() -> None:
    """Promise 9: whoever comes between the look and the clearing keeps its bytes."""
    chunk = new()
    view, start, _, _ = take(chunk, WINDOW * 2)
    view[start : start + 2 * WINDOW] = b"\xff" * (2 * WINDOW)
    chunk.stop(RESETTING)
    again = Chunk(chunk.reservation, chunk.exporter, chunk.tenure)  # type: ignore[arg-type]  # there before the end
    assert chunk.hand_over(Holder(chunk), again)
    zeroed, dirty = again.zeroed, again.reservation.dirty
    view, start, _, _ = take(again, 100)  # comes in between
    view[start : start + 100] = b"\xee" * 100
    again._open_window(view, zeroed, dirty, WINDOW, slice(0, WINDOW), memoryview(bytes(WINDOW)))
    assert bytes(view[start : start + 100]) == b"\xee" * 100
    assert again.limit == -1


@pytest.mark.parametrize("late", ["view", "state", "dirty"])
def test_a_window_that_comes_too_late_changes_nothing(late: str) -> None:
    """Promises 6 and 9: each thing that may have changed since it was measured."""
    chunk = new()
    take(chunk, 100)
    view = chunk.view
    assert view is not None
    zeroed, dirty = chunk.zeroed, chunk.reservation.dirty
    if late == "view":
        chunk.view = memoryview(view)
    elif late == "state":
        suspended(chunk)
    else:
        chunk.reservation.dirty += 1
    chunk._open_window(view, zeroed, dirty, WINDOW, None, memoryview(b""))
    assert (chunk.limit, chunk.zeroed) == (-1, zeroed)


def test_what_is_known_to_be_written_is_not_forgotten() -> None:
    """Promise 6: an end raises the mark of what was written, and never lowers it."""
    chunk = opened()
    inner = suspended(chunk)
    take(inner, 1000)
    reservation = chunk.reservation
    reservation.dirty = 50_000
    inner.stop(ENDED)
    assert reservation.dirty == 50_000
    chunk.resume(inner, 0)
    chunk.stop(ENDED)
    assert reservation.dirty == 50_000


def test_an_end_knows_how_far_a_lost_scope_wrote() -> None:
    """Promise 6: a scope that never came to its end is ended with the chunk around it."""
    chunk = opened()
    inner = suspended(chunk)
    take(inner, 300_000)
    chunk.stop(ENDED)
    chunk.let_go(False)
    assert inner.state == ENDED
    assert chunk.reservation.dirty >= 300_000 and chunk.peak >= 300_000


def test_a_rewind_takes_back_the_last_bytes_only() -> None:
    """Promise 1: and nothing where somebody has allocated since, or the chunk has ended; the bytes are zero again."""
    chunk = opened()
    view, start, mark, _ = take(chunk, 100)
    view[start : start + 100] = b"\xff" * 100
    chunk.rewind(view, mark, start + 100)
    assert chunk.cursor == mark
    assert not any(view[mark : start + 100])
    _, start, mark, _ = take(chunk, 100)
    take(chunk, 1)
    cursor = chunk.cursor
    chunk.rewind(view, mark, start + 100)
    assert chunk.cursor == cursor
    inner = suspended(chunk)
    chunk.rewind(view, 0, cursor)
    assert chunk.cursor == cursor
    chunk.resume(inner, 0)
    chunk.stop(ENDED)
    chunk.rewind(view, 0, cursor)
    assert chunk.cursor == cursor


def test_a_hand_over_comes_after_no_close() -> None:
    """Promise 5: a close in the middle of a reset is not undone."""
    chunk = resetting()
    holder = Holder(chunk)
    new_one = Chunk(chunk.reservation, chunk.exporter, chunk.tenure)  # type: ignore[arg-type]  # there before the end
    assert chunk.stop(ENDED)
    assert not chunk.hand_over(holder, new_one)
    assert holder._chunk is chunk


def test_a_hand_over_inside_another_chunk() -> None:
    """Promise 11: the chunk around a scope knows the scope's new chunk, unless it has let go of it."""
    outer = opened()
    inner = suspended(outer)
    holder = Holder(inner)
    inner.stop(RESETTING)
    behind = Chunk(inner.reservation, inner.exporter, inner.tenure, inner.start, outer)  # type: ignore[arg-type]
    assert inner.hand_over(holder, behind)
    assert holder._chunk is behind and outer.inner is behind
    assert inner.state == ENDED and inner.exporter is None and inner.tenure is None


@each_state
def test_objects_made_ahead_let_go_at_the_end(make: Callable[[], Chunk], state: int) -> None:
    """Promise 3: each is called once at the end or reset, and at once where that has passed."""
    chunk = make()
    called: list[int] = []
    chunk.at_end(1, lambda: called.append(1))
    chunk.at_end(2, lambda: called.append(2))
    assert sorted(called) == ([1, 2] if state in (RESETTING, ENDED) else [])
    chunk.stop(ENDED)
    chunk.revoke()
    chunk.revoke()
    assert sorted(called) == [1, 2]


def test_what_let_go_is_not_called_again() -> None:
    """A slab that is dropped takes itself out."""
    chunk = opened()
    called: list[int] = []
    chunk.at_end(1, lambda: called.append(1))
    assert chunk.batches is not None
    chunk.batches.pop(1)
    chunk.stop(ENDED)
    chunk.revoke()
    assert not called


def test_revoking_again_after_it_was_interrupted() -> None:
    """Promise 5: every view is revoked in the end, whatever one of those who let go raises."""
    chunk = opened()
    view, start, _, _ = take(chunk, 10)
    block = view[start : start + 10]
    chunk.track((block,))
    del view

    def fail() -> None:
        raise KeyboardInterrupt

    chunk.at_end(1, fail)
    chunk.stop(ENDED)
    with pytest.raises(KeyboardInterrupt):
        chunk.revoke()
    chunk.revoke()
    with pytest.raises(ValueError, match="released"):
        block[0]


def test_a_view_that_comes_after_the_end_is_revoked() -> None:
    """Promise 3: an allocation that the end overtook."""
    chunk = opened()
    views, view = chunk.views, chunk.view
    assert view is not None
    chunk.stop(ENDED)
    block = view[:10]
    chunk.views.append(block)
    with pytest.raises(ValueError, match="released"):
        block[0]
    assert chunk.views is _views.ended and chunk.stale is views


def test_pruning_while_others_append() -> None:
    """Promise 9: what came since the look stands behind what was looked at; whoever comes second changes nothing."""
    chunk = opened()
    view = chunk.view
    assert view is not None
    kept = [view[:1] for _ in range(20)]
    chunk.track(kept)
    views = chunk.views
    chunk.track([view[:1]])
    late = view[1:2]
    chunk.track([late])
    prunes = chunk._prunes
    alive = _views.alive(views[:20])
    chunk._replace_pruned(views, prunes, slice(0, 20), alive[:5], 99)
    assert len(views) == 7
    chunk._replace_pruned(views, prunes, slice(0, 20), [], 0)
    assert len(views) == 7 and chunk._prune_at == 99
    chunk.stop(ENDED)
    chunk._replace_pruned(views, chunk._prunes, slice(0, 7), [], 0)
    assert len(views) == 7


@counts_references
def test_letting_go_gives_the_memory_back_or_leaves_it() -> None:
    """Promises 3 and 4: at once when nothing points in, else with the last that does; may be repeated."""
    for hold in (False, True):
        chunk = opened()
        view, start, _, _ = take(chunk, 10)
        block = view[start : start + 10]
        part = block[1:] if hold else None
        chunk.track((block,))
        del view
        chunk.stop(ENDED)
        for _ in range(2):
            chunk.let_go(False)
            assert chunk.escaped == hold
            assert chunk.exporter is None and chunk.tenure is None
            assert (chunk.kept is not None and chunk.kept() is not None) == hold
        del part
        collect()
        assert chunk.kept is None or chunk.kept() is None


@counts_references
def test_memory_that_another_thread_erases_is_not_free_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Promise 6: two threads end a chunk; one begins to erase just after the other has seen that nothing points in."""
    chunk = ended()
    exporter = chunk.exporter
    assert isinstance(exporter, Exporter)
    given: list[Exporter | None] = []
    monkeypatch.setattr(Terms, "end", lambda _, chunk, exporter: given.append(exporter))
    pinned = Exporter.pinned

    def then_erase(self: Exporter) -> bool:
        result = pinned(self)
        assert chunk._begin_to_erase(self)
        return result

    monkeypatch.setattr(Exporter, "pinned", then_erase)
    chunk.let_go(False)
    assert given == [None] and chunk.escaped
    monkeypatch.undo()
    chunk.erase(exporter)  # the other thread, in its next attempt, finds that it is too late
    assert chunk.erasers == 1


def test_no_room_is_said_with_what_is_left() -> None:
    """Promise 8: for the alignment that was asked for, and the size of the scope, not of the reservation."""
    chunk = new(1000)
    take(chunk, 100)
    inner = suspended(chunk)
    with pytest.raises(RegionFullError) as caught:
        inner.make_room(900, 64, "name")
    error = caught.value
    start = -(chunk.reservation.address + 112) % 64 + 112
    assert (error.requested, error.align, error.available, error.size) == (900, 64, 1000 - start, 1000 - 112)


def test_room_is_made_for_a_window() -> None:
    """Promise 2: one call to the system serves many small blocks."""
    chunk = new()
    chunk.make_room(1, 16, "")
    assert chunk.reservation.committed >= WINDOW


def test_refused_room_moves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Promise 8: CommitError leaves cursor and window where they were."""
    chunk = new()

    def refuse(address: int, size: int) -> None:
        raise CommitError("refused by the test")

    monkeypatch.setattr(chunk.reservation.pages, "commit", refuse)
    with pytest.raises(CommitError):
        chunk.make_room(10, 16, "")
    assert (chunk.cursor, chunk.zeroed, chunk.limit, chunk.reservation.committed) == (0, 0, -1, 0)


def test_clearing_stops_where_nobody_has_written() -> None:
    """Promises 2 and 6: what was never written is zero already and stays untouched."""
    chunk = new()
    view, start, _, _ = take(chunk, 200_000)
    view[start : start + 200_000] = b"\xff" * 200_000
    chunk.reservation.dirty = 150_000
    chunk.clear(view, 10, 200_000)
    assert bytes(view[:10]) == b"\xff" * 10
    assert not any(view[10:150_000])
    assert bytes(view[150_000:200_000]) == b"\xff" * 50_000


@pytest.mark.skipif(not COUNTED, reason="elsewhere something may always point in")
def test_erasing_leaves_what_is_not_its_own() -> None:
    """A scope wipes its own bytes, not its parent's."""
    outer = opened()
    assert outer.view is not None
    outer.view[:112] = b"o" * 112
    inner = suspended(outer)
    view, start, _, _ = take(inner, 1000)
    view[start : start + 1000] = b"i" * 1000
    inner.stop(ENDED)
    assert isinstance(inner.exporter, Exporter)
    inner.erase(inner.exporter)
    assert bytes(view[:112]) == b"o" * 112
    assert not any(view[112 : start + 1000])


def test_positions_count_from_the_start_of_the_reservation() -> None:
    """In scopes too, so that an address is one addition."""
    chunk = new()
    take(chunk, 100)
    inner = suspended(chunk)
    view, start, mark, _ = take(inner, 10)
    assert (start, mark, inner.start) == (112, 112, 112)
    assert view.nbytes == SIZE
