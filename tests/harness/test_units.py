"""Solvers train on centred points in one common scale, and their maps go with the points, wherever these lie."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import otbench
from otbench.harness.plan import Request, make_plan
from otbench.harness.units import DRAWS, in_own_units, standardised
from otbench.plugins.registry import Registry
from otbench.problem import FreshMeasure, Measure, PoolMeasure, PowerCost, Problem, QuadraticCost

CPU = torch.device("cpu")
Array = NDArray[np.float64]


def normal(n: int, generator: torch.Generator, *, mean: float = 0.0, scale: float = 1.0) -> torch.Tensor:
    return mean + scale * torch.randn(n, 2, generator=generator)


def problem(source: Measure, target: Measure, **more: Any) -> Problem:
    return Problem(
        **{"source": source, "target": target, "cost": QuadraticCost(), "device": CPU, "dtype": torch.float32} | more
    )


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def far(n: int = 500, *, mean: float = 1e4, scale: float = 1.0) -> PoolMeasure:
    x = normal(n, generator(), mean=mean, scale=scale)
    return PoolMeasure(x[20:], validation=x[:20], label=torch.arange(n - 20) % 2, classes=2)


def test_pools_are_centred_on_each_side_in_one_scale() -> None:
    given = problem(far(mean=1e4, scale=3.0), far(mean=-50.0, scale=1.0))
    made = standardised(given, generator())
    assert made.units is not None
    assert float(made.units.scale) == pytest.approx(5**0.5, rel=0.1)
    variances = []
    for side, before in ((made.source, given.source), (made.target, given.target)):
        assert side.pool is not None
        assert float(side.pool.mean(0).abs().max()) < 1e-5
        variances.append(side.pool.var(0, correction=0).mean())
        assert side.classes == before.classes == 2
        assert side.pool_label is before.pool_label
        assert side.validation is not None
        assert float(side.validation.abs().max()) < 10
        assert side.drawn == 0
    assert float(sum(variances)) / 2 == pytest.approx(1, rel=1e-5)
    again = in_own_units(made)
    assert again.units is None
    assert torch.allclose(again.source.pool, given.source.pool)  # type: ignore[arg-type]


def test_fresh_draws_count_and_are_moved_alike() -> None:
    sides = [FreshMeasure((2,), functools.partial(normal, mean=mean, scale=4.0)) for mean in (1000.0, 7.0)]
    made = standardised(problem(*sides), generator())
    assert made.units is not None
    assert float(made.units.scale) == pytest.approx(4, rel=0.01)
    assert made.source.drawn == made.target.drawn == DRAWS
    x = made.source.sample(4000, generator=generator()).x
    assert torch.allclose(x * 4 + 1000, sides[0].sample(4000, generator=generator()).x, atol=0.2)
    assert made.source.drawn == DRAWS + 4000


def test_a_standard_normal_side_stays_as_it_is() -> None:
    source = FreshMeasure((2,), normal, is_standard_normal=True)
    made = standardised(problem(source, far(mean=8.0, scale=2.0)), generator())
    assert made.units is not None
    assert made.source is source
    assert float(made.units.scale) == 1
    assert float(made.units.source_mean.abs().max()) == 0
    assert float(made.target.pool.mean(0).abs().max()) < 1e-5  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "given",
    [
        problem(far(), far(), cost=PowerCost(3.0)),
        problem(*(PoolMeasure(torch.ones(5, 1, 2, 2)) for _ in range(2))),
        problem(PoolMeasure(torch.ones(5, 2)), PoolMeasure(torch.ones(5, 3))),
        problem(*(FreshMeasure((2,), normal, is_standard_normal=True) for _ in range(2))),
        problem(far(), far(), epsilon=0.1),
    ],
    ids=["another cost", "images", "another space", "both normal", "an entropic plan"],
)
def test_where_there_is_nothing_to_gain_or_to_share_points_stay(given: Problem) -> None:
    assert standardised(given, generator()) is given


def test_epsilon_is_positive() -> None:
    with pytest.raises(ValueError, match="epsilon must be positive, got 0"):
        problem(far(), far(), epsilon=0.0)


def test_who_is_asked_to_train_on_standardised_points() -> None:
    def chosen(**values: Any) -> dict[str, tuple[bool, str]]:
        request = Request(solvers="mmr", task="toy2d", device="cpu", **values)
        return {run.spec.solver: (run.spec.standardise, run.label) for run in make_plan(request, Registry()).runs}

    assert chosen()["mmr"] == (True, "mmr")
    assert chosen()["linear"] == (False, "linear")
    assert chosen(preset="paper")["mmr"] == (False, "mmr")
    assert chosen(standardise="off")["mmr"] == (False, "mmr, standardise off")
    assert chosen(standardise="on", preset="paper")["mmr"] == (True, "mmr, standardise on")
    with pytest.raises(otbench.UsageError, match="--standardise maybe: use on or off"):
        chosen(standardise="maybe")


@pytest.fixture(scope="module")
def pair() -> tuple[Array, Array]:
    random = np.random.default_rng(0)
    sides = random.normal(size=(256, 3)), random.normal(size=(256, 3)) @ random.normal(size=(3, 3))
    x, y = (np.round(side * 1024) / 1024 for side in sides)  # whole multiples of 2^-10: see below
    return x, y


SOLVERS = [entry.name for entry in Registry().entries("solver")]


@pytest.mark.parametrize("solver", SOLVERS)
def test_maps_move_with_the_points(solver: str, pair: tuple[Array, Array]) -> None:
    """Translation of either side and a common scale, to rounding.

    SOAP makes much of the last digit of a point within a few steps. So means and scales are such that the points which
    solvers see are the same to the last digit, and only the way there and back rounds.
    """
    x, y = pair
    settings: dict[str, Any] = {"solver": solver, "preset": "smoke", "steps": 5, "validation": 0, "dtype": "float64"}
    there, here = np.array([50.0, -20.0, 30.0]), np.array([-3.0, 40.0, 9.0])
    try:
        made = otbench.fit(x, y, **settings, device="cpu")
    except otbench.UsageError as refusal:
        pytest.skip(str(refusal))
    plain = made.forward(x, generator=generator())
    back = made.backward(y, generator=generator()) if hasattr(made, "backward") else None
    for scale in (2.0**-7, 2.0**7):
        moved = otbench.fit(scale * (x + there), scale * (y + here), **settings, device="cpu")
        image = moved.forward(scale * (x + there), generator=generator())
        assert np.allclose(image / scale - here, plain, atol=1e-9)
        if back is not None:
            image = moved.backward(scale * (y + here), generator=generator())
            assert np.allclose(image / scale - there, back, atol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("solver", SOLVERS)
def test_a_solver_ends_as_well_wherever_the_points_lie(solver: str) -> None:
    """Ten standard deviations away, and a hundred times as large or as small, in float32."""
    random = np.random.default_rng(1)
    x, noise = random.normal(size=(20_000, 4)), random.normal(size=(20_000, 4))
    stretch = np.diag([0.5, 1.0, 1.5, 2.0])
    y = noise @ stretch
    there, here = np.array([10.0, -10.0, 0.0, 10.0]), np.array([-20.0, 0.0, 20.0, 0.0])

    def errors(scale: float, source: Array, target: Array) -> list[float]:
        """Return the errors of both maps, or of the forward one alone."""
        points, images = scale * (x + source), scale * (y + target)
        try:
            made = otbench.fit(points, images, solver=solver, steps=300, device="cpu", validation=0)
        except otbench.UsageError as refusal:
            pytest.skip(str(refusal))
        found = [made.forward(points, generator=generator()) / scale - target - x @ stretch]
        if hasattr(made, "backward"):
            found.append(made.backward(images, generator=generator()) / scale - source - noise)
        return [float(np.square(error).sum(1).mean()) for error in found]

    usual = errors(1.0, 0 * there, 0 * here)
    for scale in (1.0, 0.01, 100.0):
        for moved, plain in zip(errors(scale, there, here), usual, strict=True):
            assert moved < 1.5 * plain + 1e-3
