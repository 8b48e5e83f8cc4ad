"""What every test shares: how hypothesis draws, that each test says what it is for, and what a run left out."""

from __future__ import annotations

import os
import re
from collections import Counter

import pytest
from hypothesis import HealthCheck, settings

from helpers.debug_differs import DIFFERS

# No deadline: these machines are shared, and nothing here is a timing. The examples that failed are printed so that
# they can be pasted into a test.
settings.register_profile("scopedbump", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("scopedbump")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Refuse tests without a sentence that says what holds."""
    silent = [item.nodeid for item in items if isinstance(item, pytest.Function) and not item.function.__doc__]
    if silent:
        raise pytest.UsageError("tests without a docstring: " + ", ".join(silent))
    if os.environ.get("SCOPEDBUMP_DEBUG", "") not in ("", "0"):
        leave_out(items)


def leave_out(items: list[pytest.Item]) -> None:
    """Skip the tests that assert what debug regions change."""
    matched = set()
    for item in items:
        for beginning, reason in DIFFERS.items():
            if item.nodeid.startswith(beginning):
                matched.add(beginning)
                item.add_marker(pytest.mark.skip(reason=f"differs in debug regions: {reason}"))
    files = {item.nodeid.partition("::")[0] for item in items}
    stale = [each for each in DIFFERS.keys() - matched if each.partition("::")[0] in files and "::" in each]
    if stale and not any("::" in argument for argument in items[0].config.args):
        raise pytest.UsageError("tests/helpers/debug_differs.py names what is no test: " + ", ".join(sorted(stale)))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say at the end what was left out, why, and how to get it."""
    reasons: Counter[str] = Counter()
    for report in terminalreporter.stats.get("skipped", []):
        reason = str(report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr)
        missing = re.search(r"(?:could not import '|No module named '|^Skipped: (?=\w+ is not installed))(\w+)", reason)
        reasons[f"needs {missing[1]}" if missing else reason.removeprefix("Skipped: ")] += 1
    deselected: Counter[str] = Counter()
    for item in terminalreporter.stats.get("deselected", []):
        deselected.update({mark.name for mark in item.iter_markers()})
    if not reasons and not deselected:
        return
    terminalreporter.section("left out here")
    for reason, count in sorted(reasons.items()):
        terminalreporter.line(f"{count:5} {reason}")
    for mark, why in (("long", "takes minutes"), ("alone", "changes a setting of the whole machine")):
        if deselected[mark]:
            terminalreporter.line(f"{deselected[mark]:5} deselected: it {why}, and runs with -m {mark}")
    terminalreporter.line(
        "What tests need comes with: python -m pip install --group gate --group servers (pip 25.1, in a checkout)"
    )
