r"""Distances between the classes of two samples, each class taken for a Gaussian with its mean and covariance.

$$W_2^2(N(a, A), N(b, B)) = |a - b|^2 + \mathrm{tr} A + \mathrm{tr} B - 2\,\mathrm{tr} (A^{1/2} B A^{1/2})^{1/2} .$$

With $A = X^T X$ of centred points over the root of their number, and B of Y alike, the last trace is the sum of the
singular values of $X Y^T$: no matrix of the dimension's size is ever decomposed where classes have fewer points.
"""

from __future__ import annotations

import torch
from torch import Tensor

_TOLERANCE = 1e-5
"""Singular values below this share of the largest are zero: centred points have at least one such direction."""


def class_distances(x: Tensor, y: Tensor) -> Tensor:
    """Return W_2^2 between the Gaussians of each class of `x` and each class of `y`, shape (K, L).

    Differentiable in `x` only.

    Args:
        x: points by class, shape (K, n, d).
        y: points by class, shape (L, m, d).
    """
    (mean, root), (other_mean, other_root) = _moments(x), _moments(y.detach())
    if other_root.shape[1] > other_root.shape[2]:  # the same covariance by fewer rows
        other_root = torch.linalg.qr(other_root, mode="r").R
    product = torch.einsum("knd,lmd->klnm", root, other_root)
    with torch.no_grad():
        left, values, right = torch.linalg.svd(product, full_matrices=False)
        kept = values > _TOLERANCE * values.amax(2, keepdim=True)
        turn = (left * kept[:, :, None]) @ right
    cross = (turn * product).sum((2, 3))  # the sum of singular values, and its gradient
    spread = root.square().sum((1, 2))[:, None] + other_root.square().sum((1, 2))
    found: Tensor = (mean[:, None] - other_mean).square().sum(2) + spread - 2 * cross
    return found


def _moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return means (K, d) and roots R (K, n, d) with covariance R^T R, of points (K, n, d)."""
    mean = x.mean(1)
    return mean, (x - mean[:, None]) / x.shape[1] ** 0.5
