"""A region for each request of a WSGI application.

A WSGI body is sent after the application has returned, and may be made only then. The region ends with the response's
`close()`, which the server calls however the response ended (PEP 3333); or, where a server forgets it, with the
response as an object.

Servers look closely at a body: at its class, its length, whether it can be iterated again, whether it is their own file
wrapper. So a body goes through as it is where that is possible:

- A list or tuple stays one, with a `close`. When it is of bytes it is complete, and the region ends at once.
- A file wrapper stays what it is, and its `close` ends the region. What a wrapper that is a function (uWSGI's) returned
  is recognized as a file.
- All else is iterated lazily, and may want the region: it is wrapped, and the wrapper has a length if the body has one,
  and is an iterator if the body is one.

It takes its memory when it is first asked for some, so a request that needs none costs next to nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Any, Literal, cast, final
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from ._checks import checked_escape, checked_pool
from ._current import Current, _current
from ._errors import Escape
from ._pool import RegionPool
from ._refusal import RETRY_AFTER, checked_status, checked_when_full, refusal
from ._region import Region

KEY = "scopedbump.region"


@final
class ScratchMiddleware:
    """Gives every request a region of its own, from a pool.

    The region is `environ["scopedbump.region"]`, and `scopedbump.current_region()` in the application and while its
    body is iterated and closed.

    Args:
        app: the WSGI application around which this goes.
        pool: where the regions come from; None makes a pool with the defaults of `RegionPool`. It is not closed here.
        escape: as for `bump_region`.
        when_full: what happens when `max_out` regions of the pool are open: "refuse" answers 503 with Retry-After when
            the PoolFullError leaves the application before it has begun to answer. (To wait would take a thread each.)
        full_status: the status with which to answer when a RegionFullError leaves the application before it has begun
            to answer, such as 413; None lets the error pass.

    Raises:
        TypeError: app can't be called; pool is no RegionPool; full_status is no int.
        ValueError: escape is none of the three, when_full is not "refuse", full_status no error of HTTP.

    Lifetime:
        The region ends when the server closes the response, whether it was sent to its end or not, or when the
        application raises. It ends as soon as the application has returned a list or tuple of bytes. What is sent must
        be bytes, as everywhere in WSGI: copy a view with `bytes(view)`.

    Thread safety:
        Any number of threads may call it, as servers do.
    """

    app: WSGIApplication
    pool: RegionPool
    escape: Escape
    full_status: int | None

    def __init__(
        self,
        app: WSGIApplication,
        pool: RegionPool | None = None,
        *,
        escape: Escape = "keep",
        when_full: Literal["refuse"] = "refuse",
        full_status: int | None = None,
    ) -> None:
        if not callable(app):
            raise TypeError(f"app must be a WSGI application, not {app!r}")
        self.app = app
        self.pool = checked_pool(pool)
        self.escape = checked_escape(escape)
        checked_when_full(when_full, "refuse")
        self.full_status = checked_status(full_status)
        self._options = self.pool._options.for_responses(self.escape)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Serve one request."""
        region = self.pool._region_on_demand(self._options)
        response = _Response(self, region, start_response, environ)
        try:
            if response.around:
                with response.turn():
                    body = self.app(environ, response.start)
            else:  # the same without the calls
                token = _current.set(region)
                try:
                    body = self.app(environ, response.start)
                finally:
                    _current.reset(token)
            return response.ending_with(body, environ.get("wsgi.file_wrapper"))
        except BaseException as error:
            region.__exit__(*sys.exc_info())
            answer = response.instead_of(error)
            if answer is None:
                raise
        return answer


class _Response:
    """One answer: its region, and whether it has begun."""

    __slots__ = ("_begun", "_environ", "_middleware", "_start_response", "around", "region")

    def __init__(
        self, middleware: ScratchMiddleware, region: Region, start: StartResponse, environ: WSGIEnvironment
    ) -> None:
        self._middleware = middleware
        self._start_response = start
        self._begun = False
        self.region = region
        self.around = KEY in environ  # the region of a middleware around this one: that is put back after each turn
        self._environ = environ
        if not self.around:
            environ[KEY] = region

    def turn(self) -> Current | _Turn:
        """A block in which the region is the current one. Servers may take turns between responses in one thread."""
        return _Turn(self.region, self._environ) if self.around else Current(self.region)

    def start(self, status: str, headers: list[tuple[str, str]], *error: Any, **named: Any) -> Any:
        """The server's `start_response`."""
        self._begun = True
        if error or named:
            return self._start_response(status, headers, *error, **named)
        return self._start_response(status, headers)

    def instead_of(self, error: BaseException) -> list[bytes] | None:
        """What to answer instead of an error; None when it must pass."""
        status = None if self._begun else refusal(self._middleware.pool, error, self._middleware.full_status)
        if status is None:
            return None
        text = b"busy\n" if status == 503 else b"too large\n"
        headers = [("Content-Type", "text/plain"), ("Content-Length", str(len(text)))]
        if status == 503:
            headers.append(("Retry-After", str(RETRY_AFTER)))
        self.start(f"{status} {_PHRASES.get(status, 'Error')}", headers)
        return [text]

    def ending_with(self, body: Iterable[bytes], file_wrapper: object) -> Iterable[bytes]:
        """The body, or another that behaves as it, whose end is that of the region."""
        kind: object = type(body)
        if kind is list or kind is tuple:
            items = cast("list[bytes] | tuple[bytes, ...]", body)
            if _is_complete(items):
                self.region.close()
                return _List(items) if kind is list else _Tuple(items)
            blocks = _OpenList(items) if kind is list else _OpenTuple(items)
            blocks.close = _Closer(self, None)
            return blocks
        is_file = isinstance(body, file_wrapper) if isinstance(file_wrapper, type) else hasattr(body, "read")
        if is_file and self._end_with_close_of(body):
            return body
        sized = hasattr(body, "__len__")
        if hasattr(body, "__next__"):
            return _SizedChunks(self, body) if sized else _Chunks(self, body)
        return _SizedBody(self, body) if sized else _Body(self, body)

    def _end_with_close_of(self, body: Any) -> bool:
        """End the region with the close of a file: wrapped in another object it would be no sendfile.

        False when the object won't have it.
        """
        try:
            body.close = _Closer(self, getattr(body, "close", None))
        except AttributeError:
            return False
        return True

    def close(self, close: Callable[[], object] | None) -> None:
        """The end of a body, which is closed by that; and of the region."""
        region = self.region
        try:
            if close is not None:
                with self.turn():
                    close()
        except BaseException:
            region.__exit__(*sys.exc_info())
            raise
        region.close()


