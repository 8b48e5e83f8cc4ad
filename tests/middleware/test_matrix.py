"""Every server with every framework, the same application bare and wrapped: status, headers and bytes are the same.

What is not installed is skipped by its name, and so is a server that does not serve the bare application either.
"""

from __future__ import annotations

import contextlib
import http.client
import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from helpers import matrix_service
from helpers.matrix_service import ASGI, WSGI
from helpers.support import ENVIRONMENT

HERE = Path(matrix_service.__file__).parent
BIN = Path(sys.executable).parent
PYTHON = [sys.executable, "-W", "ignore", "-m"]
GUNICORN = [*PYTHON, "gunicorn", "--no-control-socket", "--log-level", "error", "-b", "127.0.0.1:PORT", "-k"]
UVICORN = [*PYTHON, "uvicorn", "--log-level", "critical", "--port", "PORT"]
GRANIAN = [*PYTHON, "granian", "--log-level", "critical", "--port", "PORT", "--interface"]
HYPERCORN = [*PYTHON, "hypercorn", "-b", "127.0.0.1:PORT", "-k"]

# What each needs to be installed, and its command.
ASGI_SERVERS = {
    "uvicorn-h11": (["uvicorn"], [*UVICORN, "--http", "h11", "--loop", "asyncio"]),
    "uvicorn-httptools": (["uvicorn", "httptools", "uvloop"], [*UVICORN, "--http", "httptools", "--loop", "uvloop"]),
    "hypercorn-asyncio": (["hypercorn"], [*HYPERCORN, "asyncio"]),
    "hypercorn-uvloop": (["hypercorn", "uvloop"], [*HYPERCORN, "uvloop"]),
    "hypercorn-trio": (["hypercorn", "trio"], [*HYPERCORN, "trio"]),
    "granian": (["granian"], [*GRANIAN, "asgi"]),
    "hypercorn-h2": (["hypercorn", "h2", "httpx"], [*HYPERCORN, "asyncio"]),
    "granian-h2": (["granian", "h2", "httpx"], [*GRANIAN, "asgi", "--http", "2"]),
    "daphne": (["daphne"], [*PYTHON, "daphne", "-v", "0", "-b", "127.0.0.1", "-p", "PORT"]),
}
SOCKET_SERVERS = {
    **{
        f"uvicorn-{name}": (["uvicorn", name.partition("-")[0]], [*UVICORN, "--ws", name])
        for name in ("websockets", "websockets-sansio", "wsproto")
    },
    **{
        name: ASGI_SERVERS[name]
        for name in ("hypercorn-asyncio", "hypercorn-uvloop", "hypercorn-trio", "granian", "daphne")
    },
}
WSGI_SERVERS = {
    "gunicorn-sync": (["gunicorn"], [*GUNICORN, "sync"]),
    "gunicorn-gthread": (["gunicorn"], [*GUNICORN, "gthread", "--threads", "4"]),
    "gunicorn-gevent": (["gunicorn", "gevent"], [*GUNICORN, "gevent"]),
    "gunicorn-eventlet": (
        ["gunicorn", "eventlet"],  # a gunicorn that has it knows no control socket
        [word for word in (*GUNICORN, "eventlet") if word != "--no-control-socket"],
    ),
    "granian": (["granian"], [*GRANIAN, "wsgi"]),
    "uwsgi": (["uwsgi"], ["uwsgi", "--http-socket", "127.0.0.1:PORT", "-L", "-w"]),
    "bridge": (["uvicorn", "asgiref"], UVICORN),
    **{
        name: ([name], [])
        for name in ("wsgiref", "werkzeug", "waitress", "cheroot", "bjoern", "gevent", "eventlet", "twisted")
    },
}
REQUESTS = [
    ("GET", "/plain", {}, 11),
    ("HEAD", "/plain", {}, 11),
    ("GET", "/plain", {}, 10),
    ("GET", "/list", {}, 11),
    ("GET", "/list", {}, 10),
    ("GET", "/stream", {}, 11),
    ("GET", "/stream", {}, 10),
    ("HEAD", "/stream", {}, 11),
    ("GET", "/empty", {}, 11),
    ("GET", "/file", {}, 11),
    ("HEAD", "/file", {}, 11),
    ("GET", "/file", {"Range": "bytes=10-19"}, 11),
    ("GET", "/missing", {}, 11),
    ("POST", "/echo", {}, 11),
]
CHANGES = {"date", "last-modified", "expires"}

