"""The tables of a report, before they are written as LaTeX, Markdown or HTML.

Sections that differ in the task's parameter `dim` alone are a family: its accuracy stands in one table by dimension.
Every table says what it holds; how that looks is the business of the writers.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from otbench.names import few
from otbench.records.record import Record
from otbench.report.columns import HARNESS, KEEPS_ROWS, READS_LABEL, Column, metric_column, written
from otbench.report.files import Slugs
from otbench.report.rows import COPIES, COPIES_SAY, IDENTITY, LEGEND, LOADED, STALE, Number, Row, Section, number
from otbench.reporting import Metric

SIZE = "dim"
"""The task parameter that tables and figures are drawn against; `--dim` sets it."""
FRACTIONS = (0.1, 0.01)
"""Targets of the time to a target, as parts of the score of doing nothing."""
_EFFICIENCY = tuple(column for column in HARNESS if column.best is not None)
_FAILURES_SHOWN = 3
_CODE_SHOWN = 5
"""Commits named of one table at most."""
_ROUNDING = 1e-6
"""Relative difference below which two scores count as equal."""


@dataclass(frozen=True)
class Cell:
    """One cell.

    Attributes:
        mean: the number as written, or a word in its place ("diverged", "not reached"); empty: nothing to show.
        half: half width of the interval as written; may be empty.
        value: what the cell is sorted by; None is last.
        rank: 1 best, 2 second, 0 neither.
        marks: keys of `LEGEND`.
        notes: footnotes, as indices into the table's notes.
        row: what the number is made of; None for an empty cell.
    """

    mean: str = ""
    half: str = ""
    value: float | None = None
    rank: int = 0
    marks: str = ""
    notes: tuple[int, ...] = ()
    row: Row | None = None

    @property
    def failed(self) -> bool:
        """Whether a word stands in place of a number."""
        return bool(self.mean) and self.value is None

    @property
    def text(self) -> str:
        """The cell as plain text; `-` for nothing."""
        return f"{self.mean} ±{self.half}" if self.half else self.mean or "-"


@dataclass
class Line:
    """One line of a table; `group` is 0 for sanity rows, 1 for solvers with their published rows, 2 for the others."""

    label: str
    kind: str
    group: int
    cells: list[Cell]
    marks: str = ""
    source: int | None = None
    notes: tuple[int, ...] = ()
    row: Row | None = None


@dataclass
class Table:
    """One table.

    Attributes:
        slug: name of its file and anchor.
        title: what is shown.
        context: of which instance, preset and device.
        columns: without the first, which holds the method.
        lines: in the order of printing.
        notes: footnotes, in the order of their letters.
        sources: where published lines are from; `Line.source` counts from 1.
        seeds: "n = 3 seeds".
        unranked: labels of metrics in which doing nothing is as good as the best solver.
        meanings: of the marks that stand in the table.
        remarks: sentences about the code that made the rows.
    """

    slug: str
    title: str
    context: str
    columns: list[Column]
    lines: list[Line]
    notes: list[str] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)
    seeds: str = ""
    unranked: list[str] = field(default_factory=list)
    meanings: dict[str, str] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)

    @property
    def heading(self) -> str:
        """The title as it begins a line."""
        return self.title[:1].upper() + self.title[1:]

    def legend(self, best: str, second: str) -> list[str]:
        """Return what marks and emphasis mean, the latter in the words of the writer."""
        text = [f"{mark} {meaning}." for mark, meaning in self.meanings.items()] + self.remarks
        if any(cell.rank for line in self.lines for cell in line.cells):
            text.append(f"{best}: best solver, {second}: second; sanity rows and rows with failed runs are not ranked.")
        if self.unranked:
            text.append(f"Not ranked, as doing nothing is as good there: {', '.join(self.unranked)}.")
        return text


@dataclass
class Family:
    """Sections that differ in their size alone, or one section by itself.

    Attributes:
        sizes: one per section; empty where the section has none, or there is one only.
    """

    slug: str
    title: str
    context: str
    sections: list[Section]
    sizes: list[float]

    @property
    def metrics(self) -> list[Metric]:
        """The metrics of all sections, each once."""
        return list({metric.name: metric for section in self.sections for metric in section.metrics}.values())


def families(sections: Iterable[Section], slugs: Slugs) -> list[Family]:
    """Group `sections`; the order is that of the first section of each family."""
    grouped: dict[tuple[object, ...], dict[float, Section]] = {}
    for index, section in enumerate(sections):
        size = section.config.get(SIZE)
        rest = tuple(sorted((key, repr(value)) for key, value in section.config.items() if key != SIZE))
        key: tuple[object, ...] = (section.task, section.preset, section.device, rest)
        usable = isinstance(size, (int, float)) and not isinstance(size, bool) and 0 < size < 1e15
        number_ = float(size) if usable and isinstance(size, (int, float)) else math.nan
        if not usable or number_ in grouped.get(key, {}):
            key = (*key, index)
        grouped.setdefault(key, {})[number_] = section
    return [_family(by_size, slugs) for by_size in grouped.values()]


def _family(by_size: Mapping[float, Section], slugs: Slugs) -> Family:
    members = [by_size[size] for size in sorted(by_size)]
    first = members[0]
    parts = [section.instance.split(", ") for section in members]
    common = ", ".join(part for part in parts[0] if all(part in other for other in parts)) or "all"
    return Family(
        slug=slugs.make(first.task, common, first.preset, first.device),
        title=f"{first.task}: {common}",
        context=first.context,
        sections=members,
        sizes=sorted(by_size) if len(members) > 1 else [],
    )


def tables(family: Family, slugs: Slugs) -> list[Table]:
    """Return the tables of a family for print: accuracy by dimension or in full, time to targets, efficiency."""
    made: list[Table] = []
    if family.sizes:
        made += [_by_size(family, metric, slugs) for metric in family.metrics]
        made += [table for part in FRACTIONS if (table := _targets(family, part, slugs)) is not None]
    else:
        made += [accuracy(section, family.context, slugs) for section in family.sections if section.metrics]
    made += [t for section in family.sections if (t := efficiency(section, family.context, slugs)) is not None]
    return made


def accuracy(section: Section, context: str, slugs: Slugs, *, everything: bool = False) -> Table:
    """Return the table of a section: its metrics and the score at step 0, with `everything` the harness's columns."""
    metrics = [*section.metrics, section.start] if section.start else []
    columns = [metric_column(metric) for metric in metrics]
    own = (READS_LABEL, KEEPS_ROWS)
    columns += [column for column in own if any(column.key in row.numbers for row in section.rows)]
    if everything:
        columns += [column for column in HARNESS if any(column.key in row.numbers for row in section.rows)]
    title = "all columns" if everything else "accuracy"
    return _of_section(section, title, context, columns, section.rows, slugs)


