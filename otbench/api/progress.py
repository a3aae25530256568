"""One line on standard error that says how far something is."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Self

WIDTH = 79
"""Columns of the line."""
SECONDS = 0.2
"""Seconds between two changes of it, at least."""


class Line:
    """A line that is written over and over, and gone at the end; nothing at all where nobody looks."""

    def __init__(self, wanted: bool | None) -> None:
        """Show the line if it is `wanted`; None = on a terminal and in a notebook."""
        stream = sys.stderr
        notebook = type(stream).__module__.partition(".")[0] == "ipykernel"
        self._shown = (stream.isatty() or notebook) if wanted is None else wanted
        self._last = 0.0
        self._written = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take the line away."""
        if self._written:
            sys.stderr.write(f"\r{'':{WIDTH}}\r")
            sys.stderr.flush()

    def show(self, text: str) -> None:
        """Put `text` on the line, unless it was changed a moment ago."""
        now = time.monotonic()
        if self._shown and now - self._last >= SECONDS:
            sys.stderr.write(f"\r{text[:WIDTH]:{WIDTH}}")
            sys.stderr.flush()
            self._last, self._written = now, True
