"""The ways in that each framework's people expect, with the frameworks' own test clients."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from helpers.support import collect
from scopedbump import NoRegionError, Region, RegionPool, current_region

MIB = 1 << 20


@pytest.mark.parametrize("module", ["django", "flask", "aiohttp", "asgi", "wsgi"])
def test_no_framework_is_imported_before_it_is_used(module: str) -> None:
    """Importing a way in works where its framework is not installed."""
    frameworks = {"django", "flask", "aiohttp", "asgiref"}
    code = f"import sys, scopedbump.{module}; print(sorted({frameworks} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# -- Flask


def flask_app(pool: RegionPool, factory: bool = False, **options: Any) -> Any:
    flask: Any = pytest.importorskip("flask")
    from scopedbump.flask import Scratch

    app = flask.Flask("tested")
    if factory:
        scratch = Scratch(pool=pool, **options)
        scratch.init_app(app)
        assert app.extensions["scopedbump"] is scratch
    else:
        Scratch(app, pool, **options)

    def plain() -> bytes:
        return bytes(current_region().copy(b"plain"))

    def stream() -> Any:
        def body() -> Iterator[bytes]:
            for number in range(3):
                yield bytes(current_region().copy(b"%d" % number))

        return flask.Response(body())

    def large() -> str:
        current_region().alloc(2 * MIB)
        return "never"

    for view in (plain, stream, large):
        app.get(f"/{view.__name__}")(view)
    return app


@pytest.mark.parametrize("factory", [False, True])
def test_flask(factory: bool) -> None:
    """Scratch(app) and init_app: a region for each request, streamed answers included, all closed in the end."""
    pool = RegionPool(MIB)
    client = flask_app(pool, factory).test_client()
    for _ in range(2):
        assert client.get("/plain").data == b"plain"
        assert client.get("/stream").data == b"012"
    collect()
    assert pool.stats()[4:6] == (0, 0)
    assert pool.stats().leases == 4
    with pytest.raises(NoRegionError):
        current_region()


def test_flask_refuses() -> None:
    """503 with Retry-After for a full pool, full_status for a full region, both counted; else Flask's 500."""
    pool = RegionPool(MIB, max_out=1)
    client = flask_app(pool, full_status=413).test_client()
    with pool.region():
        refused = client.get("/plain")
    assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")
    assert client.get("/plain").status_code == 200
    assert client.get("/large").status_code == 413
    assert flask_app(pool).test_client().get("/large").status_code == 500
    assert (pool.stats().refused, pool.stats().overflowed) == (1, 1)


# -- Django

DJANGO = """
import asyncio, gc, sys, warnings
import django
from django.conf import settings
from django.http import FileResponse, HttpRequest, HttpResponse, StreamingHttpResponse
from django.urls import path
from scopedbump import RegionPool, current_region
from scopedbump.django import ScratchMiddleware

pool = RegionPool(1 << 20, max_out=2)
settings.configure(
    ROOT_URLCONF="__main__", ALLOWED_HOSTS=["*"], SECRET_KEY="x", DEBUG=False, USE_TZ=True,
    MIDDLEWARE=["scopedbump.django.ScratchMiddleware"], SCOPEDBUMP={"POOL": pool, "FULL_STATUS": 413},
)
django.setup()

def plain(request):
    assert request.scratch is current_region()
    return HttpResponse(request.scratch.copy(b"plain"))

async def plain_async(request):
    assert request.scratch is current_region()
    await asyncio.sleep(0)
    return HttpResponse(request.scratch.copy(b"plain"))

def stream(request):
    def body():
        try:
            for number in range(3):
                yield bytes(current_region().copy(b"%d" % number))
        finally:
            assert current_region() is request.scratch
    return StreamingHttpResponse(body())

async def stream_async(request):
    async def body():
        for number in range(3):
            await asyncio.sleep(0)
            yield bytes(current_region().copy(b"%d" % number))
    return StreamingHttpResponse(body())

def file(request):
    request.scratch.alloc(1)
    return FileResponse(open(sys.argv[1], "rb"))

def large(request):
    request.scratch.alloc(2 << 20)

def nothing(request):
    return HttpResponse("nothing")

views = [plain, plain_async, stream, stream_async, file, large, nothing]
urlpatterns = [path(view.__name__, view) for view in views]

from django.test import AsyncClient, Client
from django.test.utils import setup_test_environment
setup_test_environment()

def content(response):
    return b"".join(response.streaming_content) if response.streaming else response.content

async def content_async(response):
    if not response.streaming:
        return response.content
    if response.is_async:
        return b"".join([part async for part in response.streaming_content])
    return b"".join(response.streaming_content)

client = Client()
for _ in range(2):
    for name, expected in (("plain", b"plain"), ("plain_async", b"plain"), ("stream", b"012"), ("file", b"file")):
        answer = client.get("/" + name)
        assert content(answer) == expected, name
        answer.close()
assert pool.stats()[:6] == (8, 7, 1, 1, 0, 0), pool.stats()
assert client.get("/nothing").content == b"nothing"
assert pool.stats().leases == 8
assert client.get("/large").status_code == 413
with pool.region(), pool.region():
    refused = client.get("/plain")
    assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")

async def main():
    client = AsyncClient()
    for name, expected in (("plain", b"plain"), ("plain_async", b"plain"), ("stream_async", b"012"), ("file", b"file")):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Django's, of a file under ASGI
            answer = await client.get("/" + name)
            assert await content_async(answer) == expected, name
            answer.close()
    assert (await client.get("/large")).status_code == 413
asyncio.run(main())

with warnings.catch_warnings(record=True) as said:  # a server that forgets the close of a response: nobody is told
    warnings.simplefilter("always")
    request = HttpRequest()
    response = ScratchMiddleware(stream)(request)
    assert b"".join(response) == b"012"
    del request, response
    gc.collect()
assert said == [], said
assert pool.stats()[4:6] == (0, 0), pool.stats()
assert (pool.stats().refused, pool.stats().overflowed) == (1, 2)
"""


