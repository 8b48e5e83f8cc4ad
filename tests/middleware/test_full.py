"""What a request hears when there is no region for it, or no room in it; and waiting in turn."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from helpers.support import collect
from scopedbump import PoolFullError, RegionFullError, RegionPool, asgi, current_region, wsgi
from scopedbump.asgi import Message, Receive, Scope, Send

MIB = 1 << 20
GET = {"type": "http.request", "body": b"", "more_body": False}


class Client:
    """One request as a server sees it: what is received comes from a queue, what is sent is kept."""

    def __init__(self, kind: str = "http", extensions: dict[str, Any] | None = None) -> None:
        self.scope: Scope = {"type": kind, "client": self}
        if extensions is not None:
            self.scope["extensions"] = extensions
        self.inbox: asyncio.Queue[Message] = asyncio.Queue()
        self.sent: list[Message] = []

    async def send(self, message: Message) -> None:
        self.sent.append(message)

    def call(self, app: asgi.ScratchMiddleware) -> asyncio.Task[None]:
        return asyncio.get_running_loop().create_task(_call(app, self))

    @property
    def status(self) -> int:
        status: int = self.sent[0]["status"]
        return status


async def _call(app: asgi.ScratchMiddleware, client: Client) -> None:
    await app(client.scope, client.inbox.get, client.send)


async def answer(send: Send, body: bytes | memoryview = b"ok") -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})


async def turns(count: int = 10) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def takes(scope: Scope, receive: Receive, send: Send) -> None:
    await answer(send, current_region().copy(b"ok"))


def test_asgi_refuses() -> None:
    """503 with Retry-After for who asks for memory; who asks for none is served; all is counted."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await (answer(send) if scope.get("path") == "/health" else takes(scope, receive, send))

    async def main() -> None:
        pool = RegionPool(MIB, max_out=1)
        middleware = asgi.ScratchMiddleware(app, pool)
        with pool.region():
            refused, healthy = Client(), Client()
            healthy.scope["path"] = "/health"
            await refused.call(middleware)
            await healthy.call(middleware)
            assert (refused.status, healthy.status) == (503, 200)
            assert (b"retry-after", b"1") in refused.sent[0]["headers"]
            assert refused.sent[1]["body"]
        served = Client()
        await served.call(middleware)
        assert served.status == 200
        assert pool.stats().refused == 1

    asyncio.run(main())


@pytest.mark.parametrize("extension", [True, False])
def test_a_websocket_is_refused(extension: bool) -> None:
    """By a response where the server can send one, else by the code that says try again later."""

    async def main() -> None:
        pool = RegionPool(MIB, max_out=1)
        client = Client("websocket", {"websocket.http.response": {}} if extension else {})
        with pool.region():
            await client.call(asgi.ScratchMiddleware(takes, pool))
        if extension:
            assert client.sent[0]["type"] == "websocket.http.response.start"
            assert client.status == 503
        else:
            assert client.sent == [{"type": "websocket.close", "code": 1013}]

    asyncio.run(main())