def efficiency(section: Section, context: str, slugs: Slugs) -> Table | None:
    """Return step time, training time, inference both ways, memory, stored bytes and parameters; None for nothing."""
    rows = [row for row in section.rows if row.kind != "published"]
    columns = [column for column in _EFFICIENCY if any(column.key in row.numbers for row in rows)]
    return _of_section(section, "efficiency", context, columns, rows, slugs) if columns else None


def time_to(record: Record, metric: Metric, target: float) -> float | None:
    """Return the training seconds at the first evaluation that is as good as `target`; None if none is."""
    sign = -1 if metric.higher_is_better else 1
    for point in record.curve:
        value = point.metrics.get(metric.name, math.nan)
        if point.step > 0 and sign * value <= sign * target and math.isfinite(point.train_s):
            return point.train_s
    return None


def times_to(row: Row, metric: Metric, target: float) -> list[float]:
    """Return `time_to` of the good runs of `row` that reach `target`."""
    return [time for record in row.good if (time := time_to(record, metric, target)) is not None]


def target(section: Section, part: float) -> tuple[Metric, float] | None:
    """Return the first metric, and the target in it: `part` of the score of doing nothing; None where there is none."""
    if not section.metrics or section.metrics[0].higher_is_better:
        return None
    metric = section.metrics[0]
    for row in section.rows:
        if row.kind == "baseline" and row.label == IDENTITY and metric.name in row.numbers:
            value = part * row.numbers[metric.name].mean
            return (metric, value) if 0 < value < math.inf else None
    return None


