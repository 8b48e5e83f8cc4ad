"""Waiting for a place of a pool, in the order of arrival, until there is one or the client has gone away."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final, TypeAlias

from ._places import Place, Places

Message: TypeAlias = MutableMapping[str, Any]

Arrival: TypeAlias = "asyncio.Future[Place | None]"
"""What is awaited: a place, or None when the client has gone away."""

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

    def watch(self, arrived: Arrival) -> None:
        """Read ahead as long as there is no place. When the client goes away, there is none to come."""
        if self._room >= 0:
            self._next = asyncio.ensure_future(self._receive())
            self._next.add_done_callback(lambda received: self._read(received, arrived))

    def _read(self, received: asyncio.Future[Message], arrived: Arrival) -> None:
        if arrived.done():  # the application asks for it, or nobody
            return
        self._next = None
        if received.cancelled():
            arrived.cancel()
            return
        if (error := received.exception()) is not None:
            arrived.set_exception(error)
            return
        message = received.result()
        self._kept.append(message)
        self._room -= len(message.get("body") or b"")
        if message["type"] in ("http.disconnect", "websocket.disconnect"):
            arrived.set_result(None)
        else:
            self.watch(arrived)

    def close(self) -> None:
        """Ask for nothing more."""
        if self._next is not None:
            self._next.cancel()


async def place_in_turn(places: Places, inbox: Inbox) -> Place | None:
    """A place, as soon as one is free and nobody else waits for it longer; None when the client went away first."""
    if not places.coming and (place := places.take()) is not None:
        return place
    # Awaited as it is: whoever is offered a place first begins first. With one more turn of the loop for some, as the
    # waiting for one of two things takes, they would overtake each other.
    loop = asyncio.get_running_loop()
    arrived: Arrival = loop.create_future()

    def offer(place: Place) -> bool:
        try:
            loop.call_soon_threadsafe(_arrive, arrived, place)
        except RuntimeError:  # the loop is closed
            return False
        return True

    places.coming.add(offer)
    try:
        places.queue(offer)
        inbox.watch(arrived)
        return await arrived
    except asyncio.CancelledError:
        if arrived.done() and not arrived.cancelled() and arrived.exception() is None:
            place = arrived.result()
            if place is not None:  # cancelled just when there is one
                place.leave()
        raise
    finally:
        places.coming.discard(offer)
        places.give_up(offer)


def _arrive(arrived: Arrival, place: Place) -> None:
    if arrived.done():
        place.leave()
    else:
        arrived.set_result(place)
