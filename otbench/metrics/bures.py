r"""Bures-Wasserstein distances of samples from Gaussians that are known.

$$\mathrm{BW}^2 = |m - \hat m|^2 + \operatorname{tr} \big( S + \hat S - 2 (S^{1/2} \hat S S^{1/2})^{1/2} \big) ,$$

with the mean and the unbiased covariance of n draws in d dimensions. It has a floor: where the draws are of the
Gaussian itself, it is about $\operatorname{tr} S \, (d + 5) / (4 n)$, and not 0. The means' share of the floor is
known: $\operatorname{tr} \hat S / n$. That of the covariances falls like $a / n + b / n^2$: with the mean distance of
halves and of quarters of the draws beside that of all, both terms can be taken off.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

_ELEMENTS = 2**22
"""Coordinates of draws that are looked at at a time: bounds the memory."""


class Bures(NamedTuple):
    """Squared distances, each of shape (m,), float64.

    Attributes:
        plain: by all draws, with their floor.
        corrected: without it; by chance it can be below 0.
        mean: the share of the means in `corrected`.
    """

    plain: Tensor
    corrected: Tensor
    mean: Tensor


def bures(draws: Tensor, mean: Tensor, covariance: Tensor) -> Bures:
    """Return squared Bures-Wasserstein distances of m samples from m Gaussians; NaN where draws are not finite.

    Args:
        draws: n draws for each, shape (m, n, d), n >= 8, any floating dtype and device.
        mean: of the Gaussians, shape (m, d), float64, on the CPU.
        covariance: shape (m, d, d), positive definite.
    """
    at_once = max(1, _ELEMENTS // draws[0].numel())
    factor = torch.linalg.cholesky(covariance)
    parts = zip(*(torch.split(tensor, at_once) for tensor in (draws, mean, factor)), strict=True)
    found = [_bures(some.to("cpu", torch.float64), *gaussian) for some, *gaussian in parts]
    return Bures(*(torch.cat(values) for values in zip(*found, strict=True)))


def _bures(draws: Tensor, mean: Tensor, factor: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    n = draws.shape[1]
    finite = draws.isfinite().all(2).all(1)
    draws = torch.where(finite[:, None, None], draws, 0.0)  # which eigenvalues can be taken of
    covariance = _covariances(draws)
    off = (draws.mean(1) - mean).square().sum(1)
    in_mean = off - covariance.diagonal(dim1=1, dim2=2).sum(1) / n
    whole = _spread(covariance, factor)
    halves, quarters = (
        sum(_spread(_covariances(part), factor) for part in draws.tensor_split(parts, 1)) / parts for parts in (2, 4)
    )
    found = off + whole, in_mean + (8 * whole - 6 * halves + quarters) / 3, in_mean
    plain, corrected, of_mean = (torch.where(finite, value, torch.nan) for value in found)
    return plain, corrected, of_mean


def _covariances(draws: Tensor) -> Tensor:
    about = draws - draws.mean(1, keepdim=True)
    return about.mT @ about / (draws.shape[1] - 1)


def _spread(covariance: Tensor, factor: Tensor) -> Tensor:
    """Return what covariances have in the squared distance, shape (m,); `factor` is the Cholesky factor of S."""
    # S^(1/2) S^ S^(1/2) and L^T S^ L have the same eigenvalues; those of maps without spread are 0 up to rounding
    roots = torch.linalg.eigvalsh(factor.mT @ covariance @ factor).clamp_(min=0).sqrt_()
    traces = factor.square().sum((1, 2)) + covariance.diagonal(dim1=1, dim2=2).sum(1)
    found: Tensor = traces - 2 * roots.sum(1)
    return found
