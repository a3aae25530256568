r"""A scalar network of residual layers, with its gradient in closed form; with a quadratic beside, where asked for.

$h_0 = \sigma(x W_0 + b_0)$, $h_l = h_{l-1} + \kappa\, \sigma(h_{l-1} W_l + b_l)$ with a fixed share $\kappa$, and the
value is $f(x) = \langle h_m, w \rangle$, plus $|x A|^2 / 2 + \langle b, x \rangle$ with the quadratic. For tanh and
softplus the slope $\sigma'$ follows from the value: $1 - \sigma^2$ and $1 - e^{-\sigma}$. Going down again,

$$g_m = w, \quad g_{l-1} = g_l + \kappa \big( g_l \odot \sigma'_l \big) W_l^T, \quad
\nabla f(x) = \big( g_0 \odot \sigma'_0 \big) W_0^T + x A A^T + b.$$
"""

from __future__ import annotations

import math
from typing import Literal, Unpack

import torch
from torch import Tensor, nn
from torch.nn import functional

from otbench.nets.start import Start, constant, uniform
from otbench.recorded import Recorded


class ResidualNet(Recorded):
    """f: R^d -> R, smooth. With tanh and without a quadratic it is bounded, by the 1-norm of the read-out times two.

    Attributes:
        weights: W_0 of shape (d, width), and W_1, ..., W_m of shape (width, width).
        biases: b_0, ..., b_m, shapes (width,).
        readout: w, shape (width,).
        quadratic: A, shape (d, d), drawn by Xavier's rule; None without.
        slope: b, shape (d,), zero at first; None without.
    """

    def __init__(
        self,
        dim: int,
        *,
        width: int,
        layers: int,
        activation: Literal["tanh", "softplus"] = "tanh",
        share: float | None = None,
        quadratic: bool = False,
        **start: Unpack[Start],
    ) -> None:
        """Draw weights and biases from U(-1, 1) / sqrt(fan-in), PyTorch's rule.

        Args:
            dim: number of coordinates.
            width: of all layers.
            layers: residual layers, m.
            activation: sigma.
            share: kappa; None = 1 / m.
            quadratic: whether |x A|^2 / 2 + <b, x> is added.
            start: see `Start`.
        """
        super().__init__()
        if min(dim, width, layers) < 1:
            raise ValueError(f"ResidualNet needs positive sizes, got {dim}, {width} and {layers}")
        self.activation, self.share = activation, 1 / layers if share is None else share
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        for fan_in in (dim, *[width] * layers):
            self.weights.append(uniform(1 / math.sqrt(fan_in), fan_in, width, **start))
            self.biases.append(uniform(1 / math.sqrt(fan_in), width, **start))
        self.readout = uniform(1 / math.sqrt(width), width, **start)
        self.quadratic = uniform(math.sqrt(3 / dim), dim, dim, **start) if quadratic else None
        self.slope = constant(0.0, dim, **start) if quadratic else None

    def forward(self, x: Tensor) -> Tensor:
        """Return f(x_i), shape (n,), for `x` of shape (n, d)."""
        value = self._up(x)[0] @ self.readout
        return value if self.quadratic is None else value + self._square(x)[0]

    def gradient(self, x: Tensor) -> Tensor:
        """Return the gradient of f at each x_i, shape (n, d); differentiable."""
        return self.value_and_gradient(x)[1]

    def value_and_gradient(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return f, shape (n,), and its gradient, shape (n, d); differentiable."""
        h, (opening, *bends) = self._up(x)
        g = self.readout.expand_as(h)
        for weight, bend in zip(reversed(self.weights[1:]), reversed(bends), strict=True):
            g = torch.addmm(g, g * self._slope(bend), weight.T, alpha=self.share)
        value, gradient = h @ self.readout, (g * self._slope(opening)) @ self.weights[0].T
        if self.quadratic is None:
            return value, gradient
        square, slope = self._square(x)
        return value + square, gradient + slope

    def _square(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the quadratic, shape (n,), and its gradient, shape (n, d)."""
        assert self.quadratic is not None
        assert self.slope is not None
        along = x @ self.quadratic
        return along.square().sum(1) / 2 + x @ self.slope, torch.addmm(self.slope, along, self.quadratic.T)

    def _up(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return h_m and sigma of each layer, the opening one first."""
        h = self._sigma(torch.addmm(self.biases[0], x, self.weights[0]))
        bends = [h]
        for weight, bias in zip(self.weights[1:], self.biases[1:], strict=True):
            bends.append(self._sigma(torch.addmm(bias, h, weight)))
            h = torch.add(h, bends[-1], alpha=self.share)
        return h, bends

    def _sigma(self, z: Tensor) -> Tensor:
        return z.tanh() if self.activation == "tanh" else functional.softplus(z)

    def _slope(self, bend: Tensor) -> Tensor:
        return 1 - bend.square() if self.activation == "tanh" else -torch.expm1(-bend)
