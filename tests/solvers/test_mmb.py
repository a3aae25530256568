"""MM-B: loss and gradient against plain autograd, what the exact potential is to it, training, presets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from otbench.nets.dense_icnn import DenseICNN
from otbench.nets.potential import QuadraticPotential
from otbench.solvers.mmb import MMB

from ..helpers.plain_icnn import by_definition

Make = Callable[..., Any]
F64 = torch.float64


def plain_loss(net: DenseICNN, x: Tensor, y: Tensor) -> Tensor:
    """The loss as the released code writes it, one y at a time."""
    with torch.no_grad():
        at_x = by_definition(net, x)
        chosen = torch.stack([x[int((x @ one - at_x).argmax())] for one in y])
    return by_definition(net, x).mean() - by_definition(net, chosen).mean()


@pytest.mark.parametrize("sizes", [(40, 40), (30, 50)])
def test_loss_and_gradient_are_those_of_plain_autograd(sizes: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(5)
    net = DenseICNN(3, generator=generator, dtype=F64, strong_convexity=1.0)
    x, y = (2 * torch.randn(n, 3, generator=generator, dtype=F64) for n in sizes)
    found, wanted = MMB.loss(net, x, y)[0], plain_loss(net, x, y)
    assert float(found.detach()) == pytest.approx(float(wanted.detach()), abs=1e-12)
    for a, b in zip(*(torch.autograd.grad(loss, list(net.parameters())) for loss in (found, wanted)), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("d", [2, 8])
def test_exact_potentials_choose_the_partner_and_have_no_gradient(d: int, coupled: Make, make_run: Make) -> None:
    pair = coupled(d)
    exact = QuadraticPotential(pair.gamma), QuadraticPotential(torch.linalg.inv(pair.gamma))

    class Exact(MMB):
        def build_potentials(self) -> Any:
            return exact

    for potential, here, there in zip(exact, (pair.x, pair.y), (pair.y, pair.x), strict=True):
        loss, share = MMB.loss(potential, here, there)
        loss.backward()
        assert float(share) == 1  # each y has its own x
        assert abs(float(loss.detach())) < 1e-12
        assert max(float(p.grad.abs().max()) for p in potential.parameters()) < 1e-12
    assert max(pair.uvp(make_run(Exact, pair.problem(), averaging=0.0).solver)) < 1e-20


def test_both_potentials_take_one_step_on_one_pair_of_batches(coupled: Make, make_run: Make) -> None:
    solver = make_run(MMB, coupled(2, n=200).problem(), batch_size=50).solver
    solver.step()
    taken = {int(solver.optimiser.state[p]["step"]) for net in (solver.psi, solver.psi_bar) for p in net.parameters()}
    assert taken == {1}
    assert (solver.problem.source.drawn, solver.problem.target.drawn) == (50, 50)


@pytest.mark.parametrize("optimiser", ["adam", "soap"])
def test_training_finds_both_maps(optimiser: str, coupled: Make, make_run: Make) -> None:
    pair = coupled(2, n=4000)
    run = make_run(MMB, pair.problem(torch.float32), steps=150, batch_size=256, optimiser=optimiser)
    assert max(pair.uvp(run.train())) < pair.identity() / 10


def test_presets(valid_presets: Make) -> None:
    paper = valid_presets(MMB)["paper"]
    published = {"steps": 100_001, "batch_size": 1024, "lr": 1e-3, "lr_end": 1.0, "averaging": 0.0, "optimiser": "adam"}
    assert published.items() <= paper.items()
    assert (paper["activation"], paper["pretraining"]) == ("celu", 5000)
