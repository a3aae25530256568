"""A velocity network: zero at first, with the derivatives that autograd finds."""

from __future__ import annotations

import torch
from torch import Tensor

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


def test_tangents_are_derivatives_in_the_points() -> None:
    x, told, t = points(4, 3), points(4, 2, seed=3), torch.tensor(0.3, dtype=F64)
    velocity = Velocity(rough(3, 2), told)
    whole = torch.autograd.functional.jacobian(lambda x: velocity(x, t), x)
    jacobians = whole[torch.arange(4), :, torch.arange(4)]
    value, tangents = velocity.value_and_tangents(x, t, torch.eye(3, dtype=F64)[None])
    torch.testing.assert_close(value, velocity(x, t))
    torch.testing.assert_close(tangents.transpose(1, 2), jacobians)
    directions = points(8, 3, seed=4).view(4, 2, 3)
    _, tangents = velocity.value_and_tangents(x, t, directions)
    torch.testing.assert_close(tangents, directions @ jacobians.transpose(1, 2))
