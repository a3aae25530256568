"""Scopes: what contests on several instances say together.

Each instance is one block, with the mean over its seeds, as in Demšar, *Statistical comparisons of classifiers over
multiple data sets*, JMLR 7, 2006. Solvers are ranked on each instance; whether mean ranks differ at all is Friedman's
test, here with its exact or sampled permutation distribution, as instances are few; which of them differ is Nemenyi's.
Performance profiles are those of Dolan and Moré, *Benchmarking optimization software with performance profiles*,
Math. Program. 91, 2002: the share of instances on which a solver is within a ratio of the best one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache

import numpy as np

from otbench.names import few
from otbench.report.equal import CPU_SECONDS, SECONDS
from otbench.report.reach import CLOCKS, FRACTIONS, Goal, reach
from otbench.report.rows import COPIES, IDENTITY
from otbench.report.summary.contests import SMOKE, Contest, Entry, Terms, pareto_front, twin, words_of
from otbench.reporting import Metric

ALPHA = 0.05
"""Level of all tests."""
LEAST_INSTANCES = 3
"""With fewer instances no solver is recommended."""
_ALL = "all tasks"
_DRAWS = 9999
_SHOWN = 6
Profile = dict[str, list[tuple[float, float]]]
"""By solver: ratios to the best, ascending, and the share of instances within each."""


@dataclass(frozen=True)
class Score:
    """What entries are judged by.

    Attributes:
        names: metrics, of which the first that a contest has counts; none for the contest's own.
        both: whether it is the worse of the errors forward and backward.
    """

    names: tuple[str, ...] = ()
    both: bool = False

    def metric(self, contest: Contest) -> Metric:
        """Return the metric that counts in `contest`."""
        infos = {m.name: m for entry in contest.entries for r in entry.row.good[:1] for m in r.metric_info}
        have = {name for entry in contest.entries for name in entry.row.numbers}
        return next((infos[name] for name in self.names if name in have and name in infos), contest.metric)

    def words(self, contest: Contest) -> str:
        """Return what it is, in words."""
        label = self.metric(contest).label
        return f"{label.removesuffix(' fwd')} of the worse map" if self.both else label

    def cost(self, contest: Contest, entry: Entry) -> float | None:
        """Return the score, less of which is better; infinite where a run failed, None where it was not measured.

        Distances between samples below that of copied training rows count as that: less of it is no better map.
        """
        metric = self.metric(contest)
        if not self.both:
            return _floored(contest, entry, metric)
        ways = [_floored(contest, entry, way) for way in (metric, replace(metric, name=twin(metric.name)))]
        found = [way for way in ways if way is not None]
        return max(found) if len(found) == len(ways) else None


ERROR, WORSE_OF_BOTH = Score(), Score(both=True)


def of_metric(*names: str) -> Score:
    """Return the score that is the first of the metrics called `names` that a contest has."""
    return Score(names)


def _floored(contest: Contest, entry: Entry, metric: Metric) -> float | None:
    value = entry.row.numbers.get(metric.name)
    if entry.failed:
        return math.inf
    if value is None or math.isnan(value.mean):
        return None
    if metric.higher_is_better:
        return -value.mean
    floor = contest.yardstick(COPIES, metric.name)
    return value.mean if floor is None else max(value.mean, floor)


@dataclass
class Scope:
    """Contests on several instances under the same terms.

    Attributes:
        title: which instances.
        contests: one for each instance, under terms of one kind: solvers of one instance had the same limit of time, if
            any, and that of another instance may be longer. Kept are those with two solvers or more that have a score.
        score: what entries are judged by.
        remarks: what was left out, and why.
    """

    title: str
    contests: list[Contest]
    score: Score = ERROR
    remarks: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        given = [contest.terms for contest in self.contests]
        self.contests = [c for c in self.contests if len(scored(c, self.score)) > 1]
        self._solvers, self._part = complete_part([set(scored(c, self.score)) for c in self.contests])
        self.terms = words_of([contest.terms for contest in self.counted] or given)
        """What rows of `counted` have in common beside the instance, in words."""
        everyone = {label for contest in self.contests for label in scored(contest, self.score)}
        if missing := sorted(everyone - set(self._solvers)):
            self.remarks.append(f"Not run on all of these instances, and left out: {few(missing, _SHOWN)}.")
        if self._solvers and len(self._part) < len(self.contests):
            self.remarks.append(f"{len(self._part)} of {len(self.contests)} instances, on which all of them were run.")

    @property
    def solvers(self) -> list[str]:
        """Labels of the solvers that were run on all of `counted`, by mean rank."""
        return sorted(self._solvers, key=lambda label: (self.mean_ranks[label], label))

    @property
    def counted(self) -> list[Contest]:
        """The contests that all of `solvers` took part in."""
        return [self.contests[index] for index in self._part]

    @property
    def instances(self) -> list[str]:
        """The instances of `counted` in words."""
        return [contest.section.instance for contest in self.counted]

    @property
    def enough(self) -> bool:
        """Whether there are enough instances to recommend a solver."""
        return len(self.counted) >= LEAST_INSTANCES

    @cached_property
    def costs(self) -> np.ndarray:
        """The scores: a line for each of `counted`, a column for each solver in the order of their names."""
        values = [[scored(contest, self.score)[label] for label in self._solvers] for contest in self.counted]
        return np.array(values, dtype=float).reshape(len(values), len(self._solvers))

    @cached_property
    def mean_ranks(self) -> dict[str, float]:
        """The mean rank of each solver; the best possible is 1."""
        return dict(zip(self._solvers, _ranks(self.costs).mean(axis=0).tolist(), strict=True)) if self._part else {}

    @cached_property
    def friedman(self) -> float | None:
        """The p-value of Friedman's test that all solvers are alike; None for fewer than two instances."""
        return friedman(_ranks(self.costs)) if len(self._part) > 1 else None

    @property
    def alike(self) -> bool:
        """Whether Friedman's test finds no difference."""
        return self.friedman is None or self.friedman >= ALPHA

    @cached_property
    def groups(self) -> list[list[str]]:
        """Solvers that are not told apart, as large as possible, in the order of mean ranks.

        All of them together unless Friedman's test finds a difference; then by Nemenyi's test, or for two solvers by
        Friedman's.
        """
        names = self.solvers
        if self.alike:
            return [names] if names else []
        if len(names) == 2:
            return [[name] for name in names]
        p = nemenyi(_ranks(self.costs))
        place = {name: index for index, name in enumerate(self._solvers)}
        order = [place[name] for name in names]
        found: list[list[str]] = []
        reached = 0
        for first in range(len(names)):
            last = first
            while last + 1 < len(names) and p[order[first], order[last + 1]] >= ALPHA:
                last += 1
            if last + 1 > reached:
                found.append(names[first : last + 1])
                reached = last + 1
        return found

    @property
    def critical_difference(self) -> float | None:
        """The least difference of mean ranks that Nemenyi's test takes for one; None where it cannot be made."""
        if len(self._part) < 2 or len(self._solvers) < 3:
            return None
        k = len(self._solvers)
        return _range_quantile(k) * math.sqrt(k * (k + 1) / (12 * len(self._part)))

    @cached_property
    def profile(self) -> Profile:
        """The performance profile of errors; empty where an error is not above 0, so that there are no ratios."""
        return profile(self._solvers, self.costs)

    @cached_property
    def target(self) -> float | None:
        """The part of doing nothing that times are measured to: the least that some solver reaches on each instance."""
        if not self._part or self.contests[0].terms.cut:
            return None
        reached = (part for part in FRACTIONS[::-1] if np.isfinite(self._times(part).min(axis=1)).all())
        return next(reached, None)

    @property
    def time_profile(self) -> Profile:
        """The performance profile of training times until the error is `target` of that of doing nothing, for good."""
        return profile(self._solvers, self._times(self.target)) if self.target is not None else {}

    @property
    def limited(self) -> bool:
        """Whether all solvers were given the same time, so that training times say nothing."""
        return all(contest.terms.limited for contest in self.contests)

    @property
    def clock(self) -> str:
        """The clock of training times, of which each contest has its own."""
        clocks = {contest.clock for contest in self.counted}
        return clocks.pop() if len(clocks) == 1 else SECONDS

    @cached_property
    def time_unit(self) -> str:
        """The clock of `time_profile`."""
        return CPU_SECONDS if self._by_processor else SECONDS

    @cached_property
    def _by_processor(self) -> bool:
        rows = [entry.row for contest in self.counted for entry in contest.entries if entry.label in self._solvers]
        return all(point.train_cpu_s is not None for row in rows for record in row.good for point in record.curve)

    def _times(self, part: float) -> np.ndarray:
        """Return times to `part` of doing nothing, as `costs` has errors; infinite where it is not reached."""
        clock = next(clock for clock in CLOCKS if (clock.key == "train_cpu_s") == self._by_processor)
        times = np.full(self.costs.shape, math.inf)
        for line, contest in enumerate(self.counted):
            nothing = contest.yardstick(IDENTITY, contest.metric.name)
            if contest.metric.higher_is_better or nothing is None or not nothing > 0:
                continue
            goal = Goal(contest.metric, part * nothing, clock)
            for entry in contest.entries:
                if entry.label in self._solvers and not entry.failed and (taken := reach(entry.row, goal).number):
                    times[line, self._solvers.index(entry.label)] = taken.mean
        return times

    @cached_property
    def points(self) -> dict[str, tuple[float, float]]:
        """By solver the geometric means over instances of training time and error; without those that have none."""
        if not self._part or not np.all(self.costs > 0):
            return {}
        seconds: dict[str, list[float]] = {label: [] for label in self._solvers}
        for contest in self.counted:
            for entry in contest.entries:
                if entry.label in seconds and entry.train is not None and entry.train.mean > 0:
                    seconds[entry.label].append(entry.train.mean)
        errors = dict(zip(self._solvers, np.exp(np.log(self.costs).mean(axis=0)).tolist(), strict=True))
        return {
            label: (math.exp(sum(map(math.log, taken)) / len(taken)), errors[label])
            for label, taken in seconds.items()
            if len(taken) == len(self._part) and math.isfinite(errors[label])
        }

    @property
    def front(self) -> set[str]:
        """The solvers of `points` that no other beats in both."""
        return pareto_front(self.points)


