r"""The squared MMD of a batch as a loss, under a sum of Gaussian kernels whose width follows the batch.

$k(x, y) = \sum_s e^{-|x - y|^2 / (2 s m)}$ for s = 1/4, 1/2, 1, 2, 4, where m is the median of the squared distances
between the two samples, through which no gradient flows. The metric of that name is `otbench.metrics.two_sample`.
"""

from __future__ import annotations

import torch
from torch import Tensor

_FACTORS = (4.0, 2.0, 1.0, 0.5, 0.25)
"""Values of s; each is half of the one before, so that its kernel is the square of the one before."""


def kernel_loss(x: Tensor, y: Tensor) -> Tensor:
    """Return the unbiased estimate, shape (), from samples `x` (n, d) and `y` (m, d), n, m >= 2; differentiable.

    Memory is O((n + m)^2); the device is not waited for.
    """
    n, m = len(x), len(y)
    points = torch.cat((x, y))
    norms = points.square().sum(1)
    square = (norms[:, None] + norms - 2 * points @ points.T).clamp_min(0)
    median = square[:n, n:].detach().median().clamp_min(torch.finfo(x.dtype).tiny)
    kernel = (square / (-2 * _FACTORS[0] * median)).exp()
    total = kernel
    for _ in _FACTORS[1:]:
        kernel = kernel.square()
        total = total + kernel
    total = total - torch.diag(total.diagonal())
    within = total[:n, :n].sum() / (n * (n - 1)) + total[n:, n:].sum() / (m * (m - 1))
    return within - 2 * total[:n, n:].mean()
