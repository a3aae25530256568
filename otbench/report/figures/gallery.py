"""Chooses what is drawn of the pictures that runs left: which rows stand together, each by its run of the lowest seed.

How each kind of picture is drawn stands in `otbench.report.figures.panels`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from otbench.errors import DataError
from otbench.names import plain
from otbench.picture import Picture
from otbench.records.record import Record
from otbench.records.store import read_pictures
from otbench.report.figures import panels
from otbench.report.figures.canvas import Drawing, save, theme
from otbench.report.figures.panels import Shown
from otbench.report.files import Slugs
from otbench.report.pooled import Pool
from otbench.report.rows import IDENTITY, Row, Section
from otbench.report.tables import Family

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_ROWS = {"points": 8, "arrows": 9, "images": 8, "photographs": 7, "matrix": 6, "way": 5}
"""Rows of a section in one figure at most, by kind."""
_FIRST = 5
"""Solvers that come before the sanity rows where not all can be drawn."""
_SVG_DPI = 110
"""Pixels of an inch inside a vector file: a page holds many figures."""


class Gallery:
    """The picture files beside records.

    Attributes:
        notes: a line for each file that was passed over.
    """

    def __init__(self, folders: Iterable[Path]) -> None:
        """List the files of `folders`; none is opened yet."""
        self._files: dict[str, Path] = {}
        for path in (path for folder in folders for path in sorted(folder.glob("*.npz"))):
            self._files.setdefault(path.name, path)  # a record's claim is a key here, never a path
        self.notes: list[str] = []

    def of(self, record: Record) -> list[Picture]:
        """Return the pictures of `record`; none if it has none, or if its file cannot be used (then noted)."""
        path = self._files.get(f"{record.id}.npz")
        if not record.pictures or path is None:
            return []
        try:
            return read_pictures(path, record.pictures)
        except DataError as error:
            self.notes.append(plain(f"pictures passed over: {error}", 400))
            return []


@dataclass
class _Group:
    """Rows that stand in one figure, in the order of tables, and how many do not."""

    rows: list[Shown] = field(default_factory=list)
    left_out: int = 0

    def add(self, shown: Shown) -> None:
        if self.rows and _space(shown.picture) != _space(self.rows[0].picture):
            self.left_out += 1
            return
        self.rows.append(shown)
        self.rows.sort(key=lambda one: one.place)


def pictures_of(family: Family, gallery: Gallery, formats: Iterable[str]) -> Iterator[Drawing]:
    """Yield figures of what the runs of `family` left to draw, in `formats` (svg, pdf, png)."""
    wanted, slugs = list(formats), Slugs()
    for index, section in enumerate(family.sections):
        if isinstance(section, Pool):
            section = section.members[0]  # pictures are of one pair
        where = f"d-{family.sizes[index]:g}" if family.sizes else ""
        for group in _groups(section, gallery):
            picture = group.rows[0].picture
            for suffix, title, make in _FIGURES[picture.kind]:
                name = slugs.make(*filter(None, ("picture", where, picture.name, suffix)))
                words = f"{section.task}: {section.instance}: {plain(picture.title, 120)}{title}"
                labels = [one.row.label for one in group.rows]
                drawing = Drawing(f"{family.slug}--{name}", words, left_out=group.left_out, shown=labels)
                with theme():
                    figure = make(group.rows)
                    if figure is None:
                        continue
                    save(figure, drawing, wanted, svg_dpi=_SVG_DPI)
                yield drawing


def _groups(section: Section, gallery: Gallery) -> list[_Group]:
    """Return the rows to draw together, for each picture: each row by its run of the lowest seed.

    Rows beyond the limit, and those of another space than the first, are counted, not read.
    """
    groups: dict[tuple[str, str], _Group] = {}
    for place, row in _by_interest(section):
        good = [record for record in row.good if record.pictures]
        record = min(good, key=lambda r: r.spec.seed, default=None)
        if record is None:
            continue
        keys = {(info.name, info.kind) for info in record.pictures}
        full = {key for key in keys & groups.keys() if len(groups[key].rows) >= _ROWS[key[1]]}
        for key in full:
            groups[key].left_out += 1
        for picture in gallery.of(record) if keys - full else []:
            key = (picture.name, picture.kind)
            if key not in full:
                groups.setdefault(key, _Group()).add(Shown(place, row, picture))
    return list(groups.values())


def _by_interest(section: Section) -> list[tuple[int, Row]]:
    """Return the rows with their places in tables, the ones first that must not be left out where there are many.

    Those are the first solvers, then doing nothing and the sanity rows that come nearest, then all others.
    """
    metric = section.metrics[0] if section.metrics else None

    def nearness(numbered: tuple[int, Row]) -> tuple[bool, float]:
        _, row = numbered
        if metric is None or metric.name not in row.numbers:
            return row.label != IDENTITY, math.inf
        return row.label != IDENTITY, (-1 if metric.higher_is_better else 1) * row.numbers[metric.name].mean

    rows = list(enumerate(section.rows))
    solvers = [pair for pair in rows if pair[1].kind == "solver"]
    sanity = sorted((pair for pair in rows if pair[1].kind == "baseline"), key=nearness)
    return [*solvers[:_FIRST], *sanity, *solvers[_FIRST:]]


def _space(picture: Picture) -> tuple[object, ...]:
    """Return what must be equal for two pictures to stand side by side."""
    if picture.kind == "points":
        return picture.arrays["data"].shape[1:]
    if picture.kind in ("images", "way"):
        return tuple(picture.arrays)
    return picture.arrays["counts"].shape if picture.kind == "matrix" else ()


_Maker: TypeAlias = Callable[[Sequence[Shown]], "Figure | None"]
_FIGURES: Mapping[str, Sequence[tuple[str, str, _Maker]]] = {
    "points": (
        ("pairs", ", the pairs of coordinates that depend on each other least like a normal", panels.pairs),
        ("marginals", ", the coordinates least like a normal", panels.marginals),
    ),
    "arrows": (("", "", panels.arrows),),
    "images": (("", "", panels.images),),
    "way": (("", "", panels.way),),
    "photographs": (("", "", panels.photographs),),
    "matrix": (("", "", panels.matrix),),
}
