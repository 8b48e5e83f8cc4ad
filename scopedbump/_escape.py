"""The names that say what happens to an escape."""

from __future__ import annotations

from typing import Literal, TypeAlias

Escape: TypeAlias = Literal["keep", "warn", "raise"]
"""What an escape does when its region closes: nothing, an EscapeWarning, or an EscapeError."""
