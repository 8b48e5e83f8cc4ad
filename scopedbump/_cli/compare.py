"""`python -m scopedbump run --compare`: a program with NumPy's memory in a region, and as it is.

Each run is a fresh process. The two ways take turns, and which comes first alternates. The figures are the medians. The
verdict goes by the ratio of each turn, for what disturbs the machine disturbs both of a turn alike; and by CPU time
where the system says it, in which the share that other programs took is not.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import NamedTuple

from . import text

TURNS = 5
_WORTH = 0.97  # a gain below this is none that anybody would notice


class Cost(NamedTuple):
    """What one run took; CPU time, page faults and the most memory are None where the system does not say."""

    status: int
    seconds: float
    cpu: float | None
    faults: int | None
    peak: int | None


def run(chosen: Namespace) -> int:
    """Print the figures of both ways and the verdict."""
    with tempfile.TemporaryDirectory() as folder:
        report, said = Path(folder, "report"), Path(folder, "stderr")
        ours, plain = _commands(chosen, report)
        turns: list[tuple[Cost, Cost]] = []
        for number in range(TURNS):
            turns.append(_turn(ours, plain, said, first=number % 2 == 0))
            if turns[-1][0].status != turns[-1][1].status or turns[-1][1].status < 0:
                print(f"scopedbump run: {_different(turns[-1], said)}", file=sys.stderr)
                return 1
        figures: dict[str, int | str] = json.loads(report.read_text(encoding="utf-8")) if report.exists() else {}
    print(_table(turns))
    status = turns[0][1].status
    if status:
        print(f"\nthe program ended with status {status}, both ways")
    print("\n" + verdict([_used(ours) / _used(plain) for ours, plain in turns], figures))
    return 0


def _used(cost: Cost) -> float:
    return cost.cpu or cost.seconds


def _commands(chosen: Namespace, report: Path) -> tuple[list[str], list[str]]:
    python = [sys.executable, *_flags()]
    program = [*(["-m"] if chosen.module else []), chosen.program, *chosen.arguments]
    package = __name__.removesuffix("._cli.compare")
    ours = [*python, "-m", package, "run", "--size", str(chosen.size), "--report", str(report)]
    if chosen.min_bytes is not None:
        ours += ["--min-bytes", str(chosen.min_bytes)]
    return [*ours, *program], [*python, *program]


def _flags() -> list[str]:
    """The options that this interpreter was started with."""
    options = sys.orig_argv[1:]
    return options[: options.index("-m")] if "-m" in options else []


def _turn(ours: list[str], plain: list[str], said: Path, first: bool) -> tuple[Cost, Cost]:
    if first:
        mine = _cost(ours, said)
        return mine, _cost(plain, said)
    other = _cost(plain, said)
    return _cost(ours, said), other


def _cost(command: list[str], said: Path) -> Cost:
    with said.open("wb") as errors:
        start = time.perf_counter()
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors)
        try:
            if sys.platform == "win32":
                return Cost(child.wait(), time.perf_counter() - start, None, None, None)
            _, ended, usage = os.wait4(child.pid, 0)
        except BaseException:
            child.kill()
            raise
    seconds = time.perf_counter() - start
    child.returncode = os.waitstatus_to_exitcode(ended)
    unit = 1 if sys.platform == "darwin" else 1024
    return Cost(child.returncode, seconds, usage.ru_utime + usage.ru_stime, usage.ru_minflt, usage.ru_maxrss * unit)


def _different(turn: tuple[Cost, Cost], said: Path) -> str:
    ours, plain = turn
    lines = said.read_text(encoding="utf-8", errors="replace").splitlines()[-10:]
    return "\n".join([f"there is nothing to compare: status {ours.status} in a region, {plain.status} without", *lines])


def _table(turns: list[tuple[Cost, Cost]]) -> str:
    rows: list[tuple[str, ...]] = [("", "in a region", "as it is", "ratio")]
    sides = list(zip(*turns, strict=True))
    seconds = [median(cost.seconds for cost in side) for side in sides]
    rows.append(("time", *map(text.duration, seconds), f"{seconds[0] / seconds[1]:.2f}"))
    shows: list[tuple[str, str, Callable[[float], str]]] = [
        ("CPU time", "cpu", text.duration),
        ("page faults", "faults", lambda count: f"{count:,.0f}"),
        ("peak memory", "peak", lambda count: text.size(int(count))),
    ]
    for name, field, show in shows:
        values = [[value for cost in side if (value := getattr(cost, field)) is not None] for side in sides]
        if all(values):
            both = [median(each) for each in values]
            rows.append((name, *map(show, both), f"{both[0] / (both[1] or 1):.2f}"))
    return text.table(rows)


def verdict(ratios: list[float], figures: dict[str, int | str]) -> str:
    """What the ratios of the turns say, and why."""
    ordered = sorted(ratios)
    low, high, middle = ordered[1], ordered[-2], median(ordered)  # all but one turn agree
    why = _why(figures)
    if high < 1 and middle <= _WORTH and why is None:
        return f"It pays here: {middle:.2f} of the CPU time, {ordered[0]:.2f} to {ordered[-1]:.2f}."
    if low > 1:
        found = f"It does not pay here: {middle:.2f} of the CPU time, {ordered[0]:.2f} to {ordered[-1]:.2f}."
    else:
        found = f"It does not pay here: no difference beyond the noise ({ordered[0]:.2f} to {ordered[-1]:.2f})."
    return found if why is None else f"{found}\n{why}"


def _why(figures: dict[str, int | str]) -> str | None:
    """Why nothing can be gained; None when something can."""
    if "why_not" in figures:
        return f"{str(figures['why_not'])[0].upper()}{str(figures['why_not'])[1:]}."
    if figures.get("served_blocks") == 0:
        least = text.size(int(figures["min_bytes"]))
        return f"NumPy asked for no block of {least} or more (--min-bytes), or they did not fit (--size)."
    return None