def test_django(tmp_path: Path) -> None:
    """MIDDLEWARE with sync and async views, streams and files, full pools and regions, with Django's test clients."""
    pytest.importorskip("django")
    (tmp_path / "file").write_bytes(b"file")
    script = tmp_path / "project.py"
    script.write_text(DJANGO)
    done = subprocess.run([sys.executable, script, tmp_path / "file"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_django_settings() -> None:
    """A setting that is not known is refused, with its name; a pool may be named by where it is."""
    pytest.importorskip("django")
    code = """
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from scopedbump import RegionPool
from scopedbump.django import ScratchMiddleware
import sys
pool = RegionPool(1 << 20)
sys.modules["pools"] = sys.modules[__name__]
settings.configure(SCOPEDBUMP={"POOL": "pools.pool"})
assert ScratchMiddleware(lambda request: None).pool is pool
settings.SCOPEDBUMP = {"SIZE": 5}
try:
    ScratchMiddleware(lambda request: None)
except ImproperlyConfigured as error:
    assert "SIZE" in str(error)
else:
    raise AssertionError
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


# -- aiohttp


def test_aiohttp() -> None:
    """The middleware: current_region(), views as bodies, streams, refusals."""
    web: Any = pytest.importorskip("aiohttp.web")
    client_to: Any = pytest.importorskip("aiohttp.test_utils")
    from scopedbump.aiohttp import scratch_middleware

    pool = RegionPool(MIB, max_out=2)

    async def plain(request: Any) -> Any:
        return web.Response(body=current_region().copy(b"plain" * 1000))

    async def stream(request: Any) -> Any:
        response = web.StreamResponse()
        await response.prepare(request)
        for number in range(3):
            await response.write(current_region().copy(b"%d" % number))
        return response

    async def large(request: Any) -> Any:
        current_region().alloc(2 * MIB)

    async def missing(request: Any) -> Any:
        raise web.HTTPNotFound

    async def main() -> None:
        app = web.Application(middlewares=[scratch_middleware(pool, full_status=413)])
        for handler in (plain, stream, large, missing):
            app.router.add_get(f"/{handler.__name__}", handler)
        async with client_to.TestClient(client_to.TestServer(app)) as client:
            for _ in range(2):
                assert await (await client.get("/plain")).read() == b"plain" * 1000
                assert await (await client.get("/stream")).read() == b"012"
            assert (await client.get("/large")).status == 413
            assert (await client.get("/missing")).status == 404
            with pool.region(), pool.region():
                refused = await client.get("/plain")
                assert (refused.status, refused.headers["Retry-After"]) == (503, "1")

    asyncio.run(main())
    collect()
    assert pool.stats()[4:6] == (0, 0)


# -- FastAPI, Litestar


def test_fastapi_depends() -> None:
    """Depends(current_region) gives endpoints, async and sync, the region of their request."""
    fastapi = pytest.importorskip("fastapi")
    httpx = pytest.importorskip("httpx")
    from scopedbump.asgi import ScratchMiddleware

    pool = RegionPool(MIB)
    app = fastapi.FastAPI()
    app.add_middleware(ScratchMiddleware, pool=pool)

    async def in_the_loop(scratch: Any) -> int:
        assert scratch is current_region()
        return len(scratch.copy(b"12345"))

    def in_a_thread(scratch: Any) -> int:
        assert scratch is current_region()
        return len(scratch.copy(b"12345"))

    from typing import Annotated

    for handler in (in_the_loop, in_a_thread):
        handler.__annotations__["scratch"] = Annotated[Region, fastapi.Depends(current_region)]
        app.get(f"/{handler.__name__}")(handler)

    async def main() -> None:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://here") as client:
            assert (await client.get("/in_the_loop")).json() == 5
            assert (await client.get("/in_a_thread")).json() == 5

    asyncio.run(main())
    assert pool.stats().leases == 2


def test_litestar_provide() -> None:
    """litestar.di.Provide(current_region) gives handlers the region of their request."""
    litestar: Any = pytest.importorskip("litestar")
    pytest.importorskip("litestar.testing")

    from scopedbump.asgi import ScratchMiddleware

    pool = RegionPool(MIB)

    async def handler(scratch: Any) -> str:
        assert scratch is current_region()
        return bytes(scratch.copy(b"here")).decode()

    async def numbers(scratch: Any) -> Any:
        async def body() -> AsyncIterator[bytes]:
            for number in range(3):
                yield bytes(current_region().copy(b"%d" % number))

        return litestar.response.Stream(body())

    for function in (handler, numbers):
        function.__annotations__["scratch"] = litestar.di.NamedDependency[Region]
    app = litestar.Litestar(
        [litestar.get("/")(handler), litestar.get("/numbers")(numbers)],
        middleware=[lambda app: ScratchMiddleware(app, pool)],
        dependencies={"scratch": litestar.di.Provide(current_region, sync_to_thread=False)},
    )
    with litestar.testing.TestClient(app) as client:
        assert client.get("/").text == "here"
        assert client.get("/numbers").text == "012"
    assert pool.stats().leases == 2
