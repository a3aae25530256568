"""The page: one HTML file that opens from disk, without internet, with every number's record behind it.

Nothing out of a record is trusted: jinja2 escapes every text, figures are images and not part of the page, links to
records are made from file names that exist, what scripts read is data without any markup, and the page forbids all
scripts and styles but its own.

What compares solvers comes first, a section for each family of instances, closed until it is opened; what shows one
solver alone comes last. The runs behind the numbers, and the points of the figures, are one compressed block.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import os
import re
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from otbench.names import plain
from otbench.records.record import Record
from otbench.report.columns import EXPLAINED, HARNESS
from otbench.report.files import Slugs, letter
from otbench.report.pooled import Pool
from otbench.report.rows import KEEPS, READS, START, Row, Section, values_of
from otbench.report.tables import Cell, Family, Table, accuracy, by_size, equal_time, reaches, way

if TYPE_CHECKING:
    from otbench.report.figures.canvas import Drawing

_LONG = 4000
_FIGURE_BYTES = 1_500_000
"""Of all figures together: half of what a page may have. What compares solvers comes first."""
_FIRST_FIGURES = 2
"""Figures of a section that are shown at once; the others are behind a line."""
_ASIDE = (START, "steps", "directions", "step_ms", "stored_bytes", "parameters", KEEPS)
"""Columns that are shown when they are asked for."""
_DIGITS = 6
"""Of a value of one run, in the block of data."""


def page(
    members: Sequence[Family],
    drawn: Mapping[str, Sequence[Drawing]],
    *,
    title: str,
    command: str,
    folders: Sequence[Path],
    target: Path,
    summary: str = "",
) -> Iterable[str]:
    """Yield the page in pieces.

    Args:
        members: what to show, as `ordered` gives them.
        drawn: figures by the slug of their family.
        title: of the page.
        command: the command that makes it again.
        folders: where the records are.
        target: folder of the page, from which links to records start.
        summary: what stands first, as safe HTML without script or style.
    """
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    css, js = _resource("page.css"), _resource("page.js")
    book = _Book(_links(folders, target))
    slugs = Slugs()
    views = [_view(family, slugs, book) for family in members]
    left = _FIGURE_BYTES
    for view in views:
        left = _illustrate(view, drawn.get(view.family.slug, ()), book, left)
    return environment.from_string(_resource("page.html.j2")).generate(
        title=title,
        command=command,
        summary=summary,
        records=len(book.records),
        groups=[
            (name, words, found)
            for name, words, alone in _GROUPS
            if (found := [view for view in views if view.alone == alone])
        ],
        first=views[0] if views else None,
        menus=_menus(views),
        columns=_choices(views),
        anchors=book.anchors,
        explained=EXPLAINED,
        letter=letter,
        behind=_behind,
        solver_of=solver_of,
        sorted_by=_sorted_by,
        data=book.packed(),
        css=css,
        js=js,
        css_hash=_hash(css),
        js_hash=_hash(js),
    )


def ordered(members: Iterable[Family]) -> list[Family]:
    """Return families as the page has them: comparisons first, of these what may stand beside published numbers.

    Whoever draws figures for the first ones only, draws those that are seen first.
    """
    return sorted(members, key=lambda family: (len(_solvers(family)) < 2, not family.sections[0].comparable))


_GROUPS = (
    ("Comparisons", "Two solvers or more on the same instances.", False),
    ("One solver alone", "Nothing to compare with but the sanity rows.", True),
)


# -------------------------------------------------------------------------------------------------- what is on the page


@dataclass(frozen=True)
class _Shown:
    """A table and the metric that it is about; the latter is empty for one of several metrics."""

    table: Table
    metric: str = ""


@dataclass(frozen=True)
class _Part:
    """What is behind a line in a section: all columns of one instance, its way, what it took to levels of error."""

    title: str
    tables: list[_Shown]


@dataclass
class _View:
    """One section of the page.

    Attributes:
        main: what is seen when it is opened.
        parts: closed, one for each instance.
        figures: seen when it is opened, then those behind a line.
        left_out: figures for which there was no room.
    """

    family: Family
    main: list[_Shown]
    parts: list[_Part]
    solvers: list[str]
    metrics: list[str]
    facts: list[str]
    figures: list[dict[str, object]] = field(default_factory=list)
    more: list[dict[str, object]] = field(default_factory=list)
    left_out: int = 0

    @property
    def first(self) -> Section:
        return self.family.sections[0]

    @property
    def alone(self) -> bool:
        """Whether no two solvers are compared here."""
        return len(self.solvers) < 2


def _view(family: Family, slugs: Slugs, book: _Book) -> _View:
    sections = family.sections
    pools = [section for section in sections if isinstance(section, Pool)]
    singles = [one for section in sections for one in (section.members if isinstance(section, Pool) else [section])]
    book.add(row for section in (*sections, *singles) for row in section.rows)
    if family.sizes:
        main = [_Shown(table, _metric_of(table, family)) for table in by_size(family, slugs)]
    else:
        main = [_everything(section, family, slugs) for section in sections]
    if pools:
        for shown in main:
            shown.table.seeds = f"Means over pairs {pools[0].pairs}, each over its seeds; ±: over pairs"
    parts = []
    for section in singles:
        equal = equal_time(section, family.context, slugs)
        beside = [] if equal is None else [_Shown(equal)]
        between = way(section, family.context, slugs)
        # about a metric that no filter offers: hidden where only others are asked for
        ways = [] if between is None else [_Shown(between, between.columns[0].key)]
        times = [_Shown(table, _metric_of(table, family)) for table in reaches(section, family.context, slugs)]
        if family.sizes or pools:
            parts.append(_Part(section.instance, [_everything(section, family, slugs), *beside, *ways, *times]))
        else:
            main += beside
            parts += [_Part("The way from source to target", ways)] if ways else []
            parts += [_Part("Training to a level of error", times)] if times else []
    rows = [row for section in sections for row in section.rows]
    solvers = _solvers(family)
    records = len({id(record) for row in rows for record in row.records})
    facts = [f"{len(solvers)} solver{'' if len(solvers) == 1 else 's'}"]
    facts += [f"d = {', '.join(f'{size:g}' for size in family.sizes)}"] if family.sizes else []
    facts += [f"{records} run{'' if records == 1 else 's'}"]
    return _View(family, main, parts, solvers, [metric.name for metric in family.metrics], facts)


def _everything(section: Section, family: Family, slugs: Slugs) -> _Shown:
    return _Shown(accuracy(section, family.context, slugs, everything=True))


def _metric_of(table: Table, family: Family) -> str:
    """Return the metric whose values a table holds, by the keys of its columns."""
    key = table.columns[0].key.partition("_to_")[0]
    names = [metric.name for metric in family.metrics]
    return key if key in names else names[0] if names else ""


def _solvers(family: Family) -> list[str]:
    return sorted({solver_of(row) for section in family.sections for row in section.rows if row.kind == "solver"})


def solver_of(row: Row) -> str:
    """Return the name by which a row is filtered: that of its solver, for a published row of the one it is beside."""
    return plain(row.solver, 80)


def _menus(views: Sequence[_View]) -> list[tuple[str, str, list[tuple[str, str]]]]:
    """Return the filters: key, name, and the choices as value and words; one that could choose nothing is left out."""
    metrics = {metric.name: metric for view in views for metric in view.family.metrics}
    found: list[tuple[str, str, dict[str, str]]] = [
        ("task", "Task", {view.first.task: view.first.task for view in views}),
        ("solver", "Solver", {name: name for name in sorted({name for view in views for name in view.solvers})}),
        ("metric", "Metric", {name: metric.label for name, metric in metrics.items()}),
        ("preset", "Preset", {view.first.preset: view.first.preset for view in views}),
        ("device", "Device", {view.first.device: view.first.device for view in views}),
    ]
    return [(key, name, list(choices.items())) for key, name, choices in found if len(choices) > 1]


def _choices(views: Sequence[_View]) -> list[tuple[str, str, bool]]:
    """Return the columns of tables that are no metrics: key, words, and whether they are shown from the start."""
    metrics = {name for view in views for name in view.metrics}
    tables = [s.table for view in views for part in (view.main, *(p.tables for p in view.parts)) for s in part]
    own = {READS, KEEPS, START, *(column.key for column in HARNESS)}
    columns = {column.key: column.head for table in tables for column in table.columns if column.key in own - metrics}
    order = [START, *(column.key for column in HARNESS)]
    ranked = sorted(columns, key=lambda key: order.index(key) if key in order else len(order))
    return [(key, columns[key], key not in _ASIDE) for key in ranked]


def _illustrate(view: _View, drawings: Sequence[Drawing], book: _Book, left: int) -> int:
    """Put as many figures into `view` as there are bytes left; return how many bytes are left then."""
    made = []
    for drawing in drawings:
        shown = image(drawing)
        size = len(str(shown["data"]))
        if size > left:
            view.left_out += 1
            continue
        left -= size
        shown["number"] = book.draw(drawing)
        made.append(shown)
    view.figures, view.more = made[:_FIRST_FIGURES], made[_FIRST_FIGURES:]
    return left


def image(drawing: Drawing) -> dict[str, object]:
    """Return what the page needs of a figure; `data` is the SVG as the rest of an address."""
    svg = drawing.data["svg"]
    width = re.search(rb'<svg[^>]*? width="([\d.]+)pt"', svg)
    svg = re.sub(rb"""="([^"']*)\"""", rb"='\1'", svg)  # an address holds this quote as it is
    return {
        "data": quote(svg, safe=" !$'()*+,-./:;=?@_~"),  # no quotes, no angles, no ampersands
        "title": drawing.title,
        "alt": plain(drawing.alt, 1500),
        "width": round(float(width[1]) * 4 / 3) if width else 800,
        "left_out": drawing.left_out,
    }


