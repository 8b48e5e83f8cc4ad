"""The signal handler of Linux, on x86-64 and arm64."""

from __future__ import annotations

import mmap
import os
import signal
import struct
import sys
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

from .._lifetime import ADDRESS, CHAR_POINTER, ffi
from . import _machine
from ._code import Linker
from ._faults import callback
from ._signals_abi import ffi as abi

assert sys.platform != "win32"  # for type checkers, which look at this file on every platform

if TYPE_CHECKING:
    from collections.abc import Callable

    class _LibC(Protocol):
        def sigaction(self, number: int, action: int, former: int, /) -> int: ...
        def mprotect(self, address: int, size: int, protection: int, /) -> int: ...


NUMBERS: Final = (signal.SIGSEGV, signal.SIGBUS)
_TABLE_BYTES = 1 << 16

# struct sigaction of glibc and musl on 64-bit machines: the handler, 128 bytes of mask, flags, a restorer.
# glibc/sysdeps/unix/sysv/linux/bits/sigaction.h, musl/include/signal.h
_ACTION_BYTES: Final = 152
_FLAGS_AT: Final = 136
_SA_SIGINFO, _SA_ONSTACK = 4, 0x08000000  # linux/include/uapi/asm-generic/signal-defs.h


def _write_x86_64(context: int) -> bool | None:
    """Bit 1 of the page fault's error code: gregs[REG_ERR], the 20th word behind the 40 bytes before uc_mcontext.

    linux/arch/x86/include/asm/trap_pf.h, glibc/sysdeps/unix/sysv/linux/x86/sys/ucontext.h
    """
    return bool(_word(context + 40 + 8 * 19) & 2)


def _write_arm64(context: int) -> bool | None:
    """Bit 6 (WnR) of the syndrome, in the record of that kind among those behind the registers.

    linux/arch/arm64/include/uapi/asm/sigcontext.h: struct esr_context; arch/arm64/include/asm/esr.h
    """
    at = context + 464
    for _ in range(32):
        magic, size = struct.unpack("2I", ffi.buffer(ffi.cast(CHAR_POINTER, at), 8)[:])
        if magic == 0x45535201:
            return bool(_word(at + 8) & 0x40)
        if not size:
            break
        at += size
    return None


# The program counter: gregs[REG_RIP], the 17th word behind the 40 bytes before uc_mcontext; sigcontext.pc of arm64.
_COUNTER_AT: Final = {"x86_64": 40 + 8 * 16, "aarch64": 440}
_WRITES = {"x86_64": _write_x86_64, "aarch64": _write_arm64}


def _word(address: int) -> int:
    number: int = struct.unpack("Q", ffi.buffer(ffi.cast(CHAR_POINTER, address), 8)[:])[0]
    return number


class Signals:
    """Handles SIGSEGV and SIGBUS.

    Attributes:
        table: the ranges that are ours.
    """

    def __init__(self, fault: Callable[[int, int], bool]) -> None:
        system, _, _, _, machine = os.uname()
        if system != "Linux" or machine not in _machine.CODE:
            raise NotImplementedError(f"there is no fault handler for {system} on {machine}")
        self._code = _machine.CODE[machine]
        self.wrote = _WRITES[machine]
        self.table = _machine.Table(_TABLE_BYTES)

        def handle(number: int, info: int, context: int) -> int:
            return fault(_word(info + 16), context)

        self._callback = callback("int(*)(int, uintptr_t, uintptr_t)", handle)
        libc = abi.dlopen(None)
        self._sigaction = cast("_LibC", libc).sigaction
        self._mprotect = cast("_LibC", libc).mprotect
        self._linker = Linker(cast("Any", libc))
        self._counter_at = _COUNTER_AT[machine]
        self._functions = tuple(_machine.address_of(abi.addressof(libc, name)) for name in ("signal", "raise"))
        self._ours: dict[int, int] = dict.fromkeys(NUMBERS, -1)
        self.on_top()

    def instruction(self, context: int) -> str:
        """Which instruction it was, in words; "" when that is not known."""
        return self._linker.told(_word(context + self._counter_at))

    def on_top(self) -> None:
        """Come first, whoever came meanwhile."""
        seen = bytearray(_ACTION_BYTES)  # of this call alone: other threads look at the same time
        address = int(ffi.cast(ADDRESS, ffi.from_buffer(seen)))
        for number in NUMBERS:
            self._sigaction(number, 0, address)
            (former,) = struct.unpack_from("Q", seen)
            if former != self._ours[number]:
                self._go_over(number, former)

    def _protect(self, address: int, size: int) -> int:
        return abi.errno if self._mprotect(address, size, mmap.PROT_READ | mmap.PROT_EXEC) else 0

    def _go_over(self, number: int, former: int) -> None:
        address = _machine.address_of(self._callback)
        words = (self.table.address, address, former if former > 1 else 0, *self._functions)
        entry = _machine.place(self._code, words, self._protect)
        action = bytearray(_ACTION_BYTES)
        struct.pack_into("Q", action, 0, entry)
        struct.pack_into("i", action, _FLAGS_AT, _SA_SIGINFO | _SA_ONSTACK)
        self._ours[number] = entry
        self._sigaction(number, int(ffi.cast(ADDRESS, ffi.from_buffer(action))), 0)
