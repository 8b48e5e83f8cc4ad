"""Who points into a region: every object that pins, and by what name it is held.

The garbage collector does not know ndarrays and most cffi objects, so what refers to them can't be asked. It is looked
the other way round: at what each object that the collector knows refers to, and each local variable of each frame.
"""

from __future__ import annotations

import ctypes
import gc
import sys
from _warnings import warn
from inspect import CO_OPTIMIZED
from types import AsyncGeneratorType, CellType, CoroutineType, FrameType, FunctionType, GeneratorType, ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

import _cffi_backend

from .._errors import EscapeError, EscapeWarning
from .._lifetime import ADDRESS, COUNTED, ffi
from ._call_sites import is_ours, line_of, shown_path

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from .._errors import Escape
    from ._blocks import BlockInfo, Ledger

_CTYPE = ctypes.c_int.__mro__[-2]  # _ctypes._CData, which has no public name
_CDATA = _cffi_backend.FFI.CData
_MOST_SHOWN = 5
_SUSPENDED: dict[type, str] = {GeneratorType: "gi_frame", CoroutineType: "cr_frame", AsyncGeneratorType: "ag_frame"}
_PACKAGE = __name__.removesuffix("_debug._holders")  # "scopedbump.", or what it is a part of


class Holder(NamedTuple):
    """An object that points into a region, and what holds it.

    Attributes:
        what: the object's type, such as "ndarray".
        held_by: by what name: "key 'x' of a dict", "attribute 'cache' of <class 'Handler'>", "local variable 'a' of
            f (file:line)".
        block: the block that it points into; None when it is all of the region.
    """

    what: str
    held_by: str
    block: BlockInfo | None

    def __str__(self) -> str:
        block = f" points into {self.block}" if self.block is not None else ""
        return f"{self.what}, {self.held_by}{',' if block else ''}{block}"


Holder.__module__ = "scopedbump.debug"


def tell(region: object, found: tuple[Holder, ...], escape: Escape) -> None:
    """Warn or raise that something escaped, by name."""
    what = f"{region!r}: something still points into it at its end and keeps its memory: {in_words(found)}"
    if escape == "raise":
        raise EscapeError(what)
    warn(what, EscapeWarning, stacklevel=5)


def in_words(found: tuple[Holder, ...]) -> str:
    """The first of them, one a line."""
    if not COUNTED:
        return "which objects do is known to CPython only"
    if not found:
        return "nothing that the garbage collector knows, so it may be an object of an extension"
    rest = [f"and {len(found) - _MOST_SHOWN} more"] if len(found) > _MOST_SHOWN else []
    return "".join(f"\n    {line}" for line in [*map(str, found[:_MOST_SHOWN]), *rest])


def holders_of(ranges: list[tuple[int, int]], ledger: Ledger, revoked: Iterable[memoryview] = ()) -> tuple[Holder, ...]:
    """Everything that points into these ranges of addresses, each object once for each name.

    Args:
        ranges: pairs of start and stop.
        ledger: which blocks lie there.
        revoked: views that will be revoked, and so hold nothing.
    """
    if not COUNTED:  # there the collector does not say who refers to what
        return ()
    known = {id(view) for view in revoked}
    found: dict[tuple[int, str], Holder] = {}
    for thing, name in _named(ranges):
        if id(thing) in known:
            continue
        address = _address(thing)
        block = ledger.around(address)[0]
        inside = block is not None and block.address <= address <= block.address + block.size
        holder = Holder(_type_of(thing), name, block.info() if block is not None and inside else None)
        found.setdefault((id(thing), name), holder)
    _forget_copies()
    return tuple(found.values())


def _is(thing: object, *kinds: type[Any]) -> bool:
    """`isinstance`, after which type checkers know no more than before."""
    return isinstance(thing, kinds)


def _type_of(thing: object) -> str:
    if isinstance(thing, _CDATA):
        return f"cffi object {ffi.typeof(thing).cname!r}"
    return type(thing).__name__


def _pinning() -> tuple[type, ...]:
    """The types whose objects may point into a region."""
    numpy = sys.modules.get("numpy")
    return memoryview, _CTYPE, _CDATA, *(() if numpy is None else (numpy.ndarray,))


