"""The service under load: every request writes its mark all over its scratch memory, lets others run, and looks again.

`python load_service.py SERVER FD` serves it on an inherited listening socket; gunicorn imports `wsgi_app`.
A request is /MODE/MARK/SIZE; /report, /settle and /close answer outside of the middleware. MAX_OUT and WHEN_FULL in the
environment bound the pool; then a request holds its region for a moment, so that others come meanwhile.
"""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import socket
import sys
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

if __name__ == "__main__" and sys.argv[1] == "gevent":
    from gevent import monkey

    monkey.patch_all()

from scopedbump import Region, RegionClosedError, RegionPool, asgi, current_region, wsgi

MAX_IDLE = 4
RETAIN = 1 << 18
CHUNKS = 4

warnings.simplefilter("ignore", ResourceWarning)  # of the regions that are leaked on purpose
MAX_OUT = int(os.environ["MAX_OUT"]) if "MAX_OUT" in os.environ else None
MOMENT = 0 if MAX_OUT is None else 0.0005
WHEN_FULL: Any = os.environ.get("WHEN_FULL", "refuse")
pool = RegionPool(max_idle=MAX_IDLE, retain=RETAIN, max_out=MAX_OUT, name="load")


class Ledger:
    """What the handlers did and found."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.begun = self.leaked = self.came = self.last = 0
        self.wrong: list[str] = []
        self.escapes: deque[tuple[memoryview, bytes]] = deque()

    def begin(self) -> None:
        with self.lock:
            self.begun += 1

    def in_turn(self, number: int) -> None:
        """Requests that wait begin in the order in which they came."""
        if WHEN_FULL == "wait" and number < self.last:
            self.wrong.append(f"the {number}th request began after the {self.last}th")
        self.last = number

    def look(self, view: memoryview, mark: bytes, what: str) -> None:
        if view != mark * (len(view) // len(mark)):
            self.wrong.append(f"{what}: {mark!r} found {bytes(view[:32])!r}...")

    def take(self, region: Region, mark: bytes, size: int) -> list[memoryview]:
        """Blocks of several sizes: zeroed as promised, and from now on full of the mark."""
        views = [region.alloc(size), region.alloc(64), region.alloc(max(size // 2, 8) & -8, 64)]
        for view in views:
            self.look(view, b"\0", "not zeroed")
            view[:] = mark * (len(view) // len(mark))
        return views

    def look_again(self, views: list[memoryview], mark: bytes) -> None:
        for view in views:
            self.look(view, mark, "overwritten")

    def leave(self, view: memoryview, mark: bytes) -> None:
        """Leave an escape behind; the oldest of too many is looked at and dropped."""
        self.escapes.append((view[8:], mark))
        if len(self.escapes) > 50:
            self.drop()

    def drop(self) -> None:
        view, mark = self.escapes.popleft()
        self.look(view, mark, "escape overwritten")

    def leak(self, mark: bytes) -> None:
        """Open a region and lose it, in a cycle."""
        with self.lock:
            self.leaked += 1
        region = pool.region()
        cycle: list[object] = [region, self.take(region, mark, 4096)]
        cycle.append(cycle)

    def late(self, region: Region, current: Callable[[], Region]) -> None:
        """What a task finds that outlived its request."""
        for use in (current, lambda: region.alloc(8)):
            try:
                use()
            except RegionClosedError:
                continue
            self.wrong.append("a region outlived its request")

    def control(self, path: str) -> bytes:
        if path == "/settle":
            while self.escapes:
                self.drop()
            gc.collect()
        elif path == "/close":
            pool.close()
        report = {
            "pid": os.getpid(),
            "begun": self.begun,
            "leaked": self.leaked,
            "wrong": self.wrong[:5],
            "stats": pool.stats()._asdict(),
            **memory(),
        }
        return json.dumps(report).encode()


def memory() -> dict[str, int]:
    """Mappings, bytes of address space and bytes of RAM of this process, where the system tells."""
    if not Path("/proc/self/statm").exists():
        return {"maps": 0, "space": 0, "ram": 0}
    space, ram = Path("/proc/self/statm").read_text().split()[:2]
    page = os.sysconf("SC_PAGE_SIZE")
    maps = Path("/proc/self/maps").read_text().count("\n")
    return {"maps": maps, "space": int(space) * page, "ram": int(ram) * page}


ledger = Ledger()

# -- ASGI


async def asgi_work(scope: asgi.Scope, receive: asgi.Receive, send: asgi.Send) -> None:
    _, mode, text, size = scope["path"].split("/")
    mark, region = text.encode(), scope["state"]["scratch"]
    ledger.in_turn(scope["number"])
    ledger.begin()
    views = ledger.take(region, mark, int(size))
    await asyncio.sleep(MOMENT)
    ledger.look_again(views, mark)
    if mode == "raise":
        raise RuntimeError(mark)
    if mode == "escape":
        ledger.leave(views[0], mark)
    elif mode == "leak" and MAX_OUT is None:
        ledger.leak(mark)
    elif mode == "late":
        task = asyncio.create_task(after(region))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    if mode != "stream":
        await answer(send, mark * 2)
        return
    await send(head(CHUNKS * len(views[0])))
    for number in range(CHUNKS):
        await send({"type": "http.response.body", "body": views[0], "more_body": number < CHUNKS - 1})
        await asyncio.sleep(0)
    ledger.look_again(views, mark)


tasks: set[asyncio.Task[None]] = set()


async def after(region: Region) -> None:
    while not region.closed:  # noqa: ASYNC110  # a region has no event
        await asyncio.sleep(0)
    ledger.late(region, current_region)


def head(length: int) -> asgi.Message:
    headers = [(b"content-type", b"application/octet-stream"), (b"content-length", b"%d" % length)]
    return {"type": "http.response.start", "status": 200, "headers": headers}


async def answer(send: asgi.Send, body: bytes) -> None:
    await send(head(len(body)))
    await send({"type": "http.response.body", "body": body})


asgi_scratch = asgi.ScratchMiddleware(asgi_work, pool, when_full=WHEN_FULL)


async def asgi_app(scope: asgi.Scope, receive: asgi.Receive, send: asgi.Send) -> None:
    if scope["path"].count("/") == 1:
        await answer(send, ledger.control(scope["path"]))
    else:
        ledger.came += 1
        scope["number"] = ledger.came
        await asgi_scratch(scope, receive, send)


# -- WSGI


def wsgi_work(environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
    _, mode, text, size = environ["PATH_INFO"].split("/")
    mark, region = text.encode(), environ["scopedbump.region"]
    ledger.begin()
    views = ledger.take(region, mark, int(size))
    time.sleep(MOMENT)
    ledger.look_again(views, mark)
    if mode == "raise":
        raise RuntimeError(mark)
    if mode == "escape":
        ledger.leave(views[0], mark)
    elif mode == "leak" and MAX_OUT is None:
        ledger.leak(mark)
    elif mode == "late":
        threading.Thread(target=wait, args=(region,)).start()
    length = CHUNKS * len(views[0]) if mode == "stream" else 2 * len(mark)
    start_response("200 OK", [("Content-Type", "application/octet-stream"), ("Content-Length", str(length))])
    return stream(views, mark) if mode == "stream" else [mark * 2]


def wait(region: Region) -> None:
    while not region.closed:
        time.sleep(0.001)
    ledger.late(region, region.scope)


def stream(views: list[memoryview], mark: bytes) -> Iterator[bytes]:
    for _ in range(CHUNKS):
        time.sleep(0)
        assert not current_region().closed
        yield bytes(views[0])
    ledger.look_again(views, mark)


wsgi_scratch = wsgi.ScratchMiddleware(wsgi_work, pool)


def wsgi_app(environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
    if environ["PATH_INFO"].count("/") > 1:
        return wsgi_scratch(environ, start_response)  # type: ignore[arg-type]  # looser than wsgiref's types
    body = ledger.control(environ["PATH_INFO"])
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]


def main(server: str, listener: socket.socket) -> None:
    if server == "waitress":
        import waitress  # type: ignore[import-untyped]

        logging.getLogger("waitress").setLevel(logging.CRITICAL)
        waitress.serve(wsgi_app, sockets=[listener], threads=8, connection_limit=1000, _quiet=True)
        return
    if server == "gevent":
        from gevent.pywsgi import WSGIServer

        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # or each answer waits for an acknowledgement
        WSGIServer(listener, wsgi_app, log=None, error_log=None).serve_forever()
        return
    import uvicorn

    http = server.removeprefix("uvicorn-")
    config = uvicorn.Config(asgi_app, loop="asyncio", http=http, log_level="critical", lifespan="off")
    uvicorn.Server(config).run([listener])


if __name__ == "__main__":
    main(sys.argv[1], socket.socket(fileno=int(sys.argv[2])))
