"""`python -m scopedbump info`: the system, the limits, and what a default region costs here."""

from __future__ import annotations

import time

from .. import DEFAULT_SIZE, __version__, bump_region
from . import facts, process, text

_ROUNDS = 200
_MIB = 1 << 20


def run() -> int:
    """Print it all."""
    print(f"scopedbump {__version__}\n")
    print(text.table([*facts.machine().items(), *facts.limits().items()], left=2))
    print(f"\na default region ({text.size(DEFAULT_SIZE)}), measured now\n")
    print(text.table([("", "reserved", "committed", "resident"), *_steps()]))
    print(f"\nopened and closed in {text.duration(_open_and_close())} (best of {_ROUNDS})")
    return 0


def _steps() -> list[tuple[str, str, str, str]]:
    before = process.resident()
    before = process.resident()  # what asking costs is paid by now

    def more() -> str:
        now = process.resident()
        return "unknown" if now is None or before is None else text.size(max(now - before, 0))

    with bump_region() as region:
        opened = ("open", text.size(region.size), text.size(region.committed), more())
        block = region.alloc(64)
        block[0] = 1
        first = ("64 bytes used", text.size(region.size), text.size(region.committed), more())
        region.copy(bytes(_MIB))
        used = ("and 1 MiB more", text.size(region.size), text.size(region.committed), more())
    return [opened, first, used, ("closed", "0 B", "0 B", more())]


def _open_and_close() -> float:
    best = float("inf")
    for _ in range(_ROUNDS):
        start = time.perf_counter()
        bump_region().close()
        best = min(best, time.perf_counter() - start)
    return best
