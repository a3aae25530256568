"""A velocity network: zero at first, with the derivatives that autograd finds."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from otbench.errors import DivergedError
from otbench.nets.velocity import Velocity, VelocityMLP

F64 = torch.float64


def rough(dim: int, told: int = 0) -> VelocityMLP:
    generator = torch.Generator().manual_seed(1)
    network = VelocityMLP(dim, told=told, hidden=7, layers=3, generator=generator, dtype=F64)
    torch.nn.init.normal_(network.weights[-1], generator=generator)
    return network


def points(n: int, d: int, seed: int = 2) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=F64)


def test_the_flow_starts_as_the_identity() -> None:
    network = VelocityMLP(3, hidden=7, layers=2, generator=torch.Generator().manual_seed(0))
    assert not network(torch.randn(5, 4)).any()


def test_points_classes_and_time_go_to_the_network_in_this_order() -> None:
    network, x, told = rough(3, 2), points(6, 3), points(6, 2, seed=3)
    t = torch.linspace(0, 1, 6, dtype=F64)[:, None]
    assert torch.equal(Velocity(network, told)(x, t), network(torch.cat((x, told, t), 1)))
    assert torch.equal(Velocity(network, told)(x, t[3, 0])[3], network(torch.cat((x, told, t), 1))[3])


def test_the_divergence_is_the_trace_of_the_jacobian() -> None:
    x, told, t = points(4, 3), points(4, 2, seed=3), torch.tensor(0.3, dtype=F64)
    velocity = Velocity(rough(3, 2), told)
    whole = torch.autograd.functional.jacobian(lambda x: velocity(x, t), x)
    traces = whole[torch.arange(4), :, torch.arange(4)].diagonal(dim1=1, dim2=2).sum(1)
    torch.testing.assert_close(velocity.divergence(x, t), traces)


@pytest.mark.parametrize("tolerance", [None, 1e-9])
def test_a_path_is_there_at_the_first_time_and_turns_back(tolerance: float | None) -> None:
    x, velocity = points(4, 3), Velocity(rough(3), points(4, 0))
    times = [0.2 + 0.02 * k for k in range(31)]
    path = velocity.path(x, times, tolerance=tolerance)
    assert path.shape == (31, 4, 3)
    assert torch.equal(path[0], x)
    slope = (path[16] - path[14]) / (times[16] - times[14])
    torch.testing.assert_close(slope, velocity(path[15], torch.tensor(times[15], dtype=F64)), rtol=1e-2, atol=1e-2)
    torch.testing.assert_close(velocity.path(path[-1], times[::-1], tolerance=tolerance)[-1], x, rtol=1e-5, atol=1e-5)


def test_evaluations_are_counted() -> None:
    velocity = Velocity(rough(3), points(4, 0))
    velocity.path(points(4, 3), [0.0, 0.5, 1.0])
    assert velocity.evaluations == 2 * 4


def test_an_equation_that_cannot_be_solved_is_said_to_diverge() -> None:
    network = torch.nn.Linear(4, 3, dtype=F64)
    network.weight.data.fill_(1e300)
    with pytest.raises(DivergedError, match="ODE solver"):
        Velocity(network, points(4, 0)).path(points(4, 3), [0.0, 1.0], tolerance=1e-3)
