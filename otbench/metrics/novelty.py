"""Does a map make new points, or copies of its training points?

A two-sample distance does not see copies: the training points themselves come from the right distribution. Their
distance to the nearest training point does; the data-copying test of Meehan, Chaudhuri, Dasgupta ("A non-parametric
test to detect data-copying in generative models", AISTATS 2020) compares the same distances.
"""

from __future__ import annotations

import torch
from torch import Tensor

from otbench.ops.points import fixed_rows

QUERY_POINTS = 2000
"""Points whose neighbours are looked for, at most."""
TRAINING_POINTS = 2**16
"""Training points among which they are looked for, at most."""
_BLOCK = 8192


def novelty(x: Tensor, training: Tensor, held_out: Tensor) -> float:
    """Return the median distance of `x` to the nearest training point, over that of held-out points.

    1: as far from the training points as new data are. 0: copies. NaN if the held-out points are copies themselves.

    Args:
        x: mapped points, shape (n, d); at most `QUERY_POINTS` fixed ones of them count.
        training: shape (N, d); at most `TRAINING_POINTS` fixed ones count.
        held_out: shape (m, d); as `x`.
    """
    training = training[fixed_rows(len(training), TRAINING_POINTS).to(training.device)]
    found, usual = (_nearest(points, training).median() for points in (x, held_out))
    return float(found / usual) if usual > 0 else float("nan")


def _nearest(points: Tensor, training: Tensor) -> Tensor:
    points = points[fixed_rows(len(points), QUERY_POINTS).to(points.device)]
    nearest = points.new_full((len(points),), torch.inf)
    for part in training.split(_BLOCK):  # type: ignore[no-untyped-call]
        nearest = torch.minimum(nearest, torch.cdist(points, part).amin(1))
    return nearest
