"""Evaluation of maps: single draws and the mean over draws, in pieces, and nothing of another form than promised."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from otbench import task
from otbench.datasets.gaussian import Gaussian, GaussianConfig
from otbench.errors import OtbenchError
from otbench.harness.evaluate import DRAWS, score
from otbench.problem import Batch
from otbench.transport import Transport

from ..helpers.applied import apply_maps

CPU = torch.device("cpu")


class Noisy(Transport):
    """x plus standard normal noise."""

    stochastic = True

    def forward(self, x: Tensor, label: Tensor | None = None, generator: torch.Generator | None = None) -> Tensor:
        return x + torch.randn(x.shape, generator=generator, dtype=x.dtype)


def test_the_mean_over_draws_stands_beside_a_single_draw() -> None:
    x = torch.zeros(20_000, 2)
    maps, test = Noisy(), task.TestData(Batch(x), Batch(x))
    before = torch.get_rng_state()
    found = apply_maps(maps, test, seed=5)
    assert found.forward_mean is not None
    assert abs(float(found.forward.var()) - 1) < 0.05
    assert abs(float(found.forward_mean.var()) * DRAWS - 1) < 0.05
    assert torch.equal(found.forward, apply_maps(maps, test, seed=5).forward)
    assert not torch.equal(found.forward, apply_maps(maps, test, seed=6).forward)
    assert torch.equal(before, torch.get_rng_state())
    alone = apply_maps(maps, test, seed=5, mean=False)
    assert alone.forward_mean is None
    assert torch.equal(found.forward, alone.forward)


def test_points_are_mapped_in_pieces_by_their_size_and_in_order() -> None:
    """Images pass through many channels: a piece is bounded by coordinates, and by points."""
    sizes: list[int] = []

    class Watched(Transport):
        reads_label = True

        def forward(self, x: Tensor, label: Tensor | None = None, generator: torch.Generator | None = None) -> Tensor:
            sizes.append(len(x))
            return x if label is None else x + label.view(-1, 1, 1, 1)

    x, label = torch.arange(2500.0).view(-1, 1, 1, 1).expand(-1, 1, 32, 32), torch.arange(2500) % 2
    moved = apply_maps(Watched(), task.TestData(Batch(x, label), Batch(x, label)), seed=0).forward
    assert sizes == [1024, 1024, 452]
    assert torch.equal(moved, x + label.view(-1, 1, 1, 1))


@pytest.mark.parametrize("name", ["backward", "log_prob"])
def test_backward_maps_and_densities_of_another_form_are_refused(name: str) -> None:
    class TwoWay(Noisy):
        def backward(self, y: Tensor, label: Tensor | None = None, generator: torch.Generator | None = None) -> Tensor:
            return y[:, :1] if name == "backward" else y

        def log_prob(self, y: Tensor, label: Tensor | None = None, generator: torch.Generator | None = None) -> Tensor:
            return y[:, :1] if name == "log_prob" else y.double().sum(1)

    x = torch.zeros(30, 2)
    with pytest.raises(OtbenchError) as error:
        apply_maps(TwoWay(), task.TestData(Batch(x), Batch(x)), seed=0)
    wanted = "(30,)" if name == "log_prob" else "(30, 2)"
    assert str(error.value) == (
        f"TwoWay: {name} must return shape {wanted}, float32, on cpu here; it returned shape (30, 1), float32, on cpu"
    )


def test_the_gaussian_task_scores_both() -> None:
    instance = Gaussian(GaussianConfig(dim=2)).build(seed=100, device=CPU, dtype=torch.float64)
    assert instance.scores_mean
    found = score(instance, apply_maps(Noisy(), instance.test, seed=5))
    trace = float(instance.facts["trace1"])
    identity = found["uvp_mean"] - 100 * 2 / DRAWS / trace
    assert abs(found["uvp_fwd"] - identity - 100 * 2 / trace) < 0.05 * found["uvp_fwd"]
    assert found["uvp_mean"] < found["uvp_fwd"] / 3
