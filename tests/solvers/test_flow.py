"""What the flows share: which problems they take, published rows, the rule of the learning rate."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from otbench.errors import UsageError
from otbench.nets.watch import Watch
from otbench.ops.points import held_out
from otbench.problem import FreshMeasure, Measure, PoolMeasure, PowerCost, Problem, QuadraticCost
from otbench.solvers._flow import RowName, log_normal, row_named
from otbench.solvers.otflow import SETTINGS, OTFlow

CPU = torch.device("cpu")


def normal(*shape: int, known: bool = True) -> Measure:
    return FreshMeasure(shape, lambda n, g: torch.randn(n, *shape, generator=g), is_standard_normal=known)


def test_they_take_a_standard_normal_source_of_vectors_and_say_why_not() -> None:
    def ask(source: Measure, cost: QuadraticCost | PowerCost) -> str:
        support = OTFlow.supports(Problem(source, source, cost, CPU, torch.float32))
        return "yes" if support.ok else support.reason

    assert ask(normal(3), QuadraticCost()) == "yes"
    assert "standard normal" in ask(normal(3, known=False), QuadraticCost())
    assert "vectors" in ask(normal(1, 2, 2), QuadraticCost())
    assert "quadratic" in ask(normal(3), PowerCost(3.0))


@pytest.mark.parametrize(("row", "dim", "named"), [("auto", 43, "miniboone"), ("gas", 2, "gas"), ("ours", 6, "ours")])
def test_a_row_is_chosen_by_name_or_by_dimension(row: RowName, dim: int, named: str) -> None:
    assert row_named(row, dim, owner="otflow") == named


def test_auto_is_refused_in_a_dimension_without_published_settings() -> None:
    with pytest.raises(UsageError, match=r"no published settings for d = 5.*miniboone \(43\)"):
        row_named("auto", 5, owner="otflow")


def test_given_parameters_win_over_the_row(make_run: Callable[..., Any]) -> None:
    problem = Problem(normal(6), normal(6), QuadraticCost(), CPU, torch.float32)
    solver = make_run(OTFlow, problem, settings="auto", width=17, nt=3, batch_size=4).solver
    assert solver.settings == dataclasses.replace(SETTINGS["power"], width=17, nt=3, batch_size=4)


def test_points_set_aside_are_the_validation_pool_or_a_sample() -> None:
    generator = torch.Generator().manual_seed(1)
    pool, aside = torch.arange(20.0).view(10, 2), torch.arange(100.0, 110.0).view(5, 2)
    torch.testing.assert_close(held_out(PoolMeasure(pool, validation=aside), 5, generator), aside)
    some = held_out(PoolMeasure(pool, validation=aside), 3, generator)
    assert len(some) == 3
    assert bool((some[:, None] == aside).all(2).any(1).all())
    assert held_out(normal(2), 50, generator).shape == (50, 2)


def test_log_normal_is_that_of_torch() -> None:
    z = torch.randn(6, 4, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    wanted = torch.distributions.Normal(0.0, 1.0).log_prob(z).sum(1)
    torch.testing.assert_close(log_normal(z), wanted)


def watched(waits: tuple[int, ...], *, restart: bool) -> tuple[nn.Linear, Watch]:
    module = nn.Linear(1, 1, bias=False)
    return module, Watch(module, waits=waits, restart=restart)


def follow(watch: Watch, losses: list[float]) -> list[tuple[int, bool]]:
    seen = []
    for loss in losses:
        watch.look(loss)
        seen.append((watch.drops, watch.done))
    return seen


def test_each_stall_drops_and_the_one_after_the_third_drop_stops() -> None:
    _, watch = watched((2, 2, 2, 2), restart=True)
    assert follow(watch, [1.0, 1.0]) == [(0, False), (0, False)]
    assert follow(watch, [0.9, 1.0, 0.9]) == [(0, False), (0, False), (1, False)]  # equal is no improvement
    assert follow(watch, [0.95, 0.8, 1.0, float("nan")]) == [(1, False), (1, False), (1, False), (2, False)]
    assert follow(watch, [1.0] * 4) == [(2, False), (3, False), (3, False), (3, True)]
    assert follow(watch, [1.0] * 3) == [(3, True)] * 3


def test_a_long_stall_drops_twice_and_stops_and_an_improvement_keeps_the_drops() -> None:
    _, watch = watched((1, 2, 3), restart=False)
    assert follow(watch, [1.0, 2.0, 0.5]) == [(0, False), (1, False), (1, False)]
    assert follow(watch, [1.0, 1.0, 1.0]) == [(1, False), (2, False), (2, True)]


def test_the_best_weights_are_kept_and_saved() -> None:
    module, watch = watched((5,), restart=True)
    assert watch.module is module
    for weight, loss in ((1.0, 3.0), (2.0, 1.0), (3.0, 2.0)):
        nn.init.constant_(module.weight, weight)
        watch.look(loss)
    assert [float(p.detach()) for p in watch.module.parameters()] == [2.0]
    _, other = watched((5,), restart=True)
    other.load_state_dict(watch.state_dict())
    assert [float(p.detach()) for p in other.module.parameters()] == [2.0]
    assert (other.loss, other.stall, other.drops, other.done) == (1.0, 1, 0, False)
