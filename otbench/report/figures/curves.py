"""Error against time, one figure a pair: all solvers in one panel, and against samples in a second one.

Time is that of the processor where the records of all solvers have it, which other work on the machine cannot stretch,
and the wall's elsewhere. Of several seeds the median is drawn, with a band from the least to the greatest. Rows that
need no training and published numbers are lines across the panels: the former broken, the latter thin and dotted. One
column of labels at the right names them all, in the order in which they end.
"""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import TYPE_CHECKING

from otbench.records.record import Record
from otbench.records.series import real
from otbench.report.columns import metric_column
from otbench.report.figures import labels
from otbench.report.figures.canvas import Drawing, safe_text, save, theme
from otbench.report.figures.labels import Label
from otbench.report.figures.lines import Line, draw, drawable, line_of, log_scale, rows_to_draw, ticks
from otbench.report.figures.style import style
from otbench.report.pooled import Pool
from otbench.report.reach import CLOCKS, Clock
from otbench.report.rows import Row, Section
from otbench.report.summary.contests import short_names
from otbench.report.tables import Family
from otbench.reporting import Metric

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_PAIRS = 12
"""Sections of one family that have a figure at most."""
_PANEL = (4.4, 3.3)
"""Width and height of the panel of time in inches."""
_SAMPLES = 2.6
"""Width of the panel of samples."""
_TITLE = 11
"""Letters of a title for each inch of a figure's width."""
_MARGIN = 1.1
"""Inches of a figure's height that are not the panel's."""
_PUBLISHED = "published"
_PUBLISHED_MOST = 12
"""Published numbers drawn at most."""
_GREY = "#555555"
_HEAD = 34
"""Letters of a line of the error's label."""
_LEAST = 10.0
"""Greatest error shown over the least, at least."""
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
    """Draw a section; None where it has no curve."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    if not section.metrics:
        return None
    metric = section.metrics[0]
    rows, left_out = rows_to_draw(family)
    drawing.left_out += left_out
    here = {row.label: row for row in section.rows if row.label in rows and row.kind != "published"}
    solvers = {label: row for label, row in here.items() if row.kind == "solver"}
    panels = _panels(solvers, metric)
    if not panels:
        return None
    floors = {
        label: row.numbers[metric.name].mean
        for label, row in here.items()
        if row.kind == "baseline" and metric.name in row.numbers and drawable(row.numbers[metric.name].mean)
    }
    level = {label: line_of(label, rows, [(0.0, value)]) for label, value in floors.items()}
    published, beyond = _published(section, metric, max(floors.values(), default=math.inf))
    drawing.left_out += beyond
    curves = panels[-1][1]
    names = short_names([*curves, *floors])
    texts = {label: f"{labels.short(names[label])}  {curve.middle[-1]:.3g}" for label, curve in curves.items()}
    texts |= {label: f"{labels.short(names[label])}  {value:.3g}" for label, value in floors.items()}
    said = [f"{labels.short(label)}  {value:g} {_PUBLISHED}" for label, value, _ in published]
    room = labels.room([*texts.values(), *said])
    widths = [_PANEL[0] if clock.key != "samples" else _SAMPLES for clock, _ in panels]
    size = (sum(widths) + room, labels.height(len(texts) + len(said), _PANEL[1], _MARGIN))
    figure = Figure(figsize=size, layout=ConstrainedLayoutEngine(rect=(0, 0, 1 - labels.EDGE / size[0], 1)))
    axes = list(figure.subplots(1, len(panels), sharey=True, squeeze=False, width_ratios=widths)[0])
    banded = False
    for axis, (clock, curves) in zip(axes, panels, strict=True):
        lines = {label: _line(label, rows, curve, k % 4) for k, (label, curve) in enumerate(curves.items())}
        for label, curve in curves.items():
            if curve.low != curve.high:
                banded = True
                colour = lines[label].look.colour
                axis.fill_between(curve.times, curve.low, curve.high, color=colour, alpha=0.15, linewidth=0)
        log_y = log_scale([*lines.values(), *level.values()]) and not metric.higher_is_better
        draw(axis, list(lines.values()), log_x=True, log_y=log_y)
        for label, floor in level.items():
            across = axis.axhline(floor.points[0][1], color=floor.look.colour, linestyle=floor.dashes, linewidth=1.0)
            across.set(label=safe_text(label, 200), zorder=1)
        for label, value, colour in published:
            across = axis.axhline(value, color=colour, linestyle=(0, (1, 3)), linewidth=0.9)
            across.set(label=safe_text(f"{label}, {_PUBLISHED}", 200), zorder=1)
        _set_time(axis, lines.values())
        axis.set_xlabel(clock.label)
    if axes[0].get_yscale() == "log":
        _set_error(axes[0], lines.values(), [*floors.values(), *(value for _, value, _ in published)])
    elif metric.higher_is_better:
        axes[0].set_ylim(bottom=min(0.0, axes[0].get_ylim()[0]))
    head = textwrap.wrap(safe_text(metric_column(metric).head, 200), _HEAD, max_lines=2, placeholder=" …")
    axes[0].set_ylabel("\n".join(head), parse_math=False)
    whole = re.sub(r"(?<=\d) (?=\d{3}\b)", "\N{NO-BREAK SPACE}", f"{section.task}: {section.instance}")
    title = textwrap.wrap(whole, int(_TITLE * size[0]), max_lines=3, placeholder=" …")
    several = "pairs and seeds" if isinstance(section, Pool) else "seeds"
    title += [f"medians over {several}; bands from the least to the greatest"] if banded else []
    figure.suptitle("\n".join(safe_text(part, 200) for part in title), fontsize="small").set_parse_math(False)
    written = [Label(texts[label], line.look.colour, line.points[-1]) for label, line in lines.items()]
    written += [Label(texts[label], floor.look.colour, (None, floor.points[0][1])) for label, floor in level.items()]
    written += [Label(text, one[2], (None, one[1]), weak=True) for text, one in zip(said, published, strict=True)]
    labels.write(figure, axes[-1], written, _MARGIN)
    return figure


def _panels(solvers: Mapping[str, Row], metric: Metric) -> list[tuple[Clock, dict[str, _Curve]]]:
    """Return clocks with the curves on them: samples, if all solvers have them, and time beside the labels."""
    by_clock = {
        clock.key: (
            clock,
            {label: curve for label, row in solvers.items() if (curve := _curve(row.good, metric, clock))},
        )
        for clock in CLOCKS
    }
    wall, processor, samples = (by_clock[key] for key in ("train_s", "train_cpu_s", "samples"))
    full = [panel for panel in (samples, processor) if panel[1] and panel[1].keys() == wall[1].keys()]
    if not full or full[-1] is samples:
        full.append(wall)
    return [panel for panel in full if panel[1]]


def _published(section: Section, metric: Metric, bar: float) -> tuple[list[tuple[str, float, str]], int]:
    """Return name, value and colour of the published numbers that stand beside the section, each once.

    Those that are far worse than `bar`, the greatest score of a row that needs no training, would only stretch the
    scale; how many are left out is returned, too.
    """
    found: dict[tuple[str, float], str] = {}
    for row in section.rows:
        value = row.numbers.get(metric.name)
        if row.kind == "published" and value is not None and drawable(value.mean):
            found.setdefault((row.label, value.mean), style(row.solver).colour if row.solver else _GREY)
    near = [(*key, colour) for key, colour in found.items() if metric.higher_is_better or key[1] <= 3 * bar]
    return near[:_PUBLISHED_MOST], len(found) - len(near[:_PUBLISHED_MOST])


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
    low, high = min(values) / 1.4, min(top, 1.4 * max(values))
    if high < _LEAST * low:  # a part of a decade would make little look like much
        low, high = (math.sqrt(low * high) * _LEAST**half for half in (-0.5, 0.5))
    axis.set_ylim(low, high)
    ticks(axis.yaxis, axis.get_ylim(), most=3000)
