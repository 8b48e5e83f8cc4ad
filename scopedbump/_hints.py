"""Names for annotations: found when somebody evaluates them, as `typing.get_type_hints` does.

To import typing, and the adapters, takes longer than all of scopedbump. So the modules that a region needs write
`hints.Buffer` where they mean `Buffer`. Type checkers see the names themselves.

Beside them `NOT_CALLED`, which is for `help`.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable as Callable
    from collections.abc import Iterable as Iterable
    from collections.abc import Iterator as Iterator
    from types import TracebackType as TracebackType
    from typing import Any as Any
    from typing import Literal as Literal
    from typing import NoReturn as NoReturn
    from typing import Protocol as Protocol
    from typing import Self as Self
    from typing import TypeAlias
    from typing import final as final

    from typing_extensions import Buffer as Buffer

    from ._adapters._numpy_handler import NumpyHandler as NumpyHandler
    from ._adapters.cffi_ import FFI as FFI
    from ._adapters.cffi_ import CffiAllocator as CffiAllocator
    from ._adapters.ctypes_ import CtypesAllocator as CtypesAllocator
    from ._adapters.hooks import CffiHooks as CffiHooks
    from ._adapters.hooks import CtypesHooks as CtypesHooks
    from ._adapters.numpy_ import NumpyAllocator as NumpyAllocator
    from ._current import Current as Current
    from ._debug._findings import Finding as Finding
    from ._errors import Escape as Escape
    from ._heap_memory import HeapMemory as HeapMemory
    from ._memory import Memory as Memory
    from ._region import Region as Region

    View: TypeAlias = memoryview[Any]
    """A memoryview of any format: at run time it has no parameter before Python 3.14."""
    from ._writer import Writer as Writer

_FOUND_IN = {
    "CffiAllocator": "._adapters.cffi_",
    "FFI": "._adapters.cffi_",
    "CtypesAllocator": "._adapters.ctypes_",
    "CffiHooks": "._adapters.hooks",
    "CtypesHooks": "._adapters.hooks",
    "NumpyAllocator": "._adapters.numpy_",
    "NumpyHandler": "._adapters._numpy_handler",
    "Current": "._current",
    "Finding": "._debug._findings",
    "Escape": "._errors",
    "HeapMemory": "._heap_memory",
    "Memory": "._memory",
    "Region": "._region",
    "Writer": "._writer",
    "Iterable": "collections.abc",
    "Iterator": "collections.abc",
    "Callable": "collections.abc",
    "TracebackType": "types",
}


def __getattr__(name: str) -> object:
    if name == "final":
        return _unchanged  # what typing's does, but for a note to tools that nobody needs here
    if name == "View":
        return memoryview
    from importlib import import_module

    module = import_module(_FOUND_IN.get(name, "typing"), __package__)
    if name == "Buffer":
        try:
            module = import_module("typing_extensions")
        except ImportError:
            module = import_module("collections.abc")  # since 3.12; before that any object may be one
            return getattr(module, name, object)
    value: object = getattr(module, name)
    globals()[name] = value  # found at once from now on: regions make their adapters by these names
    return value


def _unchanged(value: object) -> object:
    return value


class _NotCalled:
    def __get__(self, instance: object, owner: object) -> object:
        from inspect import Signature

        return Signature()


NOT_CALLED = _NotCalled()
"""The `__signature__` of a class that only the package calls: `help` begins with what it is, not with arguments."""
