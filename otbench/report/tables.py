"""The tables of a report, before they are written as LaTeX, Markdown or HTML.

Sections that differ in the task's parameter `dim` alone are a family: its accuracy stands in one table by dimension.
Every table says what it holds; how that looks is the business of the writers.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby

from otbench.names import few
from otbench.records.series import FLOORS
from otbench.report.columns import BUDGETS, HARNESS, KEEPS_ROWS, READS_LABEL, Column, metric_column, written
from otbench.report.equal import SAYS, at_equal_time, optimisers_of, optimisers_said, processors_said
from otbench.report.files import Slugs, letter
from otbench.report.pooled import Pool
from otbench.report.reach import FRACTIONS, Goal, goals, reach, target
from otbench.report.rows import (
    COPIES,
    COPIES_SAY,
    IDENTITY,
    LEGEND,
    LOADED,
    STALE,
    Number,
    Row,
    Section,
    block_of,
    number,
)
from otbench.report.way import SAYS as WAY_SAYS
from otbench.report.way import way_metrics
from otbench.reporting import Metric
from otbench.statistics.paired import Ranking, Values, ranking

SIZE = "dim"
"""The task parameter that tables and figures are drawn against; `--dim` sets it."""
OPTIMISER = "optimiser"
"""Column: the optimiser, in a word."""
REACH_SAYS = (
    "to 3 %: until the error has come down to 3 % to stay there, interpolated between points of the curve on"
    " logarithmic scales. s: wall clock. CPU s: processor. >: not by then, when the run ended."
)
"""What stands under the tables of `reaches`."""
RANKED_SAYS = (
    "all rows that are not shown to be worse than the best one (paired t-tests on values of the same seed, or on means"
    " over seeds where there are several instances; Holm over all pairs of a column, 5 %); sanity rows and rows with"
    " failed runs are not ranked."
)
"""What emphasis means."""
_EFFICIENCY = tuple(column for column in HARNESS if column.key not in BUDGETS)
_MORE_DIGITS = 2
"""Decimals that a number gets beyond what its own interval supports, where pairs of runs support them."""
_PAIRED_SHOWN = 8
"""Rows at most whose paired difference to the best one is spelt out."""
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
        rank: 1 where the row is ranked and not shown to be worse than the best one, else 0.
        marks: keys of `LEGEND`.
        notes: footnotes, as indices into the table's notes.
        row: what the number is made of; None for an empty cell.
        word: whether it is a word that is no failure.
        blocks: the values that it is the mean of, by instance and seed, in the record's unit.
    """

    mean: str = ""
    half: str = ""
    value: float | None = None
    rank: int = 0
    marks: str = ""
    notes: tuple[int, ...] = ()
    row: Row | None = None
    word: bool = False
    blocks: Values = field(default_factory=dict)

    @property
    def failed(self) -> bool:
        """Whether a word stands in place of a number; a bound is none."""
        return bool(self.mean) and self.value is None and not self.word and not self.mean.startswith(">")

    @property
    def text(self) -> str:
        """The cell as plain text; `-` for nothing."""
        return f"{self.mean} ±{self.half}" if self.half else self.mean or "-"


@dataclass
class Line:
    """One line of a table: a row of a section, or of several.

    Attributes:
        row: the first of the rows that the line shows; all of them have its label and kind.
        group: 0 for sanity rows, 1 for solvers with their published rows, 2 for the other published rows.
        cells: one for each column of the table.
        marks: as those of a cell.
        source: number in the table's sources, from 1; None unless published.
        notes: as those of a cell.
    """

    row: Row
    group: int
    cells: list[Cell]
    marks: str = ""
    source: int | None = None
    notes: tuple[int, ...] = ()


