"""What a pointer of `Region.ctypes` leads to, and what that refers to, lives as long as what it was given to."""

from __future__ import annotations

import ctypes
import gc
import sys
import weakref
from collections.abc import Callable, Iterator
from ctypes import (
    CFUNCTYPE,
    POINTER,
    Structure,
    Union,
    c_char_p,
    c_int,
    c_void_p,
    c_wchar,
    c_wchar_p,
    py_object,
)
from typing import Any

import pytest

from helpers.invariants import check
from helpers.support import collect, counts_references, run_script
from scopedbump import Region, bump_region

Unary = CFUNCTYPE(c_int, c_int)


class Operations(Structure):
    _fields_ = [("call", Unary), ("name", c_char_p)]


class Nested(Structure):
    _fields_ = [("inner", Operations), ("many", Operations * 2)]


class Either(Union):
    _fields_ = [("number", c_int), ("pointer", c_void_p), ("text", c_char_p)]


class Slot(Structure):
    _anonymous_ = ("either",)
    _fields_ = [("user", c_void_p), ("typed", POINTER(Operations)), ("more", c_void_p * 2), ("either", Either)]


class Deep(Structure):
    _fields_ = [("slot", Slot), ("slots", Slot * 2)]


class Holder(Structure):
    _fields_ = [("value", py_object)]


class Node(Structure):
    _fields_ = [("next", c_void_p), ("operations", c_void_p)]


def operations(a: Region, tag: int) -> Operations:
    """A struct that refers to a callback and to bytes that nobody else refers to."""
    return a.ctypes.new(Operations, Unary(lambda number: number + tag), b"a name of %d bytes" % tag)


def answers(address: int | None, tag: int) -> bool:
    """Whether the struct at an address still refers to what `operations` gave it."""
    gc.collect()
    others = [Unary(lambda number: -number) for _ in range(99)]
    junk = [b"another of %d bytes" % number for number in range(999)]
    found = Operations.from_address(address or 0)
    assert len(others) + len(junk) == 1098
    return bool(found.call(1) == 1 + tag and found.name == b"a name of %d bytes" % tag)


MAKERS: list[tuple[str, Callable[[Region, Any], Any], Callable[[Any], int | None]]] = [
    ("a field", lambda a, it: a.ctypes.new(Slot, it), lambda made: made.user),
    ("a field by name", lambda a, it: a.ctypes.new(Slot, user=it), lambda made: made.user),
    ("a typed field", lambda a, it: a.ctypes.new(Slot, typed=it), lambda made: ctypes.addressof(made.typed.contents)),
    ("a union", lambda a, it: a.ctypes.new(Either, pointer=it), lambda made: made.pointer),
    ("an anonymous union", lambda a, it: a.ctypes.new(Slot, pointer=it), lambda made: made.pointer),
    ("a nested struct", lambda a, it: a.ctypes.new(Deep, (it,)), lambda made: made.slot.user),
    ("a nested array", lambda a, it: a.ctypes.new(Deep, slots=((), (None, None, (None, it)))),
     lambda made: made.slots[1].more[1]),
    ("an array", lambda a, it: a.ctypes.array(c_void_p, [None, it]), lambda made: made[1]),
    ("an array of structs", lambda a, it: a.ctypes.array(Slot, [(it,), ()]), lambda made: made[0].user),
    ("an item of an array", lambda a, it: a.ctypes.array(Slot, [(it,), ()])[0], lambda made: made.user),
    ("a pointer", lambda a, it: a.ctypes.new(c_void_p, it), lambda made: made.value),
    ("a typed pointer", lambda a, it: a.ctypes.new(POINTER(Operations), it),
     lambda made: ctypes.addressof(made.contents)),
    ("a pointer to a pointer", lambda a, it: a.ctypes.new(Slot, a.ctypes.new(POINTER(Operations), it)),
     lambda made: made.user),
    ("a struct behind it", lambda a, it: a.ctypes.new(c_void_p, a.ctypes.new(Slot, it)),
     lambda made: Slot.from_address(made.value).user),
    ("a chain", lambda a, it: a.ctypes.new(Node, a.ctypes.new(Node, a.ctypes.new(Node, None, it))),
     lambda made: Node.from_address(Node.from_address(made.next).next).operations),
    ("a field of a slab's object", lambda a, it: assigned(next(a.ctypes.slab(Slot)), a.ctypes.new(c_void_p, it)),
     lambda made: made.user),
    ("a field assigned to", lambda a, it: assigned(a.ctypes.new(Slot), a.ctypes.new(c_void_p, it)),
     lambda made: made.user),
]  # fmt: skip


