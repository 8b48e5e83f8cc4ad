"""The operating system's pages: the real mmap or VirtualAlloc."""

from __future__ import annotations

import ctypes
import sys

import pytest

from helpers.support import mapped, needs_maps, run_script
from scopedbump import CommitError, ReserveError
from scopedbump._pages import system_pages

STEP = max(system_pages.page_size, system_pages.granularity)


def reserve(size: int) -> int:
    taken: list[int] = []
    system_pages.reserve(size, taken)
    (address,) = taken
    return address


def release(address: int, size: int) -> list[bool]:
    """Whether the system refused, for each address: there is one."""
    return [bool(refused) for refused in system_pages.release(iter([address]), size)]


def test_sizes_are_powers_of_two() -> None:
    """Rounding by masks depends on it."""
    for size in (system_pages.page_size, system_pages.granularity):
        assert size >= 4096
        assert size & (size - 1) == 0


def test_a_life_of_pages() -> None:
    """Reserve, commit (twice, it is idempotent), write, decommit, commit again: zero, release."""
    address = reserve(8 * STEP)
    assert address % system_pages.granularity == 0
    for _ in range(2):
        system_pages.commit(address, 4 * STEP)
    memory = (ctypes.c_char * (4 * STEP)).from_address(address)
    assert memory.raw == bytes(4 * STEP)
    memory.raw = b"x" * (4 * STEP)
    system_pages.commit(address, 4 * STEP)
    assert memory.raw == b"x" * (4 * STEP)
    system_pages.decommit(address + STEP, 2 * STEP)
    system_pages.commit(address + STEP, 2 * STEP)
    assert memory.raw == b"x" * STEP + bytes(2 * STEP) + b"x" * STEP
    assert release(address, 8 * STEP) == [False]


@needs_maps
def test_release_consumes_the_address() -> None:
    """An address is released once, however often release is called with the same iterator."""
    address = reserve(STEP)
    taken = iter([address])
    assert mapped(address)
    assert not any(system_pages.release(taken, STEP))
    assert not mapped(address)
    again = reserve(STEP)
    assert list(system_pages.release(taken, STEP)) == []
    assert mapped(again)
    assert release(again, STEP) == [False]


def test_refusals_are_errors_with_their_number() -> None:
    """An impossible reservation raises ReserveError with the system's number; a refused release is told by its item."""
    taken: list[int] = []
    with pytest.raises(ReserveError, match=str(1 << 62)) as caught:
        system_pages.reserve(1 << 62, taken)
    assert taken == []
    assert caught.value.errno
    if sys.platform == "win32":
        assert caught.value.winerror
    address = reserve(2 * STEP)
    # Windows wants the exact base; POSIX takes any part that begins with a page.
    assert release(address + (STEP if sys.platform == "win32" else 1), STEP) == [True]
    assert release(address, 2 * STEP) == [False]


def test_a_refused_commit_is_a_memory_error() -> None:
    """Committing what is not reserved raises CommitError, which is a MemoryError, with the system's number."""
    address = reserve(STEP)
    assert release(address, STEP) == [False]
    with pytest.raises(CommitError, match=f"cannot commit {STEP} bytes") as caught:
        system_pages.commit(address, STEP)
    assert isinstance(caught.value, MemoryError)
    assert caught.value.winerror if sys.platform == "win32" else caught.value.errno
    with pytest.raises(CommitError, match="cannot decommit"):
        system_pages.decommit(1, STEP)


@pytest.mark.parametrize("when", ["before the commit", "after the decommit"])
def test_what_is_not_committed_faults(when: str) -> None:
    """A stray access to reserved memory ends the process instead of reading somebody's bytes."""
    with pytest.raises(AssertionError, match=r"exit status (-11|-7|-10|\d+)"):
        run_script(
            """
            import ctypes, sys
            from scopedbump._pages import system_pages
            taken = []
            system_pages.reserve(1 << 20, taken)
            if sys.argv[1].startswith("after"):
                system_pages.commit(taken[0], 1 << 20)
                ctypes.c_char.from_address(taken[0]).value
                system_pages.decommit(taken[0], 1 << 20)
            ctypes.c_char.from_address(taken[0]).value
            print("read it")
            """,
            when,
        )
