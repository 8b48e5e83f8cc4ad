"""`python -m scopedbump bench`: what scopedbump costs, each row against what a user would otherwise write."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from fnmatch import fnmatchcase
from pathlib import Path

from .. import __version__
from . import chart, facts, one_row, text
from .errors import CommandError
from .measure import Figures, Row
from .progress import Progress

_HOW = """\
Each row runs in a fresh process, the garbage collector on. ratio: the best batch of each, taken in turn in one run;
spread: the middle 80 % of the rounds, each by itself; where it is wide the machine was busy with something else.
Below 1 scopedbump is faster. "at most" is what it promises itself; ! marks a ratio above that.
floor: the least that Python and the system need for the like, below scopedbump's own work:"""


def run(only: str | None, quick: bool, as_json: bool, svg: str | None) -> int:
    """Measure and print. The status is 1 when a row broke down, not when one is slow."""
    from .rows import every

    rows = [(number, row) for number, row in enumerate(every()) if only is None or _fits(row, only)]
    if not rows:
        raise CommandError(f"no row fits {only!r}; the rows are:\n  " + "\n  ".join(_label(row) for row in every()))
    if svg is not None:
        _check_writable(Path(svg))
    found = _measured(rows, quick)
    about = {"scopedbump": __version__, "date": time.strftime("%Y-%m-%d"), **facts.machine()}
    if quick:
        about["effort"] = "quick: the figures are rough"
    print(_json(about, found) if as_json else _text(about, found))
    if svg is not None:
        bars = [(_label(row), figures.ratio, row.most) for row, figures in found if isinstance(figures, Figures)]
        Path(svg).write_text(
            chart.bars(bars, ", ".join(f"{name} {value}" for name, value in about.items())), encoding="utf-8"
        )
    return int(any(isinstance(figures, str) and figures.startswith("failed") for _, figures in found))


_Found = list[tuple[Row, "Figures | str"]]


def _measured(rows: list[tuple[int, Row]], quick: bool) -> _Found:
    found: _Found = []
    progress = Progress()
    try:
        for at, (number, row) in enumerate(rows, 1):
            progress.show(f"{at} of {len(rows)}: {_label(row)}")
            found.append((row, one_row.figures(number, quick)))
    finally:
        progress.done()
    return found


def _fits(row: Row, pattern: str) -> bool:
    return fnmatchcase(_label(row).lower(), f"*{pattern.lower()}*")


def _label(row: Row) -> str:
    return f"{row.work} / {row.against}"


def _check_writable(path: Path) -> None:
    # Before minutes of measuring, not after.
    with path.open("a"):
        pass


def _text(about: dict[str, str], found: _Found) -> str:
    head = ("work", "against", "ours", "theirs", "ratio", "spread", "at most", "floor")
    lines = [head, *(_line(row, figures) for row, figures in found if isinstance(figures, Figures))]
    parts = [text.table([*about.items()], left=2)]
    if len(lines) > 1:
        parts += [text.table(lines, left=2), "\n".join([_HOW, *_floors(found)])]
    notes = [f"{row.work}: {figures.note}" for row, figures in found if isinstance(figures, Figures) and figures.note]
    missing = [f"{_label(row)}: {figures}" for row, figures in found if isinstance(figures, str)]
    parts += ["\n".join(part) for part in (notes, missing) if part]
    return "\n\n".join(parts)


def _floors(found: _Found) -> list[str]:
    rows: dict[str, list[str]] = {}
    for row, figures in found:
        if isinstance(figures, Figures) and figures.floor is not None:
            rows.setdefault(figures.floor_is, []).append(row.work)
    return [f"  for {works[0]}{' and the like' * (len(works) > 1)}: {floor}" for floor, works in rows.items()]


def _line(row: Row, figures: Figures) -> tuple[str, ...]:
    missed = row.most is not None and figures.ratio > row.most
    return (
        row.work,
        row.against,
        text.duration(figures.ours),
        text.duration(figures.theirs),
        f"{figures.ratio:.2f}{'!' if missed else ''}",
        f"{figures.low:.2f}..{figures.high:.2f}",
        "" if row.most is None else f"{row.most:g}",
        "" if figures.floor is None else text.duration(figures.floor),
    )


def _json(about: dict[str, str], found: _Found) -> str:
    rows: list[dict[str, object]] = []
    for row, figures in found:
        entry: dict[str, object] = {"work": row.work, "against": row.against, "at_most": row.most}
        if isinstance(figures, Figures):
            entry.update(asdict(figures))
        else:
            entry["missing"] = figures
        rows.append(entry)
    return json.dumps({"about": about, "rows": rows}, indent=2)
