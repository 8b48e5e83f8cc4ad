"""The WSGI middleware by the letter of PEP 3333, without a server."""

from __future__ import annotations

import gc
import io
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any
from wsgiref.util import FileWrapper, setup_testing_defaults
from wsgiref.validate import validator

import pytest

from helpers.support import collect, counts_references
from scopedbump import EscapeWarning, NoRegionError, Region, RegionClosedError, RegionPool, bump_region, current_region
from scopedbump.wsgi import ScratchMiddleware

Environ = dict[str, Any]
Start = Callable[..., Callable[[bytes], object]]


def settle() -> None:
    """Let what is dead die, cycles too."""
    gc.collect()
    collect()


class Server:
    """Calls an application as PEP 3333 tells servers to."""

    def __init__(self, app: Callable[[Environ, Start], Iterable[bytes]], **options: Any) -> None:
        self.pool = RegionPool(1 << 20)
        self.app = ScratchMiddleware(app, self.pool, **options)
        self.written: list[bytes] = []

    def start_response(self, *arguments: object) -> Callable[[bytes], object]:
        return self.written.append

    def call(self, **environ: object) -> Any:
        return self.app(environ, self.start_response)

    def serve(self, chunks: int = 1000, **environ: Any) -> list[bytes]:
        body = self.call(**environ)
        try:
            return [chunk for chunk, _ in zip(body, range(chunks), strict=False)]
        finally:
            if hasattr(body, "close"):
                body.close()


def test_a_request_has_a_region() -> None:
    """It is in the environ and the current one, zeroed, and over when the response is closed."""
    seen: list[Region] = []

    def app(environ: Environ, start_response: Start) -> Iterable[bytes]:
        region = environ["scopedbump.region"]
        assert current_region() is region
        seen.append(region)
        block = region.alloc(100)
        assert block == bytes(100)
        block[:] = b"x" * 100
        start_response("200 OK", [])(b"written")
        return [bytes(block)]

    server = Server(app)
    for _ in range(3):
        assert server.serve() == [b"x" * 100]
        assert server.written.pop() == b"written"
        collect()
        assert seen[-1].closed
        assert seen[-1].released
    assert server.pool.stats()[:6] == (3, 2, 1, 1, 0, 0)


def lazy(environ: Environ, start_response: Start) -> Iterator[bytes]:
    """An application that is a generator: nothing runs before its body is iterated."""
    start_response("200 OK", [])
    try:
        block = environ["scopedbump.region"].alloc(4)
        for number in range(10):
            block[:] = b"%4d" % number
            yield bytes(block)
            assert current_region() is environ["scopedbump.region"]
            if number == environ.get("fail at"):
                raise KeyError(number)
    finally:
        if "cleaned" in environ:
            environ["cleaned"].append(bytes(current_region().alloc(1)))


def test_a_body_made_while_it_is_sent() -> None:
    """The region lives as long as the body is iterated, and through its cleanup."""
    cleaned: list[bytes] = []
    server = Server(lazy)
    assert server.serve(cleaned=cleaned) == [b"%4d" % number for number in range(10)]
    collect()
    assert cleaned == [b"\0"]
    assert server.pool.stats()[:6] == (1, 0, 1, 1, 0, 0)


@pytest.mark.parametrize("chunks", range(11))
def test_an_iteration_that_stops_early(chunks: int) -> None:
    """A client that goes away after any number of chunks: close() ends the body, and the region."""
    server = Server(lazy)
    assert len(server.serve(chunks=chunks)) == min(chunks, 10)
    settle()
    assert server.pool.stats()[3:6] == (1, 0, 0)


def test_an_application_that_raises() -> None:
    """Raised at once, in the body, in iter() or in close(): it passes on as it is, and the region ends."""

    def at_once(environ: Environ, start_response: Start) -> Iterable[bytes]:
        escape = current_region().alloc(10)[:]
        raise KeyError(len(escape))

    class Body:
        def __init__(self, moment: str) -> None:
            self.moment = moment

        def __iter__(self) -> Iterator[bytes]:
            if self.moment == "iter":
                raise KeyError(10)
            return iter([b"x"])

        def close(self) -> None:
            assert not current_region().closed
            if self.moment == "close":
                raise KeyError(10)

    for app, environ in (
        (at_once, {}),
        (lazy, {"fail at": 3}),
        (lambda environ, start: Body("iter"), {}),
        (lambda environ, start: Body("close"), {}),
        (lambda environ, start: 10, {}),
    ):
        server = Server(app)  # type: ignore[arg-type]  # the last one is no WSGI application
        with pytest.raises((KeyError, TypeError), match="3|10|int"):
            server.serve(**environ)
        settle()
        assert server.pool.stats()[4:6] == (0, 0)


