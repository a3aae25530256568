"""One pair: the source, the exact map onto the target, and what is known of both.

Standardisation: with m the mean and v the mean variance of a coordinate of T over 2^17 points of the source, the target
is the image of (T - m) / sqrt(v). Both numbers are part of the pair's definition: they are estimated once, from a fixed
stream of random numbers, and kept in the cache.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from otbench.config import Value
from otbench.data.prepared import Content, Made, prepare
from otbench.datasets.convex.families import FAMILIES, Numbers, digest_of
from otbench.datasets.convex.potentials import ConvexMap, Standardised
from otbench.datasets.convex.sources import Frozen, Source, Torch

STANDARD_POINTS = 2**17
CHUNK = 2**13
"""Rows that are drawn and mapped at a time. Part of what defines the streams of the sources, so it never changes."""
_VERSION = 1
_STANDARD_SEED = 0


@dataclass(frozen=True)
class Pair:
    """Source, exact map, target.

    Attributes:
        source: P.
        transport: T*, with which the target is Q = T*#P.
        w2_squared: E|x - T*(x)|^2 over the points that the pair was standardised with.
        w2_squared_error: standard error of that mean.
        digest: SHA-256 of the drawn parameters.
    """

    source: Source
    transport: Standardised
    w2_squared: float
    w2_squared_error: float
    digest: str

    def log_density(self, x: Tensor) -> Tensor:
        """Return log q(T*(x_i)), the target's log density at the images of `x`, shape (n, d), as shape (n,)."""
        return self.source.log_density(x) - self.transport.log_det(x)

    def target_log_density(self, y: Tensor) -> Tensor:
        """Return log q(y_i), shape (n,), for any `y` of shape (n, d): -inf where the target has no mass.

        The inverse of T* is found by Newton's method where it has no closed form.
        """
        x = self.transport.inverse(y)
        return torch.nan_to_num(self.log_density(x), nan=-math.inf)


@dataclass(frozen=True)
class Drawer:
    """Draws of P, or of Q = T*#P, without end; what `FreshMeasure` asks for. Can be pickled."""

    source: Source
    transport: ConvexMap | None
    dtype: torch.dtype

    def __call__(self, n: int, generator: torch.Generator) -> Tensor:
        """Return `n` points, shape (n, d), on the generator's device."""
        x = self.source.draw(n, Torch(generator, self.dtype))
        return x if self.transport is None else self.transport(x)


def sample(source: Source, n: int, seed: int) -> Tensor:
    """Return `n` points of `source`, shape (n, d), float64, on the CPU."""
    random = Torch(torch.Generator().manual_seed(seed), torch.float64)
    return torch.cat([source.draw(min(CHUNK, n - done), random) for done in range(0, n, CHUNK)])


def mapped(transport: ConvexMap, x: Tensor) -> Tensor:
    """Return the images of `x`, shape (n, d), a chunk at a time: maps hold many numbers for a point."""
    return torch.cat([transport(part) for part in torch.split(x, CHUNK)])


def make_pair(family: str, dim: int, number: int, values: Numbers, source: Source, words: str) -> Pair:
    """Return a pair; what its standardisation needs comes from the cache, or goes there.

    Args:
        family: name of the family.
        dim: number of coordinates.
        number: which pair of that family.
        values: all parameters of the family.
        source: P.
        words: the source, in words that tell it from all others.

    Raises:
        StoreError: the cache cannot be written.
    """
    drawn = FAMILIES[family].map_of(dim, number, values)
    digest = digest_of(drawn)
    parameters: dict[str, Value] = {
        "dim": dim,
        "seed": FAMILIES[family].seed_of(dim, number),
        "source": words,
        "sha256": digest,
        **values,
    }
    kept = prepare(Content(f"convex-{family}", _VERSION, parameters, {}), lambda: _standard(source, drawn))
    mean = torch.from_numpy(np.array(kept.arrays["mean"], dtype=np.float64))
    scale, w2, error = (float(str(kept.facts[name])) for name in ("scale", "w2_squared", "w2_squared_error"))
    return Pair(source, Standardised(drawn, mean, scale), w2, error, digest)


def _standard(source: Source, drawn: ConvexMap) -> Made:
    """Return mean (as an array), scale and squared distance of the standardised pair (as facts).

    Maps can be costly, so the points are mapped once, and sums of products of each part are kept.
    """
    sums = []
    for x in _frozen(source):
        y = drawn(x)
        sums.append(torch.cat([x.sum(0), y.sum(0), torch.stack([(u * v).sum() for u, v in ((x, x), (x, y), (y, y))])]))
    parts = torch.stack(sums) / CHUNK
    first, second = parts[:, : source.dim], parts[:, source.dim : 2 * source.dim]
    xx, xy, yy = parts[:, 2 * source.dim :].T
    exact = second.mean(0)
    scale = math.sqrt(source.dim / float(yy.mean() - exact.square().sum()))
    mean = exact.float().double()  # as it is kept
    # |x - a (y - m)|^2 by its products, a mean for each part
    moved = xx - 2 * scale * (xy - first @ mean) + scale**2 * (yy - 2 * second @ mean + mean.square().sum())
    error = float(moved.std()) / math.sqrt(len(moved))
    return {"mean": mean.numpy()}, {"scale": scale, "w2_squared": float(moved.mean()), "w2_squared_error": error}, ()


def _frozen(source: Source) -> Iterator[Tensor]:
    """Yield the points that pairs are standardised with, part by part, the same at every call."""
    random = Frozen(np.random.RandomState(_STANDARD_SEED))
    for _ in range(0, STANDARD_POINTS, CHUNK):
        yield source.draw(CHUNK, random)
