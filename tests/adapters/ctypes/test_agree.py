"""Bit for bit: what `Region.ctypes` makes against what ctypes makes, over struct definitions that hypothesis draws."""

from __future__ import annotations

import ctypes
import sys
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.invariants import check
from scopedbump import Region, bump_region

INTEGERS: list[Any] = [
    ctypes.c_byte, ctypes.c_ubyte, ctypes.c_short, ctypes.c_ushort, ctypes.c_int, ctypes.c_uint, ctypes.c_longlong,
    ctypes.c_ulonglong, ctypes.c_bool,
]  # fmt: skip
pytestmark = [
    pytest.mark.skipif(sys.implementation.name != "cpython", reason="PyPy's ctypes refuses bit fields that are legal"),
    pytest.mark.skipif(sys.platform == "win32", reason="ctypes itself crashed there on what is drawn, under Wine"),
]

ARRAY: Any = ctypes.Array
OTHERS: list[Any] = [ctypes.c_float, ctypes.c_double, ctypes.c_char, ctypes.c_wchar, ctypes.c_void_p, ctypes.c_char_p]
simple: st.SearchStrategy[Any] = st.sampled_from(INTEGERS + OTHERS)


@st.composite
def structs(draw: st.DrawFn, inner: st.SearchStrategy[Any]) -> Any:
    """A struct or union: packed or not, with bit fields, swapped bytes, a base class, anonymous members.

    No bit fields in unions: ctypes itself crashes now and then where their types differ.
    """
    base: Any = draw(st.sampled_from([ctypes.Structure, ctypes.Structure, ctypes.Union, ctypes.BigEndianStructure]))
    swapped = base is ctypes.BigEndianStructure
    namespace: dict[str, Any] = {}
    packed = draw(st.booleans())
    if packed:
        namespace |= {"_pack_": draw(st.sampled_from([1, 2, 4])), "_layout_": "ms"}
    fields: list[Any] = []
    for number in range(draw(st.integers(1, 4))):
        kind = draw(st.sampled_from(INTEGERS[:-1]) if swapped else inner)
        bits = draw(st.integers(0, 3)) == 0 and kind in INTEGERS[:-1] and base is ctypes.Structure
        name = f"f{number}"
        fields.append((name, kind, draw(st.integers(1, 8 * ctypes.sizeof(kind)))) if bits else (name, kind))
    if not swapped and draw(st.integers(0, 3)) == 0:
        member: Any = type("Member", (ctypes.Structure,), {"_fields_": [("deep", ctypes.c_int)]})
        fields.append(("member", member))
        namespace["_anonymous_"] = ("member",)
    made: Any = type("Drawn", (base,), {**namespace, "_fields_": fields})
    if base is ctypes.Structure and not packed and draw(st.integers(0, 3)) == 0:
        made = type("Derived", (made,), {"_fields_": [("later", draw(inner))]})
    return made


def array_of(kind: Any, count: int) -> Any:
    return kind * count


def grown(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(structs(inner), st.builds(array_of, inner, st.integers(0, 3)))


kinds = st.recursive(simple, grown, max_leaves=6)

scalars: st.SearchStrategy[Any] = st.one_of(
    st.integers(-(1 << 70), 1 << 70), st.integers(-2, 300), st.floats(), st.booleans(), st.none(),
    st.binary(max_size=3), st.text(max_size=2),
)  # fmt: skip
values: st.SearchStrategy[Any] = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4).map(tuple), max_leaves=6
)


def is_a(item: Any, kind: Any) -> bool:
    """isinstance, for a type checker to learn nothing from."""
    return isinstance(item, kind)


def fitting(kind: Any, draw: st.DrawFn) -> Any:
    """A value that is right for a type, most of the time."""
    if draw(st.integers(0, 19)) == 0:
        return draw(values)
    if issubclass(kind, ARRAY):
        return tuple(fitting(kind._type_, draw) for _ in range(draw(st.integers(0, kind._length_))))
    if issubclass(kind, (ctypes.Structure, ctypes.Union)):
        return tuple(fitting(field[1], draw) for field in kind.__dict__.get("_fields_", ()))
    if kind in (ctypes.c_float, ctypes.c_double):
        return draw(st.floats(width=32))
    if kind is ctypes.c_char:
        return draw(st.binary(min_size=1, max_size=1))
    if kind is ctypes.c_wchar:
        return draw(st.text(min_size=1, max_size=1))
    return None if kind in (ctypes.c_char_p, ctypes.c_void_p) else draw(st.integers(0, 127))


@st.composite
def programs(draw: st.DrawFn) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
    kind: Any = draw(kinds)
    whole = fitting(kind, draw)
    args: tuple[Any, ...] = whole if is_a(whole, tuple) else (whole,)
    kwargs: dict[str, Any] = {}
    if issubclass(kind, (ctypes.Structure, ctypes.Union)):
        names = [field[0] for field in kind.__dict__.get("_fields_", ())]
        keep = draw(st.integers(0, len(args)))
        kwargs = dict(zip(names[keep:], args[keep:], strict=False))
        args = args[:keep]
        if draw(st.integers(0, 9)) == 0:
            kwargs[draw(st.sampled_from(["deep", "unknown", "f0", "later"]))] = draw(scalars)
    return kind, args, kwargs


def described(item: Any) -> tuple[Any, ...]:
    kind: Any = item.__class__
    fields = kind.__dict__.get("_fields_", ())
    offsets = [(field[0], getattr(kind, field[0]).offset, getattr(kind, field[0]).size) for field in fields]
    return (
        kind,
        ctypes.sizeof(item),
        ctypes.alignment(item),
        ctypes.string_at(ctypes.addressof(item), ctypes.sizeof(item)),
        offsets,
    )


def outcome(make: Any, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
    """What came of it: a description, or the exception."""
    try:
        return described(make(*args, **kwargs))
    except Exception as error:  # noqa: BLE001  # whatever it is, both must raise it
        return type(error), str(error)


def agree(a: Region, kind: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    used = a.used
    expected = outcome(kind, *args, **kwargs)
    got = outcome(a.ctypes.new, kind, *args, **kwargs)
    assert got == expected
    if len(got) == 2:
        assert a.used == used
    if not a.closed:
        check(a)


@settings(max_examples=300)
@given(programs())
def test_new_agrees_with_ctypes(program: tuple[Any, tuple[Any, ...], dict[str, Any]]) -> None:
    """The same type, size, alignment, offsets and bytes, or the same exception with the cursor where it was."""
    with bump_region(1 << 20) as a:
        dirty = a.alloc(5000)
        dirty[:] = b"\xff" * 5000
        del dirty
        a.reset()
        a.alloc(1, 1)
        agree(a, *program)


@settings(max_examples=100)
@given(kinds, st.integers(0, 5), st.integers(1, 40))
def test_arrays_and_slabs_agree_with_ctypes(kind: Any, count: int, objects: int) -> None:
    """An array is what `(T * n)()` is; each object of a slab is what `T()` is, at a place of its own."""
    with bump_region(1 << 20) as a:
        assert outcome(a.ctypes.array, kind, count) == outcome(kind * count)
        if not ctypes.sizeof(kind):
            return
        slab = a.ctypes.slab(kind)
        made = [next(slab) for _ in range(objects)]
        assert {described(item)[:4] for item in made} == {described(kind())[:4]}
        assert len({ctypes.addressof(item) for item in made}) == objects
        assert all(ctypes.addressof(item) % ctypes.alignment(kind) == 0 for item in made)
