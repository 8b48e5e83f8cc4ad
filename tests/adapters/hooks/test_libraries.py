"""C libraries that allocate in a region: the same output as with malloc, a quota, and no leaks."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("cffi", reason="in-line ffi objects need the whole of cffi")

from helpers.hook_libraries import LIBRARIES, Library, expat_parser, ffi, lua_state
from helpers.support import collect, counts_references
from scopedbump import RegionFullError, RegionPool, bump_region

NO_MEMORY = 1  # XML_ERROR_NO_MEMORY
LUA_ERRMEM = 4


def opened(library: Library) -> Any:
    lib = library.open()
    if lib is None:
        pytest.skip(f"{library.name} is not on this machine ({', '.join(library.files)})")
    return lib


def by_name(name: str) -> Any:
    return opened(next(library for library in LIBRARIES if library.name == name))


@pytest.mark.parametrize("library", LIBRARIES, ids=lambda library: library.name)
def test_a_library_makes_the_same_as_with_malloc(library: Library) -> None:
    """Its output is the same, its memory came from the region, and goes with it though nothing was freed."""
    lib = opened(library)
    expected = library.job(lib, None)
    with bump_region(64 << 20) as a:
        hooks = a.cffi(ffi).hooks()
        before = a.used
        assert library.job(lib, hooks) == expected
        assert a.used > before
        assert hooks.refused is None
        del hooks
    collect()
    assert a.released


@pytest.mark.parametrize("library", LIBRARIES, ids=lambda library: library.name)
def test_a_library_works_in_memory_that_was_used_before(library: Library) -> None:
    """Twice in the same lease of a pool, in a scope and behind a block: what was there does not show."""
    lib = opened(library)
    expected = library.job(lib, None)
    with RegionPool(64 << 20) as pool:
        for _ in range(2):
            with pool.region() as a:
                for _ in range(2):
                    with a.scope() as scope:
                        scope.alloc(100_000)[:] = b"\xa5" * 100_000
                    with a.scope() as scope:
                        assert library.job(lib, scope.cffi(ffi).hooks()) == expected
                a.alloc(1_000_000)[:] = b"\xa5" * 1_000_000


def test_a_document_that_explodes_is_out_of_memory_in_its_region() -> None:
    """Promise 13: expat ends with its own "no memory", the region says why, and the process took no more."""
    lib = by_name("expat")
    deep = b"<a>" * 2_000_000
    with bump_region(1 << 20) as a:
        hooks = a.cffi(ffi).hooks()
        parser = expat_parser(lib, hooks)
        assert lib.XML_Parse(parser, deep, len(deep), 1) == 0
        assert lib.XML_GetErrorCode(parser) == NO_MEMORY
        assert isinstance(hooks.refused, RegionFullError)
        assert a.peak <= a.size


def test_a_script_that_wants_too_much_is_out_of_memory_in_its_region() -> None:
    """Promise 13: Lua's own error, in the place where it happens; and nothing else goes wrong."""
    lib = by_name("Lua")
    with bump_region(4 << 20) as a:
        hooks = a.cffi(ffi).hooks()
        state = lua_state(lib, hooks)
        lib.luaL_openlibs(state)
        assert lib.luaL_loadstring(state, b"local t = {} while true do t[#t + 1] = ('x'):rep(1000) .. #t end") == 0
        assert lib.lua_pcallk(state, 0, 1, 0, 0, ffi.NULL) == LUA_ERRMEM
        assert isinstance(hooks.refused, RegionFullError)
    with bump_region(1000) as a:
        hooks = a.cffi(ffi).hooks()
        assert lua_state(lib, hooks) == ffi.NULL
        assert isinstance(hooks.refused, RegionFullError)


@counts_references
def test_an_owned_object_outlives_its_region() -> None:
    """Promise 4: it keeps its memory, gets none any more, and is destroyed before its memory goes."""
    lib = by_name("expat")
    order: list[str] = []
    with bump_region(1 << 20) as a:
        hooks = a.cffi(ffi).hooks()

        def destroy(parser: Any) -> None:
            order.append("destroyed" if not a.released else "too late")
            lib.XML_ParserFree(parser)

        parser: Any = hooks.own(expat_parser(lib, hooks), destroy)
        assert lib.XML_Parse(parser, b"<r>", 3, 0) == 1
    assert not a.released
    assert lib.XML_Parse(parser, b"<r>" * 10_000, 30_000, 0) == 0
    assert lib.XML_GetErrorCode(parser) == NO_MEMORY
    assert "has ended" in str(hooks.refused)
    del parser
    assert order == ["destroyed"]
    assert a.released
