"""`Region.ctypes`: what it makes, what keeps what alive, and what wrong input leaves behind."""

from __future__ import annotations

import ctypes
import gc
import sys
import weakref
from collections.abc import Callable
from ctypes import POINTER, Array, Structure, Union, c_char, c_char_p, c_double, c_int, c_void_p, c_wchar, c_wchar_p
from itertools import pairwise
from typing import Any

import pytest

from helpers.invariants import check
from helpers.support import collect, counts_references
from scopedbump import Region, RegionBusyError, RegionClosedError, RegionFullError, RegionPool, bump_region


class Point(Structure):
    _fields_ = [("x", c_int), ("y", c_int)]


class Step(Structure):
    _fields_ = [("text", c_char_p), ("count", c_int)]


class Number(Union):
    _fields_ = [("i", c_int), ("text", c_char_p)]


class Base(Structure):
    _fields_ = [("name", c_char_p)]


class Config(Base):
    _anonymous_ = ("number",)
    _fields_ = [
        ("argv", POINTER(c_char_p)),
        ("first", Step),
        ("steps", Step * 2),
        ("data", c_void_p),
        ("wide", c_wchar_p),
        ("point", POINTER(Point)),
        ("number", Number),
    ]


class Node(Structure):
    pass


Node._fields_ = [("next", POINTER(Node)), ("value", c_int)]

Unary = ctypes.CFUNCTYPE(c_int, c_int)


def double(number: int) -> int:
    return 2 * number


def lies_in(item: Any, region: Region) -> bool:
    """Whether a ctypes object lies in the region."""
    return ctypes.addressof(item) in region


def refused(region: Region, call: Callable[..., object], *args: Any, **kwargs: Any) -> BaseException:
    """The exception of a call that must leave the region as it was."""
    used = region.used
    with pytest.raises((TypeError, ValueError, OverflowError, IndexError, RuntimeError, MemoryError)) as caught:
        call(*args, **kwargs)
    assert region.used == used
    check(region)
    return caught.value


def test_an_object_of_every_kind_lies_in_the_region_and_takes_its_values() -> None:
    """`new` makes structs, unions, arrays, simple values, pointers and function pointers, in the region."""
    with bump_region() as a:
        c = a.ctypes
        point = c.new(Point, 1, y=2)
        number = c.new(Number, i=7)
        numbers = c.new(c_int * 3, 1, 2, 3)
        value = c.new(c_double, 1.5)
        pointer = c.new(POINTER(Point), point)
        twice = c.new(Unary, double)
        text = c.new(c_char_p, b"abc")
        assert (point.x, point.y, number.i, list(numbers), value.value) == (1, 2, 7, [1, 2, 3], 1.5)
        assert (pointer.contents.y, twice(21), text.value) == (2, 42, b"abc")
        kinds = [Point, Number, c_int * 3, c_double, POINTER(Point), Unary, c_char_p]
        made = [point, number, numbers, value, pointer, twice, text]
        assert [type(item) for item in made] == kinds
        assert all(lies_in(item, a) for item in made)


def test_an_object_is_zero_and_aligned_as_its_type_asks() -> None:
    """Promises 6 and 7: memory that was used is zero, and no type gets more than its own alignment."""

    class Packed(Structure):
        _pack_ = 1
        _layout_ = "ms"
        _fields_ = [("c", c_char), ("d", c_double)]

    with bump_region() as a:
        a.alloc(100_000)[:] = b"\xff" * 100_000
        a.reset()
        c = a.ctypes
        for kind in (c_char, Packed, c_int, c_double, Point, c_char_p, Unary, c_int * 3):
            c.new(c_char)
            before = a.used
            made = c.new(kind)
            assert bytes(memoryview(made).cast("B")) == bytes(ctypes.sizeof(kind))
            assert ctypes.addressof(made) % ctypes.alignment(kind) == 0
            assert a.used - before < ctypes.sizeof(kind) + ctypes.alignment(kind)


@pytest.mark.skipif(sys.version_info < (3, 13), reason="ctypes has _align_ since 3.13")
def test_an_alignment_of_the_types_own_is_kept() -> None:
    """Promise 7: also one above that of every C type."""

    class Vector(Structure):
        _align_ = 64
        _fields_ = [("v", c_double * 4)]

    with bump_region() as a:
        slab = a.ctypes.slab(Vector)
        for made in [a.ctypes.new(Vector), *(next(slab) for _ in range(20)), a.ctypes.array(Vector, 2)]:
            assert ctypes.addressof(made) % 64 == 0


