"""The rows of `ratios.py` under pyperf: one side at a time, in worker processes, calibrated, with their spread.

    python tests/bench/bench.py --side ours -o ours.json
    python tests/bench/bench.py --side theirs -o theirs.json
    python -m pyperf compare_to --table theirs.json ours.json

`--only WORDS` picks rows, and pyperf's own options hold: `--fast`, `--rigorous`, `--affinity` ... `compare_to` also
compares two versions: `PYTHONPATH=CHECKOUT python tests/bench/bench.py --side ours -o old.json`. What depends on the
state of malloc's heap is measured in each worker as `ratios.py` says; its `first` rows and imports are there alone.
"""

from __future__ import annotations

from argparse import Namespace

import pyperf
from ratios import rows

# What the workers must see too: where scopedbump is, and what glibc was told to keep.
_INHERITED = ["PYTHONPATH", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"]


def _pass_on(command: list[str], chosen: Namespace) -> None:
    command += ["--side", chosen.side, "--only", chosen.only]


def main() -> None:
    """Measure the side that was asked for, row by row."""
    runner = pyperf.Runner(add_cmdline_args=_pass_on)
    runner.argparser.add_argument("--side", choices=("ours", "theirs"), default="ours", help="whose; else ours")
    runner.argparser.add_argument("--only", default="", metavar="WORDS", help="rows that have these words; else all")
    chosen = runner.parse_args()
    chosen.inherit_environ = [*(chosen.inherit_environ or []), *_INHERITED]
    for row in rows():
        name = f"{row.work} / {row.against}"
        timed = (row.ours if chosen.side == "ours" else row.theirs).timed()
        if timed is not None and chosen.only in name:
            runner.bench_time_func(name, timed)


if __name__ == "__main__":
    main()
