"""bump_region: a region on a reservation of its own, which goes with the last that points in."""

from __future__ import annotations

from . import _hints as hints
from . import _views
from ._checks import checked_escape, checked_int, checked_name
from ._chunk import Chunk
from ._lifetime import COUNTED, Exporter
from ._options import DEFAULT_SIZE, Options, wants_debug
from ._region import Region, new_region
from ._reservation import Reservation, reserve

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _weakref import ref


def bump_region(
    size: int = DEFAULT_SIZE,
    *,
    name: str = "",
    escape: hints.Escape = "keep",
    wipe: bool = False,
    retain: int | None = None,
    debug: bool | None = None,
) -> Region:
    """Reserve address space and return a region that allocates from it.

    Use it in a `with` block, or call `close()`.

    Args:
        size: bytes to reserve. They cost no RAM before they are touched. Then it comes in steps: of a page for blocks
            in the first 4 MiB, of up to 2 MiB for others. What is not committed yet faults, when C strays there.
        name: shown in `repr` and in errors.
        escape: what happens at the close when something still points into the region: "keep" lets it keep
            the memory, "warn" also issues an EscapeWarning, "raise" also raises EscapeError.
        wipe: True zeroes what was used before it is given back or used again, for secrets: at the end of the region
            and of its scopes, and at a reset. What something still points into then is not wiped, nor are copies
            that Python made on the way. Core dumps leave such a region out, where the system can be told so (Linux).
        retain: bytes of pages that a reset keeps; what was used above goes back to the system then. None keeps all.
        debug: True puts a guard behind each block, so that C that goes past its end is found at the instruction, and
            says whose block it was; see `scopedbump.debug`. None: what SCOPEDBUMP_DEBUG says (1 is True).

    Raises:
        TypeError, ValueError: size is no int, or not from 1 to sys.maxsize; escape is none of the three; retain is
            no int, or negative.
        ReserveError: the operating system has no such range, or a limit (RLIMIT_AS) forbids it.
    """
    size = checked_int(size, "size", 1)
    if retain is not None:
        retain = checked_int(retain, "retain", 0)
    options = Options(checked_name(name), checked_escape(escape), bool(wipe), retain, wants_debug(debug))
    # Imported with the first region, as `Region.array` needs it: a signal in the middle of an import breaks it for its
    # handler. Not with this module, for it takes as long as all the rest.
    import array  # noqa: F401  # pyright: ignore[reportUnusedImport]

    if options.debug:
        from ._debug._memory import DebugOwn

        return new_region(DebugOwn(options.name).reserve(size, options.secret), options)
    return new_region(_own.reserve(size, options.secret), options)


class _Own:
    """The tenure of a region that belongs to no pool: the memory is its own, and goes with the last that points in."""

    __slots__ = ()

    def reserve(self, size: int, secret: bool) -> Chunk:
        reservation, mapping = reserve(size, secret)
        return Chunk(reservation, Exporter(reservation.address, size, mapping), self)

    def renew(self, reservation: Reservation) -> Chunk:
        return self.reserve(reservation.size, reservation.secret)

    def outlast(self, views: list[memoryview], exporter: Exporter | None) -> None:
        if not COUNTED and exporter is not None:  # there ctypes and others keep a view as an object, and no more
            _views.outlast(views, exporter.anchor)

    def end(self, chunk: Chunk, exporter: Exporter | None) -> ref[object] | None:
        return chunk.kept


_own = _Own()

bump_region.__module__ = "scopedbump"