def raised(part: Line | Cell) -> str:
    """Return what stands raised behind `part`: its marks and the letters of its footnotes."""
    return ",".join([*part.marks, *map(letter, part.notes)])


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
        alone: labels of columns in which no two rows have two seeds in common: nothing can be shown there.
        left_out: rows that are not ranked, as they have fewer than two seeds in common with the others.
        pairs: what each row's paired difference to the best one is, in words.
        meanings: of the marks that stand in the table.
        remarks: sentences about the code, the optimisers and the processors that made the rows.
    """

    slug: str
    title: str
    context: str
    columns: list[Column]
    lines: list[Line] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)
    seeds: str = ""
    unranked: list[str] = field(default_factory=list)
    alone: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    pairs: str = ""
    meanings: dict[str, str] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)

    @property
    def heading(self) -> str:
        """The title as it begins a line."""
        return self.title[:1].upper() + self.title[1:]

    def add(self, row: Row, group: int, cells: list[Cell], *, marks: str = "", note: str = "") -> None:
        """Add a line; `note` is its footnote, if any."""
        source = _index(self.sources, row.source) + 1 if row.kind == "published" else None
        self.lines.append(Line(row, group, cells, marks, source, self.noted(note)))

    def noted(self, text: str) -> tuple[int, ...]:
        """Return the footnote `text`, which is added unless it is there; nothing for an empty one."""
        return (_index(self.notes, text),) if text else ()

    def legend(self, best: str) -> list[str]:
        """Return what marks and emphasis mean, the latter in the word of the writer, and what pairs of rows show."""
        text = [f"{mark} {meaning}." for mark, meaning in self.meanings.items()] + self.remarks
        return text + self.ranks(best) + ([self.pairs] if self.pairs else [])

    def ranks(self, best: str) -> list[str]:
        """Return what emphasis means, in the word of the writer, and where nothing is emphasised."""
        text = []
        if any(cell.rank for line in self.lines for cell in line.cells):
            text.append(f"{best[:1].upper()}{best[1:]}: {RANKED_SAYS}")
        if self.alone:
            where = "" if len(self.alone) == sum(column.best is not None for column in self.columns) else " in these"
            said = "One seed shows no row to be better than another, so none is " + best + where
            text.append(said + (f": {', '.join(self.alone)}." if where else "."))
        if self.left_out:
            text.append(f"Not ranked, with fewer than two seeds in common with others: {', '.join(self.left_out)}.")
        if self.unranked:
            text.append(f"Not ranked, as doing nothing is as good there: {', '.join(self.unranked)}.")
        return text


def _index(texts: list[str], text: str) -> int:
    """Return the place of `text` in `texts`, at whose end it is put unless it is there."""
    if text not in texts:
        texts.append(text)
    return texts.index(text)


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
    """Return the tables of a family for print: accuracy, the same at equal time, way, targets, efficiency.

    Of pools those that are made of numbers alone, not of curves.
    """
    made: list[Table] = []
    pools = [section for section in family.sections if isinstance(section, Pool)]
    single = [section for section in family.sections if not isinstance(section, Pool)]
    if family.sizes:
        made += by_size(family, slugs)
    else:
        made += [accuracy(section, family.context, slugs) for section in family.sections if section.metrics]
    made += [t for section in single if (t := equal_time(section, family.context, slugs)) is not None]
    made += [t for section in family.sections if (t := way(section, family.context, slugs)) is not None]
    made += [table for section in single for table in reaches(section, family.context, slugs)]
    made += [t for section in family.sections if (t := efficiency(section, family.context, slugs)) is not None]
    if pools:
        for table in made:
            table.seeds = f"n = {len(pools[0].members)} pairs ({pools[0].pairs}), each over its seeds"
    return made


def by_size(family: Family, slugs: Slugs) -> list[Table]:
    """Return the tables of a family by dimension: one for each metric, then the times to parts of identity's score."""
    made = [_by_size(family, metric, slugs) for metric in family.metrics]
    return made + [table for part in FRACTIONS if (table := _targets(family, part, slugs)) is not None]


