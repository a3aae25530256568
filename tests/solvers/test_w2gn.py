"""W2GN: losses and gradients against plain autograd, exact potentials, both variants, convexity, training, presets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from otbench.nets.dense_icnn import DenseICNN
from otbench.nets.potential import QuadraticPotential
from otbench.solvers.w2gn import W2GN

from ..helpers.plain_icnn import by_definition

Make = Callable[..., Any]
F64 = torch.float64


def by_autograd(net: DenseICNN, x: Tensor) -> Tensor:
    x = x if x.requires_grad else x.clone().requires_grad_()
    return torch.autograd.grad(by_definition(net, x).sum(), x, create_graph=True)[0]


def plain_losses(psi: DenseICNN, psi_bar: DenseICNN, x: Tensor, y: Tensor) -> tuple[Any, Any]:
    """Both terms as the paper writes them."""
    there, back = by_autograd(psi, x), by_autograd(psi_bar, y)
    dual = by_definition(psi, x).mean() - by_definition(psi, back.detach()).mean()
    cycle = (by_autograd(psi, back) - y).square().sum(1).mean() + (by_autograd(psi_bar, there) - x).square().sum(
        1
    ).mean()
    return dual, cycle


@pytest.mark.parametrize("activation", ["celu", "softplus"])
def test_losses_and_gradients_are_those_of_plain_autograd(activation: Any) -> None:
    generator = torch.Generator().manual_seed(5)
    nets = [DenseICNN(3, generator=generator, dtype=F64, activation=activation, strong_convexity=0.7) for _ in range(2)]
    x, y = (2 * torch.randn(n, 3, generator=generator, dtype=F64) for n in (30, 40))
    parameters = [p for net in nets for p in net.parameters()]
    for found, wanted in zip(W2GN.losses(*nets, x, y), plain_losses(*nets, x, y), strict=True):
        assert float(found.detach()) == pytest.approx(float(wanted.detach()), rel=1e-10)
        gradients = (
            torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True, materialize_grads=True)
            for loss in (found, wanted)
        )
        for a, b in zip(*gradients, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-11)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("d", [2, 8])
def test_exact_potentials_give_the_map_and_have_no_gradient(
    d: int, reverse: bool, coupled: Make, make_run: Make
) -> None:
    pair = coupled(d)
    exact = QuadraticPotential(pair.gamma), QuadraticPotential(torch.linalg.inv(pair.gamma))

    class Exact(W2GN):
        def build_potentials(self) -> Any:
            return exact

    run = make_run(Exact, pair.problem(), reverse=reverse, convex=False, averaging=0.0, lr=1e-30)
    run.in_order().solver.step()
    assert max(float(p.grad.abs().max()) for potential in exact for p in potential.parameters()) < 1e-8
    assert max(pair.uvp(run.solver)) < 1e-20


@pytest.mark.parametrize("reverse", [False, True])
def test_the_dual_term_trains_the_potential_of_its_side_alone(reverse: bool, coupled: Make, make_run: Make) -> None:
    solver = make_run(W2GN, coupled(2, n=100).problem(), cycle=0.0, reverse=reverse, pretraining=0).solver
    solver.step()
    trained, other = (solver.psi_bar, solver.psi) if reverse else (solver.psi, solver.psi_bar)
    assert max(float(p.grad.abs().max()) for p in trained.parameters()) > 1e-3
    assert max(float(p.grad.abs().max()) for p in other.parameters()) < 1e-15


CLAMPED: dict[str, Any] = {
    "convex": True,
    "strong_convexity": 1e-4,
    "activation": "celu",
    "pretraining": 500,
    "lr": 5e-3,
}


@pytest.mark.parametrize(
    ("reverse", "values"), [(False, CLAMPED | {"optimiser": "adam"}), (True, CLAMPED), (False, {})]
)
def test_training_finds_both_maps(reverse: bool, values: dict[str, Any], coupled: Make, make_run: Make) -> None:
    pair = coupled(2, n=4000)
    run = make_run(W2GN, pair.problem(torch.float32), steps=150, batch_size=256, reverse=reverse, **values)
    solver = run.train()
    assert max(pair.uvp(solver)) < pair.identity() / 10
    weights = [weight for net in (solver.psi, solver.psi_bar) for weight in (*net.mixing, net.readout)]
    assert all((weight >= 0).all() for weight in weights) == solver.config.convex


def test_presets(valid_presets: Make) -> None:
    paper = valid_presets(W2GN)["paper"]
    published = {"steps": 250_001, "batch_size": 1024, "lr": 1e-3, "lr_end": 1.0, "averaging": 0.0, "optimiser": "adam"}
    assert published.items() <= paper.items()
    assert {
        "activation": "celu",
        "pretraining": 5000,
        "strong_convexity": 1e-4,
        "convex": True,
    }.items() <= paper.items()
