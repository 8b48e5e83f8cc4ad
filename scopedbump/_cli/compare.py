"""`python -m scopedbump run --compare`: a program with NumPy's memory in a region, and as it is.

Each run is a fresh process, and which of the two comes first alternates. The figures are medians. The verdict goes by
the ratio of each turn, for what disturbs the machine disturbs both of a turn alike; and by CPU time where the system
says it, in which the share that other programs took is not.
"""

import os
import subprocess
import sys
import tempfile
import time
from argparse import Namespace
from statistics import median
from typing import NamedTuple

from .figures import table
from .run import SAYS


class Cost(NamedTuple):
    """What one run took, in seconds and MiB; all but the time is 0 where the system does not say."""

    status: int
    said: list[str]
    time: float
    cpu: float
    faults: int
    peak: float


def run(chosen: Namespace) -> int:
    """Print the figures of both ways and the verdict."""
    python = [sys.executable, *vars(subprocess)["_args_from_interpreter_flags"]()]  # as multiprocessing starts one
    program = [*(["-m"] if chosen.module else []), chosen.program, *chosen.arguments]
    options = ["--size", str(chosen.size), "--min-bytes", str(chosen.min_bytes)]
    ways = [*python, "-m", __name__.removesuffix("._cli.compare"), "run", *options, *program], [*python, *program]
    turns: list[tuple[Cost, Cost]] = []
    for number in range(5):
        costs = {at: _cost(ways[at]) for at in ((0, 1) if number % 2 else (1, 0))}
        ours, plain = costs[0], costs[1]
        if ours.status != plain.status or ours.status < 0:
            unlike = f"status {ours.status} in a region, {plain.status} without"
            last_words = (ours if ours.status else plain).said[-10:]
            print(f"{SAYS}there is nothing to compare: {unlike}", *last_words, sep="\n", file=sys.stderr)
            return 1
        turns.append((ours, plain))
    rows = [("", "in a region", "as it is", "ratio")]
    columns = [("time (s)", "time", 3), ("CPU time (s)", "cpu", 3), ("page faults", "faults", 0)]
    for name, what, digits in [*columns, ("peak memory (MiB)", "peak", 1)]:
        one, other = (median([getattr(cost, what) for cost in side]) for side in zip(*turns, strict=True))
        rows += [(name, f"{one:,.{digits}f}", f"{other:,.{digits}f}", f"{one / other:.2f}")] if other else []
    print(table(rows))
    if turns[0][0].status:
        print(f"\nthe program ended with status {turns[0][0].status}, both ways")
    why = [line.removeprefix(SAYS) for line in turns[0][0].said if line.startswith(SAYS)]
    print("\n" + verdict([(ours.cpu or ours.time) / (plain.cpu or plain.time) for ours, plain in turns], *why))
    return 0


def _cost(command: list[str]) -> Cost:
    with tempfile.TemporaryFile() as errors:
        start, cpu, faults, peak = time.perf_counter(), 0.0, 0, 0.0
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors) as child:
            if sys.platform != "win32":
                _, ended, usage = os.wait4(child.pid, 0)
                child.returncode = os.waitstatus_to_exitcode(ended)
                cpu = usage.ru_utime + usage.ru_stime
                faults = usage.ru_minflt
                peak = usage.ru_maxrss / (1 << (20 if sys.platform == "darwin" else 10))
        seconds = time.perf_counter() - start
        errors.seek(0)
        said = errors.read().decode(errors="replace").splitlines()
        return Cost(child.returncode, said, seconds, cpu, faults, peak)


def verdict(ratios: list[float], why: str = "") -> str:
    """What the ratios of the turns say; `why` is why nothing can be gained, when nothing can."""
    low, *ordered, high = sorted(ratios)
    found = f"{median(ratios):.2f} of the CPU time, {low:.2f} to {high:.2f}"
    if ordered[-1] < 1 and median(ratios) <= 0.97 and not why:  # all turns but one, by what somebody would notice
        return f"It pays here: {found}."
    if ordered[0] <= 1:
        found = f"no difference beyond the noise ({low:.2f} to {high:.2f})"
    return f"It does not pay here: {found}." + (f"\n{why}." if why else "")
