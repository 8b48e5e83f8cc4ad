"""Requests a second on uvicorn, bare against in the middleware: `python tests/bench/requests_a_second.py [--quick]`.

A raw ASGI application that answers two bytes, with nothing else to do, with a buffer that it fills, or with two, one
copied to the other: from bytearrays, and from the request's region. It needs the load generator wrk. Both servers run
all the time, and are asked in turn; the median of the turns is shown.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from statistics import median
from typing import Any

from scopedbump import RegionPool, current_region
from scopedbump._cli import figures
from scopedbump.asgi import ScratchMiddleware

MIB = 1 << 20
WORKS: dict[str, list[int]] = {
    "no scratch": [],
    "64 KiB": [64 << 10],
    "one buffer of 1 MiB": [MIB],
    "two buffers of 1 MiB": [MIB, MIB],
}


def application(sizes: list[int], wrapped: bool) -> Any:
    content = bytes(max(sizes, default=0))

    def take(size: int) -> memoryview:
        return current_region().alloc(size) if wrapped else memoryview(bytearray(size))

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            while (kind := (await receive())["type"]) != "lifespan.shutdown":
                await send({"type": f"{kind}.complete"})
            await send({"type": f"{kind}.complete"})
            return
        last: Any = content
        for size in sizes:
            block = take(size)
            block[:] = last
            last = block
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})

    return ScratchMiddleware(app, RegionPool(64 * MIB)) if wrapped else app


def serve(work: str, wrapped: bool, port: int) -> None:
    import uvicorn

    uvicorn.run(application(WORKS[work], wrapped), port=port, log_level="critical", access_log=False)


def start(work: str, wrapped: bool, stack: ExitStack) -> int:
    """A server in a process of its own: its port, once it answers."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
    command = [sys.executable, str(Path(__file__)), "serve", work, str(int(wrapped)), str(port)]
    child = stack.enter_context(subprocess.Popen(command, env=os.environ))
    stack.callback(child.terminate)
    for _ in range(600):
        with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return port
        if child.poll() is not None:
            break
        time.sleep(0.05)
    raise SystemExit("uvicorn did not start: is it installed?")


def rate(port: int, seconds: int) -> float:
    command = ["wrk", "-t1", "-c8", f"-d{seconds}s", f"http://127.0.0.1:{port}/"]
    said = subprocess.check_output(command, text=True, timeout=60)
    found = re.search(r"Requests/sec:\s+([\d.]+)", said)
    if found is None or "Non-2xx" in said:
        raise SystemExit(said)
    return float(found[1])


def main(quick: bool, show: Callable[[str], object] = print) -> None:
    if shutil.which("wrk") is None:
        raise SystemExit("wrk is not installed (Debian: apt install wrk)")
    seconds, turns = (1, 1) if quick else (2, 5)
    rows = [("a request takes", "bytearrays", "a region", "ratio")]
    for work in WORKS:
        with ExitStack() as stack:
            ports = [start(work, wrapped, stack) for wrapped in (False, True)]
            for port in ports:
                rate(port, 1)  # malloc is old by then
            rates = [[rate(port, seconds) for port in ports] for _ in range(turns)]
        bare, ours = (median(column) for column in zip(*rates, strict=True))
        rows.append((work, f"{bare:,.0f} a second", f"{ours:,.0f} a second", f"{ours / bare:.2f}"))
    show(figures.table(rows))


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        serve(sys.argv[2], sys.argv[3] == "1", int(sys.argv[4]))
    else:
        main("--quick" in sys.argv)