def scored(contest: Contest, score: Score) -> dict[str, float]:
    """Return the scores of the entries that have one, by label."""
    values = {entry.label: score.cost(contest, entry) for entry in contest.entries}
    return {label: value for label, value in values.items() if value is not None}


def complete_part(members: Sequence[set[str]]) -> tuple[list[str], list[int]]:
    """Return solvers and instances such that each of the former was run on each of the latter, as many pairs as found.

    From the solvers of each instance on, instances are added one at a time, the one that keeps most of them first. Of
    all parts on the way those with `LEAST_INSTANCES` come before smaller ones; of these the one with the most pairs
    counts, of equal ones that with the most instances.

    Args:
        members: the solvers of each instance.

    Returns:
        Names of solvers in order, at least two, and places in `members`; nothing where there are no two.
    """
    kinds = sorted({tuple(sorted(one)) for one in members})
    best: tuple[list[str], list[int]] = ([], [])
    worth = (0, 0, 0)
    for first in kinds:
        kept, rest = set(first), [set(kind) for kind in kinds]
        while len(kept) > 1:
            places = [place for place, one in enumerate(members) if kept <= one]
            value = (min(len(places), LEAST_INSTANCES), len(kept) * len(places), len(places))
            if places and value > worth:
                best, worth = (sorted(kept), places), value
            rest = [one for one in rest if not kept <= one]
            if not rest:
                break
            kept &= max(rest, key=lambda one: len(kept & one))
    return best


