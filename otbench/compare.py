"""Is NEW worse than BASE? Statistics and verdicts over two sets of records; no file is read or written here.

Runs are paired by seed inside a *cell*: one solver as typed, on one instance, under one preset. What is done here, and
why, stands in words in docs/track-regressions.md.

Quality is compared on a scale on which the noise of good and bad solvers is about the same, see `_scale`; its noise is
the spread over BASE's seeds, moderated by that of the other cells (`otbench.spread`), and p-values are corrected by
Holm's method over all numbers that differ at all. Memory and time have thresholds instead of tests.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from otbench.cells import Cell, as_float, cells, paired
from otbench.record import MetricInfo, Record, Status
from otbench.spread import Spread, common, deviation, difference_test, holm, mean, moderated

LEARNT = math.log(1.25)
"""A solver learns if on every seed it ends at 4/5 of where it began, or better.

It has stopped to learn if on every seed it keeps less than the share `UNLEARNT` of that way (in logarithms) and the
change is significant by itself, at `UNLEARNT_P`. So special a change needs no correction for many comparisons, which
with three seeds would hide all but the largest ones.
"""
UNLEARNT = 0.1
UNLEARNT_P = 0.05
NO_SPREAD = 1e-6
"""A number that varies less than this over seeds has no noise; then the tolerance alone decides."""
MEMORY_FLOOR = {"cpu": 128e6, "cuda": 16e6}
"""Bytes: less is never called a change of memory. The resident set of equal runs differs by tens of MB; a GPU's
allocator does not."""
MEMORY_SHARE = 0.1
MEMORY_NOISES = 4.0
TIME_NOISES = 3.0
"""Threshold of a change of time, in units of its own noise, where `Rules.gate_time` gives none."""
TIME_SHARE = 0.1


class Verdict(StrEnum):
    """What a comparison says."""

    WORSE = "worse"
    BETTER = "better"
    SAME = "same"
    NOT_COMPARABLE = "not comparable"
    NOTHING = "nothing measured"


class Kind(StrEnum):
    """What is compared."""

    STATUS = "status"
    QUALITY = "quality"
    MEMORY = "memory"
    TIME = "time"


@dataclass(frozen=True)
class Rules:
    """What counts as a change.

    Attributes:
        alpha: chance that unchanged code raises any alarm of quality, over all cells and metrics together.
        tolerance: relative change of a quality metric that is never called better or worse.
        gate_time: threshold of time in units of its own noise, and time then counts for `regressed`; None = time is
            shown only.
        metrics: names of the metrics to judge; None = the primary ones of each task.
        require_all: whether a cell of BASE without a run in NEW counts as "could not be compared".
    """

    alpha: float = 0.01
    tolerance: float = 0.05
    gate_time: float | None = None
    metrics: tuple[str, ...] | None = None
    require_all: bool = False


@dataclass(frozen=True)
class Comparison:
    """One number of one cell in BASE and NEW.

    Attributes:
        cell: what was run.
        kind: what the number is.
        metric: its name; "status" and "run" for the run itself.
        label: its name for people.
        unit: of `base` and `new`.
        verdict: what became of it.
        gated: whether `worse` here is a regression.
        seeds: those in both BASE and NEW.
        base: mean over `seeds` (geometric where `relative`).
        new: the same of NEW.
        spread: standard deviation of NEW over its seeds, in `unit`; None for one seed.
        relative: whether `change` is a ratio (new / base) or a difference (new - base).
        of_gap: whether the ratio is that of the distance to the best possible value, not of the value.
        change: how much; with `low` and `high` its interval.
        p: Holm's adjusted p-value; None where no test was needed or possible.
        reason: what else is to be said.
        smaller_is_better: direction of `new`.
    """

    cell: Cell
    kind: Kind
    metric: str
    label: str
    unit: str
    verdict: Verdict
    gated: bool = True
    seeds: tuple[int, ...] = ()
    base: float | None = None
    new: float | None = None
    spread: float | None = None
    relative: bool = True
    of_gap: bool = False
    change: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    reason: str = ""
    smaller_is_better: bool = True

    @property
    def regressed(self) -> bool:
        """Whether this alone makes NEW a regression."""
        return self.gated and self.verdict is Verdict.WORSE


@dataclass(frozen=True)
class Outcome:
    """All comparisons, the ones to look at first.

    Attributes:
        rows: in the order of verdicts, then of cells.
        rules: by which they were judged.
        notes: what else the reader should know: other versions, records that were passed over.
    """

    rows: tuple[Comparison, ...]
    rules: Rules
    notes: tuple[str, ...] = ()

    def count(self, verdict: Verdict) -> int:
        """Return the number of rows with `verdict`."""
        return sum(row.verdict is verdict for row in self.rows)

    @property
    def regressed(self) -> bool:
        """Whether anything that counts is worse."""
        return any(row.regressed for row in self.rows)

    @property
    def compared(self) -> bool:
        """Whether any quality could be compared; with `require_all`, whether everything that BASE measured was.

        Runs that ended well and took the same memory are no comparison if no metric of theirs could be judged.
        """
        if self.rules.require_all and self.count(Verdict.NOTHING):
            return False
        judged = (Verdict.WORSE, Verdict.BETTER, Verdict.SAME)
        return self.regressed or any(row.kind is Kind.QUALITY and row.verdict in judged for row in self.rows)


_Runs = Mapping[int, Record]


def compare(base: Iterable[Record], new: Iterable[Record], rules: Rules | None = None) -> Outcome:
    """Compare the records of `new` with those of `base` by `rules` (default: `Rules()`)."""
    rules = rules or Rules()
    before, now = list(base), list(new)
    left, older_left = cells(before)
    right, older_right = cells(now)
    rows: list[Comparison] = []
    pending: list[_Pending] = []
    for one, other in paired(left, right):
        if one is None or other is None:
            rows.append(_alone(one, other))
            continue
        made = _compare_cell(one, left[one], right[other], rules, pending)
        if one.device != other.device:
            made[0] = replace(made[0], reason=_join(made[0].reason, f"{one.device} in BASE, {other.device} in NEW"))
        rows += made
    rows += _judged(pending, rules)
    rank = {verdict: k for k, verdict in enumerate(Verdict)}
    kinds = {kind: k for k, kind in enumerate(Kind)}
    rows.sort(key=lambda row: (not row.regressed, rank[row.verdict], row.cell.order, kinds[row.kind], row.metric))
    notes = _version_notes(before, now)
    for name, count in (("BASE", older_left), ("NEW", older_right)):
        if count:
            notes.append(f"{name}: {count} older records of the same runs passed over; the newest of each counts")
    return Outcome(tuple(rows), rules, tuple(notes))


def _alone(one: Cell | None, other: Cell | None) -> Comparison:
    if one is not None:
        return Comparison(one, Kind.STATUS, "run", "run", "", Verdict.NOTHING, reason="in BASE, not in NEW")
    assert other is not None
    return Comparison(other, Kind.STATUS, "run", "run", "", Verdict.NOT_COMPARABLE, reason="in NEW, not in BASE")


# --------------------------------------------------------------------------------------------------------- one cell


def _compare_cell(cell: Cell, base: _Runs, new: _Runs, rules: Rules, pending: list[_Pending]) -> list[Comparison]:
    """Compare what needs no other cell; put what does into `pending`. Returns at least one row."""
    seeds = sorted(base.keys() & new.keys())

    def row(verdict: Verdict, reason: str, metric: str = "status") -> Comparison:
        return Comparison(cell, Kind.STATUS, metric, metric, "", verdict, seeds=tuple(seeds), reason=reason)

    if not seeds:
        return [row(Verdict.NOTHING, "BASE and NEW have no seed in common", "run")]
    if any(_inputs(base[seed]) != _inputs(new[seed]) for seed in seeds):
        return [row(Verdict.NOT_COMPARABLE, "the task reads other data in NEW than in BASE")]
    rows = [_status(row, base, new, seeds)]
    good = [seed for seed in seeds if base[seed].status is new[seed].status is Status.OK]
    if good:
        for info in _metrics(base, new, rules):
            _quality(cell, info, base, new, good, rows, pending)
        rows += _memory(cell, base, new, good)
        if cell.kind == "solver":
            rows += _time(cell, base, new, good, rules)
    return rows


def _inputs(record: Record) -> dict[str, str]:
    return {name: digest for name, digest in record.source.items() if name.startswith("input ")}


def _status(row: Callable[[Verdict, str], Comparison], base: _Runs, new: _Runs, seeds: Sequence[int]) -> Comparison:
    """Compare how runs ended: a run that no longer ends well is a regression, whatever the other seeds do."""
    changes: dict[Verdict, list[str]] = {}
    for seed in seeds:
        before, now = base[seed], new[seed]
        if before.status is Status.OK and now.status is Status.OK:
            verdict = Verdict.SAME
        elif before.status is Status.OK:  # a solver that declines the task did not fail, but was not measured
            verdict = Verdict.NOTHING if now.status is Status.SKIPPED else Verdict.WORSE
        elif now.status is Status.OK and before.status is not Status.SKIPPED:
            verdict = Verdict.BETTER
        else:
            verdict = Verdict.NOT_COMPARABLE
        why = f": {now.reason}" if now.status is not Status.OK and now.reason else ""
        changes.setdefault(verdict, []).append(f"seed {seed}: {before.status} → {now.status}{why}")
    for verdict in (Verdict.WORSE, Verdict.BETTER, Verdict.NOTHING, Verdict.NOT_COMPARABLE):
        if verdict in changes:
            return row(verdict, "; ".join(changes[verdict]))
    first = seeds[0]
    steps = (base[first].spec.steps, new[first].spec.steps)
    return row(Verdict.SAME, "" if steps[0] == steps[1] else f"budget: {steps[0]} → {steps[1]} steps")


def _metrics(base: _Runs, new: _Runs, rules: Rules) -> list[MetricInfo]:
    """Return the metrics to judge. An older record may not say which way is better; then the other side may."""
    known: dict[str, MetricInfo] = {}
    names: dict[str, None] = {}
    for record in (*new.values(), *base.values()):
        for info in record.metric_info:
            known.setdefault(info.name, info)
        names |= dict.fromkeys(record.metrics)
    if rules.metrics is not None:
        return [known.get(name, MetricInfo(name=name, label=name, unit="?")) for name in rules.metrics if name in names]
    if not known:
        return [MetricInfo(name=name, label=name, unit="?") for name in names]
    return [info for info in known.values() if info.primary and info.name in names]


_UNKNOWN = "?"


@dataclass(frozen=True)
class _Pending:
    """A quality metric whose noise is not known yet.

    Attributes:
        row: what is known, with `change` and interval missing.
        differences: by seed, of `_Scale.to`; larger is worse.
        spread: of the scaled values over BASE's seeds (NEW's where BASE has one; no freedom where that has one, too).
        scale: how to come back.
        size: 1 on logarithmic scales, else the mean size of BASE's values, with which tolerance and spread scale.
        unlearnt: whether the solver learnt in BASE and does not in NEW.
    """

    row: Comparison
    differences: tuple[float, ...]
    spread: Spread
    scale: _Scale
    size: float
    unlearnt: bool

    @property
    def exact(self) -> bool:
        """Whether the number is the same over seeds: a closed form, which has no noise."""
        return self.spread.freedom > 0 and self.spread.size <= NO_SPREAD * self.size


@dataclass(frozen=True)
class _Scale:
    """A monotone scale on which larger is worse."""

    logarithmic: bool
    bound: float | None = None
    sign: float = 1.0

    def to(self, value: float) -> float:
        """Return `value` on the scale."""
        if self.bound is not None:
            return math.log(self.bound - value)
        return self.sign * (math.log(value) if self.logarithmic else value)

    def change(self, difference: float) -> float:
        """Return a difference on the scale as a ratio or difference of values (of gaps to the bound)."""
        signed = difference if self.bound is not None else self.sign * difference
        return _exp(signed) if self.logarithmic else signed

    def back(self, value: float) -> float:
        """Return the value that stands at `value` on the scale."""
        if self.bound is not None:
            return self.bound - _exp(value)
        return _exp(self.sign * value) if self.logarithmic else self.sign * value


def _scale(info: MetricInfo, values: Sequence[float]) -> _Scale:
    """Return the scale for `values`: logarithms where it can be, so that a change is a ratio.

    Positive metrics where lower is better (UVP, distances) by their logarithm. Where higher is better, the logarithm of
    what is missing to the best value (1, or 100 in %): an accuracy that falls from 99 to 98 % has twice the errors.
    """
    if not info.higher_is_better:
        return _Scale(logarithmic=min(values) > 0)
    bound = 100.0 if info.unit == "%" else 1.0
    if max(values) < bound and bound - max(values) > 1e-12:
        return _Scale(logarithmic=True, bound=bound)
    return _Scale(logarithmic=min(values) > 0 and max(values) > bound, sign=-1.0)


def _quality(
    cell: Cell,
    info: MetricInfo,
    base: _Runs,
    new: _Runs,
    seeds: Sequence[int],
    rows: list[Comparison],
    pending: list[_Pending],
) -> None:
    name = info.name
    empty = Comparison(
        cell,
        Kind.QUALITY,
        name,
        info.label or name,
        "" if info.unit == _UNKNOWN else info.unit,
        Verdict.SAME,
        smaller_is_better=not info.higher_is_better,
    )
    lost = [seed for seed in seeds if name in base[seed].metrics and name not in new[seed].metrics]
    both = [seed for seed in seeds if name in base[seed].metrics and name in new[seed].metrics]
    if lost:
        rows.append(
            replace(empty, verdict=Verdict.NOTHING, seeds=tuple(lost), reason="NEW does not report it any more")
        )
        return
    if not both:
        rows.append(replace(empty, verdict=Verdict.NOT_COMPARABLE, reason="BASE does not report it"))
        return
    before = {seed: base[seed].metrics[name] for seed in both}
    now = {seed: new[seed].metrics[name] for seed in both}
    if info.unit == _UNKNOWN:
        equal = before == now
        rows.append(
            replace(
                empty,
                seeds=tuple(both),
                base=mean(list(before.values())),
                new=mean(list(now.values())),
                verdict=Verdict.SAME if equal else Verdict.NOT_COMPARABLE,
                reason="" if equal else "no record says whether higher or lower is better",
            )
        )
        return
    broken = [seed for seed in both if math.isfinite(before[seed]) and not math.isfinite(now[seed])]
    healed = [seed for seed in both if not math.isfinite(before[seed]) and math.isfinite(now[seed])]
    finite = [seed for seed in both if math.isfinite(before[seed]) and math.isfinite(now[seed])]
    if broken or not finite:
        verdict = Verdict.WORSE if broken else Verdict.BETTER if healed else Verdict.NOT_COMPARABLE
        what = "; ".join(f"seed {seed}: {before[seed]:.3g} → {now[seed]:.3g}" for seed in (broken or healed or both))
        shown = replace(empty, base=mean(list(before.values())), new=mean(list(now.values())))
        rows.append(replace(shown, verdict=verdict, seeds=tuple(both), reason=what))
        return
    pending.append(_prepared(empty, info, before, now, finite, base, new))


def _prepared(
    empty: Comparison,
    info: MetricInfo,
    before: Mapping[int, float],
    now: Mapping[int, float],
    seeds: Sequence[int],
    base: _Runs,
    new: _Runs,
) -> _Pending:
    """Scale the values of `seeds` and take the spread over all good seeds of a side, BASE's first."""
    every = {side: _finite(info.name, runs) for side, runs in (("base", base), ("new", new))}
    scale = _scale(info, [*every["base"], *every["new"]])
    differences = tuple(scale.to(now[seed]) - scale.to(before[seed]) for seed in seeds)
    side = every["base"] if len(every["base"]) > 1 or len(every["new"]) < 2 else every["new"]
    scaled = [scale.to(value) for value in side]
    size = 1.0
    if not scale.logarithmic:  # a metric that reached exactly zero is measured by where it began
        starts = [abs(base[seed].start.get(info.name, 0.0)) for seed in seeds]
        size = max(mean([abs(value) for value in every["base"]]), 1e-3 * mean(starts))
    row = replace(
        empty,
        seeds=tuple(seeds),
        base=scale.back(mean([scale.to(before[seed]) for seed in seeds])),
        new=scale.back(mean([scale.to(now[seed]) for seed in seeds])),
        spread=deviation(every["new"]) if len(every["new"]) > 1 else None,
        relative=scale.logarithmic,
        of_gap=scale.bound is not None,
    )
    return _Pending(
        row,
        differences,
        Spread(deviation(scaled), len(scaled) - 1),
        scale,
        size,
        _unlearnt(info.name, scale, base, new, seeds),
    )