def test_responses_that_take_turns() -> None:
    """Two bodies iterated in turns in one thread each see their own region, and between the calls there is none."""

    def app(environ: Environ, start_response: Start) -> Iterator[bytes]:
        block = current_region().alloc(1)
        block[:] = environ["mark"]
        for _ in range(3):
            yield bytes(block)
            assert current_region() is environ["scopedbump.region"]

    server = Server(app)
    one, two = server.call(mark=b"1"), server.call(mark=b"2")
    for _ in range(3):
        assert (next(one), next(two)) == (b"1", b"2")
        with pytest.raises(NoRegionError):
            current_region()
    assert server.pool.stats().out == 2
    two.close()
    one.close()
    collect()
    assert server.pool.stats().out == 0


def test_closing_twice() -> None:
    """close() of a response may be called again; the body's own close is called each time, as by the server alone."""
    closed: list[bool] = []

    class Body(list[bytes]):
        def close(self) -> None:
            closed.append(True)

    server = Server(lambda environ, start_response: Body([b"x"]))
    body = server.call()
    assert len(body) == 1
    body.close()
    body.close()
    assert closed == [True, True]
    assert server.pool.stats().out == 0


def test_a_region_closed_by_the_application() -> None:
    """An application that ends its region early still sends its body, and its close is called."""
    closed: list[bool] = []

    class Body(list[bytes]):
        def close(self) -> None:
            closed.append(True)

    def app(environ: Environ, start_response: Start) -> Iterable[bytes]:
        environ["scopedbump.region"].close()
        return Body([b"x", b"y"])

    server = Server(app)
    assert server.serve() == [b"x", b"y"]
    assert closed == [True]


class Often:
    """An iterable that starts anew each time."""

    def __iter__(self) -> Iterator[bytes]:
        current_region()
        return iter([b"x", b"y"])


class OftenSized(Often):
    def __len__(self) -> int:
        return 2


class OnceSized:
    """An iterator that has a length."""

    def __init__(self) -> None:
        self.left = [b"x", b"y"]

    def __len__(self) -> int:
        return 2

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        if not self.left:
            raise StopIteration
        return self.left.pop(0)


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (lambda: [b"x", b"y"], list),
        (lambda: (b"x", b"y"), tuple),
        (lambda: iter([b"x", b"y"]), object),
        (Often, object),
        (OftenSized, object),
        (OnceSized, object),
    ],
)
def test_a_body_behaves_as_that_of_the_application(make: Callable[[], Any], kind: type[object]) -> None:
    """Servers look at its class and length, go over it again, or call next: each gives what it gave without us."""
    with bump_region(1 << 16) as around, around.as_current():
        bare: Any = make()
        body: Any = Server(lambda environ, start_response: make()).call()
        assert issubclass(type(body), kind)
        for name in ("__len__", "__next__", "__getitem__"):
            assert hasattr(body, name) == hasattr(bare, name)
        if hasattr(bare, "__len__"):
            assert len(body) == len(bare)
        assert [list(body), list(body)] == [list(bare), list(bare)]
        body.close()
        assert current_region() is around


def test_a_list_of_bytes_ends_the_region() -> None:
    """It is complete: a slow client holds no region. A list of views is not, and its views arrive."""
    server = Server(lambda environ, start_response: [bytes(current_region().copy(b"x"))])
    body: Any = server.call()
    assert server.pool.stats().out == 0
    body.close()
    views: Any = Server(lambda environ, start_response: [current_region().copy(b"x")]).call()  # type: ignore[list-item]  # no bytes
    assert bytes(views[0]) == b"x"
    views.close()
    with pytest.raises(ValueError, match="released"):
        bytes(views[0])


