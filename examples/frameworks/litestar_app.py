"""Litestar: a region for each request, injected by its name."""

from litestar import Litestar, get
from litestar.di import NamedDependency, Provide

from scopedbump import Region, RegionPool, current_region
from scopedbump.asgi import ScratchMiddleware

pool = RegionPool(size=1 << 28)


@get("/")
async def root(scratch: NamedDependency[Region]) -> int:
    return len(scratch.alloc(1000))


app = Litestar(
    [root],
    middleware=[lambda app: ScratchMiddleware(app, pool)],
    dependencies={"scratch": Provide(current_region, sync_to_thread=False)},
)
