"""A line on stderr that says how far the work is, once it is worth waiting for."""

from __future__ import annotations

import sys
import time


class Progress:
    """Silent for the first second; then one line that is rewritten on a terminal, or a new one every ten seconds."""

    def __init__(self, patience: float = 1.0) -> None:
        self._terminal = sys.stderr is not None and sys.stderr.isatty()
        self._next = time.monotonic() + patience
        self._width = 0

    def show(self, line: str) -> None:
        """Say how far the work is, if it is time to."""
        now = time.monotonic()
        if now < self._next or sys.stderr is None:
            return
        self._next = now + (0.1 if self._terminal else 10.0)
        if self._terminal:
            print("\r" + line.ljust(self._width), end="", file=sys.stderr, flush=True)
            self._width = len(line)
        else:
            print(line, file=sys.stderr, flush=True)

    def done(self) -> None:
        """Wipe the line."""
        if self._width:
            print("\r" + " " * self._width + "\r", end="", file=sys.stderr, flush=True)
            self._width = 0
