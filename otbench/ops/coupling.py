r"""Pairs between two batches: who of y belongs to whom of x, for the cost |x - y|^2 / 2.

The exact plan between n and n points is a permutation: the assignment of least total cost. Two solvers have it, and
which is faster is a matter of dimension. Processor milliseconds on one core, float64, one batch of N(0, I) against one
of a squashed Gaussian; scipy's shortest augmenting paths, after rows and columns are reduced by their least cost (which
saves up to 40 %) / POT's network simplex:

    n     d = 2        d = 4        d = 8       d = 16       d = 64
    128   1.1 / 1.2    -            -           0.3 / 1.1    0.2 / 0.8
    256   7.4 / 5.6    4.3 / 5.6    3.3 / 5.5   1.7 / 5.3    1.0 / 4.4
    512   53 / 28      -            -           7.5 / 27     8.7 / 24
    1024  400 / 139    195 / 140    79 / 172    43 / 195     36 / 165
    2048  3450 / 643   1320 / 766   710 / 910   380 / 990    300 / 1050

So the simplex takes batches above 256 in up to four dimensions, and scipy the others.
"""

from __future__ import annotations

import numpy as np
import ot
import scipy.optimize
import torch
from torch import Tensor

SIMPLEX_DIM = 4
"""Most coordinates for which the network simplex is the faster one."""
SIMPLEX_POINTS = 256
"""Points up to which it never is."""
SINKHORN_ITERATIONS = 1000
SINKHORN_TOLERANCE = 1e-4
"""Error of the plan's marginals, in the 2-norm, at which Sinkhorn's iteration ends; each mass is 1 / n."""


def assigned(x: Tensor, y: Tensor) -> Tensor:
    """Return the places of `y` that `x` is assigned to at the least total cost, shape (n,), int64: a permutation.

    Solved on the host in float64: one transfer each way.

    Args:
        x: points, shape (n, d).
        y: as many points, shape (n, d).
    """
    # |x|^2 and |y|^2 are the same for all permutations
    cost = -(x.detach().cpu().double() @ y.detach().cpu().double().T).numpy()
    cost -= cost.min(1, keepdims=True)
    cost -= cost.min(0)
    n, d = x.shape
    if n > SIMPLEX_POINTS and d <= SIMPLEX_DIM:
        mass = ot.unif(n)
        place = ot.emd(mass, mass, cost, numItermax=10_000_000).argmax(1)
    else:
        place = scipy.optimize.linear_sum_assignment(cost)[1]
    return torch.from_numpy(np.ascontiguousarray(place)).to(x.device)


def entropic_partners(x: Tensor, y: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Return places of `y` drawn from the entropic plan, one for each of `x`, shape (n,), int64.

    Each x_i is kept once, and its partner is drawn from the plan's row; so the y_j come as often as the plan has them
    in the mean alone. Sinkhorn's iteration (POT) works with logarithms in float64, on the device, and reads the
    marginal error every ten iterations.

    Args:
        x: points, shape (n, d).
        y: points, shape (m, d).
        strength: of the entropy, for the cost |x - y|^2 / 2.
        generator: source of randomness, on the device of the points.
    """
    x, y = x.detach().double(), y.detach().double()
    cost = torch.cdist(x, y).square() / 2
    mass = [torch.full((len(z),), 1 / len(z), dtype=z.dtype, device=z.device) for z in (x, y)]
    plan = ot.bregman.sinkhorn_log(
        *mass,
        cost,
        strength,
        numItermax=SINKHORN_ITERATIONS,
        stopThr=SINKHORN_TOLERANCE / len(x) ** 0.5,
        warn=False,
    )
    return torch.multinomial(plan, 1, generator=generator).squeeze(1)
