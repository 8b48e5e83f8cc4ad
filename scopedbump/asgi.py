"""A region for each request of an ASGI application.

A plain ASGI class: the call of the application ends after a streamed body and background tasks did, and is left when
the handler raises, the client goes away or the task is cancelled. The region ends there.

It takes its memory when it is first asked for some, so a request that needs none costs next to nothing. What a server
or another middleware put into the scope stays theirs: where anybody but the scope refers to `scope["state"]`, it is a
dict of this request's own while the application runs, and what the application writes there goes into both.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Self, TypeAlias, final

from ._checks import checked_escape, checked_pool
from ._chunk import UNBACKED
from ._current import _current
from ._errors import Escape
from ._lifetime import COUNTED
from ._pool import RegionPool
from ._refusal import RETRY_AFTER, WhenFull, checked_status, checked_when_full, refusal
from ._region import Region
from ._waiting import Inbox, place_in_turn

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
        when_full: what happens when `max_out` regions of the pool are open. "refuse" answers 503 with Retry-After when
            the PoolFullError leaves the application before it has begun to answer. "wait" (asyncio only) takes a
            region before the application is called, and waits for it, in the order of arrival.
        full_status: the status with which to answer when a RegionFullError leaves the application before it has begun
            to answer, such as 413; None lets the error pass.

    Raises:
        TypeError: app can't be called; pool is no RegionPool; full_status is no int.
        ValueError: escape is none of the three, when_full none of the two, full_status no error of HTTP.

    Lifetime:
        The region outlives streamed bodies and background tasks, and ends with the call of the application. A task
        that goes on after that gets RegionClosedError, and a thread that is still at work in it a ValueError from the
        view that it uses. Views may be sent as a body, or as the bytes of a websocket message, where the server takes
        them: they keep their memory until it has let go of them. A server may keep a view for longer than the `await`
        of its sending: what is written to it then is what arrives. Send `bytes(view)` of what is used again.
    """

    app: App
    pool: RegionPool
    escape: Escape
    when_full: WhenFull
    full_status: int | None

    def __init__(
        self,
        app: App,
        pool: RegionPool | None = None,
        *,
        escape: Escape = "keep",
        when_full: WhenFull = "refuse",
        full_status: int | None = None,
    ) -> None:
        if not callable(app):
            raise TypeError(f"app must be an ASGI application, not {app!r}")
        self.app = app
        self.pool = checked_pool(pool)
        self.escape = checked_escape(escape)
        self.when_full = checked_when_full(when_full, "refuse", "wait")
        self.full_status = checked_status(full_status)
        self._options = self.pool._options.with_escape(self.escape)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one scope."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        inbox: Inbox | None = None
        if self.when_full == "wait" and self.pool._free_list.places is not None:
            receive = inbox = Inbox(receive)
            found = await self._region_in_turn(inbox)
            if found is None:  # the client has gone away
                return
            region = found
        else:
            region = self.pool._region_on_demand(self._options)

        # All of this is in one function, and calls as little as can be: it is what an idle request costs.
        answer = _Answer(send, region)
        state: MutableMapping[str, Any] | None = scope.get("state")
        kind: object = type(state)
        if state is not None and kind is dict and getrefcount(state) == _UNSHARED and "scratch" not in state:
            state["scratch"] = region
        else:
            scope["state"] = _own_state(state, region)
        token = _current.set(region)
        try:
            await self.app(scope, receive, answer.send)
        except BaseException as error:
            region.__exit__(type(error), error, None)
            if answer.begun or (status := refusal(self.pool, error, self.full_status)) is None:
                raise
            await _answer(scope, send, status)
        else:
            region.close()
        finally:
            if inbox is not None:
                inbox.close()
            if state is not None and "scratch" in state:
                scope["state"] = state  # with the region of a middleware around this one
            try:
                _current.reset(token)
            except ValueError:
                pass  # left in another context than entered: the region was current there only

    async def _region_in_turn(self, inbox: Inbox) -> Region | None:
        """A region, taken as soon as it is this request's turn; None when the client has gone away."""
        places = self.pool._free_list.places
        assert places is not None
        try:
            place = await place_in_turn(places, inbox)
            if place is not None:
                return self.pool._region_at(place, self.escape)
        except BaseException:
            inbox.close()
            raise
        inbox.close()
        return None


class _Answer:
    """What an application sends through: it knows whether the answer has begun, and sees to views."""

    __slots__ = ("_region", "_send", "begun")

    def __init__(self, send: Send, region: Region) -> None:
        self._send = send
        self._region = region
        self.begun = False

    def send(self, message: Message) -> Awaitable[None]:  # a method: calling an instance takes longer
        self.begun = True
        return self._send(message if self._region._chunk.state == UNBACKED else _pinned(message))


def _pinned(message: Message) -> Message:
    """The message, with slices in the place of views: those are not revoked while the server still has them."""
    for part in ("body", "bytes"):
        data = message.get(part)
        if type(data) is memoryview:
            return {**message, part: data[:]}
    return message


class _State(dict[str, Any]):
    """A request's own `scope["state"]`: what is written goes into the server's as well."""

    __slots__ = ("_outer",)

    _outer: MutableMapping[str, Any]

    def __setitem__(self, key: str, value: Any) -> None:
        super().__setitem__(key, value)
        self._outer[key] = value

    def __delitem__(self, key: str) -> None:
        super().__delitem__(key)
        self._outer.pop(key, None)

    def update(self, *arguments: Any, **items: Any) -> None:
        for key, value in dict(*arguments, **items).items():
            self[key] = value

    def __ior__(self, other: Any) -> Self:  # type: ignore[override,misc]  # as update
        self.update(other)
        return self

    def setdefault(self, key: str, default: Any = None) -> Any:
        if key not in self:
            self[key] = default
        return self[key]

    def pop(self, key: str, *default: Any) -> Any:
        self._outer.pop(key, None)
        return super().pop(key, *default)

    def popitem(self) -> tuple[str, Any]:
        key, value = super().popitem()
        self._outer.pop(key, None)
        return key, value

    def clear(self) -> None:
        for key in tuple(self):
            del self[key]


def _own_state(outer: MutableMapping[str, Any] | None, region: Region) -> dict[str, Any]:
    """A state for this request, with its region, over the one that the scope had."""
    if outer is None:
        return {"scratch": region}
    own = _State(outer, scratch=region)
    own._outer = outer
    return own


def _count(scope: Scope) -> int:
    state = scope.get("state")
    return getrefcount(state)


# What the count says of an object that only a scope holds differs between versions: measured, not known.
getrefcount: Callable[[object], int] = getattr(sys, "getrefcount", lambda _: -1)
_UNSHARED = _count({"state": {}}) if COUNTED else 0


async def _answer(scope: Scope, send: Send, status: int) -> None:
    """Answer in place of the application."""
    text = b"too large\n" if status != 503 else b"busy\n"
    headers = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(text))]
    if status == 503:
        headers.append((b"retry-after", b"%d" % RETRY_AFTER))
    kind = "http"
    if scope["type"] == "websocket":
        if "websocket.http.response" not in (scope.get("extensions") or {}):
            await send({"type": "websocket.close", "code": 1013 if status == 503 else 1009})
            return
        kind = "websocket.http"
    await send({"type": f"{kind}.response.start", "status": status, "headers": headers})
    await send({"type": f"{kind}.response.body", "body": text})