# ------------------------------------------------------------------------------------------------- what scripts read


class _Book:
    """The runs behind the rows of the page, and the points of its figures: what scripts show when they are asked.

    Attributes:
        anchors: by row, its name in links.
        records: the runs, each once.
    """

    def __init__(self, link: Callable[[Record], str]) -> None:
        self._link = link
        self.anchors: dict[Row, str] = {}
        self.records: list[dict[str, object]] = []
        self._known: dict[int, int] = {}  # id of a record: its place
        self._rows: list[dict[str, object]] = []
        self._figures: list[list[dict[str, object]]] = []

    def add(self, rows: Iterable[Row]) -> None:
        """Take in rows; those of published numbers have no runs."""
        for row in rows:
            if row.records and row not in self.anchors:
                self._rows.append({"label": row.label, "runs": [self._place(record) for record in row.records]})
                self.anchors[row] = f"r{len(self._rows)}"

    def draw(self, drawing: Drawing) -> int:
        """Take in the points of a figure; return its number."""
        self._figures.append([{"x": p.x, "y": p.y, "lines": list(p.lines.items())} for p in drawing.panels])
        return len(self._figures) - 1

    def packed(self) -> str:
        """Return everything as JSON, compressed, in base64: nothing in it can end a script or begin a tag."""
        data = {"rows": self._rows, "records": self.records, "figures": self._figures}
        text = json.dumps(data, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
        return base64.b64encode(zlib.compress(text.encode("ascii"), 9)).decode("ascii")

    def _place(self, record: Record) -> int:
        if id(record) not in self._known:
            self._known[id(record)] = len(self.records)
            self.records.append(
                {
                    "seed": record.spec.seed,
                    "status": str(record.status),
                    "reason": _line(record.reason, 200),
                    "instance": _line(record.instance, 200),
                    "file": _line(record.id, 200),
                    "link": self._link(record),
                    "created": _line(record.created, 200),
                    "command": _line(record.command) or "not recorded",
                    "spec": _line(json.dumps(record.spec.model_dump(mode="json"), ensure_ascii=False)),
                    "values": _values(record),
                }
            )
        return self._known[id(record)]


def _line(text: str, limit: int = _LONG) -> str:
    """Return `plain` of a text; most texts are plain already, which is seen a hundred times faster."""
    return text if len(text) <= limit and text.isascii() and text.isprintable() else plain(text, limit)


_SCALES = {column.key: column.scale for column in HARNESS}


def _values(record: Record) -> dict[str, float | str]:
    """Return the values of a run as columns show them; what is not finite is a word."""
    scaled = {key: value * _SCALES.get(key, 1.0) for key, value in values_of(record).items()}
    return {key: float(f"{value:.{_DIGITS}g}") if math.isfinite(value) else str(value) for key, value in scaled.items()}


def _links(folders: Sequence[Path], target: Path) -> Callable[[Record], str]:
    """Return a function that gives the relative address of a record's file; empty where there is no such file."""
    known = {path.name: path for folder in reversed(folders) for path in folder.glob("*.json")}
    start = target.resolve()
    places: dict[Path, str] = {}

    def link(record: Record) -> str:
        path = known.get(f"{record.id}.json")
        if path is None:
            return ""
        if path.parent not in places:  # one look at the disk for each folder, not for each record
            places[path.parent] = Path(os.path.relpath(path.parent.resolve(), start)).as_posix()
        return quote(f"{places[path.parent]}/{path.name}")

    return link


def _behind(table: Table) -> str:
    """Return what is behind the line under a table that has footnotes or sources."""
    last = len(table.notes) - 1
    notes = [f"Notes {letter(0)} to {letter(last)}" if last else "Note a"] if table.notes else []
    return " and ".join([*notes, *(["sources of published numbers"] if table.sources else [])]).capitalize()


def _sorted_by(cell: Cell) -> str:
    """Return what a cell is sorted by, as scripts read numbers; empty for a cell that stays last."""
    if cell.value is None or math.isnan(cell.value):
        return ""
    return f"{cell.value:.9g}" if math.isfinite(cell.value) else "Infinity" if cell.value > 0 else "-Infinity"


def _resource(name: str) -> str:
    return resources.files("otbench.report").joinpath(name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """Return the content's name in a content security policy."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")