def test_pointer_fields_are_filled_from_the_region_without_a_cast() -> None:
    """Fields of every pointer type take what lies in the region, by name, by position, nested; no handle is kept."""
    with bump_region() as a:
        c = a.ctypes
        config = c.new(
            Config,
            c.string("worker"),
            argv=c.strings(["run", "-v", "é"]),
            first=(c.string("one"), 1),
            steps=((c.string("two"), 2), (None, 3)),
            data=c.new(c_int, 77),
            wide=c.new(c_wchar * 3, "h", "i"),
            point=c.new(Point, 3, 4),
            text=c.string("anonymous"),
        )
        gc.collect()
        a.alloc(5000)[:] = b"x" * 5000
        assert config.name == b"worker"
        assert config.argv[:4] == [b"run", b"-v", "é".encode(), None]
        assert (config.first.text, config.first.count) == (b"one", 1)
        assert [(step.text, step.count) for step in config.steps] == [(b"two", 2), (None, 3)]
        assert ctypes.cast(config.data, POINTER(c_int))[0] == 77
        assert config.wide == "hi"
        assert config.point.contents.y == 4
        assert config.text == b"anonymous"


def test_an_array_of_structs_takes_tuples_with_strings_of_the_region() -> None:
    """`array(T, values)` fits values as `new` does."""
    with bump_region() as a:
        c = a.ctypes
        steps = c.array(Step, ((c.string(str(n)), n) for n in range(3)))
        names = c.array(c_char_p, [c.string("a"), None, b"c"])
        gc.collect()
        assert [(step.text, step.count) for step in steps] == [(b"0", 0), (b"1", 1), (b"2", 2)]
        assert list(names) == [b"a", None, b"c"]


def test_a_struct_in_a_scope_takes_what_lies_in_the_region_around_it() -> None:
    """A scope keeps the memory of its parent, so its pointers may lead there."""
    with bump_region() as a:
        name = a.ctypes.string("outer")
        with a.scope() as inner:
            config = inner.ctypes.new(Config, name=name)
        del name
    assert config.name == b"outer"


def test_a_chain_of_nodes_lives_as_long_as_its_head() -> None:
    """An escape keeps all that it leads to in the region, though nothing in Python refers to that."""
    with bump_region() as a:
        node = None
        for value in range(100):
            node = a.ctypes.new(Node, next=node, value=value)
    gc.collect()
    seen: list[int] = []
    while node:
        seen.append(node.value)
        node = node.next.contents if node.next else None
    assert seen == list(range(99, -1, -1))


@counts_references  # PyPy's ctypes takes any array for a char *
def test_what_does_not_lie_in_the_region_is_refused_as_ctypes_refuses_it() -> None:
    """A handle of another region, or of the heap, is not stored as a bare address: nobody would keep it alive."""
    with bump_region() as a, bump_region() as other:
        c = a.ctypes
        heap = ctypes.create_string_buffer(b"heap")
        for value in (heap, other.ctypes.string("other"), c.new(c_int * 2), c.pointer(a.alloc(8), c_int), 1.5):
            error = refused(a, c.new, Config, name=value)
            with pytest.raises(TypeError) as plain:
                Config(name=value)
            assert str(error) == str(plain.value)
        error = refused(a, c.new, Config, point=Point())
        assert "Point instance" in str(error)


BAD_NEW: list[tuple[Any, tuple[Any, ...], dict[str, Any]]] = [
    (Point, (1, 2, 3), {}),
    (Point, ("x",), {}),
    (Point, (1,), {"x": 2}),
    (c_int, ("x",), {}),
    (c_int, (1, 2), {}),
    (c_int * 2, (1, 2, 3), {}),
    (c_char * 2, (b"xx",), {}),
    (Config, (), {"name": 1.5}),
    (Config, (), {"first": (1, 2, 3)}),
    (Config, (), {"first": 3}),
    (POINTER(Point), (c_int(),), {}),
    (Unary, (3,), {}),
    (Unary, ("no callable",), {}),
    (Structure, (), {}),
]


