"""The figures of a report: against dimension, accuracy against training time, time to a target.

What they share with other figures, their text and their files, is in `otbench.report.figures.canvas`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from otbench.records.record import Record
from otbench.report.columns import metric_column
from otbench.report.figures.canvas import Drawing, grid, legend_below, safe_text, save, theme
from otbench.report.figures.style import Dashes, Style, looks, style
from otbench.report.rows import IDENTITY, Number, Row, Section, number
from otbench.report.tables import FRACTIONS, Family, target, times_to
from otbench.reporting import Metric

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

_PANELS = 12
"""Panels of one figure at most."""
_ROWS = 24
"""Rows drawn in one figure at most: more cannot be told apart. Tables hold them all."""
_PANEL = (3.5, 2.9)
"""Width and height of a panel in inches."""


@dataclass
class _Line:
    look: Style
    dashes: Dashes
    points: list[tuple[float, float]]
    bars: list[float] = field(default_factory=list)
    hollow: bool = False


def drawings(family: Family, formats: Iterable[str]) -> Iterator[Drawing]:
    """Yield the figures of a family in `formats` (svg, pdf, png); one without anything to show is left out."""
    wanted = list(formats)
    for name, title, make in (
        ("by-dimension", "accuracy, training time and memory by dimension", _by_dimension),
        ("curves", "accuracy against training time", _curves),
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
    rows, drawing.left_out = _rows(family)
    figure, axes = _figure(len(panels))
    for axis, (label, key, scale) in zip(axes, panels, strict=True):
        lines = []
        for row_label, row in rows.items():
            if row.kind == "baseline" and key != metric.name:
                continue
            found = [(x, n) for x, n in _numbers(family, row, key) if drawable(n.mean)]
            lines.append(_line(row_label, rows, [(x, n.mean * scale) for x, n in found]))
            lines[-1].bars = [0.0 if n.half is None or not drawable(n.half) else n.half * scale for _, n in found]
        if key == metric.name:
            lines += _published_lines(family, metric, rows)
        _draw(axis, lines, log_y=_log(lines) and not (key == metric.name and metric.higher_is_better))
        _dimension_axis(axis, family)
        axis.set_ylabel(safe_text(label), parse_math=False)
    _legend(figure, axes, rows)
    return figure


def _curves(family: Family, drawing: Drawing) -> Figure | None:
    """First metric against training time, one panel per section: mean over seeds, with the range of the seeds."""
    members = [section for section in family.sections if section.metrics][:_PANELS]
    rows, drawing.left_out = _rows(family)
    drawing.left_out += max(0, len(family.sections) - _PANELS)
    found = []
    for section in members:
        solvers = (row for row in section.rows if row.kind == "solver" and row.label in rows)
        curves = {row.label: _mean_curve(row.good, section.metrics[0].name) for row in solvers}
        if any(curves.values()):
            found.append((section, curves))
    if not found:
        return None
    figure, axes = _figure(len(found))
    for axis, (section, curves) in zip(axes, found, strict=True):
        metric = section.metrics[0]
        lines = [_line(label, rows, [(x, y) for x, y, _, _ in curve]) for label, curve in curves.items()]
        levels = {row.label: row.numbers.get(metric.name) for row in section.rows if row.kind == "baseline"}
        floors = [_line(k, rows, [(0.0, n.mean)]) for k, n in levels.items() if n and k in rows and drawable(n.mean)]
        for line, curve in zip(lines, curves.values(), strict=True):
            xs, _, low, high = ([point[k] for point in curve] for k in range(4))
            axis.fill_between(xs, low, high, color=line.look.colour, alpha=0.18, linewidth=0)
        _draw(axis, lines, log_x=True, log_y=_log([*lines, *floors]) and not metric.higher_is_better)
        for floor in floors:
            axis.axhline(floor.points[0][1], color=floor.look.colour, linestyle=floor.dashes, linewidth=1.0, zorder=1)
        axis.set_xlabel("training time (s)")
        axis.set_ylabel(safe_text(metric_column(metric).head), parse_math=False)
        axis.set_title(_panel_title(family, section), parse_math=False)
    _legend(figure, axes, {k: v for k, v in rows.items() if v.kind != "published"})
    return figure


def _time_to_target(family: Family, drawing: Drawing) -> Figure | None:
    """Seconds to parts of identity's score against dimension; a cross where a run ended without reaching it."""
    if not family.sizes:
        return None
    rows, drawing.left_out = _rows(family)
    rows = {label: row for label, row in rows.items() if row.kind == "solver"}
    panels: list[tuple[float, list[_Line], list[_Line]]] = []
    for part in FRACTIONS:
        reached, missed = ([_line(label, rows, []) for label in rows] for _ in range(2))
        for size, section in zip(family.sizes, family.sections, strict=True):
            goal, solvers = target(section, part), {row.label: row for row in section.rows if row.kind == "solver"}
            for label, line, crosses in zip(rows, reached, missed, strict=True):
                here = solvers.get(label)
                if goal is not None and here is not None and here.good:
                    times = times_to(here, *goal)
                    all_there = len(times) == len(here.good)
                    times = times if all_there else [record.times.train_s or 0.0 for record in here.good]
                    (line if all_there else crosses).points.append((size, number(times).mean))
        if any(line.points for line in [*reached, *missed]):
            panels.append((part, reached, missed))
    if not panels:
        return None
    figure, axes = _figure(len(panels))
    for axis, (part, reached, missed) in zip(axes, panels, strict=True):
        _draw(axis, reached, log_y=_log([*reached, *missed]))
        for line in missed:
            shown = np.array([(x, y) for x, y in line.points if drawable(y)]).reshape(-1, 2)
            axis.plot(*shown.T, linestyle="none", marker="x", color=line.look.colour, markersize=7)
        if axis.get_yscale() == "log":
            _ticks(axis.yaxis, axis.get_ylim())  # again, with the crosses
        _dimension_axis(axis, family)
        axis.set_ylabel(f"time to {part:g} of identity (s)")
        if any(line.points for line in missed):
            axis.set_title("cross: not reached by the end of the run", fontsize="small")
    _legend(figure, axes, rows)
    return figure


