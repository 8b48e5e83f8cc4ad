"""What every test shares: how hypothesis draws, and that each test says what it is for."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

# No deadline: these machines are shared, and nothing here is a timing. The examples that failed are printed so that
# they can be pasted into a test.
settings.register_profile("scopedbump", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("scopedbump")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Refuse tests without a sentence that says what holds."""
    silent = [item.nodeid for item in items if isinstance(item, pytest.Function) and not item.function.__doc__]
    if silent:
        raise pytest.UsageError("tests without a docstring: " + ", ".join(silent))
