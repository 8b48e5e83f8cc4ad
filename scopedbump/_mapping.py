"""A mapping: an object whose death gives its address space back.

It is a cffi pointer with a destructor in C from end to end: nothing can interrupt it, and no range goes twice or never
(3).
"""

from __future__ import annotations

import sys
from _operator import not_
from itertools import compress, starmap

from ._errors import ReserveError
from ._layout import SMALL_PAGES, round_up
from ._lifetime import CHAR_POINTER, ffi

try:
    from _functools import partial  # functools itself takes longer to import than all of scopedbump
except ImportError:  # PyPy
    from functools import partial

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from _cffi_backend import CData

    from ._pages import Pages

_refused: list[tuple[list[int], int, Pages]] = []


def map_range(size: int, pages: Pages) -> tuple[int, CData]:
    """Take address space: where it is, and the mapping, which keeps it. A large range begins where a huge page may.

    Raises:
        ReserveError: the operating system refused.
    """
    _offer_again()
    length = round_up(size, pages.granularity)
    huge = pages.huge_size
    if huge and size > SMALL_PAGES:
        try:
            address, mapping = _map(length + huge, pages)
            return round_up(address, huge), mapping
        except ReserveError:
            pass  # a limit may leave just what is needed
    return _map(length, pages)


def _map(length: int, pages: Pages) -> tuple[int, CData]:
    taken: list[int] = []
    give_back = _giver_back(taken, length, pages)  # made before there is anything that could be lost
    try:
        pages.reserve(length, taken)
        return taken[0], ffi.gc(ffi.cast(CHAR_POINTER, taken[0]), give_back)
    except BaseException:  # of a signal handler, or because no stack is left
        if taken:
            give_back(None)
        raise


def _offer_again() -> None:
    """Give back what the system refused to take back, as it does with too many mappings."""
    for _ in range(len(_refused)):
        taken, length, pages = _refused.pop()
        _giver_back(taken, length, pages)(None)


def _giver_back(taken: list[int], length: int, pages: Pages) -> Callable[[object], object]:
    """What gives the address space back whose address is in the list: once, however often it is called.

    A chain of iterators, each of which asks the one before it for its only item: is the interpreter going on? (when it
    shuts down, the process gives all back in a moment); then the address; then the system call; then, where that was
    refused, an entry in `_refused`.
    """
    going_on = map(not_, starmap(sys.is_finalizing, ((),)))
    refused = compress(((taken, length, pages),), pages.release(compress(iter(taken), going_on), length))
    return partial(next, map(_refused.append, refused))