def _unlearnt(name: str, scale: _Scale, base: _Runs, new: _Runs, seeds: Sequence[int]) -> bool:
    """Say whether every run of BASE got well away from where it began, and every run of NEW stayed there."""

    def way(record: Record) -> float:
        start, end = record.start.get(name, math.nan), record.metrics[name]
        inside = start < scale.bound if scale.bound is not None else start > 0
        return scale.to(start) - scale.to(end) if inside and start < math.inf else math.nan

    if not scale.logarithmic:
        return False
    before = [way(base[seed]) for seed in seeds]
    now = [way(new[seed]) for seed in seeds]
    return all(b >= LEARNT and n <= UNLEARNT * b for b, n in zip(before, now, strict=True))


def _finite(name: str, runs: _Runs) -> list[float]:
    values = (record.metrics.get(name) for record in runs.values() if record.status is Status.OK)
    return [value for value in values if value is not None and math.isfinite(value)]


# ---------------------------------------------------------------------------------------------------------- statistics


def _judged(pending: Sequence[_Pending], rules: Rules) -> list[Comparison]:
    """Give every pending metric its interval, p-value and verdict."""
    others = {
        kind: common([p.spread for p in pending if p.row.cell.kind == kind and p.scale.logarithmic and not p.exact])
        for kind in ("solver", "baseline")  # apart, because closed forms vary less than training does
    }
    rows: list[Comparison] = []
    tested: list[tuple[float, float, _Pending, Comparison]] = []
    for item in pending:
        difference, zero = mean(item.differences), item.scale.change(0.0)
        row = replace(item.row, change=item.scale.change(difference))
        if not any(item.differences):
            rows.append(replace(row, low=zero, high=zero, reason="equal to the last bit"))
            continue
        if item.exact:
            verdict = _verdict(item, difference, rules)
            rows.append(replace(row, low=row.change, high=row.change, verdict=verdict, reason="no noise over seeds"))
            continue
        prior = others[item.row.cell.kind]
        spread = moderated(item.spread, Spread(prior.size * item.size, prior.freedom))
        half, p = difference_test(difference, spread, len(item.differences))
        low, high = sorted((item.scale.change(difference - half), item.scale.change(difference + half)))
        tested.append((p, difference, item, replace(row, low=low, high=high)))
    for adjusted, (p, difference, item, row) in zip(holm([entry[0] for entry in tested]), tested, strict=True):
        verdict = _verdict(item, difference, rules) if adjusted < rules.alpha else Verdict.SAME
        if item.unlearnt and p < UNLEARNT_P:
            row, verdict = replace(row, reason="it learnt in BASE and does not in NEW"), Verdict.WORSE
        rows.append(replace(row, verdict=verdict, p=adjusted))
    return rows


