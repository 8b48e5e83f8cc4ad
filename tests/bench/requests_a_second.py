"""Requests a second, bare against in the middleware: `python tests/bench/requests_a_second.py [SERVER ...] [--quick]`.

A raw application that answers two bytes, with nothing else to do, with a buffer that it fills, or with two, one copied
to the other: from bytearrays, and from the request's region. Without a name the server is uvicorn. It needs the load
generator wrk, which asks over eight connections. Both sides run all the time, and are asked in turn; the median of the
turns is shown, and beside it the CPU time of a request where Linux says it. A server that is faster than one thread of
wrk is measured by that: while wrk waits, each answer also has to wake it.
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

from scopedbump import RegionPool, asgi, current_region, wsgi
from scopedbump._cli import figures

MIB = 1 << 20
WORKS: dict[str, list[int]] = {
    "no scratch": [],
    "64 KiB": [64 << 10],
    "one buffer of 1 MiB": [MIB],
    "two buffers of 1 MiB": [MIB, MIB],
}

_GUNICORN = "-m gunicorn --no-control-socket --log-level error --keep-alive 60 -b 127.0.0.1:{port}"
SERVERS = {
    "uvicorn": "-m uvicorn --log-level critical --no-access-log --port {port} requests_a_second:asgi_app",
    "granian": "-m granian --log-level critical --interface asgi --port {port} requests_a_second:asgi_app",
    "hypercorn": "-m hypercorn -b 127.0.0.1:{port} requests_a_second:asgi_app",
    "gthread": f"{_GUNICORN} -k gthread --threads 4 requests_a_second:wsgi_app",
    "gevent": f"{_GUNICORN} -k gevent requests_a_second:wsgi_app",
    "bjoern": "{script} bjoern {port}",
}


def work() -> Callable[[], None]:
    """What a request of this process has to do besides its answer."""
    sizes = WORKS[os.environ["BENCH_WORK"]]
    wrapped = os.environ["BENCH_WRAPPED"] == "1"
    content = bytes(max(sizes, default=0))

    def fill() -> None:
        last: Any = content
        for size in sizes:
            block = current_region().alloc(size) if wrapped else memoryview(bytearray(size))
            block[:] = last
            last = block

    return fill


def asgi_application() -> Any:
    fill = work()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            while (kind := (await receive())["type"]) != "lifespan.shutdown":
                await send({"type": f"{kind}.complete"})
            await send({"type": f"{kind}.complete"})
            return
        fill()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})

    return asgi.ScratchMiddleware(app, RegionPool(64 * MIB)) if os.environ["BENCH_WRAPPED"] == "1" else app


def wsgi_application() -> Any:
    fill = work()

    def app(environ: Any, start_response: Any) -> list[bytes]:
        fill()
        start_response("200 OK", [("Content-Length", "2")])
        return [b"ok"]

    return wsgi.ScratchMiddleware(app, RegionPool(64 * MIB)) if os.environ["BENCH_WRAPPED"] == "1" else app


if "BENCH_WORK" in os.environ:  # a server has imported this
    asgi_app, wsgi_app = asgi_application(), wsgi_application()


def start(server: str, kind: str, wrapped: bool, stack: ExitStack) -> tuple[int, int]:
    """A server in a process of its own: its port and process, once it answers."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
    command = SERVERS[server].format(port=port, script=Path(__file__))
    path = os.pathsep.join((str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")))
    environment = {**os.environ, "BENCH_WORK": kind, "BENCH_WRAPPED": str(int(wrapped)), "PYTHONPATH": path}
    child = stack.enter_context(subprocess.Popen([sys.executable, *command.split()], env=environment))
    stack.callback(child.terminate)
    for _ in range(600):
        with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return port, child.pid
        if child.poll() is not None:
            break
        time.sleep(0.05)
    raise SystemExit(f"{server} did not start: is it installed?")


def cpu(process: int) -> float:
    """Seconds that the process and its children were on a CPU; 0 where the system does not say."""
    spent = 0
    with suppress(OSError):
        for task in Path(f"/proc/{process}/task").iterdir():
            spent += int((task / "schedstat").read_text().split()[0])
            spent += sum(round(cpu(int(child)) * 1e9) for child in (task / "children").read_text().split())
    return spent / 1e9


def rate(port: int, process: int, seconds: int) -> tuple[float, float]:
    """Requests a second, and the CPU time of one."""
    before = cpu(process)
    command = ["wrk", "-t1", "-c8", f"-d{seconds}s", f"http://127.0.0.1:{port}/"]
    said = subprocess.check_output(command, text=True, timeout=60)
    found, count = re.search(r"Requests/sec:\s+([\d.]+)", said), re.search(r"(\d+) requests in", said)
    if found is None or count is None or "Non-2xx" in said:
        raise SystemExit(said)
    return float(found[1]), (cpu(process) - before) / int(count[1])


def main(servers: list[str], quick: bool, show: Callable[[str], object] = print) -> None:
    if shutil.which("wrk") is None:
        raise SystemExit("wrk is not installed (Debian: apt install wrk)")
    if unknown := set(servers) - SERVERS.keys():
        raise SystemExit(f"there is no {unknown.pop()!r}, but {', '.join(SERVERS)}")
    seconds, turns = (1, 1) if quick else (2, 5)
    rows: list[tuple[str, ...]] = [("a request takes", "bytearrays", "a region", "ratio", "CPU time")]
    for server in servers or ["uvicorn"]:
        for kind in WORKS:
            with ExitStack() as stack:
                sides = [start(server, kind, wrapped, stack) for wrapped in (False, True)]
                for port, process in sides:
                    rate(port, process, 1)  # malloc is old by then
                turned = [[rate(port, process, seconds) for port, process in sides] for _ in range(turns)]
            (bare, spent), (ours, spent_ours) = [
                [median(turn[side][what] for turn in turned) for what in (0, 1)] for side in (0, 1)
            ]
            both = " / ".join(map(figures.duration, (spent, spent_ours)))
            rows.append(
                (f"{server}: {kind}", f"{bare:,.0f} a second", f"{ours:,.0f} a second", f"{ours / bare:.2f}", both)
            )
    show(figures.table(rows))


if __name__ == "__main__":
    if sys.argv[1:2] == ["bjoern"] and len(sys.argv) == 3 and sys.argv[2].isdigit():
        import bjoern

        bjoern.run(wsgi_app, "127.0.0.1", int(sys.argv[2]))
    else:
        main([word for word in sys.argv[1:] if word != "--quick"], "--quick" in sys.argv)
