"""Quality of NEW against BASE: scales, what a series' own seeds say, and the test over all numbers together.

Quality is compared on a scale on which good and bad solvers have about the same noise (`otbench.statistics.scale`).
That noise is learnt twice: from the paired differences, which are small where NEW repeats BASE's draws, and from the
spread over BASE's seeds, for the case that it does not. P-values are corrected by Holm's method over all numbers that
differ by more than the tolerance on any seed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from otbench.compare.verdict import Aspect, Comparison, Rules, Verdict, verdict_of
from otbench.records.record import Record, Status
from otbench.records.series import Runs, Series
from otbench.reporting import Metric
from otbench.statistics.scale import Scale, scale_for
from otbench.statistics.spread import ASSUMED, LEVEL, Spread, common, deviation, drawn, holm, mean, mean_test

LEARNT = math.log(1.25)
"""A solver learns if on every seed it ends at 4/5 of where it began, or better.

It has stopped to learn if on every seed it keeps less than the share `UNLEARNT` of that way (in logarithms) and the
change is significant by itself, at `UNLEARNT_P`. So special a change needs no correction for many comparisons, which
with three seeds would hide all but the largest ones.
"""
UNLEARNT = 0.1
UNLEARNT_P = 0.025
SUSPICIOUS_P = 0.1
"""A number that is worse with a p-value below this, not corrected, is suspicious: one in ten changed ones by chance."""
NO_SPREAD = 1e-6
"""A number that varies less than this over seeds has no noise; then the tolerance alone decides."""
_UNKNOWN = "?"
"""Unit of a metric of which no record says which way is better."""


@dataclass(frozen=True)
class Pending:
    """A quality metric whose noise is not known yet.

    Attributes:
        row: what is known, with `change` and interval missing.
        differences: by seed, of `Scale.to`; larger is worse.
        spread: of the scaled values over BASE's seeds (NEW's where BASE has one; no freedom where that has one, too).
        scale: how to come back.
        size: 1 on logarithmic scales, else the mean size of BASE's values, with which tolerance and spread scale.
        unlearnt: whether the solver learnt in BASE and does not in NEW.
    """

    row: Comparison
    differences: tuple[float, ...]
    spread: Spread
    scale: Scale
    size: float
    unlearnt: bool

    @property
    def exact(self) -> bool:
        """Whether the number is the same over seeds: a closed form, which has no noise."""
        return self.spread.freedom > 0 and self.spread.size <= NO_SPREAD * self.size


def compare_quality(
    series: Series, base: Runs, new: Runs, seeds: Sequence[int], rules: Rules
) -> tuple[list[Comparison], list[Pending]]:
    """Compare the metrics of one series over `seeds`, all of which ended well on both sides.

    Returns:
        What can be said at once, and what must wait for the noise of the other series: see `judged`.
    """
    made = [_quality(series, info, base, new, seeds) for info in _metrics(base, new, rules)]
    return [row for row in made if isinstance(row, Comparison)], [item for item in made if isinstance(item, Pending)]


def _metrics(base: Runs, new: Runs, rules: Rules) -> list[Metric]:
    """Return the metrics to judge. An older record may not say which way is better; then the other side may."""
    known: dict[str, Metric] = {}
    names: dict[str, None] = {}
    for record in (*new.values(), *base.values()):
        for info in record.metric_info:
            known.setdefault(info.name, info)
        names |= dict.fromkeys(record.metrics)
    if rules.metrics is None and known:
        return [info for info in known.values() if info.primary and info.name in names]
    wanted = names if rules.metrics is None else rules.metrics
    return [known.get(name, Metric(name=name, label=name, unit=_UNKNOWN)) for name in wanted if name in names]


def _quality(series: Series, info: Metric, base: Runs, new: Runs, seeds: Sequence[int]) -> Comparison | Pending:
    """Return what can be said of one metric of one series."""
    name = info.name
    unit = "" if info.unit == _UNKNOWN else info.unit
    empty = Comparison(series, Aspect.QUALITY, name, info.label or name, unit, Verdict.SAME)
    empty = replace(empty, smaller_is_better=not info.higher_is_better)
    lost = [seed for seed in seeds if name in base[seed].metrics and name not in new[seed].metrics]
    both = [seed for seed in seeds if name in base[seed].metrics and name in new[seed].metrics]
    if lost:
        return replace(empty, verdict=Verdict.NOTHING, seeds=tuple(lost), reason="NEW does not report it any more")
    if not both:
        return replace(empty, verdict=Verdict.NOT_COMPARABLE, reason="BASE does not report it")
    before = {seed: base[seed].metrics[name] for seed in both}
    now = {seed: new[seed].metrics[name] for seed in both}
    row = replace(empty, seeds=tuple(both), base=mean(list(before.values())), new=mean(list(now.values())))
    if info.unit == _UNKNOWN:
        if before == now:
            return row
        reason = "no record says whether higher or lower is better"
        return replace(row, verdict=Verdict.NOT_COMPARABLE, reason=reason)
    broken = [seed for seed in both if math.isfinite(before[seed]) and not math.isfinite(now[seed])]
    healed = [seed for seed in both if not math.isfinite(before[seed]) and math.isfinite(now[seed])]
    finite = [seed for seed in both if math.isfinite(before[seed]) and math.isfinite(now[seed])]
    if broken or not finite:
        verdict = Verdict.WORSE if broken else Verdict.BETTER if healed else Verdict.NOT_COMPARABLE
        what = "; ".join(f"seed {seed}: {before[seed]:.3g} → {now[seed]:.3g}" for seed in (broken or healed or both))
        return replace(row, verdict=verdict, reason=what)
    return _prepared(row, info, base, new, finite)


def _prepared(row: Comparison, info: Metric, base: Runs, new: Runs, seeds: Sequence[int]) -> Pending:
    """Scale the values of `seeds` and take the spread over all good seeds of a side, BASE's first."""
    bases, news = _finite(info.name, base), _finite(info.name, new)
    scale = scale_for([*bases, *news], higher_is_better=info.higher_is_better, percent=info.unit == "%")
    before = [scale.to(base[seed].metrics[info.name]) for seed in seeds]
    now = [scale.to(new[seed].metrics[info.name]) for seed in seeds]
    differences = tuple(after - first for first, after in zip(before, now, strict=True))
    scaled = [scale.to(value) for value in (bases if len(bases) > 1 or len(news) < 2 else news)]
    size = 1.0
    if not scale.logarithmic:  # a metric that reached exactly zero is measured by where it began
        starts = [abs(base[seed].start.get(info.name, 0.0)) for seed in seeds]
        size = max(mean([abs(value) for value in bases]), 1e-3 * mean(starts))
    row = replace(
        row,
        seeds=tuple(seeds),
        base=scale.back(mean(before)),
        new=scale.back(mean(now)),
        spread=deviation(news) if len(news) > 1 else None,
        relative=scale.logarithmic,
        of_gap=scale.bound is not None,
    )
    unlearnt = _unlearnt(info.name, scale, base, new, seeds)
    return Pending(row, differences, Spread(deviation(scaled), len(scaled) - 1), scale, size, unlearnt)


