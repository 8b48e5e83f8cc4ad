"""What every test shares: how hypothesis draws, and that each test says what it is for."""

from __future__ import annotations

import os

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
