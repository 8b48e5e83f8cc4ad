"""The end of a region: promises 3, 4 and 5."""

from __future__ import annotations

import ctypes
import gc
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

import cffi
import pytest

from helpers.support import collect, counts_references, mapped, needs_maps, run_script
from scopedbump import EscapeError, EscapeWarning, RegionBusyError, RegionClosedError, RegionFullError, bump_region
from scopedbump._lifetime import ffi

if TYPE_CHECKING:
    from typing_extensions import Buffer


@needs_maps
@counts_references
@pytest.mark.parametrize("fail", [False, True])
def test_the_mapping_is_gone_at_the_end_of_the_block(fail: bool) -> None:
    """Promise 3: unmapped before `with` returns, also by an exception, although local variables hold the views."""
    try:
        with bump_region() as a:
            view, blocks = a.alloc(100), [block for block, _ in zip(a.slab(32), range(20), strict=False)]
            address = a.address(view)
            assert mapped(address)
            if fail:
                raise KeyError("on its way")
    except KeyError:
        pass
    assert not mapped(address)
    assert a.released
    for revoked in (view, *blocks):
        with pytest.raises(ValueError, match="released"):
            revoked[0]


def escape_by_slice(view: memoryview) -> object:
    return view[3:]


def escape_by_memoryview(view: memoryview) -> object:
    return memoryview(view)


def escape_by_cast(view: memoryview) -> object:
    return view.cast("I")


def escape_by_ctypes(view: memoryview) -> object:
    return (ctypes.c_char * len(view)).from_buffer(view)


def escape_by_ctypes_pointer(view: memoryview) -> object:
    return ctypes.pointer((ctypes.c_char * len(view)).from_buffer(view))


def escape_by_cffi(view: memoryview) -> object:
    return ffi.from_buffer(view)


def escape_by_cffi_buffer(view: memoryview) -> object:
    return ffi.buffer(ffi.from_buffer(view))


def escape_by_ndarray(view: memoryview) -> object:
    return pytest.importorskip("numpy").frombuffer(view, dtype="u1")


ESCAPES = [function for name, function in list(globals().items()) if name.startswith("escape_by_")]


def content(escaped: object) -> bytes:
    """What the escape reads, whatever it is."""
    if isinstance(escaped, ctypes._Pointer):
        escaped = escaped.contents
    if isinstance(escaped, ffi.CData):
        escaped = ffi.buffer(escaped)
    return bytes(cast("Buffer", escaped))


@pytest.mark.parametrize("escape", ESCAPES)
def test_an_escape_keeps_its_memory_with_its_content(escape: Callable[[memoryview], object]) -> None:
    """Promise 4: what was made from a view reads right after the end, and the memory goes when it goes."""
    with bump_region() as a:
        view = a.alloc(64)
        view[:] = bytes(range(64))
        address = a.address(view)
        escaped = escape(view)
        expected = content(escaped)
        del view
    collect()
    assert not a.released
    with bump_region() as b:
        b.alloc(4096)[:] = b"\xff" * 4096
    assert content(escaped) == expected
    if sys.platform == "linux":
        assert mapped(address)
    del escaped
    collect()
    assert a.released
    if sys.platform == "linux":
        assert not mapped(address)


@pytest.mark.parametrize("escape", ESCAPES)
def test_escapes_are_told_apart_from_revoked_views(escape: Callable[[memoryview], object]) -> None:
    """escape="raise" and "warn" speak of what still points in, not of views in local variables."""
    with bump_region(escape="raise") as a:
        view = a.alloc(64)
        if sys.implementation.name != "cpython":
            del view  # there a view that is still referred to may be all that keeps what was made from it
    escaped = None
    with pytest.raises(EscapeError, match="still points into it") as caught, bump_region(escape="raise") as a:
        view = a.alloc(64)
        escaped = escape(view)
    assert isinstance(caught.value, BufferError)
    assert a.closed
    with pytest.warns(EscapeWarning, match="still points into it"), bump_region(escape="warn") as a:
        view = a.alloc(64)
        escaped = escape(view)
    assert issubclass(EscapeWarning, ResourceWarning)
    del escaped, view


def test_the_exception_on_its_way_is_never_replaced() -> None:
    """Promise 5: neither an escape nor a warning that is an error masks what leaves the block."""
    for kind in ("raise", "warn", "keep"):
        with pytest.raises(KeyError, match="mine"), bump_region(escape=kind) as a:
            escaped = a.alloc(10)[:]
            raise KeyError("mine")
        assert a.closed
        del escaped


def test_closing_twice_is_a_no_op() -> None:
    """Promise 5: close may be called again, inside the block, and after an EscapeError."""
    a = bump_region(escape="raise")
    escaped = a.alloc(10)[:]
    with pytest.raises(EscapeError):
        a.close()
    a.close()
    with bump_region() as b:
        b.close()
        b.close()
        assert b.closed
    assert escaped[0] == 0