# -------------------------------------------------------------------------------------------------------------- pieces


def _rows(family: Family) -> tuple[dict[str, Row], int]:
    """Return one row per label to draw, and how many are left out.

    Sanity rows come first; one that is far above identity (a constant map) would only stretch the scale.
    """
    found: dict[str, Row] = {}
    metric = family.metrics[0].name if family.metrics else ""
    for section in family.sections:
        scale = next((r.numbers[metric].mean for r in section.rows if r.label == IDENTITY and metric in r.numbers), 0.0)
        for row in section.rows:
            value = row.numbers.get(metric)
            if row.kind == "baseline" and (value is None or value.mean > 3 * scale > 0):
                continue
            if row.kind != "published" and row.numbers:
                found.setdefault(row.label, row)
    ordered = sorted(found.items(), key=lambda item: (item[1].kind != "baseline", item[0]))
    return dict(ordered[:_ROWS]), max(0, len(ordered) - _ROWS)


def _line(label: str, rows: Mapping[str, Row], points: list[tuple[float, float]]) -> _Line:
    return _Line(*_looks(rows)[label], points)


def _looks(rows: Mapping[str, Row]) -> dict[str, tuple[Style, Dashes]]:
    return dict(zip(rows, looks((row.kind, row.solver) for row in rows.values()), strict=True))


def _numbers(family: Family, row: Row, key: str) -> Iterator[tuple[float, Number]]:
    for size, section in zip(family.sizes, family.sections, strict=True):
        for other in section.rows:
            if other.key == row.key and key in other.numbers:
                yield size, other.numbers[key]


def _published_lines(family: Family, metric: Metric, rows: Mapping[str, Row]) -> list[_Line]:
    """Return the published rows of the solvers drawn."""
    drawn = {row.solver for row in rows.values()}
    found = {(r.label, r.source): r for s in family.sections for r in s.rows if r.kind == "published"}
    return [
        _Line(style(row.solver), ":", [(x, n.mean) for x, n in _numbers(family, row, metric.name)], hollow=True)
        for row in found.values()
        if row.solver in drawn
    ]


def _mean_curve(records: Sequence[Record], metric: str) -> list[tuple[float, float, float, float]]:
    """Return time, mean, least and greatest over the seeds at the steps that all seeds share; of one seed otherwise."""
    curves = []
    for record in records:
        points = {
            point.step: (point.train_s, point.metrics[metric])
            for point in record.curve
            if drawable(point.metrics.get(metric, math.nan)) and drawable(point.train_s) and point.train_s > 0
        }
        if points:
            curves.append(points)
    if not curves:
        return []
    shared = set(curves[0]).intersection(*curves)
    if len(shared) < 2:
        curves, shared = curves[:1], set(curves[0])
    out = []
    for step in sorted(shared):
        values = [curve[step][1] for curve in curves]
        time = number([curve[step][0] for curve in curves]).mean
        out.append((time, number(values).mean, min(values), max(values)))
    return out


def drawable(value: float) -> bool:
    """Say whether `value` can stand on an axis beside sensible ones."""
    return value == 0 or 1e-30 < abs(value) < 1e30


