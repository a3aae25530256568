"""How far a mean over few seeds can be trusted: spreads that are learnt from each other, and many tests at once.

With three seeds one spread is hardly known. All that stand in a table together know more: the variance of each is drawn
towards what the others have (moderated t-statistic, G. K. Smyth, *Linear models and empirical Bayes methods for
assessing differential expression*, Stat. Appl. Genet. Mol. Biol. 3, 2004; sections 3 and 6.2).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Spread:
    """A standard deviation and the degrees of freedom that it is known with."""

    size: float
    freedom: float


ASSUMED = Spread(0.25, 2.0)
"""Spread of a logarithm over seeds where too few series have several seeds to learn it; it counts as three seeds."""
MOST_FREEDOM = 4.0
"""What series know of each other counts for at most so many degrees of freedom."""
SERIES_TO_LEARN_FROM = 8
"""Fewer spreads than this say nothing of another one."""
LEVEL = 0.95


def common(spreads: Sequence[Spread], least: int = SERIES_TO_LEARN_FROM) -> Spread | None:
    """Return what all `spreads` together say of another one: its size and its degrees of freedom.

    None where fewer than `least` of them say anything.

    If true variances are scattered as a scaled inverse chi-square, sample variances follow a scaled F. Its two
    parameters come from mean and variance of the logarithms (Smyth 2004, section 6.2).
    """
    from scipy.optimize import brentq
    from scipy.special import polygamma, psi

    known = [s for s in spreads if s.freedom > 0 and 0 < s.size < math.inf]
    if len(known) < least:
        return None
    e = [2 * math.log(s.size) - float(psi(s.freedom / 2)) + math.log(s.freedom / 2) for s in known]
    centre = mean(e)
    excess = sum((x - centre) ** 2 for x in e) / (len(e) - 1)
    excess -= mean([float(polygamma(1, s.freedom / 2)) for s in known])
    freedom = MOST_FREEDOM
    if excess > float(polygamma(1, MOST_FREEDOM / 2)):
        # trigamma falls from infinity to zero, so there is one solution
        freedom = 2 * float(brentq(lambda x: float(polygamma(1, x)) - excess, 1e-6, MOST_FREEDOM / 2))
    return Spread(math.exp((centre + float(psi(freedom / 2)) - math.log(freedom / 2)) / 2), freedom)


def moderated(own: Spread, others: Spread) -> Spread:
    """Return `own` drawn towards `others`, each weighted by its degrees of freedom (Smyth 2004, section 3)."""
    freedom = own.freedom + others.freedom
    variance = own.freedom * own.size * own.size + others.freedom * others.size * others.size
    return Spread(math.sqrt(variance / freedom), freedom)


def drawn(own: Spread, others: Spread | None) -> Spread:
    """Return `own` moderated by `others`, which count for no more than it and never make it smaller.

    So a row or a series with more noise than its neighbours is not taken for one of them.
    """
    if others is None:
        return own
    both = moderated(own, Spread(others.size, min(others.freedom, own.freedom)))
    return Spread(max(both.size, own.size), both.freedom)


def mean_test(centre: float, spread: Spread, n: int, level: float = LEVEL) -> tuple[float, float]:
    """Test whether a mean of `n` numbers of `spread` is 0.

    Returns:
        Half width of its interval at `level`, and the two-sided p-value.
    """
    from scipy.special import stdtr, stdtrit

    error = spread.size / math.sqrt(n)
    if not math.isfinite(error) or spread.freedom <= 0:
        return math.inf, 1.0
    if error == 0:  # the same number each time
        return 0.0, 0.0 if centre else 1.0
    half = float(stdtrit(spread.freedom, (1 + level) / 2)) * error
    return half, 2 * float(stdtr(spread.freedom, -abs(centre) / error))


def holm(p: Sequence[float]) -> list[float]:
    """Return `p` corrected for their number: reject those below alpha, and any false alarm at all has chance alpha."""
    adjusted = [1.0] * len(p)
    worst = 0.0
    for passed, k in enumerate(sorted(range(len(p)), key=lambda k: p[k])):
        worst = max(worst, min(1.0, p[k] * (len(p) - passed)))
        adjusted[k] = worst
    return adjusted


def mean(values: Sequence[float]) -> float:
    """Return the mean; it does not overflow before the values do."""
    return sum(value / len(values) for value in values)


def exp(value: float) -> float:
    """Return e to the power of `value`; infinite where it leaves the floats."""
    try:
        return math.exp(value)
    except OverflowError:
        return math.inf


def deviation(values: Sequence[float]) -> float:
    """Return the standard deviation of a sample; 0 for one value, infinite where squares leave the floats."""
    if len(values) < 2:
        return 0.0
    centre = mean(values)
    return math.sqrt(sum((value - centre) * (value - centre) for value in values) / (len(values) - 1))
