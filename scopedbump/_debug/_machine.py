"""The first instructions of a signal handler: is this fault ours?

What decides that must not be Python. A fault may come while this thread has no stack left, or while another one holds
the GIL and waits for this one, or in the middle of Python itself. So a few instructions compare the address with a
table of ranges, and jump on to whoever handled the signal before, with the very same registers. Only a fault in a debug
region's range gets into Python, on the stack that was interrupted: an alternate one (faulthandler's has 16 KiB) is too
small for that.

The code below is what the assembler makes of the text above it; the words behind it are data: where the table is, the
callback, the former handler (0: the default), and the functions `signal` and `raise`. A test assembles it again.

Offsets: siginfo_t si_code 8, si_addr 16 (linux/include/uapi/asm-generic/siginfo.h); ucontext_t uc_stack.ss_sp 16 and
.ss_size 32 (asm-generic/ucontext.h); the stack pointer: of x86-64 gregs[REG_RSP] at 160
(arch/x86/include/uapi/asm/sigcontext.h), of arm64 sigcontext.sp at 432 (arch/arm64/include/uapi/asm/sigcontext.h).
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from .. import _pages
from .._layout import round_up
from .._lifetime import ADDRESS, CHAR_POINTER, ffi

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

X86_64_SOURCE: Final = """
    endbr64
    cmp dword ptr [rsi+8], 0
    jle former
    mov rax, [rsi+16]
    mov rcx, [rip+table]
next:
    mov r8, [rcx]
    test r8, r8
    jz former
    cmp rax, r8
    jb skip
    cmp rax, [rcx+8]
    jb ours
skip:
    add rcx, 16
    jmp next
ours:
    push rbp
    mov rbp, rsp
    push rdi
    push rsi
    push rdx
    push rdx
    mov r9, rsp
    sub r9, [rdx+16]
    cmp r9, [rdx+32]
    jae stay
    mov rsp, [rdx+160]
    sub rsp, 256
stay:
    and rsp, -16
    call [rip+callback]
    lea rsp, [rbp-32]
    pop rdx
    pop rdx
    pop rsi
    pop rdi
    pop rbp
    test eax, eax
    jnz done
former:
    mov rax, [rip+before]
    test rax, rax
    jz default
    jmp rax
default:
    push rdi
    push rsi
    push rdx
    xor esi, esi
    call [rip+signal]
    pop rdx
    pop rsi
    pop rdi
    cmp dword ptr [rsi+8], 0
    jg done
    jmp [rip+raise]
done:
    ret
    .balign 8, 0xcc
