"""What the middlewares answer when there is no region, or no room in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from ._checks import checked_int
from ._errors import PoolFullError, RegionFullError

if TYPE_CHECKING:
    from ._pool import RegionPool

WhenFull: TypeAlias = Literal["refuse", "wait"]
"""What happens to a request when all regions of a pool are open."""

RETRY_AFTER: Final = 1
"""Seconds after which a client that was refused may come again."""


def checked_when_full(value: WhenFull, *allowed: str) -> WhenFull:
    """One of the allowed, or ValueError with the value in the message."""
    if value not in allowed:
        raise ValueError(f"when_full must be {' or '.join(map(repr, allowed))}, not {value!r}")
    return value


def checked_status(value: int | None) -> int | None:
    """The status of an error of HTTP, or None."""
    if value is None:
        return None
    if not 400 <= checked_int(value, "full_status", 0) <= 599:
        raise ValueError(f"full_status must be from 400 to 599, not {value}")
    return value


def refusal(pool: RegionPool, error: BaseException, full_status: int | None) -> int | None:
    """The status with which to answer instead of this error, which is counted then; None lets it pass."""
    if isinstance(error, PoolFullError):
        return 503
    if full_status is not None and isinstance(error, RegionFullError):
        pool._free_list.count_overflow()
        return full_status
    return None
