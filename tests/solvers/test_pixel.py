"""NOT, its weak form and GNOT where points are images, and where map and critic of NOT are told the class."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from otbench.errors import UsageError
from otbench.nets.image_points import ImageCritic, ImageMap
from otbench.problem import Batch, PoolMeasure, Problem, QuadraticCost
from otbench.solvers._saddle import Saddle
from otbench.solvers.gnot import GNOT
from otbench.solvers.not_ import NOT
from otbench.solvers.notweak import NOTWeak

Make = Callable[..., Any]
KINDS = [NOT, NOTWeak, GNOT]
SMALL: dict[str, Any] = {"settings": "smoke", "batch_size": 4, "map_width": 2, "critic_width": 2}
CPU = torch.device("cpu")


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Spy(PoolMeasure):
    """A pool that remembers the labels of the points which it hands out."""

    def __init__(self, x: Tensor, label: Tensor) -> None:
        super().__init__(x, label=label, classes=2)
        self.seen: list[int] = []

    def _at(self, index: Tensor) -> Batch:
        batch = super()._at(index)
        assert batch.label is not None
        self.seen += batch.label.tolist()
        return batch


def pairs(*, unlabelled: float = 0.0, n: int = 40, dtype: torch.dtype = torch.float32) -> Problem:
    """Two classes of images: the left or the right half is bright; class k is to become the other one."""
    label = torch.arange(n) % 2
    x = 0.1 * torch.randn(n, 1, 32, 32, generator=generator()).to(dtype) - 0.8
    x[label == 0, :, :, :16] += 1.5
    x[label == 1, :, :, 16:] += 1.5
    known = torch.where(torch.arange(n) < n * (1 - unlabelled), label, -1)
    return Problem(PoolMeasure(x, label=label, classes=2), Spy(x.flip(3), known), QuadraticCost(), CPU, dtype)


def seen(problem: Problem) -> set[int]:
    assert isinstance(problem.target, Spy)
    found = set(problem.target.seen)
    problem.target.seen.clear()
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_images_get_a_unet_and_a_resnet_and_start_at_the_identity(kind: type[Saddle[Any]], make_run: Make) -> None:
    problem = pairs()
    solver = make_run(kind, problem, **SMALL).solver
    assert isinstance(solver.map, ImageMap)
    assert isinstance(solver.potential, ImageCritic)
    x = problem.source.sample(5, generator=generator()).x
    assert torch.equal(solver.transport().forward(x, generator=generator(1)), x)
    assert all(name.startswith("network.") for name in solver.transport().state_dict())


@pytest.mark.parametrize(("kind", "more"), [(NOT, {}), (NOTWeak, {}), (GNOT, {}), (GNOT, {"noise": True})])
def test_every_weight_of_both_networks_moves(kind: type[Saddle[Any]], more: dict[str, Any], make_run: Make) -> None:
    solver = make_run(kind, pairs(), steps=3, **SMALL, **more).solver
    weights = {
        f"{which} {name}": (weight, weight.detach().clone())
        for which, net in (("map", solver.map), ("critic", solver.potential))
        for name, weight in net.named_parameters()
    }
    for _ in range(3):  # the first step moves the last layer of the map, which starts at zero, and no other
        solver.step()
    for name, (now, before) in weights.items():
        assert torch.isfinite(now).all()
        # a constant added to the critic changes nothing
        assert torch.equal(now, before) == (name == "critic net.last.bias"), name
    assert solver.transport().stochastic == (kind is NOTWeak or bool(more))


@pytest.mark.parametrize("kind", [NOT, NOTWeak, GNOT])
def test_same_seed_same_bits_and_a_resumed_run_is_an_unbroken_one(kind: type[Saddle[Any]], make_run: Make) -> None:
    more: dict[str, Any] = {"norm": "batch", **({"noise": True} if kind is GNOT else {})}
    whole, first, second = (make_run(kind, pairs(), steps=4, seed=seed, **SMALL, **more) for seed in (5, 5, 6))
    whole.train()
    first.train(2)
    second.solver.load_state_dict(first.solver.state_dict())
    second.done = 2
    second.train(2)
    x = pairs().source.sample(3, generator=generator(2)).x
    one, other = (run.solver.transport().forward(x, generator=generator(3)) for run in (whole, second))
    assert torch.equal(one, other)
    assert one.shape == x.shape
    assert not one.requires_grad
    assert not torch.equal(one, x)


def test_batch_norm_uses_its_running_means_outside_training(make_run: Make) -> None:
    solver = make_run(NOT, pairs(), steps=3, norm="batch", **SMALL).train()
    x = pairs().source.sample(6, generator=generator(2)).x
    torch.testing.assert_close(solver.transport().forward(x)[:1], solver.transport().forward(x[:1]))
    assert not solver.average.module.training


def test_losses_of_images_equal_the_plain_formula(make_run: Make) -> None:
    problem = pairs(dtype=torch.float64)
    solver = make_run(NOT, problem, steps=3, **SMALL).train()
    x, y = (side.sample(4, generator=generator(2)).x.flatten(1) for side in (problem.source, problem.target))
    moved = solver.map(x)
    inner = (moved - x).square().mean() - solver.potential(moved).mean()
    outer = solver.potential(moved.detach()).mean() - solver.potential(y).mean()
    for found, expected, net in (
        (solver.map_loss(x), inner, solver.map),
        (solver.potential_loss(x, y), outer, solver.potential),
    ):
        torch.testing.assert_close(found, expected)
        weights = list(net.parameters())
        for a, b in zip(
            torch.autograd.grad(found, weights), torch.autograd.grad(expected, weights, retain_graph=True), strict=True
        ):
            torch.testing.assert_close(a, b)


def test_noise_changes_the_image_and_follows_the_given_generator(make_run: Make) -> None:
    for kind, more, coordinates in ((NOTWeak, {}, 1024), (GNOT, {"noise": True}, 128)):
        solver = make_run(kind, pairs(), steps=4, **SMALL, **more, residual=False).train()
        assert solver.noise_dim() == coordinates
        x = pairs().source.sample(3, generator=generator(2)).x
        one, same, other = (solver.transport().forward(x, generator=generator(seed)) for seed in (1, 1, 2))
        assert torch.equal(one, same)
        assert not torch.equal(one, other)


def test_noise_that_fills_no_channel_is_refused(make_run: Make) -> None:
    assert make_run(NOTWeak, pairs(), **SMALL, noise_dim=2048).solver.map.net.inputs == 3
    with pytest.raises(UsageError, match="multiple of 1024"):
        make_run(NOTWeak, pairs(), **SMALL, noise_dim=100)


def test_gnot_takes_images_of_each_class_to_their_own(make_run: Make) -> None:
    problem = pairs(unlabelled=0.5)
    solver = make_run(GNOT, problem, steps=12, **SMALL | {"batch_size": 8, "inner": 4}, lr=3e-2).train()
    batch = problem.source.sample(20, generator=generator(2))
    image = solver.transport().forward(batch.x)
    left = image[:, 0, :, :16].mean((1, 2)) - image[:, 0, :, 16:].mean((1, 2))
    assert batch.label is not None
    assert bool((left[batch.label == 0] < 0).all())
    assert bool((left[batch.label == 1] > 0).all())
    assert not solver.transport().reads_label


def test_target_labels_give_gnot_no_other_label(make_run: Make) -> None:
    """Through the map's loss it sees labelled target images alone; the critic's, all, and no label enters it."""
    problem = pairs(unlabelled=0.9)
    run = make_run(GNOT, problem, **SMALL)
    for _ in range(3):
        run.solver.inner_loss()
    assert seen(problem) == {0, 1}
    hidden = pairs()  # the same images, all labelled
    assert isinstance(problem.target, Spy)
    for target in (problem.target, hidden.target):
        target.drawn = 0
    rows = [
        make_run(GNOT, given, **SMALL).solver.potential_loss(
            given.source.pool.flatten(1),
            given.target.pool.flatten(1),
        )
        for given in (problem, hidden)
    ]
    assert torch.equal(rows[0], rows[1])


@pytest.mark.parametrize("kind", [NOT, NOTWeak])
def test_classes_told_to_map_and_critic_of_images(kind: type[NOT], make_run: Make) -> None:
    problem = pairs(unlabelled=0.9)
    solver = make_run(kind, problem, steps=3, classes="input", **SMALL).train()
    assert solver.transport().reads_label
    assert solver.map.net.inputs == 1 + 2 + (kind is NOTWeak)
    assert solver.potential.net.shape == (3, 32, 32)
    assert seen(problem) == {0, 1}
    x = problem.source.sample(4, generator=generator(2)).x
    zeros, ones = (solver.transport().forward(x, torch.full((4,), k), generator=generator(1)) for k in (0, 1))
    assert zeros.shape == x.shape
    assert not torch.equal(zeros, ones)
    with pytest.raises(UsageError, match="class of each point"):
        solver.transport().forward(x)


class Steered(nn.Module):
    """T(x, k) = x + c_k."""

    def __init__(self) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.tensor([[2.0, 0.0], [-2.0, 0.0]], dtype=torch.float64))

    def forward(self, rows: Tensor) -> Tensor:
        return rows[:, :2] + rows[:, 2:] @ self.shift


class Linear(nn.Module):
    """f(y, k) = <c_k, y>."""

    def __init__(self) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.tensor([[2.0, 0.0], [-2.0, 0.0]], dtype=torch.float64))

    def forward(self, rows: Tensor) -> Tensor:
        return (rows[:, :2] * (rows[:, 2:] @ self.slope)).sum(1)

    def value_and_gradient(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        return self(rows), torch.cat((rows[:, 2:] @ self.slope, rows[:, :2] @ self.slope.T), 1)


def swap(unlabelled: float = 0.0, n: int = 200) -> Problem:
    """Two clusters of vectors that change places: class k moves by c_k exactly."""
    label = torch.arange(n) % 2
    x = 0.1 * torch.randn(n, 2, generator=generator(), dtype=torch.float64)
    x[:, 0] += 2.0 * label - 1
    y = x + torch.stack([2.0 - 4.0 * label, torch.zeros(n)], 1)
    known = torch.where(torch.arange(n) < n * (1 - unlabelled), label, -1)
    return Problem(PoolMeasure(x, label=label, classes=2), Spy(y, known), QuadraticCost(), CPU, torch.float64)


def test_exact_conditional_map_and_critic_are_a_saddle_point(make_run: Make) -> None:
    class Exact(NOT):
        def build_map(self) -> nn.Module:
            return Steered()

        def build_potential(self) -> Any:
            return Linear()

    problem = swap()
    solver = make_run(Exact, problem, classes="input", batch_size=200).solver
    x, y = solver.drawn(solver.source), solver.drawn(solver.target)
    inner, outer = solver.map_loss(x), solver.potential_loss(x, y)
    slopes = [
        *torch.autograd.grad(inner, list(solver.map.parameters())),
        *torch.autograd.grad(outer, list(solver.potential.parameters())),
    ]
    assert max(float(slope.abs().max()) for slope in slopes) < 1e-10
    assert float((inner + solver.potential(y).mean()).detach()) == pytest.approx(2.0)  # |c_k|^2 / 2
    with torch.no_grad():
        solver.map.shift.add_(0.1)
    (slope,) = torch.autograd.grad(solver.map_loss(x), list(solver.map.parameters()))
    assert float(slope.abs().max()) > 0.01


@pytest.mark.parametrize("kind", [NOT, NOTWeak])
def test_told_the_class_clusters_change_places(kind: type[NOT], make_run: Make) -> None:
    """Without classes nothing would have to move: both sides are one and the same set."""
    problem = swap(unlabelled=0.5)
    source = problem.source
    solver = make_run(kind, problem, steps=60, classes="input", batch_size=64, lr=1e-2).train()
    x, label = source.pool, source.pool_label
    assert x is not None
    assert label is not None
    wanted = x + torch.stack([2.0 - 4.0 * label, torch.zeros(len(x))], 1)
    moved = solver.transport().forward(x, label, generator=generator(1))
    assert float((moved - wanted).norm(dim=1).mean()) < 0.2
    assert seen(problem) == {0, 1}
    assert solver.transport().reads_label


@pytest.mark.parametrize("kind", [NOT, NOTWeak])
def test_classes_of_one_side_are_nothing_to_tell(kind: type[NOT], make_run: Make) -> None:
    labelled = swap()
    assert isinstance(labelled.target, Spy)
    half = Problem(labelled.source, PoolMeasure(labelled.target.pool), labelled.cost, labelled.device, labelled.dtype)
    solver = make_run(kind, half, classes="input", batch_size=16).solver
    assert not solver.transport().reads_label
    assert solver.input_classes == 0


@pytest.mark.parametrize("kind", KINDS)
def test_all_rows_have_valid_settings_and_paper_images_the_published_values(
    kind: type[Saddle[Any]], make_run: Make
) -> None:
    assert len(kind.rows) == 6
    for (name, points), row in kind.rows.items():
        assert row.batch_size >= 16
        assert (row.iterations is not None) == ((name, points) == ("paper", "vectors"))
    paper = kind.rows["paper", "images"]
    assert (paper.map_width, paper.critic_width, paper.norm, paper.inner) == (48, 64, "batch", 10)
    assert paper.lr == (1e-5 if kind is GNOT else 1e-4)
    assert paper.halvings == (5 if kind is GNOT else 0)


def test_what_is_given_goes_before_the_row_and_iterations_end_training(make_run: Make) -> None:
    solver = make_run(NOT, swap(), settings="paper", lr=0.5, batch_size=8, iterations=2).solver
    assert (solver.settings.lr, solver.settings.batch_size, solver.settings.inner) == (0.5, 8, 10)
    assert [solver.step().done for _ in range(2)] == [False, True]


def test_rates_are_halved_at_even_distances(make_run: Make) -> None:
    run = make_run(GNOT, swap(), steps=6, lr=0.4, halvings=2, lr_end=1.0, warmup=0.0, batch_size=8, inner=1)
    found = []
    for _ in range(6):
        run.train(1)
        found.append(run.solver.map_optimiser.param_groups[0]["lr"])
    assert found == pytest.approx([0.4, 0.4, 0.2, 0.2, 0.1, 0.1])