def _address(thing: Any) -> int:
    """Where what an object points to begins; 0 for what points nowhere, or does not pin."""
    try:
        if _is(thing, memoryview):
            return int(ffi.cast(ADDRESS, ffi.from_buffer(thing))) if thing.nbytes else 0
        if isinstance(thing, _CTYPE):
            return ctypes.addressof(thing)  # type: ignore[arg-type]  # it is one
        if isinstance(thing, _CDATA):
            kind = type(thing).__name__
            owns = "Own" in kind or "GC" in kind
            return int(ffi.cast(ADDRESS, thing)) if owns and ffi.typeof(thing).kind in ("pointer", "array") else 0
        numpy = sys.modules.get("numpy")
        if numpy is not None and isinstance(thing, numpy.ndarray):
            address: int = thing.__array_interface__["data"][0]
            return address
    except (TypeError, ValueError, BufferError, AttributeError):  # released, or a type of its own kind
        return 0
    return 0


def _named(ranges: list[tuple[int, int]]) -> Iterator[tuple[object, str]]:
    """What points in, and the name that holds it."""
    pins: dict[type, bool] = {}  # most objects are of types that never do

    def points_in(thing: object) -> bool:
        kind = type(thing)
        known = pins.get(kind)
        if known is None:
            known = pins[kind] = issubclass(kind, _pinning())
        if not known:
            return False
        address = _address(thing)
        return bool(address) and any(start <= address < stop for start, stop in ranges)

    for frame in _frames():
        for name, value in frame.f_locals.items() if frame.f_locals is not frame.f_globals else ():
            if points_in(value):
                yield value, _local(frame, name)
    containers = gc.get_objects()
    copies = _copies_of_variables(containers)
    while containers:  # it ends empty: a cycle through one of our frames would keep all of it until a collection
        container = containers.pop()
        # A module's dict comes by itself; the rest of what some modules lead to is dead already (`_asyncio`'s in 3.12).
        if isinstance(container, (FrameType, ModuleType)) or id(container) in copies:
            continue
        if not _is_package(container) and not _is_of_a_thread(container):
            yield from _named_in(container, points_in)


def _is_of_a_thread(container: object) -> bool:
    """Whether this is what cffi keeps for a thread of C that has called Python.

    The type of what is in there was never made ready (cffi 2.1): to look at it crashes.
    """
    return type(container) is dict and "cffi.thread.canary" in container


_PLAIN = dict, tuple


def _named_in(container: object, points_in: Callable[[object], bool]) -> Iterator[tuple[object, str]]:
    for thing in gc.get_referents(container):
        if points_in(thing):
            name = _name_in(container, thing)
            if name:
                yield thing, name
        elif type(thing) in _PLAIN and not gc.is_tracked(thing):  # as it holds nothing that is
            yield from _named_in(thing, points_in)


def _copies_of_variables(containers: list[object]) -> set[int]:
    """The dicts in which Python, before 3.13, shows local variables; who looks at them leaves them there."""
    frames = [*_frames(), *(frame for each in containers if (frame := _suspended_frame(each)) is not None)]
    return {id(frame.f_locals) for frame in frames if frame.f_locals is not frame.f_globals}


def _forget_copies() -> None:
    """Empty the dicts in which Python, before 3.13, shows local variables, where nobody else has them.

    What is in them would live on when the variable is gone. Under a tracer they stay: Python copies them back.
    """
    if sys.version_info >= (3, 13) or sys.gettrace() is not None:
        return
    suspended = [_suspended_frame(each) for each in gc.get_objects()]
    for frame in (*_frames(), *suspended):
        if frame is not None and frame.f_code.co_flags & CO_OPTIMIZED:
            variables = frame.f_locals
            if sys.getrefcount(variables) <= _OURS:
                variables.clear()


_OURS = 3  # references: the frame's, that of a local variable here, and that of the call that counts


def _suspended_frame(thing: object) -> FrameType | None:
    name = _SUSPENDED.get(type(thing))
    if name is None:
        return None
    frame: FrameType | None = getattr(thing, name)
    return None if frame is None or is_ours(frame.f_code) else frame  # a look at our own would keep it all


def _frames() -> Iterator[FrameType]:
    for top in sys._current_frames().values():
        frame: FrameType | None = top
        while frame is not None:
            if not is_ours(frame.f_code):
                yield frame
            frame = frame.f_back


def _is_package(container: object) -> bool:
    """Whether this is the package's own way to keep views, which revokes them."""
    module: object = type(container).__module__  # of some types it is no str
    return isinstance(module, str) and module.startswith(_PACKAGE)


