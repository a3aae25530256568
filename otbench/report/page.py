"""The page: one HTML file that opens from disk, without internet, with every number's record behind it.

Nothing out of a record is trusted: jinja2 escapes every text, figures are images and not part of the page, links to
records are made from file names that exist, and the page forbids all scripts and styles but its own.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from otbench.names import plain
from otbench.records.record import Record
from otbench.report.columns import EXPLAINED
from otbench.report.files import Slugs, letter
from otbench.report.tables import Cell, Family, Table, accuracy, reaches

if TYPE_CHECKING:
    from otbench.report.figures.canvas import Drawing

_LONG = 4000


def page(
    made: Sequence[tuple[Family, Sequence[Table]]],
    drawn: Mapping[str, Sequence[Drawing]],
    *,
    title: str,
    command: str,
    folders: Sequence[Path],
    target: Path,
    slugs: Slugs,
    summary: str = "",
) -> Iterable[str]:
    """Yield the page in pieces.

    Args:
        made: tables by family.
        drawn: figures by the slug of their family.
        title: of the page.
        command: the command that makes it again.
        folders: where the records are.
        target: folder of the page, from which links to records start.
        slugs: names already taken.
        summary: what stands first: safe HTML.
    """
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=False)
    css, js = _resource("page.css"), _resource("page.js")
    sections = [section for family, _ in made for section in family.sections]
    rows = [row for section in sections for row in section.rows if row.kind != "published"]
    return environment.from_string(_resource("page.html.j2")).generate(
        title=title,
        command=command,
        summary=summary,
        records=sum(len(row.records) for row in rows),
        families=[_shown(family, tables, drawn.get(family.slug, ()), slugs) for family, tables in made],
        anchors={row: f"row-{number}" for number, row in enumerate(rows, 1)},
        explained=EXPLAINED,
        letter=letter,
        sortable=_sortable,
        spec=_spec,
        plain=lambda text: plain(text, _LONG),
        links=_links(folders, target),
        css=css,
        js=js,
        css_hash=_hash(css),
        js_hash=_hash(js),
    )


def _shown(family: Family, tables: Sequence[Table], drawings: Sequence[Drawing], slugs: Slugs) -> dict[str, object]:
    return {
        "family": family,
        # one table of each section holds all of its columns; the parts that print shows apart are not repeated
        "tables": [table for table in tables if family.sizes and table.columns[0].label.startswith("d = ")],
        "sections": [
            (accuracy(section, family.context, slugs, everything=True), list(reaches(section, family.context, slugs)))
            for section in family.sections
        ],
        "drawings": [image(drawing) for drawing in drawings],
    }


def image(drawing: Drawing) -> dict[str, object]:
    """Return what a template needs to show the SVG of a figure as an image."""
    svg = drawing.data["svg"]
    width = re.search(rb'<svg[^>]*? width="([\d.]+)pt"', svg)
    return {
        "data": quote(svg, safe=" !$'()*+,-./:;=?@_~"),  # no quotes, no angles, no ampersands
        "title": drawing.title,
        "width": round(float(width[1]) * 4 / 3) if width else 800,
        "left_out": drawing.left_out,
    }


def _links(folders: Sequence[Path], target: Path) -> Callable[[Record], str]:
    """Return a function that gives the relative address of a record's file; empty where there is no such file."""
    known = {path.name: path for folder in reversed(folders) for path in folder.glob("*.json")}
    start = target.resolve()

    def link(record: Record) -> str:
        path = known.get(f"{record.id}.json")
        if path is None:
            return ""
        return quote(Path(os.path.relpath(path.parent.resolve(), start)).as_posix() + "/" + path.name)

    return link


def _sortable(cell: Cell) -> bool:
    return cell.value is not None and not math.isnan(cell.value)


def _spec(record: Record) -> str:
    return plain(json.dumps(record.spec.model_dump(mode="json"), ensure_ascii=False), _LONG)


def _resource(name: str) -> str:
    return resources.files("otbench.report").joinpath(name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """Return the content's name in a content security policy."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")
