"""w2ot: losses and gradients against plain autograd, exact potentials, all amortisations, training, presets."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from otbench.data.mapfile import read_map
from otbench.errors import UsageError
from otbench.nets.potential import QuadraticPotential
from otbench.registration import registrations
from otbench.solvers.w2ot import W2OT
from otbench.transport import Transport

Make = Callable[..., Any]
F64 = torch.float64


def slope(network: Any, x: Tensor) -> Tensor:
    """The gradient by autograd."""
    x = x if x.requires_grad else x.clone().requires_grad_()
    return torch.autograd.grad(network(x).sum(), x, create_graph=True)[0]


def plain_amortisation(kind: str, solver: W2OT, x: Tensor, y: Tensor, solved: Tensor) -> Tensor:
    """The losses as the released code writes them; weights of psi are frozen outside."""
    psi, guess = solver.psi, solver.amortiser(y)
    if kind == "regression":
        return ((guess - solved) ** 2).mean()
    if kind == "objective":
        return (psi(guess) - (guess * y).sum(1)).mean()
    cycle = solver.config.cycle * ((slope(psi, guess) - y) ** 2).sum(1).mean()
    if solver.config.fine_tune:
        return cycle
    return cycle + solver.config.cycle * ((solver.amortiser(slope(psi, x)) - x) ** 2).sum(1).mean()


def away_from_the_start(solver: W2OT) -> None:
    generator = torch.Generator().manual_seed(9)
    with torch.no_grad():
        for network in (solver.psi, solver.amortiser):
            for p in network.parameters():
                p.add_(0.2 * torch.randn(p.shape, generator=generator, dtype=p.dtype))


@pytest.mark.parametrize("potential", ["mlp", "icnn"])
@pytest.mark.parametrize(
    ("kind", "fine_tune"), [("regression", True), ("objective", True), ("cycle", True), ("cycle", False)]
)
def test_losses_and_gradients_are_those_of_plain_autograd(
    kind: str, fine_tune: bool, potential: str, coupled: Make, make_run: Make
) -> None:
    pair = coupled(3, n=24)
    values = {"amortisation": kind, "fine_tune": fine_tune, "potential": potential, "cycle": 0.7}
    solver = make_run(W2OT, pair.problem(), **values).solver
    away_from_the_start(solver)
    x, y, solved = pair.x, pair.y, pair.x.flip(0)
    mine, theirs = list(solver.psi.parameters()), list(solver.amortiser.parameters())

    found = solver.dual_loss(solver.psi, x, y, solved)
    wanted = (solver.psi(x) + (solved * y).sum(1) - solver.psi(solved)).mean()
    assert float(found.detach()) == pytest.approx(float(wanted.detach()), rel=1e-12)
    for a, b in zip(*(torch.autograd.grad(loss, mine) for loss in (found, wanted)), strict=True):
        torch.testing.assert_close(a, b)

    found = solver.amortisation_loss(x, y, solver.amortiser(y), solved)
    wanted = plain_amortisation(kind, solver, x, y, solved)
    assert float(found.detach()) == pytest.approx(float(wanted.detach()), rel=1e-12)
    trained = [*theirs, *mine] if kind == "cycle" and not fine_tune else theirs
    for a, b in zip(*(torch.autograd.grad(loss, trained) for loss in (found, wanted)), strict=True):
        torch.testing.assert_close(a, b)
    if trained is theirs:  # psi is fixed
        again = solver.amortisation_loss(x, y, solver.amortiser(y), solved)
        assert all(g is None for g in torch.autograd.grad(again, mine, allow_unused=True))


@pytest.mark.parametrize("side", ["source", "target"])
@pytest.mark.parametrize("d", [2, 8])
def test_exact_potentials_give_both_maps_and_have_no_gradient(d: int, side: str, coupled: Make, make_run: Make) -> None:
    pair = coupled(d)
    matrix = pair.gamma if side == "source" else torch.linalg.inv(pair.gamma)
    psi = QuadraticPotential(matrix)

    class Exact(W2OT):
        def build_potential(self) -> Any:
            return psi

    values = {"side": side, "tol": 1e-10, "map_tol": 1e-10, "averaging": 0.0, "lr": 1e-30}
    run = make_run(Exact, pair.problem(), max_inner=100, **values, optimiser="adam")
    solver: Any = run.solver
    measures = {"near": solver.problem.source, "far": solver.problem.target}
    if side == "target":
        measures = {"near": measures["far"], "far": measures["near"]}
    for name, measure in measures.items():
        getattr(solver, name).next = lambda measure=measure: measure.take(torch.arange(512))
    info = solver.step()
    assert max(float(p.grad.abs().max()) for p in psi.parameters()) < 1e-8
    # the dual's value at the optimum is E<x, T x>
    assert float(info.scalars["dual"]) == pytest.approx(float((pair.x * pair.y).sum(1).mean()), rel=1e-9)
    assert max(pair.uvp(solver)) < 1e-16


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"potential": "icnn", "lr": 3e-2},
        {"amortisation": "objective"},
        {"amortisation": "objective", "fine_tune": False},
        {"amortisation": "cycle", "fine_tune": False},
        {"amortisation": "none", "side": "target", "optimiser": "adam"},
    ],
    ids=str,
)
def test_training_finds_both_maps(values: dict[str, Any], coupled: Make, make_run: Make) -> None:
    pair = coupled(2, n=4000)
    values = {"batch_size": 256, "width": 1, "lr": 1e-2} | values
    run = make_run(W2OT, pair.problem(torch.float32), steps=150, **values)
    assert max(pair.uvp(run.train())) < pair.identity() / 10


@pytest.mark.parametrize("amortisation", ["none", "regression"])
@pytest.mark.parametrize("side", ["source", "target"])
def test_the_maps_are_kept_and_invert_each_other(
    side: str, amortisation: str, tmp_path: Path, coupled: Make, make_run: Make
) -> None:
    pair = coupled(3, n=400)
    maps = make_run(W2OT, pair.problem(), steps=20, side=side, amortisation=amortisation).train().transport()
    assert {name.partition(".")[0] for name, _ in maps.named_parameters()} <= {"psi", "amortiser"}
    assert maps.solves_forward == (side == "target")
    maps.save(tmp_path / "kept.otmap")
    again = Transport.restored(read_map(tmp_path / "kept.otmap"), torch.device("cpu"))
    torch.testing.assert_close(again.forward(pair.x), maps.forward(pair.x), rtol=0, atol=0)
    # the solved map comes first: the other order would ask for one stationary point alone, which a potential of twenty
    # steps need not have
    ways = (again.forward, again.backward) if maps.solves_forward else (again.backward, again.forward)
    start = pair.x if maps.solves_forward else maps.forward(pair.x)
    torch.testing.assert_close(ways[1](ways[0](start)), start, atol=1e-2, rtol=0)


@pytest.mark.parametrize("side", ["source", "target"])
def test_the_forward_map_can_be_differentiated(side: str, coupled: Make, make_run: Make) -> None:
    pair = coupled(3, n=400)
    maps = make_run(W2OT, pair.problem(), steps=20, side=side).train().transport()
    x = pair.x[:5].clone().requires_grad_()
    (found,) = torch.autograd.grad(maps.forward(x)[:, 0].sum(), x)
    step = 1e-5 * torch.eye(3, dtype=F64)
    for k in range(3):
        ends = [maps.forward((pair.x[:5] + s * step[k]).requires_grad_())[:, 0].detach() for s in (1, -1)]
        torch.testing.assert_close(found[:, k], (ends[0] - ends[1]) / 2e-5, rtol=1e-5, atol=1e-7)


def test_a_resumed_run_is_the_unbroken_one(coupled: Make, make_run: Make) -> None:
    problem = coupled(2, n=300).problem(torch.float32)
    runs = [make_run(W2OT, problem, steps=24, batch_size=64, width=1) for _ in range(2)]
    runs[0].train(11)  # SOAP turns its basis every ten steps
    state = copy.deepcopy(runs[0].solver.state_dict())
    runs[0].train(13)
    runs[1].done = 11
    runs[1].solver.load_state_dict(state)
    runs[1].train(13)
    for a, b in zip(*(run.solver.transport().parameters() for run in runs), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_pretraining_brings_the_maps_to_the_identity(coupled: Make, make_run: Make) -> None:
    pair = coupled(2, n=300)
    solvers = [make_run(W2OT, pair.problem(torch.float32), pretraining=k, width=1).solver for k in (1, 300)]
    x = pair.x.float()
    errors = [float((solver.psi.gradient(x) - x).square().sum(1).mean().detach()) for solver in solvers]
    assert errors[1] < errors[0] / 10


@pytest.mark.parametrize("kind", ["regression", "none"])
def test_what_needs_the_conjugate_says_so(kind: str, coupled: Make, make_run: Make) -> None:
    with pytest.raises(UsageError, match=f"amortisation={kind} needs fine_tune=true"):
        make_run(W2OT, coupled(2, n=20).problem(), amortisation=kind, fine_tune=False)


def test_presets(valid_presets: Make) -> None:
    paper = valid_presets(W2OT)["paper"]
    published = {"steps": 250_001, "batch_size": 1024, "lr": 5e-4, "beta1": 0.5, "beta2": 0.5, "max_inner": 100}
    assert published.items() <= paper.items()
    default = registrations(W2OT)[0].config()
    assert (default.tol, default.potential, default.amortisation) == (0.1, "mlp", "regression")