def assigned(slot: Slot, value: c_void_p) -> Slot:
    slot.user = value
    return slot


@pytest.mark.parametrize(("make", "read"), [case[1:] for case in MAKERS], ids=[case[0] for case in MAKERS])
@pytest.mark.parametrize("escapes", [False, True])
def test_what_is_behind_a_pointer_keeps_what_it_refers_to(
    make: Callable[[Region, Any], Any], read: Callable[[Any], int | None], escapes: bool
) -> None:
    """A callback and a string that only a struct refers to live as long as the pointer to it: an escape's, too."""
    with bump_region() as a:
        made = make(a, operations(a, 7))
        if not escapes:
            assert answers(read(made), 7)
    if escapes:
        assert answers(read(made), 7)


def test_what_lies_deeper_behind_a_pointer_is_kept_too() -> None:
    """Callbacks of structs in structs and arrays, and the object of a `py_object`."""

    class Thing:
        pass

    with bump_region() as a:
        c = a.ctypes
        callbacks = [Unary(lambda number, tag=tag: number + tag) for tag in range(3)]
        nested = c.new(Nested, (callbacks[0], b"one"), ((callbacks[1], b"two"), (callbacks[2], b"three")))
        thing = Thing()
        gone = weakref.ref(thing)
        slot = c.new(Slot, nested, more=(c.new(Holder, thing), c.array(py_object, [thing])))
        del nested, callbacks, thing
        gc.collect()
        junk = [Unary(lambda number: -number) for _ in range(99)]
        found = Nested.from_address(slot.user or 0)
        assert [found.inner.call(0), found.many[0].call(0), found.many[1].call(0)] == [0, 1, 2]
        assert [found.inner.name, found.many[0].name, found.many[1].name] == [b"one", b"two", b"three"]
        assert sys.implementation.name != "cpython" or Holder.from_address(slot.more[0]).value is gone() is not None
        del slot, junk, found
        collect()
        assert gone() is None


def test_strings_and_wide_strings_behind_a_pointer_are_the_regions() -> None:
    """A `char *` and a `wchar_t *` need no handle either."""

    class Texts(Structure):
        _fields_ = [("narrow", c_char_p), ("wide", c_wchar_p)]

    with bump_region() as a:
        c = a.ctypes
        texts = c.new(Texts, c.string("narrow"), c.array(c_wchar, [*"wide", "\0"]))
        behind = c.new(c_char_p, c.pointer(a.copy(b"behind\0")))
        gc.collect()
        assert (texts.narrow, texts.wide, behind.value) == (b"narrow", "wide", b"behind")


@counts_references
def test_a_new_value_lets_go_of_what_the_old_one_led_to() -> None:
    """What a field leads to no more is not kept when it leads to another object; no collection is needed for it."""
    gc.disable()
    try:
        with bump_region() as a:
            target = operations(a, 3)
            gone = weakref.ref(target)
            slot = a.ctypes.new(Slot, target)
            del target
            assert gone() is not None
            assigned(slot, a.ctypes.new(c_void_p, operations(a, 4)))
            assert gone() is None and answers(slot.user, 4)
    finally:
        gc.enable()