def accuracy(section: Section, context: str, slugs: Slugs, *, everything: bool = False) -> Table:
    """Return the table of a section: its metrics and the score at step 0, with `everything` the harness's columns."""
    columns = [metric_column(metric) for metric in section.shown]
    harness = _of_budget(HARNESS, section)
    own = (READS_LABEL, KEEPS_ROWS)
    columns += [column for column in own if any(column.key in row.numbers for row in section.rows)]
    if everything:
        columns += [column for column in harness if any(column.key in row.numbers for row in section.rows)]
    title = "all columns" if everything else "accuracy"
    return _of_section(section, title, context, columns, section.rows, slugs)


def efficiency(section: Section, context: str, slugs: Slugs) -> Table | None:
    """Return step time, training time, inference both ways, memory, stored bytes and parameters; None for nothing."""
    rows = [row for row in section.rows if row.kind != "published"]
    columns = [column for column in _of_budget(_EFFICIENCY, section) if any(column.key in row.numbers for row in rows)]
    return _of_section(section, "efficiency", context, columns, rows, slugs) if columns else None


def equal_time(section: Section, context: str, slugs: Slugs) -> Table | None:
    """Return the metrics at an equal time of training, with that time, samples, optimisers; None where there is none.

    It stands beside a table whose rows trained for different lengths.
    """
    found = at_equal_time(section)
    if found is None:
        return None
    columns = [metric_column(metric) for metric in found.section.metrics]
    harness = {column.key: column for column in HARNESS}
    columns += [replace(harness["train_s"], unit=found.clock, best=None), harness["samples"]]
    columns.append(Column(OPTIMISER, "optimiser"))
    table = _of_section(
        found.section, f"at equal time: {found.words} of training", context, columns, found.section.rows, slugs
    )
    table.remarks.append(f"At equal time: {SAYS}.")
    return table


def way(section: Section, context: str, slugs: Slugs) -> Table | None:
    """Return the metrics of the way from source to target, of the rows that have any; None where none has."""
    columns = [metric_column(metric) for metric in way_metrics(section)]
    if not columns:
        return None
    rows = [row for row in section.rows if any(column.key in row.numbers for column in columns)]
    table = _of_section(section, "the way from source to target", context, columns, rows, slugs, paired=False)
    table.remarks.append(WAY_SAYS)
    return table


def reaches(section: Section, context: str, slugs: Slugs) -> Iterator[Table]:
    """Yield what training took to bring UVP to its targets, on all clocks: one table forward, one backward."""
    for metric, members in groupby(goals(section), key=lambda goal: goal.metric):
        yield _reaches(section, context, metric, list(members), slugs)


# ------------------------------------------------------------------------------------------------------------ building


def _of_section(
    section: Section,
    title: str,
    context: str,
    columns: list[Column],
    rows: Sequence[Row],
    slugs: Slugs,
    *,
    paired: bool = True,
) -> Table:
    slug = slugs.make(section.task, section.instance, section.preset, section.device, title)
    table = Table(slug, title, f"{section.task}: {section.instance} ({context})", columns)
    for row, group in _ordered(rows):
        cells = [
            _named(row) if column.key == OPTIMISER else _cell(row, column, row.numbers.get(column.key))
            for column in columns
        ]
        if row.status and cells:
            cells[0] = Cell(row.status, row=row)
        note = f"{row.label}, published: {row.note}" if row.note else _failures(row.label, row)
        table.add(row, group, cells, marks=row.marks, note=note)
    return _finished(table, section.task, paired=paired and columns[0].metric)


def _named(row: Row) -> Cell:
    """Return the optimiser of a row as a cell."""
    names = optimisers_of(row)
    return Cell(names, row=row, word=True) if names else Cell(row=row)


def _of_budget(columns: Sequence[Column], section: Section) -> list[Column]:
    """Return `columns`, of which the time of training is no result where a run was given its seconds."""
    given = any(r.spec.time_limit is not None or r.spec.cpu_limit is not None for row in section.rows for r in row.good)
    return [replace(column, best=None) if given and column.key == "train_s" else column for column in columns]


