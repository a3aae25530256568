"""Lines in figures: which rows are drawn, how they look, and axes with plain numbers."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from otbench.report.figures.canvas import safe_text
from otbench.report.figures.style import Dashes, Style, looks
from otbench.report.rows import IDENTITY, Row
from otbench.report.tables import Family

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

_ROWS = 24
"""Rows drawn in one figure at most: more cannot be told apart. Tables hold them all."""
_UPWARD = 22
"""Letters of a line of an upward label: two inches."""


@dataclass
class Line:
    """One line of a panel.

    Attributes:
        look: colour and marker.
        dashes: of the line.
        points: x and y.
        bars: half lengths of bars at the points; none for no bars.
        hollow: thin and with empty markers, as published rows are.
        marked: indices of the points that have a marker; None for all.
        name: of its row; empty for a line that the page need not tell from others.
    """

    look: Style
    dashes: Dashes
    points: list[tuple[float, float]]
    bars: list[float] = field(default_factory=list)
    hollow: bool = False
    marked: list[int] | None = None
    name: str = ""


def rows_to_draw(family: Family) -> tuple[dict[str, Row], int]:
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


def line_of(label: str, rows: Mapping[str, Row], points: list[tuple[float, float]]) -> Line:
    """Return the line of the row called `label`, with the look that it has among `rows`."""
    return Line(*looks_of(rows)[label], points, name=label)


def looks_of(rows: Mapping[str, Row]) -> dict[str, tuple[Style, Dashes]]:
    """Return how each row looks."""
    return dict(zip(rows, looks((row.kind, row.solver) for row in rows.values()), strict=True))


def drawable(value: float) -> bool:
    """Say whether `value` can stand on an axis beside sensible ones."""
    return value == 0 or 1e-30 < abs(value) < 1e30


def draw(axis: Axes, lines: Sequence[Line], *, log_x: bool = False, log_y: bool) -> None:
    """Draw `lines`; on a logarithmic axis what is not positive is left out."""
    drawn: list[tuple[Line, list[float], list[float]]] = []
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
        artist.set(linewidth=0.9 if line.hollow else 1.4, markersize=marker_size(line.look) - line.hollow)
        artist.set(markerfacecolor="white" if line.hollow else line.look.colour)
        filled = not line.hollow and not line.look.marker.startswith("$")  # a letter is all edge
        artist.set(markeredgecolor="white" if filled else line.look.colour)
        artist.set_markevery(line.marked)
        if line.name:
            artist.set_label(safe_text(line.name, 200))
        artist.set(markeredgewidth=0.8 if line.hollow else 0.5)
    if log_x:
        axis.set_xscale("log")
        ticks(axis.xaxis, axis.get_xlim())
    if log_y:
        axis.set_yscale("log")
        _at_least_a_decade(axis)
        ticks(axis.yaxis, axis.get_ylim())
    axis.grid(visible=True, which="major", linewidth=0.4, color="#dddddd")
    axis.spines[["top", "right"]].set_visible(False)


def name_upward(axis: Axes, text: str) -> None:
    """Label the upward axis, on as many lines as it takes: a label longer than the panel is high would be clipped."""
    axis.set_ylabel("\n".join(textwrap.wrap(safe_text(text, 3 * _UPWARD), _UPWARD)), parse_math=False)


def _at_least_a_decade(axis: Axes) -> None:
    """Widen a logarithmic axis until its ends differ by a factor of ten, so that no small difference fills a panel."""
    low, high = axis.get_ylim()
    if 0 < low < high < 10 * low:
        widen = math.sqrt(10 * low / high)
        axis.set_ylim(low / widen, high * widen)


def ticks(axis: Axis, limits: tuple[float, float], most: float = 0.0) -> None:
    """Label a logarithmic axis with plain numbers: powers of ten, with more between them where there are few.

    Where there are many, 3, 30, ... stand between them as long as the ratio of `limits` is below `most`.
    """
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

    low, high = limits
    ratio = high / low if 0 < low < high < math.inf else math.inf
    subs = (1.0, 2.0, 5.0) if ratio < 100 else (1.0, 3.0) if ratio < most else (1.0,)
    axis.set_major_locator(MaxNLocator(4) if ratio < 5 else LogLocator(subs=subs))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_locator(NullLocator())  # hundreds of marks, half of the size of a file


def marker_size(look: Style) -> float:
    """Return a size at which all markers look equally large: crosses and stars have less ink."""
    return 7.5 if look.marker in ("P", "X", "*", "p", "d") else 5.5


def log_scale(lines: Iterable[Line]) -> bool:
    """Say whether `lines` can be drawn on a logarithmic axis: all values are at least 0, and one is more."""
    values = [y for line in lines for _, y in line.points if drawable(y)]
    return bool(values) and all(y >= 0 for y in values) and any(y > 0 for y in values)
