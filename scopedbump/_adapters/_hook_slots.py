"""Hook slots: the callbacks that C libraries allocate with, and what is behind each at a time.

The rules (numbers are those of the promises in the README):

- A callback of C, once made, is never freed, for a library may call it for ever. So a *slot* has one, serves one user
  at a time, and then the next: a thousand regions make no more callbacks than one. Between two users it says that there
  is no memory. It has no next user before what the last one owns is gone (`Loan`).
- The bump is in the callback itself, and is that of `Region.alloc` (1, 9). What is not zero, committed or free goes the
  slow way, as there.
- Nothing is raised through C: what can't be served is NULL, and the reason is noted (8). What a signal handler raised
  comes in at the callback's entry as a rule. The callback is protected from there on, does its work again from the
  beginning, and raises that behind: see `_callbacks`. What had been taken the first time is lost until the end.
- `realloc` need not know how large the old block is: it lies below the new one, and so can be read up to there. What
  comes of that behind the old block's bytes is as undefined as with any `realloc`.
- A block that `realloc` made, or whose size it is told, grows in place when it is the last one.
- `free` is a function of C that ignores what it is given, in any thread, for ever. In a debug region it is a callback:
  what is freed is guarded, and what is not is listed.
"""

from __future__ import annotations

import sys
from collections import deque
from typing import TYPE_CHECKING, Final
from weakref import ref

import _cffi_backend

from .._atomic import fast_path
from .._bytecode import try_from_entry
from .._errors import RegionBusyError, RegionClosedError, ScopedBumpError
from .._layout import ALIGN
from .._lifetime import ADDRESS, CHAR_POINTER, ffi
from ._callbacks import immortal, make_callback, raise_behind
from ._hook_roles import POINTER, Signature

if TYPE_CHECKING:
    from collections.abc import Iterable

    from _cffi_backend import CData

    from .._chunk import Chunk
    from .._memory import Blocks, Memory

_MOST = sys.maxsize


class Turn:
    """One user of slots: hooks of one region, until its end or reset.

    Attributes:
        blocks: where memory comes from.
        grown: the block that `realloc` made last: where it lies, and its end.
        loan: the slots; None after the end.
        refused: why the last NULL.
    """

    __slots__ = ("__weakref__", "_memory", "blocks", "grown", "loan", "refused")

    def __init__(self, memory: Memory, blocks: Blocks) -> None:
        self._memory = memory
        self.blocks = blocks
        self.grown: tuple[int, int] = (0, 0)
        self.loan: Loan | None = Loan()
        self.refused: ScopedBumpError | None = None
        blocks.at_end(self.end)

    def refuse(self, why: ScopedBumpError | None = None) -> int:
        """Note why, and give a NULL. Without a reason it is that nothing can be allocated here."""
        if why is None:
            if self.loan is None:
                why = RegionClosedError(f"{self._memory!r} has ended, or was reset: and so have its hooks")
            else:
                why = self._memory.why_not() or RegionBusyError(f"{self._memory!r} was busy")
        self.refused = why.with_traceback(None)  # its frames hold memory
        return 0

    def end(self) -> None:
        """From here on C gets NULL."""
        loan, self.loan = self.loan, None
        if loan is not None:
            for slot in loan.slots:
                slot.chunk = _nobody


class Loan:
    """Slots that one user has. They serve another when nothing refers to this any more.

    Attributes:
        slots: so far.
    """

    __slots__ = ("slots",)

    def __init__(self) -> None:
        self.slots: list[Slot] = []

    def __del__(self) -> None:
        for slot in self.slots:
            slot.give_back()


class _Nobody:
    """In the place of a chunk: nothing fits."""

    __slots__ = ("cursor", "limit")

    def __init__(self) -> None:
        self.cursor = 0
        self.limit = -1


_nobody: Final = _Nobody()


