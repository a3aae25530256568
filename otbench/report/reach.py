"""What training took to bring an error to a level and to keep it there: seconds on both clocks, and samples.

What counts is the last time at which the error came down to the level: a curve that dips below and comes back is not
paid for the dip. Points of a curve lie at steps 1, 2, 4, ...; between two of them the error is taken to be a power of
the time, which is a straight line where both axes are logarithmic.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from otbench.records.record import CurvePoint
from otbench.records.series import real
from otbench.report.rows import IDENTITY, Number, Row, Section, number
from otbench.reporting import Metric


@dataclass(frozen=True)
class Clock:
    """One way to measure the length of training.

    Attributes:
        key: field of `CurvePoint`.
        label: what it is, as the label of an axis.
        unit: as it stands in tables.
        scale: factor from the record's unit to `unit`.
    """

    key: str
    label: str
    unit: str
    scale: float = 1.0


CLOCKS = (
    Clock("train_s", "training, wall clock (s)", "s"),
    Clock("train_cpu_s", "training, processor (s)", "CPU s"),
    Clock("samples", "samples drawn (thousands)", "k samples", 1e-3),
)
LEVELS = (10.0, 3.0, 1.0)
"""Targets of UVP, in % of the target's variance."""
FRACTIONS = (0.1, 0.01)
"""Targets of any error, as parts of the score of doing nothing."""
_UVP = ("uvp_fwd", "uvp_bwd")


@dataclass(frozen=True)
class Goal:
    """What is asked of training: to bring `metric` to `level` and to keep it there; measured on `clock`."""

    metric: Metric
    level: float
    clock: Clock

    @property
    def key(self) -> str:
        """Its name in files."""
        return f"{self.metric.name}_to_{self.level:g}_{self.clock.key}"


def goals(section: Section) -> list[Goal]:
    """Return the goals of a section in UVP, by metric and clock; nothing where no solver has a curve in it.

    Levels that doing nothing keeps are left out.
    """
    return [
        Goal(metric, level, clock)
        for metric in section.metrics
        if metric.name in _UVP and _has_curve(section, metric)
        for clock in CLOCKS
        for level in LEVELS
        if (idle := _idle(section, metric)) is None or level < idle
    ]


def target(section: Section, part: float) -> Goal | None:
    """Return the goal to bring the first metric to `part` of the score of doing nothing; None where there is none."""
    if not section.metrics or section.metrics[0].higher_is_better:
        return None
    metric = section.metrics[0]
    idle = _idle(section, metric)
    return Goal(metric, part * idle, CLOCKS[0]) if idle is not None and 0 < part * idle < math.inf else None


def _has_curve(section: Section, metric: Metric) -> bool:
    solvers = (row for row in section.rows if row.kind == "solver")
    return any(metric.name in point.metrics for row in solvers for record in row.good for point in record.curve)


def _idle(section: Section, metric: Metric) -> float | None:
    """Return the score of doing nothing."""
    for row in section.rows:
        if row.kind == "baseline" and row.label == IDENTITY and metric.name in row.numbers:
            return row.numbers[metric.name].mean
    return None


@dataclass(frozen=True)
class Reach:
    """What the runs of one row took to reach a level.

    Attributes:
        values: of the runs that do, on the goal's clock, in the unit of records.
        ends: where runs ended that do not.
        runs: how many runs there are; those whose records do not tell are among neither.
    """

    values: list[float]
    ends: list[float]
    runs: int

    @property
    def number(self) -> Number | None:
        """The mean; None unless all runs reach the level."""
        return number(self.values) if self.values and len(self.values) == self.runs else None


def reach(row: Row, goal: Goal) -> Reach:
    """Return what the runs of `row` that ended well took to reach `goal`."""
    values, ends = [], []
    for record in row.good:
        points = _points(record.curve, goal.metric, goal.clock)
        found = crossing(points, goal.level)
        if found is not None:
            values.append(found)
        elif points:
            ends.append(points[-1][0])
    return Reach(values, ends, len(row.good))


def crossing(points: Sequence[tuple[float, float]], level: float) -> float | None:
    """Return when an error comes down to `level` to stay there; None if it does not.

    Where the point before has no place on a logarithmic scale (the start, at time 0; an error that is not finite), it
    is the first point at or below the level, which is an upper bound; so it is where that point's error is not above 0.

    Args:
        points: time and error, in the order of time.
        level: above 0.
    """
    if not points or not points[-1][1] <= level:
        return None
    result = points[0][0]
    for (before, high), (after, low) in pairwise(points):
        if low <= level and not high <= level:
            result = after
            if 0 < before <= after and low > 0 and high < math.inf and (fall := math.log(high) - math.log(low)) > 0:
                share = (math.log(high) - math.log(level)) / fall
                result = min(after, math.exp((1 - share) * math.log(before) + share * math.log(after)))
    return result


def _points(curve: Sequence[CurvePoint], metric: Metric, clock: Clock) -> list[tuple[float, float]]:
    """Return time on `clock` and error of the points that have both."""
    pairs = [(getattr(point, clock.key), point.metrics.get(metric.name)) for point in curve]
    return [(real(time), error) for time, error in pairs if time is not None and error is not None]