_PHRASES = {413: "Request Entity Too Large", 503: "Service Unavailable", 507: "Insufficient Storage"}


class _Turn:
    """A block in which a region is the current one, and the one in the environ, where another one was."""

    __slots__ = ("_before", "_current", "_environ")

    def __init__(self, region: Region, environ: WSGIEnvironment) -> None:
        self._current = Current(region)
        self._environ = environ
        self._before: object = None

    def __enter__(self) -> Region:
        region = self._current.__enter__()
        self._before = self._environ[KEY]
        self._environ[KEY] = region
        return region

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._environ[KEY] = self._before
        self._current.__exit__(kind, error, trace)


class _Closer:
    """The close of a body. One that a server forgets comes with the end of the object, without a word."""

    __slots__ = ("_close", "_response")

    def __init__(self, response: _Response, close: Callable[[], object] | None) -> None:
        self._response = response
        self._close = close

    def __call__(self) -> None:
        self._response.close(self._close)

    def __del__(self) -> None:
        self._response.region.__exit__(GeneratorExit, None, None)


def _is_complete(blocks: Iterable[bytes]) -> bool:
    """Whether it is all of bytes, and so needs no region any more."""
    for block in blocks:  # noqa: SIM110  # a generator costs as much as all else that a request needs
        if type(block) is not bytes:
            return False
    return True


class _List(list[bytes]):
    """A list that can be closed, in vain."""

    __slots__ = ()

    def close(self) -> None:
        """Do nothing."""


class _Tuple(tuple[bytes, ...]):
    """A tuple that can be closed, in vain."""

    __slots__ = ()

    def close(self) -> None:
        """Do nothing."""


class _OpenList(list[bytes]):
    """A list whose close ends a region."""

    __slots__ = ("close",)

    close: _Closer


class _OpenTuple(tuple[bytes, ...]):  # noqa: SLOT001  # Python has no slots in tuples
    """A tuple whose close ends a region."""

    close: _Closer


class _Chunks:
    """What an iterator gives, with the region as the current one."""

    __slots__ = ("__weakref__", "_chunks", "_response", "close")

    def __init__(self, response: _Response, chunks: Iterable[bytes]) -> None:
        self._chunks = chunks
        self._response = response
        self.close = _Closer(response, getattr(chunks, "close", None))

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        try:
            with self._response.turn():
                return next(self._chunks)  # type: ignore[call-overload,no-any-return]  # it has a `__next__`
        except Exception as error:
            answer = self._response.instead_of(error)
            if answer is None:
                raise
        self._chunks = iter(answer)
        return next(self._chunks)


class _SizedChunks(_Chunks):
    __slots__ = ()

    def __len__(self) -> int:
        return len(self._chunks)  # type: ignore[arg-type]  # chosen for those that have one


class _Body:
    """What an iterable gives, as often as it is asked, with the region as the current one."""

    __slots__ = ("__weakref__", "_body", "_response", "close")

    def __init__(self, response: _Response, body: Iterable[bytes]) -> None:
        self._body = body
        self._response = response
        self.close = _Closer(response, getattr(body, "close", None))

    def __iter__(self) -> Iterator[bytes]:
        with self._response.turn():
            chunks = iter(self._body)
        return _Again(self, chunks)


class _SizedBody(_Body):
    __slots__ = ()

    def __len__(self) -> int:
        return len(self._body)  # type: ignore[arg-type]  # chosen for those that have one


class _Again(_Chunks):
    """One iteration of a body that can be iterated again: it ends nothing, and keeps the body, whose end would."""

    __slots__ = ("_body",)

    def __init__(self, body: _Body, chunks: Iterable[bytes]) -> None:
        self._body = body
        self._chunks = chunks
        self._response = body._response