def test_a_middleware_around_another() -> None:
    """A mounted application has its own region while it is called, iterated and closed; the outer one finds its own."""
    seen: list[Region] = []

    def inner(environ: Environ, start_response: Start) -> Iterator[bytes]:
        for _ in range(2):
            assert environ["scopedbump.region"] is current_region()
            seen.append(current_region())
            yield b"x"

    mounted: Any = ScratchMiddleware(inner, RegionPool(1 << 16))

    def outer(environ: Environ, start_response: Start) -> Iterator[bytes]:
        mine = environ["scopedbump.region"]
        body = mounted(environ, start_response)
        for block in body:
            assert environ["scopedbump.region"] is mine is current_region()
            yield block
        body.close()
        assert environ["scopedbump.region"] is mine

    assert Server(outer).serve() == [b"x", b"x"]
    assert seen[0] is seen[1]
    assert seen[0].size == 1 << 16


class PlainWrapper:
    """A file wrapper without a close of its own."""

    def __init__(self, file: io.BytesIO, size: int) -> None:
        self.file = file
        self.size = size

    def __iter__(self) -> Iterator[bytes]:
        return iter(lambda: self.file.read(self.size), b"")


@pytest.mark.parametrize("wrapper", [FileWrapper, PlainWrapper])
def test_a_file_wrapper_stays_one(wrapper: type[Any]) -> None:
    """The server's own file wrapper comes through as itself, so that it may use sendfile, and its close ends all."""
    file = io.BytesIO(b"file")

    def app(environ: Environ, start_response: Start) -> Iterable[bytes]:
        current_region().alloc(10)
        body: Iterable[bytes] = environ["wsgi.file_wrapper"](file, 3)
        return body

    server = Server(app)
    body: Any = server.call(**{"wsgi.file_wrapper": wrapper})
    assert type(body).__name__ == wrapper.__name__
    assert list(body) == [b"fil", b"e"]
    assert server.pool.stats().out == 1
    body.close()
    assert server.pool.stats().out == 0
    assert file.closed == (wrapper is FileWrapper)


def test_a_file_wrapper_that_won_t_take_another_close() -> None:
    """A wrapper with slots: the body is wrapped like any other, and its close called."""
    closed: list[bool] = []

    class Slotted:
        __slots__ = ("chunks",)

        def __init__(self, file: Any) -> None:
            self.chunks = iter([file.read()])

        def __iter__(self) -> Iterator[bytes]:
            return self.chunks

        def close(self) -> None:
            closed.append(True)

    def app(environ: Environ, start_response: Start) -> Iterable[bytes]:
        current_region().alloc(1)
        body: Iterable[bytes] = environ["wsgi.file_wrapper"](io.BytesIO(b"file"))
        return body

    server = Server(app)
    body: Any = server.call(**{"wsgi.file_wrapper": Slotted})
    assert list(body) == [b"file"]
    body.close()
    collect()
    assert server.pool.stats()[3:6] == (1, 0, 0)
    assert closed == [True]


@counts_references
def test_a_file_wrapper_that_is_a_function(tmp_path: Path) -> None:
    """uWSGI's returns the file itself, and sends it at once when it gets that back: it must be the same object."""
    file = tmp_path / "file"
    file.write_bytes(b"x" * 100)
    opened = file.open("rb")

    def app(environ: Environ, start_response: Start) -> Iterable[bytes]:
        current_region().alloc(1)
        body: Iterable[bytes] = environ["wsgi.file_wrapper"](opened, 10)
        return body

    server = Server(app)
    body: Any = server.call(**{"wsgi.file_wrapper": lambda file, size: file})
    assert body is opened
    assert server.pool.stats().out == 1
    body.close()
    assert opened.closed
    assert server.pool.stats()[3:6] == (1, 0, 0)


def test_it_is_a_valid_wsgi_application() -> None:
    """wsgiref's validator on both sides finds nothing to object to."""

    def app(environ: Environ, start_response: Start) -> Iterable[bytes]:
        block = current_region().alloc(5)
        block[:] = b"hello"
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [bytes(block)]

    pool = RegionPool(1 << 20)
    checked = validator(ScratchMiddleware(validator(app), pool))
    environ: Environ = {}
    setup_testing_defaults(environ)
    environ["QUERY_STRING"] = ""
    body = checked(environ, lambda status, headers, exc_info=None: lambda data: None)
    assert list(body) == [b"hello"]
    body.close()  # type: ignore[attr-defined]  # the validator's has one
    assert pool.stats().out == 0


