"""C libraries with malloc and with a region's hooks: `python tests/bench/libraries.py [--quick]`.

A typical job of each: how often it allocates, and how long it takes, both in turn, the best of many. With malloc the
objects are freed at the end; with hooks a scope of a warm region ends instead.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from helpers.hook_libraries import LIBRARIES, Library, endings, ffi
from scopedbump import Region, bump_region
from scopedbump._adapters import _hook_slots as slots
from scopedbump._cli import figures


def with_malloc(library: Library, lib: Any) -> float:
    """Seconds of a job with the library's own allocator."""
    start = time.perf_counter()
    library.job(lib, None)
    while endings:
        endings.pop()()
    return time.perf_counter() - start


def with_hooks(library: Library, lib: Any, a: Region) -> float:
    """Seconds of a job in a scope."""
    start = time.perf_counter()
    with a.scope() as scope:
        library.job(lib, scope.cffi(ffi).hooks())
    return time.perf_counter() - start


def allocations(library: Library, lib: Any, a: Region) -> int:
    """How often a job allocates."""
    count = 0

    def counted(kind: type[slots.Slot]) -> Any:
        serve = kind.serve

        def serve_counted(self: slots.Slot, *arguments: int) -> int:
            nonlocal count
            count += 1
            return serve(self, *arguments)

        return serve_counted

    kinds: tuple[type[slots.Slot], ...] = slots.Allocating, slots.Reallocating
    own = {kind: kind.serve for kind in kinds}
    slots._idle.clear()  # new callbacks, that count
    for kind in kinds:
        kind.serve = counted(kind)  # type: ignore[method-assign]
    try:
        with_hooks(library, lib, a)
    finally:
        for kind, serve in own.items():
            kind.serve = serve  # type: ignore[method-assign]
        slots._idle.clear()
    return count


def main(quick: bool) -> None:
    """The table."""
    rows: list[tuple[str, ...]] = []
    with bump_region() as a:
        for library in LIBRARIES:
            lib = library.open()
            if lib is None:
                rows.append((library.name, "not here", "", "", "", ""))
                continue
            count = allocations(library, lib, a)
            malloc = hooks = 1e9
            for _ in range(1 if quick else 30):
                malloc = min(malloc, with_malloc(library, lib))
                hooks = min(hooks, with_hooks(library, lib, a))
            with a.scope() as scope:
                library.job(lib, scope.cffi(ffi).hooks())
                used = scope.used
            rows.append(
                (
                    library.name,
                    f"{count:,}",
                    figures.size(used),
                    figures.duration(malloc),
                    figures.duration(hooks),
                    f"{hooks / malloc:.2f}",
                )
            )
    print(figures.table([("library", "allocations", "memory", "malloc", "hooks", "ratio"), *rows]))


if __name__ == "__main__":
    main("--quick" in sys.argv)
