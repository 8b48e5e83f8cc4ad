"""An echo server that receives straight into a region, and sends out of it: `python examples/asyncio_protocol.py`.

The transport may keep what it is given until the client has read it. So write a slice: it keeps its memory, while the
view itself is revoked at the end of the region, which would tear the answer off.
"""

from __future__ import annotations

import asyncio
from typing import cast

from scopedbump import RegionPool

pool = RegionPool(size=1 << 24)
SIZE = 100_000


class Echo(asyncio.BufferedProtocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.region = pool.region()
        self.room = self.region.alloc(SIZE, zero=False)
        self.filled = 0

    def get_buffer(self, sizehint: int) -> memoryview:
        return self.room[self.filled :]

    def buffer_updated(self, nbytes: int) -> None:
        self.filled += nbytes
        if self.filled == SIZE:
            self.transport.write(self.room[:])  # [:] makes it an escape
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self.region.close()
        del self.room  # else this object keeps the reservation out of the pool


async def main() -> None:
    server = await asyncio.get_running_loop().create_server(Echo, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    writer.write(b"x" * SIZE)
    assert await reader.readexactly(SIZE) == b"x" * SIZE
    writer.close()
    server.close()
    print(pool.stats())


if __name__ == "__main__":
    asyncio.run(main())
