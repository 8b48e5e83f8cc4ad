"""The free list of a debug pool, which is always empty: every lease gets addresses of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._free_list import FreeList, Lease
from .._lifetime import Exporter, drop_dead_keepers
from . import _memory
from ._chunk import DebugChunk

if TYPE_CHECKING:
    from .._chunk import Chunk
    from .._free_list import Memory
    from .._places import Place


class DebugFreeList(FreeList):
    """Leases on fresh reservations, which go into quarantine."""

    __slots__ = ()

    def acquire(self, place: Place | None) -> tuple[Chunk, Lease]:
        """A new lease and its chunk."""
        self.look_around()
        drop_dead_keepers()
        reservation, mapping = _memory.reserve(self.size, self.secret)
        self.misses += 1
        self.leases += 1
        lease = Lease(self, (reservation, mapping), place)
        chunk = DebugChunk(reservation, Exporter(reservation.address, reservation.extent, lease), lease)
        chunk.life.name = self.name
        return chunk, lease

    def release(self, memory: Memory, exporter: Exporter | None) -> None:
        """The end of a lease: what C kept of it is to fault, not to reach into the next one."""
        reservation, mapping = memory
        assert isinstance(reservation, _memory.DebugReservation)
        _memory.quarantine(reservation, mapping)