def _figure(panels: int) -> tuple[Figure, list[Axes]]:
    from matplotlib.figure import Figure

    lines, columns = grid(panels)
    figure = Figure(figsize=(_PANEL[0] * columns, _PANEL[1] * lines), layout="constrained")
    axes = [figure.add_subplot(lines, columns, index + 1) for index in range(panels)]
    return figure, axes


def _draw(axis: Axes, lines: Sequence[_Line], *, log_x: bool = False, log_y: bool) -> None:
    """Draw `lines`; on a logarithmic axis what is not positive is left out."""
    drawn: list[tuple[_Line, list[float], list[float]]] = []
    for line in lines:
        bars = line.bars or [0.0] * len(line.points)
        kept = [
            (x, y, bar)
            for (x, y), bar in zip(line.points, bars, strict=True)
            if drawable(x) and drawable(y) and (x > 0 or not log_x) and (y > 0 or not log_y)
        ]
        if not kept:
            continue
        xs, ys, half = (list(column) for column in zip(*kept, strict=True))
        if any(half):
            low = [min(bar, 0.9 * abs(y)) if log_y else bar for bar, y in zip(half, ys, strict=True)]
            axis.errorbar(
                xs, ys, yerr=[low, half], fmt="none", ecolor=line.look.colour, elinewidth=0.8, capsize=2, alpha=0.7
            )
        drawn.append((line, xs, ys))
    for line, xs, ys in drawn:  # over the bars of all lines
        (artist,) = axis.plot(xs, ys, color=line.look.colour, linestyle=line.dashes, marker=line.look.marker or "none")
        artist.set(linewidth=0.9 if line.hollow else 1.4, markersize=_marker_size(line.look) - line.hollow)
        artist.set(markerfacecolor="white" if line.hollow else line.look.colour)
        artist.set(markeredgecolor=line.look.colour if line.hollow else "white")
        artist.set(markeredgewidth=0.8 if line.hollow else 0.5)
    if log_x:
        axis.set_xscale("log")
        _ticks(axis.xaxis, axis.get_xlim())
    if log_y:
        axis.set_yscale("log")
        _ticks(axis.yaxis, axis.get_ylim())
    axis.grid(visible=True, which="major", linewidth=0.4, color="#dddddd")
    axis.spines[["top", "right"]].set_visible(False)


def _ticks(axis: Axis, limits: tuple[float, float]) -> None:
    """Label a logarithmic axis with plain numbers: powers of ten, with more between them where there are few."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

    low, high = limits
    ratio = high / low if 0 < low < high < math.inf else math.inf
    subs = (1.0, 2.0, 5.0) if ratio < 100 else (1.0,)
    axis.set_major_locator(MaxNLocator(4) if ratio < 5 else LogLocator(subs=subs))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_locator(NullLocator())  # hundreds of marks, half of the size of a file


def _marker_size(look: Style) -> float:
    """Return a size at which all markers look equally large: crosses and stars have less ink."""
    return 7.5 if look.marker in ("P", "X", "*", "p", "d") else 5.5


def _log(lines: Iterable[_Line]) -> bool:
    values = [y for line in lines for _, y in line.points if drawable(y)]
    return bool(values) and all(y >= 0 for y in values) and any(y > 0 for y in values)


def _dimension_axis(axis: Axes, family: Family) -> None:
    axis.set_xscale("log", base=2)
    axis.set_xticks(family.sizes, [f"{size:g}" for size in family.sizes])
    axis.set_xticks([], minor=True)
    axis.set_xlabel("dimension")


def _legend(figure: Figure, axes: Sequence[Axes], rows: Mapping[str, Row]) -> None:
    from matplotlib.lines import Line2D

    handles, labels = [], []
    for label, (look, dashes) in _looks(rows).items():
        handles.append(Line2D([], [], color=look.colour, linestyle=dashes, marker=look.marker or None))
        handles[-1].set(markersize=_marker_size(look))
        handles[-1].set(markeredgecolor="white", markeredgewidth=0.5)
        labels.append(safe_text(label))
    if any(artist.get_markerfacecolor() == "white" for axis in axes for artist in axis.get_lines()):
        handles.append(Line2D([], [], color="#555555", linestyle=":", marker="o", markersize=5))
        handles[-1].set(markerfacecolor="white")
        labels.append("published")
    legend_below(figure, handles, labels, columns=round(figure.get_figwidth() / 1.6))


def _panel_title(family: Family, section: Section) -> str:
    if not family.sizes:
        return ""
    return f"d = {family.sizes[family.sections.index(section)]:g}"