def _local(frame: FrameType, name: str) -> str:
    code = frame.f_code
    where = f"{shown_path(code.co_filename)}:{line_of(code, frame.f_lasti)}"
    return f"local variable {name!r} of {code.co_qualname} ({where})"


def _name_in(container: Any, thing: object) -> str:
    """By what name a container holds something; "" where that is told elsewhere, or is no hold."""
    if _is(container, dict):
        return _name_in_dict(container, thing)
    if isinstance(container, (GeneratorType, CoroutineType, AsyncGeneratorType)):
        return _name_in_suspended(container, thing)
    if isinstance(container, CellType):
        return _name_in_closure(container)
    if _is(container, list, tuple):
        at = next((at for at, item in enumerate(container) if item is thing), -1)
        return "" if _is_chunks(container) else f"item {at} of {_called(container)}"
    if _is(container, set, frozenset):
        return f"member of {_called(container)}"
    if isinstance(container, _CTYPE) or type(container).__name__ in ("managedbuffer", "memoryview"):
        return ""  # part of it, which is told by itself
    for name in (*getattr(container, "__dict__", ()), *_slots_of(container)):
        if getattr(container, name, None) is thing:
            return f"attribute {name!r} of {_class_of(container)}"
    return f"somewhere in a {_class_of(container)}"


def _name_in_dict(container: dict[object, object], thing: object) -> str:
    key = next((key for key, value in container.items() if value is thing), None)
    for module in tuple(sys.modules.values()):
        if isinstance(module, ModuleType) and module.__dict__ is container:
            return f"global variable {key!r} of {module.__name__}"
    for owner in gc.get_referrers(container):
        if isinstance(owner, (FrameType, _CTYPE)):
            return ""  # the local variables of a frame, and what a ctypes object is made of
        if getattr(owner, "__dict__", None) is container:
            return f"attribute {key!r} of {_class_of(owner)}"
    return f"key {key!r} of {_called(container)}"


def _called(container: Any) -> str:
    """A container of the language, with the name of what holds it where that is a module or an instance."""
    kind = type(container).__name__
    for owner in gc.get_referrers(container):
        if isinstance(owner, ModuleType):
            continue
        if _is(owner, dict):
            key = next((key for key, value in owner.items() if value is container), None)
            for module in tuple(sys.modules.values()):
                if isinstance(module, ModuleType) and module.__dict__ is owner:
                    return f"the {kind} {key!r} of {module.__name__}"
        elif not _is(owner, list, tuple, FrameType) and not _is_package(owner):
            for name in (*getattr(owner, "__dict__", ()), *_slots_of(owner)):
                if getattr(owner, name, None) is container:
                    return f"the {kind} {name!r} of {_class_of(owner)}"
    return f"a {kind}"


def _name_in_suspended(container: Any, thing: object) -> str:
    frame = _suspended_frame(container)
    if frame is None:
        return ""
    name = next((name for name, value in frame.f_locals.items() if value is thing), "")
    return f"{_local(frame, name)}, a suspended {type(container).__name__}" if name else ""


def _name_in_closure(cell: CellType) -> str:
    for owner in gc.get_referrers(cell):
        for function in gc.get_referrers(owner) if isinstance(owner, tuple) else ():
            if isinstance(function, FunctionType) and (cells := function.__closure__) is owner and cells is not None:
                if is_ours(function.__code__):
                    return ""  # what a cffi object is made of
                return (
                    f"closure variable {function.__code__.co_freevars[cells.index(cell)]!r} of {function.__qualname__}"
                )
    return ""  # a variable of a frame that has inner functions: told with the frame


def _is_chunks(container: object) -> bool:
    """Whether it is a list in which a chunk keeps the views that it will revoke."""
    return isinstance(container, list) and any(_is_package(owner) for owner in gc.get_referrers(container))


def _slots_of(thing: Any) -> list[str]:
    bases: tuple[type[Any], ...] = type(thing).__mro__
    return [name for base in bases for name in _as_names(base.__dict__.get("__slots__", ()))]


def _as_names(slots: str | tuple[str, ...]) -> tuple[str, ...]:
    return (slots,) if isinstance(slots, str) else tuple(slots)


def _class_of(owner: object) -> str:
    kind = type(owner)
    return f"{kind.__module__}.{kind.__qualname__} object at {id(owner):#x}"
