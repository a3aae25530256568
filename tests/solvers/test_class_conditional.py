"""Solvers where both measures have classes: tiny problems, labels that do not count, points that must not be used."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from otbench.errors import UsageError
from otbench.problem import Batch, PoolMeasure, Problem, QuadraticCost
from otbench.registration import registrations
from otbench.solver import Solver
from otbench.solvers.cfm import CFM
from otbench.solvers.fixedpoint import FixedPoint
from otbench.solvers.gnot import GNOT
from otbench.solvers.hjpinn import HJPINN
from otbench.solvers.ncf import NCF
from otbench.solvers.not_ import NOT
from otbench.solvers.notweak import NOTWeak

CPU = torch.device("cpu")
SMALL: dict[type[Solver[Any]], dict[str, float]] = {
    CFM: {"batch_size": 32, "pairing_batch": 64, "width": 32},
    FixedPoint: {"batch_size": 64},
    NCF: {"mmd_batch": 64, "hj_points": 64},
    HJPINN: {"mmd_batch": 64, "hj_points": 64},
    NOT: {"batch_size": 64},
    NOTWeak: {"batch_size": 32},
    GNOT: {"batch_size": 64},
}
CONDITIONAL = [CFM, FixedPoint, NCF, HJPINN, GNOT]


class Spy(PoolMeasure):
    """A pool that remembers the labels of the points which it hands out."""

    def __init__(self, x: Tensor, label: Tensor, classes: int) -> None:
        super().__init__(x, label=label, classes=classes)
        self.seen: list[int] = []

    def _at(self, index: Tensor) -> Batch:
        batch = super()._at(index)
        assert batch.label is not None
        self.seen += batch.label.tolist()
        return batch


def swap(n: int = 400, *, dtype: torch.dtype = torch.float32, unlabelled: float = 0.0, plain: bool = False) -> Problem:
    """Two clusters that change places; x -> x +- (2, 0)."""
    generator = torch.Generator().manual_seed(0)
    label = torch.arange(n) % 2
    side = torch.stack([2.0 * label - 1, torch.zeros(n)], 1)
    x, y = (centre + 0.1 * torch.randn(n, 2, generator=generator) for centre in (side, -side))
    if plain:
        return Problem(PoolMeasure(x.to(dtype)), PoolMeasure(y.to(dtype)), QuadraticCost(), CPU, dtype)
    known = torch.where(torch.arange(n) < n * (1 - unlabelled), label, -1)
    source = PoolMeasure(x.to(dtype), label=label, classes=2)
    return Problem(source, Spy(y.to(dtype), known, 2), QuadraticCost(), CPU, dtype)


def error(solver: Solver[Any], problem: Problem) -> float:
    """Largest mean distance of a class, after the map, from where the translation takes it."""
    source = problem.source
    assert isinstance(source, PoolMeasure)
    assert source.pool_label is not None
    shift = torch.stack([2.0 - 4.0 * source.pool_label, torch.zeros(len(source.pool))], 1)
    return float((solver.transport().forward(source.pool, source.pool_label) - source.pool - shift).norm(dim=1).mean())


@pytest.mark.parametrize(
    ("kind", "steps", "values"),
    [
        (CFM, 100, {"batch_size": 64, "pairing_batch": 128, "width": 64, "lr": 1e-2}),
        (FixedPoint, 60, {"batch_size": 64, "lr": 1e-2}),
        (NCF, 100, {"mmd_batch": 64, "hj_points": 64, "lr": 1e-2}),
        (HJPINN, 100, {"mmd_batch": 64, "hj_points": 64, "lr": 1e-2}),
    ],
)
def test_classes_change_places(
    kind: type[Solver[Any]], steps: int, values: dict[str, float], make_run: Callable[..., Any]
) -> None:
    """Without classes nothing would have to move: both sides are one and the same set."""
    problem = swap()
    solver = make_run(kind, problem, steps=steps, **values).train()
    assert error(solver, problem) < 0.1
    assert solver.transport().reads_label
    assert solver.transport().two_way
    source = problem.source
    assert isinstance(source, PoolMeasure)
    label = source.pool_label
    back = solver.transport().backward(solver.transport().forward(source.pool, label), label)
    assert float((back - source.pool).norm(dim=1).mean()) < 0.1


@pytest.mark.parametrize("kind", [NCF, HJPINN])
def test_the_papers_network_is_not_told_the_class(kind: type[Solver[Any]], make_run: Callable[..., Any]) -> None:
    problem = swap()
    run = make_run(kind, problem, steps=100, mmd_batch=64, hj_points=64, lr=1e-2, classes="loss")
    before = error(run.solver, problem)
    solver = run.train()
    assert not solver.transport().reads_label
    assert error(solver, problem) < before / 4  # each class arrives, though turned around
    x = torch.randn(5, 2)
    assert torch.equal(solver.transport().forward(x), solver.transport().forward(x, torch.tensor([0, 1, 0, 1, -1])))


def test_gnot_takes_each_class_to_its_own(make_run: Callable[..., Any]) -> None:
    problem = swap(unlabelled=0.5)
    solver = make_run(GNOT, problem, steps=40, batch_size=64).train()
    source = problem.source
    assert isinstance(source, PoolMeasure)
    image = solver.transport().forward(source.pool)
    assert source.pool_label is not None
    assert bool((image[source.pool_label == 0, 0] > 0).float().mean() > 0.95)
    assert bool((image[source.pool_label == 1, 0] < 0).float().mean() > 0.95)
    assert not solver.transport().reads_label


def test_gnot_with_noise_spreads_each_point_over_its_class(make_run: Callable[..., Any]) -> None:
    """At the solution T(x, z) is distributed as the class, whatever x: loss below that of any map without noise."""
    problem = swap()
    solver = make_run(GNOT, problem, steps=60, batch_size=64, noise=True).train()
    assert solver.transport().stochastic
    x = torch.tensor([[-1.0, 0.0]]).expand(2000, 2)
    image = solver.transport().forward(x, generator=torch.Generator().manual_seed(1))
    assert (image.mean(0) - torch.tensor([1.0, 0.0])).norm() < 0.2
    assert float(image.std(0).min()) > 0.03
    assert torch.equal(solver.transport().forward(x), solver.transport().forward(x))


def test_gnot_loss_is_the_class_wise_energy_distance(make_run: Callable[..., Any]) -> None:
    def mean_distance(a: Tensor, b: Tensor) -> Tensor:
        return torch.cdist(a, b).sum() / (len(a) * len(b) - (len(a) if a is b else 0))

    problem = swap(dtype=torch.float64)
    x, y = (torch.randn(n, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(n)) for n in (20, 30))
    solver = make_run(GNOT, problem, batch_size=64).solver
    moved = solver.moved(x)
    parts = [mean_distance(moved[k::2], y[k::2]) - mean_distance(m := moved[k::2], m) / 2 for k in (0, 1)]
    expected = sum(parts) / 2 - solver.potential(moved).mean()
    torch.testing.assert_close(solver.guided_loss(x, y), expected)

    noisy = make_run(GNOT, problem, batch_size=64, noise=True, draws=3, cost_scale="mean").solver
    generator = noisy.context.generator
    state = generator.get_state()
    found = noisy.guided_loss(x, y)
    generator.set_state(state)
    moved = noisy.moved(x.repeat(3, 1))
    draws = moved.view(3, 20, 2)
    own = sum((draws[a] - draws[b]).norm(dim=1).mean() for a in range(3) for b in range(3) if a != b) / 6
    aim = sum(mean_distance(moved[k::2], y[k::2]) for k in (0, 1)) / 2
    torch.testing.assert_close(found, (aim - own / 2) / 2**0.5 - noisy.potential(moved).mean())


@pytest.mark.parametrize("kind", [CFM, FixedPoint, NCF, HJPINN])
def test_unlabelled_points_are_never_used(kind: type[Solver[Any]], make_run: Callable[..., Any]) -> None:
    problem = swap(unlabelled=0.9)
    make_run(kind, problem, steps=10, **SMALL[kind]).train()
    assert isinstance(problem.target, Spy)
    assert problem.target.seen
    assert -1 not in problem.target.seen


def test_gnot_uses_unlabelled_points_for_the_critic_only(make_run: Callable[..., Any]) -> None:
    problem = swap(unlabelled=0.9)
    run = make_run(GNOT, problem, steps=4, batch_size=64)
    target = problem.target
    assert isinstance(target, Spy)
    for _ in range(10):
        run.solver.inner_loss()
    assert target.seen
    assert -1 not in target.seen
    target.seen.clear()
    run.train()
    assert -1 in target.seen


@pytest.mark.parametrize("kind", [NOT, NOTWeak])
def test_classical_methods_do_not_look_at_labels(kind: type[Solver[Any]], make_run: Callable[..., Any]) -> None:
    x = torch.randn(9, 2)
    images = [
        make_run(kind, problem, steps=4, **SMALL[kind]).train().transport().forward(x)
        for problem in (swap(), swap(plain=True))
    ]
    assert torch.equal(*images)


@pytest.mark.parametrize("kind", [CFM, FixedPoint, NCF, HJPINN])
def test_labels_of_one_side_change_no_bit(kind: type[Solver[Any]], make_run: Callable[..., Any]) -> None:
    labelled, plain = swap(), swap(plain=True)
    half = Problem(labelled.source, plain.target, QuadraticCost(), CPU, torch.float32)
    x = torch.randn(9, 2)
    images = []
    for problem in (half, plain):
        solver = make_run(kind, problem, steps=5, **SMALL[kind]).train()
        assert not solver.transport().reads_label
        images.append(torch.cat([solver.transport().forward(x), solver.transport().backward(x)]))
    assert torch.equal(*images)


@pytest.mark.parametrize("kind", CONDITIONAL)
def test_resumed_run_equals_an_unbroken_one(kind: type[Solver[Any]], make_run: Callable[..., Any]) -> None:
    unbroken = make_run(kind, swap(), steps=8, **SMALL[kind])
    unbroken.train(3)
    state = copy.deepcopy(unbroken.solver.state_dict())
    unbroken.train(5)
    resumed = make_run(kind, swap(), steps=8, seed=7, **SMALL[kind])
    resumed.solver.load_state_dict(state)
    resumed.done = 3
    resumed.train(5)
    x, label = torch.randn(8, 2), torch.arange(8) % 2
    assert torch.equal(unbroken.solver.transport().forward(x, label), resumed.solver.transport().forward(x, label))


@pytest.mark.parametrize("kind", [CFM, FixedPoint, NCF])
def test_maps_of_a_solver_that_was_told_the_class_need_it(
    kind: type[Solver[Any]], make_run: Callable[..., Any]
) -> None:
    solver = make_run(kind, swap(), **SMALL[kind]).solver
    x = torch.randn(6, 2)
    for image in (
        solver.transport().forward(x, torch.arange(6) % 2),
        solver.transport().backward(x, torch.arange(6) % 2),
    ):
        assert image.shape == x.shape
        assert not image.requires_grad
    with pytest.raises(UsageError, match="class of each point"):
        solver.transport().forward(x)


class ClassBowl(nn.Module):
    """g(x, k) = a_k |x|^2 / 2 + c_k x_1 on points followed by their class: its maps are known."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor([0.5, -0.4], dtype=torch.float64))
        self.shift = nn.Parameter(torch.tensor([2.0, -1.0], dtype=torch.float64))

    def forward(self, points: Tensor) -> Tensor:
        x, k = points[:, :2], points[:, 2:]
        return (k @ self.scale) * x.square().sum(1) / 2 + (k @ self.shift) * x[:, 0]

    def gradient(self, points: Tensor) -> Tensor:
        with torch.enable_grad():
            points = points if points.requires_grad else points.detach().requires_grad_()
            return torch.autograd.grad(self(points).sum(), points, create_graph=True)[0]