# ------------------------------------------------------------------------------------------------------------ building


_Notes: TypeAlias = dict[str, int]
"""Footnotes of one table, by text, with their indices."""


def _noted(notes: _Notes, text: str) -> tuple[int, ...]:
    """Return the footnote `text`, which is added to `notes` unless it is there; nothing for an empty one."""
    return (notes.setdefault(text, len(notes)),) if text else ()


def _of_section(
    section: Section, title: str, context: str, columns: list[Column], rows: Sequence[Row], slugs: Slugs
) -> Table:
    notes: _Notes = {}
    sources: dict[str, int] = {}
    lines = []
    for row, group in _ordered(rows):
        if row.kind == "published":
            cells = [_published(row.numbers.get(column.key), row) for column in columns]
            source = sources.setdefault(row.source, len(sources) + 1)
            line = Line(row.label, row.kind, group, cells, source=source, row=row)
            line.notes = _noted(notes, f"{row.label}, published: {row.note}" if row.note else "")
        else:
            cells = [_cell(row.numbers.get(column.key), column, row) for column in columns]
            if row.status and cells:
                cells[0] = Cell(row.status, row=row)
            line = Line(row.label, row.kind, group, cells, marks=row.marks, row=row)
            line.notes = _noted(notes, _failures(row.label, row))
        lines.append(line)
    timed = any(column.timed for column in columns)
    slug = slugs.make(section.task, section.instance, section.preset, section.device, title)
    where = f"{section.task}: {section.instance} ({context})"
    return _finished(Table(slug, title, where, columns, lines, list(notes), list(sources)), timed=timed)


def _by_size(family: Family, metric: Metric, slugs: Slugs) -> Table:
    column = metric_column(metric)
    by_section = [{row.key: row for row in section.rows} for section in family.sections]
    rows = {row.key: row for section in family.sections for row in section.rows}
    said = {row.key for section in family.sections for row in section.rows if metric.name in row.numbers}
    wanted = [row for key, row in rows.items() if row.kind != "published" or key in said]
    sources: dict[str, int] = {}
    heads = [Column(metric.name, f"d = {size:g}", best=column.best) for size in family.sizes]
    notes: _Notes = {}
    lines = []
    for row, group in _ordered(wanted):
        found = [section.get(row.key) for section in by_section]
        if row.kind == "published":
            cells = [_published(here.numbers.get(metric.name) if here else None, here) for here in found]
            source = sources.setdefault(row.source, len(sources) + 1)
            line = Line(row.label, row.kind, group, cells, source=source, row=row)
            line.notes = _noted(notes, _published_note(row.label, found, family.sizes, metric.name))
        else:
            cells = [
                _size_cell(here, column, notes, f"{row.label}, d = {size:g}") if here else Cell()
                for here, size in zip(found, family.sizes, strict=True)
            ]
            line = Line(row.label, row.kind, group, cells, row=row)
        lines.append(line)
    title = f"{column.head} by dimension"
    slug = slugs.make(family.slug, metric.label, "by-dimension")
    where = f"{family.title} ({family.context})"
    return _finished(Table(slug, title, where, heads, lines, list(notes), list(sources)), timed=False)


def _size_cell(row: Row, column: Column, notes: _Notes, name: str) -> Cell:
    made = _cell(row.numbers.get(column.key), column, row, marks=row.marks, notes=_noted(notes, _failures(name, row)))
    return replace(made, mean=row.status) if row.status else made