class Slot:
    """A callback, and whom it serves.

    Attributes:
        chunk: where it bumps.
        function: its address in C.
        turn: whom it serves; dead when that is over and nobody asks any more.
    """

    __slots__ = (
        "_align_at",
        "_callback",
        "_count_at",
        "_idle",
        "_old_at",
        "_ptr_at",
        "_size_at",
        "chunk",
        "function",
        "turn",
    )

    turn: ref[Turn]

    def __init__(self, roles: tuple[str, ...], idle: deque[Slot]) -> None:
        self.chunk: Chunk | _Nobody = _nobody
        self._idle = idle
        self._size_at = roles.index("size") if "size" in roles else -1
        self._count_at = _index(roles, "count")
        self._old_at = _index(roles, "old")
        self._ptr_at = _index(roles, "ptr")
        self._align_at = _index(roles, "align")

    def make(self, signature: Signature) -> None:
        """Make the callback.

        Raises:
            CallbackRefusedError: the system forbids it.
        """
        callback = self._callback = make_callback(
            signature.cdecl, self.serve, "blocks of Region.alloc and objects of Region.cffi need no callbacks"
        )
        self.function = int(ffi.cast(ADDRESS, callback))

    def serve(self, *arguments: int) -> int:
        """What C calls."""
        raise NotImplementedError

    def give_back(self) -> None:
        """Serve nobody, and then the next."""
        self.chunk = _nobody
        self._idle.append(self)

    # -- the slow way

    def _user(self) -> Turn | None:
        """Whom it serves, while it does."""
        turn = self.turn()
        if turn is None or turn.loan is None:
            if turn is not None:
                turn.refuse()
            return None
        return turn

    def _bytes(self, arguments: tuple[int, ...]) -> int:
        """So many are asked for: negative ones are as many as nobody has."""
        size = arguments[self._size_at]
        count = 1 if self._count_at is None else arguments[self._count_at]
        return _MOST if size < 0 or count < 0 else size * count

    def _take(self, turn: Turn, size: int, align: int, zero: bool) -> int:
        """A block, or 0."""
        try:
            taken = turn.blocks.take(min(size, _MOST) or 1, align, zero)
        except ScopedBumpError as why:
            return turn.refuse(why)
        if taken is None:
            return turn.refuse()
        turn.blocks.lend(taken[0])
        return taken[0]

    def _give_back(self, turn: Turn, address: int, repeated: bool) -> int:
        """C frees a block. One that lies elsewhere is of a region that has ended."""
        if turn.blocks.covers(address):
            turn.blocks.end_block(address, repeated=repeated)
        return 0

    def _align(self, turn: Turn, arguments: tuple[int, ...]) -> int:
        """The alignment that is asked for, ALIGN at least; 0 when it is none."""
        align = ALIGN if self._align_at is None else arguments[self._align_at]
        if align < 0 or align & align - 1 or align > _MOST:
            return turn.refuse(ScopedBumpError(f"align must be a power of two, not {align}"))
        return max(align, ALIGN)


def _index(roles: tuple[str, ...], name: str) -> int | None:
    return roles.index(name) if name in roles else None


class Allocating(Slot):
    """The slot of a malloc or calloc."""

    __slots__ = ("_fast", "_zero")

    def __init__(self, roles: tuple[str, ...], idle: deque[Slot], zero: bool) -> None:
        super().__init__(roles, idle)
        self._zero = zero

    @fast_path
    @try_from_entry
    def serve(self, *arguments: int) -> int:
        """What C calls. On the fast path memory is zero whether it need be or not."""
        try:
            size = arguments[self._size_at]
            if self._count_at is not None:
                size *= arguments[self._count_at]
            chunk = self.chunk
            start = chunk.cursor + 15 & -16
            stop = start + size
            if start < stop < chunk.limit and self._align_at is None:
                chunk.cursor = stop
                return chunk.reservation.address + start  # type: ignore[union-attr]  # nobody has no limit
            return self._allocate(arguments)
        except BaseException as error:  # noqa: BLE001  # raised again
            return self._again(error, arguments)

    def _allocate(self, arguments: tuple[int, ...]) -> int:
        turn = self._user()
        if turn is None:
            return 0
        align = self._align(turn, arguments)
        return self._take(turn, self._bytes(arguments), align, self._zero) if align else 0

    def _again(self, error: BaseException, arguments: tuple[int, ...]) -> int:
        address = self._allocate(arguments)
        raise_behind(error)
        return address


