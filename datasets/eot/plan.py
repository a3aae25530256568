r"""Entropic plans in closed form: a source, a potential, and the target that follows from both.

Gushchin, Kolesov, Mokrov, Karpikova, Spiridonov, Burnaev, Korotin, "Building the Bridge of Schroedinger", NeurIPS 2023
(arXiv 2306.10161). For the cost |x - y|^2 / 2 and a potential $u(y) = \sum_k p_k N(y | m_k, S_k)$,

$$\pi(y | x) \propto N(y | x, \epsilon I) \, u(y) = \textstyle\sum_k w_k(x) \, N(y | A_k x + b_k, \epsilon A_k) ,$$
$$A_k = S_k (S_k + \epsilon I)^{-1}, \quad b_k = \epsilon (S_k + \epsilon I)^{-1} m_k, \quad
w_k(x) \propto p_k \, N(x | m_k, S_k + \epsilon I) ,$$

is the exact entropic plan between any source and the marginal of y that it makes of it: its density relative to
source x target is $e^{(f(x) + g(y) - c(x, y)) / \epsilon}$ with some f and g.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

SOURCE_COMPONENTS, POTENTIAL_COMPONENTS = 3, 5
_STREAM = 20_231_210
_ROWS = 2**13
"""Points that are made at a time: each is made by all components."""


@dataclass(frozen=True, eq=False)
class Mixture:
    """A mixture of K Gaussians, and the sampler of it.

    Attributes:
        log_weights: logarithms of the shares, shape (K,).
        means: shape (K, d).
        factors: Cholesky factors of the covariances, shape (K, d, d).
    """

    log_weights: Tensor
    means: Tensor
    factors: Tensor

    def to(self, device: torch.device, dtype: torch.dtype) -> Mixture:
        """Return the same mixture, elsewhere and in another type."""
        return Mixture(*(tensor.to(device, dtype) for tensor in (self.log_weights, self.means, self.factors)))

    @property
    def covariances(self) -> Tensor:
        """Covariances, shape (K, d, d)."""
        return self.factors @ self.factors.mT

    def moments(self) -> tuple[Tensor, Tensor]:
        """Return mean, shape (d,), and covariance, shape (d, d)."""
        mean, covariance = mixed(self.log_weights.exp()[None], self.means[None], self.covariances)
        return mean[0], covariance[0]

    def terms(self, x: Tensor) -> Tensor:
        """Return log share + log density of each component at `x`, shape (n, K)."""
        whiten, centres, constants = self._parts_of_terms
        found: Tensor = constants - (x @ whiten - centres).square().sum(2).T / 2
        return found

    def __call__(self, n: int, generator: torch.Generator) -> Tensor:
        """Return `n` points, shape (n, d)."""
        parts = [self._draw(rows, generator) for rows in _pieces(n)]
        return torch.cat(parts)

    @functools.cached_property
    def _parts_of_terms(self) -> tuple[Tensor, Tensor, Tensor]:
        whiten = torch.linalg.inv(self.factors).mT
        log_det = self.factors.diagonal(dim1=1, dim2=2).log().sum(1)
        constants = self.log_weights - log_det - self.means.shape[1] / 2 * math.log(2 * math.pi)
        return whiten, self.means[:, None] @ whiten, constants

    def _draw(self, n: int, generator: torch.Generator) -> Tensor:
        shares = self.log_weights.exp().expand(n, -1)
        return chosen(shares, _normal(n, self.means, generator), self.factors.mT, self.means, generator)


@dataclass(frozen=True, eq=False)
class Plan:
    """The exact plan from `source`; the sampler of its target.

    Attributes:
        source: where mass comes from.
        smoothed: the potential, smoothed by N(0, epsilon I): its terms at x give the shares w_k(x).
        slopes: A_k, shape (K, d, d), symmetric.
        offsets: b_k, shape (K, d).
        noise: Cholesky factors of epsilon A_k, shape (K, d, d).
    """

    source: Mixture
    smoothed: Mixture
    slopes: Tensor
    offsets: Tensor
    noise: Tensor

    @classmethod
    def of(cls, source: Mixture, potential: Mixture, epsilon: float) -> Plan:
        """Return the plan that `potential` makes of `source`, for epsilon > 0."""
        covariances = potential.covariances
        smoothed = covariances + epsilon * torch.eye(covariances.shape[1], dtype=covariances.dtype)
        slopes = torch.linalg.solve(smoothed, covariances)
        slopes = (slopes + slopes.mT) / 2
        offsets = epsilon * torch.linalg.solve(smoothed, potential.means)
        around = Mixture(potential.log_weights, potential.means, torch.linalg.cholesky(smoothed))
        return cls(source, around, slopes, offsets, torch.linalg.cholesky(epsilon * slopes))

    def to(self, device: torch.device, dtype: torch.dtype) -> Plan:
        """Return the same plan, elsewhere and in another type."""
        moved = (tensor.to(device, dtype) for tensor in (self.slopes, self.offsets, self.noise))
        return Plan(self.source.to(device, dtype), self.smoothed.to(device, dtype), *moved)

    def shares(self, x: Tensor) -> Tensor:
        """Return w_k(x), shape (n, K)."""
        return self.smoothed.terms(x).softmax(1)

    def conditional(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean, shape (n, d), and covariance, shape (n, d, d), of y given each of the few points `x`."""
        means = torch.einsum("nd,kde->nke", x, self.slopes) + self.offsets
        return mixed(self.shares(x), means, self.noise @ self.noise.mT)

    def draw(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Return one draw of y given each point of `x`, shape (n, d)."""
        parts = []
        for some in torch.split(x, _ROWS):
            rows = torch.cat((some, _normal(len(some), some, generator)), 1)
            parts.append(chosen(self.shares(some), rows, self._matrices, self.offsets, generator))
        return torch.cat(parts)

    @functools.cached_property
    def _matrices(self) -> Tensor:
        return torch.cat((self.slopes, self.noise.mT), 1)

    def __call__(self, n: int, generator: torch.Generator) -> Tensor:
        """Return `n` points of the target, shape (n, d)."""
        return self.draw(self.source(n, generator), generator)

    def target_moments(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor, float]:
        """Return mean, shape (d,), and covariance, shape (d, d), of the target, and the mean of tr Cov(y | x).

        `n` points of the source give the moments of x in each component; those of y follow from these without noise.
        """
        d = self.offsets.shape[1]
        share, first, second = (torch.zeros(len(self.offsets), *shape).double() for shape in ((), (d,), (d, d)))
        about = torch.zeros(d, d, dtype=torch.float64)
        for rows in _pieces(n):
            x = self.source(rows, generator)
            w = self.shares(x)
            share += w.sum(0) / n
            first += w.T @ x / n
            second += torch.stack([x.T @ (w[:, k, None] * x) for k in range(len(share))]) / n
            mean = torch.einsum("nk,nke->ne", w, torch.einsum("nd,kde->nke", x, self.slopes) + self.offsets)
            about += mean.T @ mean / n
        moved = torch.einsum("kd,kde->ke", first, self.slopes)
        cross = moved[:, :, None] * self.offsets[:, None]
        square = self.slopes @ second @ self.slopes + cross + cross.mT
        square = square + share[:, None, None] * (
            self.offsets[:, :, None] * self.offsets[:, None] + self.noise @ self.noise.mT
        )
        mean, total = (moved + share[:, None] * self.offsets).sum(0), square.sum(0)
        return mean, total - mean[:, None] * mean, float((total - about).trace())


def make_plan(dim: int, epsilon: float, pair: int) -> Plan:
    """Return the plan number `pair`; its source does not depend on epsilon.

    Source: three Gaussians, centred, in units in which E|x|^2 = d. Potential: five, whose centres have mean 0 and mean
    square d. All covariances have eigenvalues between 1/4 and 1, before the source is scaled, and before those of the
    potential are multiplied by epsilon where it is below 1. So the plan tends to a map with A_k between 1/5 and 1/2 as
    epsilon goes to 0, and not to the identity.

    Args:
        dim: number of coordinates.
        epsilon: strength of the entropic regularisation, > 0.
        pair: number of the pair, >= 0.
    """
    random = np.random.default_rng([_STREAM, dim, pair])
    source, potential = (_draw(random, dim, count) for count in (SOURCE_COMPONENTS, POTENTIAL_COMPONENTS))
    scale = math.sqrt(float(source.moments()[1].trace()) / dim)
    source = Mixture(source.log_weights, source.means / scale, source.factors / scale)
    factors = math.sqrt(min(1.0, epsilon)) * potential.factors
    return Plan.of(source, Mixture(potential.log_weights, potential.means, factors), epsilon)


def _draw(random: np.random.Generator, dim: int, count: int) -> Mixture:
    shares = random.uniform(0.5, 1.5, count)
    shares /= shares.sum()
    means = random.standard_normal((count, dim))
    means -= shares @ means
    means *= math.sqrt(dim / float(shares @ (means**2).sum(1)))
    rotations, _ = np.linalg.qr(random.standard_normal((count, dim, dim)))
    spectra = np.exp(random.uniform(-2 * np.log(2.0), 0.0, (count, 1, dim)))
    covariances = torch.from_numpy((rotations * spectra) @ rotations.transpose(0, 2, 1))
    return Mixture(torch.from_numpy(np.log(shares)), torch.from_numpy(means), torch.linalg.cholesky(covariances))


def mixed(shares: Tensor, means: Tensor, covariances: Tensor) -> tuple[Tensor, Tensor]:
    """Return means, shape (n, d), and covariances, shape (n, d, d), of n mixtures of K Gaussians.

    Args:
        shares: shape (n, K).
        means: shape (n, K, d).
        covariances: the same in all mixtures, shape (K, d, d).
    """
    mean = torch.einsum("nk,nkd->nd", shares, means)
    about = means - mean[:, None]
    between = torch.einsum("nk,nkd,nke->nde", shares, about, about)
    return mean, between + torch.einsum("nk,kde->nde", shares, covariances)


def chosen(shares: Tensor, rows: Tensor, matrices: Tensor, offsets: Tensor, generator: torch.Generator) -> Tensor:
    """Return row @ matrix + offset of one component for each row, shape (n, d), without waiting for the device.

    Args:
        shares: how likely each component is, shape (n, K).
        rows: shape (n, p).
        matrices: shape (K, p, d).
        offsets: shape (K, d).
        generator: what components are drawn with.
    """
    component = torch.multinomial(shares, 1, generator=generator).squeeze(1)
    each = rows @ matrices
    return each[component, torch.arange(len(rows), device=rows.device)] + offsets[component]


def _normal(n: int, like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(n, like.shape[1], generator=generator, device=like.device, dtype=like.dtype)


def _pieces(n: int) -> Iterator[int]:
    for start in range(0, n, _ROWS):
        yield min(_ROWS, n - start)
