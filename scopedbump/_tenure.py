"""Tenure: on what terms a region has its reservation. And who bumps in a chunk. For type checkers."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _weakref import ref
    from typing import Protocol

    from ._chunk import Chunk
    from ._lifetime import Exporter
    from ._reservation import Reservation

    class Tenure(Protocol):
        """On what terms a region has its reservation: it is the region's own, or a pool's."""

        def outlast(self, views: list[memoryview], exporter: Exporter | None) -> None:
            """Revoked views are still referred to as objects: keep the memory for them where that is called for."""

        def renew(self, reservation: Reservation) -> Chunk:
            """A chunk on another reservation of the same kind, for a region whose own is left to what points in."""
            ...

        def end(self, chunk: Chunk, exporter: Exporter | None) -> ref[object] | None:
            """The region is over; the exporter is given when nothing points in.

            What to look at to see whether its memory is still there: None when it went back.
            """

    class Holder(Protocol):
        """Whoever bumps in a chunk: a region."""

        _chunk: Chunk
