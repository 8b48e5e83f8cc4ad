"""`python -m scopedbump demo [FILE]`: a region at work, in figures of this machine, in a few seconds."""

import timeit
from argparse import Namespace
from collections.abc import Callable
from io import BytesIO, FileIO

from .. import DEFAULT_SIZE, OverrunError, RegionPool, __version__, bump_region, debug
from .figures import duration, size, table
from .info import memory

_MIB = 1 << 20
_ROUNDS = 100
_OVERRUN = """\
import ctypes

with bump_region(name="demo", debug=True) as region:
    block = region.alloc(16)
    ctypes.memmove(region.address(block), b"x" * 20, 20)
"""


def run(chosen: Namespace) -> int:
    """Do it all with the file that was named, or with one in memory."""
    with FileIO(chosen.file) if chosen.file else BytesIO(b"some real input " * (_MIB // 16)) as file:
        print(f"scopedbump {__version__}")
        _requests(file)
    print(f"\n{size(DEFAULT_SIZE)} of address space, and the RAM that is touched, given back at the end:\n")
    print(memory({"a region is open": 0, "64 MiB are written": 64 * _MIB}))
    _overrun()
    return 0


def _requests(file: FileIO | BytesIO) -> None:
    def request(alloc: Callable[[int], memoryview]) -> None:
        body, message, answer = alloc(_MIB), alloc(_MIB + 16), alloc(_MIB + 16)
        file.seek(0)
        count = file.readinto(body)
        message[16 : 16 + count] = body[:count]  # behind a header
        answer[: len(message)] = message

    def bytearrays() -> None:
        request(lambda count: memoryview(bytearray(count)))

    def region() -> None:
        with pool.region() as a:  # each is written before it is read, so it need not be cleared
            request(lambda count: a.alloc(count, zero=False))

    rows = [("scratch memory from", "time")]
    with RegionPool(debug=False) as pool:  # whatever SCOPEDBUMP_DEBUG says: it is measured
        for when in ("", ", later"):
            for name, way in (("bytearrays", bytearrays), ("a region of a pool", region)):
                rows.append((name + when, duration(min(timeit.repeat(way, number=1, repeat=_ROUNDS)))))
            for mib in (1, 2, 4, 8, 16, 30):  # after which glibc's malloc gives less back to the system
                bytearray(mib << 20)
    print("\nA request reads 1 MiB of a file and makes its answer in two more buffers (best of many; later: after this")
    print(f"process has freed blocks of up to 30 MiB, which changes what malloc does):\n\n{table(rows)}")


def _overrun() -> None:
    print(f"\nC is told to write 20 bytes into a block of 16, in a debug region:\n\n{_OVERRUN}")
    try:
        before = debug.on_fault("go_on")
    except NotImplementedError as refusal:
        print(f"That can't be told here, where it is a segmentation fault: {refusal}")
        return
    try:
        exec(compile(_OVERRUN, "demo.py", "exec"), {"__name__": "demo", "bump_region": bump_region})
    except OverrunError as error:
        print(error)
    finally:
        debug.on_fault(before)
