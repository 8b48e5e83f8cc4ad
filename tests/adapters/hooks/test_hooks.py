"""`a.cffi(ffi).hooks()` and `a.ctypes.hooks()`: what they take, when they give NULL, who keeps what."""

from __future__ import annotations

import ctypes
import gc
import os
import sys
from ctypes import CFUNCTYPE, POINTER, c_bool, c_char_p, c_double, c_int, c_size_t, c_void_p
from typing import Any

import pytest

from helpers.support import collect, counts_references, forks_among_threads, run_script, run_threads
from scopedbump import (
    CallbackRefusedError,
    CffiHooks,
    CtypesHooks,
    Region,
    RegionBusyError,
    RegionClosedError,
    RegionFullError,
    RegionPool,
    bump_region,
    heap,
)
from scopedbump._adapters import _callbacks
from scopedbump._adapters import _hook_slots as slots

cffi: Any = pytest.importorskip("cffi", reason="in-line ffi objects need the whole of cffi")

ffi: Any = cffi.FFI()
ffi.cdef("typedef void *(*alloc_t)(void *, size_t); typedef struct thing thing;")
NULL: Any = ffi.NULL
MALLOC = "void *(*)(size_t)"
CALLOC = "void *(*)(size_t, size_t)"
REALLOC = "void *(*)(void *, size_t)"
REALLOC_OLD = "void *(*)(void *, size_t, size_t)"
FREE = "void (*)(void *)"
WORST = 2**64 - 1 if sys.maxsize > 2**32 else 2**32 - 1


def at(pointer: Any) -> int:
    return int(ffi.cast("uintptr_t", pointer))


@pytest.mark.parametrize(
    ("kind", "ctype", "roles", "says"),
    [
        ("malloc", MALLOC, "", "'size' is missing in roles ''"),
        ("malloc", MALLOC, "opaque", "'size' is missing"),
        ("malloc", MALLOC, "size size", "'size' stands twice in roles 'size size'"),
        ("malloc", MALLOC, "opaque size", "name 2 parameters, .* has 1"),
        ("malloc", MALLOC, "sise", "'sise' in roles 'sise' of malloc is none of: opaque, count"),
        ("malloc", REALLOC, "ptr size", "'ptr' in roles 'ptr size' of malloc is none of"),
        ("malloc", REALLOC, "size opaque", "'size' in roles 'size opaque' is a pointer in .*should be an integer"),
        ("malloc", "void *(*)(double)", "size", "'size' in roles 'size' is neither a pointer nor an integer in"),
        ("malloc", "void *(*)(_Bool)", "size", "neither a pointer nor an integer"),
        ("malloc", "int (*)(size_t)", "size", "malloc returns a pointer, which .* does not"),
        ("malloc", "void (*)(size_t)", "size", "malloc returns a pointer"),
        ("malloc", "void *(*)(size_t, ...)", "size", "takes any number of arguments"),
        ("realloc", REALLOC, "opaque size", "'ptr' is missing"),
        ("realloc", "void *(*)(size_t, size_t)", "ptr size", "'ptr' in roles 'ptr size' is no pointer in"),
        ("free", "int (*)(void *)", "ptr", "free returns nothing, which .* does not"),
        ("free", FREE, "opaque", "'ptr' is missing"),
        ("calloc", CALLOC, "count count", "'count' stands twice"),
    ],
)
def test_wrong_roles_are_value_errors(kind: str, ctype: str, roles: str, says: str) -> None:
    """The message names the value, and no callback was made for it."""
    with bump_region(1 << 16) as a:
        hooks = a.cffi(ffi).hooks()
        before = len(slots._all)
        with pytest.raises(ValueError, match=says):
            getattr(hooks, kind)(ctype, roles)
        assert len(slots._all) == before and a.used == 0


