"""The steps of a reset: back to the start of the reservation, or on to a fresh one when something escaped.

The reservation that a reset has moved from is the region's *former* one until it is left to what escaped. That is done
by whoever comes first, a reset or a close, in any thread and at any moment, and it is done once.
"""

from __future__ import annotations

from _weakref import ref

from scopedbump import _atomic
from scopedbump._exporter import claim, disclaim, in_use

TYPE_CHECKING = False
if TYPE_CHECKING:
    from scopedbump._exporter import Exporter
    from scopedbump._lease import Lease
    from scopedbump._reservation import Reservation


def restart(region: Lease) -> None:
    """The steps of a reset, each of which may be repeated."""
    with region._lock:
        if not _atomic.atomic:
            _atomic.alone(region._lock)
        former = region._former
        # Interrupted on the move: begin again. With a root it is what a reset in another thread has moved from.
        if former is not None and region._root is None and region._busy == "reset":
            region._reservation, region._exporter, region._use, _ = former
            region._former = None
    leave_former(region)
    old, exporter = region._reservation, region._exporter
    if region._busy != "reset":  # asked last: a close from elsewhere may have come
        return
    region._stop(ending=False)
    region._revoke()
    views = region._views
    if not exporter.pinned():
        if region._wipe:
            region._erase()
        old.outlive(views)
        went_on = _go_on(region, old, exporter, 0)
    elif region._parent is not None:
        old.outlive(views)
        went_on = _go_on(region, old, exporter, region._peak)
    else:
        try:
            fresh = old.fresh()
        except BaseException:
            _go_on(region, old, exporter, region._peak)
            raise
        region._former = (old, exporter, region._use, views)
        went_on = _go_on(region, fresh, fresh.exporter(), 0)
        leave_former(region)
        if not went_on:
            fresh.end([], pinned=False, use=None)
    if not went_on:
        raise region._closed_error()


def leave_former(region: Lease) -> None:
    """End the use of the reservation that a reset has moved from: a reset, a close, whoever comes first."""
    former = region._former
    if former is None:
        return
    reservation, _, use, views = former
    if reservation is not region._reservation and claim(use):
        if in_use.get(id(reservation)) is use:  # otherwise it has had its end
            reservation.end(views, pinned=True, use=use)
        disclaim(use)
    with region._lock:
        if not _atomic.atomic:
            _atomic.alone(region._lock)
        if region._former is former:
            region._former = None


def _go_on(region: Lease, reservation: Reservation, exporter: Exporter, cursor: int) -> bool:
    """Begin again at `cursor`, unless a close from elsewhere came first."""
    views: list[memoryview] = []
    root = exporter.root()
    used = reservation if region._parent is None else exporter
    use = (used, ref(region._alive))
    key = id(used)
    with region._lock:
        if not _atomic.atomic:
            _atomic.alone(region._lock)
        if region._busy == "reset" and root is not None:
            region._reservation = reservation
            region._exporter = exporter
            region._cursor = cursor
            region._ready = cursor
            region._views = views
            region._use = in_use[key] = use
            region._root = root
            region._busy = None
            return True
    return False
