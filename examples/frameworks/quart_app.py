"""Quart: a region for each request."""

from quart import Quart

from scopedbump import RegionPool, current_region
from scopedbump.asgi import ScratchMiddleware

app = Quart("service")
app.asgi_app = ScratchMiddleware(app.asgi_app, RegionPool(size=1 << 28))


@app.get("/")
async def root() -> bytes:
    return bytes(current_region().copy(b"made in scratch memory"))