def _verdict(item: _Pending, difference: float, rules: Rules) -> Verdict:
    tolerance = math.log1p(rules.tolerance) if item.scale.logarithmic else rules.tolerance * item.size
    if abs(difference) <= tolerance:
        return Verdict.SAME
    return Verdict.WORSE if difference > 0 else Verdict.BETTER


# ------------------------------------------------------------------------------------------------------ memory, time


def hardware_class(record: Record) -> str | None:
    """Return the class of machines on which times and memory may be compared; None if the record does not say."""
    facts = [record.environment.get(name) for name in ("system", "cpu", "cores", "device")]
    if any(fact in (None, "", "unknown") for fact in facts):
        return None
    return ", ".join([*map(str, facts), f"{record.spec.threads} threads"])


def _other_hardware(base: _Runs, new: _Runs, seeds: Sequence[int]) -> str:
    """Return why times and memory of `seeds` cannot be compared; empty if they can."""
    before = {hardware_class(base[seed]) for seed in seeds}
    now = {hardware_class(new[seed]) for seed in seeds}
    if None in before | now:
        return "a record does not say on what machine it was made"
    if before == now and len(before) == 1:
        return ""
    return f"other hardware: {' | '.join(sorted(map(str, before)))} → {' | '.join(sorted(map(str, now)))}"


