"""`heap.cffi(ffi)`: what `Region.cffi(ffi)` gives, each object by itself."""

from __future__ import annotations

import gc
import reprlib
import weakref
from functools import partial
from itertools import islice
from typing import Any

import pytest

from helpers.support import collect, counts_references, run_script
from scopedbump import CffiAllocator, bump_region, heap

cffi: Any = pytest.importorskip("cffi", reason="in-line ffi objects need the whole of cffi")

ffi: Any = cffi.FFI()
ffi.cdef(
    """
    typedef struct { int x, y; } point;
    typedef struct { char *name; char **argv; point *at; void *data; struct { point *inner; } deep[2]; } config;
    struct flexible { int count; char data[]; };
    """
)


@pytest.fixture
def c() -> CffiAllocator:
    return heap.cffi(ffi)


def test_objects_are_what_ffi_new_makes(c: CffiAllocator) -> None:
    """The same types, initializers and errors; each owns its memory."""
    same: Any = c.ffi
    assert same is ffi
    cases: list[tuple[str, Any]] = [
        ("point *", None), ("point *", (1, 2)), ("int[]", [1, 2]), ("int *", 3), ("char[]", b"x"), ("char *", b"x"),
        ("struct flexible *", (1, b"xyz")),
    ]  # fmt: skip
    for cdecl, init in cases:
        made, plain = c.new(cdecl, init), ffi.new(cdecl, init)
        assert repr(made) == repr(plain) and bytes(ffi.buffer(made)) == bytes(ffi.buffer(plain))
    for cdecl, init in [("point *", (1, 2, 3)), ("point", None), ("int[]", -1), ("nothing *", None)]:
        with pytest.raises(Exception) as plain_error:  # noqa: PT011  # whatever it is
            ffi.new(cdecl, init)
        with pytest.raises(plain_error.type, match=".") as error:
            c.new(cdecl, init)
        assert str(error.value) == str(plain_error.value)


def test_what_is_no_declaration_or_no_ffi_is_a_type_error_that_names_it(c: CffiAllocator) -> None:
    """As for a region."""
    bad: Any
    for bad in (3, None, b"int *", object()):
        for call in (c.new, c.slab, partial(c.pointer, bytearray(8))):
            with pytest.raises(TypeError) as caught:
                call(bad)
            assert reprlib.repr(bad) in str(caught.value)
    for bad in (3, None, cffi):
        with pytest.raises(TypeError, match="ffi of cffi"):
            heap.cffi(bad)


def test_an_object_keeps_what_its_initializer_leads_to(c: CffiAllocator) -> None:
    """A library may drop its handles, as in a region: in dicts, lists, tuples, nested structs and arrays."""
    made: Any = c.new(
        "config *",
        {
            "name": c.string("worker"),
            "argv": c.strings(["run", "-v"]),
            "at": c.new("point *", (1, 2)),
            "deep": [(c.new("point *", (3, 4)),), {"inner": c.pointer(bytearray(b"\5\0\0\0" * 2), "point *")}],
        },
    )
    copy: Any = c.new("config *", made[0])
    table: Any = c.new("char *[]", [c.string("one"), c.string("two")])
    struct = copy[0]
    del made, copy
    gc.collect()
    for _ in range(100):
        c.string("x" * 6), c.new("point *", (9, 9)), c.strings(["xxx", "yy"])
    assert ffi.string(struct.name) == b"worker"
    assert [ffi.string(struct.argv[n]) for n in range(2)] == [b"run", b"-v"] and not struct.argv[2]
    assert (struct.at.y, struct.deep[0].inner.y, struct.deep[1].inner.y) == (2, 4, 5)
    assert [ffi.string(item) for item in table] == [b"one", b"two"]


@counts_references
def test_what_an_object_keeps_goes_with_it(c: CffiAllocator) -> None:
    """Each is freed as soon as nothing leads to it, the struct `p[0]` counting as the object."""
    name = c.string("worker")
    gone = weakref.ref(name)
    made: Any = c.new("config *", {"name": name})
    struct = made[0]
    del name, made
    assert gone() is not None
    del struct
    assert gone() is None


