"""Real servers in processes of their own, and a load generator: clients that keep their connections, or lose them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from helpers.support import ENVIRONMENT

HERE = Path(__file__).parent
MODES = ["plain"] * 60 + ["stream"] * 12 + ["raise"] * 5 + ["escape"] * 8 + ["leak"] * 3 + ["late"] * 4 + ["quit"] * 8
SIZES = [8] * 4 + [4096] * 8 + [40_000] * 4 + [300_000]


def command(server: str, fd: int) -> list[str]:
    """How to serve load_service on an inherited listening socket."""
    if server.startswith("gunicorn"):
        pytest.importorskip("gunicorn", exc_type=ImportError)
        options = ["--worker-class", "gthread", "--threads", "4", "--workers", "2", "--log-level", "critical"]
        if server == "gunicorn-preload":
            options.append("--preload")
        options += ["--keep-alive", "30", "--no-control-socket"]
        return ["-m", "gunicorn", *options, "--bind", f"fd://{fd}", "load_service:wsgi_app"]
    pytest.importorskip(server.split("-", 1)[0])
    if server == "uvicorn-httptools":
        pytest.importorskip("httptools")
    return ["load_service.py", server, str(fd)]


@contextlib.contextmanager
def serving(server: str, **bounds: str) -> Iterator[int]:
    """A server on a port of the loopback, stopped at the end. It must have run till then."""
    with socket.create_server(("127.0.0.1", 0), backlog=200) as listener:
        fd, port = listener.fileno(), listener.getsockname()[1]
        arguments = command(server, fd)
        # A file, since nobody reads a pipe meanwhile.
        log = tempfile.TemporaryFile("w+")  # noqa: SIM115  # closed below, when all is read
        # Few malloc arenas, so that address space tells of reservations only.
        path = os.pathsep.join((str(HERE), ENVIRONMENT["PYTHONPATH"]))
        environment = {**ENVIRONMENT, **bounds, "MALLOC_ARENA_MAX": "2", "PYTHONPATH": path}
        process = subprocess.Popen(
            [sys.executable, "-X", "faulthandler", *arguments],
            cwd=HERE,
            env=environment,
            pass_fds=[fd],
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        yield port
    finally:
        running = process.poll() is None
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        with log:
            log.seek(0)
            output = log.read()
    assert running, output
    assert "Fatal Python error" not in output
    assert "Exception ignored" not in output, output


class Client:
    """One connection that is kept from request to request, until it is lost on purpose."""

    def __init__(self, port: int, seed: int) -> None:
        self.port = port
        self.draw = random.Random(seed)
        self.refused = 0
        self.reader: asyncio.StreamReader | None = None
        self.writer: asyncio.StreamWriter | None = None

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self.reader is None or self.writer is None:
            self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port, limit=1 << 21)
        return self.reader, self.writer

    def hang_up(self) -> None:
        if self.writer is not None:
            self.writer.transport.abort()
        self.reader = self.writer = None

    async def get(self, path: str) -> tuple[int, bytes]:
        reader, writer = await self.connect()
        writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        head = b""
        while (line := await reader.readline()).strip():  # gunicorn's errors end their head with a bare \n on 3.14
            head += line.lower()
        status = int(head.split(b" ", 2)[1])
        length = head.partition(b"content-length:")[2].split(b"\r\n", 1)[0]
        body = await (reader.readexactly(int(length)) if length else reader.read())
        if b"connection: close" in head:
            self.hang_up()
        return status, body

    async def request(self) -> None:
        mode, size = self.draw.choice(MODES), self.draw.choice(SIZES)
        mark = f"{self.draw.getrandbits(32):08x}"
        if mode == "quit":
            await self.quit(f"/{self.draw.choice(('plain', 'stream'))}/{mark}/{size}")
            return
        status, body = await self.get(f"/{mode}/{mark}/{size}")
        if (status, body) == (503, b"busy\n"):
            self.refused += 1
            return
        if mode == "raise":
            assert status == 500, (status, body)
            return
        length = 16 if mode != "stream" else 4 * size
        assert status == 200, (status, body)
        assert body == mark.encode() * (length // 8), f"{mode} {mark} {size}: {body[:64]!r}"

    async def quit(self, path: str) -> None:
        """Disconnect: in the middle of the request, before the answer, or in the middle of it."""
        reader, writer = await self.connect()
        request = f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
        writer.write(request[: self.draw.choice((10, len(request)))])
        if self.draw.random() < 0.5:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(reader.read(100), 0.01)
        self.hang_up()

    async def run(self, requests: int) -> None:
        try:
            for _ in range(requests):
                await self.request()
        finally:
            self.hang_up()


def load(port: int, requests: int, clients: int = 16, seed: int = 0) -> int:
    """That many requests, by clients that take turns as they like. How many were refused with 503."""
    all_of_them = [Client(port, seed + number) for number in range(clients)]

    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            for client in all_of_them:
                group.create_task(client.run(requests // clients))

    asyncio.run(main())
    return sum(client.refused for client in all_of_them)


def ask(port: int, path: str = "/settle", workers: int = 1) -> list[dict[str, Any]]:
    """The reports of all workers of a server, once none has a request under way."""

    async def main() -> list[dict[str, Any]]:
        reports: dict[int, dict[str, Any]] = {}
        end = time.monotonic() + 30
        while time.monotonic() < end:
            client = Client(port, 0)
            status, body = await client.get(path)
            client.hang_up()
            assert status == 200, body
            report = json.loads(body)
            reports[report["pid"]] = report
            if len(reports) == workers and all(r["stats"]["out"] == 0 for r in reports.values()):
                return list(reports.values())
            await asyncio.sleep(0.01)
        raise AssertionError(f"not settled: {reports}")

    return asyncio.run(main())
