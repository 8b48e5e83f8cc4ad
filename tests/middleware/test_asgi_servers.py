"""The ASGI middleware under uvicorn, with Starlette and FastAPI, and regions in a bare asyncio protocol."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import http.client
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from scopedbump import Region, RegionPool, current_region
from scopedbump.asgi import App, Message, Receive, Scope, ScratchMiddleware, Send

MIB = 1 << 20
PIECE = 48 << 10  # less than asyncio's high-water mark: a server goes on to send while some of it is queued


@contextlib.contextmanager
def served(app: Any, **options: Any) -> Iterator[int]:
    """uvicorn in a thread of this process, so that the test can look into the pool."""
    uvicorn = pytest.importorskip("uvicorn")
    server = uvicorn.Server(uvicorn.Config(app, loop="asyncio", log_level="critical", **options))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)  # so that answers wait in the transport
        port: int = listener.getsockname()[1]
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            while not server.started and thread.is_alive():
                time.sleep(0.01)
            yield port
        finally:
            server.should_exit = True
            thread.join()


def get(port: int, path: str = "/", body: bytes | None = None) -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    with contextlib.closing(connection):
        connection.request("GET" if body is None else "POST", path, body)
        return connection.getresponse().read()


def settle(pool: RegionPool) -> tuple[int, int]:
    """How many regions are out and escaped, once what the server does after an answer is done."""
    for _ in range(200):
        gc.collect()
        stats = pool.stats()
        if not stats.out and not stats.escaped:
            break
        time.sleep(0.01)
    return stats.out, stats.escaped


def slow_read(port: int) -> bytes:
    """The body of an answer, read by a client with small buffers that starts late and takes its time."""
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(20)
        client.connect(("127.0.0.1", port))
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        time.sleep(0.3)
        received = b""
        while part := client.recv(1 << 16):
            received += part
        return received.partition(b"\r\n\r\n")[2]


@pytest.mark.parametrize("parser", ["h11", "httptools"])
@pytest.mark.parametrize("pieces", [1, 2, 30])
def test_views_arrive_whole_after_the_end(parser: str, pieces: int) -> None:
    """Views that the transport still has queued when the request is over are read by a slow client, unharmed."""
    pytest.importorskip(parser)
    expected = b"".join(bytes([number % 251]) * PIECE for number in range(pieces))

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"content-length", b"%d" % (pieces * PIECE))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for number in range(pieces):
            view = current_region().alloc(PIECE)
            view[:] = bytes([number % 251]) * PIECE
            await send({"type": "http.response.body", "body": view, "more_body": number + 1 < pieces})

    pool = RegionPool(64 * MIB)
    with served(ScratchMiddleware(app, pool), http=parser, lifespan="off") as port:
        answers: list[bytes] = []
        reader = threading.Thread(target=lambda: answers.append(slow_read(port)))
        reader.start()
        while reader.is_alive():  # other requests meanwhile, which would write over what is given back too early
            assert len(get(port)) == pieces * PIECE
        assert answers == [expected]
        assert settle(pool) == (0, 0)


def test_starlette() -> None:
    """Streams, background tasks, errors, websockets, and Starlette's own middleware inside and outside."""
    pytest.importorskip("starlette")
    pytest.importorskip("wsproto")
    from starlette.applications import Starlette
    from starlette.background import BackgroundTask
    from starlette.middleware import Middleware
    from starlette.middleware.base import BaseHTTPMiddleware
    from starlette.requests import Request
    from starlette.responses import PlainTextResponse, Response, StreamingResponse
    from starlette.routing import Route, WebSocketRoute
    from starlette.websockets import WebSocket

    pool = RegionPool(MIB)
    background: list[bytes] = []

    async def stream(request: Request) -> Response:
        region: Region = request.state.scratch

        async def chunks() -> AsyncIterator[memoryview]:
            for number in range(10):
                await asyncio.sleep(0)
                yield current_region().copy(b"%d" % number)

        def after() -> None:
            background.append(bytes(region.copy(b"after")))

        return StreamingResponse(chunks(), background=BackgroundTask(after))

    async def fail(request: Request) -> Response:
        raise KeyError(len(request.state.scratch.alloc(10)[:]))

    async def echo(websocket: WebSocket) -> None:
        await websocket.accept()
        while (data := await websocket.receive_bytes()) != b"bye":
            await websocket.send_bytes(current_region().copy(data))  # type: ignore[arg-type]  # memoryviews work
        await websocket.close()

    async def dispatch(request: Request, call_next: Any) -> Response:
        response: Response = await call_next(request)
        response.headers["x-seen"] = "yes"
        return response

    inside, outside = (Middleware(BaseHTTPMiddleware, dispatch=dispatch) for _ in range(2))
    app = Starlette(
        routes=[
            Route("/stream", stream),
            Route("/fail", fail),
            Route("/plain", lambda request: PlainTextResponse(request.state.scratch.name)),
            WebSocketRoute("/echo", echo),
        ],
        middleware=[outside, Middleware(ScratchMiddleware, pool=pool), inside],
    )
    with served(app, http="h11", ws="wsproto") as port:
        for _ in range(3):
            assert get(port, "/stream") == b"0123456789"
            assert get(port, "/fail") == b"Internal Server Error"
            assert get(port, "/plain") == b""
        with websocket_to(port) as talk:
            for data in (b"hello", b"x" * 100):
                assert talk(data) == data
            assert pool.stats().out == 1
        assert settle(pool) == (0, 0)
        assert background == [b"after"] * 3
        assert pool.stats().leases == 7  # /plain asks for nothing


