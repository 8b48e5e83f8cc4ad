"""The ASGI middleware by the letter of the protocol, without a server."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextvars import copy_context
from importlib import import_module
from pathlib import Path
from types import coroutine
from typing import Any

import pytest

from helpers.support import collect, counts_references
from scopedbump import EscapeWarning, NoRegionError, Region, RegionClosedError, RegionPool, current_region
from scopedbump.asgi import Message, Receive, Scope, ScratchMiddleware, Send

App = Callable[[Scope, Receive, Send], Awaitable[None]]


class Server:
    """Calls an application as a server does, and keeps what it sends as long as it likes."""

    def __init__(self, app: App, pool: RegionPool | None = None) -> None:
        self.pool = RegionPool(1 << 20) if pool is None else pool
        self.app = ScratchMiddleware(app, self.pool)
        self.sent: list[Message] = []

    async def receive(self) -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(self, message: Message) -> None:
        await asyncio.sleep(0)
        self.sent.append(message)

    def serve(self, scope: Scope | None = None) -> None:
        scope = {"type": "http"} if scope is None else scope
        asyncio.run(_called(self.app(scope, self.receive, self.send)))
        collect()


async def _called(call: Awaitable[None]) -> None:
    await call


@pytest.mark.parametrize("kind", ["http", "websocket"])
def test_a_request_has_a_region(kind: str) -> None:
    """It is in scope["state"] and the current one, is zeroed, and is over when the call is."""
    seen: list[Region] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        region = scope["state"]["scratch"]
        assert current_region() is region
        seen.append(region)
        block = region.alloc(1000)
        assert block == bytes(1000)
        block[:] = b"x" * 1000
        await send({"type": "http.response.start", "status": 200})
        assert current_region() is region

    server = Server(app)
    for _ in range(3):
        server.serve({"type": kind})
        assert seen[-1].closed
        assert seen[-1].released
    assert server.pool.stats()[:6] == (3, 2, 1, 1, 0, 0)


def test_the_state_of_the_server_is_kept() -> None:
    """What the lifespan put into the state stays there, others see what the application writes, and no region."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["state"]["database"] == "here"
        scope["state"]["user"] = "me"

    state = {"database": "here"}
    Server(app).serve({"type": "http", "state": state})
    assert state == {"database": "here", "user": "me"}


@counts_references
def test_a_state_that_nobody_else_has_is_used_as_it_is() -> None:
    """A copy costs an idle connection some memory: a state of this request's own takes the region itself."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert id(scope["state"]) == same
        assert scope["state"] == {"a": 1, "scratch": current_region()}
        scope["state"]["b"] = 2

    scope = {"type": "http", "state": {"a": 1}}
    same = id(scope["state"])
    Server(app).serve(scope)
    region = scope["state"].pop("scratch")  # type: ignore[attr-defined]  # a dict
    assert region.closed and scope["state"] == {"a": 1, "b": 2}


def test_a_state_that_requests_share() -> None:
    """Each of two requests that take turns finds its own region in a dict that the server gave to both."""
    state: dict[str, Any] = {}

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for _ in range(3):
            assert scope["state"]["scratch"] is current_region()
            await asyncio.sleep(0)

    server = Server(app)

    async def main() -> None:
        calls = (server.app({"type": "http", "state": state}, server.receive, server.send) for _ in range(2))
        await asyncio.gather(*calls)

    asyncio.run(main())
    assert state == {}


def test_writes_reach_the_state_of_the_server() -> None:
    """However the application changes the state, it is the same in what others look into."""
    state: dict[str, Any] = {"a": 1, "b": 2, "c": 3, "d": 4}

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        mine = scope["state"]
        mine.update({"e": 5}, f=6)
        mine |= {"g": 7}
        assert mine.setdefault("h", 8) == 8 and mine.setdefault("a", 0) == 1
        del mine["b"]
        assert mine.pop("c") == 3 and mine.pop("none", 0) == 0
        mine["z"] = 0
        assert mine.popitem() == ("z", 0)
        assert {key: value for key, value in mine.items() if key != "scratch"} == state
        assert state == {"a": 1, "d": 4, "e": 5, "f": 6, "g": 7, "h": 8}
        mine.clear()

    Server(app).serve({"type": "http", "state": state})
    assert state == {}


@pytest.mark.parametrize("state", [True, False])
def test_a_middleware_around_another(state: bool) -> None:
    """A mounted application has its own region, and the outer one finds its own afterwards."""

    async def inner(scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["state"]["scratch"] is current_region()
        assert current_region().size == 1 << 16
        scope["state"]["found"] = True

    mounted = ScratchMiddleware(inner, RegionPool(1 << 16))

    async def outer(scope: Scope, receive: Receive, send: Send) -> None:
        mine = scope["state"]["scratch"]
        await mounted(scope, receive, send)
        assert scope["state"]["scratch"] is mine is current_region()
        assert scope["state"]["found"]

    Server(outer).serve({"type": "http", "state": {}} if state else None)


def test_lifespan_passes_through() -> None:
    """Neither the scope nor the messages of a lifespan are touched, and no region is taken."""
    scope: Scope = {"type": "lifespan", "state": {}}
    calls = []

    async def app(*arguments: object) -> None:
        calls.append(arguments)
        with pytest.raises(NoRegionError):
            current_region()

    server = Server(app)
    server.serve(scope)
    assert scope == {"type": "lifespan", "state": {}}
    assert list(calls[0]) == [scope, server.receive, server.send]
    assert server.pool.stats().leases == 0


def test_a_handler_that_raises() -> None:
    """The error leaves as it is, also with an escape in its traceback, and the region ends."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        escape = scope["state"]["scratch"].alloc(100)[:]
        raise KeyError(len(escape))

    server = Server(app)
    with pytest.raises(KeyError, match="100") as caught:
        server.serve()
    assert server.pool.stats()[3:6] == (0, 0, 1)
    del caught
    gc.collect()
    collect()
    assert server.pool.stats()[3:6] == (1, 0, 0)


