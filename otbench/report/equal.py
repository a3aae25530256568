"""Equal time: what solvers had reached when each had trained for as long as the one that stopped first.

Presets are each solver's own length, so a table "as tuned" compares runs of different length. Beside it stand the
scores at one time, read off the curves that the runs left. The time is that of the shortest run, so nobody's curve is
extended. It is no budget that anyone was given: a schedule made for a longer run still has its rate high there.
`--cpu-limit` gives solvers one budget, which their schedules follow.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from itertools import pairwise

from otbench.names import plain
from otbench.records.record import CurvePoint, Record, Status, Times
from otbench.records.series import real
from otbench.report.reach import CLOCKS
from otbench.report.rows import LOADED, Row, Section, sections

SECONDS, CPU_SECONDS = (clock.unit for clock in CLOCKS[:2])
"""The clocks of training: CPU seconds where all records have them, else the wall's."""
ALIKE = 1.05
"""Ratio of the longest training to the shortest up to which the table as tuned is one at equal time."""
SAYS = (
    "read off the curves, between points on logarithmic scales; a schedule that was made for a longer run is not at its"
    " end there"
)
"""What these scores are."""


@dataclass(frozen=True)
class EqualTime:
    """The rows of a section at an equal time.

    Attributes:
        section: the section, with records that end at that time; no published rows.
        seconds: of training.
        clock: "CPU s" or "s".
    """

    section: Section
    seconds: float
    clock: str

    @property
    def words(self) -> str:
        """The time in words."""
        return f"{self.seconds:g} {'CPU s' if self.clock == CPU_SECONDS else 's'}"


def clock_of(rows: Iterable[Row]) -> str:
    """Return the clock on which the training of these rows is compared."""
    good = [record for row in rows for record in row.good]
    by_processor = all(r.spec.device == "cpu" and r.times.train_cpu_s is not None for r in good)
    return CPU_SECONDS if by_processor else SECONDS


def optimiser_of(record: Record) -> str:
    """Return the optimiser of a run; empty where the solver has no choice of one."""
    return plain(str(record.settings.get("optimiser") or record.spec.solver_config.get("optimiser") or ""), 40)


def optimisers_of(row: Row) -> str:
    """Return the optimisers of the runs of a row; empty where there is none to choose."""
    return ", ".join(dict.fromkeys(name for record in row.records if (name := optimiser_of(record))))


def processor_of(record: Record) -> str:
    """Return the processor that a solver was trained on; empty for other devices, and where nothing was trained."""
    trained = record.spec.kind == "solver" and record.spec.device == "cpu"
    return plain(str(record.environment.get("cpu") or "")) if trained else ""


def users_of(rows: Iterable[Row], named: Callable[[Record], str]) -> dict[str, list[str]]:
    """Return the labels of the rows that have each name, both in order; records without a name are left out."""
    users: dict[str, set[str]] = {}
    for row in rows:
        for record in row.records:
            if name := named(record):
                users.setdefault(name, set()).add(row.label)
    return {name: sorted(users[name]) for name in sorted(users)}


def optimisers_said(rows: Iterable[Row]) -> str:
    """Say which of `rows` were trained by which optimiser, of those that have a choice; else return nothing."""
    users = users_of(rows, optimiser_of)
    said = ", ".join(f"{name} ({', '.join(labels)})" for name, labels in users.items())
    return f"Optimisers: {said}." if said else ""


def processors_said(rows: Iterable[Row]) -> str:
    """Say which of `rows` were trained on which processor, where there are several; else return nothing."""
    users = users_of(rows, processor_of)
    said = "; ".join(f"{name}: {', '.join(labels)}" for name, labels in users.items())
    return f"Several processors, on which an equal time is not equal work: {said}." if len(users) > 1 else ""


