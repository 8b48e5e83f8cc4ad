"""Times of two ways to do the same, taken in turn in one run.

Each way is a loop that was compiled around its statement, so that nothing but the statement and the `for` is in the
time. A round is one batch of each; which comes first alternates. The figures are the best batch of each and their
ratio; the spread is what the middle four fifths of the rounds say, each round by itself. The garbage collector stays
on, as it is in the programs that this is for, and is run before each row.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from itertools import repeat
from typing import Any

Loop = Callable[[int], float]
"""Does it so many times and returns the seconds that this took."""


class UnavailableError(Exception):
    """This row cannot run here; the message says why."""


@dataclass
class Sides:
    """The loops of a row."""

    ours: Loop
    theirs: Loop
    floor: Loop | None = None
    """The least that Python and the system need for the like: what no code of scopedbump's can do away with."""
    floor_is: str = ""
    batch: int | None = None
    """Operations in a batch, where they cannot be chosen freely."""
    note: Callable[[Figures], str] | None = None
    """What else there is to say after the measurement."""


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        work: what is done with scopedbump.
        against: what a user would otherwise write.
        most: the ratio that it should not exceed, or None where nothing was promised.
        prepare: gives the loops, and takes down what they needed.
    """

    work: str
    against: str
    most: float | None
    prepare: Callable[[], AbstractContextManager[Sides]]


@dataclass(frozen=True)
class Effort:
    """How long a row may take: seconds for a batch, how many rounds, and after how many seconds five are enough.

    Short batches and many rounds: when the machine is busy, some of them are still undisturbed.
    """

    seconds: float
    rounds: int
    enough: float


FULL = Effort(0.002, 151, 2.0)
QUICK = Effort(0.001, 15, 0.3)


@dataclass(frozen=True)
class Figures:
    """What was measured: seconds for one operation, and their ratio."""

    ours: float
    theirs: float
    ratio: float
    low: float
    high: float
    floor: float | None
    floor_is: str
    rounds: int
    note: str = ""


_LEAST = 5


def loop(statement: str, *, first: str = "pass", last: str = "pass", untimed: str = "pass", **names: object) -> Loop:
    """A loop around a statement, in which `names` are local variables.

    `first` and `last` run once a batch, and count; `untimed` runs before the batch.
    """
    # One plain function: what it uses are its own locals, as in a user's function.
    source = (
        f"def run(_count{''.join(f', {name}={name}' for name in names)}, _clock=_clock, _repeat=_repeat):\n"
        f"    {untimed}\n"
        f"    _start = _clock()\n"
        f"    {first}\n"
        f"    for _ in _repeat(None, _count):\n"
        f"        {statement}\n"
        f"    {last}\n"
        f"    return _clock() - _start\n"
    )
    space: dict[str, Any] = {**names, "_clock": time.perf_counter, "_repeat": repeat}
    exec(compile(source, f"<{statement}>", "exec"), space)
    made: Loop = space["run"]
    return made


def measure(sides: Sides, effort: Effort) -> Figures:
    """Run the loops in turn and say what they took."""
    loops = [sides.ours, sides.theirs] + ([sides.floor] if sides.floor is not None else [])
    gc.collect()
    batches = [sides.batch or _batch(each, effort.seconds) for each in loops]
    taken: list[list[float]] = [[] for _ in loops]
    end = time.perf_counter() + effort.enough
    for turn in range(effort.rounds):
        if turn >= _LEAST and time.perf_counter() > end:
            break
        order = range(len(loops)) if turn % 2 else reversed(range(len(loops)))
        for which in order:
            taken[which].append(loops[which](batches[which]) / batches[which])
    ratios = sorted(ours / theirs for ours, theirs in zip(taken[0], taken[1], strict=True))
    edge = len(ratios) // 10
    best = [min(each) for each in taken]
    found = Figures(
        ours=best[0],
        theirs=best[1],
        ratio=best[0] / best[1],
        low=ratios[edge],
        high=ratios[-1 - edge],
        floor=best[2] if len(best) > 2 else None,
        floor_is=sides.floor_is,
        rounds=len(ratios),
    )
    return found if sides.note is None else replace(found, note=sides.note(found))


def _batch(run: Loop, seconds: float) -> int:
    """How many operations take about that long."""
    run(1)  # what is imported or made on first use is done by now
    count = 1
    while (taken := run(count)) < seconds / 2:
        count = min(10 * count, max(count + 1, int(count * seconds / max(taken, 1e-9))))
    return count


@contextmanager
def prepared(row: Row) -> Generator[Sides]:
    """The loops of a row, for as long as the block lasts.

    Raises:
        UnavailableError: it cannot run here.
    """
    try:
        with row.prepare() as sides:
            yield sides
    except ImportError as error:
        if error.name is not None and error.name.partition(".")[0] == "scopedbump":
            raise  # nothing of its own may be missing
        raise UnavailableError(str(error)) from None


def figures(row: Row, effort: Effort) -> Figures:
    """Prepare a row, measure it, and take it down.

    Raises:
        UnavailableError: it cannot run here.
    """
    with prepared(row) as sides:
        return measure(sides, effort)
