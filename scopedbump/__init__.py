"""Scratch memory with a lifetime you can see.

`with bump_region() as a:` reserves address space; `a.alloc(n)` moves a cursor; the end of the block gives
everything back. Whatever still points into the region then is either revoked or keeps its memory.

    bump_region, Region                       a region of your own; DEFAULT_SIZE, Escape
    RegionPool, current_region                warm regions, one for each request or call; PoolStats, OpenRegion
    Allocator, TypedAllocator                 what a library asks for
    heap, HeapAllocator                       what serves it without a region
    Writer                                    a block that grows in place
    CtypesAllocator, CffiAllocator            what `a.ctypes` and `a.cffi(ffi)` are; FFI, CData
    NumpyAllocator, NumpyHandler              what `a.numpy` and `a.numpy.handler()` are
    CtypesHooks, CffiHooks                    C libraries that allocate in a region
    scopedbump.debug, .pytest_plugin          debug regions: who wrote past which block
    scopedbump.asgi, .wsgi, .django, .flask, .aiohttp    middlewares
    ScopedBumpError                           the root of all errors:
        of a region      RegionFullError, RegionBusyError, RegionClosedError, EscapeError, EscapeWarning
        of the system    ReserveError, CommitError, CallbackRefusedError
        others           PoolFullError, NoRegionError, OverrunError

`help(scopedbump.Region)` and the like say more.
"""

# Nothing is imported before it is used: who imports a library that could use a region pays nothing for it.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from ._adapters._numpy_handler import NumpyHandler as NumpyHandler
    from ._adapters.cffi_ import FFI as FFI
    from ._adapters.cffi_ import CData as CData
    from ._adapters.cffi_ import CffiAllocator as CffiAllocator
    from ._adapters.ctypes_ import CtypesAllocator as CtypesAllocator
    from ._adapters.hooks import CffiHooks as CffiHooks
    from ._adapters.hooks import CtypesHooks as CtypesHooks
    from ._adapters.numpy_ import NumpyAllocator as NumpyAllocator
    from ._allocator import Allocator as Allocator
    from ._allocator import HeapAllocator as HeapAllocator
    from ._allocator import TypedAllocator as TypedAllocator
    from ._allocator import heap as heap
    from ._bump_region import bump_region as bump_region
    from ._current import current_region as current_region
    from ._errors import CallbackRefusedError as CallbackRefusedError
    from ._errors import CommitError as CommitError
    from ._errors import Escape as Escape
    from ._errors import EscapeError as EscapeError
    from ._errors import EscapeWarning as EscapeWarning
    from ._errors import NoRegionError as NoRegionError
    from ._errors import OverrunError as OverrunError
    from ._errors import PoolFullError as PoolFullError
    from ._errors import RegionBusyError as RegionBusyError
    from ._errors import RegionClosedError as RegionClosedError
    from ._errors import RegionFullError as RegionFullError
    from ._errors import ReserveError as ReserveError
    from ._errors import ScopedBumpError as ScopedBumpError
    from ._options import DEFAULT_SIZE as DEFAULT_SIZE
    from ._pool import RegionPool as RegionPool
    from ._pool_stats import OpenRegion as OpenRegion
    from ._pool_stats import PoolStats as PoolStats
    from ._region import Region as Region
    from ._writer import Writer as Writer

# What one begins with. `help` prints whole what stands here, which of all public names were 2,800 lines.
__all__ = ["DEFAULT_SIZE", "RegionPool", "bump_region", "current_region", "heap"]

__version__ = "0.2.0"

_FOUND_IN = {
    "_adapters.cffi_": ("FFI", "CData", "CffiAllocator"),
    "_adapters.ctypes_": ("CtypesAllocator",),
    "_adapters.hooks": ("CffiHooks", "CtypesHooks"),
    "_allocator": ("Allocator", "HeapAllocator", "TypedAllocator", "heap"),
    "_bump_region": ("bump_region",),
    "_current": ("current_region",),
    "_errors": (
        "CallbackRefusedError",
        "CommitError",
        "Escape",
        "EscapeError",
        "EscapeWarning",
        "NoRegionError",
        "OverrunError",
        "PoolFullError",
        "RegionBusyError",
        "RegionClosedError",
        "RegionFullError",
        "ReserveError",
        "ScopedBumpError",
    ),
    "_options": ("DEFAULT_SIZE",),
    "_pool": ("RegionPool",),
    "_pool_stats": ("OpenRegion", "PoolStats"),
    "_region": ("Region",),
    "_writer": ("Writer",),
}
_NEEDS_NUMPY = {"_adapters._numpy_handler": ("NumpyHandler",), "_adapters.numpy_": ("NumpyAllocator",)}


def _find(name: str) -> object:
    for module, names in (_FOUND_IN | _NEEDS_NUMPY).items():
        if name in names:
            value: object = getattr(__import__(f"{__name__}.{module}", fromlist=[name]), name)
            globals()[name] = value
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


if not TYPE_CHECKING:  # type checkers know the names that there are
    __getattr__ = _find


def __dir__() -> list[str]:
    public = [name for names in _FOUND_IN.values() for name in names]
    return [*public, *(name for name in globals() if name.startswith("_"))]