@coroutine
def step() -> Generator[str, None, None]:
    """An await point that this test drives by hand."""
    yield "step"


async def long_handler(scope: Scope, receive: Receive, send: Send) -> None:
    """Awaits in the body, in blocks, in cleanups and in a scope."""
    region = scope["state"]["scratch"]
    block = region.alloc(100)
    await step()
    try:
        with region.scope() as inner:
            inner.alloc(100)
            await step()
            with inner.as_current():
                await step()
        await send({"type": "http.response.body", "body": block})
    finally:
        await step()
        region.alloc(10)
        await step()


@pytest.mark.parametrize("error", [asyncio.CancelledError, KeyError])
def test_ended_at_every_await_point(error: type[BaseException]) -> None:
    """Thrown in at each await in turn, a cancellation ends the region and passes on."""

    async def send(message: Message) -> None:
        await step()

    async def receive() -> Message:
        return {}

    pool = RegionPool(1 << 20)
    app = ScratchMiddleware(long_handler, pool)
    points = 0
    while True:
        call: Coroutine[Any, Any, None] = app({"type": "http"}, receive, send)
        with contextlib.suppress(StopIteration):
            for _ in range(points + 1):
                assert call.send(None) == "step"
            # The cleanup awaits as well: driven to its end, the error comes out.
            with pytest.raises(error):
                call.throw(error())
                while True:
                    call.send(None)
            points += 1
            assert pool.stats()[4] == 0
            continue
        break
    assert points == 6
    collect()
    assert pool.stats()[4:6] == (0, 0)
    assert pool.stats().leases == points + 1


def test_tasks_cancelled_at_every_await_point() -> None:
    """The same by asyncio's own cancellation, after each turn of the loop."""
    pool = RegionPool(1 << 20)

    async def handler(scope: Scope, receive: Receive, send: Send) -> None:
        region = scope["state"]["scratch"]
        for _ in range(4):
            region.alloc(100)[:] = b"x" * 100
            await asyncio.sleep(0)
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.sleep(0))
            group.create_task(asyncio.to_thread(region.alloc, 10))
        try:
            await asyncio.sleep(0)
        finally:
            await asyncio.sleep(0)
            region.alloc(10)

    async def main() -> int:
        app = ScratchMiddleware(handler, pool)
        turns = 0
        while True:
            task = asyncio.create_task(app({"type": "http"}, None, None))  # type: ignore[arg-type]  # unused
            for _ in range(turns):
                await asyncio.sleep(0)
            turns += 1
            if not task.cancel():
                return turns
            with contextlib.suppress(asyncio.CancelledError):
                await task
            assert pool.stats().out == 0
            if turns > 1000:
                return turns

    assert 5 < asyncio.run(main()) <= 1000
    collect()
    assert pool.stats()[4:6] == (0, 0)


