"""A region for each request of a Django project: `"scopedbump.django.ScratchMiddleware"` in MIDDLEWARE.

The setting SCOPEDBUMP is a dict, of which all may be left out:

- "POOL": a RegionPool, or where to import it from ("project.pools.scratch").
- "ESCAPE": as `escape` of `bump_region`.
- "FULL_STATUS": the status with which to answer a RegionFullError, such as 413.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final, final

from ._checks import checked_escape, checked_pool
from ._current import Current
from ._pool import RegionPool
from ._refusal import RETRY_AFTER, checked_status, refusal
from ._region import Region

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse
    from django.http.response import HttpResponseBase

_KEYS: Final = {"POOL", "ESCAPE", "FULL_STATUS"}


@final
class ScratchMiddleware:
    """Gives every request a region of its own, from a pool, under WSGI and ASGI, and with Django's test clients.

    The region is `request.scratch`, and `scopedbump.current_region()` in the view and while its answer is streamed.

    Lifetime:
        The region ends when the response is there, or, when it is streamed, when Django closes it. A PoolFullError that
        leaves a view is answered with 503 and Retry-After.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        from asgiref.sync import iscoroutinefunction, markcoroutinefunction
        from django.conf import settings
        from django.core.exceptions import ImproperlyConfigured
        from django.utils.module_loading import import_string

        options: dict[str, Any] = getattr(settings, "SCOPEDBUMP", {})
        if unknown := options.keys() - _KEYS:
            raise ImproperlyConfigured(f"SCOPEDBUMP has no {sorted(unknown)}, only {sorted(_KEYS)}")
        pool = options.get("POOL")
        self.get_response = get_response
        found: Any = import_string(pool) if isinstance(pool, str) else pool
        self.pool: RegionPool = checked_pool(found)
        self._full_status = checked_status(options.get("FULL_STATUS"))
        self._options = self.pool._options.for_responses(checked_escape(options.get("ESCAPE", "keep")))
        self._is_async = bool(iscoroutinefunction(get_response))  # pyright: ignore[reportDeprecated]  # Django marks so
        if self._is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        """Serve one request."""
        region = self.pool._region_on_demand(self._options)
        request.scratch = region
        return self._serve_async(request, region) if self._is_async else self._serve(request, region)

    def _serve(self, request: HttpRequest, region: Region) -> HttpResponseBase:
        try:
            with Current(region):
                response: HttpResponseBase = self.get_response(request)
            return _ending(response, region)
        except BaseException:
            region.__exit__(*sys.exc_info())
            raise

    async def _serve_async(self, request: HttpRequest, region: Region) -> HttpResponseBase:
        try:
            with Current(region):
                response: HttpResponseBase = await self.get_response(request)
            return _ending(response, region)
        except BaseException:
            region.__exit__(*sys.exc_info())
            raise

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        """Answer for a pool or a region that is full."""
        status = refusal(self.pool, exception, self._full_status)
        if status is None:
            return None
        from django.http import HttpResponse

        headers = {"Retry-After": str(RETRY_AFTER)} if status == 503 else {}
        text = "busy\n" if status == 503 else "too large\n"
        return HttpResponse(text, content_type="text/plain", status=status, headers=headers)


def _ending(response: HttpResponseBase, region: Region) -> HttpResponseBase:
    """The response, whose end is that of the region."""
    if not response.streaming:
        region.close()
    else:
        if getattr(response, "file_to_stream", None) is None:  # a file is sent as such
            chunks = response.streaming_content
            response.streaming_content = (_within_async if response.is_async else _within)(region, chunks)
        response.close = _Close(response.close, region)
    return response


class _Close:
    """The close of a streamed response, and of its region."""

    def __init__(self, close: Callable[[], None], region: Region) -> None:
        self._close = close
        self._region = region

    def __call__(self) -> None:
        try:
            with Current(self._region):
                self._close()
        finally:
            self._region.close()


def _within(region: Region, chunks: Iterable[bytes]) -> Iterator[bytes]:
    iterator = iter(chunks)
    while True:
        with Current(region):
            chunk = next(iterator, None)
        if chunk is None:
            return
        yield chunk


async def _within_async(region: Region, chunks: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    iterator = aiter(chunks)
    while True:
        with Current(region):
            chunk = await anext(iterator, None)
        if chunk is None:
            return
        yield chunk