def _ranks(costs: np.ndarray) -> np.ndarray:
    """Return the ranks within each line, 1 for the least; equal costs share the mean of their ranks."""
    from scipy.stats import rankdata

    return np.asarray(rankdata(costs, axis=1))


def friedman(ranks: np.ndarray) -> float:
    """Return the p-value of Friedman's test by permutations within lines: all of them, or 9999 drawn with a fixed seed.

    Args:
        ranks: one line for each instance, one column for each solver, at least two of both.
    """
    from scipy.stats import permutation_test

    def squares(*columns: np.ndarray, axis: int) -> np.ndarray:
        return np.asarray(sum(column.sum(axis=axis) ** 2 for column in columns))

    found = permutation_test(
        tuple(ranks.T),
        squares,
        permutation_type="samples",
        vectorized=True,
        n_resamples=_DRAWS,
        alternative="greater",
        random_state=0,
    )
    return float(found.pvalue)


def nemenyi(ranks: np.ndarray) -> np.ndarray:
    """Return the p-values of Nemenyi's test of each two of at least three columns."""
    from scikit_posthocs import posthoc_nemenyi_friedman

    return np.asarray(posthoc_nemenyi_friedman(ranks))


@lru_cache
def _range_quantile(k: int) -> float:
    """Return the 0.95 quantile of the studentised range of `k` values, whose spread is known."""
    from scipy.stats import studentized_range

    return float(studentized_range.ppf(1 - ALPHA, k, np.inf))