def test_without_with() -> None:
    """close() works alone, and a closed region can't be entered."""
    a = bump_region()
    view = a.alloc(10)
    a.close()
    with pytest.raises(ValueError, match="released"):
        view[0]
    with pytest.raises(RegionClosedError), a:
        pass


def test_closing_inside_a_scope_ends_the_scope_first() -> None:
    """Promise 5: the wrong order of exits is no error: inner scopes end with the region around them."""
    with bump_region() as a:
        inner = a.scope()
        innermost = inner.scope()
        view = innermost.alloc(10)
        a.close()
        assert inner.closed
        assert innermost.closed
        with pytest.raises(ValueError, match="released"):
            view[0]
        innermost.close()
        inner.close()


def test_a_thousand_scopes_deep() -> None:
    """Closing the outermost of many nested scopes needs no recursion."""
    a = bump_region()
    scopes = [a]
    for _ in range(5000):
        scopes.append(scopes[-1].scope())
    a.close()
    assert all(scope.closed for scope in scopes)


@counts_references
def test_a_lost_region_warns_and_gives_its_memory_back() -> None:
    """ResourceWarning when an open region is lost; its memory is back all the same."""
    a = bump_region(name="lost")
    address = a.address(a.alloc(10))
    with pytest.warns(ResourceWarning, match="'lost'.* was lost without being closed"):
        del a
        gc.collect()
    if sys.platform == "linux":
        assert not mapped(address)


@counts_references
def test_a_lost_scope_lets_its_parent_go_on() -> None:
    """A scope that is lost open warns, and its parent allocates again."""
    with bump_region() as a:
        with pytest.warns(ResourceWarning, match="was lost without being closed"):
            a.scope()
        assert a.alloc(10).nbytes == 10


@counts_references
def test_no_reference_cycles_are_left() -> None:
    """A region, its adapters' use and its scopes die by their counts, not by the collector."""
    gc.collect()
    gc.disable()
    try:
        with bump_region() as a:
            a.alloc(10)
            next(a.slab(8))
            with a.scope() as inner:
                inner.alloc(5)
        del a, inner
        assert gc.collect() == 0
    finally:
        gc.enable()


def test_closing_a_region_of_a_million_views_takes_milliseconds() -> None:
    """Closing costs no more than releasing what is alive; a second is the bound of a very slow machine."""
    a = bump_region()
    alive = [a.alloc(64) for _ in range(200_000)]
    start = time.perf_counter()
    a.close()
    assert time.perf_counter() - start < 1
    with pytest.raises(ValueError, match="released"):
        alive[-1][0]


@counts_references
def test_a_view_in_use_at_the_close_stays_whole() -> None:
    """Promise 4: a view with exports can't be revoked; it and what was made from it go on, others are revoked."""
    with bump_region() as a:
        first, second = a.alloc(10), a.alloc(10)
        first[:] = b"0123456789"
        export = ffi.from_buffer(first)
    assert bytes(first) == b"0123456789"
    assert export[3] == b"3"
    with pytest.raises(ValueError, match="released"):
        second[0]
    del export
    first.release()
    collect()
    assert a.released


@counts_references
def test_finalizers_of_a_dead_cycle_read_through_their_escape() -> None:
    """Promise 4: a collection clears weak references before finalizers run; the memory must outlast both."""
    output = run_script("""
        import gc
        from scopedbump import bump_region
        class Node:
            def __init__(self, view):
                self.view, self.me = view, self
            def __del__(self):
                print(bytes(self.view))
        with bump_region() as a:
            view = a.alloc(16)
            view[:] = b"0123456789abcdef"
            node = Node(view[3:6])
            del view
        del node
        gc.collect()
        print(a.released)
    """)
    assert output.split() == ["b'345'", "True"]


@counts_references
def test_a_refusal_that_is_kept_pins_nothing() -> None:
    """Promise 3: what a log or a debugger keeps of an error, its frames included, is no escape."""
    kept: list[BaseException] = []
    own = cffi.FFI()
    too_much = 1 << 20
    with bump_region(1 << 16) as a:
        next(a.slab(16))
        calls: list[Callable[[], object]] = [
            lambda: a.alloc(too_much),
            lambda: a.alloc(too_much, 4096, zero=False),
            lambda: a.copy(bytes(too_much)),
            lambda: next(a.slab(too_much)),
            lambda: a.ctypes.new(ctypes.c_char * too_much),
            lambda: next(a.ctypes.slab(ctypes.c_char * too_much)),
            lambda: a.ctypes.strings(["x" * too_much]),
            lambda: a.cffi(own).new("char[]", too_much),
            lambda: a.cffi(own).new("char[]", b"x" * too_much),
            lambda: a.cffi(own).string("x" * too_much),
        ]
        for call in calls:
            with pytest.raises(RegionFullError) as caught:
                call()
            kept.append(caught.value)
        with a.scope():
            with pytest.raises(RegionBusyError) as busy:
                a.alloc(1)
            kept.append(busy.value)
        assert a.used < 1 << 16
    assert len(kept) == len(calls) + 1
    assert a.released
