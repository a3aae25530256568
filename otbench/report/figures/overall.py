"""The figures of a summary, for each scope: critical-difference diagram, performance profiles, error against time.

What the numbers mean is said in `otbench.report.summary.scopes`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from otbench.report.columns import metric_column
from otbench.report.figures import labels
from otbench.report.figures.canvas import Drawing, safe_text, save, theme
from otbench.report.figures.labels import Label
from otbench.report.figures.lines import looks_of, marker_size, ticks
from otbench.report.rows import Row
from otbench.report.summary.contests import short_names
from otbench.report.summary.scopes import Profile, Scope
from otbench.report.summary.summary import Summary

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_PANEL = (3.0, 2.6)
_MARGIN = 0.85
"""Inches of a figure's height that are not the panel's."""
_SCOPES = 12
"""Scopes that have figures at most."""
_SOLVERS = 24
"""Solvers drawn at most."""
_INK = "#333333"
_SHORT = 6.0
"""Length of an axis of ratios below which it has its ticks from here."""


def drawings(summary: Summary, formats: Iterable[str]) -> Iterator[Drawing]:
    """Yield the figures of all scopes in `formats` (svg, pdf, png); one without anything to show is left out."""
    wanted = list(formats)
    for number, scope in enumerate(summary.scopes[:_SCOPES], 1):
        where = f"{scope.title}, {len(scope.counted)} instances"
        for name, title, maker in (
            ("ranks", f"mean ranks on {where}", _ranks),
            ("profiles", f"performance profiles on {where}", _profiles),
            ("front", f"error against training time on {where}", _front),
        ):
            with theme():
                figure = maker(scope)
                if figure is not None:
                    drawing = Drawing(f"summary--{number}-{name}", f"{title}: {_said(scope, name)}")
                    drawing.left_out = max(0, len(scope.solvers) - _SOLVERS)
                    save(figure, drawing, wanted)
                    yield drawing


def _said(scope: Scope, name: str) -> str:
    """Return what a figure shows, in words."""
    short = short_names(scope.solvers)
    if name == "front":
        on = [short[label] for label in scope.solvers if label in scope.front]
        return f"no solver is better in both than {', '.join(on)}"
    order = [f"{short[label]} {scope.mean_ranks[label]:.1f}" for label in scope.solvers]
    return ", ".join(order) if name == "ranks" else f"best first {', '.join(short[label] for label in scope.solvers)}"


def _rows(scope: Scope) -> dict[str, Row]:
    """Return a row for each solver to draw, by label, in the order of labels."""
    found = {entry.label: entry.row for contest in scope.counted for entry in contest.entries}
    return {label: found[label] for label in sorted(scope.solvers[:_SOLVERS])}


def _ranks(scope: Scope) -> Figure | None:
    """Draw the mean ranks on an axis, with bars over solvers that are not told apart."""
    from matplotlib.figure import Figure

    rows = _rows(scope)
    names = [label for label in scope.solvers if label in rows]
    if scope.friedman is None or len(names) < 2:
        return None
    looks, short = looks_of(rows), short_names(names)
    groups = [group for group in scope.groups if len(group) > 1]
    lines = math.ceil(len(names) / 2)
    depth = 0.24 * len(groups) + 0.3  # below the axis, in units of which a label has half
    figure = Figure(figsize=(6.4, 0.85 + 0.34 * (depth + 0.5 * lines)), layout="constrained")
    axis = figure.subplots()
    k = len(scope.solvers)
    for index, label in enumerate(names):
        left = index < lines
        level = -depth - 0.5 * (index if left else len(names) - 1 - index)
        rank, edge = scope.mean_ranks[label], 0.85 if left else k + 0.15
        look = looks[label][0]
        axis.plot([rank, rank, edge], [0, level, level], color=look.colour, linewidth=0.8)
        axis.plot([rank], [0], color=look.colour, marker=look.marker or "o", markersize=marker_size(look) - 1, zorder=3)
        name = safe_text(labels.short(short[label]), 200)
        text = f"{name}  {rank:.2f} " if left else f" {rank:.2f}  {name}"
        written = axis.text(edge, level, text, color=look.colour, ha="right" if left else "left", va="center")
        written.set(fontsize="small", parse_math=False)
    axis.plot([1, k], [0, 0], color=_INK, linewidth=1.0, zorder=1)
    for tick in range(1, k + 1):
        axis.plot([tick, tick], [0, 0.12], color=_INK, linewidth=0.8)
        axis.text(tick, 0.2, f"{tick}", ha="center", va="bottom", fontsize="x-small", color=_INK)
    for index, group in enumerate(groups):
        ends = [scope.mean_ranks[group[0]] - 0.05, scope.mean_ranks[group[-1]] + 0.05]
        axis.plot(ends, [-0.24 * (index + 1)] * 2, color=_INK, linewidth=3.0, solid_capstyle="butt")
    if not scope.alike and (difference := scope.critical_difference) is not None:
        axis.plot([1, 1, 1 + difference, 1 + difference], [0.72, 0.84, 0.84, 0.72], color=_INK, linewidth=0.8)
        axis.text(1 + difference / 2, 0.9, f"critical difference {difference:.2f}", ha="center", fontsize="x-small")
    verdict = "no difference is shown" if scope.alike else "bars join those not told apart"
    text = f"mean rank on {len(scope.counted)} instances; Friedman's test: p = {scope.friedman:.2g}, {verdict}"
    axis.set_title(safe_text(text, 200), fontsize="small").set_parse_math(False)
    axis.set_xlim(0.8, k + 0.2)
    axis.set_ylim(-depth - 0.5 * (lines - 1) - 0.3, 1.2)
    axis.set_axis_off()
    return figure


def _profiles(scope: Scope) -> Figure | None:
    """Draw the share of instances on which a solver is within a ratio of the best: of error, and of time to it."""
    panels: list[tuple[str, Profile]] = [("error, ratio to the least", scope.profile)]
    if scope.target is not None:
        words = f"time ({scope.time_unit}) to {100 * scope.target:g} % of doing nothing, ratio to the least"
        panels.append((words, scope.time_profile))
    panels = [(words, found) for words, found in panels if found]
    if not panels:
        return None
    rows = _rows(scope)
    short = {label: labels.short(name) for label, name in short_names(rows).items()}
    width = _PANEL[0] * len(panels) + labels.room(list(short.values()))
    figure = _figure(width, labels.height(len(rows), _PANEL[1], _MARGIN))
    axes = list(figure.subplots(1, len(panels), sharey=True, squeeze=False)[0])
    for axis, (words, found) in zip(axes, panels, strict=True):
        _steps(axis, found, rows)
        axis.set_xlabel(safe_text(words, 200), fontsize="small")
    axes[0].set_ylabel("share of instances (%)")
    last = panels[-1][1]
    ends = {label: (steps[-1][1] if (steps := last.get(label)) else 0.0) for label in rows}
    order = sorted(rows, key=lambda label: (ends[label], _area(panels[0][1].get(label, []))))
    colour = {label: look.colour for label, (look, _) in looks_of(rows).items()}
    labels.write(figure, axes[-1], [Label(short[o], colour[o], (None, 100 * ends[o])) for o in order], _MARGIN)
    figure.suptitle(safe_text(f"{scope.title}: {len(scope.counted)} instances", 200), fontsize="small")
    return figure


def _area(steps: Iterable[tuple[float, float]]) -> float:
    """Return a number that is the greater the further left the steps are."""
    return sum(1 / ratio for ratio, _ in steps)


def _steps(axis: Axes, found: Profile, rows: Mapping[str, Row]) -> None:
    top = max((ratio for steps in found.values() for ratio, _ in steps), default=1.0)
    end = 1.15 * max(top, 1.5)
    for label, (look, dashes) in looks_of(rows).items():
        steps = found.get(label, [])
        points = [(1.0, 0.0), *((ratio, 100 * share) for ratio, share in steps)]
        points.append((end, points[-1][1]))
        (line,) = axis.step(*zip(*points, strict=True), where="post", color=look.colour, linestyle=dashes)
        line.set(linewidth=1.4, marker=look.marker or "none", markersize=marker_size(look) - 1)
        line.set(markevery=list(range(1, len(points) - 1)) or [0], markeredgecolor="white", markeredgewidth=0.5)
    axis.set_xscale("log")
    axis.set_xlim(0.97, end)
    axis.set_ylim(-3, 104)
    ticks(axis.xaxis, (1.0, end), most=3000)
    if end < _SHORT:
        axis.set_xticks([tick for tick in (1, 1.2, 1.5, 2, 3, 4, 5) if tick < end])
    axis.grid(visible=True, which="major", linewidth=0.4, color="#dddddd")
    axis.spines[["top", "right"]].set_visible(False)


def _front(scope: Scope) -> Figure | None:
    """Draw error against training time, both as geometric means over instances, and the line of those not beaten."""
    rows = _rows(scope)
    points = {label: point for label, point in scope.points.items() if label in rows}
    if len(points) < 2 or scope.limited:
        return None
    looks, short = looks_of(rows), short_names(rows)
    names = {label: labels.short(short[label]) for label in points}
    figure = _figure(
        _PANEL[0] + 0.6 + labels.room(list(names.values())), labels.height(len(points), _PANEL[1], _MARGIN)
    )
    axis = figure.subplots()
    axis.set(xscale="log", yscale="log")
    times, errors = zip(*points.values(), strict=True)
    axis.set_xlim(min(times) / 1.25, max(times) * 1.25)
    axis.set_ylim(min(errors) / 1.3, max(errors) * 1.3)
    front = sorted(points[label] for label in points if label in scope.front)
    axis.step(*zip(*front, strict=True), where="post", color="#999999", linewidth=1.0, zorder=1)
    for label, (x, y) in points.items():
        look = looks[label][0]
        (dot,) = axis.plot([x], [y], color=look.colour, marker=look.marker or "o", markersize=marker_size(look) + 1)
        dot.set(markerfacecolor=look.colour if label in scope.front else "white", linestyle="none")
    ticks(axis.xaxis, axis.get_xlim())
    ticks(axis.yaxis, axis.get_ylim())
    axis.grid(visible=True, which="major", linewidth=0.4, color="#dddddd")
    axis.spines[["top", "right"]].set_visible(False)
    axis.set_xlabel(f"training, geometric mean ({scope.clock})")
    heads = {metric_column(contest.metric).head for contest in scope.counted}
    axis.set_ylabel(safe_text(f"{heads.pop() if len(heads) == 1 else 'error'}, geometric mean"), parse_math=False)
    written = [Label(names[label], looks[label][0].colour, point) for label, point in points.items()]
    labels.write(figure, axis, written, _MARGIN)
    figure.suptitle(
        safe_text(f"{scope.title}: {len(scope.counted)} instances; filled: no other is better in both", 200),
        fontsize="small",
    )
    return figure


def _figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    return Figure(figsize=(width, height), layout=ConstrainedLayoutEngine(rect=(0, 0, 1 - labels.EDGE / width, 1)))
