"""The tables that `run` and `table` print."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table as Grid
from rich.text import Text

from otbench.report.columns import EXPLAINED
from otbench.report.equal import SAYS
from otbench.report.files import Slugs
from otbench.report.rows import Section
from otbench.report.tables import REACH_SAYS, Line, Table, accuracy, equal_time, reaches, way
from otbench.report.way import SAYS as WAY_SAYS


def print_sections(out: Console, sections: Sequence[Section], *, full_command: str | None = None) -> None:
    """Print `sections`, then what the columns mean.

    Args:
        out: where to.
        sections: what.
        full_command: the command that gives numbers comparable with published ones, for quick tables.
    """
    slugs = Slugs()
    said: dict[str, None] = {}  # of the tables beside the main ones, each thing once
    for section in sections:
        table = accuracy(section, section.context, slugs, everything=True)
        out.print()
        title = Text(f"{section.task}: {section.instance}", style="bold")
        out.print(title.append(f"  ({section.context})", style="not bold"))
        for grid in _grids(table, out):
            out.print(grid)
        _print_notes(out, section, table)
        equal = equal_time(section, section.context, slugs)
        if equal is not None:
            _print_part(out, equal)
            said[f"at equal time: {SAYS}."] = None
        between = way(section, section.context, slugs)
        if between is not None:
            _print_part(out, between)
            said[WAY_SAYS] = None
        for more in islice(reaches(section, section.context, slugs), 1):
            _print_part(out, more)
            said[REACH_SAYS] = None
    if not sections:
        return
    out.print("\n".join([*EXPLAINED, *said]), style="dim")
    if full_command and not all(section.comparable or section.stand_in for section in sections):
        out.print("\nWith every solver's best setting, over three seeds:", style="bold")
        out.print(f"  {escape(full_command)}", soft_wrap=True)


def _print_part(out: Console, table: Table) -> None:
    out.print()
    out.print(Text(table.heading))
    for grid in _grids(table, out):
        out.print(grid)


def _grids(table: Table, out: Console) -> list[Grid]:
    """Return one grid, or several below each other where one does not fit: a number is never cut off."""
    brief = [index for index, column in enumerate(table.columns) if column.brief]
    metrics = [index for index in brief if table.columns[index].metric]
    others = brief[len(metrics) :]
    room = out.options.update(max_width=10_000)

    def fits(grid: Grid) -> bool:
        return Measurement.get(out, room, grid).maximum <= out.width

    whole = _grid(table, brief)
    if fits(whole):
        return [whole]
    parts: list[list[int]] = [[]]
    for index in metrics:
        if parts[-1] and not fits(_grid(table, [*parts[-1], index])):
            parts.append([])
        parts[-1].append(index)
    return [_grid(table, part) for part in ([*parts, others] if others else parts)]


def _grid(table: Table, chosen: Sequence[int]) -> Grid:
    """Return the columns `chosen` of `table`, by index."""
    grid = Grid(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    grid.add_column("method", overflow="fold", min_width=10)
    for column in (table.columns[index] for index in chosen):
        head = Text(column.label + (f"\n{column.unit}" if column.unit else ""))
        grid.add_column(head, justify="right", no_wrap=True)
    for line, before in zip(table.lines, [*table.lines[:1], *table.lines], strict=False):
        if line.group != before.group:
            grid.add_section()
        grid.add_row(*_cells(line, table, chosen), style="dim" if line.row.kind == "published" else None)
    return grid


def _cells(line: Line, table: Table, chosen: Sequence[int]) -> list[Text]:
    if line.row.kind == "published":  # of the harness's columns it can have none
        values = [line.cells[index].text for index in chosen if table.columns[index].metric]
        return [Text(f"{line.row.label} [{line.source}]"), *map(Text, values)]
    name = Text(line.row.label + (f" {line.marks}" if line.marks else ""))
    if line.row.status:
        return [name, Text(line.row.status, style="red")]
    return [name, *(Text(line.cells[index].text, "bold" if line.cells[index].rank else "") for index in chosen)]


def _print_notes(out: Console, section: Section, table: Table) -> None:
    for mark, meaning in table.meanings.items():
        out.print(Text(f"{mark}  {meaning}"))
    for remark in table.remarks:
        out.print(Text(remark))
    for sentence in [*(table.ranks("bold") if out.is_terminal else []), table.pairs]:
        if sentence:
            out.print(Text(sentence, style="dim"))
    for row in section.rows:
        for failure in row.failures:
            out.print(Text(f"{row.label}: {failure}", style="red"))
    if table.seeds not in ("", "n = 1 seed"):
        out.print(Text(table.seeds))
    for k, source in enumerate(table.sources, 1):
        out.print(Text(f"[{k}] published: {source}", style="dim"))
    for note in dict.fromkeys(f"{row.label}, published: {row.note}" for row in section.rows if row.note):
        out.print(Text(note, style="dim"))