@pytest.mark.parametrize("kind", ["generator", "list", "tuple", "iterable", "file"])
def test_a_server_that_forgets_to_close(kind: str) -> None:
    """Against PEP 3333: the region ends with the response as an object, and nothing is said each time."""

    class Body:
        def __iter__(self) -> Iterator[bytes]:
            return iter([b"x"])

    def app(environ: Environ, start_response: Start) -> Any:
        view = current_region().alloc(10)
        if kind == "file":
            return environ["wsgi.file_wrapper"](io.BytesIO(b"x"))
        bodies = {"generator": (b"x" for _ in view[:1]), "list": [view], "tuple": (view,), "iterable": Body()}
        return bodies[kind]

    server = Server(app)
    body: Any = server.call(**{"wsgi.file_wrapper": FileWrapper})
    assert server.pool.stats().out == 1
    del body
    settle()
    assert server.pool.stats()[3:6] == (1, 0, 0)


def test_a_response_that_dies_in_a_cycle() -> None:
    """As with an error that refers to its frames: whichever finalizer comes first, nothing is said."""
    regions = []

    def app(environ: Environ, start_response: Start) -> Iterable[bytes]:
        regions.append(current_region())
        regions[0].alloc(10)
        return (b"x" for _ in range(3))

    server = Server(app)
    cycle: list[Any] = [server.call(), regions.pop()]
    cycle.append(cycle)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        del cycle
        settle()
    assert said == []
    assert server.pool.stats()[4:6] == (0, 0)


@counts_references
def test_a_scope_that_a_request_loses_is_told() -> None:
    """Only the region of the response ends by itself: a scope that the application forgot is a mistake of its own."""

    def app(environ: Environ, start_response: Start) -> Iterable[bytes]:
        current_region().scope().alloc(10)
        return []

    with pytest.warns(ResourceWarning, match="was lost without being closed"):
        Server(app).call()


def test_a_server_that_keeps_the_iterator_alone() -> None:
    """As a `for` around the call does: the region lasts as long as the iteration."""

    class Body:
        def __iter__(self) -> Iterator[bytes]:
            return (bytes(current_region().copy(b"%d" % number)) for number in range(3))

    server = Server(lambda environ, start_response: Body())
    received: list[bytes] = []
    for chunk in server.call():
        received.append(chunk)  # noqa: PERF402  # list() holds the body meanwhile
    del chunk
    assert received == [b"0", b"1", b"2"]
    settle()
    assert server.pool.stats()[3:6] == (1, 0, 0)


@counts_references
def test_escape_is_obeyed() -> None:
    """escape="warn" tells of a handler that leaves something behind."""
    left = []

    def app(environ: Environ, start_response: Start) -> Iterable[bytes]:
        left.append(current_region().alloc(10)[:])
        return []

    with pytest.warns(EscapeWarning):
        Server(app, escape="warn").serve()


def test_wrong_input() -> None:
    """No app, no pool, no such escape, a closed pool: each is said."""

    def app(environ: Environ, start_response: Start) -> Iterable[bytes]:
        raise AssertionError("never called")

    with pytest.raises(TypeError, match="app"):
        ScratchMiddleware()  # type: ignore[call-arg]  # that is the point
    with pytest.raises(TypeError, match="app must be a WSGI application, not 'app'"):
        ScratchMiddleware("app")  # type: ignore[arg-type]  # that is the point
    with pytest.raises(TypeError, match="pool must be a RegionPool or None, not <class"):
        ScratchMiddleware(app, RegionPool)  # type: ignore[arg-type]  # that is the point
    with pytest.raises(ValueError, match="escape must be"):
        ScratchMiddleware(app, escape="no")  # type: ignore[arg-type]  # that is the point
    server = Server(app)
    server.pool.close()
    with pytest.raises(RegionClosedError, match="closed"):
        server.serve()