@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize("status", [None, 413])
def test_asgi_full_region(begun: bool, status: int | None) -> None:
    """A RegionFullError becomes `full_status`, unless the answer has begun, or none is asked for."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if begun:
            await answer(send)
        current_region().alloc(2 * MIB)

    async def main() -> None:
        pool = RegionPool(MIB)
        client = Client()
        answered = status is not None and not begun
        with contextlib.nullcontext() if answered else pytest.raises(RegionFullError):
            await client.call(asgi.ScratchMiddleware(app, pool, full_status=status))
        if answered:
            assert client.status == 413
        assert pool.stats().overflowed == answered
        del client
        assert pool.stats().out == 0

    asyncio.run(main())


@pytest.mark.parametrize("kind", ["list", "generator"])
@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize("error", [PoolFullError, RegionFullError])
def test_wsgi(kind: str, begun: bool, error: type[Exception]) -> None:
    """The same for WSGI, also when a generator finds out as late as at its first block."""
    pool = RegionPool(MIB, max_out=1)
    started: list[tuple[str, list[tuple[str, str]]]] = []

    def start(status: str, headers: list[tuple[str, str]], exc_info: object = None) -> Any:
        started.append((status, headers))

    def work(start_response: Any) -> bytes:
        if begun:
            start_response("200 OK", [])
        return bytes(current_region().alloc(1 if error is PoolFullError else 2 * MIB))

    def lazy(environ: Any, start_response: Any) -> Iterator[bytes]:
        yield work(start_response)

    def eager(environ: Any, start_response: Any) -> Iterable[bytes]:
        return [work(start_response)]

    app = wsgi.ScratchMiddleware(eager if kind == "list" else lazy, pool, full_status=413)
    held = pool.region() if error is PoolFullError else contextlib.nullcontext()
    with held, pytest.raises(error) if begun else contextlib.nullcontext():
        body: Any = app({}, start)
        assert b"".join(body)
        if hasattr(body, "close"):
            body.close()
    if not begun:
        status, headers = started[0]
        assert status[:3] == ("503" if error is PoolFullError else "413")
        assert (("Retry-After", "1") in headers) == (error is PoolFullError)
        assert (pool.stats().refused, pool.stats().overflowed) == ((1, 0) if error is PoolFullError else (0, 1))


def test_waiting_in_the_order_of_arrival() -> None:
    """With when_full="wait" all are served, one after the other, in the order in which they came."""

    async def main() -> None:
        pool = RegionPool(MIB, max_out=2)
        served: list[int] = []

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            assert pool.stats().out <= 2
            served.append(scope["number"])
            message = await receive()
            assert message["body"] == b"%d" % scope["number"]
            await turns(3)
            await answer(send, bytes(current_region().copy(b"ok")))

        middleware = asgi.ScratchMiddleware(app, pool, when_full="wait")
        tasks = []
        for number in range(20):
            client = Client()
            client.scope["number"] = number
            client.inbox.put_nowait({**GET, "body": b"%d" % number})
            tasks.append(client.call(middleware))
            await turns(number % 3)
        await asyncio.gather(*tasks)
        assert served == list(range(20))
        collect()
        assert pool.stats()[4:6] == (0, 0)
        assert 0 < pool.stats().waited <= 18
        assert pool._free_list.places is not None
        assert pool._free_list.places.taken == 0

    asyncio.run(main())


@pytest.mark.parametrize("how", ["disconnect", "cancel", "cancel when it is there"])
def test_who_waits_may_give_up(how: str) -> None:
    """One who goes away is never called, and keeps nobody behind him waiting."""

    async def main() -> None:
        pool = RegionPool(MIB, max_out=1)
        called: list[object] = []

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            called.append(scope["client"])
            await answer(send, current_region().copy(b"ok"))

        middleware = asgi.ScratchMiddleware(app, pool, when_full="wait")
        region = pool.region()
        first, second = Client(), Client()
        tasks = [first.call(middleware), second.call(middleware)]
        first.inbox.put_nowait(GET)
        await turns()
        assert called == []
        if how == "disconnect":
            first.inbox.put_nowait({"type": "http.disconnect"})
            await turns()
        elif how == "cancel":
            tasks[0].cancel()
            await turns()
        region.close()
        if how == "cancel when it is there":
            await asyncio.sleep(0)
            tasks[0].cancel()
        await asyncio.wait(tasks)
        assert called == [second]
        assert second.status == 200
        assert not first.sent
        assert pool.stats().out == 0
        assert pool._free_list.places is not None
        assert pool._free_list.places.taken == 0

    asyncio.run(main())


@pytest.mark.parametrize("count", range(5))
def test_whose_message_comes_with_a_place_does_not_overtake(count: int) -> None:
    """Two that wait get a place in the same turn of the loop, the second a message too: the first begins first."""

    async def main() -> None:
        pool = RegionPool(MIB, max_out=2)
        served: list[object] = []

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            served.append(scope["client"])
            await answer(send)

        middleware = asgi.ScratchMiddleware(app, pool, when_full="wait")
        with pool.region(), pool.region():
            first, second = Client(), Client()
            tasks = [first.call(middleware), second.call(middleware)]
            await turns()
            second.inbox.put_nowait(GET)
            await turns(count)
        await asyncio.gather(*tasks)
        assert served == [first, second]

    asyncio.run(main())


def test_what_was_read_ahead_reaches_the_application() -> None:
    """The messages of a request that waited come in order, none is lost, and a large body is not read ahead."""

    async def main() -> None:
        pool = RegionPool(MIB, max_out=1)
        seen: list[bytes] = []

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            while True:
                message = await receive()
                seen.append(message["body"])
                if not message["more_body"]:
                    break
            await answer(send)

        region = pool.region()
        client = Client()
        task = client.call(asgi.ScratchMiddleware(app, pool, when_full="wait"))
        parts = [bytes([number]) * 20_000 for number in range(10)]
        for part in parts:
            client.inbox.put_nowait({"type": "http.request", "body": part, "more_body": part is not parts[-1]})
        await turns(50)
        assert client.inbox.qsize() >= 5
        region.close()
        await task
        assert seen == parts

    asyncio.run(main())


def test_wrong_input() -> None:
    """What is not known is refused, with its value."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise AssertionError("never called")

    for value in ("no", None, 5):
        with pytest.raises(ValueError, match=f"when_full must be 'refuse' or 'wait', not {value!r}"):
            asgi.ScratchMiddleware(app, when_full=value)  # type: ignore[arg-type]  # that is the point
    with pytest.raises(ValueError, match="when_full must be 'refuse', not 'wait'"):
        wsgi.ScratchMiddleware(lambda environ, start: [], when_full="wait")  # type: ignore[arg-type]  # that is the point
    for status in (200, 600, 0):
        with pytest.raises(ValueError, match=f"full_status must be from 400 to 599, not {status}"):
            asgi.ScratchMiddleware(app, full_status=status)
    with pytest.raises(TypeError, match="full_status must be an int, not '413'"):
        wsgi.ScratchMiddleware(lambda environ, start: [], full_status="413")  # type: ignore[arg-type]  # that is the point
