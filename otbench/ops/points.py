"""Training points of a measure for the closed-form rows: the pool itself, or a sample where every draw is fresh."""

from __future__ import annotations

import torch
from torch import Tensor

from otbench.problem import Measure

FRESH_POINTS = 100_000
"""Points drawn from a measure without a pool."""


def training_points(measure: Measure, generator: torch.Generator, n: int | None = None) -> Tensor:
    """Return training points, flattened, shape (n, d).

    Args:
        measure: where from.
        generator: source of randomness, on the measure's device; not used when the whole pool is returned.
        n: how many; a pool gives this many distinct points, all of them if it has fewer. None = the whole pool, or
            `FRESH_POINTS`.
    """
    pool = measure.pool
    if pool is None:
        return measure.sample(n or FRESH_POINTS, generator=generator).x.flatten(1)
    if n is not None and n < len(pool):
        pool = pool[torch.randperm(len(pool), generator=generator, device=pool.device)[:n]]
    measure.drawn += len(pool)  # read past `sample()`, which would draw with replacement
    return pool.flatten(1)
