"""Promises 6, 7, 8 at the hooks: any sequence of calls against a model of bytes."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.invariants import check
from scopedbump import RegionBusyError, RegionClosedError, RegionFullError, bump_region

cffi: Any = pytest.importorskip("cffi", reason="in-line ffi objects need the whole of cffi")

ffi: Any = cffi.FFI()
NULL: Any = ffi.NULL
SIZE = 1 << 16
HUGE = 2 * sys.maxsize + 1

sizes = st.one_of(st.integers(0, 200), st.integers(0, 20_000), st.sampled_from([SIZE, HUGE, 1 << 31, 1 << 30]))
steps = st.lists(
    st.one_of(
        st.tuples(st.just("malloc"), sizes),
        st.tuples(st.just("calloc"), sizes, st.one_of(st.integers(0, 9), st.sampled_from([HUGE, 1 << 20]))),
        st.tuples(st.just("realloc"), st.integers(0, 30), sizes),
        st.tuples(st.just("told"), st.integers(0, 30), sizes),
        st.tuples(st.just("free"), st.integers(0, 30)),
        st.tuples(st.just("alloc"), st.integers(0, 500)),
        st.tuples(st.just("scope"), st.integers(0, 2000)),
    ),
    max_size=60,
)


class Program:
    """The functions of a region, and what its blocks should hold."""

    def __init__(self, region: Any) -> None:
        self.region = region
        hooks = self.hooks = region.cffi(ffi).hooks()
        self.malloc = hooks.malloc("void *(*)(size_t)", "size")
        self.calloc = hooks.calloc("void *(*)(size_t, size_t)", "count size")
        self.realloc = hooks.realloc("void *(*)(void *, size_t)", "ptr size")
        self.told = hooks.realloc("void *(*)(void *, size_t, size_t)", "ptr old size")
        self.free = hooks.free("void (*)(void *)", "ptr")
        self.blocks: list[tuple[Any, bytes]] = []
        self.count = 0

    def note(self, block: Any, size: int, keeps: bytes = b"") -> None:
        """A block was given: it lies in the region, aligned, holds what it should, and is filled."""
        if block == NULL:
            assert size > self.region.available - 16 or size == HUGE
            assert isinstance(self.hooks.refused, RegionFullError)
            return
        address = int(ffi.cast("uintptr_t", block))
        assert address % 16 == 0 and address in self.region
        keeps = keeps[:size]
        assert bytes(ffi.buffer(block, len(keeps))) == keeps
        self.count += 1
        content = bytes((self.count * 31 + index) & 0xFF for index in range(size))
        ffi.buffer(block, size)[:] = content
        self.blocks.append((block, content))

    def resize(self, index: int, size: int, told: bool) -> None:
        """Resize one of the blocks, or a NULL."""
        block, content = self.blocks.pop(index % len(self.blocks)) if self.blocks and index else (NULL, b"")
        made = self.told(block, len(content), size) if told else self.realloc(block, size)
        if size == 0:
            assert made == NULL
        elif made == NULL and block != NULL:
            assert isinstance(self.hooks.refused, RegionFullError)
            self.blocks.append((block, content))
        else:
            self.note(made, size, content)

    def check(self) -> None:
        """Every block holds what it should."""
        for block, content in self.blocks:
            assert bytes(ffi.buffer(block, len(content))) == content

    def step(self, name: str, *arguments: int) -> None:
        """One step of a program."""
        if name == "malloc":
            self.note(self.malloc(arguments[0]), arguments[0])
        elif name == "calloc":
            size = arguments[0] * arguments[1]
            self.note(self.calloc(*arguments), min(size, HUGE), bytes(min(size, SIZE)))
        elif name in ("realloc", "told"):
            self.resize(arguments[0], arguments[1], name == "told")
        elif name == "free":
            if self.blocks:
                self.free(self.blocks.pop(arguments[0] % len(self.blocks))[0])
        elif name == "alloc":
            if arguments[0] <= self.region.available:
                self.region.alloc(arguments[0])[:] = b"\xee" * arguments[0]
        else:
            with self.region.scope() as scope:
                if arguments[0] <= scope.available:
                    scope.alloc(arguments[0])[:] = b"\xdd" * arguments[0]
                assert self.malloc(1) == NULL and isinstance(self.hooks.refused, RegionBusyError)
                assert self.realloc(NULL, 1) == self.calloc(1, 1) == NULL


@settings(max_examples=200, deadline=None)
@given(steps)
def test_any_program_finds_its_bytes_again(program: list[tuple[Any, ...]]) -> None:
    """Content right, addresses aligned, NULL for what does not fit, and nothing after the end."""
    with bump_region(SIZE) as a:
        run = Program(a)
        for step in program:
            run.step(*step)
            run.check()
        check(a)
    assert run.malloc(1) == run.realloc(NULL, 1) == run.told(NULL, 0, 1) == run.calloc(1, 1) == NULL
    assert isinstance(run.hooks.refused, RegionClosedError)
