r"""One official pair: the mixture P, the exact map T*, and Q = T*#P.

$T^* = (\nabla\psi_1 + \nabla\psi_2 - m) / \sqrt v$ for two convex potentials, so it is optimal by Brenier's theorem.
The benchmark estimates m and v anew from 2^14 samples whenever it builds a pair, and its truth moves by 0.006 % UVP
between builds. Here both are estimated once, from 2^20 samples in float64, and kept.
"""

from __future__ import annotations

import contextlib
import copy
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from otbench.data.tensorfile import cached
from otbench.datasets._mixture import COMPONENTS, SPREAD, fixed_draws
from otbench.nets.dense_icnn import DenseICNN

MOMENT_SAMPLES = 2**20
_MOMENT_SEED = 20_210_601
_VERSION = 1
"""Of the code that makes the moments; a new one makes them anew."""
_ROWS = 2**10
"""Rows that are mapped at a time on the CPU: what they take stays in the processor's cache, or near it."""
_MOST_ROWS = 2**14
"""Rows that are made at a time elsewhere, so that a large sample takes no more memory than it must."""


@dataclass(frozen=True, eq=False)
class Mixture:
    """Sampler of P, a mixture of three Gaussians with mean 0 and E|x|^2 = d.

    Attributes:
        centres: shape (3, d).
        factors: shape (d, 3 d); the columns of component k map N(0, I) to its deviation from the centre.
    """

    centres: Tensor
    factors: Tensor

    @classmethod
    def official(cls, dim: int) -> Mixture:
        """Return the mixture of the benchmark in `dim` coordinates, in float64 on the CPU."""
        drawn, normals = (array.astype(np.float64) for array in fixed_draws(dim))
        centres = drawn - (COMPONENTS - 1) / 2
        factors = SPREAD * normals / np.linalg.norm(normals, axis=2, keepdims=True)
        scale = math.sqrt((centres**2).sum(1).mean() / dim + SPREAD**2)
        columns = factors.reshape(COMPONENTS * dim, dim).T
        return cls(torch.from_numpy(centres / scale), torch.from_numpy(columns / scale).contiguous())

    def to(self, device: torch.device, dtype: torch.dtype) -> Mixture:
        """Return the same sampler, elsewhere and in another type."""
        return Mixture(self.centres.to(device, dtype), self.factors.to(device, dtype))

    def __call__(self, n: int, generator: torch.Generator) -> Tensor:
        """Return `n` points, shape (n, d)."""
        device, dtype = self.centres.device, self.centres.dtype
        label = torch.randint(COMPONENTS, (n,), generator=generator, device=device)
        x = torch.randn(n, self.centres.shape[1], generator=generator, device=device, dtype=dtype)
        for k, part in zip(torch.split(label, _MOST_ROWS), torch.split(x, _MOST_ROWS), strict=True):
            each = (part @ self.factors).view(-1, *self.centres.shape)
            part.copy_(each[torch.arange(len(k), device=device), k]).add_(self.centres[k])
        return x


@dataclass(frozen=True, eq=False)
class Truth:
    """The exact map T*: x -> scale * (sum of the potentials' gradients - mean)."""

    potentials: Sequence[DenseICNN]
    mean: Tensor
    scale: float

    def to(self, device: torch.device, dtype: torch.dtype) -> Truth:
        """Return the same map, elsewhere and in another type."""
        potentials = [copy.deepcopy(potential).to(device, dtype) for potential in self.potentials]
        return Truth(potentials, self.mean.to(device, dtype), self.scale)

    @torch.no_grad()
    def __call__(self, x: Tensor) -> Tensor:
        """Return T*(x), shape (n, d)."""
        rows = _ROWS if x.device.type == "cpu" else _MOST_ROWS
        parts = [gradient(self.potentials, part) for part in torch.split(x, rows)]
        return torch.cat(parts).sub_(self.mean).mul_(self.scale)


@dataclass(frozen=True, eq=False)
class Pushed:
    """Sampler of Q = T*#P: fresh points of P, mapped."""

    source: Mixture
    truth: Truth

    def __call__(self, n: int, generator: torch.Generator) -> Tensor:
        """Return `n` points, shape (n, d)."""
        return self.truth(self.source(n, generator))


def gradient(potentials: Sequence[DenseICNN], x: Tensor) -> Tensor:
    """Return the sum of the potentials' gradients at `x`, shape (n, d)."""
    first, *others = (potential.gradient(x) for potential in potentials)
    for other in others:
        first += other
    return first


@dataclass(frozen=True)
class Pair:
    """P, T* and what is known of them, in float64 on the CPU.

    Attributes:
        source: P.
        truth: T*.
        w2_squared: squared Wasserstein-2 distance of P and Q, E|x - T*(x)|^2.
        moment_samples: how many points of P it and the scale of T* were estimated from.
    """

    source: Mixture
    truth: Truth
    w2_squared: float
    moment_samples: int

    @property
    def dim(self) -> int:
        """Number of coordinates, which is also the total variance of P and, as T* is scaled, of Q."""
        return self.source.centres.shape[1]


def official_pair(potentials: Sequence[DenseICNN], checksums: Sequence[str]) -> Pair:
    """Return the pair of these potentials; its moments are computed at first use and kept in the user's cache.

    Args:
        potentials: convex, in float64 on the CPU.
        checksums: of the files that they come from.

    Raises:
        StoreError: the cache cannot be written.
    """
    source = Mixture.official(potentials[0].dim)
    identity = {
        "pair": f"Mix3toMix10, d = {potentials[0].dim}",
        "potentials": list(checksums),
        "samples": MOMENT_SAMPLES,
        "seed": _MOMENT_SEED,
        "version": _VERSION,
    }
    with _one_thread():  # the parts are small: on a busy machine more threads would wait for each other
        kept = cached("w2bench", identity, lambda: moments(source, potentials, MOMENT_SAMPLES)).tensors
    scale = 1 / math.sqrt(float(kept["variance"]))
    return Pair(source, Truth(potentials, kept["mean"], scale), float(kept["w2_squared"]), MOMENT_SAMPLES)


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@torch.no_grad()
def moments(source: Mixture, potentials: Sequence[DenseICNN], samples: int) -> dict[str, Tensor]:
    """Estimate what T* is standardised by.

    Args:
        source: P.
        potentials: whose gradients are summed.
        samples: how many to draw; from a seed of their own.

    Returns:
        `mean` m of the gradient g, shape (d,); `variance` v, the mean over coordinates of its variances;
        `w2_squared`, E|x - (g - m) / sqrt(v)|^2. All float64.
    """
    generator = torch.Generator().manual_seed(_MOMENT_SEED)
    dim = source.centres.shape[1]
    mean_x, mean_g = (torch.zeros(dim, dtype=torch.float64) for _ in range(2))
    square_x, square_g, product = 0.0, 0.0, 0.0
    for start in range(0, samples, _ROWS):
        x = source(min(_ROWS, samples - start), generator)
        g = gradient(potentials, x)
        mean_x += x.sum(0) / samples
        mean_g += g.sum(0) / samples
        square_x += float(x.square().sum()) / samples
        square_g += float(g.square().sum()) / samples
        product += float((x * g).sum()) / samples
    variance = (square_g - float(mean_g @ mean_g)) / dim
    covariance = product - float(mean_x @ mean_g)
    w2_squared = square_x + dim - 2 * covariance / math.sqrt(variance)
    numbers = {"variance": variance, "w2_squared": w2_squared}
    return {"mean": mean_g} | {name: torch.tensor(value, dtype=torch.float64) for name, value in numbers.items()}