@pytest.mark.parametrize("inner", ["anderson", "paper"])
def test_exact_conditional_potential_gives_exact_maps(inner: str, make_run: Callable[..., Any]) -> None:
    class Exact(FixedPoint):
        def build_potential(self) -> nn.Module:  # type: ignore[override]
            return ClassBowl().requires_grad_()

    solver = make_run(Exact, swap(dtype=torch.float64), inner=inner, tol=1e-6, max_inner=2000).solver
    x, label = torch.randn(40, 2, dtype=torch.float64), torch.arange(40) % 2
    scale, shift = (getattr(solver.potential, name).detach()[label, None] for name in ("scale", "shift"))
    image = (1 + scale) * x + shift * torch.tensor([1.0, 0.0], dtype=torch.float64)
    torch.testing.assert_close(solver.transport().forward(x, label).detach(), image)
    torch.testing.assert_close(solver.transport().backward(image, label).detach(), x, atol=1e-5, rtol=0)
    z = torch.cat([image, torch.eye(2, dtype=torch.float64)[label]], 1)
    inside = solver.solve_batch(z, z, tol=1e-6).y
    torch.testing.assert_close(inside[:, :2].detach(), x, atol=1e-4, rtol=0)
    assert torch.equal(inside[:, 2:], z[:, 2:])