class Reallocating(Slot):
    """The slot of a realloc."""

    __slots__ = ()

    @try_from_entry
    def serve(self, *arguments: int) -> int:
        """What C calls."""
        try:
            return self._reallocate(arguments)
        except BaseException as error:  # noqa: BLE001  # raised again
            return self._again(error, arguments)

    def _again(self, error: BaseException, arguments: tuple[int, ...]) -> int:
        address = self._reallocate(arguments, repeated=True)
        raise_behind(error)
        return address

    def _reallocate(self, arguments: tuple[int, ...], repeated: bool = False) -> int:
        turn = self._user()
        size = self._bytes(arguments)
        old = arguments[self._ptr_at or 0]
        if turn is None:
            return 0
        if not size:  # realloc to nothing frees
            return self._give_back(turn, old, repeated)
        align = self._align(turn, arguments)
        if not align:
            return 0
        if not old:
            return self._remember(turn, self._take(turn, size, align, False), size)
        if not turn.blocks.covers(old):
            return turn.refuse(ScopedBumpError(f"realloc of {old:#x}, which does not lie in this region"))
        if repeated and (moved := turn.blocks.moved_to(old)):
            return moved
        stop = self._end_of(turn, old, arguments)
        if stop and old + size <= stop and not turn.blocks.debug:
            return old
        if stop and turn.blocks.reaches_cursor(stop) and self._grow(turn, stop, old + size):
            return self._remember(turn, old, size)
        return self._move(turn, old, stop, size, align)

    def _end_of(self, turn: Turn, old: int, arguments: tuple[int, ...]) -> int:
        """Where the block ends, as far as that is known; else 0."""
        if self._old_at is not None:
            return old + arguments[self._old_at]
        start, stop = turn.grown
        return stop if start == old else 0

    def _grow(self, turn: Turn, stop: int, then: int) -> bool:
        """Take what lies behind the last block. False when somebody else was faster, or there is not so much."""
        view = turn.blocks.view()
        try:
            taken = turn.blocks.take(then - stop, 1, False)
        except ScopedBumpError:
            return False
        if taken is None or view is None or taken[0] == stop:
            return taken is not None
        turn.blocks.take_back(view, taken[1], taken[0] + then - stop)
        return False

    def _move(self, turn: Turn, old: int, stop: int, size: int, align: int) -> int:
        """Copy a block to a larger one."""
        blocks = turn.blocks
        view = blocks.view()  # pins: nobody gives the memory back meanwhile
        new = self._take(turn, size, align, False)
        if not new or view is None:
            return 0 if view is not None else turn.refuse()
        reach = new if old < new else old + size  # in a debug region it may lie below
        known = min(stop or reach, reach, old + size)
        ffi.memmove(_at(new), _at(old), blocks.readable(old, known) - old)
        del view
        blocks.end_block(old, new)
        return self._remember(turn, new, size)

    def _remember(self, turn: Turn, address: int, size: int) -> int:
        if address:
            turn.grown = address, address + size
        return address


class Freeing(Slot):
    """The slot of a free, in a debug region."""

    __slots__ = ()

    @try_from_entry
    def serve(self, *arguments: int) -> int:
        """What C calls. It takes no notice of what comes back."""
        try:
            return self._free(arguments)
        except BaseException as error:  # noqa: BLE001  # raised again
            return self._again(error, arguments)

    def _again(self, error: BaseException, arguments: tuple[int, ...]) -> int:
        self._free(arguments, repeated=True)
        raise_behind(error)
        return 0

    def _free(self, arguments: tuple[int, ...], repeated: bool = False) -> int:
        turn = self.turn()
        if turn is None or turn.loan is None:
            return 0
        return self._give_back(turn, arguments[self._ptr_at or 0], repeated)


def _at(address: int) -> CData:
    return ffi.cast(CHAR_POINTER, address)


# -- who has which

_idle: dict[tuple[str, tuple[str, ...], str], deque[Slot]] = {}
"""The slots of each kind that nobody uses."""
_all: list[Slot] = []
immortal(_all)


def slots() -> Iterable[Slot]:
    """All that there are."""
    return tuple(_all)


def lend(turn: Turn, kind: str, roles: tuple[str, ...], signature: Signature) -> int:
    """The address of a function for this user.

    Raises:
        CallbackRefusedError: the system forbids callbacks.
        RegionClosedError: the hooks have ended.
    """
    loan = turn.loan
    if loan is None:
        turn.refuse()
        assert turn.refused is not None
        raise turn.refused
    idle = _idle.setdefault((kind, roles, signature.cdecl), deque())
    try:
        slot = idle.popleft()
    except IndexError:
        slot = _new_slot(kind, roles, idle)
        slot.make(signature if kind != "free" else signature._replace(result=POINTER))
        _all.append(slot)
    loan.slots.append(slot)
    slot.turn = ref(turn)
    slot.chunk = turn.blocks._chunk
    if turn.loan is None:  # it ended meanwhile
        slot.chunk = _nobody
    return slot.function


def _new_slot(kind: str, roles: tuple[str, ...], idle: deque[Slot]) -> Slot:
    if kind == "realloc":
        return Reallocating(roles, idle)
    return Freeing(roles, idle) if kind == "free" else Allocating(roles, idle, kind == "calloc")


def _harmless() -> int:
    """The address of a function of C that ignores what it is given, and does nothing."""
    if sys.platform == "win32":
        library, name = "kernel32.dll", "GetCurrentThreadId"
    else:
        library, name = None, "pthread_self"
    void = _cffi_backend.new_void_type()
    ctype = _cffi_backend.new_function_type((), void)
    function: CData = _cffi_backend.load_library(library).load_function(ctype, name)
    return int(ffi.cast(ADDRESS, function))


NO_OP: Final = _harmless()
"""What `free` is."""