def _targets(family: Family, part: float, slugs: Slugs) -> Table | None:
    column = Column("time", "time", "s", best="low", most=3)
    goals = [target(section, part) for section in family.sections]
    solvers = [{row.label: row for row in s.rows if row.kind == "solver"} for s in family.sections]
    lines = []
    for label in sorted({label for rows in solvers for label in rows}):
        cells = [
            _time_cell(rows[label], goal, column) if label in rows and goal is not None else Cell()
            for rows, goal in zip(solvers, goals, strict=True)
        ]
        if any(cell.mean for cell in cells):
            lines.append(Line(label, "solver", 1, cells, row=next(c.row for c in cells if c.row is not None)))
    if not lines:
        return None
    metric = next(goal[0] for goal in goals if goal is not None)
    title = f"training time (s) to {part:g} of identity's {metric.label}"
    where = f"{family.title} ({family.context})"
    heads = [Column("time", f"d = {size:g}", best="low") for size in family.sizes]
    return _finished(Table(slugs.make(family.slug, "time-to", f"{part:g}"), title, where, heads, lines), timed=True)


def _time_cell(row: Row, goal: tuple[Metric, float], column: Column) -> Cell:
    marks = "".join(mark for mark in row.marks if mark in (LOADED, STALE))
    if not row.good:
        return Cell(row.status, marks=marks, row=row)
    reached = times_to(row, *goal)
    if len(reached) < len(row.good):
        word = "not reached" if not reached else f"{len(reached)} of {len(row.good)} seeds"
        return Cell(word, marks=marks, row=row)
    return _cell(number(reached), column, row, marks=marks)


def _cell(value: Number | None, column: Column, row: Row, *, marks: str = "", notes: tuple[int, ...] = ()) -> Cell:
    if value is None:
        return Cell(marks=marks, notes=notes, row=row)
    mean, half = written(value, column)
    return Cell(mean, half, value.mean * column.scale, marks=marks, notes=notes, row=row)


def _published(value: Number | None, row: Row | None) -> Cell:
    """Return a published number as its paper prints it."""
    return Cell() if value is None else Cell(f"{value.mean:g}", value=value.mean, row=row)


def _published_note(label: str, rows: Sequence[Row | None], sizes: Sequence[float], metric: str) -> str:
    """Return the footnotes of a published line as one; where only numbers differ, the text is said once."""
    texts: dict[tuple[str, ...], list[tuple[float, list[str]]]] = {}
    for row, size in zip(rows, sizes, strict=True):
        if row is not None and row.note and metric in row.numbers:
            words = re.split(r"(?<![\w.])(\d+(?:\.\d+)?)(?![\w.])", row.note)  # text, number, text, ...
            texts.setdefault(tuple(words[::2]), []).append((size, words[1::2]))
    parts = []
    for template, found in texts.items():
        columns = ["/".join(dict.fromkeys(values)) for values in zip(*(numbers for _, numbers in found), strict=True)]
        text = "".join(a + b for a, b in zip(template, [*columns, ""], strict=True))
        parts.append(f"d = {', '.join(f'{size:g}' for size, _ in found)}: {text}")
    return f"{label}, published: " + "; ".join(parts) if parts else ""


def _failures(name: str, row: Row) -> str:
    if not row.failures:
        return ""
    more = len(row.failures) - _FAILURES_SHOWN
    return f"{name}: " + "; ".join(row.failures[:_FAILURES_SHOWN]) + (f"; and {more} more" if more > 0 else "")


def _ordered(rows: Sequence[Row]) -> list[tuple[Row, int]]:
    """Return rows with their groups: sanity rows, each solver followed by its published rows, published rows alone."""
    baselines = sorted((row for row in rows if row.kind == "baseline"), key=lambda row: row.label)
    solvers = sorted((row for row in rows if row.kind == "solver"), key=lambda row: row.label)
    published = [row for row in rows if row.kind == "published"]
    last = {row.solver: row for row in solvers}
    ordered = [(row, 0) for row in baselines]
    for row in solvers:
        ordered.append((row, 1))
        if last[row.solver] is row:
            ordered += [(other, 1) for other in published if other.solver == row.solver]
    return ordered + [(row, 2) for row in published if row.solver not in last]


