"""A real service for the benchmark: `python -m scopedbump._cli.service scratch` or `... bytearrays`.

An ASGI application under uvicorn on a free port of the loopback, which is printed. `/one` fills 1 MiB of scratch
memory, `/two` fills half of it and copies that into the other half; `/resident` says how much RAM the process takes.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Protocol, cast

from .. import Region
from ..asgi import App, Receive, Scope, ScratchMiddleware, Send
from . import process


class _Server(Protocol):
    def run(self, sockets: list[socket.socket]) -> None: ...


class _Uvicorn(Protocol):
    """What is used of uvicorn, which need not be installed where this is type-checked."""

    def Config(  # noqa: N802  # its name
        self, app: App, *, log_level: str, access_log: bool, lifespan: str, timeout_keep_alive: int
    ) -> object: ...
    def Server(self, config: object) -> _Server: ...  # noqa: N802


_SIZE = 1 << 20
_HALF = _SIZE // 2
_DATA = memoryview(b"x" * _SIZE)


def _one_from_region(a: Region) -> None:
    a.alloc(_SIZE)[:] = _DATA


def _two_from_region(a: Region) -> None:
    body = a.alloc(_HALF, zero=False)
    body[:] = _DATA[:_HALF]
    answer = a.alloc(_HALF, zero=False)
    answer[:] = body


def _one_bytearray() -> None:
    memoryview(bytearray(_SIZE))[:] = _DATA


def _two_bytearrays() -> None:
    body = bytearray(_HALF)
    memoryview(body)[:] = _DATA[:_HALF]
    answer = bytearray(_HALF)
    memoryview(answer)[:] = body


async def _answer(send: Send, body: bytes) -> None:
    headers = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _with_regions(scope: Scope, _: Receive, send: Send) -> None:
    work = {"/one": _one_from_region, "/two": _two_from_region}.get(scope["path"])
    if work is not None:
        work(scope["state"]["scratch"])
    await _answer(send, b"done" if work is not None else b"%d" % (process.resident() or 0))


async def _with_bytearrays(scope: Scope, _: Receive, send: Send) -> None:
    work: Callable[[], None] | None = {"/one": _one_bytearray, "/two": _two_bytearrays}.get(scope["path"])
    if work is not None:
        work()
    await _answer(send, b"done" if work is not None else b"%d" % (process.resident() or 0))


def main(way: str) -> None:
    """Serve until the process is ended."""
    app = ScratchMiddleware(_with_regions) if way == "scratch" else _with_bytearrays
    uvicorn = cast("_Uvicorn", import_module("uvicorn"))
    # asyncio sends small answers at once only where the protocol is named.
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        print(listener.getsockname()[1], flush=True)
        config = uvicorn.Config(app, log_level="error", access_log=False, lifespan="off", timeout_keep_alive=600)
        uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main(sys.argv[1])