@counts_references
@pytest.mark.parametrize("case", MAKERS, ids=[case[0] for case in MAKERS])
def test_what_is_kept_makes_no_cycle(case: Any) -> None:
    """Promise 3: the memory goes with the last that points in, without a garbage collection; so does what it led to."""
    gc.collect()
    gc.disable()
    try:
        with bump_region() as a:
            target = operations(a, 3)
            gone = weakref.ref(target)
            made = case[1](a, target)
            del target
        assert not a.released
        del made
        assert a.released and gone() is None
    finally:
        gc.enable()


@counts_references
def test_what_a_scope_keeps_goes_with_the_scope() -> None:
    """Promise 11: pointers into the region around it keep what they lead to, and the scope's bytes are taken again."""
    with bump_region() as a:
        target = operations(a, 5)
        used = a.used
        with a.scope() as scope:
            slot = scope.ctypes.new(Slot, target)
            gone = weakref.ref(target)
            del target
            assert answers(slot.user, 5)
            del slot
        assert a.used == used and gone() is None


@counts_references
def test_what_a_reset_leaves_behind_keeps_what_it_leads_to() -> None:
    """A reset with a pointer alive: it still leads to what it did."""
    with bump_region() as a:
        slot = a.ctypes.new(Slot, operations(a, 5))
        a.reset()
        a.alloc(5000)[:] = b"\xff" * 5000
        assert answers(slot.user, 5)


@counts_references  # PyPy's ctypes takes any pointer for a void *
def test_a_null_pointer_is_no_place_in_the_region() -> None:
    """What leads nowhere is left to ctypes, which refuses it for a `void *`."""
    with bump_region() as a:
        with pytest.raises(TypeError):
            a.ctypes.new(Slot, a.ctypes.new(POINTER(Operations)))
        assert a.ctypes.new(Slot, typed=a.ctypes.new(POINTER(Operations))).user is None


class Span(Structure):
    _fields_ = [("data", c_void_p), ("size", ctypes.c_size_t)]

    def __init__(self, source: Any = (), *, note: str = "") -> None:
        super().__init__(ctypes.addressof(source) if source else None, len(source))
        self.given = source
        self.note = note


def test_an_init_of_ones_own_gets_what_was_given() -> None:
    """`new(T, ...)` is `T(...)`, whoever wrote `__init__`: also without arguments, by name, and with a tuple."""
    with bump_region() as a:
        source = a.ctypes.array(c_int, [1, 2, 3])
        mine, plain = a.ctypes.new(Span, source, note="x"), Span(source, note="x")
        assert (mine.data, mine.size, mine.note) == (plain.data, plain.size, plain.note)
        assert mine.given is source
        assert a.ctypes.new(Span).given == ()

        class Pair(Structure):
            _fields_ = [("left", Span), ("right", Span), ("more", c_void_p)]

        for more in (None, source):
            pair = a.ctypes.new(Pair, (source,), right=(source,), more=more)
            assert (pair.left.data, pair.right.size) == (plain.data, 3)
            assert pair.more == (more and plain.data)


class Picky(Structure):
    _fields_ = [("x", c_int)]
    kept: list[Picky]

    def __init__(self, x: int) -> None:
        super().__init__(x)
        Picky.kept.append(self)
        if x < 0:
            raise ValueError(x)


@pytest.fixture
def picky() -> Iterator[type[Picky]]:
    Picky.kept = []
    yield Picky
    Picky.kept.clear()


def test_an_init_of_ones_own_runs_and_what_it_keeps_is_never_handed_out_again(picky: type[Picky]) -> None:
    """`__init__` is called once; when it raises and has kept the object, the bytes stay the object's."""
    with bump_region() as a:
        assert a.ctypes.new(picky, 5).x == 5
        with pytest.raises(ValueError, match="-3"):
            a.ctypes.new(picky, -3)
        with pytest.raises(TypeError, match="missing 1 required"):
            a.ctypes.new(picky)
        a.alloc(64)[:] = b"\xff" * 64
        assert [kept.x for kept in picky.kept] == [5, -3]
        check(a)


CFUNCTION: Any = Unary.__mro__[1]