def _finished(table: Table, *, timed: bool) -> Table:
    """Rank the cells of each column, explain marks (those of times where it is `timed`), and say how many seeds."""
    _explain(table, timed)
    for index, column in enumerate(table.columns):
        if column.best is not None:
            _rank(table, index, -1 if column.best == "high" else 1, against_nothing=column.metric)
    cells = [cell for line in table.lines for cell in line.cells if line.kind != "published"]
    counts = {len(cell.row.good) for cell in cells if cell.row is not None and cell.value is not None}
    if counts:
        least, most = min(counts), max(counts)
        table.seeds = f"n = {least}" + (f" to {most}" if most > least else "") + (" seeds" if most > 1 else " seed")
        if least == 1 < most and any(column.interval for column in table.columns):
            table.seeds += "; numbers without ± are of one seed"
    return table


def _explain(table: Table, timed: bool) -> None:
    """Leave out marks that say nothing here, and say what the others mean.

    Where all rows are made by other code than this checkout's, one remark says so in place of a mark on each.
    """
    measured = [line for line in table.lines if line.kind != "published"]
    rows = [row for line in measured for row in (line.row, *(cell.row for cell in line.cells)) if row is not None]
    code = list(dict.fromkeys(words for row in rows for words in row.stale))
    made = f"{LEGEND[STALE]}: {few(code, _CODE_SHOWN)}"
    hidden = "" if timed else LOADED
    if code and all(row.stale for row in rows):
        hidden += STALE
        table.remarks.append(f"All rows are {made}.")
    gone = str.maketrans("", "", hidden)
    for line in measured:
        line.marks = line.marks.translate(gone)
        line.cells = [replace(cell, marks=cell.marks.translate(gone)) for cell in line.cells]
    if any(row.kind == "baseline" and row.label == COPIES for row in rows):
        table.remarks.append(COPIES_SAY)
    used = {mark for line in measured for mark in line.marks + "".join(cell.marks for cell in line.cells)}
    table.meanings = {mark: text for mark, text in (LEGEND | {STALE: made}).items() if mark in used}
    verified = list(dict.fromkeys(f"{row.label} ({words})" for row in rows for words in row.verified))
    if verified:
        agreed = "Made by other code, and repeated by this checkout's bit-equal or within the spread"
        table.remarks.append(f"{agreed}: {', '.join(verified)}.")


def _rank(table: Table, index: int, sign: int, *, against_nothing: bool) -> None:
    """Rank solvers, but not times under load, nor a metric in which doing nothing is as good as the best of them.

    The latter are p-values and inverses.
    """
    scores: dict[int, float] = {}
    for place, line in enumerate(table.lines):
        cell = line.cells[index]
        spoilt = table.columns[index].timed and LOADED in line.marks + cell.marks
        sound = line.kind == "solver" and cell.row is not None and not cell.row.failures and not spoilt
        if sound and cell.value is not None and math.isfinite(cell.value):
            scores[place] = sign * cell.value
    if len(scores) < 2:
        return
    best, second = ([*sorted(set(scores.values())), math.inf])[:2]
    idle = [line.cells[index].value for line in table.lines if line.kind == "baseline" and line.label == IDENTITY]
    reach = best + _ROUNDING * abs(best)
    if against_nothing and any(value is not None and sign * value <= reach for value in idle):
        table.unranked.append(table.columns[index].label)
        return
    alone = list(scores.values()).count(best) == 1
    for place, score in scores.items():
        rank = 1 if score == best else 2 if score == second and alone else 0
        table.lines[place].cells[index] = replace(table.lines[place].cells[index], rank=rank)
