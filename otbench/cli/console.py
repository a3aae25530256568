"""The console that all screens print to, and what they have in common. `rich` is imported when something is shown."""

from __future__ import annotations

import re
import sys
from typing import IO, TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

PLAIN_WIDTH = 10_000
"""Columns where the output is no terminal: what reads it wraps lines itself, or wants them whole."""


def console() -> Console:
    """Return a console as wide as the terminal; where there is none, one that wraps nothing."""
    from rich.console import Console

    plain = Console(highlight=False)
    if plain.is_terminal:
        return plain
    return Console(file=cast("IO[str]", _WithoutTrailingSpaces(sys.stdout)), highlight=False, width=PLAIN_WIDTH)


class _WithoutTrailingSpaces:
    """A stream that drops the spaces with which tables fill their lines."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        return self._stream.write(re.sub(" +(?=\n)", "", text))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def say(*lines: str) -> None:
    """Print `lines` as they are: names in brackets are no markup, and paths are not cut."""
    console().print("\n".join(lines), markup=False, soft_wrap=True)


def plain_table(*heads: str, title: str | None = None) -> Table:
    """Return a table without rules; without heads, it has no header."""
    from rich.table import Table

    table = Table(
        box=None, padding=(0, 2, 0, 0), pad_edge=False, title=title, title_justify="left", show_header=bool(heads)
    )
    for head in heads:
        table.add_column(head, overflow="fold")
    return table
