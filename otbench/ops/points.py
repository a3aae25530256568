"""Choice of points: the training points of closed-form rows, and the fixed part of a large sample that is looked at."""

from __future__ import annotations

import torch
from torch import Tensor

from otbench.problem import Measure

FRESH_POINTS = 100_000
"""Points drawn from a measure without a pool."""
_SEED = 20_200


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


def fixed_rows(n: int, most: int) -> Tensor:
    """Return places of at most `most` out of `n` points, shape (min(n, most),), int64, on the CPU, rising.

    Random, as neighbours in a data set may be alike; from a fixed seed, so that everyone is given the same.
    """
    if n <= most:
        return torch.arange(n)
    return torch.randperm(n, generator=torch.Generator().manual_seed(_SEED))[:most].sort().values
