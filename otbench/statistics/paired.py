"""Rows of a table against each other, pair by pair: what is shown to be worse, and by how much.

Runs of one seed see the same pool, and the pool's noise moves all rows alike. So rows are compared by their differences
inside a *block*, one instance and one seed, and the spread that counts is that of the differences over blocks. Where
rows have several instances, seeds are averaged inside each and the instances are the sample: five seeds of one pair of
measures say nothing about another pair. Rows with fewer than two units in common are not compared.

**Scale.** Logarithms where lower is better and all values are positive: a difference is a ratio. Where higher is
better, logarithms of the gap to the best value. Plain differences elsewhere (`otbench.statistics.scale`).

**Floor.** Where one row is exact but for the pool it was given (`linear` between Gaussians), every row holds that
pool's error, and what a solver adds is its *excess* over this row. An excess may be tiny or negative, and has no
logarithm then. So values are adjusted: value - floor on this pool + mean of the floor over pools. Of small excesses the
logarithms of adjusted values differ as the excesses do, in units of the floor; of large ones as the logarithms of the
values do. If an adjusted value is not positive, plain differences are taken: those of the excess are those of the
values.

**Who is worse.** Paired t-tests of all pairs, two-sided, p-values corrected by Holm's method: the chance that any of
the statements "this one is worse than that one" is false is 5 %. A row is shown to be worse than the best if it is
shown to be worse than any other. With three to five units a single variance is hardly known; from four rows on, that of
each pair is moderated by those of the other pairs (Smyth 2004, `otbench.statistics.spread`), which count for no more
than the pair's own units and never make it smaller than it is. Two units show next to nothing, and are left at that.
In simulations in which the noise of rows differs up to thirtyfold the chance was between 0 and 6 %.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations

from otbench.statistics.scale import Scale, scale_for
from otbench.statistics.spread import Spread, common, deviation, drawn, holm, mean, mean_test

Block = tuple[Hashable, int]
"""One instance and one seed: what a pair of runs shares."""
Values = Mapping[Block, float]
"""One number of one row by block."""
ALPHA = 0.05
"""Chance that any row of a column is wrongly said to be worse than another."""
PAIRS_TO_LEARN_FROM = 6
"""Pairs whose variances say something of each other: those of four rows."""
_EQUAL = 1e-9
"""Differences below this, relative to the values (absolute for logarithms), are rounding errors."""


@dataclass(frozen=True)
class Difference:
    """Mean paired difference of two rows on a `Scale`; above 0, `row` is worse than `other`.

    Attributes:
        row: name of the one.
        other: name of the other.
        mean: of the differences.
        half: half width of its own 95 % t-interval, not corrected for other comparisons; None for one unit.
        p: two-sided p-value of the paired t-test; 1 for one unit.
        n: number of units: instances, or seeds of one instance.
        spread: standard deviation of the differences.
    """

    row: str
    other: str
    mean: float
    half: float | None
    p: float
    n: int
    spread: float


@dataclass(frozen=True)
class Ranking:
    """What is shown about several rows.

    Attributes:
        not_worse: rows that are compared and not shown to be worse than any other: the best one is among them.
        worse: the others that are compared, with the smallest corrected p-value at which another row is better.
        left_out: rows with fewer than two units in common with every other: nothing can be shown of them.
        best: the row with the lowest mean on the scale among `not_worse`; None where nothing is compared.
        differences: all rows that share two units with `best` against it, `best` left out, the nearest first.
        scale: on which everything was compared; None where nothing is.
    """

    not_worse: frozenset[str] = frozenset()
    worse: Mapping[str, float] = field(default_factory=dict)
    left_out: frozenset[str] = frozenset()
    best: str | None = None
    differences: tuple[Difference, ...] = ()
    scale: Scale | None = None


def difference(row: str, other: str, ours: Values, theirs: Values, size: float = 1.0) -> Difference | None:
    """Return the paired difference of two rows whose values are on a scale; None without a block in common.

    Args:
        row: name of the one.
        other: name of the other.
        ours: values of `row`.
        theirs: values of `other`.
        size: of the values, by which rounding errors are told; 1 for logarithms.
    """
    units: dict[Hashable, list[float]] = {}
    shared = [block for block in ours if block in theirs]
    several = len({instance for instance, _ in shared}) > 1
    for block in sorted(shared, key=repr):
        units.setdefault(block[0] if several else block, []).append(ours[block] - theirs[block])
    found = [mean(values) for values in units.values()]
    if not found:
        return None
    found = [_rounded(value, size) for value in found]
    n, centre, spread = len(found), _rounded(mean(found), size), _rounded(deviation(found), size)
    if n < 2:
        return Difference(row, other, centre, None, 1.0, n, 0.0)
    half, p = mean_test(centre, Spread(spread, n - 1), n)
    return Difference(row, other, centre, half, p, n, spread)


def _rounded(value: float, size: float) -> float:
    """Return `value`, or 0 if it is a rounding error of numbers of that size."""
    return 0.0 if abs(value) <= _EQUAL * size else value


def ranking(
    rows: Mapping[str, Values],
    *,
    higher_is_better: bool = False,
    percent: bool = False,
    floor: Values | None = None,
    alpha: float = ALPHA,
) -> Ranking:
    """Say which of `rows` are shown to be worse than the best of them.

    Args:
        rows: by name, the values of each by block. Those that are not finite count as missing.
        higher_is_better: direction of improvement.
        percent: whether the best value, where higher is better, is 100 instead of 1.
        floor: values of a row that is exact but for its pool; None where there is none. It counts where it has a
            value in every block.
        alpha: chance that any row is wrongly said to be worse.
    """
    kept = {name: {b: v for b, v in values.items() if math.isfinite(v)} for name, values in rows.items()}
    kept = adjusted(kept, floor or {})
    everything = [value for values in kept.values() for value in values.values()]
    if not everything:
        return Ranking(left_out=frozenset(rows))
    scale = scale_for(everything, higher_is_better=higher_is_better, percent=percent)
    scaled = {name: {block: scale.to(value) for block, value in values.items()} for name, values in kept.items()}
    size = 1.0 if scale.logarithmic else max(abs(value) for value in everything)
    made = [difference(a, b, scaled[a], scaled[b], size) for a, b in combinations(scaled, 2)]
    pairs = [pair for pair in made if pair is not None and pair.n > 1]
    compared = {name for pair in pairs for name in (pair.row, pair.other)}
    worse: dict[str, float] = {}
    for pair, p in zip(pairs, holm(_moderated_p(pairs)), strict=True):
        if p < alpha and pair.mean:
            loser = pair.row if pair.mean > 0 else pair.other
            worse[loser] = min(p, worse.get(loser, 1.0))
    not_worse = frozenset(compared - worse.keys())
    best = _lowest(not_worse, pairs)
    against = [_turned(pair, best) for pair in pairs if best is not None and best in (pair.row, pair.other)]
    return Ranking(
        not_worse=not_worse,
        worse=worse,
        left_out=frozenset(rows.keys() - compared),
        best=best,
        differences=tuple(sorted(against, key=lambda pair: (pair.mean, pair.row))),
        scale=scale if pairs else None,
    )


def adjusted(rows: Mapping[str, Mapping[Block, float]], floor: Values) -> dict[str, dict[Block, float]]:
    """Return `rows` with each pool's floor replaced by the mean floor of its instance.

    They are returned as they are unless `floor` has a finite value for each of their blocks. The mean is over the seeds
    of an instance alone: the floors of two instances differ by more than noise.
    """
    blocks = {block for values in rows.values() for block in values}
    if not blocks or not all(math.isfinite(floor.get(block, math.nan)) for block in blocks):
        return {name: dict(values) for name, values in rows.items()}
    by_instance: dict[Hashable, list[float]] = {}
    for block in sorted(blocks, key=repr):
        by_instance.setdefault(block[0], []).append(floor[block])
    centre = {instance: mean(values) for instance, values in by_instance.items()}
    return {
        name: {block: value - floor[block] + centre[block[0]] for block, value in values.items()}
        for name, values in rows.items()
    }


def _moderated_p(pairs: Sequence[Difference]) -> list[float]:
    """Return the p-values of all pairs, their variances moderated by each other where there are enough of them."""
    others = common([Spread(pair.spread, pair.n - 1) for pair in pairs], PAIRS_TO_LEARN_FROM)
    result = []
    for pair in pairs:
        spread = drawn(Spread(pair.spread, pair.n - 1), others if pair.n > 2 else None)
        result.append(mean_test(pair.mean, spread, pair.n)[1])
    return result


def _lowest(names: frozenset[str], pairs: Sequence[Difference]) -> str | None:
    """Return the row of `names` that loses by mean to the fewest of them; among several, the first by name.

    Means over all blocks would not do: a row with fewer seeds may lack the hard pool.
    """
    lost = dict.fromkeys(sorted(names), 0)
    for pair in pairs:
        if pair.row in lost and pair.other in lost and pair.mean:
            lost[pair.row if pair.mean > 0 else pair.other] += 1
    return min(lost, key=lambda name: lost[name], default=None)


def _turned(pair: Difference, best: str) -> Difference:
    """Return `pair` with `best` as the other."""
    if pair.other == best:
        return pair
    return Difference(pair.other, best, -pair.mean, pair.half, pair.p, pair.n, pair.spread)
