"""The exception tree: one root, and each leaf also the builtin that fits it. And the names of the escape policies.

The one funnel from an operating system's error number to an exception is in `_pages`; what is here only carries the
facts and words the message.
"""

from __future__ import annotations

from . import _hints as hints

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal, TypeAlias

    Escape: TypeAlias = Literal["keep", "warn", "raise"]
    """What an escape does when its region closes: nothing, an EscapeWarning, or an EscapeError."""


class ScopedBumpError(Exception):
    """The root of all errors that scopedbump raises, apart from TypeError and ValueError for bad arguments."""


class RegionClosedError(ScopedBumpError, ValueError):
    """The region, its pool, or the request that it belonged to is over."""


class NoRegionError(ScopedBumpError, LookupError):
    """There is no current region: the caller is in no request and no `as_current()` block, or in another thread."""


class RegionBusyError(ScopedBumpError, RuntimeError):
    """The region can't do that now: a scope is open inside it."""


class PoolFullError(ScopedBumpError, RuntimeError):
    """As many regions of the pool are open as its `max_out` allows: try again when one of them has ended."""


# MemoryError comes first in what derives from it: it has a `__new__` of its own, which is refused to those whose first
# base has another. Who calls it by name (tblib, with which Dask sends exceptions) could not load them.
class RegionFullError(MemoryError, ScopedBumpError):
    """The region has no room left for a request; it goes on serving what fits.

    Attributes:
        requested: bytes asked for.
        align: the alignment asked for, in bytes.
        available: bytes that are left for this alignment: a request for so many succeeds.
        size: bytes of the whole region.
        writer: whether it was a writer that is full: `available` and `size` are then its own.
    """

    def __init__(
        self, requested: int, align: int, available: int, size: int, name: str = "", writer: bool = False
    ) -> None:
        super().__init__(requested, align, available, size, name, writer)
        self.requested = requested
        self.align = align
        self.available = available
        self.size = size
        self.name = name
        self.writer = writer

    def __str__(self) -> str:
        region = f"region {self.name!r}" if self.name else "the region"
        if self.writer:
            return (
                f"a writer in {region} is full: {self.requested} bytes were to be written, {self.available} of its "
                f"{self.size} are left; make it with a larger limit="
            )
        return (
            f"{region} is full: {self.requested} bytes aligned to {self.align} were asked for, "
            f"{self.available} of {self.size} are left; open it with a larger size=, "
            "or give memory back with scope() or reset()"
        )


class ReserveError(ScopedBumpError, OSError):
    """The operating system refused to reserve address space; `errno` or `winerror` says why."""


class CommitError(MemoryError, ScopedBumpError):
    """The operating system refused to make reserved memory usable.

    Attributes:
        errno: the POSIX error number, or None on Windows.
        winerror: the Windows error code, or None elsewhere.
    """

    def __init__(self, message: str, errno: int | None = None, winerror: int | None = None) -> None:
        super().__init__(message, errno, winerror)
        self.errno = errno
        self.winerror = winerror

    def __str__(self) -> str:
        return str(self.args[0])


class CallbackRefusedError(ScopedBumpError, OSError):
    """C can't call Python: the system refuses memory that is written to and then executed."""


class OverrunError(ScopedBumpError, RuntimeError):
    """At the end of a debug region: something wrote or read beside its blocks, or used one after its end.

    Attributes:
        findings: all of them, in the order in which they were noted.
    """

    def __init__(self, findings: tuple[hints.Finding, ...]) -> None:
        super().__init__(findings)
        self.findings = findings

    def __str__(self) -> str:
        from ._debug._findings import summary

        return summary(self.findings)


class EscapeError(ScopedBumpError, BufferError):
    """With escape="raise": something still pointed into the region when it closed. It is closed all the same."""


class EscapeWarning(ResourceWarning):
    """With escape="warn": something still pointed into the region when it closed."""


for _kind in tuple(globals().values()):
    if isinstance(_kind, type) and issubclass(_kind, (ScopedBumpError, EscapeWarning)):
        _kind.__module__ = "scopedbump"


def __getattr__(name: str) -> object:
    if name == "Escape":  # made when somebody evaluates it: typing takes longer to import than all of scopedbump
        from typing import Literal

        return Literal["keep", "warn", "raise"]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
