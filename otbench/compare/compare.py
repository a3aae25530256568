"""Is NEW worse than BASE? Statistics and verdicts over two sets of records; no file is read or written here.

Runs are paired by seed inside a series: one solver as typed, on one instance, under one preset. What is done here, and
why, stands in words in docs/track-regressions.md. Quality (`otbench.compare.quality`) is tested over all series
together; memory and time (`otbench.compare.resources`) have thresholds instead of tests.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial

from otbench.compare.quality import Pending, compare_quality, judged
from otbench.compare.resources import compare_memory, compare_time
from otbench.compare.verdict import Aspect, Comparison, Comparisons, Rules, Verdict
from otbench.names import few
from otbench.records.record import Record, Status
from otbench.records.series import Runs, Series, newest, series_of


def compare(base: Iterable[Record], new: Iterable[Record], rules: Rules | None = None) -> Comparisons:
    """Compare the records of `new` with those of `base` by `rules` (default: `Rules()`)."""
    rules = rules or Rules()
    before, now = list(base), list(new)
    left, right = newest(before, series_of), newest(now, series_of)
    rows: list[Comparison] = []
    pending: list[Pending] = []
    for one, other in _paired(left, right):
        if one is None or other is None:
            rows.append(_alone(one, other))
            continue
        made = _compare_series(one, left[one], right[other], rules, pending)
        if one.device != other.device:
            devices = f"{one.device} in BASE, {other.device} in NEW"
            made[0] = replace(made[0], reason=f"{made[0].reason}; {devices}" if made[0].reason else devices)
        rows += made
    rows += judged(pending, rules)
    rank = {verdict: k for k, verdict in enumerate(Verdict)}
    aspects = {aspect: k for k, aspect in enumerate(Aspect)}
    rows.sort(key=lambda row: (not row.regressed, rank[row.verdict], row.series.order, aspects[row.aspect], row.metric))
    notes = _version_notes(before, now)
    for name, side, found in (("BASE", before, left), ("NEW", now, right)):
        if count := len(side) - sum(map(len, found.values())):
            notes.append(f"{name}: {count} older records of the same runs passed over; the newest of each counts")
    missing: dict[str, set[int]] = {}
    for one in left:
        if one in right:
            missing.setdefault(one.label, set()).update(left[one].keys() - right[one].keys())
    more = {label: tuple(sorted(seeds)) for label, seeds in missing.items()}
    return Comparisons(tuple(rows), rules, tuple(notes), only_in_base=more)


def _paired(left: Iterable[Series], right: Iterable[Series]) -> list[tuple[Series | None, Series | None]]:
    """Pair equal series; what is left over is paired across devices where there is only one such pair."""
    ours, theirs = dict.fromkeys(left), dict.fromkeys(right)
    pairs: list[tuple[Series | None, Series | None]] = [(one, one) for one in ours if one in theirs]
    lonely = [one for one in ours if one not in theirs]
    others: dict[Series, list[Series]] = {}
    for one in theirs:
        if one not in ours:
            others.setdefault(replace(one, device=""), []).append(one)
    counts = Counter(replace(one, device="") for one in lonely)
    for one in lonely:
        free = others.get(replace(one, device=""), [])
        alone = len(free) == 1 and counts[replace(one, device="")] == 1
        pairs.append((one, free.pop() if alone else None))
    return pairs + [(None, one) for free in others.values() for one in free]


def _alone(one: Series | None, other: Series | None) -> Comparison:
    if one is not None:
        return _of_run(one, Verdict.NOTHING, "in BASE, not in NEW")
    assert other is not None
    return _of_run(other, Verdict.NOT_COMPARABLE, "in NEW, not in BASE")


def _of_run(
    series: Series, verdict: Verdict, reason: str, *, metric: str = "run", seeds: Sequence[int] = ()
) -> Comparison:
    """Return a row about the run itself."""
    return Comparison(series, Aspect.STATUS, metric, metric, "", verdict, seeds=tuple(seeds), reason=reason)


def _compare_series(series: Series, base: Runs, new: Runs, rules: Rules, pending: list[Pending]) -> list[Comparison]:
    """Compare what needs no other series; put what does into `pending`. Returns at least one row."""
    seeds = sorted(base.keys() & new.keys())
    row = partial(_of_run, series, metric="status", seeds=seeds)
    if not seeds:
        return [_of_run(series, Verdict.NOTHING, "BASE and NEW have no seed in common")]
    if any(_inputs(base[seed]) != _inputs(new[seed]) for seed in seeds):
        return [row(Verdict.NOT_COMPARABLE, "the task reads other data in NEW than in BASE")]
    rows = [_status(row, base, new, seeds)]
    good = [seed for seed in seeds if base[seed].status is new[seed].status is Status.OK]
    if good:
        said, waiting = compare_quality(series, base, new, good, rules)
        rows += said
        pending += waiting
        rows += compare_memory(series, base, new, good)
        if series.kind == "solver":
            rows += compare_time(series, base, new, good, rules)
    return rows


def _inputs(record: Record) -> dict[str, str]:
    return {name: digest for name, digest in record.source.items() if name.startswith("input ")}


def _status(row: Callable[[Verdict, str], Comparison], base: Runs, new: Runs, seeds: Sequence[int]) -> Comparison:
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


def _version_notes(base: Sequence[Record], new: Sequence[Record]) -> list[str]:
    """Return what is different around the code: another torch explains a change as well as another solver."""
    notes = []
    for name in ("torch", "numpy", "scipy", "python", "cpu", "device", "threads"):
        before, now = (
            sorted({str(r.environment[name]) for r in side if r.environment.get(name) is not None})
            for side in (base, new)
        )
        if before and now and before != now:
            notes.append(f"{name}: {few(before, 3)} in BASE, {few(now, 3)} in NEW")
    return notes
