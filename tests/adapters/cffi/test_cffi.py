"""`Region.cffi(ffi)`: what it makes for each kind of ffi, what keeps what alive, and what wrong input leaves behind."""

from __future__ import annotations

import gc
import importlib.util
import reprlib
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from helpers.invariants import check
from helpers.support import collect, counts_references, run_script
from scopedbump import Region, RegionBusyError, RegionClosedError, RegionFullError, RegionPool, bump_region

cffi: Any = pytest.importorskip("cffi", reason="in-line ffi objects need the whole of cffi")

CDEF = """
    typedef struct { int x, y; } point;
    typedef struct node { struct node *next; int value; } node;
    typedef struct { char *name; char **argv; point *at; void *data; struct { point inner; } deep; } config;
    struct flexible { int count; char data[]; };
    struct unknown;
    union number { int i; double d; };
"""


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.name.partition(".")[0], path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def in_line(folder: Path) -> Any:
    made = cffi.FFI()
    made.cdef(CDEF)
    return made


def abi_mode(folder: Path) -> Any:
    made = in_line(folder)
    made.set_source("_scopedbump_abi", None)
    return load(Path(made.compile(str(folder)))).ffi


def api_mode(folder: Path) -> Any:
    if sys.platform == "win32" or not (shutil.which("gcc") or shutil.which("cc")):
        pytest.skip("API mode needs a C compiler")
    pytest.importorskip("setuptools", reason="cffi compiles with setuptools")
    made = in_line(folder)
    made.set_source("_scopedbump_api", CDEF)
    return load(Path(made.compile(str(folder)))).ffi


