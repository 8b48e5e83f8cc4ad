"""`python -m scopedbump bench`: what it measures, how it reports, and what it says of rows that cannot run."""

from __future__ import annotations

import json
import time
import xml.etree.ElementTree as ET
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scopedbump.__main__ import main
from scopedbump._cli import chart, measure, one_row
from scopedbump._cli.measure import Effort, Figures, Row, Sides, UnavailableError, figures, loop, prepared
from scopedbump._cli.rows import every

_FIGURES = Figures(
    ours=1e-7, theirs=2e-7, ratio=0.5, low=0.4, high=0.6, floor=5e-8, floor_is="nothing", rounds=7, note="so it is"
)


def _row(sides: Sides, most: float | None = None) -> Row:
    @contextmanager
    def prepare() -> Generator[Sides]:
        yield sides

    return Row("this", "that", most, prepare)


def _answering(monkeypatch: pytest.MonkeyPatch, rows: list[Row], answers: list[Figures | str]) -> None:
    def answer(number: int, quick: bool) -> Figures | str:
        return answers[number]

    monkeypatch.setattr(one_row, "figures", answer)
    monkeypatch.setattr("scopedbump._cli.rows.every", lambda: rows)


def test_a_loop_times_its_statement_alone() -> None:
    """The statement runs as often as asked, first and last once, and what is untimed is not in the time."""
    did: list[str] = []
    run = loop(
        "do('x')",
        first="do('first')",
        last="do('last')",
        untimed="do('before'); sleep(0.05)",
        do=did.append,
        sleep=time.sleep,
    )
    assert 0 <= run(3) < 0.05
    assert did == ["before", "first", "x", "x", "x", "last"]


def test_a_loop_sees_its_names_as_locals() -> None:
    """A name that `first` binds is the statement's, and the caller's names are not global."""
    taken: list[int] = []
    loop("keep(next(numbers))", first="numbers = iter(range(9))", keep=taken.append)(4)
    assert taken == [0, 1, 2, 3]
    assert "numbers" not in globals()


def test_sides_are_measured_in_turn() -> None:
    """Each round runs each side once, and which comes first alternates."""
    order: list[str] = []

    def side(name: str, seconds: float) -> measure.Loop:
        def run(count: int) -> float:
            order.append(name)
            return seconds * count

        return run

    found = figures(
        _row(Sides(side("ours", 1.0), side("theirs", 2.0), side("floor", 0.5), batch=10)), Effort(0.01, 4, 9.0)
    )
    assert order == ["floor", "theirs", "ours", "ours", "theirs", "floor"] * 2
    assert (found.ours, found.theirs, found.floor) == (1.0, 2.0, 0.5)
    assert (found.ratio, found.low, found.high) == (0.5, 0.5, 0.5)


def test_figures_are_the_best_and_the_spread_is_of_the_rounds() -> None:
    """The ratio is best against best; a slow round widens the spread alone."""
    times = iter([1.0, 1.0, 1.0, 8.0, 1.0])

    def ours(count: int) -> float:
        return next(times) * count

    found = figures(_row(Sides(ours, lambda count: 2.0 * count, batch=1)), Effort(0.01, 5, 9.0))
    assert found.ratio == 0.5
    assert found.low == 0.5 and found.high == 4.0


def test_rounds_that_take_long_are_fewer() -> None:
    """When the time is up five rounds are enough."""

    def slow(count: int) -> float:
        time.sleep(0.001)
        return 1.0 * count

    assert figures(_row(Sides(slow, slow, batch=1)), Effort(0.01, 1000, 0.0)).rounds == 5


def test_a_batch_is_long_enough_to_be_timed() -> None:
    """A fast statement is repeated until a batch takes about as long as was asked for."""
    counts: list[int] = []

    def ours(count: int) -> float:
        counts.append(count)
        return count * 1e-6

    figures(_row(Sides(ours, lambda count: count * 1e-6)), Effort(0.01, 3, 9.0))
    assert counts[-1] >= 5000


def test_every_row_has_words_and_a_bound_that_means_something() -> None:
    """Rows are unique by their words, and bounds are positive."""
    rows = every()
    labels = [(row.work, row.against) for row in rows]
    assert len(set(labels)) == len(labels) > 30
    assert all(row.most is None or row.most > 0 for row in rows)


@pytest.mark.parametrize(
    "number",
    [
        # Hundreds of megabytes for one row: not in the quick run.
        pytest.param(number, id=row.work, marks=[pytest.mark.long] if "64.0 MiB" in row.work else [])
        for number, row in enumerate(every())
    ],
)
def test_every_row_does_what_it_says(number: int) -> None:
    """Both sides of each row run, twice in a row; rows for what is not here say so."""
    row = every()[number]
    try:
        with prepared(row) as sides:
            for side in (sides.ours, sides.theirs, sides.floor):
                if side is not None:
                    assert side(3) >= 0
                    assert side(2) >= 0
    except UnavailableError as reason:
        pytest.skip(str(reason))


