r"""Pairs with a known truth that is not Gaussian, in any dimension: T* = grad psi for a closed-form convex psi.

For convex psi and a source P with a density, T* = grad psi is the optimal map of the quadratic cost from P to Q = T*#P
(Brenier). Samples of Q are images of samples of P, the inverse is exact (Newton's method where it has no closed form),
and so are the densities: log q(T*(x)) = log p(x) - log det Hess psi(x).

* `lse-easy`, `lse-mid`, `lse-hard`, `lse-jump`: c |x|^2/2 + s log sum_k exp(<a_k, x>/s), with K atoms in a subspace of
  dimension min(rank, d) and s = tau jump sqrt(2 d). Targets are K shrunk copies of the source, joined by thin bridges.
  The map is the mean of an entropic plan with K Gaussians, so `lightsb` can represent it for one eps, which it is not
  told. It and `ridge` are the only families whose maps are in the class of a solver of otbench.
* `laguerre`: the limit tau -> 0 of these with the parameters of `lse-jump`: a map that jumps.
* `ridge-mid`, `ridge-hard`: c |x|^2/2 + sum_j alpha_j tau softplus((<u_j, x> - t_j)/tau), with 4 d bends. This is an
  input-convex network of one hidden softplus layer, so solvers with such networks can represent the truth exactly,
  where they are wide enough.
* `tail`: t -> sinh(beta t)/beta in rotated coordinates: heavy tails, all moments finite.
* `product`: each coordinate by itself, t -> sinh(delta_i asinh(t) + eps_i). As source and target are then product
  measures, this map is optimal also for `cost=power`, sum_i |x_i - y_i|^p / p with p = 1.5, 3 or 4.

Sources have mean 0 and variance d in total: N(0, I); the three-component mixture of the Wasserstein-2 benchmark;
independent Student's t coordinates, nu >= 5. Targets have the same mean and variance, up to sampling error: T* is
standardised with 2^17 points of a fixed random stream, once for each pair: the numbers are kept in the cache. Pair 0
has the seed 1000 + d (lse, laguerre), 2000 + d (ridge), 3000 + d (tail) or 4000 + d (product), pair k 10 000 k more. A
parameter of a family (`tau=0.1`) makes another pair of it.

Metrics: UVP, cosine and cost gap of both maps against the exact ones, on held-out points. Where the solver has
densities, `nll` is the mean of -log p_T over held-out points of Q, with p_T the density of T#P; `nll gap` is that minus
the same mean for the exact density q, which no density can beat but by sampling error; and `Monge-Ampere` is the root
mean square of log p_T - log q there, in nats. With y = T(x), that is how far the map is from solving the Monge-Ampere
equation log det DT(x) = log p(x) - log q(T(x)), on average over y ~ Q. Solvers without densities of their own have
these three for the normal source only, in at most 64 dimensions, from the Jacobians of their maps.

Random streams are those of the Gaussian task: CPU, float64, seeded by one word of
`np.random.SeedSequence([role, side, number])` with role 5 for pools (number = the run's seed, or `pool_seed`) and 6 for
test points (number = the seed of the pair).
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from pydantic import field_validator
from pydantic_core import PydanticCustomError
from torch import Tensor

from otbench.config import Value
from otbench.datasets._cost import CostName, chosen_cost, of_any_cost
from otbench.datasets._draws import FRESH, PoolSize, pool_in_words, stream_seed
from otbench.datasets.convex.families import FAMILIES
from otbench.datasets.convex.pairs import Drawer, Pair, make_pair, mapped, sample
from otbench.datasets.convex.quadrature import separable_cost
from otbench.datasets.convex.sources import Normal, Source, Student, mixture
from otbench.errors import UsageError
from otbench.metrics.density import mean_nll
from otbench.metrics.known_map import KNOWN_MAP_METRICS, KNOWN_WAY_METRICS, KnownMaps
from otbench.ops.points import fixed_rows
from otbench.problem import Batch, Cost, FreshMeasure, Measure, PoolMeasure, PowerCost, Problem
from otbench.task import Config, Field, Instance, Metric, Outputs, Picture, Task, TestData, register_task

TEST_POINTS = 2**14
POOL = "100000"
MAX_DIM = 1024
MOST_PRODUCTS = 2**24
"""Of a point with the directions of a ridge pair: its standardisation takes 2^17 times as many, some minutes."""
POWERS = (1.5, 3.0, 4.0)
"""Exponents of the power cost."""
_POOL, _TEST = 5, 6
_SPECTRUM_ENTRIES, _SPECTRUM_POINTS = 2**20, 256
_OWN = ("atoms", "jump", "tau", "curvature", "rank", "ridges", "slope", "beta", "stretched", "skew")
"""Parameters that belong to some families only."""


class ConvexConfig(Config):
    """Parameters of the convex task."""

    family: (
        Literal[
            "lse-easy",
            "lse-mid",
            "lse-hard",
            "lse-jump",
            "laguerre",
            "ridge-mid",
            "ridge-hard",
            "tail",
            "product",
        ]
        | None
    ) = Field(None, "family of potentials; left out: lse-mid, or product with cost=power")
    dim: int = Field(2, "number of coordinates", ge=1, le=MAX_DIM)
    pair: int = Field(0, "number of the pair within its family and dimension", ge=0, le=10**5)
    source: Literal["normal", "mixture", "t"] = Field("normal", "the measure that is mapped")
    nu: float | None = Field(None, "degrees of freedom of source=t; left out: 5", ge=5, le=1000)
    cost: CostName = Field("quadratic", "the cost; power with family=product only")
    p: float | None = Field(None, "exponent of cost=power: 1.5, 3 or 4; left out: 3")
    pool: PoolSize = Field(POOL, "training points on each side, or 'fresh' for new ones at every draw")
    pool_seed: int | None = Field(None, "seed of the training pools; left out: the run's seed", ge=0, lt=10**9)
    atoms: int | None = Field(None, "lse, laguerre: number of cells", ge=2, le=512)
    jump: float | None = Field(None, "lse, laguerre: |a_k| is this times sqrt(d)", gt=0, le=100)
    tau: float | None = Field(None, "lse, ridge: width of borders and bends", ge=1e-3, le=100)
    curvature: float | None = Field(None, "lse, laguerre, ridge: c, strong convexity", ge=1e-3, le=100)
    rank: int | None = Field(None, "lse, laguerre: dimension of the atoms' subspace, at most d", ge=1, le=MAX_DIM)
    ridges: int | None = Field(None, "ridge: number of bends over d", ge=1, le=64)
    slope: float | None = Field(None, "ridge: size of the bends", gt=0, le=100)
    beta: float | None = Field(None, "tail: growth of the tails", ge=1e-3, le=1.5)
    stretched: int | None = Field(None, "tail: number of stretched directions; left out: all", ge=1, le=MAX_DIM)
    skew: float | None = Field(None, "product: largest |eps_i|", ge=0, le=4)

    @field_validator("p")
    @classmethod
    def _known(cls, value: float | None) -> float | None:
        if value is not None and value not in POWERS:
            raise PydanticCustomError("power", f"use one of {', '.join(f'{p:g}' for p in POWERS)}")
        return value


@dataclass(frozen=True)
class Setting:
    """What a configuration asks for, once it is known to make sense.

    Attributes:
        family: name of the family.
        values: all parameters of the family.
        changed: those that differ from the family's own, in words.
        cost: the ground cost.
        source: kind of source, in words.
    """

    family: str
    values: dict[str, float]
    changed: tuple[str, ...]
    cost: Cost
    source: str


class ConvexInstance(Instance):
    """One pair with its pools, its exact maps and its test data."""

    scores_mean = True

    def __init__(self, problem: Problem, test: TestData, pair: Pair, preimage: Tensor, facts: dict[str, Value]) -> None:
        """Hold the parts; exact images of the test points are computed here, in float64 on the CPU.

        Args:
            problem: the solver's view.
            test: held-out samples.
            pair: the truth.
            preimage: what T* takes to the test points of the target, shape (m, d), float64.
            facts: for the record; `exact_cost` is that of the whole measures.
        """
        self.problem, self.test, self.facts = problem, test, facts
        self._pair = pair
        x, y = (side.x.cpu().double() for side in (test.source, test.target))
        self._known = KnownMaps(
            x=x,
            forward=mapped(pair.transport, x),
            y=y,
            backward=preimage,
            variances=(float(x.shape[1]), float(x.shape[1])),
            cost=float(str(facts["exact_cost"])),
            ground=problem.cost,
        )

    def score(self, outputs: Outputs) -> dict[str, float]:
        """Return the metrics by name: those of `KnownMaps.scores`, and those of densities where there are any.

        As both measures have variance d in total, d is what UVP is relative to.
        """
        scores = self._known.scores(outputs)
        if outputs.log_prob is not None:
            scores |= self._density_scores(outputs.log_prob.cpu().double())
        return scores

    def pictures(self, outputs: Outputs) -> Sequence[Picture]:
        """Return the way from source to target."""
        return self._known.pictures(outputs)

    def waypoints(self) -> Tensor:
        """Return points of exact paths, no path at two times."""
        return self._known.waypoints().to(self.test.source.x)

    def _density_scores(self, log_prob: Tensor) -> dict[str, float]:
        scores = mean_nll(log_prob)
        if "nll" in scores:
            rows = fixed_rows(len(self._known.y), len(log_prob))
            excess = self._pair.log_density(self._known.backward[rows]) - log_prob
            excess = excess[~excess.isnan()]
            scores["nll_gap"] = float(excess.mean())
            scores["monge_ampere"] = float(excess.square().mean().sqrt())
        return scores


@register_task(
    "convex",
    config=ConvexConfig,
    reference="pairs: ours; truth from convex potentials as in Korotin, Li, Genevay, Solomon, Filippov, Burnaev, Do "
    "Neural Optimal Transport Solvers Work? A Continuous Wasserstein-2 Benchmark, NeurIPS 2021, arXiv 2106.01954",
    presets={
        "smoke": {"family": ["lse-mid"], "dim": [2], "pool": "20000"},
        "quick": {"family": ["lse-mid"], "dim": [2, 8]},
        "full": {"family": ["lse-mid", "lse-hard", "ridge-mid"], "dim": [2, 8, 32]},
        "paper": {"family": ["lse-mid", "lse-hard", "ridge-mid"], "dim": [2, 8, 32]},
    },
    # smooth and sharp bends, in a low and in a middle dimension
    tuning=[
        ({"family": "lse-mid", "dim": 8, "pair": 100}, 100),
        ({"family": "ridge-mid", "dim": 32, "pair": 101}, 101),
    ],
)
class Convex(Task[ConvexConfig]):
    """Curved maps that are known exactly, in any dimension, also for costs |x - y|^p: linear maps fail here."""

    metrics: ClassVar[tuple[Metric, ...]] = (
        *of_any_cost(KNOWN_MAP_METRICS),
        *KNOWN_WAY_METRICS,
        Metric("nll", "NLL", "nats"),
        Metric("nll_gap", "NLL gap", "nats"),
        Metric("monge_ampere", "Monge-Ampere", "nats"),
        Metric("nll_missing", "no density", "share"),
    )
    replaces: ClassVar[dict[str, tuple[str, ...]]] = {"cost": ("family",)}

    def check(self) -> None:
        """Look whether the parameters go together.

        Raises:
            UsageError: they do not.
        """
        _ = self._setting
        dim, pool = self.config.dim, self.config.pool
        if pool != FRESH and int(pool) <= dim:
            raise UsageError(
                f"task convex: pool={pool} is too small for dim={dim}: covariances need more points than coordinates; "
                f"give more than {dim}, or pool=fresh"
            )

    def build(self, *, seed: int, device: torch.device, dtype: torch.dtype) -> ConvexInstance:
        """Make the instance: pools from `seed`, test data from their own.

        Raises:
            UsageError: parameters that do not go together.
            StoreError: the cache, which keeps the standardisation of the pair, cannot be written.
        """
        config, setting, seed = self.config, self._setting, self.pool_seed(seed)
        source = self._source()
        pair = make_pair(setting.family, config.dim, config.pair, setting.values, source, setting.source)
        drawn = FAMILIES[setting.family].seed_of(config.dim, config.pair)
        x, preimage = (sample(source, TEST_POINTS, stream_seed(_TEST, side, drawn)) for side in (0, 1))
        test = TestData(Batch(x.to(device, dtype)), Batch(mapped(pair.transport, preimage).to(device, dtype)))
        measures = [self._measure(pair, side, stream_seed(_POOL, side, seed), device, dtype) for side in (0, 1)]
        low, high = _spectrum(pair, preimage)
        facts: dict[str, Value] = {
            "dim": config.dim,
            "family": setting.family,
            "pair_seed": drawn,
            "pair_sha256": pair.digest,
            "scale": pair.transport.scale,
            "w2_squared": pair.w2_squared,
            "w2_squared_error": pair.w2_squared_error,
            "exact_cost": pair.w2_squared / 2,
            "map_spectrum_min": low,
            "map_spectrum_max": high,
            "pool": config.pool,
            "test_points": TEST_POINTS,
        }
        if setting.family == "product":
            power = setting.cost.exponent if isinstance(setting.cost, PowerCost) else 2.0
            facts |= {
                "w2_squared": 2 * separable_cost(pair, 2.0),
                "w2_squared_error": 0.0,
                "exact_cost": separable_cost(pair, power),
            }
        problem = Problem(measures[0], measures[1], setting.cost, device, dtype)
        return ConvexInstance(problem, test, pair, preimage, facts)

    def describe(self) -> str:
        """Return family, dimension, pair, source, cost and pool in a few words, and whose class the truth is in."""
        config, setting = self.config, self._setting
        words = [", ".join((setting.family, *setting.changed)), f"d = {config.dim}", f"pair {config.pair}"]
        words.append(f"{setting.source} source")
        if setting.cost.name != "quadratic":
            words.append(f"cost {setting.cost.name}")
        words.append(pool_in_words(config.pool))
        return ", ".join(words) + f"{self.pool_words()}, {FAMILIES[setting.family].truth}"

    @functools.cached_property
    def _setting(self) -> Setting:
        config = self.config
        name = config.family or ("product" if config.cost == "power" else "lse-mid")
        family, owner = FAMILIES[name], f"task convex: family={name}"
        given = {key: value for key in _OWN if (value := getattr(config, key)) is not None}
        for key in given:
            if key not in family.values:
                raise UsageError(f"{owner} has no parameter '{key}'; its parameters: {', '.join(family.values)}")
        if config.stretched is not None and config.stretched > config.dim:
            raise UsageError(
                f"{owner}: stretched={config.stretched} is above dim={config.dim}, the number of directions"
            )
        if (ridges := config.ridges or 0) * config.dim**2 > MOST_PRODUCTS:
            raise UsageError(
                f"{owner}: ridges={ridges} at dim={config.dim} are {ridges * config.dim} bends, which take too long to"
                f" standardise; give at most {MOST_PRODUCTS // config.dim**2} at this dim"
            )
        if config.source not in family.sources:
            why = (
                "a Student source has no mean after sinh"
                if name == "tail"
                else "its source must have independent coordinates"
            )
            raise UsageError(f"{owner}: source={config.source}: {why}; use source={' or '.join(family.sources)}")
        if config.nu is not None and config.source != "t":
            raise UsageError(f"task convex: nu={config.nu:g} belongs to source=t, not to source={config.source}")
        if config.cost == "power" and name != "product":
            raise UsageError(
                f"{owner}: its map is optimal for the quadratic cost only; use family=product with cost=power"
            )
        cost = chosen_cost(config.cost, config.p, owner="task convex")
        values = {**family.values, **given}
        changed = tuple(f"{key} = {value:g}" for key, value in given.items() if value != family.values[key])
        kinds = {"normal": "normal", "mixture": "mixture", "t": f"t({self._nu:g})"}
        return Setting(name, values, changed, cost, kinds[config.source])

    @property
    def _nu(self) -> float:
        return self.config.nu or 5.0

    def _source(self) -> Source:
        dim = self.config.dim
        if self.config.source == "mixture":
            return mixture(dim)
        return Normal(dim) if self.config.source == "normal" else Student(dim, self._nu)

    def _measure(self, pair: Pair, side: int, seed: int, device: torch.device, dtype: torch.dtype) -> Measure:
        standard = side == 0 and self.config.source == "normal"
        if self.config.pool == FRESH:
            transport = pair.transport.to(device, dtype) if side else None
            drawer = Drawer(pair.source.to(device, dtype), transport, dtype)
            return FreshMeasure((pair.source.dim,), drawer, is_standard_normal=standard)
        x = sample(pair.source, int(self.config.pool), seed)
        if side:
            x = mapped(pair.transport, x)
        return PoolMeasure(x.to(device, dtype), is_standard_normal=standard)


def _spectrum(pair: Pair, x: Tensor) -> tuple[float, float]:
    """Return the smallest and largest eigenvalue of the map's Jacobian at the first of the points `x`."""
    few = max(1, min(_SPECTRUM_POINTS, _SPECTRUM_ENTRIES // x.shape[1] ** 2))
    values = torch.linalg.eigvalsh(pair.transport.hessian(x[:few]))
    return float(values.min()), float(values.max())
