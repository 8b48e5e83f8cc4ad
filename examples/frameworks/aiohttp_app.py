"""aiohttp: a region for each request, as a middleware."""

from aiohttp import web

from scopedbump import RegionPool, current_region
from scopedbump.aiohttp import scratch_middleware


async def root(_: web.Request) -> web.Response:
    return web.Response(body=current_region().copy(b"made in scratch memory"))


app = web.Application(middlewares=[scratch_middleware(RegionPool(size=1 << 28))])
app.router.add_get("/", root)