@pytest.fixture(scope="session", params=[in_line, abi_mode, api_mode], ids=["in-line", "abi", "api"])
def ffi(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The user's ffi object, of each kind."""
    make: Callable[[Path], Any] = request.param
    return make(tmp_path_factory.mktemp("ffi"))


@pytest.fixture(scope="session")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """An in-line ffi, where the kind does not matter."""
    return in_line(tmp_path_factory.mktemp("plain"))


def place(ffi: Any, item: Any) -> int:
    return int(ffi.cast("uintptr_t", item))


def refused(region: Region, call: Callable[..., object], *args: Any) -> BaseException:
    """The exception of a call that must leave the region as it was."""
    used = region.used
    with pytest.raises(Exception) as caught:  # noqa: PT011  # which, the caller says
        call(*args)
    assert region.used == used
    check(region)
    return caught.value


def test_the_adapter_is_made_once_for_an_ffi(plain: Any) -> None:
    """Asked again with the same ffi, a region gives the same adapter; another ffi is told apart."""
    other = cffi.FFI()
    with bump_region() as a:
        assert a.cffi(plain) is a.cffi(plain)
        assert a.cffi(other).ffi is other


def test_objects_of_every_kind_lie_in_the_region(ffi: Any) -> None:
    """`new` takes what `ffi.new` takes: pointers and arrays, of any type, with every sort of initializer."""
    with bump_region() as a:
        c = a.cffi(ffi)
        point = c.new("point *", {"x": 1, "y": 2})
        again = c.new("point *", (3, 4))
        numbers = c.new("int[]", [1, 2, 3])
        fixed = c.new("int[3]")
        text = c.new("char[]", b"abc")
        one = c.new("int *", 7)
        flexible = c.new("struct flexible *", {"count": 2, "data": b"xy"})
        number = c.new("union number *", {"d": 1.5})
        by_type = c.new(ffi.typeof("point *"), [5])
        copied = c.new("point *", again[0])
        assert (point.x, again.y, list(numbers), list(fixed), one[0]) == (1, 4, [1, 2, 3], [0, 0, 0], 7)
        assert (ffi.string(text), flexible.data[1], number.d, by_type.x, copied.x) == (b"abc", b"y", 1.5, 5, 3)
        for item in (point, again, numbers, fixed, text, one, flexible, number, by_type):
            assert place(ffi, item) in a
        assert repr(point) == repr(ffi.new("point *"))


def test_objects_are_zero_and_aligned_as_their_type_asks(ffi: Any) -> None:
    """Promises 6 and 7: memory that was used is zero, and no type gets more than its own alignment."""
    with bump_region() as a:
        a.alloc(100_000)[:] = b"\xff" * 100_000
        a.reset()
        c = a.cffi(ffi)
        for cdecl in ("short *", "int *", "double *", "point *", "config *", "point[3]", "char[5]"):
            c.new("char *")
            before = a.used
            made = c.new(cdecl)
            item = ffi.typeof(cdecl).item
            assert bytes(ffi.buffer(made)) == bytes(len(ffi.buffer(made)))
            assert place(ffi, made) % ffi.alignof(item) == 0
            assert a.used - before < len(ffi.buffer(made)) + ffi.alignof(item)


def test_a_field_that_leads_to_a_dropped_handle_still_reads_right(ffi: Any) -> None:
    """What a struct points to lives as long as the block, though nobody in Python refers to it."""
    with bump_region() as a:
        c = a.cffi(ffi)
        config = c.new(
            "config *",
            {"name": c.string("worker"), "argv": c.strings(["run", "-v"]), "at": c.new("point *", (1, 2))},
        )
        config.data = c.new("point *", (3, 4))
        gc.collect()
        for _ in range(100):
            c.string("x" * 100)
        assert ffi.string(config.name) == b"worker"
        assert [ffi.string(config.argv[n]) for n in range(2)] == [b"run", b"-v"]
        assert config.argv[2] == ffi.NULL
        assert (config.at.y, ffi.cast("point *", config.data).x) == (2, 3)
    assert (ffi.string(config.name), config.at.x) == (b"worker", 1)


@counts_references
def test_with_plain_cffi_the_memory_of_a_dropped_handle_is_taken_again(plain: Any) -> None:
    """The trouble that a region spares: the memory behind the field is handed to the next object."""

    def lost() -> bool:
        config = plain.new("config *", {"name": plain.new("char[]", b"worker" * 50)})
        others = [plain.new("char[]", b"x" * 300) for _ in range(100)]
        return any(place(plain, other) == place(plain, config.name) for other in others)

    assert any(lost() for _ in range(100))


def test_a_chain_of_nodes_lives_as_long_as_its_head(ffi: Any) -> None:
    """An escape keeps all that it leads to in the region."""
    with bump_region() as a:
        node: Any = ffi.NULL
        for value in range(100):
            node = a.cffi(ffi).new("node *", {"next": node, "value": value})
    gc.collect()
    seen: list[int] = []
    each = node
    while each:
        seen.append(each.value)
        each = each.next
    assert seen == list(range(99, -1, -1))


BAD: list[tuple[Any, Any]] = [
    ("point *", (1, 2, 3)),
    ("point *", {"z": 1}),
    ("point *", (1, "x")),
    ("point *", 3),
    ("point", None),
    ("int[]", None),
    ("int[]", -1),
    ("int[]", 1 << 62),
    ("int[]", [1, None]),
    ("int[2]", [1, 2, 3]),
    ("char[3]", b"abcdef"),
    ("char[]", "text"),
    ("int *", 1 << 40),
    ("struct unknown *", None),
    ("void *", None),
    ("int(*)(int)", None),
    ("nothing *", None),
    ("point * *", 3),
    ("struct flexible *", {"data": -1}),
]


@pytest.mark.parametrize(("cdecl", "init"), BAD)
def test_a_wrong_value_raises_what_cffi_raises(ffi: Any, cdecl: str, init: Any) -> None:
    """The same exception with the same words, and the cursor has not moved."""
    with pytest.raises(Exception) as plain:  # noqa: PT011  # whatever it is
        ffi.new(cdecl, init)
    with bump_region() as a:
        c = a.cffi(ffi)
        c.new("char *")
        for _ in range(2):
            error = refused(a, c.new, cdecl, init)
            assert (type(error), str(error)) == (type(plain.value), str(plain.value))


@pytest.mark.parametrize("cdecl", [3, None, b"int *", [], object()])
def test_what_is_no_declaration_is_a_type_error_that_names_it(plain: Any, cdecl: Any) -> None:
    """Every method checks its declaration before anything changes."""
    with bump_region() as a:
        c = a.cffi(plain)
        view = a.alloc(16)
        calls: list[tuple[Any, ...]] = [(c.new, cdecl), (c.slab, cdecl), (c.pointer, view, cdecl)]
        for call in calls:
            error = refused(a, *call)
            assert type(error) is TypeError and reprlib.repr(cdecl) in str(error)


def test_what_is_no_ffi_is_a_type_error_that_names_it() -> None:
    """The region asks for an ffi object."""
    with bump_region() as a:
        for bad in (3, None, cffi):
            assert "ffi of cffi" in str(refused(a, a.cffi, bad))


class Nested:
    """An item whose conversion allocates, and may fail."""

    def __init__(self, allocate: Callable[[], object], value: int | None) -> None:
        self.allocate = allocate
        self.value = value

    def __index__(self) -> int:
        self.allocate()
        if self.value is None:
            raise ValueError("told to fail")
        return self.value

    __int__ = __index__


def test_an_initializer_that_allocates_gets_bytes_of_its_own(plain: Any) -> None:
    """`new` inside of `new`: nothing overlaps, and a failure takes back nothing that somebody else has."""
    with bump_region() as a:
        c = a.cffi(plain)
        inner: list[Any] = []
        outer = c.new("int[]", [Nested(lambda: inner.append(c.new("int *", 9)), value) for value in (1, 2)])
        assert (list(outer), [item[0] for item in inner]) == ([1, 2], [9, 9])
        with pytest.raises(ValueError, match="told to fail"):
            c.new("int[]", [Nested(lambda: inner.append(c.new("int *", 9)), None)])
        later = [c.new("int *", 5) for _ in range(10)]
        assert [item[0] for item in inner] == [9, 9, 9]
        places = [place(plain, item) for item in (*inner, *later)]
        assert len(set(places)) == len(places)
        check(a)


def test_strings_are_utf_8_and_end_with_a_nul(ffi: Any) -> None:
    """`string` is a `char[]`, `strings` a `char *[]` that ends with NULL."""
    with bump_region() as a:
        c = a.cffi(ffi)
        text = c.string("grüß")
        assert (ffi.string(text), len(text)) == ("grüß".encode(), 7)
        table = c.strings(name for name in ("a", b"bc", ""))
        assert [ffi.string(item) for item in list(table)[:3]] == [b"a", b"bc", b""]
        assert (len(table), table[3]) == (4, ffi.NULL)
        assert all(place(ffi, table[n]) in a for n in range(3))
        assert c.strings([])[0] == ffi.NULL


@pytest.mark.parametrize("bad", ["a\0b", b"\0", 3, None, bytearray(b"x"), "\ud800"])
def test_a_bad_string_changes_nothing(plain: Any, bad: Any) -> None:
    """An embedded NUL or what UTF-8 lacks is a ValueError, another type a TypeError."""
    with bump_region() as a:
        c = a.cffi(plain)
        wanted = ValueError if isinstance(bad, (str, bytes)) else TypeError
        assert isinstance(refused(a, c.string, bad), wanted)
        assert isinstance(refused(a, c.strings, ["fine", bad]), wanted)


def test_a_pointer_leads_to_its_view(ffi: Any) -> None:
    """What is written through the pointer is in the view, and stays after the view is revoked."""
    with bump_region() as a:
        view = a.alloc(16)
        pointer = a.cffi(ffi).pointer(view, "point *")
        pointer.y = 0x01020304
        assert int.from_bytes(view[4:8], sys.byteorder) == 0x01020304
        assert a.cffi(ffi).pointer(view)[4] == bytes(view[4:5])
        assert len(a.cffi(ffi).pointer(view, "int[]")) == 4
    assert pointer.y == 0x01020304


def test_a_pointer_wants_a_writable_view_of_its_own_region(plain: Any) -> None:
    """A view of another region, of the heap, read-only, with gaps, revoked or too small is refused."""
    with bump_region() as a, bump_region() as other:
        view = a.alloc(16)
        with a.scope() as scope:
            revoked = scope.alloc(16)
        c = a.cffi(plain)
        cases: list[tuple[Any, str, type[Exception]]] = [
            (other.alloc(16), "int *", ValueError),
            (bytearray(16), "int *", ValueError),
            (view.toreadonly(), "int *", BufferError),
            (view[::2], "int *", TypeError),
            (revoked, "int *", ValueError),
            (view[:3], "int *", ValueError),
            (view, "int[5]", ValueError),
            (view, "int", TypeError),
            (3, "int *", TypeError),
        ]
        for bad, cdecl, wanted in cases:
            assert isinstance(refused(a, c.pointer, bad, cdecl), wanted), (bad, cdecl)
        assert c.pointer(view[:0], "void *")
        assert c.pointer(view[2:2]) == c.pointer(view)[0:0] + 2
        assert len(c.pointer(a.copy(b""), "char[]")) == 0
        assert isinstance(refused(a, c.pointer, view[:0], "int *"), ValueError)


def test_a_slab_gives_raw_pointers_side_by_side(ffi: Any) -> None:
    """Zero, aligned, apart, in the region; and raw: they keep nothing."""
    with bump_region() as a:
        slab = a.cffi(ffi).slab("point *")
        made = [next(slab) for _ in range(700)]
        for number, item in enumerate(made):
            assert (item.x, item.y) == (0, 0)
            item.x = item.y = number
        assert [item.y for item in made] == list(range(700))
        assert len({place(ffi, item) for item in made}) == 700
        assert all(place(ffi, item) % 4 == 0 and place(ffi, item) + 7 in a for item in made)
    with pytest.raises(RegionClosedError):
        next(slab)


@counts_references
def test_a_slab_pins_nothing(plain: Any) -> None:
    """The pointers of a slab are raw: the memory goes though they are still referred to."""
    with bump_region() as a:
        slab = a.cffi(plain).slab("point *")
        made = [next(slab) for _ in range(100)]
    assert a.released
    del made


@pytest.mark.parametrize("cdecl", ["point", "int[3]", "void *", "struct unknown *", "int(*)(int)"])
def test_a_slab_wants_a_pointer_to_something_that_has_a_size(plain: Any, cdecl: str) -> None:
    """Anything else is a TypeError or ValueError at once."""
    with bump_region() as a:
        assert isinstance(refused(a, a.cffi(plain).slab, cdecl), (TypeError, ValueError))


@counts_references
def test_an_object_and_its_struct_pin_the_region(ffi: Any) -> None:
    """Promise 4: the memory goes when the last of both does, and not before."""
    for kind in ("point *", "int[4]", "struct flexible *"):
        with bump_region() as a:
            made = a.cffi(ffi).new(kind, {"data": b"abc"} if "flexible" in kind else None)
            struct = made[0]
        assert not a.released
        del made
        assert a.released == isinstance(struct, int)
        del struct
        assert a.released


@counts_references
def test_the_adapter_and_its_errors_are_no_escapes(ffi: Any) -> None:
    """Promise 3: the adapter in a variable, a slab that waits, or a caught exception keep no memory."""
    with bump_region() as a:
        c = a.cffi(ffi)
        c.new("point *", (1, 2))
        c.new("point *")
        slab = c.slab("point *")
        next(slab)
        with pytest.raises(TypeError) as caught:
            c.new("point *", ("x",))
    assert a.released
    assert caught.value.__traceback__ is not None
    calls: list[tuple[Any, ...]] = [
        (c.new, "point *"), (c.new, "point *", (1,)), (c.string, "x"), (c.strings, ["x"]), (c.slab, "point *"),
        (c.pointer, bytearray(3)), (next, slab),
    ]  # fmt: skip
    for call, *args in calls:
        with pytest.raises(RegionClosedError):
            call(*args)


def test_a_region_with_an_open_scope_refuses(plain: Any) -> None:
    """Promise 11, for the adapter too, whether it knows the type or not."""
    with bump_region() as a:
        c = a.cffi(plain)
        c.new("point *")
        with a.scope():
            for cdecl, init in (("point *", None), ("point *", (1, 2)), ("int *", 3)):
                with pytest.raises(RegionBusyError):
                    c.new(cdecl, init)
        assert c.new("point *", (1, 2)).x == 1


def test_an_adapter_goes_on_after_a_reset_with_an_escape(plain: Any) -> None:
    """What is made after the reset lies in the fresh reservation, and the escape keeps its content."""
    with bump_region() as a:
        c = a.cffi(plain)
        escape = c.new("point *", (1, 2))
        a.reset()
        again = c.new("point *", (3, 4))
        assert place(plain, again) in a and place(plain, escape) not in a
        assert (escape.x, again.y) == (1, 4)
        del escape, again
        collect()


def test_a_region_serves_what_fits_after_it_was_full(plain: Any) -> None:
    """Promise 8: the error says what was asked for, with the type's own alignment."""
    with bump_region(100) as a:
        c = a.cffi(plain)
        c.new("char *")
        with pytest.raises(RegionFullError) as caught:
            c.new("double[13]")
        assert (caught.value.requested, caught.value.align, caught.value.available) == (104, 8, 92)
        assert a.used == 2  # a char * has room for a NUL
        assert len(c.new("double[]", 11)) == 11


def test_a_pool_sees_escapes_of_cffi(plain: Any) -> None:
    """A reservation with an escape does not return to its pool before the escape dies."""
    with RegionPool(1 << 20) as pool:
        with pool.region() as a:
            escape = a.cffi(plain).new("point *", (1, 2))
            first = place(plain, escape)
        with pool.region() as b:
            assert first not in b
        assert escape.y == 2
        del escape
        collect()


def test_many_declarations_are_not_kept_for_ever(plain: Any) -> None:
    """What is known of declarations is bounded."""
    with bump_region() as a:
        c = a.cffi(plain)
        for count in range(1, 1000):
            assert len(c.new(f"char[{count}]")) == count
        assert len(c._known) < 300


def test_a_type_that_is_declared_later_is_seen() -> None:
    """An incomplete struct is refused; completed, it is made with its own alignment."""
    mine = cffi.FFI()
    mine.cdef("struct late;")
    with bump_region() as a:
        c = a.cffi(mine)
        refused(a, c.new, "struct late *")
        mine.cdef("struct late { double d; };")
        c.new("char *")
        assert place(mine, c.new("struct late *", (1.5,))) % 8 == 0


@pytest.mark.parametrize("make", ["new", "string", "strings", "pointer"])
def test_what_is_made_may_end_in_a_dead_cycle(make: str) -> None:
    """`ffi.from_buffer` of a memoryview crashes the collector of CPython before 3.13 there; nothing made here does."""
    run_script(
        """
        import gc, sys
        import cffi
        from scopedbump import bump_region

        ffi = cffi.FFI()
        ffi.cdef("typedef struct { int x, y; } point;")

        class Node:
            def __del__(self):
                assert ffi.buffer(self.made)[:] is not None

        for _ in range(30):
            node = Node()
            with bump_region() as a:
                c = a.cffi(ffi)
                if sys.argv[1] == "new":
                    node.made = c.new("point *")
                elif sys.argv[1] == "string":
                    node.made = c.string("text")
                elif sys.argv[1] == "strings":
                    node.made = c.strings(["text"])
                else:
                    node.made = c.pointer(a.alloc(8), "point *")
            node.me = node
            del node, c
            for _ in range(8):  # PyPy runs one generation of finalizers at a time
                gc.collect()
            assert a.released
        """,
        make,
    )


def test_what_a_refused_initializer_wrote_is_gone(plain: Any) -> None:
    """Promise 6: the bytes are taken back, and the next block is zero all the same."""
    with bump_region() as a:
        with pytest.raises(TypeError):
            a.cffi(plain).new("int[]", [-1] * 20 + ["x"])
        assert a.used == 0
        check(a)
        assert not any(a.alloc(200))
