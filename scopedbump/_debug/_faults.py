"""Faults in the ranges of debug regions: which they are, what they mean, and how the program goes on.

The machine code of `_machine` asks `_fault` only for what lies in a range that is watched. Each time a region is opened
it is looked whether somebody else has put a handler over ours since (`faulthandler.enable()`). Then another one goes
over that: each has its own former handler, so that a fault that nobody wants goes down through all of them, as it would
without us, and none comes twice.
"""

from __future__ import annotations

import atexit
import os
import sys
from faulthandler import is_enabled
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

from .._lifetime import ffi
from . import _call_sites, _findings, _machine

if TYPE_CHECKING:
    from collections.abc import Callable

    from _cffi_backend import CData

    from ._memory import DebugReservation

Policy: TypeAlias = Literal["die", "go_on"]

watched: list[DebugReservation] = []
"""The reservations of open debug regions, of those that something still points into, and those in quarantine."""


class State:
    """What becomes of a fault.

    Attributes:
        faulthandler: whether it was enabled when it was last looked.
        policy: "die" or "go_on".
        handler: what handles signals; None where that can't be, or was not tried.
        refusal: why it can't be.
    """

    policy: Policy = "die"
    handler: Handler | None = None
    refusal: str = ""
    faulthandler: bool = False


class Handler(Protocol):
    """What gets faults from the operating system."""

    table: _machine.Table

    def on_top(self) -> None:
        """Come first, whoever came meanwhile."""

    def instruction(self, context: int) -> str:
        """Which instruction it was, in words; "" when that is not known."""
        ...

    def wrote(self, context: int) -> bool | None:
        """Whether the access was a write; None when that is not known."""


def watch(reservation: DebugReservation) -> None:
    """Explain faults in this range from now on."""
    handler = find_handler()
    watched.append(reservation)
    look_again()
    if handler is not None:
        handler.table.add(reservation.ledger.start, reservation.ledger.stop)


def unwatch(reservation: DebugReservation) -> None:
    """Its addresses may be somebody else's soon."""
    if State.handler is not None:
        State.handler.table.remove(reservation.ledger.start)
    try:
        watched.remove(reservation)
    except ValueError:
        return


def look_again(always: bool = True) -> None:
    """See to it that faults come here first; without `always`, if faulthandler was enabled or disabled meanwhile."""
    enabled = is_enabled()
    if State.handler is not None and (always or enabled is not State.faulthandler):
        State.faulthandler = enabled
        State.handler.on_top()


def find_handler() -> Handler | None:
    """What gets faults, made when it is first asked for. None where there is none: `State.refusal` says why."""
    if State.handler is None and not State.refusal:
        State.handler = _install()
    return State.handler


def _install() -> Handler | None:
    try:
        if sys.implementation.name != "cpython":
            raise NotImplementedError("only CPython lets a fault handler run Python anywhere")
        if sys.platform == "win32":
            from ._vectored import Vectored

            return Vectored(_fault)
        else:  # noqa: RET505  # type checkers for Windows do not look here
            from ._signals import Signals

            return Signals(_fault)
    except (OSError, NotImplementedError, MemoryError) as refusal:
        State.refusal = str(refusal)
        return None


def reservation_of(address: int) -> DebugReservation | None:
    """The watched range in which an address lies."""
    for reservation in tuple(watched):
        if reservation.ledger.start <= address < reservation.ledger.stop:
            return reservation
    return None


def _fault(address: int, context: int) -> bool:
    """Note what happened at an address; whether the program goes on."""
    reservation = reservation_of(address)
    handler = State.handler
    if reservation is None or handler is None:
        return False
    stack = _call_sites.stack_of(sys._getframe(1))
    around = reservation.ledger.around(address)
    by = _findings.By(stack, handler.instruction(context))
    finding, life = _findings.of_fault(address, handler.wrote(context), around, by)
    _findings.note(finding, life)
    if State.policy == "go_on" and reservation.open_up(address):
        return True
    os.write(2, f"scopedbump: {finding.text}\n".encode(errors="backslashreplace"))
    return False


def callback(declaration: str, function: Callable[..., int]) -> CData:
    """A C function that runs Python; 0 when that raises.

    Raises:
        OSError: this system allows no memory to become executable.
    """
    try:
        made: CData = ffi.callback(declaration, function, error=0)
    except (MemoryError, SystemError, OSError) as refusal:
        raise OSError(f"callbacks into Python can't be made here: {refusal}") from None
    return made


@atexit.register
def _retire() -> None:
    """From here on there is no Python to ask."""
    if State.handler is not None:
        State.handler.table.clear()
