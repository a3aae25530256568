"""The console that all screens print to, and what they have in common. `rich` is imported when something is shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

PLAIN_WIDTH = 160
"""Columns where the output is no terminal."""


def console() -> Console:
    """Return a console as wide as the terminal, or wide enough for a table where there is none."""
    from rich.console import Console

    plain = Console(highlight=False)
    return plain if plain.is_terminal else Console(highlight=False, width=PLAIN_WIDTH)


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