def _by_size(family: Family, metric: Metric, slugs: Slugs) -> Table:
    column = metric_column(metric)
    heads = [replace(column, label=f"d = {size:g}", unit="") for size in family.sizes]
    table = _of_family(family, f"{column.head} by dimension", heads, slugs, metric.label, "by-dimension")
    by_section = [{row.key: row for row in section.rows} for section in family.sections]
    rows = {key: row for section in by_section for key, row in section.items()}
    said = {key for section in by_section for key, row in section.items() if metric.name in row.numbers}
    for row, group in _ordered([row for key, row in rows.items() if row.kind != "published" or key in said]):
        found = [section.get(row.key) for section in by_section]
        cells = []
        for here, size in zip(found, family.sizes, strict=True):
            notes = table.noted(_failures(f"{row.label}, d = {size:g}", here)) if here else ()
            made = _cell(here, column, here.numbers.get(metric.name), marks=here.marks, notes=notes) if here else Cell()
            cells.append(replace(made, mean=here.status) if here and here.status else made)
        table.add(row, group, cells, note=_published_note(row.label, found, family.sizes, metric.name))
    return _finished(table, family.sections[0].task)


def _targets(family: Family, part: float, slugs: Slugs) -> Table | None:
    column = Column("time", "time", "s", best="low", most=3)
    found = [target(section, part) for section in family.sections]
    solvers = [{row.label: row for row in s.rows if row.kind == "solver"} for s in family.sections]
    metric = next((goal.metric for goal in found if goal is not None), None)
    if metric is None:
        return None
    heads = [replace(column, label=f"d = {size:g}", unit="") for size in family.sizes]
    title = f"training time (s) to {part:g} of identity's {metric.label}"
    table = _of_family(family, title, heads, slugs, "time-to", f"{part:g}")
    for label in sorted({label for rows in solvers for label in rows}):
        cells = [
            _timed(_reach_cell(rows[label], goal, column), rows[label]) if label in rows and goal else Cell()
            for rows, goal in zip(solvers, found, strict=True)
        ]
        if any(cell.mean for cell in cells):
            table.add(next(cell.row for cell in cells if cell.row is not None), 1, cells)
    return _finished(table) if table.lines else None


def _of_family(family: Family, title: str, heads: list[Column], slugs: Slugs, *names: str) -> Table:
    return Table(slugs.make(family.slug, *names), title, f"{family.title} ({family.context})", heads)


def _reaches(section: Section, context: str, metric: Metric, members: Sequence[Goal], slugs: Slugs) -> Table:
    columns = [
        Column(goal.key, f"to {goal.level:g} %", goal.clock.unit, goal.clock.scale, "low", most=3) for goal in members
    ]
    lines: list[tuple[Row, int, list[Cell]]] = []
    for row, group in _ordered([row for row in section.rows if row.kind != "published"]):
        cells = [_reach_cell(row, goal, column) for goal, column in zip(members, columns, strict=True)]
        if row.status:
            cells[1:] = [Cell()] * (len(cells) - 1)
        if row.kind == "baseline":  # has one point: what it does not reach then, it never does
            cells = [cell if cell.value is not None else Cell() for cell in cells]
        if any(cell.mean for cell in cells):
            lines.append((row, group, cells))
    told = [index for index in range(len(columns)) if any(cells[index].mean for _, _, cells in lines)]
    levels = ", ".join(f"{level:g}" for level in dict.fromkeys(goal.level for goal in members))
    title = f"training to bring {metric.label} to {levels} %"
    slug = slugs.make(section.task, section.instance, section.preset, section.device, title)
    table = Table(slug, title, f"{section.task}: {section.instance} ({context})", [columns[index] for index in told])
    for row, group, cells in lines:
        table.add(row, group, [cells[index] for index in told], marks=row.marks, note=_failures(row.label, row))
    table.remarks.append(REACH_SAYS)
    return _finished(table)


def _timed(cell: Cell, row: Row) -> Cell:
    """Return a cell with those marks of its row that concern times."""
    return replace(cell, marks="".join(mark for mark in row.marks if mark in (LOADED, STALE)))


