"""Task `convex`: scores of the truth, of what is not, and what is said of parameters that make no sense."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from otbench.config import build_config
from otbench.datasets.convex import Convex, ConvexConfig, ConvexInstance
from otbench.datasets.convex.pairs import sample
from otbench.datasets.convex.sources import Normal, Source, Student
from otbench.errors import UsageError
from otbench.ops.points import fixed_rows
from otbench.problem import FreshMeasure, PoolMeasure
from otbench.task import TIMES, Outputs, Way

CPU = torch.device("cpu")
Cli = Callable[..., tuple[int, str, str]]


def task(**values: object) -> Convex:
    made = Convex(build_config(ConvexConfig, {"pool": 500} | values, owner="task convex"))  # type: ignore[arg-type]
    made.check()
    return made


def build(seed: int = 0, dtype: torch.dtype = torch.float64, **values: object) -> ConvexInstance:
    return task(**values).build(seed=seed, device=CPU, dtype=dtype)


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"family": "laguerre", "dim": 3, "source": "t"},
        {"family": "ridge-hard", "dim": 3, "source": "mixture"},
        {"cost": "power", "p": 1.5},
        {"cost": "power", "p": 4, "source": "t", "nu": 30, "dim": 5},
    ],
)
def test_exact_maps_and_densities_score_zero(values: dict[str, object]) -> None:
    instance = build(**values)
    pair, x, y = instance._pair, instance.test.source.x, instance.test.target.x
    rows = fixed_rows(len(y), 1000)
    forward, backward = pair.transport(x), pair.transport.inverse(y)
    assert not backward.isnan().any()
    paths = torch.stack([torch.lerp(x, forward, t) for t in TIMES])
    way = Way(torch.arange(len(x)), paths, (forward - x).expand(5, -1, -1), torch.zeros_like(instance.waypoints()))
    outputs = Outputs(forward, backward, x, pair.target_log_density(y[rows]), forward_mean=forward, way=way)
    scores = instance.score(outputs)
    for name in ("uvp_fwd", "uvp_mean", "uvp_bwd", "inverse_gap", "cost_gap", "nll_gap", "monge_ampere", "nll_missing"):
        assert abs(scores[name]) < 1e-5, name
    for name in ("uvp_quarter", "uvp_half", "uvp_three_quarters"):
        assert scores[name] < 1e-10
    assert scores["action_ratio"] == pytest.approx(1)
    assert scores["continuity"] < 0.1  # of the quadrature
    assert scores["velocity_error"] == pytest.approx(100)  # it stands still
    assert scores["cosine_fwd"] == pytest.approx(1)
    assert scores["cosine_bwd"] == pytest.approx(1)
    assert scores["cost"] == pytest.approx(float(str(instance.facts["exact_cost"])), rel=0.1)
    assert scores.keys() == {metric.name for metric in Convex.metrics}


def test_a_worse_density_has_a_gap_and_a_residual() -> None:
    instance = build()
    y = instance.test.target.x
    off = instance._pair.target_log_density(y) - 0.5
    scores = instance.score(Outputs(instance.test.source.x, log_prob=off))
    assert scores["nll_gap"] == pytest.approx(0.5, abs=1e-6)
    assert scores["monge_ampere"] == pytest.approx(0.5, abs=1e-6)
    off[: len(off) // 2] = math.nan
    assert instance.score(Outputs(instance.test.source.x, log_prob=off)).keys() >= {"nll_missing"}
    assert "nll_gap" not in instance.score(Outputs(instance.test.source.x, log_prob=off))


def test_identity_and_constant_have_their_values() -> None:
    instance = build(family="lse-mid", dim=8)
    x, y = instance.test.source.x, instance.test.target.x
    scores = instance.score(Outputs(x, y, x))
    assert scores["uvp_fwd"] == pytest.approx(43.2, rel=0.03)
    assert scores["cost_gap"] == pytest.approx(-100, rel=0.03)
    assert "cosine_fwd" not in scores
    assert instance.score(Outputs(torch.zeros_like(x)))["uvp_fwd"] == pytest.approx(100, rel=0.03)


@pytest.mark.parametrize("p", [1.5, 3.0, 4.0])
@pytest.mark.parametrize("source", ["normal", "t"])
def test_the_exact_power_cost_is_the_mean_over_many_points(p: float, source: str) -> None:
    # under t(5), |x - T(x)|^4 has no variance to speak of
    instance = build(cost="power", p=p, source=source, dim=3, **({"nu": 30} if source == "t" else {}))
    law: Source = Normal(3) if source == "normal" else Student(3, 30.0)
    x = sample(law, 2**17, 5)
    mean = float(instance.problem.cost(x, instance._pair.transport(x)).mean())
    assert instance.facts["exact_cost"] == pytest.approx(mean, rel=0.05)
    assert instance.problem.cost.name == f"power {p:g}"


def test_the_exact_quadratic_cost_of_a_product_is_half_of_w2_squared() -> None:
    facts = build(family="product", dim=4).facts
    assert facts["w2_squared"] == pytest.approx(2 * float(str(facts["exact_cost"])))
    assert facts["w2_squared"] == pytest.approx(build(family="product", dim=4)._pair.w2_squared, rel=0.02)


def test_no_rearrangement_within_a_coordinate_is_cheaper_under_a_power_cost() -> None:
    instance = build(cost="power", p=3, dim=2)
    x = sample(Normal(2), 200, 1)
    y = instance._pair.transport(x)
    best = float(instance.problem.cost(x, y).mean())
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        other = y[torch.randperm(len(y), generator=generator)]
        assert float(instance.problem.cost(x, other).mean()) > best


def test_fresh_samples_and_pools_have_the_same_law() -> None:
    fresh, pool = build(pool="fresh"), build(pool=20_000)
    assert isinstance(fresh.problem.target, FreshMeasure)
    assert isinstance(pool.problem.target, PoolMeasure)
    assert fresh.problem.source.is_standard_normal
    assert not fresh.problem.target.is_standard_normal
    drawn = fresh.problem.target.sample(20_000, generator=torch.Generator().manual_seed(1)).x
    for x, y in ((drawn, pool.problem.target.pool), (drawn.abs(), pool.problem.target.pool.abs())):
        assert torch.allclose(x.mean(0), y.mean(0), atol=0.04)
    assert not build(source="t", pool="fresh").problem.source.is_standard_normal


def test_pools_pair_no_points_of_the_two_sides() -> None:
    instance = build()
    source, target = instance.problem.source.pool, instance.problem.target.pool
    assert source is not None
    assert target is not None
    assert float((instance._pair.transport(source) - target).norm(dim=1).min()) > 1e-6


def test_describe_says_what_it_is_and_whose_class_the_truth_is_in() -> None:
    assert task(dim=8, pool=100_000).describe() == (
        "lse-mid, d = 8, pair 0, normal source, pool 100 000, truth is a mean of lightsb for one eps"
    )
    assert task(family="ridge-mid", tau=0.1, pool="fresh", source="t").describe() == (
        "ridge-mid, tau = 0.1, d = 2, pair 0, t(5) source, fresh samples, truth is a softplus ICNN"
    )
    assert "product, d = 2, pair 1, normal source, cost power 1.5, " in task(cost="power", p=1.5, pair=1).describe()


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"family": "lse-medium"}, "family='lse-medium'"),
        ({"family": "tail", "tau": 0.1}, "has no parameter 'tau'; its parameters: beta, stretched"),
        ({"family": "laguerre", "tau": 0.1}, "has no parameter 'tau'"),
        ({"tau": 0}, "tau=0"),
        ({"curvature": -1}, "curvature=-1"),
        ({"atoms": 1}, "atoms=1"),
        ({"family": "tail", "stretched": 3}, "stretched=3 is above dim=2"),
        ({"family": "tail", "source": "t"}, "no mean after sinh; use source=normal or mixture"),
        ({"family": "product", "source": "mixture"}, "independent coordinates; use source=normal or t"),
        ({"source": "cauchy"}, "source='cauchy'"),
        ({"source": "t", "nu": 4.9}, "nu=4.9"),
        ({"nu": 7}, "belongs to source=t"),
        ({"dim": 0}, "dim=0"),
        ({"dim": 4096}, "dim=4096"),
        ({"pair": -1}, "pair=-1"),
        ({"pool": 1}, "use 'fresh' or a whole number from 2"),
        ({"pool": "many"}, "use 'fresh' or a whole number from 2"),
        ({"dim": 32, "pool": 32}, "pool=32 is too small for dim=32"),
        ({"dim": 1024, "family": "ridge-mid", "ridges": 17}, "give at most 16 at this dim"),
        ({"cost": "power", "p": 2}, "p=2: use one of 1.5, 3, 4"),
        ({"p": 3}, "belongs to cost=power"),
        ({"cost": "power", "family": "lse-mid"}, "use family=product with cost=power"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_message(values: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError) as caught:
        task(**values)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("task_words", "names"),
    [("convex[family=lse-medium]", "lse-medium"), ("convex[source=t,nu=3]", "nu"), ("convex[cost=power,p=2]", "p=")],
)
def test_the_program_refuses_with_exit_code_2(task_words: str, names: str, cli: Cli, tmp_path: Path) -> None:
    code, out, err = cli("--solvers", "identity", "--task", task_words, "--out", tmp_path / "results", "--dry-run")
    assert code == 2, out + err
    assert len(err.splitlines()) == 1
    assert names in err
    assert "Traceback" not in err


def test_a_typed_cost_takes_the_place_of_the_presets_family(cli: Cli, tmp_path: Path) -> None:
    code, out, err = cli(
        "--solvers", "identity", "--task", "convex[cost=power,p=1.5|3]", "--out", tmp_path / "results", "--dry-run"
    )
    assert code == 0, err
    assert "power" in out + err