def _memory(cell: Cell, base: _Runs, new: _Runs, seeds: Sequence[int]) -> list[Comparison]:
    """Compare peak memory of training: a threshold, not a test, because its noise is small and not normal.

    Returns no row where BASE did not measure it (baselines that share a process).
    """
    row = Comparison(cell, Kind.MEMORY, "peak_memory", "peak memory", "MB", Verdict.NOT_COMPARABLE, relative=False)
    pairs = {seed: (_bytes(base[seed]), _bytes(new[seed])) for seed in seeds}
    measured = {seed: (a, b) for seed, (a, b) in pairs.items() if a is not None and b is not None}
    if not measured:
        return _unmeasured(row, [a for a, _ in pairs.values()])
    row = _with_means(replace(row, seeds=tuple(measured)), measured, 1e-6)
    reason = _other_hardware(base, new, list(measured))
    if reason:
        return [replace(row, reason=reason)]
    noise = deviation([a for a, _ in measured.values()])
    level = mean([a for a, _ in measured.values()])
    change = mean([b - a for a, b in measured.values()])
    error = noise * math.sqrt(2 / len(measured))
    threshold = max(MEMORY_FLOOR.get(cell.device, 0.0), MEMORY_SHARE * level, MEMORY_NOISES * error)
    verdict = Verdict.SAME if abs(change) <= threshold else Verdict.WORSE if change > 0 else Verdict.BETTER
    ends = (change - 2 * error, change + 2 * error)
    shown = replace(row, verdict=verdict, change=change / 1e6, low=ends[0] / 1e6, high=ends[1] / 1e6)
    return [replace(shown, reason=f"threshold {threshold / 1e6:.0f} MB")]


