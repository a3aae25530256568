"""Monotone scales on which the noise of good and bad solvers is about the same, and on which larger is worse."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from otbench.statistics.spread import exp


@dataclass(frozen=True)
class Scale:
    """A monotone scale on which larger is worse.

    Attributes:
        logarithmic: whether differences on it are ratios.
        bound: best possible value; what counts is then the gap to it.
        sign: -1 where the value, or its logarithm, is better the higher it is.
    """

    logarithmic: bool
    bound: float | None = None
    sign: float = 1.0

    def to(self, value: float) -> float:
        """Return `value` on the scale."""
        kept = value if self.bound is None else self.bound - value
        return self.sign * (math.log(kept) if self.logarithmic else kept)

    def change(self, difference: float) -> float:
        """Return a difference on the scale as a ratio or difference of values (of gaps to the bound)."""
        return exp(self.sign * difference) if self.logarithmic else self.sign * difference

    def back(self, value: float) -> float:
        """Return the value that stands at `value` on the scale."""
        kept = self.change(value)
        return kept if self.bound is None else self.bound - kept


def scale_for(values: Sequence[float], *, higher_is_better: bool = False, percent: bool = False) -> Scale:
    """Return the scale for `values`: logarithms where it can be, so that a change is a ratio.

    Positive values where lower is better (UVP, distances, seconds) by their logarithm. Where higher is better, the
    logarithm of what is missing to the best value (1, or 100 in %): an accuracy that falls from 99 to 98 % has twice
    the errors.

    Args:
        values: finite, at least one.
        higher_is_better: direction of improvement.
        percent: whether the best value, where higher is better, is 100 instead of 1.
    """
    if not higher_is_better:
        return Scale(logarithmic=min(values) > 0)
    bound = 100.0 if percent else 1.0
    if max(values) < bound and bound - max(values) > 1e-12:
        return Scale(logarithmic=True, bound=bound)
    return Scale(logarithmic=min(values) > 0 and max(values) > bound, sign=-1.0)