@pytest.mark.parametrize(("kind", "args", "kwargs"), BAD_NEW)
def test_a_wrong_value_raises_what_ctypes_raises(kind: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """The type of the exception is ctypes' own, and the cursor has not moved."""
    with bump_region() as a:
        a.ctypes.new(c_char)
        try:
            kind(*args, **kwargs)
        except Exception as plain:  # noqa: BLE001  # whatever it is
            error = refused(a, a.ctypes.new, kind, *args, **kwargs)
            assert type(error) is type(plain)
        else:
            a.ctypes.new(kind, *args, **kwargs)


@pytest.mark.parametrize("kind", [int, "c_int", None, 3, c_int(3), object(), [c_int]])
def test_what_is_no_ctypes_type_is_a_type_error_that_names_it(kind: Any) -> None:
    """Every method checks its type before anything changes."""
    with bump_region() as a:
        c = a.ctypes
        view = a.alloc(16)
        calls: list[tuple[Any, ...]] = [(c.new, kind), (c.slab, kind), (c.array, kind, 3), (c.pointer, view, kind)]
        for call in calls:
            error = refused(a, *call)
            assert type(error) is TypeError and "ctypes type is needed" in str(error)


@pytest.mark.parametrize(
    ("values", "error"),
    [(-1, ValueError), (1 << 70, ValueError), (1 << 61, OverflowError), (1.5, TypeError), (None, TypeError),
     ("ab", TypeError), ([1, None], TypeError), (1 << 40, RegionFullError)],
)  # fmt: skip
def test_a_wrong_count_or_item_leaves_the_cursor_alone(values: Any, error: type[Exception]) -> None:
    """`array` refuses counts below zero or too large, and items of the wrong type."""
    with bump_region() as a:
        a.ctypes.new(c_char)
        assert type(refused(a, a.ctypes.array, c_int, values)) is error


def test_arrays_are_what_ctypes_makes() -> None:
    """A count gives zeros, an iterable its values; none at all is an empty array."""
    with bump_region() as a:
        c = a.ctypes
        assert list(c.array(c_double, 3)) == [0.0, 0.0, 0.0]
        assert list(c.array(c_int, (n * n for n in range(4)))) == [0, 1, 4, 9]
        assert len(c.array(c_int, 0)) == len(c.array(c_int, [])) == 0
        assert isinstance(c.array(Point, [(1, 2)]), Point * 1)


def test_strings_are_utf_8_and_end_with_a_nul() -> None:
    """`string` gives an array that holds its NUL, `strings` a table that ends with NULL and points into the region."""
    with bump_region() as a:
        c = a.ctypes
        assert c.string("grüß").raw == "grüß".encode() + b"\0"
        assert c.string(b"").raw == b"\0"
        table = c.strings(name for name in ("a", b"bc", ""))
        assert list(table) == [b"a", b"bc", b"", None]
        pointers = (c_void_p * 4).from_buffer(table)
        assert all(place in a for place in pointers[:3] if place is not None)
        assert list(c.strings([])) == [None]


@pytest.mark.parametrize("bad", ["a\0b", b"\0", 3, None, bytearray(b"x"), "\ud800"])
def test_a_bad_string_changes_nothing(bad: Any) -> None:
    """An embedded NUL or what UTF-8 lacks is a ValueError, another type a TypeError."""
    with bump_region() as a:
        wanted = ValueError if isinstance(bad, (str, bytes)) else TypeError
        assert isinstance(refused(a, a.ctypes.string, bad), wanted)
        assert isinstance(refused(a, a.ctypes.strings, ["fine", bad]), wanted)


def test_a_single_string_is_no_list_of_strings() -> None:
    """`strings("abc")` would be three strings of one letter: it is refused."""
    with bump_region() as a:
        for bad in ("abc", b"abc", 3):
            assert isinstance(refused(a, a.ctypes.strings, bad), TypeError)


def test_a_pointer_leads_to_its_view_and_pins_its_memory() -> None:
    """What is written through the pointer is in the view, and stays after the view is revoked."""
    with bump_region() as a:
        view = a.alloc(16)
        pointer = a.ctypes.pointer(view, c_int)
        pointer[1] = 0x01020304
        assert int.from_bytes(view[4:8], sys.byteorder) == 0x01020304
        assert a.ctypes.pointer(view)[4] == view[4:5]
    assert pointer[1] == 0x01020304
    with pytest.raises(ValueError, match="released"):
        bytes(view)


def test_pointers_to_ten_thousand_sizes_make_no_types() -> None:
    """`pointer` needs no array type for each size, and memory stays flat."""

    def arrays() -> int:
        gc.collect()
        return sum(isinstance(item, type) and issubclass(item, Array) for item in gc.get_objects())

    with bump_region() as a:
        with a.scope() as scope:
            scope.ctypes.pointer(scope.alloc(1))
        before = arrays()
        blocks = sys.getallocatedblocks() if hasattr(sys, "getallocatedblocks") else 0
        for size in range(1, 10_001):
            with a.scope() as scope:
                scope.ctypes.pointer(scope.alloc(size))
        assert arrays() == before
        if blocks:
            assert sys.getallocatedblocks() - blocks < 1000


def test_a_pointer_wants_a_writable_view_of_its_own_region() -> None:
    """A view of another region, of the heap, read-only, with gaps, revoked or too small is refused."""
    with bump_region() as a, bump_region() as other:
        view = a.alloc(16)
        with a.scope() as scope:
            revoked = scope.alloc(16)
        for bad, kind, wanted in (
            (other.alloc(16), c_int, ValueError),
            (bytearray(16), c_int, ValueError),
            (view.toreadonly(), c_int, TypeError),
            (view[::2], c_int, TypeError),
            (revoked, c_int, ValueError),
            (view[:3], c_int, ValueError),
            (other.alloc(0), c_char, ValueError),
            (3, c_int, TypeError),
        ):
            error = refused(a, a.ctypes.pointer, bad, kind)
            assert isinstance(error, wanted), (bad, error)


KINDS: list[Any] = [
    Point,
    Number,
    c_int,
    c_char,
    c_double,
    c_char_p,
    ctypes.py_object,
    c_int * 3,
    POINTER(Point),
    Unary,
]


@pytest.mark.parametrize("kind", KINDS)
def test_a_slab_gives_objects_side_by_side(kind: Any) -> None:
    """All are of the type, zero, aligned, apart, and in the region, through several chunks."""
    with bump_region() as a:
        slab = a.ctypes.slab(kind)
        made = [next(slab) for _ in range(700)]
        size = ctypes.sizeof(kind)
        places = sorted(ctypes.addressof(item) for item in made)
        assert all(type(item) is kind for item in made)
        assert all(later - sooner >= size for sooner, later in pairwise(places))
        assert all(place % ctypes.alignment(kind) == 0 for place in places)
        assert places[0] in a and places[-1] + size - 1 in a
        assert not any(any(memoryview(item).cast("B")) for item in made)
    with pytest.raises(RegionClosedError):
        next(slab)


def test_a_slab_of_nothing_is_refused() -> None:
    """A type without bytes can't be carved for ever."""

    class Empty(Structure):
        pass

    with bump_region() as a:
        for kind in (Empty, c_int * 0):
            assert isinstance(refused(a, a.ctypes.slab, kind), ValueError)


@counts_references
@pytest.mark.parametrize("kind", KINDS)
def test_assigning_to_an_escape_never_ends_its_pin(kind: Any) -> None:
    """Promise 4: ctypes forgets the buffer of a c_char_p or py_object when it is assigned to; ours do not."""
    value: Any = {c_char: b"c", c_char_p: b"text", ctypes.py_object: [1]}.get(kind, 0)
    simple = hasattr(kind, "value")
    with bump_region() as a:
        slab = a.ctypes.slab(kind)
        made = [a.ctypes.new(kind), *(next(slab) for _ in range(20))]
        if simple:
            for index in range(len(made)):
                made[index].value = value
        last = made[-1]
    del slab
    assert not a.released
    gc.collect()
    if simple:
        assert last.value == value
    made.clear()
    assert not a.released
    del last
    assert a.released


@counts_references
def test_the_adapter_and_its_errors_are_no_escapes() -> None:
    """Promise 3: the adapter in a variable, a slab that waits, or a caught exception keep no memory."""
    with bump_region() as a:
        c = a.ctypes
        c.new(Point, 1, 2)
        slab = c.slab(Point)
        next(slab)
        with pytest.raises(TypeError) as caught:
            c.new(Point, "x")
    assert a.released
    assert caught.value.__traceback__ is not None
    for call in (lambda: c.new(Point), lambda: c.array(c_int, 3), lambda: c.string("x"), lambda: c.strings(["x"]),
                 lambda: c.slab(Point), lambda: c.pointer(bytearray(3)), lambda: next(slab)):  # fmt: skip
        with pytest.raises(RegionClosedError):
            call()


def test_a_region_with_an_open_scope_refuses() -> None:
    """Promise 11, for the adapter too."""
    with bump_region() as a:
        c = a.ctypes
        with a.scope(), pytest.raises(RegionBusyError):
            c.new(Point)
        assert c.new(Point, 1).x == 1


def test_an_adapter_goes_on_after_a_reset_with_an_escape() -> None:
    """What is made after the reset lies in the fresh reservation, and the escape keeps its content."""
    with bump_region() as a:
        c = a.ctypes
        escape = c.new(Point, 1, 2)
        a.reset()
        again = c.new(Point, 3, 4)
        assert lies_in(again, a) and not lies_in(escape, a)
        assert (escape.x, again.y) == (1, 4)
        del escape, again
        collect()


def test_a_region_serves_what_fits_after_it_was_full() -> None:
    """Promise 8: the error says what was asked for, with the type's own alignment."""
    with bump_region(100) as a:
        a.ctypes.new(c_char)
        with pytest.raises(RegionFullError) as caught:
            a.ctypes.array(c_double, 13)
        assert (caught.value.requested, caught.value.align, caught.value.available) == (104, 8, 92)
        assert a.used == 1
        assert len(a.ctypes.array(c_double, 11)) == 11


def test_a_pool_sees_escapes_of_ctypes() -> None:
    """A reservation with an escape does not return to its pool before the escape dies."""
    with RegionPool(1 << 20) as pool:
        with pool.region() as a:
            escape = a.ctypes.new(Point, 1, 2)
        with pool.region() as b:
            assert ctypes.addressof(b.ctypes.new(Point)) != ctypes.addressof(escape)
        assert escape.y == 2
        del escape
        collect()


def test_a_field_that_is_assigned_later_takes_a_pointer_made_here() -> None:
    """Assigning is ctypes' own: it takes no array for a `char *`, but a c_char_p that leads into the region."""
    with bump_region() as a:
        c = a.ctypes
        config = c.new(Config)
        config.name = c.new(c_char_p, c.string("later"))
        gc.collect()
        assert config.name == b"later"


@counts_references
def test_what_was_fitted_is_in_no_cycle() -> None:
    """Promise 3: pointers that were stored in a field go by their count, without a garbage collection."""
    gc.disable()
    try:
        with bump_region() as a:
            c = a.ctypes
            config = c.new(Config, c.string("x"), c.strings(["y"]), data=c.pointer(a.alloc(8)), point=c.new(Point))
            c.array(c_char_p, [c.string("z"), c.pointer(a.copy(b"z\0"))])
            del config
        assert a.released
    finally:
        gc.enable()


@counts_references
def test_types_are_not_kept_alive_by_the_region() -> None:
    """A type made on the fly goes with its objects; what ctypes itself keeps (arrays of it, POINTER) is its own."""

    def use() -> weakref.ref[type]:
        class Local(Structure):
            _fields_ = [("x", c_int)]

        with bump_region() as a:
            a.ctypes.new(Local, 1)
        return weakref.ref(Local)

    local = use()
    gc.collect()
    assert local() is None


def test_what_a_refused_initializer_wrote_is_gone() -> None:
    """Promise 6: the bytes are taken back, and the next block is zero all the same."""
    with bump_region() as a:
        with pytest.raises(TypeError):
            a.ctypes.array(c_int, [-1] * 20 + ["x"])
        assert a.used == 0
        check(a)
        assert not any(a.alloc(200))


@pytest.mark.skipif(sys.implementation.name != "cpython", reason="elsewhere ctypes resizes nothing at all")
def test_what_the_region_owns_can_not_be_resized() -> None:
    """ctypes refuses, as for all memory that is not the object's own."""
    with bump_region() as a:
        made = a.ctypes.new(Point, 1, 2)
        with pytest.raises(ValueError, match="doesn't own"):
            ctypes.resize(made, 100)
        assert (made.x, made.y) == (1, 2)
        del made


@counts_references
def test_a_finalizer_of_the_users_own_runs_for_what_was_made_ahead() -> None:
    """Those that were never taken are objects too: theirs run when the slab goes, or at the end of the region."""
    ended: list[int] = []

    class Watched(Structure):
        _fields_ = (("number", c_int),)

        def __del__(self) -> None:
            ended.append(self.number)

    with bump_region(debug=False) as a:  # a debug region makes none ahead
        slab = a.ctypes.slab(Watched)
        next(slab).number = 7
        del slab
        assert ended.count(7) == 1 and ended.count(0) == len(ended) - 1 > 0
        ended.clear()
        slab = a.ctypes.slab(Watched)
        next(slab)
    assert len(ended) > 1
    del slab
