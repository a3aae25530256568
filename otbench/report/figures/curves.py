"""Error against time, one figure a pair: all solvers on the wall's clock, on the processor's, and against samples.

The panels share the axis of the error, so that one column of labels at the right names the lines of all of them, in the
order in which they end. Of several seeds the median is drawn, with a band from the least to the greatest.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import TYPE_CHECKING

import numpy as np

from otbench.records.record import Record
from otbench.records.series import real
from otbench.report.columns import metric_column
from otbench.report.figures.canvas import Drawing, safe_text, save, theme
from otbench.report.figures.lines import Line, draw, drawable, line_of, log_scale, rows_to_draw, ticks
from otbench.report.reach import CLOCKS, Clock
from otbench.report.rows import Row, Section
from otbench.report.tables import Family
from otbench.reporting import Metric

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_PAIRS = 12
"""Sections of one family that have a figure at most."""
_PANEL = (2.9, 3.0)
"""Width and height of a panel in inches."""
_LINE = 0.155
"""Height of a label in inches."""
_LETTER = 0.075
"""Width of a letter of a label, at most."""
_GAP = 0.9
"""Width of what stands before and behind the name in a label: the line to it, and its number."""
_EDGE = 0.05
"""Inches left free at the right: the width of a text depends a little on the format."""
_LONGEST = 30
"""Letters of a label."""
_TITLE = 11
"""Letters of a title for each inch of a figure's width."""
_MARGIN = 0.8
"""Inches of a figure's height that are not the panel's."""
_SPAN = 1000.0
"""From the first time that is shown to the last, at most: before, lines are flat."""


@dataclass(frozen=True)
class _Curve:
    """Of one row on one clock: time, median, least and greatest over the seeds."""

    times: list[float]
    middle: list[float]
    low: list[float]
    high: list[float]


def drawings(family: Family, formats: Iterable[str]) -> Iterator[Drawing]:
    """Yield the figures of a family in `formats` (svg, pdf, png); one without anything to show is left out."""
    wanted = list(formats)
    for index, section in enumerate(family.sections[:_PAIRS]):
        size = f"-{family.sizes[index]:g}".replace(".", "-").replace("+", "") if family.sizes else ""
        drawing = Drawing(f"{family.slug}--curves{size}", f"{section.task}: {section.instance}: accuracy against time")
        if index == _PAIRS - 1:
            drawing.left_out = len(family.sections) - _PAIRS
        with theme():
            figure = _pair(family, section, drawing)
            if figure is not None:
                save(figure, drawing, wanted)
                yield drawing