def _unmeasured(row: Comparison, before: Sequence[float | None]) -> list[Comparison]:
    if any(value is not None for value in before):
        return [replace(row, verdict=Verdict.NOTHING, reason="measured in BASE, not in NEW")]
    return []


def _bytes(record: Record) -> float | None:
    memory = record.memory
    value = memory.cuda_peak_allocated if memory.cuda_peak_allocated is not None else memory.rss_above_imports
    size = None if value is None else as_float(value)
    return size if size is not None and 0 <= size < math.inf else None


def _time(cell: Cell, base: _Runs, new: _Runs, seeds: Sequence[int], rules: Rules) -> list[Comparison]:
    """Compare the median time of a step with its own noise: over seeds, and from step to step."""
    gated = rules.gate_time is not None
    row = Comparison(cell, Kind.TIME, "step_ms", "time of a step", "ms", Verdict.NOT_COMPARABLE, gated=gated)
    pairs = {seed: (_step(base[seed]), _step(new[seed])) for seed in seeds}
    measured = {seed: (a, b) for seed, (a, b) in pairs.items() if a is not None and b is not None}
    if not measured:
        return _unmeasured(row, [a for a, _ in pairs.values()])
    row = _with_means(replace(row, seeds=tuple(measured)), measured, 1.0)
    reason = _other_hardware(base, new, list(measured))
    if not reason and any(runs[seed].shared_device for runs in (base, new) for seed in measured):
        reason = "other runs used the machine at the same time"
    if reason:
        return [replace(row, reason=reason)]
    logs = [(math.log(a), math.log(b)) for a, b in measured.values()]
    within = [_within(runs[seed]) for runs in (base, new) for seed in measured]
    noise = max(deviation([a for a, _ in logs]), deviation([b for _, b in logs]), mean(within))
    change = mean([b - a for a, b in logs])
    threshold = max(math.log1p(TIME_SHARE), (TIME_NOISES if rules.gate_time is None else rules.gate_time) * noise)
    verdict = Verdict.SAME if abs(change) <= threshold else Verdict.WORSE if change > 0 else Verdict.BETTER
    reason = f"threshold x{_exp(threshold):.2f}" + ("" if gated else ", shown only")
    ends = (_exp(change - 2 * noise), _exp(change + 2 * noise))
    return [replace(row, verdict=verdict, change=_exp(change), low=ends[0], high=ends[1], reason=reason)]


