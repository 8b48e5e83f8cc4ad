"""Waiting for a place of a pool, in the order of arrival, until there is one or the client has gone away."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

from ._places import Place, Places

Message = MutableMapping[str, Any]

READ_AHEAD: Final = 1 << 16
"""Bytes of a request that are read while it waits. A client that sends more is not listened to until it is served."""


class Inbox:
    """The messages of a request. While it waits they are kept, to see a disconnect; the application gets them all."""

    __slots__ = ("_kept", "_next", "_receive", "_room")

    def __init__(self, receive: Callable[[], Awaitable[Message]]) -> None:
        self._receive = receive
        self._kept: deque[Message] = deque()
        self._next: asyncio.Future[Message] | None = None
        self._room = READ_AHEAD

    async def __call__(self) -> Message:
        """The next message, for the application."""
        if self._kept:
            return self._kept.popleft()
        awaited, self._next = self._next, None
        return await (self._receive() if awaited is None else awaited)

    async def gone_before(self, arrived: asyncio.Future[Place]) -> bool:
        """Whether the client goes away before there is a place."""
        while not arrived.done():
            if self._room < 0:
                await asyncio.wait((arrived,))
                break
            if self._next is None:
                self._next = asyncio.ensure_future(self._receive())
            awaited = self._next
            await asyncio.wait((arrived, awaited), return_when=asyncio.FIRST_COMPLETED)
            if awaited.done():
                self._next = None
                message = awaited.result()
                self._kept.append(message)
                self._room -= len(message.get("body") or b"")
                if message["type"] in ("http.disconnect", "websocket.disconnect"):
                    return not arrived.done()
        return False

    def close(self) -> None:
        """Ask for nothing more."""
        if self._next is not None:
            self._next.cancel()


async def place_in_turn(places: Places, inbox: Inbox) -> Place | None:
    """A place, as soon as one is free and nobody else waits for it longer; None when the client went away first."""
    if not places.coming and (place := places.take()) is not None:
        return place
    loop = asyncio.get_running_loop()
    arrived: asyncio.Future[Place] = loop.create_future()

    def offer(place: Place) -> bool:
        try:
            loop.call_soon_threadsafe(_arrive, arrived, place)
        except RuntimeError:  # the loop is closed
            return False
        return True

    places.coming.add(offer)
    places.queue(offer)
    try:
        return None if await inbox.gone_before(arrived) else arrived.result()
    except BaseException:  # cancelled, it may be just when there is a place
        if arrived.done():
            arrived.result().leave()
        raise
    finally:
        places.coming.discard(offer)
        if not arrived.done():
            arrived.cancel()
            places.give_up(offer)


def _arrive(arrived: asyncio.Future[Place], place: Place) -> None:
    if arrived.done():
        place.leave()
    else:
        arrived.set_result(place)