@pytest.fixture
def scarce() -> Problem:
    """Class 1 has one labelled target point."""
    x = torch.randn(20, 2)
    label = torch.arange(20) % 2
    few = torch.where(label == 1, -1, label)
    few[1] = 1
    return Problem(
        PoolMeasure(x, label=label, classes=2), PoolMeasure(x, label=few, classes=2), QuadraticCost(), CPU, x.dtype
    )


def test_problems_that_cannot_be_solved_class_by_class_are_declined(scarce: Problem) -> None:
    assert FixedPoint.supports(scarce).ok
    assert GNOT.supports(scarce).ok
    for kind in (CFM, NCF, HJPINN):
        assert "class 1 of the target has 1" in kind.supports(scarce).reason
    assert "classes" in GNOT.supports(swap(plain=True)).reason
    source = scarce.source
    none = PoolMeasure(torch.randn(6, 2), label=torch.full((6,), -1), classes=2)
    empty = Problem(source, none, QuadraticCost(), CPU, torch.float32)
    assert not FixedPoint.supports(empty).ok
    assert not GNOT.supports(empty).ok


def test_presets_of_gnot_build() -> None:
    from otbench.config import build_config

    (note,) = registrations(GNOT)
    assert set(note.presets) == {"smoke", "quick", "full", "paper"}
    for preset in note.presets.values():
        build_config(note.config, {k: v for k, v in preset.items() if k != "steps"}, owner="gnot")  # type: ignore[misc]
