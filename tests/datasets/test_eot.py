"""Entropic plans in closed form: their marginals, their duality, their scores, and what a user may ask for."""

from __future__ import annotations

import pickle
from typing import Any

import ot
import pytest
import torch
from torch import Tensor

from otbench.config import build_config
from otbench.datasets.eot import CENTRES, DRAWS, EOT, SPREAD, EOTConfig, EOTInstance
from otbench.datasets.eot.plan import Plan, make_plan
from otbench.errors import UsageError
from otbench.problem import FreshMeasure, PoolMeasure
from otbench.registration import registrations
from otbench.task import Outputs

CPU = torch.device("cpu")


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def task(**values: object) -> EOT:
    return EOT(build_config(EOTConfig, values, owner="task eot"))


def build(dtype: torch.dtype = torch.float64, seed: int = 0, **values: object) -> EOTInstance:
    return task(**values).build(seed=seed, device=CPU, dtype=dtype)


@pytest.fixture(scope="module")
def instance() -> EOTInstance:
    return build(dim=4)


def plan_of(instance: EOTInstance) -> Plan:
    return make_plan(instance.problem.dim, float(str(instance.facts["epsilon"])), 0)


# ------------------------------------------------------------------------------------------------------------ the plan


def assert_moments(y: Tensor, mean: Tensor, covariance: Tensor) -> None:
    """To six standard errors in every entry."""
    about = y - mean
    products = about[:, :, None] * about[:, None]
    for found, wanted in ((y, mean), (products, covariance)):
        assert ((found.mean(0) - wanted).abs() < 6 * found.std(0) / len(y) ** 0.5).all()


@pytest.mark.parametrize("epsilon", [0.1, 10.0])
@pytest.mark.parametrize("dim", [2, 16])
def test_draws_have_the_moments_of_the_closed_form(dim: int, epsilon: float) -> None:
    plan = make_plan(dim, epsilon, 3)
    x = plan.source(3, generator())
    mean, covariance = plan.conditional(x)
    n = 20_000
    for k in range(3):
        y = plan.draw(x[k].expand(n, -1), generator(1))
        assert_moments(y, mean[k], covariance[k])
    moments = plan.target_moments(2**17, generator(2))
    assert_moments(plan(n, generator(3)), *moments[:2])
    inner = plan.conditional(plan.source(4000, generator(4)))[1].diagonal(dim1=1, dim2=2).sum(1).mean()
    assert float(inner) == pytest.approx(moments[2], rel=0.1)


@pytest.mark.parametrize("dim", [2, 64])
def test_sources_are_centred_and_have_variance_d(dim: int) -> None:
    plan = make_plan(dim, 1.0, 0)
    mean, covariance = plan.source.moments()
    assert mean.abs().max() < 1e-12
    assert float(covariance.trace()) == pytest.approx(dim, rel=1e-12)
    x = plan.source(50_000, generator())
    assert float(x.mean(0).abs().max()) < 0.05
    assert float(x.square().sum(1).mean()) == pytest.approx(dim, rel=0.02)
    softer, sharper = (make_plan(dim, epsilon, 0) for epsilon in (10.0, 0.1))
    assert torch.equal(sharper.source.means, plan.source.means)
    torch.testing.assert_close(sharper.slopes, plan.slopes)
    assert softer.slopes.abs().max() < plan.slopes.abs().max() / 2
    assert not torch.equal(make_plan(dim, 1.0, 1).source.means, plan.source.means)


def test_its_density_is_that_of_an_entropic_plan() -> None:
    """log pi(x, y) + c(x, y) / epsilon is a function of x plus one of y: no mixed differences."""
    plan, epsilon = make_plan(3, 0.5, 0), 0.5
    x, y = plan.source(5, generator()), plan(6, generator(1))

    def log_conditional(x: Tensor, y: Tensor) -> Tensor:
        means = x @ plan.slopes[:, :, :] + plan.offsets[:, None]  # (K, n, d)
        terms = []
        for k, factor in enumerate(plan.noise):
            normal = torch.distributions.MultivariateNormal(torch.zeros(3).double(), scale_tril=factor)
            terms.append(plan.shares(x)[:, k, None].log() + normal.log_prob(y[None] - means[k][:, None]))
        return torch.stack(terms).logsumexp(0)

    dual = log_conditional(x, y) + (x[:, None] - y).square().sum(2) / (2 * epsilon)
    mixed = dual - dual[:1] - dual[:, :1] + dual[0, 0]
    assert mixed.abs().max() < 1e-10
    assert dual.std() > 0.1


