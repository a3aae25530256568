r"""Frechet distance between two sets of features, as if both were Gaussian.

$$d^2 = |m_1 - m_2|^2 + \mathrm{tr}\, C_1 + \mathrm{tr}\, C_2
- 2\, \mathrm{tr} \big(C_1^{1/2} C_2 C_1^{1/2}\big)^{1/2}$$

Heusel et al., "GANs trained by a two time-scale update rule", NeurIPS 2017. The matrix under the last root is symmetric
and non-negative, so its eigenvalues come from a symmetric solver: no root of a non-symmetric matrix, no imaginary
parts. The value is meaningful only together with the feature space and the number of samples: it is biased upwards by
about 1 / n.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True)
class Moments:
    """Mean (d,) and unbiased covariance (d, d) of features, float64, on the CPU; `count` = how many they were."""

    mean: Tensor
    cov: Tensor
    count: int

    @cached_property
    def root(self) -> Tensor:
        """The symmetric square root of the covariance, (d, d); computed once."""
        values, vectors = torch.linalg.eigh(self.cov)
        return vectors * values.clamp(min=0).sqrt() @ vectors.T  # type: ignore[no-any-return]


def moments(features: Tensor) -> Moments:
    """Return the moments of `features`, shape (n, *shape), flattened to (n, d); summed in float64.

    Raises:
        ValueError: fewer than two features, which have no covariance.
    """
    if len(features) < 2:
        raise ValueError(f"a covariance needs two features or more, got {len(features)}")
    flat = features.detach().flatten(1).cpu().double()
    mean = flat.mean(0)
    centred = flat - mean
    return Moments(mean, centred.T @ centred / (len(flat) - 1), len(flat))


def frechet_distance(first: Moments, second: Moments) -> float:
    """Return the squared Frechet distance (what tables call FID), feature units squared; at least 0.

    NaN where features were not finite. Symmetric; of many distances to one set, give that set as `first`, whose root is
    kept.
    """
    shift = (first.mean - second.mean).square().sum() + first.cov.trace() + second.cov.trace()
    if not bool(shift.isfinite()):
        return math.nan
    inner = first.root @ second.cov @ first.root
    trace = torch.linalg.eigvalsh((inner + inner.T) / 2).clamp(min=0).sqrt().sum()
    return max(0.0, float(shift - 2 * trace))
