"""Sources P with mean 0, variance d in total and a known density. Each is a frozen set of tensors, so it pickles.

A source makes points out of random numbers: of torch, for pools and test points, or of numpy's `RandomState`, whose
stream is frozen for all time, for the sample by which a pair is standardised.
"""

from __future__ import annotations

import abc
import dataclasses
import math
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from otbench.datasets._mixture import COMPONENTS, SPREAD, fixed_draws


class Randomness(abc.ABC):
    """Where random numbers come from."""

    @abc.abstractmethod
    def normal(self, n: int, d: int) -> Tensor:
        """Return standard normal numbers, shape (n, d)."""

    @abc.abstractmethod
    def uniform(self, n: int, d: int) -> Tensor:
        """Return numbers uniform on (0, 1], shape (n, d)."""

    def choice(self, n: int, k: int) -> Tensor:
        """Return whole numbers, uniform on 0, ..., k - 1, shape (n,), int64."""
        return (self.uniform(n, 1)[:, 0] * k).ceil().long().clamp(1, k) - 1


@dataclass(frozen=True)
class Torch(Randomness):
    """Random numbers of torch, on the generator's device."""

    generator: torch.Generator
    dtype: torch.dtype

    def normal(self, n: int, d: int) -> Tensor:
        """Return standard normal numbers, shape (n, d)."""
        return torch.randn(n, d, generator=self.generator, device=self.generator.device, dtype=self.dtype)

    def uniform(self, n: int, d: int) -> Tensor:
        """Return numbers uniform on (0, 1], shape (n, d)."""
        return 1 - torch.rand(n, d, generator=self.generator, device=self.generator.device, dtype=self.dtype)


@dataclass(frozen=True)
class Frozen(Randomness):
    """Random numbers of numpy's legacy generator, float64, on the CPU."""

    state: np.random.RandomState

    def normal(self, n: int, d: int) -> Tensor:
        """Return standard normal numbers, shape (n, d)."""
        return torch.from_numpy(self.state.standard_normal((n, d)))

    def uniform(self, n: int, d: int) -> Tensor:
        """Return numbers uniform on (0, 1], shape (n, d)."""
        return 1 - torch.from_numpy(self.state.random_sample((n, d)))


@dataclass(frozen=True)
class Source(abc.ABC):
    """A probability measure on R^d with mean 0 and variance d in total."""

    dim: int

    @abc.abstractmethod
    def draw(self, n: int, random: Randomness) -> Tensor:
        """Return `n` points, shape (n, d)."""

    @abc.abstractmethod
    def log_density(self, x: Tensor) -> Tensor:
        """Return log p(x_i), shape (n,), for `x` of shape (n, d)."""

    def to(self, device: torch.device, dtype: torch.dtype) -> Self:
        """Return the same source with its tensors on `device`, of type `dtype`."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        moved: dict[str, Any] = {name: v.to(device, dtype) for name, v in values.items() if isinstance(v, Tensor)}
        return dataclasses.replace(self, **moved)


@dataclass(frozen=True)
class Normal(Source):
    """N(0, I)."""

    def draw(self, n: int, random: Randomness) -> Tensor:
        """Return `n` points, shape (n, d)."""
        return random.normal(n, self.dim)

    def log_density(self, x: Tensor) -> Tensor:
        """Return log p(x_i), shape (n,)."""
        return -x.square().sum(1) / 2 - self.dim / 2 * math.log(2 * math.pi)


@dataclass(frozen=True)
class Student(Source):
    """Independent coordinates, each Student's t with nu degrees of freedom, scaled to variance 1.

    Attributes:
        nu: degrees of freedom, > 2.
    """

    nu: float

    def draw(self, n: int, random: Randomness) -> Tensor:
        """Return `n` points, shape (n, d), by Bailey's polar method (1994)."""
        radius = (self.nu * (random.uniform(n, self.dim).pow(-2 / self.nu) - 1)).sqrt()
        return radius * (2 * math.pi * random.uniform(n, self.dim)).cos() / self._spread

    def log_density(self, x: Tensor) -> Tensor:
        """Return log p(x_i), shape (n,)."""
        nu = self.nu
        front = math.lgamma((nu + 1) / 2) - math.lgamma(nu / 2) - math.log(nu * math.pi) / 2 + math.log(self._spread)
        return (front - (nu + 1) / 2 * ((self._spread * x).square() / nu).log1p()).sum(1)

    @property
    def _spread(self) -> float:
        """Standard deviation before scaling."""
        return math.sqrt(self.nu / (self.nu - 2))


@dataclass(frozen=True)
class Mixture(Source):
    """The source of the Wasserstein-2 benchmark (Korotin et al., 2021): three Gaussians of equal weight.

    Attributes:
        centres: shape (3, d).
        factors: the covariance of component k is F_k F_k^T, shape (3, d, d).
    """

    centres: Tensor
    factors: Tensor

    def draw(self, n: int, random: Randomness) -> Tensor:
        """Return `n` points, shape (n, d)."""
        which, z = random.choice(n, COMPONENTS), random.normal(n, self.dim)
        x = self.centres[which]
        for k, factor in enumerate(self.factors):
            x[which == k] += z[which == k] @ factor.T
        return x

    def log_density(self, x: Tensor) -> Tensor:
        """Return log p(x_i), shape (n,)."""
        parts = []
        for centre, factor in zip(self.centres, self.factors, strict=True):
            z = torch.linalg.solve(factor, (x - centre).T)
            parts.append(-z.square().sum(0) / 2 - torch.linalg.slogdet(factor).logabsdet)
        together = torch.logsumexp(torch.stack(parts), 0)
        return together - math.log(COMPONENTS) - self.dim / 2 * math.log(2 * math.pi)


def mixture(dim: int) -> Mixture:
    """Return the three-component source of dimension `dim`, drawn as in the benchmark's code, from seed 0."""
    drawn, normals = (array.astype(np.float64) for array in fixed_draws(dim))
    centres, factors = drawn - 1, normals / np.linalg.norm(normals, axis=2, keepdims=True)
    scale = math.sqrt((np.square(centres).sum(1).mean() + SPREAD**2 * dim) / dim)
    return Mixture(dim, torch.from_numpy(centres / scale), torch.from_numpy(SPREAD * factors / scale))