def _pair(family: Family, section: Section, drawing: Drawing) -> Figure | None:
    """Draw a section: one panel a clock on which its records have curves; None where none has."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    if not section.metrics:
        return None
    metric = section.metrics[0]
    rows, left_out = rows_to_draw(family)
    drawing.left_out += left_out
    here = {row.label: row for row in section.rows if row.label in rows and row.kind != "published"}
    solvers = {label: row for label, row in here.items() if row.kind == "solver"}
    panels = [
        (clock, {label: curve for label, row in solvers.items() if (curve := _curve(row.good, metric, clock))})
        for clock in reversed(CLOCKS)  # wall clocks, at which lines end together, beside the labels
    ]
    panels = [(clock, curves) for clock, curves in panels if curves]
    if not panels:
        return None
    floors = {
        label: row.numbers[metric.name].mean
        for label, row in here.items()
        if row.kind == "baseline" and metric.name in row.numbers and drawable(row.numbers[metric.name].mean)
    }
    named = {label for _, curves in panels for label in curves} | set(floors)
    room = _GAP + _LETTER * max(len(_short(label)) for label in named)
    size = (_PANEL[0] * len(panels) + room, max(_PANEL[1], _LINE * len(named) + _MARGIN))
    figure = Figure(figsize=size, layout=ConstrainedLayoutEngine(rect=(0, 0, 1 - _EDGE / size[0], 1)))
    axes = list(figure.subplots(1, len(panels), sharey=True, squeeze=False)[0])
    level = {label: line_of(label, rows, [(0.0, value)]) for label, value in floors.items()}
    for axis, (clock, curves) in zip(axes, panels, strict=True):
        lines = {label: _line(label, rows, curve, k % 4) for k, (label, curve) in enumerate(curves.items())}
        for label, curve in curves.items():
            if curve.low != curve.high:
                colour = lines[label].look.colour
                axis.fill_between(curve.times, curve.low, curve.high, color=colour, alpha=0.15, linewidth=0)
        log_y = log_scale([*lines.values(), *level.values()]) and not metric.higher_is_better
        draw(axis, list(lines.values()), log_x=True, log_y=log_y)
        for floor in level.values():
            axis.axhline(floor.points[0][1], color=floor.look.colour, linestyle=floor.dashes, linewidth=1.0, zorder=1)
        _set_time(axis, lines.values())
        axis.set_xlabel(clock.label)
    if axes[0].get_yscale() == "log":
        _set_error(axes[0], lines.values(), floors.values())
    axes[0].set_ylabel(safe_text(metric_column(metric).head), parse_math=False)
    title = textwrap.wrap(f"{section.task}: {section.instance}", int(_TITLE * size[0]), max_lines=2, placeholder=" …")
    figure.suptitle("\n".join(safe_text(part, 200) for part in title), fontsize="small").set_parse_math(False)
    _name(figure, axes[-1], lines, level)
    return figure


def _line(label: str, rows: Mapping[str, Row], curve: _Curve, shift: int) -> Line:
    """Return the line of a curve, marked at its end and once before, at places that differ by `shift`."""
    last = len(curve.times) - 1
    line = line_of(label, rows, list(zip(curve.times, curve.middle, strict=True)))
    return replace(line, marked=sorted({max(0, last - 2 - shift), last}))


def _curve(records: Sequence[Record], metric: Metric, clock: Clock) -> _Curve | None:
    """Return the curve at the steps that all seeds share, of which the end is one; that of the first seed otherwise."""
    seeds = []
    for record in records:
        points = {}
        for index, point in enumerate(record.curve):
            time, value = getattr(point, clock.key), point.metrics.get(metric.name, math.nan)
            if time is not None and drawable(real(time)) and time > 0 and drawable(value):
                points[math.inf if index == len(record.curve) - 1 else point.step] = (clock.scale * real(time), value)
        if points:
            seeds.append(points)
    if not seeds:
        return None
    shared = set(seeds[0]).intersection(*seeds)
    if len(shared) < 2:
        seeds, shared = seeds[:1], set(seeds[0])
    found = [[points[step] for points in seeds] for step in sorted(shared)]
    values = [[value for _, value in pairs] for pairs in found]
    return _Curve(
        times=[median(time for time, _ in pairs) for pairs in found],
        middle=list(map(median, values)),
        low=list(map(min, values)),
        high=list(map(max, values)),
    )


def _set_time(axis: Axes, lines: Iterable[Line]) -> None:
    times = [x for line in lines for x, _ in line.points]
    axis.set_xlim(max(min(times), max(times) / _SPAN) / 1.2, max(times) * 1.2)
    ticks(axis.xaxis, axis.get_xlim())


def _set_error(axis: Axes, lines: Iterable[Line], floors: Iterable[float]) -> None:
    """Show all floors and all that lies below three times the highest of them and of the starts: no runaway."""
    starts = [line.points[0][1] for line in lines]
    values = [y for y in (*(y for line in lines for _, y in line.points), *floors) if y > 0]
    top = 3 * max([y for y in (*starts, *floors) if y > 0], default=math.inf)
    axis.set_ylim(min(values) / 1.4, min(top, 1.4 * max(values)))
    ticks(axis.yaxis, axis.get_ylim(), most=3000)


def _name(figure: Figure, axis: Axes, lines: Mapping[str, Line], floors: Mapping[str, Line]) -> None:
    """Write the names of lines and floors to the right of `axis`, near their ends and none over another."""
    from scipy.optimize import isotonic_regression

    named = sorted(({**floors, **lines}).items(), key=lambda item: item[1].points[-1][1])
    right = axis.get_xlim()[1]
    ends = [(right if label in floors else line.points[-1][0], line.points[-1][1]) for label, line in named]
    to_axes = axis.transData + axis.transAxes.inverted()
    wanted = np.clip(np.nan_to_num(to_axes.transform(ends)[:, 1], nan=0.0), 0.0, 1.0)
    steps = np.arange(len(named)) * min(_LINE / (figure.get_figheight() - _MARGIN), 1 / max(len(named) - 1, 1))
    places = isotonic_regression(wanted - steps).x.clip(0.0, 1.0 - steps[-1]) + steps
    for (label, line), end, place in zip(named, to_axes.transform(ends), places, strict=True):
        colour = line.look.colour
        leader = ([end[0], 1.02, 1.07], [end[1], end[1], place])
        if 0 <= end[1] <= 1:
            axis.plot(*leader, color=colour, linewidth=0.5, transform=axis.transAxes, clip_on=False)
        text = f"{_short(label)}  {line.points[-1][1]:.3g}"
        axis.text(
            1.08, place, text, color=colour, transform=axis.transAxes, va="center", fontsize="x-small", parse_math=False
        )


def _short(label: str) -> str:
    """Leave out the middle of a long label: settings of one solver often differ at the end."""
    label = safe_text(label, 200)
    return label if len(label) <= _LONGEST else f"{label[: _LONGEST - 13]}…{label[-12:]}"
