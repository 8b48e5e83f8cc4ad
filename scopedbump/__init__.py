"""Scratch memory with a lifetime you can see.

`with bump_region() as a:` reserves address space; `a.alloc(n)` moves a cursor; the end of the block gives
everything back. Whatever still points into the region then is either revoked or keeps its memory.
"""

# Nothing is imported before it is used: who imports a library that could use a region pays nothing for it.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from scopedbump._adapters._numpy_handler import NumpyHandler as NumpyHandler
    from scopedbump._adapters.cffi_ import FFI as FFI
    from scopedbump._adapters.cffi_ import CData as CData
    from scopedbump._adapters.cffi_ import CffiAllocator as CffiAllocator
    from scopedbump._adapters.ctypes_ import CtypesAllocator as CtypesAllocator
    from scopedbump._adapters.numpy_ import NumpyAllocator as NumpyAllocator
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
    from scopedbump._escape import Escape as Escape
    from scopedbump._pool import PoolStats as PoolStats
    from scopedbump._pool import RegionPool as RegionPool
    from scopedbump._region import DEFAULT_SIZE as DEFAULT_SIZE
    from scopedbump._region import Region as Region
    from scopedbump._region import bump_region as bump_region

__all__ = [
    "DEFAULT_SIZE",
    "FFI",
    "Allocator",
    "CData",
    "CffiAllocator",
    "CommitError",
    "CtypesAllocator",
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

_FOUND_IN = {
    "_adapters._numpy_handler": ("NumpyHandler",),  # these two are not in __all__: they need NumPy
    "_adapters.numpy_": ("NumpyAllocator",),
    "_adapters.cffi_": ("FFI", "CData", "CffiAllocator"),
    "_adapters.ctypes_": ("CtypesAllocator",),
    "_allocator": ("Allocator", "HeapAllocator", "heap"),
    "_current": ("current_region",),
    "_errors": tuple(name for name in __all__ if name.endswith(("Error", "Warning"))),
    "_escape": ("Escape",),
    "_pool": ("PoolStats", "RegionPool"),
    "_region": ("DEFAULT_SIZE", "Region", "bump_region"),
}


if not TYPE_CHECKING:  # type checkers know the names that there are

    def __getattr__(name: str) -> object:
        for module, names in _FOUND_IN.items():
            if name in names:
                value: object = getattr(__import__(f"scopedbump.{module}", fromlist=[name]), name)
                globals()[name] = value
                return value
        raise AttributeError(f"module 'scopedbump' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, *(name for name in globals() if name.startswith("_"))]
