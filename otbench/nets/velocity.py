"""A velocity field of points and time as a plain network, and its flow, by torchdiffeq."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

import torch
from torch import Tensor, nn

from otbench.errors import DivergedError
from otbench.nets.continuous_flow import dopri5
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
            layers: hidden layers, at least one.
            start: see `Start`.
        """
        super().__init__(dim + told + 1, dim, widths=(hidden,) * layers, zero_last=True, **start)

    def divergence(self, inputs: Tensor) -> Tensor:
        """Return the trace of the derivative in the points, shape (n,), exactly, for `inputs` of shape (n, d + k + 1).

        It takes as long as d evaluations, and memory for n d times as many numbers as a hidden layer has.
        """
        d, z = self.outputs, inputs
        tangent = self.weights[0][None, :d]
        for k, (weight, bias) in enumerate(zip(self.weights[:-1], self.biases[:-1], strict=True)):
            z = torch.addmm(bias, z, weight)
            share = z.sigmoid()
            slope = (share * (1 + z * (1 - share)))[:, None]
            tangent = (tangent @ weight if k else tangent) * slope
            z = z * share
        trace: Tensor = (tangent * self.weights[-1].T).sum((1, 2))
        return trace


class Velocity:
    """v(x, t) at the points of one batch, of each of which the network is told something.

    Attributes:
        network: on inputs (n, d + k + 1): points, what it is told of them, time.
        told: what it is told, shape (n, k), k >= 0.
        evaluations: calls so far.
    """

    def __init__(self, network: nn.Module, told: Tensor) -> None:
        """Join a network with what it is told."""
        self.network, self.told, self.evaluations = network, told, 0

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        """Return the velocity at each x_i, shape (n, d), for `x` of shape (n, d) and `t` of shape () or (n, 1)."""
        self.evaluations += 1
        return self.network(self._inputs(x, t))  # type: ignore[no-any-return]

    def divergence(self, x: Tensor, t: Tensor) -> Tensor:
        """Return the divergence at each x_i, shape (n,), by the network's own `divergence`."""
        return self.network.divergence(self._inputs(x, t))  # type: ignore[operator, no-any-return]

    def path(self, x: Tensor, times: Sequence[float], *, tolerance: float | None = None) -> Tensor:
        """Return where the flow carries `x`, shape (n, d), that is there at the first time: shape (times, n, d).

        Args:
            x: points.
            times: two or more, rising or falling.
            tolerance: absolute and relative, of dopri5; None = one step of RK4 from each time to the next.

        Raises:
            DivergedError: the adaptive solver's step became too small, or it took too many.
        """
        from torchdiffeq import odeint

        options = {"method": "rk4"} if tolerance is None else dopri5(tolerance, tolerance)
        try:
            found = odeint(lambda t, x: self(x, t), x, x.new_tensor(times), **options)
        except AssertionError as error:  # torchdiffeq's only word for an equation that it cannot solve
            raise DivergedError(f"the ODE solver gave up: {error}") from None
        return found  # type: ignore[no-any-return]

    def _inputs(self, x: Tensor, t: Tensor) -> Tensor:
        return torch.cat((x, self.told, t.expand(len(x), 1)), 1)
