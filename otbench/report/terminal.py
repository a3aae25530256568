"""The tables that `run` and `table` print."""

from __future__ import annotations

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from otbench.report.columns import EXPLAINED, HARNESS, READS_LABEL, Column, metric_column, quantity
from otbench.report.rows import LEGEND, Row, Section
from otbench.reporting import Metric


def print_sections(out: Console, sections: Sequence[Section], *, full_command: str | None = None) -> None:
    """Print `sections`, then what the columns mean.

    Args:
        out: where to.
        sections: what.
        full_command: the command that gives numbers comparable with published ones, for quick tables.
    """
    for section in sections:
        out.print()
        out.print(_title(section))
        for table in _tables(section, out):
            out.print(table)
        _print_notes(out, section)
    if not sections:
        return
    out.print("\n".join(EXPLAINED), style="dim")
    if full_command and not all(section.comparable or section.stand_in for section in sections):
        out.print("\nFor numbers that may stand beside published ones:", style="bold")
        out.print(f"  {escape(full_command)}", soft_wrap=True)


def _title(section: Section) -> Text:
    title = Text(f"{section.task}: {section.instance}", style="bold")
    kind = f"preset {section.preset}, {section.device}"
    if not section.comparable:
        kind += "; not comparable with published numbers"
    return title.append(f"  ({kind})", style="not bold")


def _tables(section: Section, out: Console) -> list[Table]:
    """Return one table, or several below each other where one does not fit: a number is never cut off."""
    columns = [c for c in (READS_LABEL, *HARNESS) if c.brief and any(c.key in row.numbers for row in section.rows)]
    metrics = [*section.metrics, section.start] if section.start else []
    room = out.options.update(max_width=10_000)

    def fits(table: Table) -> bool:
        return Measurement.get(out, room, table).maximum <= out.width

    whole = _table(section, metrics, columns)
    if fits(whole):
        return [whole]
    parts: list[list[Metric]] = [[]]
    for metric in metrics:
        if parts[-1] and not fits(_table(section, [*parts[-1], metric], [])):
            parts.append([])
        parts[-1].append(metric)
    tables = [_table(section, part, []) for part in parts]
    return [*tables, _table(section, [], columns)] if columns else tables


def _table(section: Section, metrics: Sequence[Metric], columns: Sequence[Column]) -> Table:
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("method", overflow="fold", min_width=10)
    for metric in metrics:
        unit = f"\n{metric.unit}" if metric.unit else ""
        table.add_column(Text(metric.label + unit), justify="right", no_wrap=True)
    for column in columns:
        table.add_column(
            Text(column.label + (f"\n{column.unit}" if column.unit else "")), justify="right", no_wrap=True
        )
    kind = section.rows[0].kind if section.rows else ""
    for row in section.rows:
        if row.kind != kind:
            table.add_section()
            kind = row.kind
        table.add_row(*_cells(row, section, metrics, columns), style="dim" if row.kind == "published" else None)
    return table


def _sources(section: Section) -> list[str]:
    """Return where the published rows of a section are from, in the order of their footnotes."""
    return list(dict.fromkeys(row.source for row in section.rows if row.source))


def _cells(row: Row, section: Section, metrics: Sequence[Metric], columns: Sequence[Column]) -> list[Text]:
    if row.kind == "published":  # as printed in the paper; of the harness's columns it can have none
        name = f"{row.label} [{_sources(section).index(row.source) + 1}]"
        values = [row.numbers.get(metric.name) for metric in metrics]
        return [Text(name), *(Text("-" if value is None else f"{value.mean:g}") for value in values)]
    cells = [Text(row.label + (f" {row.marks}" if row.marks else ""))]
    if row.status:
        return [*cells, Text(row.status, style="red")]
    for metric in metrics:
        cells.append(Text(quantity(row.numbers.get(metric.name), metric_column(metric))))
    for column in columns:
        cells.append(Text(quantity(row.numbers.get(column.key), column)))
    return cells


def _print_notes(out: Console, section: Section) -> None:
    for mark, meaning in LEGEND.items():
        if any(mark in row.marks for row in section.rows):
            out.print(Text(f"{mark}  {meaning}"))
    for row in section.rows:
        for failure in row.failures:
            out.print(Text(f"{row.label}: {failure}", style="red"))
    seeds = {n.n for row in section.rows if row.kind != "published" for n in row.numbers.values()}
    if seeds - {1}:
        several = f" to {max(seeds)}" if len(seeds) > 1 else ""
        out.print(Text(f"n = {min(seeds)}{several} seeds"))
    for k, source in enumerate(_sources(section), 1):
        out.print(Text(f"[{k}] published: {source}", style="dim"))
    notes = dict.fromkeys(f"{row.label}, published: {row.note}" for row in section.rows if row.note)
    for note in notes:
        out.print(Text(note, style="dim"))