def _reach_cell(row: Row, goal: Goal, column: Column) -> Cell:
    if row.status:
        return Cell(row.status, row=row)
    found = reach(row, goal)
    if found.number is not None:
        blocks = {block_of(record): value for record, value in zip(row.good, found.values, strict=True)}
        return replace(_cell(row, column, found.number), blocks=blocks)
    if found.values:
        return Cell(f"{len(found.values)} of {found.runs} seeds", row=row)
    if found.ends:
        return Cell(f"> {written(number([min(found.ends)]), column)[0]}", row=row)
    return Cell()


def _cell(row: Row, column: Column, value: Number | None, *, marks: str = "", notes: tuple[int, ...] = ()) -> Cell:
    """Return a cell of `row`; a published number stands as its paper prints it."""
    if value is None:
        return Cell(marks=marks, notes=notes, row=row)
    if row.kind == "published":
        return Cell(f"{value.mean:g}", value=value.mean, row=row)
    mean, half = written(value, column)
    blocks = row.blocks.get(column.key, {})
    return Cell(mean, half, value.mean * column.scale, marks=marks, notes=notes, row=row, blocks=blocks)


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


def _finished(table: Table, task: str = "", *, paired: bool = False) -> Table:
    """Rank the cells of each column, explain marks, and say how many seeds.

    Args:
        table: with all of its lines.
        task: that of the metrics in it.
        paired: whether to spell out the paired differences in its first ranked column.
    """
    _explain(table)
    for index, column in enumerate(table.columns):
        if column.best is not None:
            found = _rank(table, index, FLOORS.get(task, "") if column.metric else "")
            if found is not None and paired and not table.pairs:
                table.pairs = _pairs(table, column, found)
    table.left_out = list(dict.fromkeys(table.left_out))
    cells = [cell for line in table.lines for cell in line.cells if line.row.kind != "published"]
    counts = {len(cell.row.good) for cell in cells if cell.row is not None and cell.value is not None}
    if counts:
        least, most = min(counts), max(counts)
        table.seeds = f"n = {least}" + (f" to {most}" if most > least else "") + (" seeds" if most > 1 else " seed")
        if least == 1 < most and any(column.interval for column in table.columns):
            table.seeds += "; numbers without ± are of one seed"
    return table


def _explain(table: Table) -> None:
    """Leave out marks that say nothing here, and say what the others mean.

    Where all rows are made by other code than this checkout's, one remark says so in place of a mark on each.
    """
    measured = [line for line in table.lines if line.row.kind != "published"]
    rows = [row for line in measured for row in (line.row, *(cell.row for cell in line.cells)) if row]
    code = list(dict.fromkeys(words for row in rows for words in row.stale))
    made = f"{LEGEND[STALE]}: {few(code, _CODE_SHOWN)}"
    hidden = "" if any(column.timed for column in table.columns) else LOADED
    if code and all(row.stale for row in rows):
        hidden += STALE
        table.remarks.append(f"All rows are {made}.")
    gone = str.maketrans("", "", hidden)
    for line in measured:
        line.marks = line.marks.translate(gone)
        line.cells = [replace(cell, marks=cell.marks.translate(gone)) for cell in line.cells]
    if any(row.kind == "baseline" and row.label == COPIES for row in rows):
        table.remarks.append(COPIES_SAY)
    if not any(column.key == OPTIMISER for column in table.columns) and (said := optimisers_said(rows)):
        table.remarks.append(said)
    if said := processors_said(rows):
        table.remarks.append(said)
    used = {mark for line in measured for mark in line.marks + "".join(cell.marks for cell in line.cells)}
    table.meanings = {mark: text for mark, text in (LEGEND | {STALE: made}).items() if mark in used}
    verified = list(dict.fromkeys(f"{row.label} ({words})" for row in rows for words in row.verified))
    if verified:
        agreed = "Made by other code, and repeated by this checkout's bit-equal or within the spread"
        table.remarks.append(f"{agreed}: {', '.join(verified)}.")


