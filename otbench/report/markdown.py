"""Tables as Markdown, and every number as CSV."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence

from otbench.records.export import FORMULA
from otbench.report.columns import HARNESS
from otbench.report.files import letter
from otbench.report.reach import goals, reach
from otbench.report.rows import Number, Row, Section
from otbench.report.tables import Cell, Family, Line, Table, raised

_HEAD = ("task", "instance", "preset", "device", "kind", "method", "source", "quantity", "unit")
_VALUES = ("mean", "half", "n", "marks", "failures", "records")


def markdown_escape(text: str) -> str:
    """Return `text` such that Markdown and the HTML in it print it as it stands."""
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    text = re.sub(r"([\\`*_\[\]|~$#@])", r"\\\1", text)
    return re.sub(r"(?i)(www)\.", r"\1\.", text.replace("://", r"\://"))  # no links either


def markdown(tables: Sequence[tuple[Family, Sequence[Table]]], command: str, figures: Sequence[str] = ()) -> str:
    """Return all tables in one document.

    Args:
        tables: by family.
        command: the command that makes it again.
        figures: paths of figures, relative to the document.
    """
    code = re.sub(r"[`\r\n]", "?", command)
    out = ["# Results", "", f"Made by otbench; made again by `{code}`.", ""]
    for family, members in tables:
        out += [f"## {markdown_escape(family.title)}", "", markdown_escape(family.context), ""]
        out += [f"![{name.rpartition('/')[2].rpartition('.')[0]}]({name})" for name in figures if _of(name, family)]
        out += [""] if out[-1] else []
        for table in members:
            out += _markdown(table, family)
    return "\n".join(out).rstrip() + "\n"


def _of(name: str, family: Family) -> bool:
    return name.rpartition("/")[2].startswith(f"{family.slug}--")


def _markdown(table: Table, family: Family) -> list[str]:
    where = table.context.partition(" (")[0]
    out = [f"### {markdown_escape(table.heading if where == family.title else f'{table.heading}. {where}')}", ""]
    heads = [column.head for column in table.columns]
    out.append("| " + " | ".join(["method", *map(markdown_escape, heads)]) + " |")
    out.append("| --- |" + " ---: |" * len(heads))
    for line in table.lines:
        out.append("| " + " | ".join([_method(line), *map(_cell, line.cells)]) + " |")
    out.append("")
    lines = [markdown_escape(text) for text in table.legend("bold")]
    if table.seeds:
        lines.append(markdown_escape(table.seeds) + ".")
    notes = [" ".join(lines)] if lines else []
    notes += [f"<sup>{letter(index)}</sup> {markdown_escape(note)}" for index, note in enumerate(table.notes)]
    notes += [f"\\[{index}\\] {markdown_escape(source)}" for index, source in enumerate(table.sources, 1)]
    for note in notes:
        out += [note, ""]
    return out


def _method(line: Line) -> str:
    name = markdown_escape(line.row.label) + (f" (published) \\[{line.source}\\]" if line.source is not None else "")
    return name + _raised(line)


def _cell(cell: Cell) -> str:
    text = f"**{cell.text}**" if cell.rank else cell.text
    return text + _raised(cell)


def _raised(part: Line | Cell) -> str:
    text = markdown_escape(raised(part))
    return f"<sup>{text}</sup>" if text else ""


def numbers_csv(sections: Sequence[Section]) -> str:
    """Return one line per number: all metrics, columns of the harness and times to targets, unrounded, with records."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*_HEAD, *_VALUES])
    harness = {column.key: (column.unit, column.scale) for column in HARNESS}
    for section in sections:
        known = {metric.name: (metric.unit, 1.0) for metric in (*section.shown, *section.secondary)} | harness
        for row in section.rows:
            head = [section.task, section.instance, section.preset, section.device, row.kind, row.label, row.source]
            head = [_cell_text(text) for text in head]
            for key, value in row.numbers.items():
                unit, scale = known.get(key, ("", 1.0))
                writer.writerow([*head, _cell_text(key), _cell_text(unit), *_values(value, scale), *_tail(row)])
            for goal in goals(section):
                if (taken := reach(row, goal).number) is not None:
                    clock = goal.clock
                    writer.writerow([*head, goal.key, clock.unit, *_values(taken, clock.scale), *_tail(row)])
            if not row.numbers:
                writer.writerow([*head, "", "", "", "", "", *_tail(row)])
    return out.getvalue()


def _values(value: Number, scale: float) -> list[str]:
    half = "" if value.half is None else f"{value.half * scale:.12g}"
    return [f"{value.mean * scale:.12g}", half, str(value.n or "")]


def _tail(row: Row) -> list[str]:
    return [row.marks, _cell_text("; ".join(row.failures)), _cell_text(" ".join(record.id for record in row.records))]


def _cell_text(text: str) -> str:
    """Return `text` such that no spreadsheet takes it for a formula."""
    text = text.replace("\r", " ").replace("\n", " ").replace("\0", " ")
    return f"'{text}" if text.startswith(FORMULA) else text
