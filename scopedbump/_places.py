"""Places: how many regions of a pool may be open at a time, and who is next when one of them ends.

The rules (numbers are those of the promises in the README):

- A region that is open holds a *place*, and there are never more of them than the pool allows (13). A place is given
  back at the end of its region, once; or it goes with its object, when the end did not come to it.
- Whoever can wait queues up. A place that is given back while somebody waits is never free: it is handed on, so nobody
  overtakes.
- A count that an exception of a signal handler left too high (in a finalizer, where it is lost) is put right by the
  number of place objects that are alive, which is kept in C. Too low it never gets.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TypeAlias
from weakref import ref

from ._atomic import critical, new_lock


class Place:
    """One of so many. Its end, or its death, gives it back."""

    __slots__ = ("__weakref__", "_places", "held")

    def __init__(self, places: Places) -> None:
        self.held = False
        self._places = places
        places.alive.add(ref(self, places.alive.discard))

    def leave(self) -> None:
        """Give it back, or hand it on to whoever waits. Again, it does nothing."""
        if self.held:
            self._places.leave(self)

    def __del__(self) -> None:
        if getattr(self, "held", False):
            self._places.leave(self)


Offer: TypeAlias = Callable[[Place], bool]
"""Hands a place to somebody who waits. False when nobody is there any more."""


class Places:
    """All the places of a pool in one process.

    Attributes:
        alive: a reference to each place object that is alive.
        coming: who waits, or was offered a place and has not begun yet. Whoever comes later stands behind them.
        most: how many there are.
        refused: how often there was none.
        taken: how many are held; more than in truth after lost exceptions.
        waited: how many have queued up.
        waiting: who waits, in the order of arrival.
    """

    __slots__ = ("alive", "coming", "lock", "most", "refused", "taken", "waited", "waiting")

    def __init__(self, most: int) -> None:
        self.alive: set[ref[Place]] = set()
        self.coming: set[Offer] = set()
        self.lock = new_lock()
        self.most = most
        self.refused = self.taken = self.waited = 0
        self.waiting: deque[Offer] = deque()

    def take(self) -> Place | None:
        """A place, or None when there is none left."""
        place = Place(self)
        return place if self._enter(place) or (self._put_right() and self._enter(place)) else None

    def queue(self, offer: Offer) -> None:
        """Offer the next place that is given back, after all who are waiting already."""
        self._count(0, 1)
        self.waiting.append(offer)
        self._serve()  # one may have become free before this was in the queue

    def give_up(self, offer: Offer) -> None:
        """Wait no longer. What was offered already is the caller's to leave."""
        try:
            self.waiting.remove(offer)
        except ValueError:
            return

    def leave(self, place: Place) -> None:
        while self.waiting:
            new = Place(self)  # the old one may be left again, after an interruption
            if not self._hand_on(place, new):
                return
            place = new
            try:
                offer = self.waiting.popleft()
            except IndexError:  # another thread was faster
                break
            if offer(new):
                return
        self._leave(place)
        self._serve()

    def _serve(self) -> None:
        """Nobody waits while there is a place."""
        while self.waiting and (place := self.take()) is not None:
            place.leave()

    def refuse(self) -> None:
        """Somebody goes away without a place."""
        self._count(1, 0)

    @critical
    def _count(self, refused: int, waited: int) -> None:
        self.refused += refused
        self.waited += waited

    @critical
    def _enter(self, place: Place) -> bool:
        if self.taken >= self.most:
            return False
        self.taken += 1
        place.held = True
        return True

    @critical
    def _leave(self, place: Place) -> None:
        if place.held:
            place.held = False
            self.taken -= 1

    @critical
    def _hand_on(self, place: Place, new: Place) -> bool:
        if not place.held:
            return False
        new.held = True
        place.held = False
        return True

    def _put_right(self) -> bool:
        """Whether more are counted than can be held, and the count is right now."""
        counted = self.taken
        alive = len(self.alive) - 1  # the one that is asked for is none
        return alive < counted and self._recount(counted, alive)

    @critical
    def _recount(self, counted: int, alive: int) -> bool:
        if self.taken != counted:
            return False
        self.taken = alive
        return True
