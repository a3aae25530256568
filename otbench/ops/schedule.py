"""The learning-rate schedule that solvers share, as a function of the used share of the budget."""

from __future__ import annotations

import math


def warmup_cosine(progress: float, *, warmup: float = 0.02, end: float = 0.0) -> float:
    """Return the share of the peak rate: a linear rise over `warmup`, times a cosine from 1 to `end`.

    Args:
        progress: used share of the budget, in [0, 1]; what lies above counts as 1.
        warmup: share of the budget over which the rate rises, from a hundredth of the peak; 0 = none.
        end: the last rate, as a share of the peak; 1 = constant after the warm-up.
    """
    rise = min(1.0, progress / warmup + 0.01) if warmup else 1.0
    return rise * (end + (1 - end) * (1 + math.cos(math.pi * min(progress, 1.0))) / 2)
