"""Runs recorded runs again, from their own spec, and says whether the code of today gives their numbers.

A run with a budget of steps repeats bit for bit on the same kind of machine: all metrics at all points of the curve are
compared, and the digests of the weights where the record has them. Where something differs, and for runs with a time
limit, which never repeat exactly, the record is held against the spread of reruns on the same pools (`pool_seed`): one
with the record's own seed and `OTHERS` with other seeds of the solver. The record is within the spread if each primary
metric at the end lies in the 95 % prediction interval of these reruns,

    mean +- t s sqrt(1 + 1/n),

s their standard deviation and n their number; t takes the number of metrics into account (Bonferroni), and the interval
is never narrower than the rounding of float32, `ROUNDING` times the mean. With three reruns it is wide: it finds a
method that is broken, not one that is slightly worse.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from scipy import stats

from otbench.errors import DataError, PluginError, UsageError
from otbench.harness.execute import execute
from otbench.harness.identity import INPUT, code_hash
from otbench.harness.messages import Planned
from otbench.harness.plan import Plan, plan_again
from otbench.plugins.registry import Registry
from otbench.records.record import CurvePoint, Record, RunSpec, Status
from otbench.records.store import Store
from otbench.records.verified import Outcome, Verification, keep_verified, read_verified

OTHERS = 2
"""Reruns with another seed of the solver."""
ROUNDING = 1e-6
_MACHINE = ("python", "torch", "numpy", "cpu", "device")
"""What of the environment can change the last digits."""
_Finding = tuple[Outcome, str, str]
"""Outcome, first difference, reason."""


class Verifier:
    """Runs records of one folder again; what it finds is kept beside them, and not looked for twice."""

    def __init__(
        self, folder: Path, registry: Registry, *, until_step: int | None = None, data_dir: Path | None = None
    ) -> None:
        """Prepare; nothing is run yet.

        Args:
            folder: where the records are.
            registry: where solvers and tasks are found.
            until_step: run up to this step of the same budget only, and compare up to there; None = to the end.
            data_dir: the user's own data.

        Raises:
            StoreError: what is kept in the folder cannot be read.
        """
        self._folder = folder
        self._registry = registry
        self._until = until_step
        self._data_dir = data_dir
        self._environment: Mapping[str, object] = {}
        self._kept = {(v.id, v.code): v for v in read_verified([folder]) if v.outcome != Outcome.UNKNOWN}

    def verify(self, record: Record) -> Verification:
        """Return what is kept of `record` under the code of today, else run it again and keep what that shows.

        Raises:
            KeyboardInterrupt: Ctrl-C; nothing is kept of this record.
            StoreError: the outcome cannot be written.
        """
        spec = record.spec
        code = ""
        self._environment = {}
        try:
            planned = plan_again(spec, self._registry, data_dir=self._data_dir)
        except (UsageError, PluginError, DataError) as error:
            finding: _Finding = Outcome.UNKNOWN, "", str(error)
        else:
            code = code_hash(planned.source)
            kept = self._kept.get((record.id, code))
            # a part says nothing of the whole, unless it already differs
            if kept and (kept.until_step in (None, self._until) or kept.outcome == Outcome.DIFFERENT):
                return kept
            finding = self._find(record, planned)
        verification = Verification(
            id=record.id,
            solver=spec.solver,
            task=spec.task,
            outcome=finding[0],
            difference=finding[1],
            reason=finding[2],
            until_step=self._until,
            recorded=code_hash(record.source),
            code=code,
            environment={
                name: value for name, value in self._environment.items() if name in ("commit", "dirty", *_MACHINE)
            },
            created=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        keep_verified(self._folder, verification)
        return verification

    def _find(self, record: Record, planned: Planned) -> _Finding:
        timed = (record.spec.time_limit, record.spec.cpu_limit) != (None, None)
        same_pools = "pool_seed" in planned.spec.task_config
        if record.passing:
            return Outcome.UNKNOWN, "", f"it ended as {record.status}, which need not come again"
        if timed and self._until is not None:
            return Outcome.UNKNOWN, "", "its schedule follows a time limit: leave out --until-step"
        if timed and not same_pools:
            return Outcome.UNKNOWN, "", "one seed and a time limit: its task has no pool_seed to measure a spread with"
        if max(_points(record, self._until)) == 0 < record.counts.steps:
            return Outcome.UNKNOWN, "", "it has no curve: leave out --until-step"
        again = self._run(planned)
        difference = first_difference(record, again, self._until)
        if not difference:
            return Outcome.EQUAL, "", "" if self._until is None else f"to step {max(_points(record, self._until))}"
        changed = [
            name
            for name, value in record.source.items()
            if name.startswith(INPUT) and planned.source.get(name) != value
        ]
        if changed:
            return Outcome.UNKNOWN, difference, f"{', '.join(changed)} is not what the record was made from"
        other = [name for name in _MACHINE if again.environment.get(name) != record.environment.get(name)]
        ran = f"; run with other {', '.join(other)}" if other else ""
        if record.status != Status.OK or again.status != Status.OK or not same_pools:
            return Outcome.DIFFERENT, difference, ran[2:]
        others = [
            self._run(plan_again(spec, self._registry, data_dir=self._data_dir)) for spec in _other_seeds(planned.spec)
        ]
        outcome, reason = against_spread(record, [again, *others], self._until)
        return outcome, difference, reason + ran

    def _run(self, planned: Planned) -> Record:
        with tempfile.TemporaryDirectory() as folder:
            done = execute(
                Plan((planned,), frozenset(), has_full=False),
                Store(Path(folder)),
                data_dir=self._data_dir,
                # one step more: the last one of a run is scored in another way than those on the way
                until_step=None if self._until is None else self._until + 1,
            )
        if done.interrupted:
            raise KeyboardInterrupt
        self._environment = done.records[0].environment
        return done.records[0]


def _other_seeds(spec: RunSpec) -> list[RunSpec]:
    """Return the same run with other seeds of the solver, on the pools that its own seed drew."""
    given = spec.task_config["pool_seed"]
    pools = {**spec.task_config, "pool_seed": spec.seed if given is None else given}
    return [spec.model_copy(update={"seed": spec.seed + n, "task_config": pools}) for n in range(1, OTHERS + 1)]


def _points(record: Record, until: int | None) -> dict[int, CurvePoint]:
    """Return the points of the curve by step, up to `until`; without a curve, start and end."""
    points = record.curve or [
        CurvePoint(step=0, train_s=0.0, metrics=record.start),
        CurvePoint(step=record.counts.steps, train_s=0.0, metrics=record.metrics),
    ]
    return {point.step: point for point in points if until is None or point.step <= until}


def first_difference(record: Record, again: Record, until: int | None = None) -> str:
    """Return the first point of the curve at which `again` is not bit-equal to `record`; "" if there is none.

    Args:
        record: as recorded; a metric that it does not have is not looked at.
        again: the same run, run again.
        until: last step that is compared; None = all.
    """
    cut = until is not None and until + 1 < record.counts.steps
    ended = "" if again.status == (Status.OK if cut else record.status) else f"ends as {again.status}: {again.reason}"
    theirs = _points(again, until)
    for step, point in _points(record, until).items():
        other = theirs.get(step)
        if other is None:
            return ended or f"step {step}: no such point"
        for name, value in point.metrics.items():
            found = other.metrics.get(name)
            if repr(found) != repr(value):  # nan is not equal to itself
                return f"step {step}: {name} {value!r}, now {found!r}"
        if point.digest and other.digest and point.digest != other.digest:
            return f"step {step}: the weights"
    return ended


def against_spread(record: Record, reruns: Sequence[Record], until: int | None = None) -> tuple[Outcome, str]:
    """Say whether `record` lies within the spread of `reruns`, by the rule at the head of this module; and by what."""
    values, *ends = (
        points[max(points)].metrics
        for run in (record, *reruns)
        if run.status == Status.OK and (points := _points(run, until))
    )
    if len(ends) < 2:
        return Outcome.UNKNOWN, "too few reruns ended"
    primary = [info.name for info in record.metric_info if info.primary] or list(values)
    names = [name for name in primary if name in values and all(name in end for end in ends)]
    if not names:
        return Outcome.DIFFERENT, "no metric in common"
    quantile = float(stats.t.ppf(1 - 0.05 / (2 * len(names)), len(ends) - 1))
    reason = ""
    for name in names:
        found = [end[name] for end in ends]
        mean = statistics.fmean(found)
        width = max(quantile * statistics.stdev(found) * (1 + 1 / len(found)) ** 0.5, ROUNDING * abs(mean))
        text = f"{name} {values[name]:.4g}, reruns {min(found):.4g} to {max(found):.4g}"
        if not abs(values[name] - mean) <= width:  # nan is outside
            return Outcome.DIFFERENT, f"{text}: not within {mean - width:.4g} to {mean + width:.4g}"
        reason = reason or text
    return Outcome.WITHIN, reason
