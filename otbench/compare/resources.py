"""Memory and time of NEW against BASE: thresholds instead of tests, and only between machines of one class."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from otbench.compare.verdict import Aspect, Comparison, Rules, Verdict, verdict_of
from otbench.records.record import Record
from otbench.records.series import Runs, Series, real
from otbench.statistics.spread import deviation, exp, mean

MEMORY_FLOOR = {"cpu": 128e6, "cuda": 16e6}
"""Bytes: less is never called a change of memory. The resident set of equal runs differs by tens of MB; a GPU's
allocator does not."""
MEMORY_SHARE = 0.1
MEMORY_NOISES = 4.0
TIME_NOISES = 3.0
"""Threshold of a change of time, in units of its own noise, where `Rules.gate_time` gives none."""
TIME_SHARE = 0.1


def hardware_class(record: Record) -> str | None:
    """Return the class of machines on which times and memory may be compared; None if the record does not say."""
    facts = [record.environment.get(name) for name in ("system", "cpu", "cores", "device")]
    if any(fact in (None, "", "unknown") for fact in facts):
        return None
    return ", ".join([*map(str, facts), f"{record.spec.threads} threads"])


def _other_hardware(base: Runs, new: Runs, seeds: Sequence[int]) -> str:
    """Return why times and memory of `seeds` cannot be compared; empty if they can."""
    before = {hardware_class(base[seed]) for seed in seeds}
    now = {hardware_class(new[seed]) for seed in seeds}
    if None in before | now:
        return "a record does not say on what machine it was made"
    if before == now and len(before) == 1:
        return ""
    return f"other hardware: {' | '.join(sorted(map(str, before)))} → {' | '.join(sorted(map(str, now)))}"


def compare_memory(series: Series, base: Runs, new: Runs, seeds: Sequence[int]) -> list[Comparison]:
    """Compare peak memory of training: a threshold, not a test, because its noise is small and not normal.

    Returns no row where BASE did not measure it (baselines that share a process).
    """
    row = Comparison(series, Aspect.MEMORY, "peak_memory", "peak memory", "MB", Verdict.NOT_COMPARABLE, relative=False)
    measured = _measured(_bytes, base, new, seeds)
    if not measured:
        return _unmeasured(row, any(_bytes(base[seed]) is not None for seed in seeds))
    row = _with_means(row, measured, 1e-6)
    if reason := _other_hardware(base, new, list(measured)):
        return [replace(row, reason=reason)]
    before = [a for a, _ in measured.values()]
    change = mean([b - a for a, b in measured.values()])
    error = deviation(before) * math.sqrt(2 / len(measured))
    threshold = max(MEMORY_FLOOR.get(series.device, 0.0), MEMORY_SHARE * mean(before), MEMORY_NOISES * error)
    low, high = (change - 2 * error) / 1e6, (change + 2 * error) / 1e6
    reason = f"threshold {threshold / 1e6:.0f} MB"
    return [replace(row, verdict=verdict_of(change, threshold), change=change / 1e6, low=low, high=high, reason=reason)]


def _measured(
    value: Callable[[Record], float | None], base: Runs, new: Runs, seeds: Sequence[int]
) -> dict[int, tuple[float, float]]:
    """Return by seed what BASE and NEW measured, where both did."""
    pairs = {seed: (value(base[seed]), value(new[seed])) for seed in seeds}
    return {seed: (a, b) for seed, (a, b) in pairs.items() if a is not None and b is not None}


def _unmeasured(row: Comparison, in_base: bool) -> list[Comparison]:
    return [replace(row, verdict=Verdict.NOTHING, reason="measured in BASE, not in NEW")] if in_base else []


def _bytes(record: Record) -> float | None:
    memory = record.memory
    value = memory.cuda_peak_allocated if memory.cuda_peak_allocated is not None else memory.rss_above_imports
    size = None if value is None else real(value)
    return size if size is not None and 0 <= size < math.inf else None


def compare_time(series: Series, base: Runs, new: Runs, seeds: Sequence[int], rules: Rules) -> list[Comparison]:
    """Compare the median time of a step with its own noise: over seeds, and from step to step.

    Seeds whose run had to share the processor, in BASE or in NEW, are left out, and the row says how many.
    """
    gated = rules.gate_time is not None
    row = Comparison(series, Aspect.TIME, "step_ms", "time of a step", "ms", Verdict.NOT_COMPARABLE, gated=gated)
    measured = _measured(_step, base, new, seeds)
    if not measured:
        return _unmeasured(row, any(_step(base[seed]) is not None for seed in seeds))
    loaded = [seed for seed in measured if base[seed].loaded or new[seed].loaded]
    out = f"the machine was under load in {len(loaded)} of {len(measured)} pairs of runs, left out" if loaded else ""
    measured = {seed: pair for seed, pair in measured.items() if seed not in loaded}
    if not measured:
        return [replace(row, seeds=tuple(loaded), reason=out)]
    row = _with_means(row, measured, 1.0)
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
    reason = f"threshold x{exp(threshold):.2f}" + ("" if gated else ", shown only") + (f"; {out}" if out else "")
    low, high = exp(change - 2 * noise), exp(change + 2 * noise)
    return [replace(row, verdict=verdict_of(change, threshold), change=exp(change), low=low, high=high, reason=reason)]


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
    bases = [a * scale for a, _ in measured.values()]
    news = [b * scale for _, b in measured.values()]
    spread = deviation(news) if len(news) > 1 else None
    return replace(row, seeds=tuple(measured), base=mean(bases), new=mean(news), spread=spread)