def at_equal_time(section: Section) -> EqualTime | None:
    """Return the rows of `section` when each solver had trained for as long as the shortest run.

    None where fewer than two solvers have curves, where a solver has none, or where all trained equally long anyway;
    and where there is only the wall's clock, and the machine was busy. Failed runs stay as they are.
    """
    rows = [row for row in section.rows if row.kind == "solver" and row.good]
    clock = clock_of(rows)
    if len(rows) < 2 or (clock == SECONDS and any(LOADED in row.marks for row in rows)):
        return None
    curves = [_curve(record, clock) for row in rows for record in row.good]
    if not all(len(curve) > 2 for curve in curves):
        return None
    ends = [curve[-1][0] for curve in curves]
    starts = [next((seconds for seconds, _ in curve if seconds > 0), math.inf) for curve in curves]
    seconds = _rounded_down(min(ends))
    if not max(starts) <= seconds or max(ends) <= ALIKE * min(ends):
        return None
    records = [
        _cut(record, seconds, clock) if row.kind == "solver" and record.status is Status.OK else record
        for row in section.rows
        for record in row.records
    ]
    (made,) = sections(records)
    before = {row.key: row for row in section.rows}
    made.rows = [row for row in made.rows if row.kind != "published"]
    for row in made.rows:
        row.stale, row.verified = before[row.key].stale, before[row.key].verified
    named = {metric.name: metric for metric in section.metrics}  # as the section has them, in words that are safe
    made.metrics = [named[metric.name] for metric in made.metrics if metric.name in named]
    return (
        EqualTime(replace(made, task=section.task, instance=section.instance), seconds, clock) if made.metrics else None
    )


def _rounded_down(seconds: float) -> float:
    """Return `seconds` with two digits, never more than it."""
    if not 0 < seconds < math.inf:
        return 0.0
    unit = 10.0 ** (math.floor(math.log10(seconds)) - 1)
    return float(f"{math.floor(seconds / unit * (1 + 1e-12)) * unit:.2g}")


def _curve(record: Record, clock: str) -> list[tuple[float, CurvePoint]]:
    """Return the points of a curve by their seconds on `clock`, in order.

    Records made before CPU seconds were kept at each point have the wall's there, in the processor's share of the
    whole run.
    """
    points = [(_seconds(point, record, clock), point) for point in record.curve]
    return sorted(((s, p) for s, p in points if math.isfinite(s)), key=lambda pair: (pair[0], pair[1].step))


def _seconds(point: CurvePoint, record: Record, clock: str) -> float:
    if clock == SECONDS:
        return real(point.train_s)
    if point.train_cpu_s is not None:
        return real(point.train_cpu_s)
    wall = real(record.times.train_s or 0.0) + real(record.times.warmup_s or 0.0)
    return real(point.train_s) * real(record.times.train_cpu_s or 0.0) / wall if wall > 0 else math.nan


def _cut(record: Record, seconds: float, clock: str) -> Record:
    """Return `record` as if it had ended when it had trained for `seconds`."""
    curve = _curve(record, clock)
    (before, a), (after, b) = next(
        ((x, y) for x, y in pairwise(curve) if x[0] <= seconds <= y[0]), (curve[-1], curve[-1])
    )
    share = 0.0 if after <= before else (seconds - before) / (after - before)
    on_log = share if before <= 0 else math.log(seconds / before) / math.log(after / before) if after > before else 0.0
    higher = {info.name for info in record.metric_info if info.higher_is_better}
    scores = {
        name: _between(value, b.metrics[name], on_log, logarithmic=name not in higher)
        for name, value in a.metrics.items()
        if name in b.metrics
    }
    steps = a.step + share * (b.step - a.step)
    drawn = [point.samples if point.samples is not None else _drawn(point, record) for point in (a, b)]
    return record.model_copy(
        update={
            "metrics": scores,
            "curve": [point for _, point in curve if point.step <= steps],
            "counts": record.counts.model_copy(
                update={"steps": round(steps), "samples": round(drawn[0] + share * (drawn[1] - drawn[0]))}
            ),
            "times": Times(
                train_s=seconds,
                train_cpu_s=seconds if clock == CPU_SECONDS else None,
                step_ms=record.times.step_ms,
                infer_fwd_s=record.times.infer_fwd_s,
                infer_bwd_s=record.times.infer_bwd_s,
            ),
        }
    )


def _drawn(point: CurvePoint, record: Record) -> float:
    """Return the samples drawn until `point`, where the record has only those of the whole run."""
    return real(record.counts.samples) * point.step / record.counts.steps if record.counts.steps else 0.0


def _between(first: float, last: float, share: float, *, logarithmic: bool) -> float:
    """Return what lies between two scores, on a logarithmic scale where both have a place on it."""
    first, last = real(first), real(last)
    if not (math.isfinite(first) and math.isfinite(last)):
        return last if share >= 1 else first
    if logarithmic and first > 0 and last > 0:
        return math.exp((1 - share) * math.log(first) + share * math.log(last))
    return (1 - share) * first + share * last