def test_sinkhorn_on_samples_agrees() -> None:
    plan, epsilon, n = make_plan(2, 1.0, 0), 1.0, 1500
    x, y = plan.source(n, generator()), plan(n, generator(1))
    cost = ot.dist(x.numpy(), y.numpy()) / 2
    coupling = torch.from_numpy(ot.sinkhorn(ot.unif(n), ot.unif(n), cost, epsilon, stopThr=1e-7))
    mean, covariance = plan.conditional(x)
    error = (n * coupling @ y - mean).square().sum(1).mean()
    sampling = covariance.diagonal(dim1=1, dim2=2).sum(1).mean() / n
    assert error < 5 * sampling
    assert error < 0.01 * (mean - mean.mean(0)).square().sum(1).mean()


# ---------------------------------------------------------------------------------------------------------- the scores


def test_draws_of_the_exact_plan_score_zero_up_to_noise(instance: EOTInstance) -> None:
    (scores,) = instance.task_rows().values()
    for name in ("cbw2_uvp", "bw2_uvp", "mean_uvp"):
        assert abs(scores[name]) < 0.05
    assert 0.05 < scores["cbw2_uvp_plain"] < 0.5
    assert scores["bw2_uvp_plain"] < 0.05
    assert task().controls() == ("exact_plan",)


def test_points_repeat_where_draws_are_wanted(instance: EOTInstance) -> None:
    x = instance.test.source.x
    assert x.shape == (SPREAD + CENTRES * DRAWS, 4)
    many = x[SPREAD:].view(CENTRES, DRAWS, 4)
    assert (many == many[:, :1]).all()
    assert len(many[:, 0].unique(dim=0)) == CENTRES
    assert len(x[:SPREAD].unique(dim=0)) == SPREAD


def test_the_mean_of_the_plan_misses_its_covariance(instance: EOTInstance) -> None:
    x = instance.test.source.x
    mean = torch.cat([plan_of(instance).conditional(part)[0] for part in x.split(2**14)])
    scores = instance.score(Outputs(mean))
    share = float(str(instance.facts["conditional_share"]))
    assert abs(scores["mean_uvp"]) < 1e-9
    assert scores["cbw2_uvp"] == pytest.approx(share, rel=0.1)
    assert scores["cbw2_uvp_plain"] == pytest.approx(scores["cbw2_uvp"])
    assert scores["bw2_uvp"] > 5
    assert "bw2_uvp_bwd" not in scores
    part = instance.score(Outputs(mean, final=False))
    assert part["cbw2_uvp"] == pytest.approx(scores["cbw2_uvp"], rel=0.5)


def test_the_way_back_is_scored_by_its_moments(instance: EOTInstance) -> None:
    forward = instance.test.source.x
    back = plan_of(instance).source(SPREAD, generator(5))
    assert abs(instance.score(Outputs(forward, back))["bw2_uvp_bwd"]) < 0.05
    assert instance.score(Outputs(forward, back + 0.5))["bw2_uvp_bwd"] == pytest.approx(25, rel=0.1)


# ------------------------------------------------------------------------------------------------------------ the task


def test_what_a_solver_is_given(instance: EOTInstance) -> None:
    problem = instance.problem
    assert problem.epsilon == 1.0
    assert isinstance(problem.source, FreshMeasure)
    assert problem.target.sample(7, generator=generator()).x.shape == (7, 4)
    again = pickle.loads(pickle.dumps(problem))
    for side in ("source", "target"):
        drawn = [getattr(p, side).sample(5, generator=generator()).x for p in (problem, again)]
        assert torch.equal(*drawn)


def test_pools_follow_the_seed_and_test_points_do_not() -> None:
    first, second = (build(torch.float32, seed=seed, pool="100", eps=0.1) for seed in (0, 1))
    assert isinstance(first.problem.source, PoolMeasure)
    assert first.problem.source.pool.shape == (100, 2)
    assert not torch.equal(first.problem.target.pool, second.problem.target.pool)  # type: ignore[arg-type]
    assert torch.equal(first.test.source.x, second.test.source.x)
    assert first.test.source.x.dtype == torch.float32
    assert first.problem.epsilon == 0.1


def test_the_head_of_a_table() -> None:
    assert task(dim=16, eps=0.1, pair=2).describe() == "d = 16, epsilon = 0.1, generated pair 2, fresh samples"
    assert task(pool="1000", pool_seed=3).describe().endswith("pool 1 000, pool seed 3")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"eps": 0}, "eps"),
        ({"eps": -1.0}, "eps"),
        ({"eps": "much"}, "eps"),
        ({"dim": 1}, "dim"),
        ({"dim": 129}, "dim"),
        ({"pair": -1}, "pair"),
        ({"pool": "1"}, "use 'fresh' or a whole number"),
        ({"epsilon": 1}, "epsilon"),
    ],
)
def test_bad_values_are_named(values: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        task(**values)


def test_presets() -> None:
    (note,) = registrations(EOT)
    assert set(note.presets) == {"smoke", "quick", "full", "paper"}
    assert note.presets["paper"]["dim"] == [2, 16, 64, 128]
