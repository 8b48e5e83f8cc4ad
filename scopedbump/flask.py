"""A region for each request of a Flask application, as Flask's extensions do it.

`Scratch(app)`, or `scratch = Scratch()` and later `scratch.init_app(app)`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from ._checks import checked_escape, checked_pool
from ._errors import Escape, PoolFullError, RegionFullError
from ._pool import RegionPool
from ._refusal import RETRY_AFTER, checked_status, refusal
from .wsgi import ScratchMiddleware

if TYPE_CHECKING:
    import flask


@final
class Scratch:
    """Gives every request of Flask applications a region of its own: `scopedbump.current_region()`.

    Args:
        app: the application; None when `init_app` is called later.
        pool: where the regions come from; None makes a pool with the defaults of `RegionPool`. It is not closed here.
        escape: as for `bump_region`.
        full_status: the status with which to answer a RegionFullError, such as 413; None leaves it to Flask.

    Raises:
        TypeError, ValueError: as `scopedbump.wsgi.ScratchMiddleware`.

    Lifetime:
        The region ends when the response is closed, so a body made while it is sent may use it. A PoolFullError is
        answered with 503 and Retry-After, where the application has no error handler of its own for it.
    """

    def __init__(
        self,
        app: flask.Flask | None = None,
        pool: RegionPool | None = None,
        *,
        escape: Escape = "keep",
        full_status: int | None = None,
    ) -> None:
        self.pool: RegionPool = checked_pool(pool)
        self._escape = checked_escape(escape)
        self._full_status = checked_status(full_status)
        if app is not None:
            self.init_app(app)

    def init_app(self, app: flask.Flask) -> None:
        """Wrap the application, and answer for a pool that is full. `app.extensions["scopedbump"]` is this."""
        app.wsgi_app = ScratchMiddleware(app.wsgi_app, self.pool, escape=self._escape)  # type: ignore[method-assign]  # as Flask's documentation says
        app.register_error_handler(PoolFullError, self._refuse)
        if self._full_status is not None:
            app.register_error_handler(RegionFullError, self._refuse)
        app.extensions["scopedbump"] = self

    def _refuse(self, error: Exception) -> tuple[str, int, dict[str, str]]:
        status = refusal(self.pool, error, self._full_status)
        if status == 503:
            return "busy\n", status, {"Content-Type": "text/plain", "Retry-After": str(RETRY_AFTER)}
        assert status is not None  # registered for no other error
        return "too large\n", status, {"Content-Type": "text/plain"}
