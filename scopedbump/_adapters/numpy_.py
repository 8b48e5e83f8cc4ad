"""NumPy arrays in a region, and the region as NumPy's own allocator: what `Region.numpy` gives.

An array here is an ndarray over exactly its own bytes of the region. It pins: nothing revokes it, and while it or a
view of it lives the region's memory stays.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING, Any, Literal, SupportsIndex, TypeAlias, TypeVar, cast, final, overload

try:
    import numpy as np
except ImportError as refusal:
    if isinstance(refusal, ModuleNotFoundError) and refusal.name == "numpy":
        what = "which is not installed: pip install 'scopedbump[numpy]'"
    else:
        what = f"which is installed and can't be imported: {refusal}"
    raise ImportError(f"Region.numpy needs NumPy, {what}", name="numpy") from refusal

from numpy.typing import ArrayLike, DTypeLike, NDArray

from .. import _atomic
from .. import _hints as hints
from .._checks import checked_int
from .._memory import Memory
from ._callbacks import is_main_interpreter
from ._numpy_blocks import FreeBlocks

if TYPE_CHECKING:
    from .._memory import Blocks

S = TypeVar("S", bound=np.generic)
OrderLike: TypeAlias = Literal["K", "A", "C", "F"] | None
ShapeLike: TypeAlias = "SupportsIndex | Sequence[SupportsIndex]"

MIN_BYTES = 1 << 17
"""The default of `handler(min_bytes=)`. To hand a block on costs as much as to serve it (2 to 4 us: a fifth to a third
of the time of an operation on 256 KiB in an old process, a twentieth on 1 MiB), so what a region can save decides: from
here on malloc maps each block anew in a young process, which costs more than that. What is smaller is left to NumPy,
for small results are what most often outlives a region, and would keep it."""

_ALIGN = 64  # a cache line, and what the widest vector instructions like

_FEW = 512
"""Up to so many items an array is so small that clearing it costs nothing: zeroed memory is the fastest to be had."""

_main = is_main_interpreter()  # each interpreter has this module to itself

_plain_dtypes: dict[object, np.dtype[Any]] = {np.dtype(code).type: np.dtype(code) for code in "?bBhHiIlLqQefdFD"}
_plain_dtypes |= {each: np.dtype(each) for each in (None, bool, int, float, complex)}


@final
class NumpyAllocator:
    """Makes ndarrays in one region. `Region.numpy` gives it.

    Lifetime:
        An array is never revoked. While it, or a view of it, is alive the region's memory stays, with its content.

    Thread safety: as `Region.alloc`.
    """

    __slots__ = ("_free", "_memory")
    __signature__: object = hints.NOT_CALLED

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._free: FreeBlocks | None = None  # of all handlers of the region, until it is reset

    @overload
    def empty(self, shape: ShapeLike, dtype: None = None, order: Literal["C", "F"] = "C") -> NDArray[np.float64]: ...
    @overload
    def empty(self, shape: ShapeLike, dtype: type[S] | np.dtype[S], order: Literal["C", "F"] = "C") -> NDArray[S]: ...
    @overload
    def empty(self, shape: ShapeLike, dtype: DTypeLike, order: Literal["C", "F"] = "C") -> NDArray[Any]: ...

    def empty(self, shape: ShapeLike, dtype: DTypeLike | None = None, order: Literal["C", "F"] = "C") -> NDArray[Any]:
        """An array whose content is whatever was there, as `numpy.empty`.

        Args:
            shape: an int or a sequence of ints.
            dtype: any but object, alone or as a field; float64 when None.
            order: "C" or "F", how it lies in memory.

        Returns:
            An ndarray aligned to its items and to 64 bytes.

        Raises:
            TypeError, ValueError: what `numpy.empty` raises for such arguments; TypeError for object dtypes.
            As `Region.alloc`.

        Lifetime:
            It pins the region's memory.
        """
        if type(shape) is int and 0 < shape <= _FEW and order == "C" and (dtype is None or type(dtype) is type):
            made = _plain_dtypes.get(dtype)
            if made is not None:  # nothing is left to check
                size = shape * made.itemsize
                view, start, _, _ = self._memory.alloc_raw(size, _ALIGN)
                return np.ndarray(shape, made, np.ndarray(size, np.uint8, view, start))
        dims, made = _checked(shape, dtype, order)
        return self._array(dims, made, order, zero=False)

    @overload
    def zeros(self, shape: ShapeLike, dtype: None = None, order: Literal["C", "F"] = "C") -> NDArray[np.float64]: ...
    @overload
    def zeros(self, shape: ShapeLike, dtype: type[S] | np.dtype[S], order: Literal["C", "F"] = "C") -> NDArray[S]: ...
    @overload
    def zeros(self, shape: ShapeLike, dtype: DTypeLike, order: Literal["C", "F"] = "C") -> NDArray[Any]: ...

    def zeros(self, shape: ShapeLike, dtype: DTypeLike | None = None, order: Literal["C", "F"] = "C") -> NDArray[Any]:
        """An array of zeros, as `numpy.zeros`. Args, Raises and Lifetime as for `empty`."""
        dims, made = _checked(shape, dtype, order)
        return self._array(dims, made, order, zero=True)

    @overload
    def full(
        self, shape: ShapeLike, fill_value: S, dtype: None = None, order: Literal["C", "F"] = "C"
    ) -> NDArray[S]: ...
    @overload
    def full(
        self, shape: ShapeLike, fill_value: Any, dtype: None = None, order: Literal["C", "F"] = "C"
    ) -> NDArray[Any]: ...
    @overload
    def full(
        self, shape: ShapeLike, fill_value: Any, dtype: type[S] | np.dtype[S], order: Literal["C", "F"] = "C"
    ) -> NDArray[S]: ...
    @overload
    def full(
        self, shape: ShapeLike, fill_value: Any, dtype: DTypeLike, order: Literal["C", "F"] = "C"
    ) -> NDArray[Any]: ...

    def full(
        self, shape: ShapeLike, fill_value: Any, dtype: DTypeLike | None = None, order: Literal["C", "F"] = "C"
    ) -> NDArray[Any]:
        """An array filled with a value, as `numpy.full`.

        Args:
            shape, order: as for `empty`.
            fill_value: a scalar, or what can be broadcast to the shape.
            dtype: as for `empty`; that of `fill_value` when None.

        Raises, Lifetime: as for `empty`.
        """
        if dtype is None:
            dtype = np.asarray(fill_value).dtype
        dims, made = _checked(shape, dtype, order)
        # NumPy's own complaints about the value come before anything is taken.
        value = np.full(np.shape(fill_value), fill_value, made)
        np.broadcast_to(value, dims)
        array = self._array(dims, made, order, zero=False)
        array[...] = value
        return array

    @overload
    def copy(self, a: NDArray[S], order: OrderLike = "K") -> NDArray[S]: ...
    @overload
    def copy(self, a: ArrayLike, order: OrderLike = "K") -> NDArray[Any]: ...

    def copy(self, a: ArrayLike, order: OrderLike = "K") -> NDArray[Any]:
        """A copy of an array in the region, as `numpy.copy`.

        Args:
            a: an array, or what NumPy makes one from. Its subclass, a mask included, is not copied.
            order: "C", "F", "A" (F if `a` is Fortran-contiguous, else C), or "K" or None (as near to `a`'s as can be).

        Raises, Lifetime: as for `empty`.
        """
        source = np.asarray(a)
        layout = _checked_order(order)
        if layout == "K" and not (source.flags.c_contiguous or source.flags.f_contiguous):
            # The axes in the order of their strides, as NumPy has it: what was next to each other stays so.
            axes = sorted(range(source.ndim), key=lambda axis: -abs(source.strides[axis]))
            dims, made = _checked([source.shape[axis] for axis in axes], source.dtype, "C")
            sorted_copy = self._array(dims, made, "C", zero=False)
            strides = [sorted_copy.strides[axes.index(axis)] for axis in range(source.ndim)]
            copy: NDArray[Any] = np.ndarray(source.shape, made, sorted_copy.base, strides=strides)
        else:
            fortran = layout == "F" or (layout in "KA" and source.flags.fnc)
            copy = self._array(*_checked(source.shape, source.dtype, "C"), "F" if fortran else "C", zero=False)
        np.copyto(copy, source)
        return copy

    def handler(self, min_bytes: int = MIN_BYTES) -> hints.NumpyHandler:
        """Make the region NumPy's own allocator in the body of a `with` block (NEP 49).

        What NumPy allocates there, temporaries and results alike, comes from the region when it has at least
        `min_bytes` and fits, and from NumPy's default otherwise: also while a scope is open, and after the close.

        Args:
            min_bytes: smaller blocks are left to NumPy's default.

        Returns:
            A context manager; what it has served and handed on stands in its attributes. Enter it once.

        Raises:
            TypeError, ValueError: min_bytes is no int, or negative.
            NotImplementedError: this Python has no GIL, or is not CPython, or this is a sub-interpreter.
            CallbackRefusedError: this system lets no C call Python (PR_SET_MDWE, SELinux).

        Lifetime:
            An array that outlives the region keeps its memory, with its content; on Linux the pages around it, where
            nothing of the handler's is alive, are given back.

        Thread safety: it holds for the current context (see `contextvars`): tasks and `asyncio.to_thread` inherit it,
            other threads do not. Arrays may be used and die in any thread.
        """
        least = checked_int(min_bytes, "min_bytes", 0)
        if not _atomic.atomic:
            raise NotImplementedError("NumPy's allocator can be a region only on CPython with a GIL")
        if not _main:
            raise NotImplementedError("NumPy's allocator can be a region only in the main interpreter")
        from ._numpy_handler import NumpyHandler

        return NumpyHandler(self, least)

    def _renew_free(self) -> FreeBlocks | None:
        """The free blocks of what the region bumps in now; None when nothing can be allocated."""
        free = self._free
        blocks = self._memory.blocks(free.blocks if free is not None else None)
        if blocks is None:
            return None
        if free is None or blocks is not free.blocks:
            free = self._free = _debug_blocks(blocks) if blocks.debug else FreeBlocks(blocks)
        return free

    def _array(
        self, dims: tuple[int, ...], dtype: np.dtype[Any], order: Literal["C", "F"], *, zero: bool
    ) -> NDArray[Any]:
        size = prod(dims) * dtype.itemsize
        if size > sys.maxsize:
            return np.empty(dims, dtype)  # raises NumPy's own error
        view, start, _, _ = self._memory.alloc_slowly(size, max(_ALIGN, dtype.alignment), zero)
        # By way of an array of bytes, so that `base` shows these bytes only: over a memoryview it would be the whole
        # region, of which most is not there. And below that is no memoryview, which could be released.
        own = np.ndarray(size, np.uint8, view, start)
        return np.ndarray(dims, dtype, own, order=order)

    def __repr__(self) -> str:
        return f"<scopedbump.NumpyAllocator: {self._memory!r}>"


def _debug_blocks(blocks: Blocks) -> FreeBlocks:
    from .._debug._numpy_blocks import DebugFreeBlocks

    return DebugFreeBlocks(blocks)


NumpyAllocator.__module__ = "scopedbump"


def _checked(shape: ShapeLike, dtype: DTypeLike | None, order: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and dtype as NumPy understands them, or NumPy's own errors; nothing is taken for them."""
    items = np.empty(0, dtype)
    dims = cast("NDArray[Any]", np.empty(shape, [], order))  # type: ignore[call-overload]  # NumPy says what is wrong
    made = items.dtype
    if made.hasobject:
        raise TypeError(
            f"no {made!r} in a region: references to Python objects would never be counted down when its memory goes"
        )
    return dims.shape + items.shape[1:], made  # the dimensions of a subarray dtype come last


def _checked_order(order: OrderLike | bytes) -> str:
    """One of K, A, C and F, as NumPy understands what it is given, or NumPy's own error."""
    np.copy(0, order)  # type: ignore[arg-type]  # NumPy says what is wrong
    letter = order.decode() if isinstance(order, bytes) else order or "K"
    return letter.upper()
