"""What keeps the memory of a cffi object: it can't be taken away, and it lasts through a garbage collection."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from helpers.support import counts_references, run_script
from scopedbump import CffiAllocator, Region, bump_region

cffi: Any = pytest.importorskip("cffi", reason="in-line ffi objects need the whole of cffi")

ffi: Any = cffi.FFI()
ffi.cdef("typedef struct { int x, y; } point; struct flexible { int count; char data[]; };")

MAKERS: dict[str, Callable[[CffiAllocator, Region], Any]] = {
    "a number": lambda c, a: c.new("int *", 5),
    "a number, zero": lambda c, a: c.new("int *"),
    "an array": lambda c, a: c.new("int[]", [5]),
    "a struct": lambda c, a: c.new("point *", (5,)),
    "what a struct's pointer leads to": lambda c, a: c.new("point *", (5,))[0],
    "a struct with a flexible array": lambda c, a: c.new("struct flexible *", (5, b"abc")),
    "a string": lambda c, a: c.string("5"),
    "strings": lambda c, a: c.strings(["5"]),
    "a pointer to a view": lambda c, a: c.pointer(a.copy(b"5555"), "int *"),
    "an array over a view": lambda c, a: c.pointer(a.copy(b"5555"), "int[]"),
}


@pytest.fixture(params=list(MAKERS.values()), ids=list(MAKERS))
def escape(request: pytest.FixtureRequest) -> Iterator[list[Any]]:
    """A region that has ended, and what still points into it."""
    with bump_region() as a:
        made = [a, request.param(a.cffi(ffi), a)]
    yield made
    made.clear()


def content(made: Any) -> bytes:
    kind = ffi.typeof(made).kind
    return bytes(ffi.buffer(ffi.addressof(made) if kind == "struct" else made))


@counts_references
def test_what_keeps_the_memory_cannot_be_taken_away(escape: list[Any]) -> None:
    """Promise 4: `ffi.gc(object, None)` is refused, as for what `ffi.new` makes, or does nothing."""
    region, made = escape
    before = content(made)
    for _ in range(2):
        try:
            ffi.gc(made, None)
        except TypeError as refusal:
            assert "Can remove destructor only on a object previously returned by ffi.gc()" in str(refusal)
    ffi.gc(made, lambda _: None)  # this one's destructor is its own
    assert not region.released and content(made) == before
    made = escape[1] = None
    assert region.released


@counts_references
def test_a_release_gives_the_memory_back(escape: list[Any]) -> None:
    """`ffi.release`, or the end of the object's `with` block, lets go of the memory."""
    region, made = escape
    with made:
        assert not region.released
    assert region.released


@counts_references
def test_a_collection_in_one_thread_is_no_escape_in_another() -> None:
    """What loses its last pointer in a collection stays until that is over: but not in other threads."""
    run_script(
        """
        import gc, threading
        import cffi
        from scopedbump import bump_region

        ffi = cffi.FFI()
        done = []

        def elsewhere():
            with bump_region(escape="raise") as a:
                made = a.cffi(ffi).new("int[]", 3)
                del made
            assert a.released
            done.append(a)

        class Node:
            def __del__(self):
                thread = threading.Thread(target=elsewhere)
                thread.start()
                thread.join()

        gc.disable()
        with bump_region() as a:
            a.cffi(ffi).new("int *")
        node = Node()
        node.me = node
        del node
        gc.collect()
        assert done
        """
    )


@counts_references
def test_what_dies_in_a_collection_goes_at_its_end() -> None:
    """A finalizer of the same dead cycle still reads the object; after the collection the memory is gone."""
    run_script(
        """
        import gc
        import cffi
        from scopedbump import bump_region

        ffi = cffi.FFI()
        seen = []

        class Node:
            def __del__(self):
                seen.append((self.region.released, self.made[1], ffi.string(self.text)))

        gc.disable()
        for _ in range(20):
            # Members are finalized in the order in which they were made, or the other way round: so one of each.
            first, last = Node(), None
            with bump_region() as a:
                c = a.cffi(ffi)
                made, text = c.new("int[]", [5, 6]), c.string("text")
                last = Node()
            for node in (first, last):
                node.region, node.made, node.text, node.others = a, made, text, (first, last)
            del first, last, node, made, text, c
            gc.collect()
            assert a.released
        assert seen == [(False, 6, b"text")] * 40
        """
    )


@pytest.mark.parametrize("make", ["c.new('int *', 3)", "c.string('x')", "c.strings(['x'])", "c.pointer(a.alloc(3))"])
def test_objects_that_are_alive_at_the_end_of_the_interpreter_say_nothing(make: str) -> None:
    """Their memory goes when nothing of the package is there any more."""
    said = run_script(
        f"""
        import cffi
        from scopedbump import bump_region

        class Last:
            def __del__(self):
                self.made

        ffi = cffi.FFI()
        a = bump_region()
        c = a.cffi(ffi)
        made = {make}
        node = Last()
        node.made, node.me = made, node
        a.close()
        """
    )
    assert said == ""


@counts_references
def test_the_limits_of_an_allocator_of_cffi_are_as_documented() -> None:
    """What `ffi.new_allocator` can't do, beside what it can: as `CffiAllocator` says."""
    with bump_region() as a:
        c = a.cffi(ffi)
        number = c.new("int *", 3)
        assert isinstance(number[1], int)  # with ffi.new an IndexError
        point = c.new("point *")
        with pytest.raises(IndexError):
            point[1]
        with pytest.raises(IndexError):
            c.new("int[3]")[3]
        ffi.buffer(number, 100)  # with ffi.new a UserWarning
        with pytest.warns(UserWarning, match="owns only 8 bytes"):
            ffi.buffer(point, 100)
        flexible = c.new("struct flexible *", {"count": 3, "data": b"abc"})
        assert (len(flexible.data), len(ffi.buffer(flexible))) == (4, 8)
        assert ffi.sizeof(flexible[0]) == ffi.sizeof("struct flexible")  # with ffi.new 8
        assert flexible[0].data[2] == b"c"
        with pytest.raises(TypeError):
            len(flexible[0].data)  # with ffi.new 4
        del flexible, number, point
