"""Unpack an upload into scratch memory, work on it there, and stream the answer out of the same memory.

    pip install scopedbump starlette uvicorn
    python examples/request_scratch.py
    curl --data-binary @readings.gz http://127.0.0.1:8000/summary

An upload is gzip around records of a sensor's number and a reading; the answer is a line of JSON for each sensor. The
handler never makes a large object of its own: what was unpacked lies in the request's region, which ends after the last
line was sent, and the next request begins on the same warm pages.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import struct
import sys
import zlib
from collections.abc import AsyncIterator, Iterator

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from scopedbump import Region, RegionFullError, RegionPool
from scopedbump.asgi import ScratchMiddleware

READING = struct.Struct("<Id")  # sensor, value
TOTAL = struct.Struct("<Qddd")  # count, sum, least, most
LIMIT = 64 << 20  # bytes of an upload when unpacked

# Address space costs nothing: room for the largest upload and all that is made of it. What most need stays warm.
pool = RegionPool(size=4 * LIMIT, max_idle=8, retain=4 << 20, name="upload")


async def unpack(packed: AsyncIterator[bytes], scratch: Region) -> memoryview:
    """Unpack a stream of gzip into one block of scratch memory, which grows as it comes."""
    unpacked = scratch.writer(LIMIT)
    gzip = zlib.decompressobj(wbits=31)
    try:
        async for chunk in packed:
            while chunk:
                unpacked.write(gzip.decompress(chunk, 1 << 16))
                chunk = gzip.unconsumed_tail  # noqa: PLW2901  # what is left of this chunk
    except RegionFullError:
        raise HTTPException(413, f"more than {LIMIT} bytes when unpacked") from None
    except zlib.error as error:
        raise HTTPException(400, f"not gzip: {error}") from None
    if not gzip.eof or unpacked.tell() % READING.size:
        raise HTTPException(400, "the upload ends within a record")
    return unpacked.finish()


def totals(readings: memoryview, scratch: Region) -> dict[int, memoryview]:
    """Add up the readings of each sensor, in a block of scratch memory each."""
    blocks = scratch.slab(TOTAL.size)
    found: dict[int, memoryview] = {}
    for sensor, value in READING.iter_unpack(readings):
        block = found.get(sensor)
        if block is None:
            block = found[sensor] = next(blocks)
            TOTAL.pack_into(block, 0, 1, value, value, value)
        else:
            count, total, least, most = TOTAL.unpack_from(block)
            TOTAL.pack_into(block, 0, count + 1, total + value, min(least, value), max(most, value))
    return found


def lines(found: dict[int, memoryview], scratch: Region) -> Iterator[memoryview]:
    """The answer. It is made while it is sent: the region is still there."""
    for sensor in sorted(found):
        count, total, least, most = TOTAL.unpack_from(found[sensor])
        line = {"sensor": sensor, "count": count, "mean": total / count, "least": least, "most": most}
        yield scratch.copy(json.dumps(line).encode() + b"\n", align=1)


async def summary(request: Request) -> Response:
    scratch: Region = request.state.scratch
    readings = await unpack(request.stream(), scratch)
    digest = hashlib.sha256(readings).hexdigest()
    found = await asyncio.to_thread(totals, readings, scratch)  # any thread may allocate
    return StreamingResponse(lines(found, scratch), headers={"X-Digest": digest}, media_type="application/x-ndjson")


async def stats(request: Request) -> Response:
    return JSONResponse(pool.stats()._asdict())


app = Starlette(
    routes=[Route("/summary", summary, methods=["POST"]), Route("/stats", stats)],
    middleware=[Middleware(ScratchMiddleware, pool=pool)],
)

if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]) if len(sys.argv) > 1 else 8000)
