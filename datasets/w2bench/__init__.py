"""The Wasserstein-2 benchmark of Korotin et al.: official pairs whose exact map is curved, and known.

Source P: a mixture of three Gaussians. Target Q = T*#P with T* the gradient of a convex potential, the sum of two that
the authors fitted to mixtures of ten Gaussians. So T* is optimal for the quadratic cost, and both directions are known
on every point that is drawn as a pair (x, T*(x)); nothing is ever inverted. Construction:
`otbench.datasets.w2bench.pair`.

Random streams: test data and pools come from a CPU generator in float64 and are cast and moved then; its seed is
`stream_seed(role, side, number)` with number = the run's seed, or `pool_seed`, for training pools (role 0), the
dimension for test data (role 1). Fresh points are drawn with the solver's generator, on the device, in its dtype.

A sampler of T*#P has to hold T*. So with `pool=fresh` the exact map can be reached from the problem by a plugin that
goes looking for it; solvers call `sample()` and nothing else.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import ClassVar

import torch
from pydantic import field_validator
from pydantic_core import PydanticCustomError
from torch import Tensor

from otbench.config import Value
from otbench.data.sources import DataSource
from otbench.datasets._draws import FRESH, PoolSize, pool_in_words, stream_seed
from otbench.datasets.w2bench.files import DIMS, PotentialSource, load_pair, potential_files
from otbench.datasets.w2bench.pair import Mixture, Pair, Pushed, official_pair
from otbench.errors import UsageError
from otbench.metrics.known_map import KNOWN_MAP_METRICS, KnownMaps
from otbench.problem import Batch, FreshMeasure, Measure, PoolMeasure, Problem, QuadraticCost
from otbench.task import Config, Field, Instance, Metric, Outputs, Published, Task, TestData, register_task

TEST_POINTS = 2**14
_POOL, _TEST = 0, 1


class W2BenchConfig(Config):
    """Parameters of the Wasserstein-2 benchmark."""

    dim: int = Field(2, f"number of coordinates: {', '.join(map(str, DIMS))}")
    pool: PoolSize = Field(FRESH, "training points on each side, or 'fresh' for new ones at every draw, as published")
    pool_seed: int | None = Field(None, "seed of the training pools; left out: the run's seed", ge=0, lt=10**9)

    @field_validator("dim")
    @classmethod
    def _dim(cls, value: int) -> int:
        if value not in DIMS:
            raise PydanticCustomError("dim", f"there are official pairs for {', '.join(map(str, DIMS))}; use one")
        return value


class W2BenchInstance(Instance):
    """One official pair with its training data and its test data."""

    scores_mean = True

    def __init__(self, problem: Problem, test: TestData, known: KnownMaps, facts: dict[str, Value]) -> None:
        """Hold the parts."""
        self.problem = problem
        self.test = test
        self.facts = facts
        self._known = known

    def score(self, outputs: Outputs) -> dict[str, float]:
        """Return the metrics by name; see `KnownMaps.scores`."""
        return self._known.scores(outputs)


@register_task(
    "w2bench",
    config=W2BenchConfig,
    reference="Korotin, Li, Genevay, Solomon, Filippov, Burnaev, Do Neural Optimal Transport Solvers Work? "
    "A Continuous Wasserstein-2 Benchmark, NeurIPS 2021, arXiv 2106.01954; "
    "potentials: https://github.com/iamalexkorotin/Wasserstein2Benchmark at 647a1ac",
    presets={
        "smoke": {"dim": [2]},
        "quick": {"dim": [2, 16]},
        "full": {"dim": [2, 4, 16, 64]},
        "paper": {"dim": list(DIMS)},
    },
)
class W2Bench(Task[W2BenchConfig]):
    """Mixture of Gaussians to its image under a curved map that is known: ranks solvers where linear maps fail."""

    metrics: ClassVar[tuple[Metric, ...]] = KNOWN_MAP_METRICS

    @classmethod
    def sources(cls) -> Sequence[DataSource]:
        """Return the potentials."""
        return [PotentialSource()]

    def check(self) -> None:
        """Read the potentials, and compute the moments that the exact map is scaled by, unless they are kept.

        Raises:
            UsageError: the pool has no more points than these have coordinates.
            DataError: a file is missing and cannot be downloaded, or is not what it should be.
            StoreError: the moments cannot be kept.
        """
        dim, pool = self.config.dim, self.config.pool
        if pool != FRESH and int(pool) <= dim:
            raise UsageError(
                f"task w2bench: pool={pool} is too small for dim={dim}: covariances need more points than coordinates; "
                f"use {dim + 1} or more, or 'fresh'"
            )
        _ = self._pair

    def build(self, *, seed: int, device: torch.device, dtype: torch.dtype) -> W2BenchInstance:
        """Make the instance: pools from `seed`, test data from their own."""
        pair, dim = self._pair, self.config.dim
        x, hidden = (_drawn(pair.source, TEST_POINTS, stream_seed(_TEST, side, dim)) for side in (0, 1))
        test = TestData(*(Batch(points.to(device, dtype)) for points in (x, pair.truth(hidden))))
        seen, mapped = (batch.x.cpu().double() for batch in (test.source, test.target))
        known = KnownMaps(
            x=seen,
            forward=pair.truth(seen),
            y=mapped,
            backward=hidden,
            variances=(dim, dim),
            cost=pair.w2_squared / 2,
            ground=QuadraticCost(),
        )
        facts: dict[str, Value] = {
            "dim": dim,
            "w2_squared": pair.w2_squared,
            "exact_cost": pair.w2_squared / 2,
            "trace0": dim,
            "trace1": dim,
            "map_scale": pair.truth.scale,
            "moment_samples": pair.moment_samples,
            "pool": self.config.pool,
            "test_points": TEST_POINTS,
        }
        source, target = self._measures(pair, self.pool_seed(seed), device, dtype)
        return W2BenchInstance(Problem(source, target, QuadraticCost(), device, dtype), test, known, facts)

    def describe(self) -> str:
        """Return dimension, pair and pool in a few words."""
        return f"d = {self.config.dim}, official pair, {pool_in_words(self.config.pool)}{self.pool_words()}"

    def published(self) -> Published | None:
        """Published rows were all measured with fresh samples."""
        return Published("w2bench", {"dim": self.config.dim}) if self.config.pool == FRESH else None

    @functools.cached_property
    def _pair(self) -> Pair:
        potentials = load_pair(self.config.dim, self.data_dir)
        return official_pair(potentials, [str(file.checksum) for file in potential_files(self.config.dim)])

    def _measures(self, pair: Pair, seed: int, device: torch.device, dtype: torch.dtype) -> tuple[Measure, Measure]:
        """Return source and target; the points of one side are not the images of those of the other."""
        if self.config.pool == FRESH:
            source = pair.source.to(device, dtype)
            pushed = Pushed(source, pair.truth.to(device, dtype))
            return FreshMeasure((pair.dim,), source), FreshMeasure((pair.dim,), pushed)
        x, hidden = (_drawn(pair.source, int(self.config.pool), stream_seed(_POOL, side, seed)) for side in (0, 1))
        return PoolMeasure(x.to(device, dtype)), PoolMeasure(pair.truth(hidden).to(device, dtype))


def _drawn(source: Mixture, n: int, seed: int) -> Tensor:
    return source(n, torch.Generator().manual_seed(seed))
