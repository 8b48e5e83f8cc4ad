"""Bit for bit: what `Region.cffi(ffi)` makes against what `ffi.new` makes, over definitions that hypothesis draws."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.invariants import check
from scopedbump import bump_region

cffi: Any = pytest.importorskip("cffi", reason="in-line ffi objects need the whole of cffi")

NUMBERS = ["char", "signed char", "short", "int", "unsigned int", "long long", "uint8_t", "float", "double", "_Bool"]


@st.composite
def declared(draw: st.DrawFn) -> tuple[str, int, str]:
    """C source with struct types t0, t1 ..., its packing, and the declaration to make."""
    names: list[str] = []
    source = ""
    for number in range(draw(st.integers(1, 3))):
        sort = draw(st.sampled_from(["struct", "struct", "union"]))
        body = ""
        for field in range(draw(st.integers(1, 4))):
            kind = draw(st.sampled_from([*NUMBERS, *names, "char *", "void *", "int *"]))
            suffix = draw(st.sampled_from(["", "", "[3]", "[2][2]", ":3"]))
            if suffix == ":3" and kind not in ("int", "unsigned int", "short"):
                suffix = ""
            body += f"{kind} f{field}{suffix}; "
        if sort == "struct" and draw(st.integers(0, 3)) == 0:
            body += f"{draw(st.sampled_from(NUMBERS))} rest[]; "
        source += f"typedef {sort} {{ {body}}} t{number}; "
        if "[]" not in body:
            names.append(f"t{number}")
    last = f"t{number}"  # pyright: ignore[reportPossiblyUnboundVariable]  # there is at least one
    shapes = [f"{last} *"] if last not in names else [f"{last} *", f"{last} *", f"{last}[2]", f"{last}[]"]
    cdecl = draw(st.sampled_from([*shapes, "int *", "char *", "char[]", "double[]", "short[4]", "char * *", "void *"]))
    return source, draw(st.sampled_from([0, 1, 2, 4])), cdecl


scalars: st.SearchStrategy[Any] = st.one_of(
    st.integers(-200, 200),
    st.integers(-5000, 5000),
    st.sampled_from([-1 << 40, 1 << 62, 1 << 70]),
    st.floats(),
    st.binary(max_size=4),
    st.none(),
    st.text(max_size=2),
)
keys = st.sampled_from(["f0", "f1", "f2", "rest", "unknown"])
initializers: st.SearchStrategy[Any] = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.lists(inner, max_size=3).map(tuple), st.dictionaries(keys, inner, max_size=3)
    ),
    max_leaves=6,
)


def fitting(ctype: Any, draw: st.DrawFn) -> Any:
    """An initializer that is right for a type, most of the time."""
    if draw(st.integers(0, 14)) == 0:
        return draw(initializers)
    if ctype.kind == "array":
        count = ctype.length if ctype.length is not None else draw(st.integers(0, 4))
        if ctype.length is None and draw(st.booleans()):
            return count
        return [fitting(ctype.item, draw) for _ in range(count)]
    if ctype.kind in ("struct", "union"):
        fields = ctype.fields[:1] if ctype.kind == "union" else ctype.fields
        if any(field.type.kind == "array" and field.type.length is None for _, field in fields) or draw(st.booleans()):
            return {name: fitting(field.type, draw) for name, field in fields}
        return [fitting(field.type, draw) for _, field in fields]
    if ctype.kind == "pointer":
        return None
    if ctype.cname == "char":
        return draw(st.binary(min_size=1, max_size=1))
    return draw(st.integers(0, 1)) if ctype.cname == "_Bool" else draw(st.integers(0, 3))


def outcome(ffi: Any, make: Any, cdecl: Any, init: Any) -> tuple[Any, ...]:
    """What came of it: type, size, and every byte; or the exception."""
    try:
        made = make(cdecl, init)
    except MemoryError:
        return MemoryError, ""  # a RegionFullError has more to say
    except Exception as error:  # noqa: BLE001  # whatever it is, both must raise it
        return type(error), str(error)
    ctype = ffi.typeof(made)
    size = len(ffi.buffer(made))
    if ctype.kind == "pointer" and ctype.item.kind == "struct":
        # A struct with a flexible array knows its whole size only when ffi.new itself has made it.
        size = ffi.sizeof(ctype.item)
        for name, field in ctype.item.fields:
            if field.type.kind == "array" and field.type.length is None:
                count: Any = init.get(name, 0) if hasattr(init, "get") else 0
                size = field.offset + (count if isinstance(count, int) else len(count)) * ffi.sizeof(field.type.item)
    align = int(ffi.cast("uintptr_t", made)) % ffi.alignof(ctype.item)
    return str(ctype), len(made) if ctype.kind == "array" else 1, size, bytes(ffi.buffer(made, size)), align


@settings(max_examples=100)  # cffi parses each definition
@given(declared(), st.data())
def test_new_agrees_with_cffi(definition: tuple[str, int, str], data: st.DataObject) -> None:
    """The same type, length and bytes, or the same exception with the cursor where it was."""
    source, pack, cdecl = definition
    ffi = cffi.FFI()
    try:
        ffi.cdef(source, pack=pack or None)
    except Exception:  # noqa: BLE001  # what cffi does not take is not our question
        return
    ctype = ffi.typeof(cdecl)
    target = ctype.item if ctype.kind == "pointer" and ctype.item.kind != "void" else ctype
    init = data.draw(st.one_of(st.none(), st.composite(lambda draw: fitting(target, draw))()))
    with bump_region() as a:
        dirty = a.alloc(5000)
        dirty[:] = b"\xff" * 5000
        del dirty
        a.reset()
        a.alloc(1, 1)
        used = a.used
        expected = outcome(ffi, ffi.new, cdecl, init)
        got = outcome(ffi, a.cffi(ffi).new, cdecl, init)
        by_type = outcome(ffi, a.cffi(ffi).new, ctype, init)
        assert got == expected == by_type
        if isinstance(got[0], type):
            assert a.used == used
        check(a)