@pytest.mark.parametrize("ctype", [5, None, "int *", "size_t"])
def test_what_is_no_function_pointer_is_a_type_error(ctype: Any) -> None:
    """A ctype must be a function pointer, in both worlds."""
    with bump_region(1 << 16) as a:
        with pytest.raises(TypeError, match="ctype must be"):
            a.cffi(ffi).hooks().malloc(ctype, "size")
        with pytest.raises(TypeError, match="ctype must be a type that CFUNCTYPE makes, not"):
            a.ctypes.hooks().malloc(ctype, "size")
        with pytest.raises(TypeError, match="roles must be a str, not 5"):
            a.cffi(ffi).hooks().malloc(MALLOC, 5)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("ctype", "roles", "says"),
    [
        (CFUNCTYPE(c_int, c_size_t), "size", "malloc returns a pointer"),
        (CFUNCTYPE(None, c_size_t), "size", r"malloc returns a pointer, which 'None \(c_u?long\w*\)' does not"),
        (CFUNCTYPE(c_void_p, c_double), "size", "neither a pointer nor an integer"),
        (CFUNCTYPE(c_void_p, c_bool), "size", "neither a pointer nor an integer"),
        (CFUNCTYPE(c_void_p, c_void_p, c_size_t), "size opaque", "is a pointer"),
    ],
)
def test_types_of_ctypes_are_checked_as_well(ctype: Any, roles: str, says: str) -> None:
    """The same errors for types of ctypes."""
    with bump_region(1 << 16) as a, pytest.raises(ValueError, match=says):
        a.ctypes.hooks().malloc(ctype, roles)


@pytest.mark.parametrize(
    ("ctype", "roles", "arguments"),
    [
        ("alloc_t", "opaque size", (NULL, 100)),
        ("alloc_t", "_ size", (NULL, 100)),
        ("void *(*)(thing *, unsigned, int)", "opaque count size", (NULL, 25, 4)),
        ("void *(*)(size_t, void *)", "size opaque", (100, NULL)),
        (MALLOC, "size", (100,)),
        ("void *(*)(uint8_t)", "size", (100,)),
        ("char *(*)(long, long)", "align size", (64, 100)),
        ("void *(*)(void (*)(void), short)", "opaque size", (NULL, 100)),
    ],
)
def test_functions_have_the_types_of_their_user(ctype: str, roles: str, arguments: tuple[Any, ...]) -> None:
    """Whatever the order and the types of the parameters: the right block, aligned, and the type as it was given."""
    with bump_region(1 << 16) as a:
        hooks = a.cffi(ffi).hooks()
        function: Any = hooks.malloc(ctype, roles)
        assert ffi.typeof(function) is ffi.typeof(ctype)
        assert hooks.malloc(ctype, roles) == function  # again the same
        blocks = [at(function(*arguments)) for _ in range(3)]
        assert blocks[1] - blocks[0] in (112, 128) and a.used >= 324
        assert all(block in a and block % (64 if "align" in roles else 16) == 0 for block in blocks)


