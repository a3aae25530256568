"""Choice of points: the training points of closed-form rows, and the fixed part of a large sample that is looked at."""

from __future__ import annotations

import torch
from torch import Tensor

from otbench.problem import Batch, Measure, PoolMeasure

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
    return training_batch(measure, generator, n).x.flatten(1)


def training_batch(measure: Measure, generator: torch.Generator, n: int | None = None) -> Batch:
    """Return training points as `training_points` does, but in their own shape (n, *shape) and with their classes."""
    pool, label = measure.pool, measure.pool_label
    if pool is None:
        return measure.sample(n or FRESH_POINTS, generator=generator)
    if n is not None and n < len(pool):
        index = torch.randperm(len(pool), generator=generator, device=pool.device)[:n]
        pool, label = pool[index], None if label is None else label[index]
    measure.drawn += len(pool)  # read past `sample()`, which would draw with replacement
    return Batch(pool, label)


def class_points(measure: Measure, k: int, generator: torch.Generator) -> Tensor:
    """Return the labelled training points of class `k`, flattened, shape (n, d)."""
    if not isinstance(measure, PoolMeasure):
        return measure.sample(FRESH_POINTS // measure.classes, generator=generator, label=k).x.flatten(1)
    return measure.take(measure.members(k)).x.flatten(1)


def fixed_rows(n: int, most: int) -> Tensor:
    """Return places of at most `most` out of `n` points, shape (min(n, most),), int64, on the CPU, rising.

    Random, as neighbours in a data set may be alike; from a fixed seed, so that everyone is given the same.
    """
    if n <= most:
        return torch.arange(n)
    return torch.randperm(n, generator=torch.Generator().manual_seed(_SEED))[:most].sort().values


def held_out(measure: Measure, most: int, generator: torch.Generator) -> Tensor:
    """Return at most `most` points to validate on, shape (v, d): a fixed sample where the measure sets none aside.

    A finite pool without a validation part is validated on its own points, which shows no over-fitting.
    """
    pool = measure.validation
    if pool is None:
        return measure.sample(most, generator=generator).x.flatten(1)
    if len(pool) > most:
        pool = pool[torch.randperm(len(pool), generator=generator, device=pool.device)[:most]]
    return pool.flatten(1)