SERVERS = {"asgi": ASGI_SERVERS, "wsgi": WSGI_SERVERS, "websocket": SOCKET_SERVERS}

Answer = tuple[int, list[tuple[str, str]], bytes]


def is_installed(name: str) -> bool:
    if name == "uwsgi":
        return (BIN / "uwsgi").exists() or shutil.which("uwsgi") is not None
    return importlib.util.find_spec(name) is not None


@contextlib.contextmanager
def serving(server: str, interface: str, framework: str, wrapped: bool) -> Iterator[int]:
    """A server in a process of its own, with the application; what it wrote must hold nothing unraisable."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    command = SERVERS[interface][server][1]
    if command:
        command = [word.replace("PORT", str(port)) for word in command]
        command.append("matrix_service" if server == "uwsgi" else "matrix_service:app")
        if server == "uwsgi":
            command = [str(BIN / "uwsgi"), "--virtualenv", sys.prefix, *command[1:-1], "matrix_service:app"]
    else:
        command = [sys.executable, "-W", "ignore", "matrix_service.py", server, str(port)]
    environment = {
        **ENVIRONMENT,
        "EVENTLET_NO_GREENDNS": "yes",  # which imports all of dnspython, and that trio, which it does not patch
        "FRAMEWORK": framework,
        "INTERFACE": "wsgi" if interface == "wsgi" else "asgi",
        "WRAPPED": str(int(wrapped)),
        "PYTHONPATH": os.pathsep.join((str(HERE), ENVIRONMENT["PYTHONPATH"])),
    }
    if server == "bridge":
        environment["BRIDGE"] = "1"
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(
            command, cwd=HERE, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            for _ in range(200):
                if process.poll() is not None:
                    break
                with contextlib.suppress(OSError):
                    socket.create_connection(("127.0.0.1", port)).close()
                    break
                time.sleep(0.05)
            if process.poll() is not None:
                log.seek(0)
                said = log.read()
                if wrapped or "No module named 'scopedbump'" in said:
                    pytest.fail(said)
                pytest.skip(f"{server} does not serve {framework} here: {said[-300:]}")
            yield port
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        log.seek(0)
        output = log.read()
    assert "Exception ignored" not in output, output
    assert "was lost without" not in output, output


def ask(port: int, method: str, path: str, headers: dict[str, str], version: int) -> Answer | str:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection._http_vsn = version  # type: ignore[attr-defined]  # there is no other way to speak HTTP/1.0
    connection._http_vsn_str = f"HTTP/1.{version % 10}"  # type: ignore[attr-defined]  # as above
    with contextlib.closing(connection):
        try:
            body = b"x" * 100_000 if method == "POST" else None
            connection.request(method, path, body, {"Host": "here", **headers})  # some pages show it, and the port
            answer = connection.getresponse()
            # Who refuses an upload closes the connection or not, by how much of it has arrived.
            skip = {*CHANGES, "connection"} if body and answer.status >= 400 else CHANGES
            found = [(name.lower(), value) for name, value in answer.getheaders() if name.lower() not in skip]
            return answer.status, sorted(found), answer.read()
        except (OSError, http.client.HTTPException) as error:
            return type(error).__name__


def ask_http2(port: int, method: str, path: str, headers: dict[str, str], version: int) -> Answer | str:
    """The same by HTTP/2, without TLS."""
    httpx: Any = import_module("httpx")
    protocol_error: Any = import_module("h2.exceptions").ProtocolError  # httpx lets it pass while a body is read
    with httpx.Client(http1=False, http2=True, timeout=20) as client:
        try:
            content = b"x" * 100_000 if method == "POST" else None
            answer = client.request(
                method, f"http://127.0.0.1:{port}{path}", content=content, headers={"Host": "here", **headers}
            )
            assert answer.http_version == "HTTP/2"
            found = [(name, value) for name, value in answer.headers.items() if name not in CHANGES]
            return answer.status_code, sorted(found), answer.content
        except (httpx.HTTPError, protocol_error) as error:
            return type(error).__name__


def need(*packages: str) -> None:
    for package in packages:
        if not is_installed(package):
            pytest.skip(f"{package} is not installed")


def compare(server: str, interface: str, framework: str) -> None:
    need(*SERVERS[interface][server][0], *(() if framework == "raw" else (framework,)))
    client = ask_http2 if server.endswith("-h2") else ask
    with serving(server, interface, framework, wrapped=False) as port:
        bare = [client(port, *request) for request in REQUESTS]
    if isinstance(bare[0], str) or bare[0][0] != 200:
        pytest.skip(f"{server} does not serve {framework}: {bare[0]}")
    assert bare[0][2] == b"plain"
    with serving(server, interface, framework, wrapped=True) as port:
        wrapped = [client(port, *request) for request in REQUESTS]
    for request, expected, answer in zip(REQUESTS, bare, wrapped, strict=True):
        if isinstance(expected, str) or answer == expected:  # what fails bare too is no fault of ours
            continue
        # By HTTP/2 some answer in more than one way, by timing: hypercorn an upload that it refuses, granian a HEAD.
        assert client is ask_http2, (request, expected, answer)
        with serving(server, interface, framework, wrapped=False) as port:
            others = [client(port, *request) for _ in range(100)]
        assert answer in others, (request, expected)


QUICK = {("uvicorn-h11", "asgi", "raw"), ("gunicorn-gthread", "wsgi", "raw"), ("wsgiref", "wsgi", "raw")}
EVERYTHING = [
    pytest.param(
        server,
        interface,
        framework,
        id=f"{server}-{interface}-{framework}",
        marks=[] if (server, interface, framework) in QUICK else pytest.mark.long,
    )
    for interface, servers, frameworks in (("asgi", ASGI_SERVERS, ASGI), ("wsgi", WSGI_SERVERS, WSGI))
    for server in servers
    for framework in frameworks
]


@pytest.mark.skipif(sys.platform == "win32", reason="servers are ended by signals")
@pytest.mark.parametrize(("server", "interface", "framework"), EVERYTHING)
def test_bare_and_wrapped_are_the_same(server: str, interface: str, framework: str) -> None:
    """GET, HEAD, HTTP/1.0, ranges, files, generators, lists, empty bodies and uploads, by what the client gets."""
    compare(server, interface, framework)


def talk(port: int) -> list[str | bytes | int]:
    """What comes back for texts and bytes, short and long ones, and the code of the close."""
    client_of: Any = import_module("websockets.sync.client")
    closed: Any = import_module("websockets.exceptions").ConnectionClosed
    heard: list[str | bytes | int] = []
    with client_of.connect(f"ws://127.0.0.1:{port}/socket") as client:
        try:
            for message in ("text", b"bytes", b"long" * 50_000, "l\u00f6ng" * 1000, "bye"):
                client.send(message)
                heard.append(client.recv(timeout=20))
        except closed as error:
            heard.append(-1 if error.rcvd is None else error.rcvd.code)
    return heard


@pytest.mark.long
@pytest.mark.parametrize("server", SOCKET_SERVERS)
def test_websockets_are_the_same(server: str) -> None:
    """Texts, bytes and the close, with each implementation of websockets."""
    need("websockets", *SOCKET_SERVERS[server][0])
    heard: list[list[str | bytes | int]] = []
    for wrapped in (False, True):
        with serving(server, "websocket", "raw", wrapped) as port:
            heard.append(talk(port))
    assert heard[0] == heard[1]
    assert heard[0][0] == "text"
    assert heard[0][-1] == 3001
