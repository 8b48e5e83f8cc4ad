"""What the operating system knows of a region: addresses, pages, and nothing of cursors.

A reservation is address space without memory behind it. Committing makes part of it usable; decommitting
gives its pages back and keeps the addresses; releasing ends it. Commit and decommit may be repeated over
the same range, on every system, so callers need no lock to call them from two threads.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Protocol

    class Pages(Protocol):
        """What is asked of an operating system, all in bytes and absolute addresses."""

        page_size: int
        """What commit and decommit round to."""

        granularity: int
        """What reserve rounds to: the address is a multiple of it."""

        huge_size: int
        """The size of a huge page, where `advise_huge` may do something; else 0."""

        def reserve(self, size: int, taken: list[int]) -> None:
            """Take `size` bytes of address space that nothing may touch yet, and append where they start to `taken`.

            Core dumps leave them out, where that can be said.

            The append happens in the same C call as the system call: an exception from a signal handler can't come
            between the two and lose the address.

            Raises:
                ReserveError: the system refused; `taken` is as it was.
            """
            ...

        def commit(self, address: int, size: int) -> None:
            """Make whole pages readable and writable; those that are not yet in use read as zero.

            Raises:
                CommitError: the system refused; the range is as usable as it was before.
            """
            ...

        def decommit(self, address: int, size: int) -> None:
            """Give whole pages back and keep their addresses: committed again, they read as zero.

            Raises:
                CommitError: the system refused.
            """
            ...

        def admit_to_dumps(self, address: int, size: int) -> None:
            """Let core dumps hold these pages."""
            ...

        def advise_huge(self, address: int, size: int) -> None:
            """Let committed memory lie in huge pages, where that is allowed: a touch then costs one fault for many."""
            ...

        def touched(self, address: int, size: int) -> list[tuple[int, int]]:
            """The parts of committed memory that have ever been written to: (start, stop) as addresses.

            All of it where the system does not say. What is not among them is zero.
            """
            ...

        def clear(self, address: int, size: int) -> None:
            """Zero committed memory. Other threads run meanwhile."""
            ...

        def discard(self, address: int, size: int) -> None:
            """Let go of what is in whole pages that are in use: they stay usable, and read as before or as zero.

            Saves RAM where the system can do that; where it can't, or refuses, nothing happens.
            """
            ...

        @property
        def light_guards(self) -> bool:
            """Whether committed pages can be guards, for no mapping each, so that there may be millions."""
            ...

        def guard(self, address: int, size: int) -> None:
            """Let whoever touches these whole pages get a fault. What was in them is lost, and takes no memory.

            Raises:
                CommitError: the system refused.
            """
            ...

        def unguard(self, address: int, size: int) -> None:
            """Make whole pages that were guarded usable: they read as zero.

            Raises:
                CommitError: the system refused.
            """
            ...

        def release(self, taken: Iterator[int], size: int) -> Iterator[object]:
            """What gives back, in C, the reservation whose address is next in `taken` when it is asked for an item.

            The item is true when the system refused: the reservation then stands. Where `taken` is exhausted there is
            none: however many ask, each reservation goes once.
            """
            ...


if sys.platform == "win32":
    from .windows import WindowsPages as SystemPages
else:
    from .posix import PosixPages as SystemPages

system_pages: Pages = SystemPages()
