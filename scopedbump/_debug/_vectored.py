"""The vectored exception handler of Windows, on x86-64."""

from __future__ import annotations

import platform
import struct
import sys
from faulthandler import is_enabled
from typing import TYPE_CHECKING, Final, Protocol, cast

from .._lifetime import ADDRESS, CHAR_POINTER, ffi
from . import _machine
from ._faults import callback
from ._vectored_abi import ffi as abi

if TYPE_CHECKING:
    from collections.abc import Callable

    class _Kernel32(Protocol):
        def AddVectoredExceptionHandler(self, first: int, handler: int, /) -> int: ...  # noqa: N802  # Microsoft's
        def RemoveVectoredExceptionHandler(self, handle: int, /) -> int: ...  # noqa: N802
        def VirtualProtect(self, address: int, size: int, protect: int, former: int, /) -> int: ...  # noqa: N802


_TABLE_BYTES = 1 << 16
# winnt.h and excpt.h
_PAGE_EXECUTE_READ: Final = 0x20
_CONTINUE_EXECUTION, _CONTINUE_SEARCH = -1, 0
_INFORMATION_AT: Final = 32
"""EXCEPTION_RECORD.ExceptionInformation: 0 for a read, 1 for a write, and then the address."""


def _word(address: int) -> int:
    number: int = struct.unpack("Q", ffi.buffer(ffi.cast(CHAR_POINTER, address), 8)[:])[0]
    return number


class Vectored:
    """Handles access violations.

    Attributes:
        table: the ranges that are ours.
    """

    def __init__(self, fault: Callable[[int, int], bool]) -> None:
        if platform.machine() not in ("AMD64", "x86_64") or sys.maxsize < 1 << 32:
            raise NotImplementedError(f"there is no fault handler for Windows on {platform.machine()}")
        self.table = _machine.Table(_TABLE_BYTES)

        def handle(pointers: int) -> int:
            record = _word(pointers)
            goes_on = fault(_word(record + _INFORMATION_AT + 8), record)
            return _CONTINUE_EXECUTION if goes_on else _CONTINUE_SEARCH

        self._callback = callback("int(*)(uintptr_t)", handle)
        kernel32 = self._kernel32 = cast("_Kernel32", abi.dlopen("kernel32.dll"))
        self._former = ffi.new("char[]", 4)
        words = self.table.address, _machine.address_of(self._callback)
        self._entry = _machine.place(_machine.WINDOWS, words, self._protect)
        self._faulthandler = is_enabled()
        self._handle = kernel32.AddVectoredExceptionHandler(1, self._entry)

    def _protect(self, address: int, size: int) -> int:
        former = int(ffi.cast(ADDRESS, self._former))
        return 0 if self._kernel32.VirtualProtect(address, size, _PAGE_EXECUTE_READ, former) else 13  # EACCES

    def on_top(self) -> None:
        """Come first, if faulthandler put its own handler there meanwhile."""
        enabled = is_enabled()
        if enabled is not self._faulthandler:
            self._faulthandler = enabled
            self._kernel32.RemoveVectoredExceptionHandler(self._handle)
            self._handle = self._kernel32.AddVectoredExceptionHandler(1, self._entry)

    def instruction(self, context: int) -> str:
        """Not known."""
        return ""

    def wrote(self, context: int) -> bool | None:
        """Whether the access was a write."""
        return _word(context + _INFORMATION_AT) == 1
