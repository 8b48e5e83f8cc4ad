"""An upload of 8 MiB of unknown length, collected in one piece: `python tests/bench/uploads.py [--quick]`.

By a handler under uvicorn, in a process of its own for each way to do it: a writer in the request's region, a bytearray
that is added to, a list of bytes that is joined. A client sends one upload at a time to each of them in turn. The time
is the client's, from the first byte to the answer; memory is what the server took at its peak beyond what it took
before the first upload.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

from scopedbump import Region
from scopedbump._cli import figures
from scopedbump.asgi import Receive, Scope, ScratchMiddleware, Send

SIZE = 8 << 20
PIECE = 64 << 10
HEAD = b"POST /upload HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
CHUNK = b"%x\r\n%b\r\n" % (PIECE, b"u" * PIECE)
UPLOAD = HEAD + CHUNK * (SIZE // PIECE) + b"0\r\n\r\n"

Collect = Callable[[AsyncIterator[bytes], Scope], Awaitable["bytes | bytearray | memoryview"]]


async def in_a_writer(pieces: AsyncIterator[bytes], scope: Scope) -> memoryview:
    scratch: Region = scope["state"]["scratch"]
    writer = scratch.writer()
    async for piece in pieces:
        writer.write(piece)
    return writer.finish()


async def in_a_bytearray(pieces: AsyncIterator[bytes], _: Scope) -> bytearray:
    block = bytearray()
    async for piece in pieces:
        block += piece
    return block


async def in_a_list(pieces: AsyncIterator[bytes], _: Scope) -> bytes:
    return b"".join([piece async for piece in pieces])


WAYS: dict[str, Collect] = {"writer": in_a_writer, "bytearray": in_a_bytearray, "list of bytes": in_a_list}


def application(collect: Collect) -> Callable[[Scope, Receive, Send], Awaitable[None]]:
    async def body(receive: Receive) -> AsyncIterator[bytes]:
        more = True
        while more:
            message = await receive()
            more = message.get("more_body", False)
            yield message["body"]

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/memory":
            said = json.dumps([figures.resident(), highest()]).encode()
        else:
            block = await collect(body(receive), scope)
            said = b"%d" % len(block)
            assert block[-1] == ord("u")
        headers = [(b"content-length", b"%d" % len(said))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": said})

    return answer


def highest() -> int:
    """The most RAM that this process ever took."""
    try:
        status = Path("/proc/self/status").read_text()
        return next(int(line.split()[1]) << 10 for line in status.splitlines() if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        return figures.resident() or 0


def serve(way: str) -> None:
    import uvicorn

    app: Any = application(WAYS[way])
    app = ScratchMiddleware(app) if way == "writer" else app
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        print(listener.getsockname()[1], flush=True)
        config = uvicorn.Config(app, log_level="error", access_log=False, lifespan="off", timeout_keep_alive=600)
        uvicorn.Server(config).run(sockets=[listener])


class Client:
    """A server of one way, and a connection to it."""

    def __init__(self, way: str, stack: ExitStack) -> None:
        child = stack.enter_context(subprocess.Popen([sys.executable, __file__, "serve", way], stdout=subprocess.PIPE))
        stack.callback(child.kill)
        assert child.stdout is not None
        self._socket = stack.enter_context(socket.create_connection(("127.0.0.1", int(child.stdout.readline())), 60))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._before = self._memory()[0]

    def _ask(self, request: bytes) -> bytes:
        self._socket.sendall(request)
        answer = b""
        while b"\r\n\r\n" not in answer or answer.endswith(b"\r\n\r\n"):
            more = self._socket.recv(65536)
            answer += more
            assert more and answer.startswith(b"HTTP/1.1 200"), answer
        return answer.rpartition(b"\r\n\r\n")[2]

    def _memory(self) -> list[int]:
        found: list[int] = json.loads(self._ask(b"GET /memory HTTP/1.1\r\nHost: x\r\n\r\n"))
        return found

    def upload(self) -> float:
        start = time.perf_counter()
        said = self._ask(UPLOAD)
        took = time.perf_counter() - start
        assert int(said) == SIZE
        return took

    def peak(self) -> int:
        return self._memory()[1] - self._before


def main(quick: bool) -> None:
    """One line for each way."""
    count = 3 if quick else 60
    rows = [("an upload of 8 MiB, of unknown length", "best", "median", "memory at its peak")]
    with ExitStack() as stack:
        clients = {way: Client(way, stack) for way in WAYS}
        took: dict[str, list[float]] = {way: [] for way in WAYS}
        for turn in range(count):
            for way in list(WAYS) if turn % 2 else reversed(WAYS):
                took[way].append(clients[way].upload())
        for way, times in took.items():
            rows.append(
                (way, figures.duration(min(times)), figures.duration(median(times)), figures.size(clients[way].peak()))
            )
    print(figures.table(rows))


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        serve(sys.argv[2])
    else:
        main("--quick" in sys.argv)
