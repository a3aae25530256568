r"""The velocity network of FFJORD: concatsquash layers, with directional derivatives beside the value.

Source: Grathwohl, Chen, Bettencourt, Sutskever, Duvenaud, "FFJORD", ICLR 2019 (arXiv 1810.01367), and its
released code. At time t a layer is x -> (W x + b) * sigmoid(g t + g_0) + h t. The time is the same for all points, so
the gate goes into W, and derivatives along directions pass forward through the same matrices: exact, without a second
backward pass.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Literal, Unpack

import torch
from torch import Tensor, nn
from torch.nn import functional

from otbench.nets.start import Start, uniform
from otbench.recorded import Recorded

Smooth = Literal["tanh", "softplus"]


class ConcatSquash(Recorded):
    """Time-dependent vector field R^dim x R -> R^dim.

    Attributes:
        dim: number of coordinates.
        widths: hidden widths.
        weights, biases: W, shapes (out, in), and b, shapes (out,), per layer.
        gates, gate_biases, shifts: g, g_0 and h, shapes (out,), per layer.
    """

    def __init__(
        self,
        dim: int,
        *,
        widths: Sequence[int],
        activation: Smooth,
        **start: Unpack[Start],
    ) -> None:
        """Draw all parameters uniformly in +- 1 / sqrt(fan-in), the fan-in of gates and shifts being 1.

        Args:
            dim: number of coordinates.
            widths: hidden widths.
            activation: between the layers.
            start: see `Start`.

        Raises:
            ValueError: a size that is not positive.
        """
        super().__init__()
        self.dim, self.widths, self.activation = dim, tuple(widths), activation
        if min(dim, *self.widths, 1) < 1:
            raise ValueError(f"ConcatSquash needs positive sizes, got dim={dim}, widths={self.widths}")

        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        self.gates, self.gate_biases, self.shifts = nn.ParameterList(), nn.ParameterList(), nn.ParameterList()
        for fan_in, out in itertools.pairwise((dim, *self.widths, dim)):
            self.weights.append(uniform(fan_in**-0.5, out, fan_in, **start))
            self.biases.append(uniform(fan_in**-0.5, out, **start))
            for one in (self.gates, self.gate_biases, self.shifts):
                one.append(uniform(1.0, out, **start))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """Return the velocity at each x_i, shape (n, dim), for `x` of shape (n, dim) and `t` of shape ()."""
        for k in range(len(self.weights)):
            weight, bias = self._layer(k, t)
            x = functional.linear(x, weight, bias)
            if k + 1 < len(self.weights):
                x = x.tanh() if self.activation == "tanh" else functional.softplus(x)
        return x

    def value_and_tangents(self, x: Tensor, t: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
        """Return the velocity, shape (n, dim), and its derivatives along directions, shape (n, k, dim).

        Args:
            x: points, shape (n, dim).
            t: time, shape ().
            directions: shape (n, k, dim), or (1, k, dim) where they are the same for all points.
        """
        tangent = directions
        for k in range(len(self.weights)):
            weight, bias = self._layer(k, t)
            x = functional.linear(x, weight, bias)
            tangent = functional.linear(tangent, weight)
            if k + 1 < len(self.weights):
                x, slope = self._bent(x)
                tangent = tangent * slope[:, None]
        return x, tangent.expand(len(x), -1, -1)

    def value_and_trace(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        r"""Return the velocity, shape (n, dim), and the trace of its Jacobian, shape (n,), both differentiable.

        With two hidden layers the Jacobian is $W_3 D_2 W_2 D_1 W_1$, where $D_k$ holds the slopes $s_k$ of layer k. Its
        trace $s_2^T \big( W_2 \odot (W_1 W_3)^T \big) s_1$ costs a point no more than the velocity does. Networks of
        another depth pass the unit vectors through all layers, which costs dim times as much.
        """
        if len(self.widths) != 2:
            units = torch.eye(self.dim, dtype=x.dtype, device=x.device)[None]
            velocity, tangents = self.value_and_tangents(x, t, units)
            return velocity, tangents.diagonal(dim1=1, dim2=2).sum(1)
        (first, first_bias), (second, second_bias), (third, third_bias) = (self._layer(k, t) for k in range(3))
        x, slope = self._bent(functional.linear(x, first, first_bias))
        x, next_slope = self._bent(functional.linear(x, second, second_bias))
        trace = (functional.linear(slope, second * (first @ third).T) * next_slope).sum(1)
        return functional.linear(x, third, third_bias), trace

    def _bent(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return the activation at `z`, and its slope."""
        if self.activation == "tanh":
            bent = z.tanh()
            return bent, 1 - bent.square()
        return functional.softplus(z), z.sigmoid()

    def _layer(self, k: int, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return matrix and bias of layer k at time t."""
        gate = torch.sigmoid(self.gates[k] * t + self.gate_biases[k])
        return self.weights[k] * gate[:, None], self.biases[k] * gate + self.shifts[k] * t
