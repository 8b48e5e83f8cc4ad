"""Restart: the steps of a reset. It puts another chunk in the place of the old one.

- When nothing points in, it begins over the same memory, at the start.
- When something does, a scope goes on behind what was used; a region moves to a fresh reservation, and the old one goes
  with the last escape (4).
- When an exception of a signal handler comes in between, the steps are taken again before it goes on. When even this
  fails (no stack is left), the region counts as closed, and goes with its object (5).
"""

from __future__ import annotations

from ._chunk import ENDED, RESETTING, Chunk

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ._lifetime import Exporter
    from ._options import Options
    from ._region import Region
    from ._tenure import Tenure


def restart(region: Region, options: Options) -> None:
    """As `Region.reset`."""
    while True:
        chunk = region._open_chunk()
        try:
            if chunk.stop(RESETTING):
                _take_steps(region, chunk, options)
                return
        except BaseException:  # of a signal handler: what was begun is brought to its end
            if chunk.state == RESETTING:
                try:
                    _take_steps(region, chunk, options)
                finally:
                    if chunk.state == RESETTING:
                        chunk.state = ENDED
            raise


def _take_steps(region: Region, chunk: Chunk, options: Options) -> None:
    """The steps of a reset, each of which may be repeated."""
    chunk.revoke()
    exporter, tenure = chunk.exporter, chunk.tenure
    if exporter is None or tenure is None:  # a close from elsewhere came first
        region._open_chunk()
        return
    pinned = exporter.pinned()
    try:
        new = _next(chunk, exporter, tenure, options, pinned)
    except Exception:  # refused: go on behind what was used
        _go_on(region, chunk, _behind(chunk, exporter, tenure))
        raise
    _go_on(region, chunk, new)
    if new.reservation is not chunk.reservation:
        chunk.escaped = pinned
        tenure.end(chunk, None)


def _next(chunk: Chunk, exporter: Exporter, tenure: Tenure, options: Options, pinned: bool) -> Chunk:
    """The chunk that takes the place of this one."""
    reservation, outer = chunk.reservation, chunk.outer
    if not pinned and options.wipe:
        chunk.erase(exporter)
    if not pinned and chunk.close_gaps():
        if options.retain is not None and outer is None:
            reservation.trim(options.retain)
        return type(chunk)(reservation, exporter, tenure, chunk.start, outer, chunk.start)
    if outer is not None:
        return _behind(chunk, exporter, tenure)
    return tenure.renew(reservation)


def _go_on(region: Region, chunk: Chunk, new: Chunk) -> None:
    """Put another chunk in the place of the one that was reset."""
    if chunk.outer is not None:
        new.region = chunk.region
    if chunk.hand_over(region, new):
        new.prepare()
    else:  # a close from elsewhere came first
        region._open_chunk()


def _behind(chunk: Chunk, exporter: Exporter, tenure: Tenure) -> Chunk:
    """A chunk over the same memory, behind all that was used of it."""
    return type(chunk)(chunk.reservation, exporter, tenure, chunk.start, chunk.outer, chunk.cursor)