def profile(names: Sequence[str], costs: np.ndarray) -> Profile:
    """Return the performance profile of `costs`, one line for each instance and one column for each name.

    An infinite cost is never within a ratio. Nothing where a cost is not above 0, or an instance has none.
    """
    if not costs.size or not np.all(costs > 0) or not np.isfinite(costs.min(axis=1)).all():
        return {}
    ratios = costs / costs.min(axis=1, keepdims=True)
    found: Profile = {}
    for name, column in zip(names, ratios.T, strict=True):
        ordered = sorted(ratio for ratio in column.tolist() if math.isfinite(ratio))
        found[name] = [(ratio, (index + 1) / len(column)) for index, ratio in enumerate(ordered)]
    return found


def pooled(contests: Iterable[Contest]) -> list[list[Contest]]:
    """Return contests that may be judged together: under terms of one kind, and one for each instance.

    Of several limits of time on one instance the longest counts.
    """
    groups: dict[Terms, dict[tuple[str, str], Contest]] = {}
    for contest in contests:
        found = groups.setdefault(contest.terms.kind, {})
        instance = (contest.section.task, repr(sorted(contest.section.config.items())))
        if instance not in found or _limit(found[instance]) < _limit(contest):
            found[instance] = contest
    return [list(found.values()) for found in groups.values()]


def _limit(contest: Contest) -> tuple[float, float]:
    return contest.terms.cpu_limit or 0.0, contest.terms.time_limit or 0.0


def scopes(contests: Iterable[Contest]) -> list[Scope]:
    """Return a scope for each task and terms with two instances or more, and one for all tasks where there are several.

    Contests of one solver say nothing here. Rows under the preset `smoke` are not pooled: it shows that a solver runs.
    """
    made = []
    for members in pooled(contest for contest in contests if contest.terms.preset != SMOKE):
        by_task: dict[str, list[Contest]] = {}
        for contest in members:
            by_task.setdefault(contest.section.task, []).append(contest)
        how = ", at equal time" if members[0].terms.cut else ""
        made += [Scope(task + how, some) for task, some in by_task.items()]
        if len(by_task) > 1:
            made.append(Scope(_ALL + how, members))
    return [scope for scope in made if len(scope.counted) > 1 and _adds(scope, made)]


def _adds(scope: Scope, made: Sequence[Scope]) -> bool:
    """Say whether `scope` holds what no scope of one task holds: another task."""
    return not scope.title.startswith(_ALL) or len({contest.section.task for contest in scope.counted}) > 1
