"""A long-lived connection: a scope for each message, for else the region grows with all that is ever taken."""

from collections.abc import AsyncIterator
from typing import Protocol

from scopedbump import current_region


class WebSocket(Protocol):
    """Starlette's, FastAPI's and others'."""

    def iter_bytes(self) -> AsyncIterator[bytes]: ...
    async def send_bytes(self, data: bytes) -> None: ...


async def talk(websocket: WebSocket) -> None:
    """Answer each message."""
    async for message in websocket.iter_bytes():
        with current_region().scope() as scratch:
            await websocket.send_bytes(bytes(scratch.copy(message)))
