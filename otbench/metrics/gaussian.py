"""Gaussian pairs in numpy float64: the published generator, the checks on a pair, its exact maps and distance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import ot
from numpy.typing import NDArray

from otbench.errors import DataError

Array = NDArray[np.float64]

SYMMETRY_TOLERANCE = 1e-8
"""Largest |Sigma - Sigma^T| accepted, relative to the largest |entry|; below it the matrix is symmetrised."""
DEFINITENESS_TOLERANCE = 1e-10
"""Smallest eigenvalue accepted, relative to the largest: below it float64 cannot carry the exact map."""


@dataclass(frozen=True)
class GaussianPair:
    """N(mean0, cov0) -> N(mean1, cov1); means of shape (d,), covariances of shape (d, d), float64."""

    mean0: Array
    cov0: Array
    mean1: Array
    cov1: Array

    @property
    def dim(self) -> int:
        """Number of coordinates."""
        return len(self.mean0)


@dataclass(frozen=True)
class ExactMaps:
    """Closed-form optimal maps between two Gaussians for the quadratic cost.

    Attributes:
        forward: (A, b) of T*(x) = A x + b, shapes (d, d) and (d,).
        backward: (A, b) of S*(y) = A y + b, its inverse.
        w2_squared: squared Wasserstein-2 distance; the optimal cost of |x - y|^2 / 2 is half of it.
    """

    forward: tuple[Array, Array]
    backward: tuple[Array, Array]
    w2_squared: float


def generate_pair(dim: int, seed: int) -> GaussianPair:
    """Draw a pair by the protocol of the published tables.

    Sigma = Q diag(lambda) Q^T with Q from the QR factorisation of an i.i.d. standard normal matrix and
    log lambda ~ Uniform[-ln 2, ln 2]; zero means. Source first, then target, from
    `np.random.default_rng([seed, dim])`: each dimension has its own stream.

    Args:
        dim: number of coordinates, >= 1.
        seed: number of the pair, >= 0.
    """
    rng = np.random.default_rng([seed, dim])

    def covariance() -> Array:
        q, _ = np.linalg.qr(rng.standard_normal((dim, dim)))
        spectrum = np.exp(rng.uniform(-np.log(2.0), np.log(2.0), dim))
        sigma: Array = (q * spectrum) @ q.T
        return (sigma + sigma.T) / 2

    zero = np.zeros(dim)
    return GaussianPair(zero, covariance(), zero, covariance())


def checked_pair(arrays: Mapping[str, Array], *, origin: str) -> GaussianPair:
    """Return the pair held by `Sigma0`, `Sigma1` and, if there, `mean0`, `mean1`.

    Args:
        arrays: arrays by name, float64.
        origin: where they are from, for the message.

    Raises:
        DataError: a matrix is not a covariance (not square, symmetric, finite, positive definite), or sizes differ.
    """
    cov0, cov1 = (_covariance(arrays[name], f"{origin}: {name}") for name in ("Sigma0", "Sigma1"))
    if cov0.shape != cov1.shape:
        raise DataError(
            f"{origin}: mismatched dimensions: Sigma0 is {_size(cov0)}, Sigma1 is {_size(cov1)}; both must be d x d"
        )
    means = []
    for name in ("mean0", "mean1"):
        mean = arrays.get(name, np.zeros(len(cov0)))
        if mean.shape != (len(cov0),):
            raise DataError(
                f"{origin}: mismatched dimensions: {name} has shape {mean.shape}, the covariances are {_size(cov0)}; "
                f"give {len(cov0)} numbers, or leave it out for zero"
            )
        if not np.isfinite(mean).all():
            raise DataError(f"{origin}: {name} holds NaN or infinite values")
        means.append(mean)
    return GaussianPair(means[0], cov0, means[1], cov1)


def exact_maps(pair: GaussianPair) -> ExactMaps:
    """Return the optimal maps and the distance, by POT (`ot.gaussian`)."""
    forward = ot.gaussian.bures_wasserstein_mapping(pair.mean0, pair.mean1, pair.cov0, pair.cov1)
    backward = ot.gaussian.bures_wasserstein_mapping(pair.mean1, pair.mean0, pair.cov1, pair.cov0)
    distance = ot.gaussian.bures_wasserstein_distance(pair.mean0, pair.mean1, pair.cov0, pair.cov1)
    return ExactMaps(forward, backward, float(distance) ** 2)


def _covariance(sigma: Array, what: str) -> Array:
    if sigma.ndim != 2 or sigma.shape[0] != sigma.shape[1] or len(sigma) == 0:
        raise DataError(f"{what} has shape {sigma.shape}; a covariance must be a square d x d matrix")
    if not np.isfinite(sigma).all():
        raise DataError(f"{what} holds NaN or infinite values")
    scale = np.abs(sigma).max()
    skew = np.abs(sigma - sigma.T).max()
    if skew > SYMMETRY_TOLERANCE * scale:
        raise DataError(f"{what} is not symmetric: entries differ from the transpose by up to {skew:.3g}")
    sigma = (sigma + sigma.T) / 2
    spectrum = np.linalg.eigvalsh(sigma)
    if not spectrum[0] > DEFINITENESS_TOLERANCE * max(spectrum[-1], 0.0):
        raise DataError(
            f"{what} is not positive definite: its eigenvalues range from {spectrum[0]:.3g} to {spectrum[-1]:.3g}; "
            f"the smallest must exceed {DEFINITENESS_TOLERANCE:g} times the largest"
        )
    return sigma


def _size(sigma: Array) -> str:
    return f"{sigma.shape[0]} x {sigma.shape[1]}"
