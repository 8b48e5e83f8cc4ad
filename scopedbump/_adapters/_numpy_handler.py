"""The region as NumPy's data allocator (NEP 49)."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, final

if TYPE_CHECKING:
    from typing_extensions import Self

    from scopedbump._region import Region


@final
class NumpyHandler:
    """A region as NumPy's allocator, for the body of one `with` block.

    Attributes:
        min_bytes: smaller blocks are left to NumPy's default.
        served_blocks: how many blocks came from the region.
        served_bytes: their bytes in all.
        passed_blocks: how many were handed on to NumPy's default.
        passed_bytes: their bytes in all.
    """

    __slots__ = ("_region", "min_bytes", "passed_blocks", "passed_bytes", "served_blocks", "served_bytes")

    def __init__(self, region: Region, min_bytes: int) -> None:
        self._region = region
        self.min_bytes = min_bytes
        self.served_blocks = self.served_bytes = self.passed_blocks = self.passed_bytes = 0

    def __enter__(self) -> Self:
        raise NotImplementedError

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        raise NotImplementedError
