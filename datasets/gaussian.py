"""Gaussian pairs: the task on which the exact maps are known in closed form.

Source N(m0, Sigma0), target N(m1, Sigma1), quadratic cost. Pairs: drawn by the protocol of the published tables for any
dimension; the six pairs that those tables were measured on (D = 2, 4, 8, 16, 32, 64, from the ImplicitOT repository);
or the user's own file. Exact maps and distance from POT in float64; UVP as in Park et al. (arXiv 2510.01153).

With `omega`, the cost is the least action of paths that pay omega^2 |x|^2 / 2 for each unit of time at x, beside
|x'|^2 / 2. The map stays the same; paths bend towards the origin and are known (`otbench.problem.HarmonicCost`).

Random streams: pools and test data come from a CPU generator in float64 and are cast and moved then, so that all
devices and dtypes see the same points. Its seed is one word of `np.random.SeedSequence([role, side, number])`, with
side 0 = source, 1 = target; number = the run's seed, or `pool_seed`, for training pools (role 0), the dimension for
test data (role 1).
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import field_validator
from torch import Tensor

from otbench.config import Value
from otbench.data.arrays import load_npz
from otbench.data.remote import RemoteFile, locate
from otbench.data.sources import DataSource, RemoteSource
from otbench.datasets._draws import PoolSize, as_text, pool_in_words, stream_seed, word_or_number
from otbench.errors import DataError, UsageError
from otbench.files import typed_path
from otbench.metrics.gaussian import ExactMaps, GaussianPair, checked_pair, exact_maps, generate_pair
from otbench.metrics.known_map import KNOWN_MAP_METRICS, KNOWN_WAY_METRICS, KnownMaps
from otbench.problem import Batch, Cost, FreshMeasure, HarmonicCost, Measure, PoolMeasure, Problem, QuadraticCost
from otbench.task import Config, Field, Instance, Metric, Outputs, Picture, Published, Task, TestData, register_task

TEST_POINTS = 2**14
PUBLISHED_POOL = "100000"
MAX_DIM = 1024
RELEASED = {
    2: "ee465ed278b184217e164ed10a5457e3b5ccacb390d2482cdc29224174014b6b",
    4: "546b53004048ade85bbc6d02faeac48a2317d25022217d25daff1a28870b3204",
    8: "69e4a40c639b36963e9292698144d89742e678003622a5b29028693c7bdba06a",
    16: "14fb2d7038be7e090066b06c5e0d47f0f0ce75a512a306c8138aaa15392d1b30",
    32: "71600d43a2bf87617c74af47034aa9b90716c5669828d693940bc1a382befb1a",
    64: "f90939e1f6879b174f31a0409a69ec438ae84ce46e19c5c3f65f4e34c1165b46",
}
"""SHA-256 of the released pairs, by dimension."""
_URL = "https://raw.githubusercontent.com/Yebbi/ImplicitOT/ced10530ec9251934d92d56eca07ea621a03d26b/data/Gaussians/"
_POOL, _TEST = 0, 1
_CHUNK = 2**14


class GaussianConfig(Config):
    """Parameters of the Gaussian task."""

    dim: int | None = Field(None, "number of coordinates; left out: 2, or that of the file", ge=1, le=MAX_DIM)
    pair: str = Field("0", "number of the generated pair (its seed, >= 0), or 'released' for the published pairs")
    file: str | None = Field(None, "own pair: .npz with Sigma0, Sigma1 and, if not zero, mean0, mean1; replaces pair")
    pool: PoolSize = Field(PUBLISHED_POOL, "training points on each side, or 'fresh' for new ones at every draw")
    pool_seed: int | None = Field(None, "seed of the training pools; left out: the run's seed", ge=0, lt=10**9)
    omega: float | None = Field(
        None, "paths of least int |x'|^2/2 + omega^2 |x|^2/2 dt: same map, bent paths", gt=0, le=10
    )

    @field_validator("pair", mode="before")
    @classmethod
    def _text(cls, value: object) -> object:
        return as_text(value)

    @field_validator("pair")
    @classmethod
    def _pair(cls, value: str) -> str:
        return word_or_number(value, "released", 0, 2**63 - 1)


class GaussianInstance(Instance):
    """One pair with its pools, its exact maps and its test data."""

    scores_mean = True

    def __init__(
        self, problem: Problem, test: TestData, pair: GaussianPair, exact: ExactMaps, facts: dict[str, Value]
    ) -> None:
        """Hold the parts; exact images of the test points are computed here, in float64 on the CPU."""
        self.problem = problem
        self.test = test
        self.facts = facts
        x, y = (side.x.cpu().double() for side in (test.source, test.target))
        self._known = KnownMaps(
            x=x,
            forward=_affine(x, *exact.forward),
            y=y,
            backward=_affine(y, *exact.backward),
            variances=(float(np.trace(pair.cov0)), float(np.trace(pair.cov1))),
            cost=float(str(facts["exact_cost"])),
            ground=problem.cost,
        )

    def score(self, outputs: Outputs) -> dict[str, float]:
        """Return the metrics by name; see `KnownMaps.scores`."""
        return self._known.scores(outputs)

    def pictures(self, outputs: Outputs) -> Sequence[Picture]:
        """Return the way from source to target."""
        return self._known.pictures(outputs)

    def waypoints(self) -> Tensor:
        """Return points of exact paths, no path at two times."""
        return self._known.waypoints().to(self.test.source.x)


@register_task(
    "gaussian",
    config=GaussianConfig,
    reference="Park, Liu, Zhou, Osher, Neural Hamilton-Jacobi Characteristic Flows for Optimal Transport, ICLR 2026, "
    "arXiv 2510.01153; "
    "pairs: https://github.com/Yebbi/ImplicitOT at ced1053",
    presets={
        "smoke": {"dim": [2], "pool": "20000"},
        "quick": {"dim": [2, 8]},
        "full": {"dim": list(RELEASED), "pair": "released"},
        "paper": {"dim": list(RELEASED), "pair": "released"},
    },
)
class Gaussian(Task[GaussianConfig]):
    """Gaussian to Gaussian, where the exact maps are known: checks correctness in any dimension."""

    metrics: ClassVar[tuple[Metric, ...]] = KNOWN_MAP_METRICS + KNOWN_WAY_METRICS
    replaces: ClassVar[dict[str, tuple[str, ...]]] = {"file": ("dim", "pair")}

    @classmethod
    def sources(cls) -> Sequence[DataSource]:
        """Return the released pairs."""
        what = "the six pairs of covariances that the published Gaussian tables were measured on"
        licence = "none stated; https://github.com/Yebbi/ImplicitOT"
        return [RemoteSource("gaussian-pairs", what, [_released(dim) for dim in RELEASED], licence)]

    def check(self) -> None:
        """Read the pair.

        Raises:
            UsageError: no released pair of this dimension.
            DataError: a file is missing, damaged, or holds no pair of covariances.
        """
        _ = self._pair

    def inputs(self) -> tuple[Path, ...]:
        """Return the user's own pair, if it is one; released pairs are known by their checksums."""
        return () if self.config.file is None else (typed_path(self.config.file, "task gaussian: file"),)

    def build(self, *, seed: int, device: torch.device, dtype: torch.dtype) -> GaussianInstance:
        """Make the instance: pools from `seed`, test data from their own."""
        pair, seed = self._pair, self.pool_seed(seed)
        laws = ((pair.mean0, pair.cov0), (pair.mean1, pair.cov1))
        tests = (_draw(law, TEST_POINTS, stream_seed(_TEST, side, pair.dim)) for side, law in enumerate(laws))
        source, target = (
            self._measure(law, stream_seed(_POOL, side, seed), device, dtype) for side, law in enumerate(laws)
        )
        test = TestData(*(Batch(x.to(device, dtype)) for x in tests))
        exact = exact_maps(pair)
        spectrum = np.linalg.eigvalsh(exact.forward[0])
        moved, cost = exact.w2_squared / 2, self._cost()
        if isinstance(cost, HarmonicCost):
            placed = sum(float(mean @ mean + np.trace(cov)) for mean, cov in laws)
            moved = cost.share_moved * moved + cost.share_placed * placed / 2
        facts: dict[str, Value] = {
            "dim": pair.dim,
            "w2_squared": exact.w2_squared,
            "exact_cost": moved,
            "trace0": float(np.trace(pair.cov0)),
            "trace1": float(np.trace(pair.cov1)),
            "map_spectrum_min": float(spectrum[0]),
            "map_spectrum_max": float(spectrum[-1]),
            "pool": self.config.pool,
            "test_points": TEST_POINTS,
        }
        return GaussianInstance(Problem(source, target, cost, device, dtype), test, pair, exact, facts)

    def describe(self) -> str:
        """Return dimension, pair and pool in a few words."""
        config = self.config
        pair = "released pair" if config.pair == "released" else f"generated pair {config.pair}"
        if config.file is not None:
            pair = f"pair of {Path(config.file).name}"
        cost = f", cost {self._cost().name}" if config.omega else ""
        return f"d = {self._pair.dim}, {pair}{cost}, {pool_in_words(config.pool)}{self.pool_words()}"

    def published(self) -> Published | None:
        """Published rows were measured on the released pairs with pools of 100 000."""
        config = self.config
        if (config.file, config.pair, config.pool, config.omega) == (None, "released", PUBLISHED_POOL, None):
            return Published("gaussian", {"dim": self._dim()})
        return None

    def _cost(self) -> Cost:
        return HarmonicCost(self.config.omega) if self.config.omega else QuadraticCost()

    def _dim(self) -> int:
        return 2 if self.config.dim is None else self.config.dim

    @functools.cached_property
    def _pair(self) -> GaussianPair:
        config, dim = self.config, self._dim()
        if config.file is not None:
            path = typed_path(config.file, "task gaussian: file")
        elif config.pair == "released":
            if dim not in RELEASED:
                known = ", ".join(map(str, RELEASED))
                raise UsageError(
                    f"task gaussian: dim={dim}: released pairs exist for dim = {known}; "
                    "take one of these, or a generated pair (pair=0), which exists for any dim"
                )
            path = locate(_released(dim), self.data_dir)
        else:
            return generate_pair(dim, int(config.pair))
        # room for two covariances and two means of the largest dimension, in 16-byte floats, and their headers
        largest = 2 * 16 * MAX_DIM * (MAX_DIM + 1) + 2**16
        arrays = load_npz(path, ("Sigma0", "Sigma1"), optional=("mean0", "mean1"), max_bytes=largest)
        pair = checked_pair(arrays, origin=str(path))
        if pair.dim > MAX_DIM:
            raise DataError(f"{path}: dimension {pair.dim} is above {MAX_DIM}, the largest of this task")
        if config.dim not in (None, pair.dim):
            raise DataError(
                f"{path}: mismatched dimensions: the file holds a pair with d = {pair.dim}, but dim={config.dim} was "
                "asked for; leave dim out, it follows the file"
            )
        return pair

    def _measure(self, law: _Law, seed: int, device: torch.device, dtype: torch.dtype) -> Measure:
        mean, cov = law
        standard = not mean.any() and np.array_equal(cov, np.eye(len(mean)))
        if self.config.pool != "fresh":
            x = _draw(law, int(self.config.pool), seed).to(device, dtype)
            return PoolMeasure(x, is_standard_normal=standard)
        factor = torch.from_numpy(np.linalg.cholesky(cov)).to(device, dtype)
        sampler = functools.partial(_sample, factor, torch.from_numpy(mean).to(device, dtype))
        return FreshMeasure(mean.shape, sampler, is_standard_normal=standard)


