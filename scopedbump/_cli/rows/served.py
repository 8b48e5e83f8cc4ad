"""A served request, against a real server over the loopback."""

from __future__ import annotations

import selectors
import socket
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import ExitStack
from importlib import import_module

from .. import text
from ..measure import Figures, Sides, UnavailableError
from . import row

_CLIENTS = 8
_PATIENCE = 30


class _Server:
    """One server process, and clients that keep their connections."""

    def __init__(self, way: str, path: str, stack: ExitStack) -> None:
        self._request = f"GET /{path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
        command = [sys.executable, "-m", f"{text.__package__}.service", way]
        child = stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE))
        stack.callback(child.kill)
        assert child.stdout is not None
        line = child.stdout.readline()
        if not line:
            raise UnavailableError("the server did not start")
        self._address = ("127.0.0.1", int(line))
        self._clients = [stack.enter_context(self._connect()) for _ in range(_CLIENTS)]

    def _connect(self) -> socket.socket:
        client = socket.create_connection(self._address, _PATIENCE)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return client

    def requests(self, count: int) -> float:
        """The seconds that so many requests take, as many at a time as there are clients."""
        begun = done = 0
        with selectors.DefaultSelector() as selector:
            for number, client in enumerate(self._clients):
                selector.register(client, selectors.EVENT_READ, number)
            start = time.perf_counter()
            for client in self._clients[:count]:
                client.sendall(self._request)
                begun += 1
            while done < count:
                for key, _ in selector.select(_PATIENCE):
                    which: int = key.data
                    client = self._clients[which]
                    _answer(client, b"done")
                    done += 1
                    if begun < count:
                        client.sendall(self._request)
                        begun += 1
            return time.perf_counter() - start

    def resident(self) -> int:
        """Bytes of RAM that the server takes."""
        with self._connect() as client:
            client.sendall(b"GET /resident HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            with client.makefile("rb") as answer:
                return int(answer.read().rpartition(b"\r\n\r\n")[2])


def _answer(client: socket.socket, body: bytes) -> None:
    answer = b""
    while not answer.endswith(b"\r\n\r\n" + body):
        more = client.recv(65536)
        answer += more
        if not more or not answer.startswith(b"HTTP/1.1 200"):
            raise ConnectionError(f"the server answered {answer[:200]!r}")


def _served(path: str) -> Generator[Sides]:
    import_module("uvicorn")
    with ExitStack() as stack:
        ours, theirs = _Server("scratch", path, stack), _Server("bytearrays", path, stack)

        def note(figures: Figures) -> str:
            return (
                f"{1 / figures.ours:.0f} requests/s against {1 / figures.theirs:.0f}; the servers then take "
                f"{text.size(ours.resident())} and {text.size(theirs.resident())} of RAM"
            )

        yield Sides(ours.requests, theirs.requests, batch=500, note=note)


@row("a served request that fills 1 MiB of scratch (uvicorn)", "the same handler with a bytearray")
def one() -> Generator[Sides]:
    yield from _served("one")


@row("a served request that fills 512 KiB and copies them, zero=False", "the same handler with two bytearrays")
def two() -> Generator[Sides]:
    yield from _served("two")
