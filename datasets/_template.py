r"""Template: copy this file to `datasets/mine.py`, rename, and change what your task is. It runs as it stands.

The task here is small but real. Coordinates of X are independent and uniform on [0, 1], and Y is X with each coordinate
raised to a power k. A map that is increasing in each coordinate is optimal for the quadratic cost, so

$$T^*(x)_i = x_i^k, \qquad S^*(y)_i = y_i^{1/k}, \qquad
\frac{W_2^2}{2} = \frac{d}{2} \Big( \frac13 - \frac{2}{k + 2} + \frac{1}{2k + 1} \Big).$$

In your own file, say in this place: where the data come from, what is known of the truth, and what each seed draws.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from otbench.config import Value
from otbench.datasets._draws import stream_seed
from otbench.metrics.known_map import KNOWN_MAP_METRICS, KnownMaps
from otbench.problem import Batch, PoolMeasure, Problem, QuadraticCost
from otbench.task import Config, Field, Instance, Metric, Outputs, Task, TestData, register_task

TEST_POINTS = 2**14
_POOL, _TEST = 0, 1
"""What a stream of random numbers is for: training pools follow the seed of the run, test data never do."""


class TemplateConfig(Config):
    """Parameters: each with type, default, meaning, bounds and unit. `otbench show` and `--task` read them here."""

    dim: int = Field(2, "number of coordinates", ge=1, le=256)
    power: float = Field(2.0, "exponent of each coordinate", gt=0, le=10)
    pool: int = Field(20_000, "training points on each side", unit="points", ge=2, le=10**7)
    pool_seed: int | None = Field(None, "seed of the training pools; left out: the run's seed", ge=0, lt=10**9)


class TemplateInstance(Instance):
    """What a solver gets (`problem`), what it is scored on (`test`), and the truth, which stays here."""

    def __init__(self, problem: Problem, test: TestData, known: KnownMaps, facts: dict[str, Value]) -> None:
        """Hold the parts. Nothing that `problem` holds may lead to the others."""
        self.problem, self.test, self.facts, self._known = problem, test, facts, known

    def score(self, outputs: Outputs) -> dict[str, float]:
        """Return metrics by name; what does not apply, as scores of a way back that there is not, is left out."""
        return self._known.scores(outputs)


@register_task(
    "template",  # what a user types; must be a plain string
    config=TemplateConfig,
    reference="none: increasing maps of one coordinate are optimal",
    presets={
        "smoke": {},  # seconds, for CI
        "quick": {"dim": [2, 8]},  # the default; a list is a grid
        "full": {"dim": [2, 8, 32], "pool": 100_000},
    },
)
class Template(Task[TemplateConfig]):
    """Powers of uniform coordinates, where the exact maps are known."""

    metrics: ClassVar[tuple[Metric, ...]] = KNOWN_MAP_METRICS

    def build(self, *, seed: int, device: torch.device, dtype: torch.dtype) -> TemplateInstance:
        """Make the instance: pools from `seed`, test data from their own."""
        config, k = self.config, self.config.power
        seed = self.pool_seed(seed)  # the parameter `pool_seed`, where it is given
        x, y = self._draw(_POOL, 0, seed, config.pool), self._draw(_POOL, 1, seed, config.pool) ** k
        test_x, test_y = self._draw(_TEST, 0, 0, TEST_POINTS), self._draw(_TEST, 1, 0, TEST_POINTS) ** k
        cost = config.dim / 2 * (1 / 3 - 2 / (k + 2) + 1 / (2 * k + 1))
        known = KnownMaps(
            x=test_x,
            forward=test_x**k,
            y=test_y,
            backward=test_y ** (1 / k),
            variances=(config.dim / 12, config.dim * (1 / (2 * k + 1) - 1 / (k + 1) ** 2)),
            cost=cost,
            ground=QuadraticCost(),
        )
        source, target = (PoolMeasure(points.to(device, dtype)) for points in (x, y))
        test = TestData(Batch(test_x.to(device, dtype)), Batch(test_y.to(device, dtype)))
        facts: dict[str, Value] = {"dim": config.dim, "exact_cost": cost, "pool": config.pool}
        return TemplateInstance(Problem(source, target, QuadraticCost(), device, dtype), test, known, facts)

    def describe(self) -> str:
        """Return the instance in a few words, for the head of a table."""
        config = self.config
        pool = f"{config.pool:,}".replace(",", " ")
        return f"d = {config.dim}, power {config.power:g}, pool {pool}{self.pool_words()}"

    def _draw(self, role: int, side: int, number: int, n: int) -> Tensor:
        """Return `n` uniform points, shape (n, d), float64, on the CPU, so that all devices see the same ones."""
        generator = torch.Generator().manual_seed(stream_seed(role, side, number))
        return torch.rand(n, self.config.dim, dtype=torch.float64, generator=generator)