def _rank(table: Table, index: int, floor: str) -> Ranking | None:
    """Rank the solvers in a column by what their seeds show; None where nobody is ranked.

    Times under load take no part, nor does a metric in which doing nothing is as good as the best of the rows, as it is
    in inverses.

    Args:
        table: whose cells get their rank.
        index: of the column.
        floor: label of the baseline that is exact but for its pool; empty where there is none.
    """
    column = table.columns[index]
    sign = -1 if column.best == "high" else 1
    cells: dict[int, Cell] = {}
    for place, line in enumerate(table.lines):
        cell = line.cells[index]
        spoilt = column.timed and LOADED in line.marks + cell.marks
        sound = line.row.kind == "solver" and cell.row is not None and not cell.row.failures and not spoilt
        if sound and cell.value is not None and math.isfinite(cell.value):
            cells[place] = cell
    if len(cells) < 2:
        return None
    best = min(sign * cell.value for cell in cells.values() if cell.value is not None)
    idle = [line.cells[index].value for line in table.lines if line.row.key == ("baseline", IDENTITY, "")]
    if column.metric and any(value is not None and sign * value <= best + _ROUNDING * abs(best) for value in idle):
        table.unranked.append(column.label)
        return None
    below = next((line.cells[index].blocks for line in table.lines if line.row.key == ("baseline", floor, "")), None)
    found = ranking(
        {str(place): cell.blocks for place, cell in cells.items()},
        higher_is_better=column.best == "high",
        percent=column.unit == "%",
        floor=below,
    )
    if not found.not_worse:
        table.alone.append(column.label)
        return None
    table.left_out += [table.lines[int(place)].row.label for place in sorted(found.left_out, key=int)]
    for place, cell in _told_apart(cells, {int(place) for place in found.not_worse}, column).items():
        table.lines[place].cells[index] = cell
    return found


def _told_apart(cells: Mapping[int, Cell], best: set[int], column: Column) -> dict[int, Cell]:
    """Return `cells` with the rank of those in `best`, and no two of equal print of which one has it.

    Such cells get up to `_MORE_DIGITS` more. If these do not tell them apart either, all of them have the rank.
    """
    result = {place: replace(cell, rank=1 if place in best else 0) for place, cell in cells.items()}
    for text in {cells[place].mean for place in best}:
        group = [place for place, cell in cells.items() if cell.mean == text]
        if best.issuperset(group):
            continue
        for more in range(1, _MORE_DIGITS + 1):
            texts = {place: written(number(list(cells[place].blocks.values())), column, more) for place in group}
            if not {texts[k][0] for k in group if k in best} & {texts[k][0] for k in group if k not in best}:
                result |= {k: replace(result[k], mean=texts[k][0], half=texts[k][1]) for k in group}
                break
        else:
            result |= {k: replace(result[k], rank=1) for k in group}
    return result


def _pairs(table: Table, column: Column, found: Ranking) -> str:
    """Return the paired differences to the best row of a column in words; empty where there is none."""
    if found.best is None or found.scale is None or not found.differences:
        return ""
    scale = found.scale
    first = table.lines[int(found.best)].row.label
    parts = []
    for pair in found.differences[:_PAIRED_SHOWN]:
        ends = sorted(scale.change(pair.mean + half) for half in (-(pair.half or 0.0), pair.half or 0.0))
        low, high = ends if scale.logarithmic else [value * column.scale for value in ends]
        middle = scale.change(pair.mean) * (1.0 if scale.logarithmic else column.scale)
        head = f"x{middle:.3g}" if scale.logarithmic else f"{middle:+.2g}"
        parts.append(f"{table.lines[int(pair.row)].row.label} {head} ({low:.3g} to {high:.3g})")
    more = len(found.differences) - _PAIRED_SHOWN
    what = "gap to the best value, " if scale.bound is not None else ""
    rest = f"; and {more} more" if more > 0 else ""
    return f"{column.label}, {what}paired with {first} (95 %, each by itself): {'; '.join(parts)}{rest}."
