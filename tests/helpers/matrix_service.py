"""The same small application in many frameworks, bare or in a ScratchMiddleware, for any server.

FRAMEWORK and WRAPPED in the environment say which; `app` is what a server imports. As a program, with the name of a
server that has no command of its own and a port, it serves it.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Iterable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from scopedbump import RegionPool, current_region
from scopedbump.asgi import ScratchMiddleware as ForAsgi
from scopedbump.wsgi import ScratchMiddleware as ForWsgi

WRAPPED = os.environ.get("WRAPPED") == "1"
FILE = Path(__file__).with_name("load_service.py")
PIECES = [b"one", b"", b"two" * 1000, b"three"]


def take(data: bytes) -> bytes:
    """The same bytes, by way of scratch memory if there is any."""
    return bytes(current_region().copy(data)) if WRAPPED else bytes(data)


def pieces() -> Iterator[bytes]:
    for piece in PIECES:
        yield take(piece)


async def pieces_async() -> AsyncIterator[bytes]:
    for piece in PIECES:
        await asyncio.sleep(0) if "trio" not in sys.modules else None
        yield take(piece)


# -- ASGI


async def raw_asgi(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        while (message := await receive())["type"] == "lifespan.startup":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": message["type"] + ".complete"})
        return
    if scope["type"] == "websocket":
        await echo_messages(receive, send)
        return
    status, headers, body = 200, [(b"content-type", b"text/plain")], [b"plain"]
    if scope["path"] == "/stream":
        body = PIECES
    elif scope["path"] == "/empty":
        status, body = 204, [b""]
    elif scope["path"] == "/echo":
        body = [b""]
        while True:
            message = await receive()
            body.append(message.get("body", b""))
            if not message.get("more_body"):
                break
    else:
        headers.append((b"content-length", b"5"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    for piece in body:
        await send({"type": "http.response.body", "body": take(piece), "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


async def echo_messages(receive: Any, send: Any) -> None:
    """What comes, text or bytes, goes back; the bytes as views, where there is scratch memory."""
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        if message.get("text") == "bye":
            await send({"type": "websocket.close", "code": 3001})
        elif message.get("text") is not None:
            await send({"type": "websocket.send", "text": take(message["text"].encode()).decode()})
        else:
            data = message["bytes"]
            await send({"type": "websocket.send", "bytes": take(data) if "daphne" in sys.modules else view_of(data)})


def view_of(data: bytes) -> bytes | memoryview:
    """The bytes, in scratch memory if there is any."""
    return current_region().copy(data) if WRAPPED else data


def starlette() -> Any:
    from starlette.applications import Starlette
    from starlette.background import BackgroundTask
    from starlette.responses import FileResponse, PlainTextResponse, Response, StreamingResponse
    from starlette.routing import Route

    async def echo(request: Any) -> Any:
        return Response(take(await request.body()), background=BackgroundTask(take, b"after"))

    return Starlette(
        routes=[
            Route("/plain", lambda request: PlainTextResponse(take(b"plain"))),
            Route("/stream", lambda request: StreamingResponse(pieces_async())),
            Route("/empty", lambda request: Response(status_code=204)),
            Route("/file", lambda request: FileResponse(FILE)),
            Route("/echo", echo, methods=["POST"]),
        ]
    )


def fastapi() -> Any:
    from fastapi import FastAPI
    from fastapi.responses import PlainTextResponse, StreamingResponse

    app = FastAPI()
    app.get("/plain")(lambda: PlainTextResponse(take(b"plain")))
    app.get("/stream")(lambda: StreamingResponse(pieces()))
    return app


def litestar() -> Any:
    import litestar as framework
    from litestar.response import Stream

    async def plain() -> bytes:
        return take(b"plain")

    async def stream() -> Stream:
        return Stream(pieces_async())

    stream.__annotations__["return"] = Stream
    handlers = [framework.get("/plain")(plain), framework.get("/stream")(stream)]
    return framework.Litestar(handlers, openapi_config=None)


def quart() -> Any:
    from quart import Quart, Response, request

    app = Quart("matrix")

    async def plain() -> bytes:
        return take(b"plain")

    async def stream() -> Any:
        return Response(pieces_async())

    async def echo() -> bytes:
        return take(await request.get_data())

    for view, method in ((plain, "GET"), (stream, "GET"), (echo, "POST")):
        app.add_url_rule(f"/{view.__name__}", view_func=view, methods=[method])
    return app


def falcon_asgi() -> Any:
    import falcon.asgi

    class Plain:
        async def on_get(self, request: Any, response: Any) -> None:
            response.data = take(b"plain")

    class Stream:
        async def on_get(self, request: Any, response: Any) -> None:
            response.stream = pieces_async()

    app = falcon.asgi.App()
    app.add_route("/plain", Plain())
    app.add_route("/stream", Stream())
    return app


# -- WSGI


def raw_wsgi(environ: Any, start_response: Any) -> Iterable[bytes]:
    path = environ["PATH_INFO"]
    headers = [("Content-Type", "text/plain")]
    if path == "/empty":
        start_response("204 No Content", [])
        return []
    if path == "/file":
        start_response("200 OK", headers)
        wrapper = environ.get("wsgi.file_wrapper")
        file = FILE.open("rb")
        take(b"used")
        blocks: Iterable[bytes] = wrapper(file, 1 << 12) if wrapper else iter(lambda: file.read(1 << 12), b"")
        return blocks
    if path == "/missing":
        start_response("404 Not Found", headers)
        return (take(b"missing"),)
    start_response("200 OK", headers)
    if path == "/stream":
        return pieces()
    if path == "/echo":
        return [take(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])))]
    return [take(piece) for piece in PIECES] if path == "/list" else [take(b"plain")]


def flask() -> Any:
    import flask as framework

    app = framework.Flask("matrix")

    def plain() -> bytes:
        return take(b"plain")

    def stream() -> Any:
        return framework.Response(pieces())

    def file() -> Any:
        return framework.send_file(FILE)

    def echo() -> bytes:
        return take(framework.request.get_data())

    for view, method in ((plain, "GET"), (stream, "GET"), (file, "GET"), (echo, "POST")):
        app.add_url_rule(f"/{view.__name__}", view_func=view, methods=[method])
    return app


def bottle() -> Any:
    import bottle as framework

    app = framework.Bottle()
    app.get("/plain")(lambda: take(b"plain"))
    app.get("/stream")(pieces)
    app.get("/file")(lambda: framework.static_file(FILE.name, root=FILE.parent))
    return app


def pyramid() -> Any:
    from pyramid.config import Configurator
    from pyramid.response import FileResponse, Response

    views = {
        "plain": lambda request: Response(take(b"plain")),
        "stream": lambda request: Response(app_iter=pieces()),
        "file": lambda request: FileResponse(FILE, request=request),
    }
    with Configurator() as config:
        for name, view in views.items():
            config.add_route(name, f"/{name}")
            config.add_view(view, route_name=name)
        return config.make_wsgi_app()


def falcon() -> Any:
    import falcon as framework

    class Plain:
        def on_get(self, request: Any, response: Any) -> None:
            response.data = take(b"plain")

    class Stream:
        def on_get(self, request: Any, response: Any) -> None:
            response.stream = pieces()

    app = framework.App()
    app.add_route("/plain", Plain())
    app.add_route("/stream", Stream())
    return app


def django(asgi: bool = False) -> Any:
    """With its own middleware instead of the protocol's."""
    framework, http, urls, conf = map(import_module, ("django", "django.http", "django.urls", "django.conf"))
    entry = import_module("django.core.asgi" if asgi else "django.core.wsgi")
    conf.settings.configure(
        ROOT_URLCONF=__name__,
        ALLOWED_HOSTS=["*"],
        SECRET_KEY="x",
        MIDDLEWARE=["scopedbump.django.ScratchMiddleware"] if WRAPPED else [],
    )
    framework.setup(set_prefix=False)
    globals()["urlpatterns"] = [
        urls.path("plain", lambda request: http.HttpResponse(take(b"plain"))),
        urls.path("stream", lambda request: http.StreamingHttpResponse(pieces_async() if asgi else pieces())),
        urls.path("file", lambda request: http.FileResponse(FILE.open("rb"))),
        urls.path("echo", lambda request: http.HttpResponse(take(request.body))),
    ]
    return entry.get_asgi_application() if asgi else entry.get_wsgi_application()


