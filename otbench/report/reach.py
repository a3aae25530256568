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
from otbench.report.rows import Number, Row, number
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
WALL = CLOCKS[0]


@dataclass(frozen=True)
class Reach:
    """What the runs of one row took to reach a level.

    Attributes:
        values: of the runs that do, on the clock that was asked for, in the unit of records.
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


def reach(row: Row, metric: Metric, level: float, clock: Clock) -> Reach:
    """Return what the runs of `row` that ended well took to bring `metric` to `level` and to keep it there."""
    values, ends = [], []
    for record in row.good:
        points = _points(record.curve, metric, clock)
        found = crossing(points, level)
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
            if 0 < before <= after and low > 0 and high < math.inf:
                share = (math.log(high) - math.log(level)) / (math.log(high) - math.log(low))
                result = before * (after / before) ** share
    return result


def _points(curve: Sequence[CurvePoint], metric: Metric, clock: Clock) -> list[tuple[float, float]]:
    """Return time on `clock` and error of the points that have both."""
    pairs = [(getattr(point, clock.key), point.metrics.get(metric.name)) for point in curve]
    return [(real(time), error) for time, error in pairs if time is not None and error is not None]