def _unlearnt(name: str, scale: Scale, base: Runs, new: Runs, seeds: Sequence[int]) -> bool:
    """Say whether every run of BASE got well away from where it began, and every run of NEW stayed there."""

    def way(record: Record) -> float:
        start, end = record.start.get(name, math.nan), record.metrics[name]
        inside = start < scale.bound if scale.bound is not None else start > 0
        return scale.to(start) - scale.to(end) if inside and start < math.inf else math.nan

    if not scale.logarithmic:
        return False
    ways = [(way(base[seed]), way(new[seed])) for seed in seeds]
    return all(before >= LEARNT and now <= UNLEARNT * before for before, now in ways)


def _finite(name: str, runs: Runs) -> list[float]:
    values = (record.metrics.get(name) for record in runs.values() if record.status is Status.OK)
    return [value for value in values if value is not None and math.isfinite(value)]


def judged(pending: Sequence[Pending], rules: Rules) -> list[Comparison]:
    """Give every pending metric its interval, p-value and verdict."""
    rows: list[Comparison] = []
    waiting: list[Pending] = []
    for item in pending:
        difference, zero = mean(item.differences), item.scale.change(0.0)
        row = replace(item.row, change=item.scale.change(difference))
        if not any(item.differences):
            rows.append(replace(row, low=zero, high=zero, reason="equal to the last bit"))
        elif item.exact:
            verdict = verdict_of(difference, _tolerance(item, rules))
            row = replace(row, low=row.change, high=row.change, leaning=verdict is Verdict.WORSE)
            rows.append(replace(row, verdict=verdict, reason="no noise over seeds"))
        elif max(map(abs, item.differences)) <= _tolerance(item, rules):
            low, high = sorted(item.scale.change(end) for end in (min(item.differences), max(item.differences)))
            rows.append(replace(row, low=low, high=high, reason="within the tolerance on every seed"))
        else:
            waiting.append(item)
    seeds, pairs = _learnt(pending, lambda item: item.spread), _learnt(waiting, _paired)
    tested = [_tested(item, seeds[item.row.series.kind] or ASSUMED, pairs[item.row.series.kind]) for item in waiting]
    for adjusted, (p, row), item in zip(holm([p for p, _ in tested]), tested, waiting, strict=True):
        difference = mean(item.differences)
        beyond = verdict_of(difference, _tolerance(item, rules))
        verdict, reason = Verdict.SAME, ""
        if adjusted < rules.alpha:
            verdict = beyond
        elif item.unlearnt and p < UNLEARNT_P:
            verdict, reason = Verdict.WORSE, "it learnt in BASE and does not in NEW"
        elif beyond is Verdict.WORSE and p < SUSPICIOUS_P:
            verdict, reason = Verdict.SUSPICIOUS, "perhaps worse, perhaps chance: more seeds would tell"
        leaning = max(item.differences) > _tolerance(item, rules)
        rows.append(replace(row, verdict=verdict, reason=reason, p=adjusted, leaning=leaning))
    return rows