@pytest.mark.parametrize(
    ("missing", "error"),
    [("numpy.linalg", UnavailableError), (None, UnavailableError), ("scopedbump._gone", ImportError)],
)
def test_only_what_is_not_ours_may_be_missing(missing: str | None, error: type[Exception]) -> None:
    """A row without its library cannot run here; one that misses a part of scopedbump has broken down."""

    @contextmanager
    def prepare() -> Generator[Sides]:
        raise ImportError("gone", name=missing)
        yield

    with pytest.raises(error, match="gone"), prepared(Row("this", "that", None, prepare)):
        pass


def test_bench_prints_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    """A row's line has both times, the ratio, the spread, the bound and the floor; the machine stands above."""
    assert main(["bench", "--quick", "--only", "alloc(64) / memoryview"]) == 0
    out = capsys.readouterr().out
    for word in (
        "machine",
        "Python",
        "cffi",
        "GIL",
        "quick: the figures are rough",
        "alloc(64)",
        "1.4",
        "at most",
        "..",
    ):
        assert word in out


def test_bench_prints_json(capsys: pytest.CaptureFixture[str]) -> None:
    """With --json the output is one object, with the machine and a row of numbers."""
    assert main(["bench", "--quick", "--json", "--only", "slab(64)*"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert {"machine", "Python", "cffi", "GIL", "date"} <= set(answer["about"])
    (row,) = answer["rows"]
    assert row["at_most"] == 0.8
    assert row["ours"] > 0 and row["theirs"] > 0
    assert abs(row["ratio"] - row["ours"] / row["theirs"]) < 1e-9
    assert row["low"] <= row["high"]


def test_bench_draws_a_chart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With --svg a chart of the same ratios is written as well-formed SVG."""
    path = tmp_path / "chart.svg"
    assert main(["bench", "--quick", "--only", "slab(64)*", "--svg", str(path)]) == 0
    assert "slab(64), a block" in capsys.readouterr().out
    text = "".join(ET.parse(path).getroot().itertext())
    assert "slab(64), a block / memoryview(bytearray(64))" in text


def test_a_chart_that_cannot_be_written_is_refused_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder that is not there is an error before anything is measured."""
    assert main(["bench", "--svg", str(tmp_path / "no" / "chart.svg")]) == 1
    out, err = capsys.readouterr()
    assert not out and "chart.svg" in err


def test_a_pattern_that_fits_nothing_lists_the_rows(capsys: pytest.CaptureFixture[str]) -> None:
    """An --only without a match ends with status 1 and the words of all rows."""
    assert main(["bench", "--only", "no such row"]) == 1
    err = capsys.readouterr().err
    assert "no such row" in err and "import scopedbump / import _cffi_backend" in err


def test_rows_that_cannot_run_say_why(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A missing library is no failure; a row that breaks down is, and the others are still there."""
    answers: list[Figures | str] = [_FIGURES, "n/a: No module named 'numpy'", "failed: TypeError: oh"]
    rows = every()[:3]
    _answering(monkeypatch, rows, answers)
    assert main(["bench"]) == 1
    out = capsys.readouterr().out
    assert "n/a: No module named 'numpy'" in out and "failed: TypeError: oh" in out and "so it is" in out
    assert "0.50" in out and "100 ns" in out


def test_a_row_over_its_bound_is_marked_and_is_no_failure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A ratio above what was promised has a mark in the table; the status stays 0."""
    _answering(monkeypatch, [_row(Sides(loop("pass"), loop("pass")), most=0.3)], [_FIGURES])
    assert main(["bench"]) == 0
    assert "0.50!" in capsys.readouterr().out


def test_a_process_that_breaks_down_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """What ends with an exception, or without an answer, gives "failed" and the last line of it."""
    assert one_row.figures(10_000, quick=True) == "failed: IndexError: list index out of range"


_LABELS = st.text(st.characters(codec="utf-8", exclude_categories=["C"]), max_size=20)
_BOUNDS = st.one_of(st.none(), st.floats(0.01, 100))


@given(st.lists(st.tuples(_LABELS, st.floats(1e-4, 1e4), _BOUNDS), max_size=8))
def test_charts_are_well_formed_whatever_the_rows(rows: list[tuple[str, float, float | None]]) -> None:
    """Any printable label and any ratio gives well-formed XML with a bar inside of the picture for each row."""
    root = ET.fromstring(chart.bars(rows, "a <caption> & more"))
    width = float(root.attrib["width"])
    found = [each for each in root.iter("{http://www.w3.org/2000/svg}rect") if "x" in each.attrib]
    assert len(found) == len(rows)
    for bar in found:
        left = float(bar.attrib["x"])
        assert left >= 0
        assert left + float(bar.attrib["width"]) <= width
