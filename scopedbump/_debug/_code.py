"""Which library an instruction belongs to, and which function, as far as the dynamic linker knows."""

from __future__ import annotations

import os
import struct
import sys
from typing import TYPE_CHECKING, Protocol

from .._lifetime import ADDRESS, CHAR_POINTER, ffi

if TYPE_CHECKING:
    from collections.abc import Callable

    class _Linker(Protocol):
        @property
        def dladdr(self) -> Callable[[int, int], int]: ...


_DL_INFO = "4Q"  # dli_fname, dli_fbase, dli_sname, dli_saddr of Dl_info (glibc and musl dlfcn.h)


class Linker:
    """Asks the dynamic linker of POSIX.

    Args:
        library: what cffi found `dladdr` in, if it is there.
    """

    def __init__(self, library: _Linker) -> None:
        try:
            self._ask: Callable[[int, int], int] | None = library.dladdr
        except AttributeError:  # glibc before 2.34 has it in another library
            self._ask = None

    def told(self, instruction: int) -> str:
        """An instruction as "library+0x12 (function+0x3)"; "" where that is not known."""
        info = bytearray(struct.calcsize(_DL_INFO))
        if self._ask is None or not self._ask(instruction, int(ffi.cast(ADDRESS, ffi.from_buffer(info)))):
            return ""
        path, base, name, start = struct.unpack(_DL_INFO, info)
        function = f" ({_text(name)}+{instruction - start:#x})" if name else ""
        return f"{os.path.basename(_text(path))}+{instruction - base:#x}{function}"  # noqa: PTH119  # a str of C's


def _text(address: int) -> str:
    text = ffi.string(ffi.cast(CHAR_POINTER, address))
    return text if isinstance(text, str) else text.decode(sys.getfilesystemencoding(), "replace")