def _learnt(items: Sequence[Pending], spread: Callable[[Pending], Spread]) -> dict[str, Spread | None]:
    """Return what the items of each kind say of each other's `spread`; closed forms vary less than training does."""
    return {
        kind: common([spread(i) for i in items if i.row.series.kind == kind and i.scale.logarithmic and not i.exact])
        for kind in ("solver", "baseline")
    }


def _paired(item: Pending) -> Spread:
    """Return the spread of the paired differences; of two it is not known."""
    freedom = len(item.differences) - 1
    return Spread(deviation(item.differences), freedom if freedom > 1 else 0)


def _tested(item: Pending, seeds: Spread, pairs: Spread | None) -> tuple[float, Comparison]:
    """Return the one-sided p-value of an item before correction, in the direction of its change, and its row.

    Both tests hold: if NEW is a new draw of the noise, a difference has at most twice the variance over seeds, whatever
    the pair shares; and its own spread counts whatever NEW is. So the better one is taken, at twice its p-value. One or
    two differences have no spread to speak of; then the first test is alone.

    Args:
        item: what to test.
        seeds: what the spreads over seeds of the other series say.
        pairs: what the spreads of their paired differences say; None = nothing.
    """
    n, difference, size = len(item.differences), mean(item.differences), item.size
    prior = Spread(seeds.size * size, seeds.freedom)
    over = drawn(item.spread, prior) if item.spread.freedom > 0 else prior
    own = drawn(_paired(item), None if pairs is None else Spread(pairs.size * size, pairs.freedom))
    spreads = [Spread(over.size * math.sqrt(2), over.freedom), *([own] if n > 2 else [])]
    level = 1 - (1 - LEVEL) / len(spreads)
    results = [mean_test(difference, spread, n, level) for spread in spreads]
    half, p = min(results, key=lambda result: result[1])
    low, high = sorted((item.scale.change(difference - half), item.scale.change(difference + half)))
    return min(1.0, len(spreads) * p / 2), replace(item.row, change=item.scale.change(difference), low=low, high=high)


def _tolerance(item: Pending, rules: Rules) -> float:
    return math.log1p(rules.tolerance) if item.scale.logarithmic else rules.tolerance * item.size
