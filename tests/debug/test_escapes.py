"""What holds an escape is named: by what name, which block, and where that was made."""

from __future__ import annotations

import asyncio
import ctypes
import sys
from collections.abc import Generator
from typing import Any, Literal

import pytest

from helpers.support import run_script
from scopedbump import EscapeError, EscapeWarning, Region, bump_region, debug

pytestmark = pytest.mark.skipif(sys.implementation.name != "cpython", reason="who holds what is known to CPython only")

kept: list[object] = []


class Handler:
    """Something with an attribute."""

    cache: object = None


class Slotted:
    """Something with a slot."""

    __slots__ = ("value",)
    value: object


def held_by(region: Region) -> str:
    """The one holder's words."""
    found = [holder for holder in debug.holders(region) if "region" not in holder.held_by]
    assert len(found) == 1, found
    assert found[0].block is not None
    assert "test_escapes.py" in found[0].block.made
    return f"{found[0].what}, {found[0].held_by}"


def test_a_local_variable_is_named() -> None:
    """The variable, the function and the line are told."""
    with bump_region(debug=True) as a:
        number = a.ctypes.new(ctypes.c_short)
        words = held_by(a)
        assert words.startswith("c_short, local variable 'number' of test_a_local_variable_is_named (")
        assert "test_escapes.py:" in words
        del number


def test_an_attribute_an_item_and_a_key_are_named() -> None:
    """Instances, slots, lists, dicts and sets are told with the name that holds them."""
    with bump_region(debug=True) as a:
        handler, slotted = Handler(), Slotted()
        handler.cache = a.ctypes.new(ctypes.c_int)
        assert "attribute 'cache' of " in held_by(a)
        assert "test_escapes.Handler object at" in held_by(a)
        handler.cache = None
        slotted.value = a.ctypes.new(ctypes.c_int)
        assert "attribute 'value' of " in held_by(a)
        del slotted
        kept.append(a.ctypes.new(ctypes.c_int))
        assert "item 0 of the list 'kept' of " in held_by(a)
        kept[0] = {"x": a.ctypes.new(ctypes.c_int)}
        assert "key 'x' of a dict" in held_by(a)
        kept.clear()


def test_a_closure_is_named() -> None:
    """A closure variable is told with its function."""
    with bump_region(debug=True) as a:

        def make() -> Any:
            inner = a.ctypes.new(ctypes.c_int)
            return lambda: inner

        function = make()
        assert "closure variable 'inner' of " in held_by(a)
        del function


def test_what_is_suspended_is_named() -> None:
    """Generators and coroutines that wait are told with their local variables."""
    with bump_region(debug=True) as a:

        def generate() -> Generator[None, None, None]:
            within = a.ctypes.new(ctypes.c_int)
            yield
            del within

        generator = generate()
        next(generator)
        assert "local variable 'within' of " in held_by(a)
        assert held_by(a).endswith("a suspended generator")
        generator.close()
        del generator

        async def wait() -> None:
            awaited = a.ctypes.new(ctypes.c_int)
            await asyncio.sleep(0)
            del awaited

        coroutine = wait()
        coroutine.send(None)
        assert "local variable 'awaited' of " in held_by(a)
        coroutine.close()
        del coroutine


def test_objects_of_numpy_and_cffi_are_named() -> None:
    """What the garbage collector knows nothing of is found too."""
    numpy = pytest.importorskip("numpy")
    cffi = pytest.importorskip("cffi")
    with bump_region(debug=True) as a:
        kept.append(a.numpy.zeros(4))
        assert held_by(a).startswith("ndarray, item 0 of the list 'kept'")
        kept[0] = a.cffi(cffi.FFI()).new("int[3]")
        assert held_by(a).startswith("cffi object 'int[3]', item 0 of the list 'kept'")
        kept[0] = numpy.frombuffer(a.alloc(16), numpy.uint8)[2:]
        assert held_by(a).startswith("ndarray, item 0 of the list 'kept'")
        kept[0] = a.alloc(16)[2:4]
        assert held_by(a).startswith("memoryview, item 0 of the list 'kept'")
        kept.clear()


def test_views_that_will_be_revoked_hold_nothing() -> None:
    """A view that the region revokes at its end is no holder."""
    with bump_region(debug=True) as a:
        view = a.alloc(16)
        assert debug.holders(a) == ()
        view[0] = 1


@pytest.mark.parametrize("scoped", [False, True])
def test_an_escape_says_what_it_is(scoped: bool) -> None:
    """escape="raise" and "warn" say by name what holds, which block, and where it was made."""
    policies: tuple[Literal["raise"], Literal["warn"]] = "raise", "warn"
    for policy in policies:
        outer = bump_region(debug=True)
        a = outer.scope(escape=policy) if scoped else outer
        if not scoped:
            outer.close()
            a = bump_region(debug=True, escape=policy)
        kept.append(a.ctypes.new(ctypes.c_int * 4))
        message = r"item 0 of the list 'kept' of .*, points into the block of 16 bytes at 0x\w+, made at .*test_escapes"
        if policy == "raise":
            with pytest.raises(EscapeError, match=message):
                a.close()
        else:
            with pytest.warns(EscapeWarning, match=message) as caught:
                a.close()
            assert caught[0].filename == __file__
        kept.clear()
        outer.close()


def test_garbage_is_no_escape() -> None:
    """escape="raise" collects garbage before it raises."""
    with bump_region(debug=True, escape="raise") as a:
        cycle: list[object] = [a.ctypes.new(ctypes.c_int)]
        cycle.append(cycle)
        del cycle


def test_without_debug_the_message_says_how_to_learn_more() -> None:
    """EscapeError names debug=True and the environment variable."""
    a = bump_region(debug=False, escape="raise")
    number = a.ctypes.new(ctypes.c_int)
    with pytest.raises(EscapeError, match="debug=True or SCOPEDBUMP_DEBUG=1"):
        a.close()
    del number


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the thread is a pointer, or there is no pthread")
def test_a_thread_of_c_that_has_called_python_is_passed_by() -> None:
    """What cffi keeps for such a thread is of a type that can't even be hashed; nothing is looked for in it."""
    run_script("""
        import cffi, scopedbump
        from scopedbump import debug
        ffi = cffi.FFI()
        ffi.cdef("int pthread_create(uintptr_t *, void *, void *(*)(void *), void *);"
                 "int pthread_join(uintptr_t, void *);")
        lib = ffi.dlopen(None)
        calls = []
        function = ffi.callback("void *(void *)", lambda argument: calls.append(1) or ffi.NULL)
        with scopedbump.bump_region(1 << 20, debug=True) as a:
            kept = [a.alloc(16)]
            thread = ffi.new("uintptr_t *")
            assert not lib.pthread_create(thread, ffi.NULL, function, ffi.NULL)
            assert not lib.pthread_join(thread[0], ffi.NULL)
            assert calls
            debug.holders(a)
    """)


def test_what_is_dead_in_a_module_is_passed_by() -> None:
    """What a module of C keeps to use it again has no references: to take one, as the collector's list does, kills."""
    run_script("""
        import asyncio, scopedbump
        from scopedbump import debug
        async def wait():
            loop = asyncio.get_running_loop()
            for _ in range(100):
                futures = [loop.create_future() for _ in range(3)]
                for future in futures:
                    loop.call_soon(future.set_result, None)
                await asyncio.gather(*futures)
        with scopedbump.bump_region(1 << 20, debug=True) as a:
            kept = [a.alloc(16)[1:]]
            for _ in range(3):
                asyncio.run(wait())
                assert debug.holders(a)
            kept.clear()
    """)
