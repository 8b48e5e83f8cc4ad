"""The region of this request or block: a context variable.

Tasks and `asyncio.to_thread` inherit it, threads and `run_in_executor` do not. A task that outlives the block inherits
a region that has ended, and is told so.
"""

# Annotations are evaluated here: frameworks that inject what `current_region` returns look for its class, some of them
# by the names of the module that it says it is from.

from contextvars import ContextVar, Token
from types import TracebackType
from typing import final

from ._errors import NoRegionError
from ._region import Region

_current: ContextVar[Region] = ContextVar("scopedbump_region")


def current_region() -> Region:
    """The region of this request, or of the innermost `with region.as_current():` block around the caller.

    Raises:
        NoRegionError: there is none here: outside of any request and block, or in a thread of its own.
        RegionClosedError: it has ended, and this task outlived its request.

    Thread safety:
        A task and `asyncio.to_thread` see the region of their maker. A new thread and `run_in_executor` see none:
        hand them the region, or run them in `contextvars.copy_context()`.
    """
    region = _current.get(None)
    if region is None:
        raise NoRegionError(
            "there is no current region here: use `with region.as_current():` or a ScratchMiddleware around this; "
            "a thread of its own and run_in_executor inherit none, so hand them the region"
        )
    if region.closed:
        region._open_chunk()  # says that it has ended
    return region


@final
class Current:
    """Makes a region the current one for the length of a `with` block, and does not close it."""

    __slots__ = ("_region", "_token")

    def __init__(self, region: Region) -> None:
        self._region = region
        self._token: Token[Region] | None = None

    def __enter__(self) -> Region:
        if self._token is not None:
            raise RuntimeError(f"this block is entered already: call as_current() of {self._region!r} for each")
        self._token = _current.set(self._region)
        return self._region

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        token, self._token = self._token, None
        if token is not None:
            try:
                _current.reset(token)
            except ValueError:
                pass  # left in another context than entered, as generators may be: the region was current there only

    def __repr__(self) -> str:
        return f"<{self._region!r} as the current region of a block>"


current_region.__module__ = "scopedbump"
