"""A region for each request of an aiohttp application: `web.Application(middlewares=[scratch_middleware(pool)])`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeAlias

from ._checks import checked_escape, checked_pool
from ._current import Current
from ._errors import Escape
from ._pool import RegionPool
from ._refusal import RETRY_AFTER, checked_status, refusal

if TYPE_CHECKING:
    from aiohttp import web

    Handler: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]
    Middleware: TypeAlias = Callable[[web.Request, Handler], Coroutine[Any, Any, web.StreamResponse]]


def scratch_middleware(
    pool: RegionPool | None = None, *, escape: Escape = "keep", full_status: int | None = None
) -> Middleware:
    """A middleware that gives every request a region of its own, from a pool.

    The region is `scopedbump.current_region()` in the handler.

    Args:
        pool: where the regions come from; None makes a pool with the defaults of `RegionPool`. It is not closed here.
        escape: as for `bump_region`.
        full_status: the status with which to answer a RegionFullError, such as 413; None lets it pass.

    Raises:
        TypeError: pool is no RegionPool; full_status is no int.
        ValueError: escape is none of the three, full_status no error of HTTP.

    Lifetime:
        The region ends when the handler has returned, which is before a response that it returned is sent. A view
        that is the body of it keeps its memory until it is sent. What the handler sends itself (a StreamResponse, a
        websocket) is sent within the region. A PoolFullError is answered with 503 and Retry-After.
    """
    from aiohttp import web

    regions = checked_pool(pool)
    options = regions._options.with_escape(checked_escape(escape))
    full_status = checked_status(full_status)

    async def scratch(request: web.Request, handler: Handler) -> web.StreamResponse:
        with regions._region_on_demand(options) as region, Current(region):
            try:
                return _pinned(await handler(request))
            except Exception as error:
                status = refusal(regions, error, full_status)
                if status is None:
                    raise
                headers = {"Retry-After": str(RETRY_AFTER)} if status == 503 else {}
                return web.Response(status=status, headers=headers, text="busy\n" if status == 503 else "too large\n")

    middleware: Middleware = web.middleware(scratch)
    return middleware


def _pinned(response: web.StreamResponse) -> web.StreamResponse:
    """The response, with a slice in the place of a view: that is not revoked at the end of the region."""
    view = getattr(getattr(response, "body", None), "_value", None)
    if type(view) is memoryview:
        whole: Any = response
        whole.body = view[:]
    return response
