"""What keeps a command from its work, in words for whoever called it."""

from __future__ import annotations


class CommandError(Exception):
    """The message is all there is to say; the exit status is 1."""
