"""What several test files need, and what runs in other processes for them.

The folders of tests are packages below tests/, where `helpers` is found too. tests/typing is none: it would hide
the standard library's typing.
"""

from __future__ import annotations

from pathlib import Path

TESTS = Path(__file__).parents[1]
ROOT = TESTS.parent
