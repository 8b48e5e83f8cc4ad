"""Zeros: memory that was used is cleared, in the way that is fastest for so many bytes.

What was never written is zero by itself, and is not touched (2, 6).
"""

from __future__ import annotations

from struct import pack_into

from ._bytecode import cpython
from ._layout import LARGE_CLEAR, WINDOW

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ._reservation import Reservation

ZEROS = memoryview(bytes(WINDOW))

_BY_PYTHON = LARGE_CLEAR if cpython else WINDOW
"""Bytes, at most, that are cleared without calling the C library. Such a call gives the GIL away, and in a process with
threads to have it back takes longer than to clear so much. PyPy packs byte by byte, and copies zeros instead."""


def clear(reservation: Reservation, view: memoryview, start: int, stop: int) -> None:
    """Zero what may have been written of view[start:stop], which is committed and the caller's alone."""
    if reservation.dirty < stop:
        stop = reservation.dirty
    if start + _BY_PYTHON < stop:
        clear_large(reservation, start, stop)
    elif start < stop and cpython:
        pack_into(f"{stop - start}x", view, start)  # pad bytes: one memset
    elif start < stop:
        view[start:stop] = ZEROS[: stop - start]


def clear_large(reservation: Reservation, start: int, stop: int) -> None:
    """The same by the C library. Large stretches are not touched where nobody wrote."""
    pages = reservation.pages
    address = reservation.address
    if stop - start < LARGE_CLEAR or stop <= reservation.backed:
        pages.clear(address + start, stop - start)
        return
    found = reservation.touched(start, stop)
    for first, last in found:
        pages.clear(address + first, last - first)
    # To ask costs a tenth of clearing, so it is not asked twice. What is short is cleared without asking anyway.
    if start < reservation.backed + LARGE_CLEAR and found == [(start, stop)]:
        reservation.backed = stop
