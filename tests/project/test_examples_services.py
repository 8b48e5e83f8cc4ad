"""The two example services, started with their one command and used by an HTTP client over the loopback."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import http.client
import json
import random
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from helpers import ROOT

EXAMPLES = ROOT / "examples"

pytestmark = [
    pytest.mark.skipif(not EXAMPLES.exists(), reason="the examples are not installed with the package"),
    pytest.mark.skipif(sys.implementation.name != "cpython", reason="statistics settle at a collection only"),
]


@contextlib.contextmanager
def running(*arguments: str) -> Iterator[int]:
    """A command that serves on the port that stands for PORT."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    with tempfile.TemporaryFile("w+") as log:
        command = [sys.executable, *(argument.replace("PORT", str(port)) for argument in arguments)]
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, cwd=EXAMPLES)
        try:
            for _ in range(300):
                with contextlib.suppress(OSError):
                    socket.create_connection(("127.0.0.1", port)).close()
                    break
                time.sleep(0.05)
            yield port
            assert process.poll() is None, "the service ended by itself"
        finally:
            process.terminate()
            process.wait(20)
            log.seek(0)
            output = log.read()
    assert "Traceback" not in output, output


def ask(port: int, method: str, path: str, body: bytes = b"") -> tuple[int, bytes, http.client.HTTPMessage]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request(method, path, body)
        answer = connection.getresponse()
        return answer.status, answer.read(), answer.headers
    finally:
        connection.close()


def settled(port: int, refused: int) -> dict[str, int]:
    """The statistics, once no request has a region: the one that asks takes no memory.

    What was refused may be held by the traceback of its error, until the service collects garbage.
    """
    for _ in range(100):
        stats: dict[str, int] = json.loads(ask(port, "GET", "/stats")[1])
        if stats["out"] == 0 and stats["escaped"] <= refused:
            return stats
        time.sleep(0.05)
    raise AssertionError(stats)


def test_the_asgi_example() -> None:
    """Uploads of several sizes at once are added up right; bad ones are refused; nothing is left behind."""
    pytest.importorskip("starlette")
    pytest.importorskip("uvicorn")
    reading = struct.Struct("<Id")

    def upload(seed: int) -> None:
        draw = random.Random(seed)
        readings = [(draw.randrange(1, 50), draw.uniform(-1e6, 1e6)) for _ in range(draw.choice((0, 1, 100, 20_000)))]
        unpacked = b"".join(reading.pack(*each) for each in readings)
        status, body, headers = ask(port, "POST", "/summary", gzip.compress(unpacked))
        assert status == 200, body
        assert headers["X-Digest"] == hashlib.sha256(unpacked).hexdigest()
        lines = [json.loads(line) for line in body.splitlines()]
        assert [line["sensor"] for line in lines] == sorted({sensor for sensor, _ in readings})
        for line in lines:
            values = [value for sensor, value in readings if sensor == line["sensor"]]
            assert line["count"] == len(values)
            assert (line["least"], line["most"]) == (min(values), max(values))
            assert line["mean"] == pytest.approx(sum(values) / len(values))

    with running("request_scratch.py", "PORT") as port:
        with ThreadPoolExecutor(4) as clients:
            list(clients.map(upload, range(24)))
        assert ask(port, "POST", "/summary", b"this is no gzip")[0] == 400
        assert ask(port, "POST", "/summary", gzip.compress(bytes(7)))[0] == 400
        assert ask(port, "POST", "/summary", gzip.compress(bytes(1200))[:-9])[0] == 400
        assert ask(port, "POST", "/summary", gzip.compress(bytes((64 << 20) + 12), 1))[0] == 413
        stats = settled(port, refused=4)
        assert stats["leases"] >= 28
        assert stats["committed"] <= 9 * (4 << 20)
        assert stats["hits"] > stats["misses"]


@pytest.mark.parametrize(
    "command",
    [
        ["request_scratch_wsgi.py", "PORT"],
        ["-m", "gunicorn", "--threads", "4", "--no-control-socket", "-b", "127.0.0.1:PORT", "request_scratch_wsgi:app"],
    ],
)
def test_the_wsgi_example(command: list[str]) -> None:
    """Images of several sizes at once come back at half theirs; bad ones are refused; nothing is left behind."""
    pytest.importorskip("flask")
    if "gunicorn" in command:
        if sys.platform == "win32":
            pytest.skip("gunicorn does not run on Windows")
        pytest.importorskip("gunicorn")
    else:
        pytest.importorskip("waitress")

    def upload(seed: int) -> None:
        draw = random.Random(seed)
        width, height = draw.randrange(2, 700), draw.randrange(2, 500)
        pixels = draw.randbytes(width * height)
        status, body, _ = ask(port, "POST", "/half", b"P5 %d\n%d 255\n" % (width, height) + pixels)
        assert status == 200, body
        rows = [pixels[at : at + width // 2 * 2 : 2] for at in range(0, height // 2 * 2 * width, 2 * width)]
        assert body == b"P5 %d %d 255\n" % (width // 2, height // 2) + b"".join(rows)

    with running(*command) as port:
        with ThreadPoolExecutor(4) as clients:
            list(clients.map(upload, range(24)))
        assert ask(port, "POST", "/half", b"P6 1 1 255\n123")[0] == 400
        assert ask(port, "POST", "/half", b"P5 99999 99999 255\n123")[0] == 400
        assert ask(port, "POST", "/half")[0] in (400, 411)
        stats = settled(port, refused=3)
        assert stats["leases"] >= 27
        assert stats["hits"] > stats["misses"]


def test_the_metrics_example() -> None:
    """It serves every figure of `stats()` under its name, with the name of the pool."""
    pytest.importorskip("prometheus_client")
    with running("pool_metrics.py", "PORT") as port:
        status, body, _ = ask(port, "GET", "/metrics")
    assert status == 200
    text = body.decode()
    for name in ("leases_total", "misses_total", "refused_total", "out", "escaped", "peak", "oldest_seconds"):
        assert f'\nscopedbump_{name}{{pool="demo"}} ' in text, name
