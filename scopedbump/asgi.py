"""A region for each request of an ASGI application.

A plain ASGI class: the call of the application ends after a streamed body and background tasks did, and is left when
the handler raises, the client goes away or the task is cancelled. The region ends there.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias, final

from ._errors import Escape, checked_escape
from ._pool import RegionPool, checked_pool

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
App: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]


@final
class ScratchMiddleware:
    """Gives every http and websocket request a region of its own, from a pool.

    The region is `scope["state"]["scratch"]` (`request.state.scratch` in Starlette and FastAPI), and
    `scopedbump.current_region()` wherever the request's context reaches. Other scopes, such as lifespan, pass through.

    Args:
        app: the ASGI application around which this goes.
        pool: where the regions come from; None makes a pool with the defaults of `RegionPool`. It is not closed here.
        escape: as for `bump_region`.

    Raises:
        TypeError: app can't be called; pool is no RegionPool.
        ValueError: escape is none of the three.

    Lifetime:
        The region outlives streamed bodies and background tasks, and ends with the call of the application. A task
        that goes on after that gets RegionClosedError. Views may be sent as a body, or as the bytes of a websocket
        message: they keep their memory until the server has let go of them.
    """

    app: App
    pool: RegionPool
    escape: Escape

    def __init__(self, app: App, pool: RegionPool | None = None, *, escape: Escape = "keep") -> None:
        if not callable(app):
            raise TypeError(f"app must be an ASGI application, not {app!r}")
        self.app = app
        self.pool = checked_pool(pool)
        self.escape = checked_escape(escape)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one scope."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        with self.pool.region(escape=self.escape) as region, region.as_current():
            scope.setdefault("state", {})["scratch"] = region
            await self.app(scope, receive, _pinning(send))


def _pinning(send: Send) -> Send:
    """Sends views as slices of themselves: those are not revoked when the region ends and the server still has them."""

    def send_pinned(message: Message) -> Awaitable[None]:
        for part in ("body", "bytes"):
            data = message.get(part)
            if isinstance(data, memoryview):
                message = {**message, part: data[:]}
        return send(message)

    return send_pinned
