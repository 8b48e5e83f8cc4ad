"""A region for each request of a WSGI application.

A WSGI body is sent after the application has returned, and may be made only then. The region ends with the response's
`close()`, which the server calls however the response ended (PEP 3333).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any, final
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from ._current import Current
from ._errors import Escape, checked_escape
from ._pool import RegionPool, checked_pool
from ._region import Region


@final
class ScratchMiddleware:
    """Gives every request a region of its own, from a pool.

    The region is `environ["scopedbump.region"]`, and `scopedbump.current_region()` in the application and while its
    body is iterated and closed.

    Args:
        app: the WSGI application around which this goes.
        pool: where the regions come from; None makes a pool with the defaults of `RegionPool`. It is not closed here.
        escape: as for `bump_region`.

    Raises:
        TypeError: app can't be called; pool is no RegionPool.
        ValueError: escape is none of the three.

    Lifetime:
        The region ends when the server closes the response, whether it was sent to its end or not, or when the
        application raises. What is sent must be bytes, as everywhere in WSGI: copy a view with `bytes(view)`.

    Thread safety:
        Any number of threads may call it, as servers do.
    """

    app: WSGIApplication
    pool: RegionPool
    escape: Escape

    def __init__(self, app: WSGIApplication, pool: RegionPool | None = None, *, escape: Escape = "keep") -> None:
        if not callable(app):
            raise TypeError(f"app must be a WSGI application, not {app!r}")
        self.app = app
        self.pool = checked_pool(pool)
        self.escape = checked_escape(escape)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Serve one request."""
        region = self.pool.region(escape=self.escape)
        try:
            environ["scopedbump.region"] = region
            with Current(region):
                body = self.app(environ, start_response)
            wrapper = environ.get("wsgi.file_wrapper")
            if isinstance(wrapper, type) and isinstance(body, wrapper) and _end_with(body, region):
                return body
            return _SizedBody(body, region) if hasattr(body, "__len__") else _Body(body, region)
        except BaseException:
            region.__exit__(*sys.exc_info())
            raise


class _Body:
    """A response whose close ends the region.

    The region is the current one within each call only: servers may take turns between responses in one thread.
    """

    def __init__(self, body: Iterable[bytes], region: Region) -> None:
        self._body = body
        self._region = region
        with Current(region):
            self._chunks = iter(body)

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        with Current(self._region):
            return next(self._chunks)

    def close(self) -> None:
        _close(getattr(self._body, "close", None), self._region)


class _SizedBody(_Body):
    """Servers derive Content-Length from a response of one block."""

    def __len__(self) -> int:
        return len(self._body)  # type: ignore[arg-type]  # chosen for those that have one


def _close(close: Callable[[], object] | None, region: Region) -> None:
    try:
        if close is not None:
            with Current(region):
                close()
    except BaseException:
        region.__exit__(*sys.exc_info())
        raise
    region.close()


def _end_with(body: Any, region: Region) -> bool:
    """End the region with the close of a server's own file wrapper: wrapped in another object it would be no sendfile.

    False when the object won't have it.
    """
    close = getattr(body, "close", None)
    try:
        body.close = lambda: _close(close, region)
    except AttributeError:
        return False
    return True
