"""The harness's own columns, and how every report writes a number."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal

from otbench.report.rows import KEEPS, READS, START, Number
from otbench.reporting import Metric


@dataclass(frozen=True)
class Column:
    """One column of a table.

    Attributes:
        key: of `Row.numbers`.
        label: head of the column.
        unit: below the head; empty for plain counts.
        scale: factor from the record's unit to `unit`.
        best: which end is the better one; None where neither is.
        interval: whether the interval is shown.
        most: decimals at most.
        brief: whether the terminal has room for it.
        words: whether 0 and 1 are written as no and yes.
        metric: whether the task reports it, not the harness.
    """

    key: str
    label: str
    unit: str = ""
    scale: float = 1.0
    best: Literal["low", "high"] | None = None
    interval: bool = True
    most: int = 6
    brief: bool = True
    words: bool = False
    metric: bool = False

    @property
    def head(self) -> str:
        """Label and unit on one line."""
        return f"{self.label} ({self.unit})" if self.unit else self.label

    @property
    def timed(self) -> bool:
        """Whether it holds times, which say nothing where the machine was under load."""
        return not self.metric and (self.unit in ("s", "ms") or self.key == "time")


def _harness(
    key: str, label: str, unit: str = "", scale: float = 1.0, *, ranked: bool = False, brief: bool = True
) -> Column:
    return Column(key, label, unit, scale, "low" if ranked else None, interval=False, most=3, brief=brief)


HARNESS = (
    _harness("steps", "steps"),
    _harness("samples", "samples", "k", 1e-3),
    _harness("directions", "dirs"),
    _harness("train_s", "train", "s", ranked=True),
    _harness("step_ms", "step", "ms", ranked=True),
    _harness("infer_fwd_ms", "T", "ms", ranked=True),
    _harness("infer_bwd_ms", "S", "ms", ranked=True),
    _harness("memory", "peak", "MB", 1e-6, ranked=True),
    _harness("stored_bytes", "stored", "kB", 1e-3, ranked=True),
    _harness("parameters", "parameters", brief=False),
)
BUDGETS = ("steps", "samples", "directions")
"""Columns that say what a run was given, not what it cost."""
READS_LABEL = Column(READS, "reads label", interval=False, words=True)
"""Shown where one row of a section has maps that are given the class of the point that they move."""
KEEPS_ROWS = _harness(KEEPS, "training rows kept")
"""Shown where the maps of one row of a section keep training rows."""
EXPLAINED = (
    "at step 0: the same score before training. samples: drawn, both sides. dirs: trainings side by side, 2 where each"
    " direction has its own.",
    "T, S: time to map the test set forward, backward. peak: memory of training above the level after imports (on a"
    " GPU: allocated).",
    "stored: what must be kept for the maps. steps, train: of the whole run. ±: 95 % t-interval of the mean over"
    " seeds.",
)


_NO_RESULT = re.compile(r"p_value(_.*)?|.*_(low|high)|action_ratio")
"""Names of metrics that are p-values or ends of an interval, and of one that is best at 1, not at either end."""


def ranked(metric: Metric) -> bool:
    """Say whether a metric is a result, in which rows can be better or worse.

    P-values, the ends of an interval, the score before training and an action, which paths that do not arrive have less
    of, are none.
    """
    return metric.name != START and _NO_RESULT.fullmatch(metric.name) is None


def metric_column(metric: Metric) -> Column:
    """Return the column of a metric."""
    best: Literal["low", "high"] | None = "high" if metric.higher_is_better else "low"
    return Column(metric.name, metric.label, metric.unit, best=best if ranked(metric) else None, metric=True)


def shown(value: Number, scale: float = 1.0, *, interval: bool = True, most: int = 6, more: int = 0) -> tuple[str, str]:
    """Return a mean and its interval as they are written; the latter is empty where there is none.

    Both end at the interval's second digit, which is what the seeds support. A mean without an interval, or whose
    interval is not shown, has three digits at most. Never more than `most` decimals, and never more than six digits of
    the mean because of a narrow interval. `more` decimals are added, for rows that pairs of runs tell apart.
    """
    mean = value.mean * scale
    half = None if value.half is None else value.half * scale
    if not math.isfinite(mean):
        return str(mean), ""
    magnitude = math.floor(math.log10(abs(mean))) if mean else 0
    if magnitude >= 9 or (mean and magnitude < -most and interval):
        return f"{mean:.2e}", "" if half is None or not interval else f"{half:.1e}"
    if half is not None and half <= 1e-7 * abs(mean):  # the same number from every seed, but for its last bits
        half = 0.0
    places = 0 if mean == int(mean) else 2 - magnitude
    if half:
        supported = 1 - math.floor(math.log10(half))
        places = min(supported, max(5 - magnitude, 0)) if interval else min(supported, places)
    places = min(max(places, 0) + more, most)
    return f"{mean:.{places}f}", "" if half is None or not interval else f"{half:.{places}f}"


def written(value: Number, column: Column, more: int = 0) -> tuple[str, str]:
    """Return what stands in a cell of `column`: mean and interval, or yes and no."""
    if column.words:
        return "yes" if value.mean > 0 else "no", ""
    return shown(value, column.scale, interval=column.interval, most=column.most, more=more)