def _step(record: Record) -> float | None:
    value = record.times.step_ms
    return value if value is not None and 0 < value < math.inf else None


def _within(record: Record) -> float:
    """Return the standard deviation of the logarithm of step times in one run, by its 10 % and 90 % quantiles."""
    low, high = record.times.step_ms_p10, record.times.step_ms_p90
    if low is None or high is None or not 0 < low <= high < math.inf:
        return 0.0
    return math.log(high / low) / 2.563 if high / low < math.inf else 0.0


def _with_means(row: Comparison, measured: Mapping[int, tuple[float, float]], scale: float) -> Comparison:
    news = [b * scale for _, b in measured.values()]
    return replace(
        row,
        base=mean([a * scale for a, _ in measured.values()]),
        new=mean(news),
        spread=deviation(news) if len(news) > 1 else None,
    )


# ------------------------------------------------------------------------------------------------------------- numbers


def _version_notes(base: Sequence[Record], new: Sequence[Record]) -> list[str]:
    """Return what is different around the code: another torch explains a change as well as another solver."""
    notes = []
    for name in ("torch", "numpy", "scipy", "python", "cpu", "device", "threads"):
        before, now = (
            sorted({str(r.environment[name]) for r in side if r.environment.get(name) is not None})
            for side in (base, new)
        )
        if before and now and before != now:
            notes.append(f"{name}: {_few(before)} in BASE, {_few(now)} in NEW")
    return notes


def _few(values: Sequence[str]) -> str:
    return ", ".join(values[:3]) + (f" and {len(values) - 3} more" if len(values) > 3 else "")


def _join(first: str, second: str) -> str:
    return f"{first}; {second}" if first else second


def _exp(value: float) -> float:
    try:
        return math.exp(value)
    except OverflowError:
        return math.inf
