"""Arrays in a region, and NumPy's own temporaries."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any

from ... import _atomic, bump_region
from .. import text
from ..measure import Sides, UnavailableError, loop
from . import row

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# From here on a handler serves an array itself; below, it hands over to NumPy's default.
_SIZES = {
    4 << 10: None,
    64 << 10: 1.1,
    128 << 10: 1.1,
    256 << 10: 1.1,
    512 << 10: 1.1,
    1 << 20: 0.5,
    4 << 20: 1.1,
    16 << 20: 1.1,
    64 << 20: 1.1,
}


def _temporaries(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    # Ten operations, each of which makes an array; existing code is written like this.
    first = (x + y) * (x - y)
    second = (x * y) + (y * y)
    third = first - second
    return (third + x) * (second - y)


def _handled(size: int, times: int = 1) -> Generator[Sides]:
    import numpy as np

    from ... import RegionPool

    if not _atomic.atomic:
        raise UnavailableError("NumPy's allocator can be a region only on CPython with a GIL")
    x = np.linspace(0.0, 1.0, size // 8)
    y = x + 1.0

    def work() -> None:
        for _ in range(times):
            _temporaries(x, y)

    room = times * 12 * size + (1 << 20)
    with RegionPool(room, retain=room) as pool:
        ours = loop("with pool.region() as a, a.numpy.handler(): work()", pool=pool, work=work)
        yield Sides(ours, loop("work()", work=work))


def _add(size: int, most: float | None) -> None:
    @row(f"ten NumPy temporaries of {text.size(size)} under handler (pool)", "the same without", most)
    def handled() -> Generator[Sides]:
        yield from _handled(size)


for _size, _most in _SIZES.items():
    _add(_size, _most)


@row("a hundred NumPy temporaries of 4.0 KiB under handler (pool)", "the same without")
def many_small() -> Generator[Sides]:
    yield from _handled(4 << 10, 10)


@row("a hundred NumPy temporaries of 64.0 KiB under handler (pool)", "the same without", 1.1)
def many_medium() -> Generator[Sides]:
    yield from _handled(64 << 10, 10)


@row("a.numpy.empty(8)", "numpy.empty(8)")
def empty() -> Generator[Sides]:
    import numpy as np

    with bump_region() as a:
        ours = loop("n.empty(8)", first="a.reset(); n = a.numpy", a=a)
        yield Sides(ours, loop("empty(8)", empty=np.empty))


@row("a.numpy.zeros of 1 MiB, written, in a pool", "numpy.zeros of 1 MiB, written")
def zeros() -> Generator[Sides]:
    import numpy as np

    from ... import RegionPool

    names: dict[str, Any] = {"shape": 1 << 17}
    with RegionPool() as pool:
        ours = loop("with pool.region() as a: a.numpy.zeros(shape).fill(1.0)", pool=pool, **names)
        yield Sides(ours, loop("zeros(shape).fill(1.0)", zeros=np.zeros, **names))
