"""Measures one row in a process of its own: `python -m scopedbump._cli.one_row NUMBER quick|full`.

So no row finds a heap, a cache or a garbage collector that another row has left in some state: what malloc does with
a large buffer depends on what was freed before, by a factor of twenty.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict

from . import measure
from .measure import Figures, UnavailableError

_PATIENCE = 600


def figures(number: int, quick: bool) -> Figures | str:
    """The figures of a row, or why there are none: "n/a: ..." or "failed: ..."."""
    command = [sys.executable, "-m", __name__, str(number), "quick" if quick else "full"]
    try:
        child = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_PATIENCE)
    except subprocess.TimeoutExpired:
        return f"failed: took more than {_PATIENCE} s"
    if child.returncode:
        last = child.stderr.strip().splitlines()[-1:] or [f"exit status {child.returncode}"]
        return f"failed: {last[0]}"
    answer = json.loads(child.stdout)
    return f"n/a: {answer}" if isinstance(answer, str) else Figures(**answer)


def main(number: int, effort: str) -> None:
    """Measure, and print JSON: the figures, or the reason why this row cannot run here."""
    from .rows import every

    try:
        found = measure.figures(every()[number], measure.QUICK if effort == "quick" else measure.FULL)
    except UnavailableError as reason:
        print(json.dumps(str(reason)))
    else:
        print(json.dumps(asdict(found)))


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
