"""What every test shares: how hypothesis draws."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# No deadline: these machines are shared, and nothing here is a timing. The examples that failed are printed so that
# they can be pasted into a test.
settings.register_profile("scopedbump", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("scopedbump")