def test_a_handle_that_leads_back_is_collected(c: CffiAllocator) -> None:
    """`ffi.new_handle(self)` in a field is the user's to keep, as everywhere: else nothing of it would ever go."""

    class Owner:
        def __init__(self) -> None:
            self.handle = ffi.new_handle(self)
            self.made: Any = c.new("config *", {"data": self.handle})

    owner = Owner()
    assert ffi.from_handle(owner.made.data) is owner
    gone = weakref.ref(owner)
    del owner
    gc.collect()
    collect()
    assert gone() is None


def test_strings_are_made_as_in_a_region(c: CffiAllocator) -> None:
    """The same text, the same tables, the same errors."""
    with bump_region() as a:
        for maker in (c, a.cffi(ffi)):
            text: Any = maker.string("grüß")
            assert (ffi.string(text), len(text)) == ("grüß".encode(), 7)
            table: Any = maker.strings(name for name in ("a", b"bc", ""))
            gc.collect()
            assert [ffi.string(item) for item in list(table)[:3]] == [b"a", b"bc", b""]
            assert (len(table), table[3], ffi.typeof(table)) == (4, ffi.NULL, ffi.typeof("char *[]"))
            assert not maker.strings([])[0]
            for bad, wanted in (("a\0b", ValueError), (3, TypeError), ("\ud800", ValueError)):
                with pytest.raises(wanted):
                    maker.string(bad)  # type: ignore[arg-type]
                with pytest.raises(wanted):
                    maker.strings(["fine", bad])  # type: ignore[list-item]
            with pytest.raises(TypeError, match="iterable of str or bytes"):
                maker.strings("text")
            with pytest.raises(TypeError, match="iterable of str or bytes"):
                maker.strings(3)  # type: ignore[arg-type]
        del text, table


def test_a_pointer_leads_to_any_buffer_and_keeps_it(c: CffiAllocator) -> None:
    """What is written through the pointer is in the buffer, which can't be resized meanwhile."""
    block = heap.alloc(16)
    pointer: Any = c.pointer(block, "point *")
    pointer.y = 0x01010101
    assert bytes(block[4:8]) == b"\1\1\1\1"
    del block
    gc.collect()
    assert pointer.y == 0x01010101
    own = bytearray(8)
    items: Any = c.pointer(own, "int[]")
    assert len(items) == 2
    with pytest.raises(BufferError):
        own.append(1)
    del items
    collect()
    gc.collect()
    own.append(1)
    assert len(c.pointer(bytearray(), "char[]")) == 0 and c.pointer(bytearray())


@pytest.mark.parametrize(
    ("bad", "cdecl", "wanted"),
    [
        (b"read-only", "char *", BufferError),
        (memoryview(bytearray(16))[::2], "char *", TypeError),
        (3, "char *", TypeError),
        (bytearray(3), "int *", ValueError),
        (bytearray(0), "int *", ValueError),
        (bytearray(19), "int[5]", ValueError),
        (bytearray(16), "int", TypeError),
    ],
)
def test_a_pointer_wants_a_writable_buffer_that_is_large_enough(
    c: CffiAllocator, bad: Any, cdecl: str, wanted: type[Exception]
) -> None:
    """The same errors as for a region's."""
    with pytest.raises(wanted):
        c.pointer(bad, cdecl)


def test_a_slab_is_an_endless_iterator_of_objects_that_own(c: CffiAllocator) -> None:
    """There is nothing to carve them out of, so each lives by itself."""
    made: list[Any] = list(islice(c.slab("point *"), 1000))
    for number, item in enumerate(made):
        item.x = number
    assert [item.x for item in made] == list(range(1000)) and made[0].y == 0
    for bad in ("point", "int[3]", "void *"):
        with pytest.raises(TypeError):
            c.slab(bad)


@pytest.mark.parametrize(
    "make", ["new('point *', (1, 2))", "string('x')", "strings(['x'])", "pointer(memory.alloc(8))"]
)
def test_what_is_made_may_end_in_a_dead_cycle(make: str) -> None:
    """Finalizers of the cycle still read it, and the collector does not crash."""
    run_script(
        f"""
        import gc
        import cffi
        from scopedbump import heap as memory

        ffi = cffi.FFI()
        ffi.cdef("typedef struct {{ int x, y; }} point;")

        class Node:
            def __del__(self):
                assert ffi.buffer(self.made)[:] is not None

        for _ in range(30):
            node = Node()
            node.made = memory.cffi(ffi).{make}
            node.me = node
            del node
            for _ in range(8):
                gc.collect()
        """
    )
