"""The figures of a report against dimension: accuracy, training time and memory, and the time to a target.

What they share with other figures is in `otbench.report.figures.canvas` and `otbench.report.figures.lines`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from otbench.report.columns import metric_column
from otbench.report.figures.canvas import Drawing, grid, legend_below, safe_text, save, theme
from otbench.report.figures.lines import (
    Line,
    draw,
    drawable,
    line_of,
    log_scale,
    looks_of,
    marker_size,
    name_upward,
    rows_to_draw,
    ticks,
)
from otbench.report.figures.style import style
from otbench.report.reach import FRACTIONS, reach, target
from otbench.report.rows import Number, Row, number
from otbench.report.tables import Family
from otbench.reporting import Metric

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_PANEL = (3.5, 2.9)
"""Width and height of a panel in inches."""


def drawings(family: Family, formats: Iterable[str]) -> Iterator[Drawing]:
    """Yield the figures of a family in `formats` (svg, pdf, png); one without anything to show is left out."""
    wanted = list(formats)
    for name, title, make in (
        ("by-dimension", "accuracy, training time and memory by dimension", _by_dimension),
        ("time-to-target", "training time to a part of identity's score", _time_to_target),
    ):
        drawing = Drawing(f"{family.slug}--{name}", f"{family.title}: {title}")
        with theme():
            figure = make(family, drawing)
            if figure is not None:
                save(figure, drawing, wanted)
                yield drawing


# --------------------------------------------------------------------------------------------------------- the figures


def _by_dimension(family: Family, drawing: Drawing) -> Figure | None:
    """First metric, training time and peak memory against dimension; published accuracy hollow and dotted."""
    if not family.sizes or not family.metrics:
        return None
    metric = family.metrics[0]
    panels = [
        (metric_column(metric).head, metric.name, 1.0),
        ("training time (s)", "train_s", 1.0),
        ("peak memory (MB)", "memory", 1e-6),
    ]
    rows, drawing.left_out = rows_to_draw(family)
    figure, axes = _figure(len(panels))
    for axis, (label, key, scale) in zip(axes, panels, strict=True):
        lines = []
        for row_label, row in rows.items():
            if row.kind == "baseline" and key != metric.name:
                continue
            found = [(x, n) for x, n in _numbers(family, row, key) if drawable(n.mean)]
            lines.append(line_of(row_label, rows, [(x, n.mean * scale) for x, n in found]))
            lines[-1].bars = [0.0 if n.half is None or not drawable(n.half) else n.half * scale for _, n in found]
        if key == metric.name:
            lines += _published_lines(family, metric, rows)
        draw(axis, lines, log_y=log_scale(lines) and not (key == metric.name and metric.higher_is_better))
        _dimension_axis(axis, family)
        name_upward(axis, label)
    _legend(figure, axes, rows)
    return figure


def _time_to_target(family: Family, drawing: Drawing) -> Figure | None:
    """Seconds to parts of identity's score against dimension; a cross where a run ended without reaching it."""
    if not family.sizes:
        return None
    rows, drawing.left_out = rows_to_draw(family)
    rows = {label: row for label, row in rows.items() if row.kind == "solver"}
    panels: list[tuple[float, list[Line], list[Line]]] = []
    for part in FRACTIONS:
        reached, missed = ([line_of(label, rows, []) for label in rows] for _ in range(2))
        for size, section in zip(family.sizes, family.sections, strict=True):
            goal, solvers = target(section, part), {row.label: row for row in section.rows if row.kind == "solver"}
            for label, line, crosses in zip(rows, reached, missed, strict=True):
                here = solvers.get(label)
                if goal is not None and here is not None and here.good:
                    found = reach(here, goal)
                    if found.number is not None:
                        line.points.append((size, found.number.mean))
                    elif found.ends:
                        crosses.points.append((size, number(found.ends).mean))
        if any(line.points for line in [*reached, *missed]):
            panels.append((part, reached, missed))
    if not panels:
        return None
    figure, axes = _figure(len(panels))
    for axis, (part, reached, missed) in zip(axes, panels, strict=True):
        draw(axis, reached, log_y=log_scale([*reached, *missed]))
        for line in missed:
            shown = np.array([(x, y) for x, y in line.points if drawable(y)]).reshape(-1, 2)
            (artist,) = axis.plot(*shown.T, linestyle="none", marker="x", color=line.look.colour, markersize=7)
            artist.set_label(safe_text(f"{line.name}, not reached by the end", 200))
        if axis.get_yscale() == "log":
            ticks(axis.yaxis, axis.get_ylim())  # again, with the crosses
        _dimension_axis(axis, family)
        name_upward(axis, f"training time (s) to {part:g} of identity's error")
        if any(line.points for line in missed):
            axis.set_title("cross: not reached by the end of the run", fontsize="small")
    _legend(figure, axes, rows)
    return figure


# -------------------------------------------------------------------------------------------------------------- pieces


def _numbers(family: Family, row: Row, key: str) -> Iterator[tuple[float, Number]]:
    for size, section in zip(family.sizes, family.sections, strict=True):
        for other in section.rows:
            if other.key == row.key and key in other.numbers:
                yield size, other.numbers[key]


def _published_lines(family: Family, metric: Metric, rows: Mapping[str, Row]) -> list[Line]:
    """Return the published rows of the solvers drawn."""
    drawn = {row.solver for row in rows.values()}
    found = {(r.label, r.source): r for s in family.sections for r in s.rows if r.kind == "published"}
    return [
        Line(
            style(row.solver),
            ":",
            [(x, n.mean) for x, n in _numbers(family, row, metric.name)],
            hollow=True,
            name=f"{row.label}, published",
        )
        for row in found.values()
        if row.solver in drawn
    ]


def _figure(panels: int) -> tuple[Figure, list[Axes]]:
    from matplotlib.figure import Figure

    lines, columns = grid(panels)
    figure = Figure(figsize=(_PANEL[0] * columns, _PANEL[1] * lines), layout="constrained")
    axes = [figure.add_subplot(lines, columns, index + 1) for index in range(panels)]
    return figure, axes


def _dimension_axis(axis: Axes, family: Family) -> None:
    axis.set_xscale("log", base=2)
    axis.set_xticks(family.sizes, [f"{size:g}" for size in family.sizes])
    axis.set_xticks([], minor=True)
    axis.set_xlabel("dimension")


def _legend(figure: Figure, axes: Sequence[Axes], rows: Mapping[str, Row]) -> None:
    from matplotlib.lines import Line2D

    handles, labels = [], []
    for label, (look, dashes) in looks_of(rows).items():
        handles.append(Line2D([], [], color=look.colour, linestyle=dashes, marker=look.marker or None))
        handles[-1].set(markersize=marker_size(look))
        handles[-1].set(markeredgecolor="white", markeredgewidth=0.5)
        labels.append(safe_text(label))
    if any(artist.get_markerfacecolor() == "white" for axis in axes for artist in axis.get_lines()):
        handles.append(Line2D([], [], color="#555555", linestyle=":", marker="o", markersize=5))
        handles[-1].set(markerfacecolor="white")
        labels.append("published")
    legend_below(figure, handles, labels, columns=round(figure.get_figwidth() / 1.6))
