"""Pools that come from other processes: one here for each that was sent, however often it comes.

A pool is known by a key that is made with it and goes where it goes. Whoever unpickles a pool gets the one that has
this key here: the pool itself in its own process (and, by a fork, in its children), else one that is made by the same
arguments.

A pool that came from elsewhere is often referred to by nothing but the task that it came with, and would be cold again
for the next task. So the last ones that came are kept, as many as `KEPT`: enough for all pools of a program, and a
worker that outlives many programs does not fill up with theirs. Pools that were made here are not kept.

Nothing takes a lock. Each step is one operation of a dict or a deque, and a thread that loses a race takes the pool of
the one that won.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from os import urandom
from typing import TYPE_CHECKING, Any, Final
from weakref import ref

if TYPE_CHECKING:
    from ._pool import RegionPool

KEPT: Final = 8
"""How many pools that came from other processes stay, though nobody refers to them."""

_known: dict[bytes, ref[RegionPool]] = {}
_kept: deque[RegionPool] = deque(maxlen=KEPT)


def new_key(pool: RegionPool) -> bytes:
    """A key that no other pool has, in any process; the pool is known by it from now on."""
    key = urandom(16)
    _known[key] = _reference(pool, key)
    return key


def arrived(
    key: bytes,
    size: int,
    max_idle: int | None,
    retain: int | None,
    max_out: int | None,
    name: str,
    wipe: bool,
    debug: bool,
    closed: bool,
) -> RegionPool:
    """What a pickle of a pool says to call: this process's own pool."""
    from ._pool import RegionPool

    def make() -> RegionPool:
        pool = RegionPool(size, max_idle=max_idle, retain=retain, max_out=max_out, name=name, wipe=wipe, debug=debug)
        if closed:
            pool.close()
        return pool

    return _arrive(key, make)


def _arrive(key: bytes, make: Callable[[], RegionPool]) -> RegionPool:
    """The pool with this key here, made now if there is none."""
    pool = _find(key)
    if pool is None:
        pool = _settle(key, make())
        if pool not in _kept:
            _kept.append(pool)
    return pool


def _find(key: bytes) -> RegionPool | None:
    reference = _known.get(key)
    return None if reference is None else reference()


def _settle(key: bytes, new: RegionPool) -> RegionPool:
    """Make a new pool the one with this key, but for one that another thread was faster with."""
    while True:
        found = _known.setdefault(key, _reference(new, key))()
        if found is not None:
            if found is new:
                _known.pop(new._key, None)
                new._key = key
            return found
        _known.pop(key, None)  # it died a moment ago


def _reference(pool: RegionPool, key: bytes) -> ref[RegionPool]:
    # Called with the reference, which pop takes for what to return when the key is gone: all of it is C.
    forget: Callable[[Any], object] = partial(_known.pop, key)
    return ref(pool, forget)
