"""Scratch memory with a lifetime you can see.

`with bump_region() as a:` reserves address space; `a.alloc(n)` moves a cursor; the end of the block gives
everything back. Whatever still points into the region then is either revoked or keeps its memory.
"""

from scopedbump._allocator import Allocator as Allocator
from scopedbump._allocator import HeapAllocator as HeapAllocator
from scopedbump._allocator import heap as heap
from scopedbump._current import current_region as current_region
from scopedbump._errors import CommitError as CommitError
from scopedbump._errors import EscapeError as EscapeError
from scopedbump._errors import EscapeWarning as EscapeWarning
from scopedbump._errors import NoRegionError as NoRegionError
from scopedbump._errors import RegionBusyError as RegionBusyError
from scopedbump._errors import RegionClosedError as RegionClosedError
from scopedbump._errors import RegionFullError as RegionFullError
from scopedbump._errors import ReserveError as ReserveError
from scopedbump._errors import ScopedBumpError as ScopedBumpError
from scopedbump._pool import PoolStats as PoolStats
from scopedbump._pool import RegionPool as RegionPool
from scopedbump._region import DEFAULT_SIZE as DEFAULT_SIZE
from scopedbump._region import Escape as Escape
from scopedbump._region import Region as Region
from scopedbump._region import bump_region as bump_region

__all__ = [
    "DEFAULT_SIZE",
    "Allocator",
    "CommitError",
    "Escape",
    "EscapeError",
    "EscapeWarning",
    "HeapAllocator",
    "NoRegionError",
    "PoolStats",
    "Region",
    "RegionBusyError",
    "RegionClosedError",
    "RegionFullError",
    "RegionPool",
    "ReserveError",
    "ScopedBumpError",
    "bump_region",
    "current_region",
    "heap",
]

__version__ = "0.1.0"