def test_views_that_the_server_still_has_arrive_whole() -> None:
    """A view sent as a body or as websocket bytes is read by the server after the request is over."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for mark in b"abc":
            view = scope["state"]["scratch"].alloc(1000)
            view[:] = bytes([mark]) * 1000
            await send({"type": "http.response.body", "body": view, "more_body": True})
            await send({"type": "websocket.send", "bytes": view})
        await send({"type": "http.response.body", "body": b"bytes stay what they are"})

    server = Server(app)
    server.serve()
    kept = server.sent
    server.sent = []
    for _ in range(3):
        server.serve()
    expected = [bytes([mark]) * 1000 for mark in b"aabbcc"]
    assert [message.get("body", message.get("bytes")) for message in kept[:6]] == expected
    assert kept[6]["body"] == b"bytes stay what they are"
    assert server.pool.stats().escaped == 4
    kept.clear()
    server.sent.clear()
    collect()
    assert server.pool.stats()[4:6] == (0, 0)


def test_a_task_that_outlives_its_request() -> None:
    """A task that the handler started and left behind is told that the region has ended."""
    told: list[type[Exception]] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        async def late() -> None:
            for use in (current_region, lambda: scope["state"]["scratch"].alloc(1)):
                try:
                    while use():  # noqa: ASYNC110  # a region has no event
                        await asyncio.sleep(0)
                except RegionClosedError as error:
                    told.append(type(error))

        tasks.append(asyncio.create_task(late()))
        await asyncio.sleep(0)

    tasks: list[asyncio.Task[None]] = []
    server = Server(app)

    async def main() -> None:
        await server.app({"type": "http"}, server.receive, server.send)
        await tasks[0]

    asyncio.run(main())
    assert told == [RegionClosedError, RegionClosedError]


def test_concurrent_requests_do_not_meet() -> None:
    """Fifty requests that take turns at every await: each finds its own bytes only."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        mark = scope["mark"]
        blocks = []
        for size in (10, 5000, 100_000):
            block = current_region().alloc(size)
            assert block == bytes(size)
            block[:] = mark * size
            blocks.append(block)
            await asyncio.sleep(0)
        assert all(block == mark * len(block) for block in blocks)

    server = Server(app)

    async def main() -> None:
        for _ in range(3):
            calls = (
                server.app({"type": "http", "mark": bytes([mark])}, server.receive, server.send)
                for mark in range(1, 51)
            )
            await asyncio.gather(*calls)

    asyncio.run(main())
    collect()
    assert server.pool.stats()[4:6] == (0, 0)
    assert server.pool.stats().leases == 150


def idle_websockets(app: App, count: int) -> tuple[int, int, list[Any]]:
    """Bytes and mappings that so many websockets take which wait for their first message, each in its own context."""

    async def receive() -> Message:
        await step()
        return {}

    async def send(message: Message) -> None: ...

    scopes: list[Scope] = [{"type": "websocket", "state": {}} for _ in range(count)]
    calls: list[Any] = [(app(scope, receive, send), copy_context()) for scope in scopes]
    traced: Callable[[], tuple[int, int]] = import_module("tracemalloc").get_traced_memory
    mappings, memory = len(own_mappings()), traced()[0]
    for call, context in calls:
        context.run(call.send, None)
    return traced()[0] - memory, len(own_mappings()) - mappings, calls


def own_mappings() -> list[str]:
    """The mappings without access, as reservations have them."""
    maps = Path("/proc/self/maps")
    return [line for line in maps.read_text().splitlines() if " ---p " in line] if maps.exists() else []


def test_ten_thousand_idle_websockets() -> None:
    """They cost no mapping and no lease, and less than 1 KiB each more than bare."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()

    tracemalloc = pytest.importorskip("tracemalloc", exc_type=ImportError)
    pool = RegionPool()
    tracemalloc.start()
    try:
        bare, _, _ = idle_websockets(app, 10_000)
        wrapped, mappings, calls = idle_websockets(ScratchMiddleware(app, pool), 10_000)
    finally:
        tracemalloc.stop()
    assert wrapped - bare < 10_000 * 1024
    assert mappings == 0
    assert pool.stats()[:6] == (0, 0, 0, 0, 0, 0)
    assert len(calls) == 10_000


def test_escape_is_obeyed() -> None:
    """escape="warn" tells of a handler that leaves something behind."""
    left = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        left.append(current_region().alloc(10)[:])

    middleware = ScratchMiddleware(app, RegionPool(1 << 20), escape="warn")
    with pytest.warns(EscapeWarning):
        asyncio.run(_called(middleware({"type": "http"}, None, None)))  # type: ignore[arg-type]  # unused


def test_wrong_input() -> None:
    """No app, no pool, no such escape, a closed pool: each is said."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise AssertionError("never called")

    with pytest.raises(TypeError, match="app"):
        ScratchMiddleware()  # type: ignore[call-arg]  # that is the point
    with pytest.raises(TypeError, match="app must be an ASGI application, not None"):
        ScratchMiddleware(None)  # type: ignore[arg-type]  # that is the point
    with pytest.raises(TypeError, match="pool must be a RegionPool or None, not 1024"):
        ScratchMiddleware(app, 1024)  # type: ignore[arg-type]  # that is the point
    with pytest.raises(ValueError, match="escape must be"):
        ScratchMiddleware(app, escape="no")  # type: ignore[arg-type]  # that is the point
    server = Server(app)
    server.pool.close()
    with pytest.raises(RegionClosedError, match="closed"):
        server.serve()


def test_a_pool_of_its_own() -> None:
    """Without a pool each middleware makes one."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert current_region().name == "request"
        current_region().alloc(1)

    one, two = ScratchMiddleware(app), ScratchMiddleware(app)
    assert one.pool is not two.pool
    asyncio.run(_called(one({"type": "http"}, None, None)))  # type: ignore[arg-type]  # unused
    assert (one.pool.stats().leases, two.pool.stats().leases) == (1, 0)
