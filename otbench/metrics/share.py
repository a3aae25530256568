"""A share of successes with its confidence interval."""

from __future__ import annotations

import math

Z95 = 1.959963984540054
"""Quantile of the standard normal that leaves 2.5 % above."""


def wilson(successes: int, n: int, *, z: float = Z95) -> tuple[float, float]:
    """Return Wilson's score interval of a binomial share, in [0, 1]; with no trials, all of [0, 1].

    Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22, 1927.
    """
    if not 0 <= successes <= n:
        raise ValueError(f"{successes} successes in {n} trials")
    if n == 0:
        return 0.0, 1.0
    share = successes / n
    centre = share + z * z / (2 * n)
    spread = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    # at the ends the interval reaches 0 and 1 exactly; rounding must not say otherwise
    low = 0.0 if successes == 0 else (centre - spread) / scale
    high = 1.0 if successes == n else (centre + spread) / scale
    return low, high