@contextlib.contextmanager
def websocket_to(port: int) -> Iterator[Any]:
    """A function that sends bytes and returns the next answer."""
    import wsproto
    from wsproto.events import AcceptConnection, BytesMessage, Request

    connection = wsproto.WSConnection(wsproto.ConnectionType.CLIENT)
    with socket.create_connection(("127.0.0.1", port), timeout=20) as client:

        def next_event(kind: type[Any]) -> Any:
            while True:
                for event in connection.events():
                    if isinstance(event, kind):
                        return event
                connection.receive_data(client.recv(4096))

        def talk(data: bytes) -> bytes:
            client.sendall(connection.send(BytesMessage(data=data)))
            return bytes(next_event(BytesMessage).data)

        client.sendall(connection.send(Request(host="x", target="/echo")))
        next_event(AcceptConnection)
        yield talk


def test_fastapi() -> None:
    """request.state.scratch in an async and in a sync endpoint, which FastAPI runs in a thread of its own."""
    fastapi = pytest.importorskip("fastapi")
    pool = RegionPool(MIB)
    app = fastapi.FastAPI()
    app.add_middleware(ScratchMiddleware, pool=pool)

    async def in_the_loop(request: Any) -> int:
        assert current_region() is request.state.scratch
        return len(request.state.scratch.copy(await request.body()))

    def in_a_thread(request: Any) -> int:
        assert current_region() is request.state.scratch
        return len(current_region().alloc(10))

    for handler in (in_the_loop, in_a_thread):
        handler.__annotations__["request"] = fastapi.Request
        app.post(f"/{handler.__name__}")(handler)
    with served(app) as port:
        assert get(port, "/in_the_loop", b"12345") == b"5"
        assert get(port, "/in_a_thread", b"12345") == b"10"
        assert settle(pool) == (0, 0)
        assert pool.stats().leases == 2


def test_a_client_that_goes_away() -> None:
    """A stream whose client has hung up ends, and so does its region."""
    pytest.importorskip("starlette")
    from starlette.requests import Request
    from starlette.responses import StreamingResponse

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        region: Region = Request(scope).state.scratch

        async def for_ever() -> AsyncIterator[memoryview]:
            block = region.alloc(1000)
            while True:
                yield block
                await asyncio.sleep(0)

        await StreamingResponse(for_ever())(scope, receive, send)

    pool = RegionPool(MIB)
    with served(ScratchMiddleware(app, pool), lifespan="off") as port:
        for _ in range(5):
            with socket.create_connection(("127.0.0.1", port)) as client:
                client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                assert client.recv(100)
        assert settle(pool) == (0, 0)


def test_lifespan_state_reaches_the_requests() -> None:
    """What the lifespan put into the server's state is beside the scratch region, for every request anew."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            while (message := await receive())["type"] == "lifespan.startup":
                scope["state"]["word"] = b"hello"
                await send({"type": "lifespan.startup.complete"})
            await send({"type": message["type"] + ".complete"})
            return
        assert scope["state"].keys() == {"word", "scratch"}
        body = scope["state"]["scratch"].copy(scope["state"]["word"])
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
        await send({"type": "http.response.body", "body": body})

    with served(ScratchMiddleware(app), lifespan="on") as port:
        assert [get(port), get(port)] == [b"hello", b"hello"]


class Echo(asyncio.BufferedProtocol):
    """Receives straight into a region of its own for each message of SIZE bytes, and sends it back without a copy."""

    SIZE = 3 * MIB

    def __init__(self, pool: RegionPool) -> None:
        self.pool = pool

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.begin()

    def begin(self) -> None:
        self.region = self.pool.region()
        self.room = self.region.alloc(self.SIZE, zero=False)
        self.filled = 0

    def get_buffer(self, sizehint: int) -> memoryview:
        return self.room[self.filled :]

    def buffer_updated(self, count: int) -> None:
        self.filled += count
        if self.filled == self.SIZE:
            self.transport.write(self.room[:])  # a slice: it outlives the region
            self.region.close()
            self.begin()

    def connection_lost(self, error: Exception | None) -> None:
        self.region.close()
        del self.room, self.region


def test_a_bare_protocol() -> None:
    """recv_into a region, write a slice of it, end the region: a slow reader gets all of it, message after message."""

    async def main() -> None:
        pool = RegionPool(4 * MIB)
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: Echo(pool), "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]

        async def client(mark: int) -> None:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            for number in range(3):
                message = bytes([mark + number]) * Echo.SIZE
                writer.write(message)
                await writer.drain()
                await asyncio.sleep(0.01)
                assert await reader.readexactly(Echo.SIZE) == message
            writer.close()
            await writer.wait_closed()

        await asyncio.gather(*(client(mark) for mark in (10, 20, 30)))
        server.close()
        for _ in range(100):
            await asyncio.sleep(0.01)
            gc.collect()
            if pool.stats()[4:6] == (0, 0):
                break
        assert pool.stats()[4:6] == (0, 0)

    asyncio.run(main())


def test_the_types_of_an_application() -> None:
    """The aliases for annotations are those of the specification."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        message: Message = await receive()
        await send(message)

    typed: App = app
    assert ScratchMiddleware(typed).app is app
