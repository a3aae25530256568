"""A velocity field of points and time as a plain network, for `otbench.nets.continuous_flow` to integrate."""

from __future__ import annotations

from typing import Unpack

import torch
from torch import Tensor, nn

from otbench.nets.mlp import MLP
from otbench.nets.start import Start


class VelocityMLP(MLP):
    """MLP with SiLU from points, what else it is told of them (k numbers each), and time to velocities.

    It is zero at first, so that its flow starts as the identity.
    """

    def __init__(self, dim: int, *, told: int = 0, hidden: int, layers: int, **start: Unpack[Start]) -> None:
        """Draw all weights but the last layer's, which are zero.

        Args:
            dim: coordinates of a point, d.
            told: k, numbers that it is told of each.
            hidden: width of a hidden layer.
            layers: hidden layers.
            start: see `Start`.
        """
        super().__init__(dim + told + 1, dim, widths=(hidden,) * layers, zero_last=True, **start)

    def value_and_tangents(self, inputs: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
        """Return the velocity, shape (n, d), and its derivatives along directions, shape (n, m, d).

        Args:
            inputs: points, what is told of them, and times, shape (n, d + k + 1).
            directions: of the points, shape (n, m, d), or (1, m, d) where they are the same for all.
        """
        z, tangent = inputs, directions
        first = self.weights[0][: self.outputs]
        for k, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            z, tangent = torch.addmm(bias, z, weight), tangent @ (weight if k else first)
            if k + 1 < len(self.weights):
                share = z.sigmoid()
                tangent = tangent * (share * (1 + z * (1 - share)))[:, None]
                z = z * share
        return z, tangent.expand(len(z), -1, -1)


class Velocity(nn.Module):
    """v(x, t) at a batch of points of each of which the network is told something, as a `Block` takes it.

    Attributes:
        network: on inputs (n, d + k + 1), with `value_and_tangents` as above where densities are wanted.
        told: what it is told of the n points of this batch, shape (n, k), k >= 0.
    """

    def __init__(self, network: nn.Module, told: Tensor) -> None:
        """Join a network with what it is told."""
        super().__init__()
        self.network, self.told = network, told

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """Return the velocity at each x_i, shape (n, d), for `x` of shape (n, d) and `t` of shape () or (n, 1)."""
        return self.network(self._inputs(x, t))  # type: ignore[no-any-return]

    def value_and_tangents(self, x: Tensor, t: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
        """Return the velocity, shape (n, d), and its derivatives along directions, shape (n, m, d); see above."""
        return self.network.value_and_tangents(self._inputs(x, t), directions)  # type: ignore[operator, no-any-return]

    def _inputs(self, x: Tensor, t: Tensor) -> Tensor:
        return torch.cat((x, self.told, t.expand(len(x), 1)), 1)
