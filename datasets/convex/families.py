"""The families of potentials: their parameters, and how a pair is drawn.

Every draw comes from one `np.random.RandomState(seed)` in float64, in the order in which it is written here.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from otbench.datasets.convex.potentials import ConvexMap, Laguerre, Product, Ridge, SoftLaguerre, Tail

_PAIR_STRIDE = 10_000
"""Seeds from one pair of a family and dimension to the next."""

Numbers = Mapping[str, float]


@dataclass(frozen=True)
class Family:
    """One row of the table of families.

    Attributes:
        values: parameters by name; only these can be set.
        draw: makes the map, from dimension, values and a random state.
        seed: of pair 0 in dimension 0.
        truth: which solvers' classes contain the exact potential, in words.
        sources: kinds of source for which the target has finite moments, and the map is optimal.
    """

    values: Numbers
    draw: Callable[[int, Numbers, np.random.RandomState], ConvexMap]
    seed: int
    truth: str = "truth in no solver's class"
    sources: tuple[str, ...] = ("normal", "mixture", "t")

    def seed_of(self, dim: int, pair: int) -> int:
        """Return the seed of a pair."""
        return self.seed + dim + _PAIR_STRIDE * pair

    def map_of(self, dim: int, pair: int, values: Numbers) -> ConvexMap:
        """Return the map of a pair, before standardisation, float64, on the CPU."""
        return self.draw(dim, values, np.random.RandomState(self.seed_of(dim, pair)))


def _frame(dim: int, rank: int, random: np.random.RandomState) -> NDArray[np.float64]:
    """Return orthonormal columns, shape (d, rank): QR of normal numbers, with the signs that make it unique."""
    q, r = np.linalg.qr(random.standard_normal((dim, rank)))
    signed: NDArray[np.float64] = q * np.sign(np.diag(r))
    return signed


def _unit_rows(x: NDArray[np.float64]) -> NDArray[np.float64]:
    scaled: NDArray[np.float64] = x / np.linalg.norm(x, axis=1, keepdims=True)
    return scaled


def _atoms(dim: int, values: Numbers, random: np.random.RandomState) -> Tensor:
    rank = min(int(values["rank"]), dim)
    frame = _frame(dim, rank, random)
    directions = _unit_rows(random.standard_normal((int(values["atoms"]), rank)))
    return torch.from_numpy(values["jump"] * math.sqrt(dim) * directions @ frame.T)


def _soft(dim: int, values: Numbers, random: np.random.RandomState) -> ConvexMap:
    # differences of <a_k, x> have standard deviation of about jump sqrt(2 d), so tau is the width in these
    width = values["tau"] * values["jump"] * math.sqrt(2 * dim)
    return SoftLaguerre(_atoms(dim, values, random), values["curvature"], width)


def _hard(dim: int, values: Numbers, random: np.random.RandomState) -> ConvexMap:
    return Laguerre(_atoms(dim, values, random), values["curvature"])


def _ridge(dim: int, values: Numbers, random: np.random.RandomState) -> ConvexMap:
    count = int(values["ridges"]) * dim
    rows = _unit_rows(random.standard_normal((count, dim)))
    places = random.standard_normal(count)
    sizes = values["slope"] * math.sqrt(dim / count) * random.exponential(size=count)
    directions, offsets, slopes = (torch.from_numpy(array) for array in (rows, places, sizes))
    return Ridge(directions, offsets, slopes, values["curvature"], values["tau"])


def _tail(dim: int, values: Numbers, random: np.random.RandomState) -> ConvexMap:
    basis = torch.from_numpy(_frame(dim, dim, random))
    return Tail(basis, values["beta"], int(values["stretched"]) or dim)


def _product(dim: int, values: Numbers, random: np.random.RandomState) -> ConvexMap:
    powers = random.uniform(0.4, 0.8, dim)
    skews = values["skew"] * random.uniform(-1, 1, dim)
    return Product(torch.from_numpy(powers), torch.from_numpy(skews))


def _lse(atoms: int, tau: float, curvature: float, rank: int) -> Family:
    values = {"atoms": atoms, "jump": 1.0, "tau": tau, "curvature": curvature, "rank": rank}
    return Family(values, _soft, 1000, truth="truth is a mean of lightsb for one eps")


def _ridges(slope: float, tau: float, curvature: float) -> Family:
    values = {"ridges": 4, "slope": slope, "tau": tau, "curvature": curvature}
    return Family(values, _ridge, 2000, truth="truth is a softplus ICNN")


FAMILIES: Mapping[str, Family] = {
    "lse-easy": _lse(8, 1.0, 0.5, 8),
    "lse-mid": _lse(8, 0.2, 0.3, 8),
    "lse-hard": _lse(16, 0.05, 0.3, 16),
    "lse-jump": _lse(16, 0.01, 0.3, 16),
    "laguerre": Family({"atoms": 16, "jump": 1.0, "curvature": 0.3, "rank": 16}, _hard, 1000),
    "ridge-mid": _ridges(2.0, 0.2, 0.3),
    "ridge-hard": _ridges(4.0, 0.05, 0.1),
    # sinh of a Student variable has no mean
    "tail": Family({"beta": 1.0, "stretched": 0}, _tail, 3000, sources=("normal", "mixture")),
    # independent coordinates only
    "product": Family({"skew": 2.0}, _product, 4000, sources=("normal", "t")),
}
"""All families by name."""


def digest_of(drawn: ConvexMap) -> str:
    """Return the SHA-256 of the tensors of a map, in the order of its fields, as float64."""
    digest = hashlib.sha256()
    for value in vars(drawn).values():
        if isinstance(value, Tensor):
            digest.update(value.double().contiguous().cpu().numpy().tobytes())
    return digest.hexdigest()