_Array = NDArray[np.float64]
_Law = tuple[_Array, _Array]
"""Mean, shape (d,), and covariance, shape (d, d)."""


def _released(dim: int) -> RemoteFile:
    name = f"{dim}D_Test_Distributions.npz"  # two (dim, dim) arrays of float64 and their headers
    return RemoteFile(_URL + name, RELEASED[dim], (f"gaussian_pairs/{name}", name), size=2 * 8 * dim**2 + 510)


def _draw(law: _Law, n: int, seed: int) -> Tensor:
    """Return `n` points of N(mean, cov), shape (n, d), float64, on the CPU; in chunks, to hold one copy only."""
    mean, cov = (torch.from_numpy(array) for array in law)
    factor = torch.linalg.cholesky(cov)
    generator = torch.Generator().manual_seed(seed)
    x = torch.empty(n, len(mean), dtype=torch.float64)
    for start in range(0, n, _CHUNK):
        part = x[start : start + _CHUNK]
        part.copy_(torch.randn(part.shape, generator=generator, dtype=torch.float64) @ factor.T + mean)
    return x


def _sample(factor: Tensor, mean: Tensor, n: int, generator: torch.Generator) -> Tensor:
    """Return `n` points of N(mean, factor factor^T), shape (n, d), on the device of both."""
    z = torch.randn(n, len(mean), generator=generator, device=mean.device, dtype=mean.dtype)
    return z @ factor.T + mean


def _affine(x: Tensor, matrix: _Array, offset: _Array) -> Tensor:
    return x @ torch.from_numpy(matrix).T + torch.from_numpy(offset)