def django_asgi() -> Any:
    return django(asgi=True)


ASGI = {
    "raw": lambda: raw_asgi,
    "starlette": starlette,
    "fastapi": fastapi,
    "litestar": litestar,
    "quart": quart,
    "falcon": falcon_asgi,
    "django": django_asgi,
}
WSGI = {
    "raw": lambda: raw_wsgi,
    "flask": flask,
    "bottle": bottle,
    "pyramid": pyramid,
    "falcon": falcon,
    "django": django,
}


def make(kind: str, framework: str) -> Any:
    """The application of a framework."""
    bare = (ASGI if kind == "asgi" else WSGI)[framework]()
    if not WRAPPED or framework == "django":
        return bare
    return (ForAsgi if kind == "asgi" else ForWsgi)(bare, RegionPool(1 << 24))


def to_asgi(wsgi: Any) -> Any:
    from asgiref.wsgi import WsgiToAsgi

    return WsgiToAsgi(wsgi)


def serve(server: str, port: int, app: Any) -> None:
    """With a server that is started from Python."""
    address = ("127.0.0.1", port)
    if server == "wsgiref":
        from wsgiref.simple_server import make_server

        make_server(*address, app).serve_forever()
    elif server == "werkzeug":
        from werkzeug.serving import run_simple

        run_simple(*address, app, threaded=True)
    elif server == "waitress":
        import waitress  # type: ignore[import-untyped]

        waitress.serve(app, host=address[0], port=port)
    elif server == "cheroot":
        from cheroot.wsgi import Server

        Server(address, app).start()
    elif server == "bjoern":
        import bjoern

        bjoern.run(app, *address)
    elif server == "gevent":
        from gevent.pywsgi import WSGIServer

        WSGIServer(address, app).serve_forever()
    elif server == "eventlet":
        import eventlet
        import eventlet.wsgi

        eventlet.wsgi.server(eventlet.listen(address), app)
    elif server == "twisted":
        serve_twisted(port, app)


def serve_twisted(port: int, app: Any) -> None:
    from twisted.internet import reactor
    from twisted.web.server import Site
    from twisted.web.wsgi import WSGIResource

    loop: Any = reactor
    loop.listenTCP(port, Site(WSGIResource(loop, loop.getThreadPool(), app)), interface="127.0.0.1")
    loop.run()


if "FRAMEWORK" in os.environ:
    app = make(os.environ.get("INTERFACE", "wsgi"), os.environ["FRAMEWORK"])
    if os.environ.get("BRIDGE"):
        app = to_asgi(app)
    if __name__ == "__main__":
        serve(sys.argv[1], int(sys.argv[2]), app)
