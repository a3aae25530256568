"""The guide: by need, which solver the records speak for, in sentences that are made from them and say on how many.

A need is what somebody has ("1000 points") or wants ("both maps"). It is answered for each task apart, as solvers that
are good between Gaussians, where the map is linear, need not be good elsewhere. Where fewer than three instances have
two solvers or more, the answer is that the records are too few, and what was measured.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import median

from otbench.names import few
from otbench.records.words import counted
from otbench.report.columns import metric_column, written
from otbench.report.rows import COPIES, Number
from otbench.report.summary.contests import SMOKE, Contest, Entry, dimensions, short_names, twin
from otbench.report.summary.scopes import ERROR, LEAST_INSTANCES, WORSE_OF_BOTH, Scope, Score, of_metric, pooled, scored

_MANY, _FEW = 10_000, 2_000
_SHOWN = 3
_NAMED = 5
"""Solvers not shown to be worse than the first that an answer names; what it rests on names them all."""
_SIZES = ((0.0, 4.0), (4.0, 16.0), (16.0, math.inf))
"""Ranges of dimensions, without the first number and with the second."""
_SAMPLED = ("mmd", "energy", "sliced")
"""How names of distances between samples begin."""
_NORMAL = "normal source"
"""Words of instances whose source has a law that some solvers know, and could not do without."""


@dataclass(frozen=True)
class Advice:
    """The answer to one need, on one task.

    Attributes:
        need: what somebody has or wants.
        detail: the task, its dimensions and the terms, in words; empty where no record says anything.
        answer: in a few words, with names of solvers in backticks.
        text: what it rests on, in sentences.
        instances: how many instances with two solvers or more these are.
        part: whether the need is a part of another one.
        solvers: those that it speaks for, in order; none where records are too few.
    """

    need: str
    detail: str
    answer: str
    text: str = ""
    instances: int = 0
    part: bool = False
    solvers: tuple[str, ...] = ()


@dataclass(frozen=True)
class Need:
    """What somebody has or wants.

    Attributes:
        words: as it stands in the guide.
        met: whether a contest says something about it.
        score: what solvers are judged by there.
        part: whether it is a part of another need, which names tasks with nothing to compare.
    """

    words: str
    met: Callable[[Contest], bool]
    score: Score = ERROR
    part: bool = False


def _known(contest: Contest) -> bool:
    return contest.metric.name.startswith("uvp") or contest.metric.name.endswith("_uvp")


def _has(contest: Contest, *names: str) -> bool:
    return any(name in entry.row.numbers for entry in contest.entries for name in names)


def _pictures(contest: Contest) -> bool:
    records = (record for entry in contest.entries for record in entry.row.records)
    return any(picture.kind == "images" for record in records for picture in record.pictures)


def _both(contest: Contest) -> bool:
    return _has(contest, twin(contest.metric.name)) and not _pictures(contest)


def _within(low: float, high: float) -> Callable[[Contest], bool]:
    return lambda c: c.dimension is not None and low < c.dimension <= high and _both(c)


def _range(low: float, high: float) -> str:
    if not low:
        return f"up to {high:g} dimensions"
    return f"more than {low:g} dimensions" if high == math.inf else f"{low + 1:g} to {high:g} dimensions"


NEEDS = (
    Need("known truth, many samples", lambda c: _known(c) and (c.samples or 0) >= _MANY),
    Need("1000 points", lambda c: c.samples is not None and c.samples <= _FEW),
    Need("two samples, both maps", _both, WORSE_OF_BOTH),
    *(Need(f"two samples, both maps, {_range(*size)}", _within(*size), WORSE_OF_BOTH, part=True) for size in _SIZES),
    Need("density", lambda c: _has(c, "nll"), of_metric("nll")),
    # a map that sends a class to one point has the best accuracy: what counts is a distance between samples
    Need("classes", lambda c: _has(c, "class_energy"), of_metric("class_energy")),
    Need("images", _pictures, of_metric("fd_classifier_decoded", "fd_classifier", "fd_pixel")),
)


def guide(contests: Sequence[Contest]) -> list[Advice]:
    """Return the answers to all needs, at least one for each; needs with the same answers are answered together."""
    told = [contest for contest in contests if contest.terms.preset != SMOKE]
    smoke = [contest for contest in contests if contest.terms.preset == SMOKE]
    by_answers: dict[tuple[Advice, ...], list[str]] = {}
    for need in NEEDS:
        none = "no records beyond smoke" if any(need.met(contest) for contest in smoke) else "no records"
        answers = _answers(need, [contest for contest in told if need.met(contest)], none)
        found = sorted(answers, key=lambda one: -one.instances)
        if need.part and found[0].instances:
            found = [advice for advice in found if advice.instances]
        said = tuple(replace(advice, need="") for advice in found)
        by_answers.setdefault(said, []).append(need.words)
    return [replace(advice, need="; ".join(words)) for said, words in by_answers.items() for advice in said]


def _answers(need: Need, contests: Sequence[Contest], none: str) -> Iterator[Advice]:
    """Yield the answers to one need, a task at a time; `none` is that of no record."""
    by_task: dict[str, list[Contest]] = {}
    for contest in contests:
        if scored(contest, need.score):
            by_task.setdefault(contest.section.task, []).append(contest)
    if not by_task:
        yield Advice(need.words, "", none, part=need.part)
    for task, members in by_task.items():
        yield _answer(need, task, max(pooled(members), key=lambda some: _weight(need, some)))


def _weight(need: Need, contests: Sequence[Contest]) -> tuple[int, str, int, int]:
    """Return by what one of several terms is chosen: enough instances, then the newest records, then the most."""
    scope = Scope("", list(contests), need.score)
    newest = max(r.created for contest in contests for entry in contest.entries for r in entry.row.records)
    return min(len(scope.counted), LEAST_INSTANCES), newest, len(scope.counted), len(scope.solvers)


def _answer(need: Need, task: str, contests: Sequence[Contest]) -> Advice:
    scope = Scope(task, list(contests), need.score)
    measured = scope.counted or contests
    normal = all(_NORMAL in contest.section.instance.split(", ") for contest in measured)
    detail = f"{task}, {dimensions(measured)}{f'{_NORMAL}, ' if normal else ''}{scope.terms}"
    if not scope.enough:
        least = _least(need, scope.contests)
        answer = f"{least}; too few records to advise" if least else "too few records"
        why = " ".join(_too_few(need, contests))
        return Advice(need.words, detail, answer, why, len(scope.contests), need.part)
    first = scope.groups[0]
    untrained, instances = _untrained(need, scope), len(scope.counted)
    free = [label for label, count in untrained.items() if count == instances]
    others = few(_names(first[1:], scope), _NAMED)
    rest = f"; not shown to be worse: {others}" if others else ""
    answer = f"{_names(first[:1], scope)[0]}{rest}"
    if len(first) == len(scope.solvers):
        answer = f"none is shown to be best; by mean rank: {_with_ranks(scope, _SHOWN)}"
    if COPIES in free:
        answer = f"no map is shown to be better than `{COPIES}` of training rows"
    elif free:
        names, verb = ", ".join(_names(free, scope)), "are" if len(free) > 1 else "is"
        answer = f"try {names} first, which {verb} not trained; then {answer}"
    else:
        often = [f"`{label}`, not trained, is as good on {n} of {instances}" for label, n in untrained.items()]
        answer = "; ".join([answer, *often])
    return Advice(need.words, detail, answer, " ".join(_sentences(need, scope)), instances, need.part, tuple(first))


def _too_few(need: Need, contests: Sequence[Contest]) -> Iterator[str]:
    several = [contest for contest in contests if len(scored(contest, need.score)) > 1]
    same = "" if len(several) < LEAST_INSTANCES else ", but no two were run on so many"
    yield f"{counted(len(several), 'instance')} with two solvers or more{same}; {LEAST_INSTANCES} are asked for."
    alone = sorted({label for c in contests if c not in several for label in scored(c, need.score)})
    if alone and not several:
        yield f"Alone there: {', '.join(f'`{label}`' for label in alone[:_SHOWN])}."


def _least(need: Need, contests: Sequence[Contest]) -> str:
    """Return the least errors on each of a few instances, which advise nothing; empty where there is none."""
    sizes = [contest.dimension for contest in contests]
    apart = None not in sizes and len(set(sizes)) == len(sizes)
    said = [
        f"{f'at d = {contest.dimension:g}' if apart else f'on {contest.section.instance}'}: {_measured(need, contest)}"
        for contest in contests[:_SHOWN]
    ]
    return f"least errors {'; '.join(said)}" if said else ""


def _measured(need: Need, contest: Contest) -> str:
    values = sorted(scored(contest, need.score).items(), key=lambda item: (item[1], item[0]))
    names = short_names(scored(contest, need.score))
    return ", ".join(f"`{names[label]}` {_value(need, contest, value)}" for label, value in values[:_SHOWN])


def _value(need: Need, contest: Contest, cost: float) -> str:
    if not math.isfinite(cost):
        return "failed"
    metric = need.score.metric(contest)
    column = metric_column(metric)
    value = -cost if metric.higher_is_better else cost
    return f"{written(Number(value, None, 1), column)[0]} {column.unit}".strip()


def _sentences(need: Need, scope: Scope) -> Iterator[str]:
    order = _with_ranks(scope, len(scope.solvers))
    by = need.score.words(scope.counted[0])
    p = "" if scope.friedman is None else f" (Friedman's test: p = {scope.friedman:.2g})"
    yield f"Mean ranks by {by} on {counted(len(scope.counted), 'instance')}: {order}{p}."
    first = _names(scope.groups[0], scope)
    if 1 + _NAMED < len(first) < len(scope.solvers):
        yield f"Those up to {first[-1]} are not shown to be worse than {first[0]}."
    yield from _firsts(scope)
    yield from _training(scope)
    for label, count in _untrained(need, scope).items():
        where = f"{count} of {counted(len(scope.counted), 'instance')}"
        if label == COPIES:
            yield f"On {where} solvers are as near as copied training rows; their order says nothing."
        else:
            yield f"`{label}`, which is not trained, is at least as good as all of them on {where}."
    if all(need.score.metric(contest).name.startswith(_SAMPLED) for contest in scope.counted):
        yield "A small distance between samples does not show a good map."
    yield from scope.remarks


def _firsts(scope: Scope) -> Iterator[str]:
    """Say which solvers have a lower rank than the first one, by tests over seeds, and on how many instances."""
    best, short = scope.solvers[0], short_names(scope.solvers)
    tested = [{e.label: e.rank or 0 for e in contest.ranked if e.label in short} for contest in scope.counted]
    tested = [ranks for ranks in tested if best in ranks and len(ranks) > 1]
    if scope.score is not ERROR or not tested:
        return
    worse = {name: sum(ranks.get(name, 0) > ranks[best] for ranks in tested) for name in short}
    shown = ", ".join(f"`{short[name]}` on {count}" for name, count in worse.items() if count)
    where = counted(len(tested), "instance")
    yield f"Of {where} with several seeds, tests over seeds rank below `{short[best]}`: {shown or 'none'}."


def _training(scope: Scope) -> Iterator[str]:
    """Say how long the first solver trains, and which one is the quickest, where each has a length of its own."""
    clocks = {contest.clock for contest in scope.counted}
    if len(clocks) > 1 or scope.limited:
        return
    times = {label: found for label in scope.solvers if (found := _median_time(scope, label)) is not None}
    best, short = scope.solvers[0], short_names(scope.solvers)
    if best not in times:
        return
    quick = min(times, key=lambda label: (times[label], label != best, label))
    text = f"`{short[best]}` trains for {_seconds(times[best])} {clocks.pop()} (median)"
    yield f"{text}; the quickest, `{short[quick]}`, for {_seconds(times[quick])}." if quick != best else f"{text}."


def _median_time(scope: Scope, label: str) -> float | None:
    entries = [entry for contest in scope.counted for entry in contest.entries if entry.label == label]
    times = [entry.train.mean for entry in entries if entry.train is not None]
    return median(times) if len(times) == len(entries) else None


def _seconds(value: float) -> str:
    return f"{value:.3g}" if value < 1000 else f"{value:,.0f}".replace(",", " ")


def _untrained(need: Need, scope: Scope) -> dict[str, int]:
    """Return by yardstick with a map on how many instances it is at least as good as all solvers, where on any."""
    beaten: dict[str, int] = {}
    for contest, line in zip(scope.counted, scope.costs, strict=True):
        for row in contest.yardsticks:
            value = need.score.cost(contest, Entry(row))
            if value is not None and value <= line.min() and "infer_fwd_ms" in row.numbers:
                beaten[row.label] = beaten.get(row.label, 0) + 1
    return dict(sorted(beaten.items()))


def _names(labels: Sequence[str], scope: Scope) -> list[str]:
    short = short_names(scope.solvers)
    return [f"`{short.get(label, label)}`" for label in labels]


def _with_ranks(scope: Scope, most: int) -> str:
    short = short_names(scope.solvers)
    return ", ".join(f"`{short[name]}` {scope.mean_ranks[name]:.1f}" for name in scope.solvers[:most])
