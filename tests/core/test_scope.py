"""Scopes: promise 11."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.invariants import check
from helpers.support import collect, counts_references
from scopedbump import EscapeError, Region, bump_region
from scopedbump._lifetime import Exporter


@counts_references
def test_a_scope_gives_its_memory_back_to_its_parent() -> None:
    """After a scope the parent goes on where it was, over zeroed bytes; the scope's views are revoked."""
    with bump_region() as a:
        a.alloc(100)
        with a.scope() as inner:
            view = inner.alloc(50)
            view[:] = b"x" * 50
            assert inner.used == 50
            assert a.used == 100
        assert a.used == 100
        assert a.peak == 112 + 50
        again = a.alloc(50)
        assert not any(again)
        with pytest.raises(ValueError, match="released"):
            view[0]
        check(a)


def test_a_scope_with_an_escape_gives_back_nothing_that_it_could_see() -> None:
    """Promise 11: the parent goes on behind the scope; the escape keeps its bytes while the parent writes on."""
    with bump_region() as a:
        with a.scope() as inner:
            view = inner.alloc(64)
            view[:] = b"e" * 64
            escaped = view[:]
        for _ in range(100):
            a.alloc(64)[:] = b"\xff" * 64
        assert bytes(escaped) == b"e" * 64
        check(a)
    assert bytes(escaped) == b"e" * 64
    assert not a.released
    del escaped, view
    collect()
    assert a.released


def test_an_escape_of_a_scope_keeps_the_whole_reservation() -> None:
    """Promise 4: the memory of a scope lies in its parent's reservation, which stays until the escape goes."""
    with bump_region() as a, a.scope() as inner, inner.scope() as innermost:
        escaped = innermost.copy(b"deep")[:]
    assert bytes(escaped) == b"deep"
    assert not a.released
    del escaped
    collect()
    assert a.released


@counts_references
def test_a_closed_scope_that_is_held_keeps_nothing() -> None:
    """Promise 3: holding the closed Region object of a scope does not hold the memory."""
    with bump_region() as a, a.scope() as inner:
        inner.alloc(10)
    assert inner.released
    assert a.released


def test_a_scope_takes_the_policy_of_its_parent() -> None:
    """escape=None inherits; another value overrides."""
    with bump_region(escape="raise") as a:
        with a.scope(escape="keep") as inner:
            kept = inner.alloc(4)[:]
        with pytest.raises(EscapeError), a.scope() as inner:
            escaped = inner.alloc(4)[:]
        assert a.alloc(1).nbytes == 1
        del kept, escaped


def test_scopes_of_a_full_region() -> None:
    """A scope opens even where nothing is left, and serves nothing."""
    with bump_region(100) as a:
        a.alloc(100)
        with a.scope() as inner:
            assert (inner.size, inner.available) == (0, 0)
            assert inner.alloc(0).nbytes == 0
            with pytest.raises(MemoryError):
                inner.alloc(1)
            check(inner)
        check(a)


def test_slabs_and_resets_inside_a_scope() -> None:
    """A scope is a region: it resets and slabs on its own part."""
    with bump_region() as a:
        keep = a.copy(b"outside")
        with a.scope() as inner:
            for _ in range(5):
                block = next(inner.slab(1000))
                assert not any(block)
                block[:] = b"z" * 1000
                inner.reset()
                check(inner)
        assert bytes(keep) == b"outside"
        check(a)


def test_an_escape_across_the_reset_of_a_scope() -> None:
    """A scope has no reservation of its own to replace: it goes on behind the escape."""
    with bump_region() as a:
        with a.scope() as inner:
            inner.alloc(8)
            escaped = inner.copy(b"mine")[:]
            inner.reset()
            assert inner.used == 20
            for _ in range(10):
                inner.alloc(64)[:] = b"\xff" * 64
            check(inner)
        assert bytes(escaped) == b"mine"
        a.alloc(1000)[:] = b"\xff" * 1000
        assert bytes(escaped) == b"mine"
        check(a)


@given(st.lists(st.sampled_from(["open", "close", "alloc", "escape", "reset"]), max_size=40))
@settings(max_examples=60, deadline=None)
def test_any_nesting(steps: list[str]) -> None:
    """Programs of scopes: every live block keeps its content, every invariant holds, everything ends."""
    stack: list[Region] = [bump_region(1 << 20)]
    escaped: list[tuple[memoryview, int]] = []
    for number, step in enumerate(steps, 1):
        top = stack[-1]
        if step == "open":
            stack.append(top.scope())
        elif step == "close" and len(stack) > 1:
            stack.pop().close()
        elif step == "reset":
            top.reset()
        else:
            view = top.alloc(100)
            assert not any(view)
            view[:] = bytes([number]) * 100
            if step == "escape":
                escaped.append((view[:], number))
        check(stack[0])
        assert all(set(view) == {number} for view, number in escaped)
    stack[0].close()
    assert all(set(view) == {number} for view, number in escaped)
    assert all(region.closed for region in stack)


def test_a_close_around_a_scope_that_another_thread_is_ending(monkeypatch: pytest.MonkeyPatch) -> None:
    """Promise 11: what escaped from the inner scope is not given to anybody, whoever is faster."""
    a = bump_region(1 << 20)
    s = a.scope()
    s.alloc(100)
    t = s.scope()
    escape = t.alloc(3000)[:]
    escape[:] = b"e" * 3000
    at_it, go_on = threading.Event(), threading.Event()
    pinned = Exporter.pinned

    def slowly(exporter: Exporter) -> bool:
        answer = pinned(exporter)
        if threading.current_thread() is thread:
            at_it.set()
            assert go_on.wait(20)
        return answer

    monkeypatch.setattr(Exporter, "pinned", slowly)
    thread = threading.Thread(target=t.close)
    thread.start()
    assert at_it.wait(20)
    s.close()
    a.alloc(8000)[:] = b"a" * 8000
    go_on.set()
    thread.join()
    a.alloc(8000)[:] = b"a" * 8000
    assert bytes(escape) == b"e" * 3000
    check(a)
    a.close()
    assert t.closed and s.closed and a.closed
    assert bytes(escape) == b"e" * 3000
    del escape
    collect()
    assert a.released
