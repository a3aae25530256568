"""Monge gap: exact maps are stationary, turned ones are told from them, the curl's estimate, and the map is found."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from otbench.solvers.mongegap import MongeGap

Make = Callable[..., Any]


class Affine(nn.Module):
    """x -> x A with a parameter."""

    def __init__(self, matrix: Tensor) -> None:
        super().__init__()
        self.matrix = nn.Parameter(matrix.clone())

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.matrix


def with_map(matrix: Tensor) -> type[MongeGap]:
    class Exact(MongeGap):
        def build_map(self) -> Any:
            return Affine(matrix)

    return Exact


def uvp(solver: Any, pair: Any) -> float:
    x = pair.x.to(solver.context.dtype)
    return 100 * float((solver.transport().forward(x) - pair.y).square().sum(1).mean() / pair.y.square().sum(1).mean())


@pytest.mark.parametrize("d", [2, 8])
def test_the_exact_map_is_nearly_stationary(d: int, coupled: Make, make_run: Make) -> None:
    pair = coupled(d, n=200)
    steepest = {}
    for name, matrix in (("exact", pair.gamma), ("identity", torch.eye(d, dtype=torch.float64))):
        values = {"gap_eps": 1e-3, "tolerance": 1e-3, "iterations": 500, "batch_size": 200}
        run = make_run(with_map(matrix), pair.problem(), **values)
        loss, _ = run.in_order().solver.loss(pair.x, pair.y)
        (gradient,) = torch.autograd.grad(loss, run.solver.map.matrix)
        steepest[name] = float(gradient.norm())
    assert steepest["exact"] < 0.05 * steepest["identity"]


def test_the_gap_tells_a_turned_map_with_the_same_images_from_the_best(coupled: Make, make_run: Make) -> None:
    pair = coupled(2)
    white = torch.linalg.inv(torch.linalg.cholesky(torch.cov(pair.x.T, correction=0)))
    turn = torch.tensor([[0.0, 1.0], [-1.0, 0.0]], dtype=torch.float64)
    turned = white.T @ turn @ torch.linalg.inv(white.T)  # keeps the covariance of x
    gaps = []
    for matrix in (pair.gamma, turned @ pair.gamma):
        solver = make_run(with_map(matrix), pair.problem(), curl=0.0).solver
        gaps.append(float(solver.loss(pair.x, pair.y)[1]["gap"]))
    assert gaps[0] >= 0
    assert gaps[1] > 5 * gaps[0]


def test_the_curl_is_zero_for_gradients_and_the_jacobian_s_asymmetry_else(coupled: Make, make_run: Make) -> None:
    pair = coupled(3)
    solver = make_run(with_map(pair.gamma), pair.problem()).solver
    assert float(solver.curl(pair.x).detach()) == pytest.approx(0, abs=1e-20)
    matrix = torch.randn(3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    solver = make_run(with_map(matrix), pair.problem()).solver
    estimates = torch.stack([solver.curl(pair.x).detach() for _ in range(40)])
    assert float(estimates.mean()) == pytest.approx(float((matrix - matrix.T).square().sum()), rel=0.05)
    assert torch.autograd.grad(solver.curl(pair.x), solver.map.matrix)[0].abs().max() > 0


def test_training_starts_at_the_identity_goes_forward_only_and_finds_the_map(coupled: Make, make_run: Make) -> None:
    pair = coupled(2, n=4000)
    run = make_run(MongeGap, pair.problem(torch.float32), steps=150, batch_size=256)
    x = pair.x.float()
    assert torch.equal(run.solver.transport().forward(x), x)
    assert not run.solver.transport().two_way
    assert uvp(run.train(), pair) < pair.identity() / 10


def test_terms_without_weight_are_left_out(coupled: Make, make_run: Make) -> None:
    pair = coupled(2, n=64)
    scalars = make_run(MongeGap, pair.problem(), gap=0.0, curl=0.0, batch_size=64).solver.step().scalars
    assert set(scalars) == {"passes"}


def test_presets(coupled: Make, make_run: Make, valid_presets: Make) -> None:
    paper = {name: value for name, value in valid_presets(MongeGap)["paper"].items() if name != "steps"}
    solver = make_run(MongeGap, coupled(3, n=300).problem(), **paper).solver
    assert solver.map.widths == (32, 64, 32)
    assert not solver.map.residual