"""

X86_64: Final = bytes.fromhex(
    "f30f1efa837e08007e5e488b4610488b0d830000004c8b014d85c0744b4c39c07206483b410872064883c110ebe7554889e5575652524989"
    "e14c2b4a104c3b4a20730e488ba2a00000004881ec000100004883e4f0ff1545000000488d65e05a5a5e5f5d85c07528488b05390000004885"
    "c07402ffe057565231f6ff152f0000005a5e5f837e08007f06ff2528000000c3cccccccccccccc"
)

ARM64_SOURCE: Final = """
    ldr w9, [x1, #8]
    cmp w9, #0
    b.le former
    ldr x9, [x1, #16]
    ldr x10, table
next:
    ldp x11, x12, [x10]
    cbz x11, former
    add x10, x10, #16
    cmp x9, x11
    b.lo next
    cmp x9, x12
    b.hs next
    stp x29, x30, [sp, #-48]!
    mov x29, sp
    stp x0, x1, [sp, #16]
    str x2, [sp, #32]
    ldr x10, [x2, #16]
    ldr x11, [x2, #32]
    sub x10, x29, x10
    cmp x10, x11
    b.hs stay
    ldr x10, [x2, #432]
    sub x10, x10, #256
    and x10, x10, #0xfffffffffffffff0
    mov sp, x10
stay:
    ldr x9, callback
    blr x9
    mov w9, w0
    mov sp, x29
    ldp x0, x1, [sp, #16]
    ldr x2, [sp, #32]
    ldp x29, x30, [sp], #48
    cbnz w9, done
former:
    ldr x9, before
    cbz x9, default
    br x9
default:
    stp x29, x30, [sp, #-32]!
    stp x0, x1, [sp, #16]
    mov x1, #0
    ldr x9, signal
    blr x9
    ldp x0, x1, [sp, #16]
    ldp x29, x30, [sp], #32
    ldr w9, [x1, #8]
    cmp w9, #0
    b.gt done
    ldr x9, raise
    br x9
done:
    ret
    nop
"""

ARM64: Final = bytes.fromhex(
    "290840b93f010071ed030054290840f9ca0500584b3140a96b0300b44a4100913f010beb83ffff543f010ceb42ffff54fd7bbda9fd030091"
    "e00701a9e21300f94a0840f94b1040f9aa030acb5f010beba20000544ad840f94a0104d14aed7c925f0100916903005820013fd6e903002a"
    "bf030091e00741a9e21340f9fd7bc3a809020035a9020058490000b420011fd6fd7bbea9e00701a9010080d22902005820013fd6e00741a9"
    "fd7bc2a8290840b93f0100716c0000548901005820011fd6c0035fd61f2003d5"
)

WINDOWS_SOURCE: Final = """
    mov rdx, [rcx]
    cmp dword ptr [rdx], 0xC0000005
    jne no
    mov rax, [rdx+40]
    mov r9, [rip+table]
next:
    mov r8, [r9]
    test r8, r8
    jz no
    cmp rax, r8
    jb skip
    cmp rax, [r9+8]
    jb ours
skip:
    add r9, 16
    jmp next
ours:
    jmp [rip+callback]
no:
    xor eax, eax
    ret
    .balign 8, 0xcc
"""
"""For x86-64. It gets EXCEPTION_POINTERS; EXCEPTION_RECORD has its code at 0, the address touched at 40 (winnt.h)."""

WINDOWS: Final = bytes.fromhex(
    "488b11813a050000c0752a488b42284c8b0d220000004d8b014d85c074174c39c07206493b410872064983c110ebe7ff250b00000031c0c3"
)

CODE: Final = {"x86_64": X86_64, "aarch64": ARM64}
"""By machine, as `os.uname` names it."""


def place(code: bytes, words: Sequence[int], protect: Callable[[int, int], int]) -> int:
    """Where the code lies from now on, for good, with these words of data behind it.

    Args:
        code: machine code.
        words: what it reads behind its end.
        protect: makes memory, by address and size, readable and executable; 0, or the number of the error.

    Raises:
        OSError: this system allows no memory to become executable.
    """
    whole = code + struct.pack(f"{len(words)}Q", *words)
    pages = _pages.system_pages
    size = round_up(len(whole), pages.granularity)
    address = new_memory(size)
    ffi.buffer(ffi.cast(CHAR_POINTER, address), len(whole))[:] = whole
    number = protect(address, size)
    if number:
        any(pages.release(iter((address,)), size))
        raise OSError(number, "memory must not become executable here (PR_SET_MDWE, SELinux)")
    return address


def new_memory(size: int) -> int:
    """Zeroed memory that is never given back: signal handlers use it until the process is gone."""
    taken: list[int] = []
    _pages.system_pages.reserve(size, taken)
    _pages.system_pages.commit(taken[0], size)
    return taken[0]


class Table:
    """Ranges of addresses, for the code to compare with: pairs of start and stop, with a start of 0 behind the last.

    It may be read at any moment, so that each entry is written in such an order that it matches nothing meanwhile.
    """

    def __init__(self, size: int) -> None:
        self.address: int = new_memory(size)
        self._words = memoryview(ffi.buffer(ffi.cast(CHAR_POINTER, self.address), size)).cast("Q")
        self._slots: dict[int, int] = {}
        self._free = list(range(size - 32, -16, -16))

    def add(self, start: int, stop: int) -> bool:
        """Note a range; False when there is no room for more."""
        try:
            slot = self._free.pop() // 8
        except IndexError:
            return False
        self._words[slot] = start
        self._words[slot + 1] = stop
        self._slots[start] = slot
        return True

    def remove(self, start: int) -> None:
        """Forget the range that starts there."""
        slot = self._slots.pop(start, None)
        if slot is not None:
            self._words[slot + 1] = 0
            self._words[slot] = 1
            self._free.append(slot * 8)

    def clear(self) -> None:
        """Match nothing more."""
        for slot in range(1, len(self._words), 2):
            self._words[slot] = 0


def address_of(function: object) -> int:
    """Where a C function lies that cffi found."""
    return int(ffi.cast(ADDRESS, function))  # type: ignore[arg-type]  # a function of a library
