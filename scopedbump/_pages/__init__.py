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
        """The four things asked of an operating system, all in bytes and absolute addresses."""

        page_size: int
        """What commit and decommit round to."""

        granularity: int
        """What reserve rounds to: the address is a multiple of it."""

        def reserve(self, size: int, taken: list[int]) -> None:
            """Take `size` bytes of address space that nothing may touch yet, and append where they start to `taken`.

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

        def release(self, taken: Iterator[int], size: int) -> None:
            """Give back the reservation whose address is next in `taken`, consuming it in one C call again.

            Does nothing when `taken` is exhausted: however often it is called, each reservation goes once.

            Raises:
                ReserveError: the system refused; the reservation stands.
            """
            ...


if sys.platform == "win32":
    from scopedbump._pages.windows import WindowsPages as SystemPages
else:
    from scopedbump._pages.posix import PosixPages as SystemPages

system_pages: Pages = SystemPages()