def test_memory_is_null_where_there_is_none() -> None:
    """Promise 8: full, an overflowing product, negative, busy, ended; `refused` says which, and what fits is served."""
    with bump_region(1 << 16) as a:
        hooks = a.cffi(ffi).hooks()
        malloc: Any = hooks.malloc(MALLOC, "size")
        calloc: Any = hooks.calloc(CALLOC, "count size")
        ints: Any = hooks.malloc("void *(*)(void *, int, int)", "opaque count size")
        realloc: Any = hooks.realloc(REALLOC, "ptr size")
        aligned: Any = hooks.malloc(CALLOC, "align size")
        assert hooks.refused is None
        calls: list[tuple[Any, tuple[Any, ...]]] = [
            (malloc, (1 << 17,)),
            (malloc, (WORST,)),
            (calloc, (WORST, WORST)),
            (calloc, (WORST // 2 + 1, 2)),
            (realloc, (NULL, WORST)),
            (ints, (NULL, -1, 8)),
            (ints, (NULL, -3, -8)),
            (aligned, (16, WORST)),
        ]
        for function, arguments in calls:
            hooks._turn.refused = None
            assert function(*arguments) == NULL
            assert isinstance(hooks.refused, RegionFullError)
        assert aligned(24, 8) == NULL and "align must be a power of two, not 24" in str(hooks.refused)
        assert realloc(ffi.cast("void *", 4096), 8) == NULL and "0x1000, which does not lie" in str(hooks.refused)
        assert malloc(1000) != NULL
        with a.scope():
            assert malloc(1) == NULL and isinstance(hooks.refused, RegionBusyError)
            assert realloc(NULL, 1) == NULL
        assert malloc(1000) != NULL and malloc(0) != NULL and calloc(0, 5) != NULL
        block = malloc(10)
        a.reset()
        assert malloc(1) == NULL and isinstance(hooks.refused, RegionClosedError)
        assert realloc(block, 100) == NULL
        for make in (lambda: hooks.malloc("alloc_t", "opaque size"), lambda: hooks.own(block)):
            with pytest.raises(RegionClosedError, match="was reset"):
                make()
        again = a.cffi(ffi).hooks()
        assert again.malloc(MALLOC, "size")(100) != NULL
        kept: Any = again.malloc(MALLOC, "size")
    assert kept(1) == NULL and isinstance(again.refused, RegionClosedError)
    with pytest.raises(RegionClosedError):
        a.cffi(ffi).hooks()


def test_blocks_of_calloc_are_zero_and_those_of_realloc_keep_their_content() -> None:
    """Promise 6, in memory that was written to before; and a block that grows takes its bytes along."""
    with bump_region(1 << 20) as a:
        with a.scope() as scope:
            scope.alloc(500_000)[:] = b"\xa5" * 500_000
        hooks = a.cffi(ffi).hooks()
        calloc: Any = hooks.calloc(CALLOC, "count size")
        for size in (1, 100, 40_000, 100_000):
            assert not any(bytes(ffi.buffer(calloc(1, size), size)))
        plain, told = hooks.realloc(REALLOC, "ptr size"), hooks.realloc(REALLOC_OLD, "ptr size old")
        for knows in (False, True):
            block: Any = NULL
            content = b""
            for size in (1, 50, 3000, 2000, 30_000, 5, 31_000):
                block = told(block, size, len(content)) if knows else plain(block, size)
                content = content[:size]
                assert bytes(ffi.buffer(block, len(content))) == content
                content = bytes((size + index) & 0xFF for index in range(size))
                ffi.buffer(block, size)[:] = content
            assert plain(block, 0) == told(block, 0, 5) == NULL


def test_the_last_block_grows_in_place() -> None:
    """What realloc made, or is told the size of, stays where it is as long as nothing lies behind it."""
    with bump_region(1 << 20) as a:
        hooks = a.cffi(ffi).hooks()
        realloc: Any = hooks.realloc(REALLOC, "ptr size")
        told: Any = hooks.realloc(REALLOC_OLD, "ptr size old")
        block = realloc(NULL, 100)
        for size in range(200, 50_000, 1000):
            assert realloc(block, size) == block
        assert a.used == size
        assert told(block, 60_000, size) == block
        other = told(NULL, 10, 77)  # without a block `old` means nothing: Lua's is the type of an object
        assert realloc(block, 70_000) != block
        assert told(other, 5, 10) == other
        assert a.used < 140_000


def test_realloc_does_not_read_what_a_writer_has_not_committed() -> None:
    """Promise 4: behind the old block lies address space that a writer took ahead."""
    if not hasattr(Region, "writer"):
        pytest.skip("regions have no writers yet")
    run_script(
        """
        import cffi
        from scopedbump import bump_region

        ffi = cffi.FFI()
        with bump_region(1 << 28) as a:
            hooks = a.cffi(ffi).hooks()
            realloc = hooks.realloc("void *(*)(void *, size_t)", "ptr size")
            malloc = hooks.malloc("void *(*)(size_t)", "size")
            block = malloc(100)
            ffi.memmove(block, b"x" * 100, 100)
            writer = a.writer(100 << 20)
            writer.write(b"text")
            block = realloc(block, 50 << 20)
            assert bytes(ffi.buffer(block, 100)) == b"x" * 100
            print("done")
        """
    )


@counts_references
def test_free_does_nothing_in_any_thread_and_after_the_end() -> None:
    """It is a function of C: no callback, and nothing comes of calling it."""
    with bump_region(1 << 16) as a:
        hooks = a.cffi(ffi).hooks()
        before = len(slots._all)
        frees: list[Any] = [
            hooks.free(FREE, "ptr"),
            hooks.free("void (*)(void *, void *)", "opaque ptr"),
            hooks.free("void (*)(void *, void *)", "ptr opaque"),
            hooks.free("void (*)(void *, size_t)", "ptr size"),
        ]
        assert len(slots._all) == before
        block = hooks.malloc(MALLOC, "size")(10)
        arguments = ((block,), (NULL, block), (block, NULL), (block, 10))
        run_threads(*[lambda: [free(*given) for free, given in zip(frees, arguments, strict=True)]] * 3)
        assert a.used == 10
    for free, given in zip(frees, arguments, strict=True):
        free(*given)


def test_a_thousand_regions_make_no_new_callbacks() -> None:
    """Slots serve again; each user only for its time."""

    def use(a: Region) -> Any:
        hooks = a.cffi(ffi).hooks()
        malloc: Any = hooks.malloc("void *(*)(thing *, size_t)", "opaque size")
        realloc: Any = hooks.realloc("void *(*)(void *, thing *, size_t)", "ptr opaque size")
        assert at(malloc(NULL, 10)) in a and at(realloc(NULL, NULL, 10)) in a
        return malloc

    with bump_region(1 << 16) as a:
        use(a)
    collect()
    count = len(slots._all)
    with RegionPool(1 << 16) as pool:
        for index in range(1000):
            with pool.region() as a:
                use(a)
                with a.scope() as scope:
                    last = use(scope)
            if index % 100 == 0:
                collect()
            assert last(NULL, 1) == NULL
    limit = count + 2 if sys.implementation.name == "cpython" else count + 500
    assert len(slots._all) <= limit


@counts_references
def test_two_users_at_a_time_have_two_functions() -> None:
    """Each function serves its own region."""
    with bump_region(1 << 16) as a, bump_region(1 << 16) as b:
        one: Any = a.cffi(ffi).hooks().malloc(MALLOC, "size")
        other: Any = b.cffi(ffi).hooks().malloc(MALLOC, "size")
        third: Any = a.cffi(ffi).hooks().malloc(MALLOC, "size")
        assert len({at(one), at(other), at(third)}) == 3
        assert at(one(8)) in a and at(other(8)) in b and at(third(8)) in a


@counts_references
def test_a_slot_serves_nobody_else_while_something_is_owned() -> None:
    """Promise 13: an object that outlives its region never allocates in another one."""
    alone = "void *(*)(unsigned, int8_t)"  # no other test has slots of this type
    with bump_region(1 << 16) as a:
        hooks = a.cffi(ffi).hooks()
        malloc: Any = hooks.malloc(alone, "size _")
        owned = hooks.own(malloc(16, 0))
    for _ in range(3):
        with bump_region(1 << 16) as b:
            other: Any = b.cffi(ffi).hooks().malloc(alone, "size _")
            assert other != malloc and malloc(8, 0) == NULL
            assert at(other(8, 0)) in b
    ffi.buffer(owned, 16)[:] = b"0123456789abcdef"
    assert not a.released
    del owned
    assert a.released
    with bump_region(1 << 16) as b, bump_region(1 << 16) as c:
        assert malloc in [region.cffi(ffi).hooks().malloc(alone, "size _") for region in (b, c)]


@counts_references
@pytest.mark.parametrize("way", ["dies", "is released", "is in a dead cycle"])
def test_what_is_owned_is_destroyed_once_and_before_its_memory_goes(way: str) -> None:
    """Promise 4: at its death, at a release, in a dead cycle; the region keeps its memory until then."""
    seen: list[bytes] = []
    with bump_region(1 << 16) as a:
        hooks = a.cffi(ffi).hooks()
        block = hooks.malloc("char *(*)(size_t)", "size")(16)
        block[0:4] = b"text"
        owned: Any = hooks.own(block, lambda p: seen.append(ffi.unpack(p, 4)))
        assert ffi.typeof(owned) is ffi.typeof("char *")
    assert not a.released and not seen
    if way == "dies":
        del owned
    elif way == "is released":
        ffi.release(owned)
    else:
        cycle: list[Any] = [owned]
        cycle.append(cycle)
        del owned, cycle
        gc.collect()
    assert seen == [b"text"]
    assert a.released


def test_own_refuses_what_it_cannot_own() -> None:
    """NULL, with the reason as its cause; what is no pointer; what can't be called."""
    with bump_region(1 << 16) as a:
        hooks = a.cffi(ffi).hooks()
        malloc: Any = hooks.malloc(MALLOC, "size")
        wrongs: list[Any] = [5, None, ffi.new("int[3]"), c_void_p(5)]
        with pytest.raises(ValueError, match="NULL") as refusal:
            hooks.own(malloc(1 << 20))
        assert isinstance(refusal.value.__cause__, RegionFullError)
        for wrong in wrongs:
            with pytest.raises(TypeError, match="pointer must be a pointer of cffi"):
                hooks.own(wrong)
        with pytest.raises(TypeError, match="destroy must be callable or None, not 5"):
            hooks.own(malloc(1), 5)  # type: ignore[arg-type]
        mine = a.ctypes.hooks()
        for wrong in (5, None, malloc(1)):
            with pytest.raises(TypeError, match="pointer must be a pointer of ctypes"):
                mine.own(wrong)
        with pytest.raises(ValueError, match="NULL"):
            mine.own(c_void_p())


@counts_references
def test_ctypes_has_the_same() -> None:
    """Functions of CFUNCTYPE types, and what is owned is a pointer of its type."""
    malloc_t = CFUNCTYPE(c_void_p, c_void_p, c_size_t)
    realloc_t = CFUNCTYPE(c_void_p, POINTER(c_int), c_size_t)
    destroyed: list[int] = []
    with bump_region(1 << 16) as a:
        hooks = a.ctypes.hooks()
        assert isinstance(hooks, CtypesHooks) and isinstance(a.cffi(ffi).hooks(), CffiHooks)
        malloc: Any = hooks.malloc(malloc_t, "opaque size")
        assert type(malloc) is malloc_t
        address = malloc(None, 4)
        assert address in a
        assert hooks.calloc(malloc_t, "opaque size")(None, 16) in a
        assert hooks.realloc(realloc_t, "ptr size")(None, 16) in a
        hooks.free(CFUNCTYPE(None, c_char_p), "ptr")(b"x")
        number = ctypes.cast(address, POINTER(c_int))
        number[0] = 7
        owned = hooks.own(number, lambda p: destroyed.append(p[0]))
        assert type(owned) is POINTER(c_int)
        assert malloc(None, 1 << 20) is None and isinstance(hooks.refused, RegionFullError)
    del number
    assert malloc(None, 1) is None
    assert not a.released and not destroyed and owned[0] == 7
    content = owned.contents
    del owned
    assert not a.released and content.value == 7
    del content
    assert destroyed == [7] and a.released


def test_the_heap_has_no_hooks() -> None:
    """There the library's own allocator is what it would be."""
    for adapter in (heap.cffi(ffi), heap.ctypes):
        with pytest.raises(TypeError, match="hooks need a region"):
            adapter.hooks()


def test_where_callbacks_are_refused_nothing_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    """CallbackRefusedError comes when the function is made, before any library has it; `free` needs none."""

    class Refusing:
        def callback(self, *_: object, **__: object) -> None:
            raise MemoryError("Cannot allocate write+execute memory for ffi.callback()")

    with bump_region(1 << 16) as a:
        hooks = a.cffi(ffi).hooks()
        monkeypatch.setattr(_callbacks, "ffi", Refusing())
        with pytest.raises(CallbackRefusedError, match="PR_SET_MDWE"):
            hooks.malloc("void *(*)(unsigned short, short)", "size _")
        hooks.free(FREE, "ptr")
        assert "0 functions" in repr(hooks)


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_MDWE is Linux's")
def test_a_hardened_process_is_refused() -> None:
    """The real thing, where the kernel has it."""
    said = run_script(
        """
        import ctypes
        import cffi
        from scopedbump import CallbackRefusedError, bump_region

        ffi = cffi.FFI()
        if ctypes.CDLL(None).prctl(65, 1, 0, 0, 0):
            print("this kernel has no PR_SET_MDWE")
        else:
            with bump_region(1 << 16) as a:
                hooks = a.cffi(ffi).hooks()
                try:
                    malloc = hooks.malloc("void *(*)(size_t)", "size")
                except CallbackRefusedError:
                    print("refused")
                else:
                    assert malloc(8) != ffi.NULL  # libffi has other means here
                    print("not needed")
        """
    )
    assert said.strip()


@forks_among_threads
@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_child_has_its_own_copy() -> None:
    """Promise 10: both go on allocating, and see nothing of each other."""
    with bump_region(1 << 16) as a:
        malloc: Any = a.cffi(ffi).hooks().malloc("char *(*)(size_t)", "size")
        block = malloc(8)
        block[0:4] = b"both"
        child = os.fork()
        if not child:
            try:
                mine = malloc(8)
                mine[0:4] = block[0:4] = b"mine"
                a.close()
                os._exit(0 if malloc(8) == NULL else 1)
            finally:
                os._exit(2)
        assert os.waitpid(child, 0)[1] == 0
        assert ffi.unpack(block, 4) == b"both" and malloc(8) - block == 16


def test_threads_never_get_the_same_bytes() -> None:
    """Promise 9: eight threads, by malloc, calloc and realloc, with and without the old size."""
    with bump_region(1 << 24) as a:
        hooks = a.cffi(ffi).hooks()
        malloc: Any = hooks.malloc(MALLOC, "size")
        calloc: Any = hooks.calloc(CALLOC, "count size")
        realloc: Any = hooks.realloc(REALLOC, "ptr size")
        told: Any = hooks.realloc(REALLOC_OLD, "ptr old size")

        def body(mark: int) -> None:
            blocks: list[tuple[Any, int]] = []
            for index in range(150):
                size = 1 + index * 7 % 90
                block = malloc(size) if index % 2 else calloc(1, size)
                assert index % 2 or not any(bytes(ffi.buffer(block, size)))
                ffi.buffer(block, size)[:] = bytes((mark,)) * size
                grown = realloc(block, size + 50) if index % 3 else told(block, size, size + 50)
                assert bytes(ffi.buffer(grown, size)) == bytes((mark,)) * size
                ffi.buffer(grown, size + 50)[:] = bytes((mark,)) * (size + 50)
                grown = realloc(grown, size + 90)
                ffi.buffer(grown, size + 90)[:] = bytes((mark,)) * (size + 90)
                blocks.append((grown, size + 90))
            for block, size in blocks:
                assert bytes(ffi.buffer(block, size)) == bytes((mark,)) * size

        run_threads(*[lambda mark=mark: body(mark) for mark in range(1, 9)])


def test_a_librarys_own_threads_are_served() -> None:
    """zstd compresses with workers of its own, which allocate by the same hooks."""
    pytest.importorskip("helpers.hook_libraries")
    from helpers.hook_libraries import WORDS
    from helpers.hook_libraries import ffi as libraries

    try:
        lib: Any = libraries.dlopen("libzstd.so.1")
    except OSError:
        pytest.skip("zstd is not on this machine")
    with bump_region(1 << 28) as a:
        hooks = a.cffi(libraries).hooks()
        memory = libraries.new(
            "ZSTD_customMem *",
            (hooks.malloc("alloc_opaque", "opaque size"), hooks.free("free_opaque", "opaque ptr"), libraries.NULL),
        )
        context = lib.ZSTD_createCCtx_advanced(memory[0])
        if lib.ZSTD_isError(lib.ZSTD_CCtx_setParameter(context, 400, 3)):
            pytest.skip("this zstd has no workers")
        data = WORDS * 40
        out = libraries.new("char[]", len(data))
        size = lib.ZSTD_compress2(context, out, len(out), libraries.from_buffer(data), len(data))
        assert not lib.ZSTD_isError(size) and hooks.refused is None
        lib.ZSTD_freeCCtx(context)  # its threads end here


@counts_references
def test_hooks_are_no_escape() -> None:
    """Neither the hooks, nor their functions, nor why something was refused keep the memory."""
    with bump_region(1 << 16, escape="raise") as a:
        hooks = a.cffi(ffi).hooks()
        malloc: Any = hooks.malloc(MALLOC, "size")
        malloc(1 << 20)
        others = a.ctypes.hooks(), hooks.refused
    assert a.released and others and malloc(1) == NULL
    assert repr(hooks).startswith("<scopedbump.CffiHooks: 1 functions, ended, <scopedbump.Region")


@pytest.mark.skipif(sys.version_info < (3, 12), reason="cffi is in no sub-interpreter before")
def test_a_sub_interpreter_is_refused() -> None:
    """Where C would wait for ever for Python, it is said at once."""
    said = run_script(
        """
        try:
            import _interpreters as interpreters
        except ImportError:
            import _xxsubinterpreters as interpreters
        try:
            number = interpreters.create("legacy")
        except TypeError:
            number = interpreters.create(isolated=False)
        code = '''
        from scopedbump import bump_region
        try:
            with bump_region(1 << 16) as a:
                a.ctypes.hooks()
        except NotImplementedError as refusal:
            print("refused:", refusal)
        except ImportError as error:
            print("refused: by cffi", error)
        '''
        import textwrap
        interpreters.run_string(number, textwrap.dedent(code))
        interpreters.destroy(number)
        """
    )
    assert "refused" in said
