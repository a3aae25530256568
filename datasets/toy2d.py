"""Points in the plane: transport that can be looked at, with and without classes; exact discrete plans as reference.

Class-conditional sets: each class is one cluster, N(centre, 0.05^2), on the unit circle, and goes to its own target
cluster. After Park et al. (arXiv 2605.10792, B.1.3), who do not print radii and angles; those here are ours.

* `crossed-ring`: clusters at 135 and 225 degrees go to 315 and 45: through the middle, where the ways cross.
* `horizontal-swap`: clusters at (-1, 0) and (1, 0) change places.
* `four-mode-ring`: clusters at 0, 90, 180 and 270 degrees turn by 45.

Sets without classes: N(0, I) to the toy densities of Grathwohl et al. (FFJORD, arXiv 1810.01367) and Onken et al.
(OT-Flow, arXiv 2006.00104), with their scales.

The reference is the exact discrete plan between the held-out samples (class by class), by POT, of the cost that is
asked for: |x - y|^2 / 2, or sum_i |x_i - y_i|^p / p with `cost=power`. The rows `emd` and `emd_class`, which always
stand in the table, are such plans between the pools. Random streams are those
of the Gaussian task: CPU, float64, seeded by one word of `np.random.SeedSequence([role, side, number, set])`.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np
import ot
import torch
from numpy.typing import NDArray
from torch import Tensor

from otbench.config import Value
from otbench.datasets._cost import CostName, chosen_cost
from otbench.datasets._toy_densities import DENSITIES, normal, polar, uniform
from otbench.metrics.class_energy import class_energy
from otbench.metrics.discrete import plan_cost
from otbench.metrics.monotone import monotone_violations
from otbench.ops.energy import energy_distance
from otbench.picture import POINTS, Picture
from otbench.problem import Batch, Cost, PoolMeasure, Problem
from otbench.task import Config, Field, Instance, Metric, Outputs, Task, TestData, register_task

TEST_POINTS = 2000
"""Held-out points on each side."""
CLASS_POOL, POOL = 1000, 50_000
"""Training points of a class, and of a set without classes, where nobody sets a number."""
STD = 0.05
"""Standard deviation of a cluster, in each coordinate."""
PROJECTIONS = 256
_POOL, _TEST, _PROJECTIONS = 2, 3, 4
_HOST = torch.device("cpu")

RINGS: dict[str, tuple[Sequence[float], Sequence[float]]] = {
    "crossed-ring": ((135, 225), (315, 45)),
    "horizontal-swap": ((180, 0), (0, 180)),
    "four-mode-ring": ((0, 90, 180, 270), (45, 135, 225, 315)),
}
"""Places of the classes on the unit circle, source and target, in degrees."""


class Toy2DConfig(Config):
    """Parameters of the planar task."""

    set: Literal[
        "crossed-ring",
        "horizontal-swap",
        "four-mode-ring",
        "8gaussians",
        "swissroll",
        "circles",
        "moons",
        "rings",
        "pinwheel",
        "2spirals",
        "checkerboard",
    ] = Field("crossed-ring", "the set of points")
    cost: CostName = Field("quadratic", "the cost")
    p: float | None = Field(None, "exponent of cost=power; left out: 3", gt=1, le=10)
    pool: int | None = Field(
        None, "training points on each side; left out: 1000 per class, or 50 000 without classes", ge=8, le=10**7
    )
    pool_seed: int | None = Field(None, "seed of the training pools; left out: the run's seed", ge=0, lt=10**9)


class Toy2DInstance(Instance):
    """One set with its pools, its test data and the cost of exact discrete transport between the latter."""

    def __init__(self, problem: Problem, test: TestData, facts: dict[str, Value], cost: float) -> None:
        """Hold the parts; `cost` is that of the exact plan between the test points."""
        self.problem, self.test, self.facts = problem, test, facts
        self._cost = cost

    def score(self, outputs: Outputs) -> dict[str, float]:
        """Return the metrics by name; a set without classes counts as one class.

        `cost_gap` is |cost of T - cost of the exact plan| / the latter, both on the test points (%): a map may also be
        too cheap, when it does not arrive. Turned pairs are counted for the quadratic cost, whose optimal map has none.
        Energy distances are unbiased, 0 on average for two samples of one law; the level of sliced W2 is among the
        facts.
        """
        source, target = (_on(side, _HOST, torch.float64) for side in (self.test.source, self.test.target))
        forward = Batch(outputs.forward.cpu().double(), source.label)
        ground = self.problem.cost
        cost = float(ground(source.x, forward.x).mean())
        scores = {
            **_distances(forward.x, target.x, "fwd"),
            "cost": cost,
            "cost_gap": 100 * abs(cost - self._cost) / self._cost,
            "class_energy": class_energy(forward, target),
        }
        if ground.name == "quadratic":
            scores["monotone_violations"] = monotone_violations(source.x, forward.x, source.label)
        if outputs.backward is not None:
            scores |= _distances(outputs.backward.cpu().double(), source.x, "bwd")
        if outputs.roundtrip is not None:
            scores["inverse_gap"] = float((outputs.roundtrip.cpu().double() - source.x).square().sum(1).mean())
        return scores

    def pictures(self, outputs: Outputs) -> Sequence[Picture]:
        """Return the transport lines of the test points."""
        source = self.test.source
        label = torch.zeros(len(source.x), dtype=torch.int64) if source.label is None else source.label
        names = tuple(f"class {k}" for k in range(self.problem.classes))
        points = {"source": source.x, "mapped": outputs.forward, "target": self.test.target.x}
        shown = {name: x.float() for name, x in points.items()} | {"label": label}
        arrows = {name: part[:POINTS].cpu().numpy() for name, part in shown.items()}
        return (Picture("transport", "arrows", f"{self.facts['set']}: where the map sends points", arrows, names),)


@register_task(
    "toy2d",
    config=Toy2DConfig,
    reference="Park, Gelphman, Osher, Wu Fung, arXiv 2605.10792, B.1.3 (classes); Onken, Wu Fung, Li, Ruthotto, "
    "OT-Flow, AAAI 2021, arXiv 2006.00104 (densities)",
    presets={
        "smoke": {"set": ["crossed-ring"]},
        "quick": {"set": list(RINGS)},
        "full": {"set": [*RINGS, *DENSITIES]},
        "paper": {"set": list(RINGS)},
    },
)
class Toy2D(Task[Toy2DConfig]):
    """Clusters and toy densities in the plane: maps that can be looked at, class by class where there are classes."""

    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("sliced_w2_fwd", "sliced W2 fwd", "data units", primary=True),
        Metric("cost_gap", "cost gap", "%", primary=True),
        Metric("monotone_violations", "turned pairs", "%", primary=True),
        Metric("class_energy", "class energy", "data units", primary=True, flag_worse=True),
        Metric("sliced_w2_bwd", "sliced W2 bwd", "data units"),
        Metric("energy_fwd", "energy fwd", "data units"),
        Metric("energy_bwd", "energy bwd", "data units"),
        Metric("cost", "cost"),  # its unit is that of its exponent
        Metric("inverse_gap", "|S(T(x))-x|^2", "data units^2"),
    )

    def controls(self) -> tuple[str, ...]:
        """Return the rows of exact discrete transport between the pools and, with classes, of one linear map each."""
        return ("emd_class", "classwise_linear") if self._classes() else ("emd",)

    def build(self, *, seed: int, device: torch.device, dtype: torch.dtype) -> Toy2DInstance:
        """Make the instance: pools from `seed`, test data from their own."""
        name, classes, pool, seed = self.config.set, self._classes(), self._pool(), self.pool_seed(seed)
        pools = [_draw(name, side, pool, _seed(_POOL, side, seed, _number(name))) for side in (0, 1)]
        tests = [_draw(name, side, TEST_POINTS, _seed(_TEST, side, 0, _number(name))) for side in (0, 1)]
        again = _draw(name, 1, TEST_POINTS, _seed(_TEST, 1, 1, _number(name)))
        ground = self._cost()
        cost = exact_cost(tests[0], tests[1], ground)
        # what a perfect map gets: another sample of the target against the test points
        floor = _sliced(again.x, tests[1].x)
        facts: dict[str, Value] = {
            "set": name,
            "classes": classes,
            "exact_cost": cost,
            "sliced_w2_floor": floor,
            "pool": pool,
            "test_points": TEST_POINTS,
        }
        source, target = (
            PoolMeasure(side.x, label=side.label, classes=classes, is_standard_normal=not classes and number == 0)
            for number, side in enumerate(_on(side, device, dtype) for side in pools)
        )
        test = TestData(*(_on(side, device, dtype) for side in tests))
        return Toy2DInstance(Problem(source, target, ground, device, dtype), test, facts, cost)

    def describe(self) -> str:
        """Return set, classes and pool in a few words."""
        classes = self._classes()
        kind = f"{classes} classes" if classes else "no classes"
        pool = f"{self._pool():,}".replace(",", " ")
        cost = self._cost().name
        said = "" if cost == "quadratic" else f", cost {cost}"
        return f"{self.config.set}, {kind}, pool {pool}{said}{self.pool_words()}"

    def check(self) -> None:
        """See that the parameters of the cost fit each other.

        Raises:
            UsageError: an exponent is set for the quadratic cost.
        """
        self._cost()

    def _cost(self) -> Cost:
        return chosen_cost(self.config.cost, self.config.p, owner="task toy2d")

    def _classes(self) -> int:
        return len(RINGS[self.config.set][0]) if self.config.set in RINGS else 0

    def _pool(self) -> int:
        return self.config.pool or CLASS_POOL * self._classes() or POOL


def exact_cost(source: Batch, target: Batch, ground: Cost) -> float:
    """Return the cost of the exact discrete plan: class by class, each with its share of the source."""
    if source.label is None or target.label is None:
        return plan_cost(source.x, target.x, ground.exponent)
    total = 0.0
    for k in sorted(set(source.label.tolist())):
        x, y = source.x[source.label == k], target.x[target.label == k]
        total += len(x) / len(source.x) * plan_cost(x, y, ground.exponent)
    return total


@functools.cache
def _directions() -> NDArray[np.float64]:
    """Return the directions of sliced distances, as columns (2, PROJECTIONS), the same for all sets."""
    generator = torch.Generator().manual_seed(_seed(_PROJECTIONS, 0, 0, 0))
    return polar(1, math.pi * uniform(PROJECTIONS, generator)).T.numpy()


def _distances(image: Tensor, aim: Tensor, direction: str) -> dict[str, float]:
    energy = float(energy_distance(image, aim, unbiased=True))
    return {f"sliced_w2_{direction}": _sliced(image, aim), f"energy_{direction}": energy}


def _sliced(x: Tensor, y: Tensor) -> float:
    return float(ot.sliced_wasserstein_distance(x.numpy(), y.numpy(), projections=_directions()))


def _draw(name: str, side: int, n: int, seed: int) -> Batch:
    """Return `n` points of one side of a set, classes taking turns, float64, on the CPU."""
    generator = torch.Generator().manual_seed(seed)
    if name in RINGS:
        angles = torch.tensor(RINGS[name][side], dtype=torch.float64).deg2rad()
        label = torch.arange(n) % len(angles)
        return Batch(polar(1, angles)[label] + STD * normal(n, generator), label)
    return Batch(DENSITIES[name](n, generator) if side else normal(n, generator))


def _number(name: str) -> int:
    return [*RINGS, *DENSITIES].index(name)


def _seed(role: int, side: int, number: int, which: int) -> int:
    return int(np.random.SeedSequence([role, side, number, which]).generate_state(1)[0])


def _on(side: Batch, device: torch.device, dtype: torch.dtype) -> Batch:
    return Batch(side.x.to(device, dtype), None if side.label is None else side.label.to(device))
