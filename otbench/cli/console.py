"""The console that all screens print to."""

from __future__ import annotations

from rich.console import Console

PLAIN_WIDTH = 160
"""Columns where the output is no terminal."""


def console() -> Console:
    """Return a console as wide as the terminal, or wide enough for a table where there is none."""
    plain = Console(highlight=False)
    return plain if plain.is_terminal else Console(highlight=False, width=PLAIN_WIDTH)