class Named(CFUNCTION):  # type: ignore[misc]  # Any
    _flags_ = Unary._flags_
    _restype_ = c_int
    _argtypes_ = (c_int,)

    def __init__(self, function: Any, label: str = "none") -> None:
        self.label = f"{label} {function is not None}"


def test_a_function_pointer_comes_back_as_it_was_initialized() -> None:
    """Its own `__init__` runs on the one that comes back; a C function by its name is called; none at all is NULL."""
    with bump_region() as a:
        made = a.ctypes.new(Named, lambda number: 2 * number)
        assert made.label == "none True" and made(21) == 42 and ctypes.addressof(made) in a
        library = ctypes.CDLL("ucrtbase.dll" if sys.platform == "win32" else None)
        absolute = a.ctypes.new(Unary, ("abs", library))
        assert absolute(-7) == 7 and ctypes.addressof(absolute) in a
        assert not a.ctypes.new(Unary) and not a.ctypes.new(Unary, 0)


def test_paramflags_are_refused_before_anything_is_taken() -> None:
    """ctypes keeps them beside the memory: what comes back without them would be another function."""
    library = ctypes.CDLL("ucrtbase.dll" if sys.platform == "win32" else None)
    with bump_region() as a:
        used = a.used
        with pytest.raises(NotImplementedError, match="paramflags"):
            a.ctypes.new(Unary, ("abs", library), ((1, "value", -7),))
        with pytest.raises(ValueError, match="paramflags"):
            a.ctypes.new(Unary, ("abs", library), ((1, "value", -7),) * 2)
        assert a.used == used
        assert a.ctypes.new(Unary, ("abs", library), None)(-7) == 7


def test_a_pointer_type_without_a_target_is_refused() -> None:
    """ctypes refuses to make one, and crashes with one that was made: nothing makes one here, or takes a byte."""
    run_script(
        """
        import ctypes, sys
        from scopedbump import bump_region
        Node = type("LP_Node", (ctypes._Pointer,), {})
        with bump_region() as a:
            view, c = a.alloc(64), a.ctypes
            for make in (lambda: c.new(Node), lambda: c.new(Node, ctypes.c_int(3)), lambda: next(c.slab(Node)),
                         lambda: c.pointer(view, Node), lambda: c.array(Node, 3)):
                used = a.used
                try:
                    made = make()
                except TypeError as refusal:
                    assert "Node" in str(refusal) and a.used == used
                else:
                    sys.exit("accepted")
        """
    )


def test_a_pointer_to_an_empty_buffer_leads_to_where_it_lies() -> None:
    """Empty is an everyday size: of any type, at the region's end too, and it pins."""
    with bump_region(4096) as a:
        empty = a.copy(b"")
        assert ctypes.addressof(a.ctypes.pointer(empty).contents) == a.address(empty)
        pointer = a.ctypes.pointer(empty, Slot)
        assert type(pointer) is POINTER(Slot) and ctypes.addressof(pointer.contents) == a.address(empty)
        a.alloc(4096)
        last = a.ctypes.pointer(a.alloc(0))
        assert len(a.ctypes.array(c_int, 0)) == 0
        with pytest.raises(TypeError, match="a writable buffer is needed"):
            a.ctypes.pointer(a.alloc(0).toreadonly())
    if sys.implementation.name == "cpython":
        del pointer, empty
        assert not a.released
        del last
        assert a.released


@counts_references
def test_a_refused_call_that_is_remembered_keeps_no_memory() -> None:
    """Promise 3: neither the object nor what was given to it is kept by the traceback of a caught exception."""
    with bump_region() as a:
        with pytest.raises(TypeError) as caught:
            a.ctypes.new(Slot, operations(a, 3), typed=3)
        with pytest.raises(ValueError, match="needed"):
            a.ctypes.pointer(a.alloc(3), Slot)
        with pytest.raises(TypeError, match="a writable buffer is needed"):
            a.ctypes.pointer(a.alloc(3).toreadonly())
    assert a.released and caught.value.__traceback__ is not None
