r"""A scalar network of residual tanh layers, with its gradient in closed form.

$h_0 = \tanh(x W_0 + b_0)$, $h_l = h_{l-1} + \kappa \tanh(h_{l-1} W_l + b_l)$ with $\kappa$ = 1 / number of residual
layers, and the value is $f(x) = \langle h_m, w \rangle$. Going down again,

$$g_m = w, \quad g_{l-1} = g_l + \kappa \big( g_l \odot (1 - \tanh^2) \big) W_l^T, \quad
\nabla f(x) = \big( g_0 \odot (1 - h_0^2) \big) W_0^T.$$
"""

from __future__ import annotations

import math
from typing import Unpack

import torch
from torch import Tensor, nn

from otbench.nets.start import Start, uniform
from otbench.recorded import Recorded


class TanhResNet(Recorded):
    """f: R^d -> R, smooth, and bounded by the 1-norm of its read-out times two.

    Attributes:
        weights: W_0 of shape (d, width), and W_1, ..., W_m of shape (width, width).
        biases: b_0, ..., b_m, shapes (width,).
        readout: w, shape (width,).
    """

    def __init__(self, dim: int, *, width: int, layers: int, **start: Unpack[Start]) -> None:
        """Draw weights and biases from U(-1, 1) / sqrt(fan-in), PyTorch's rule.

        Args:
            dim: number of coordinates.
            width: of all layers.
            layers: residual layers, m.
            start: see `Start`.
        """
        super().__init__()
        if min(dim, width, layers) < 1:
            raise ValueError(f"TanhResNet needs positive sizes, got {dim}, {width} and {layers}")
        self.share = 1 / layers
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        for fan_in in (dim, *[width] * layers):
            self.weights.append(uniform(1 / math.sqrt(fan_in), fan_in, width, **start))
            self.biases.append(uniform(1 / math.sqrt(fan_in), width, **start))
        self.readout = uniform(1 / math.sqrt(width), width, **start)

    def forward(self, x: Tensor) -> Tensor:
        """Return f(x_i), shape (n,), for `x` of shape (n, d)."""
        return self._up(x)[0] @ self.readout

    def gradient(self, x: Tensor) -> Tensor:
        """Return the gradient of f at each x_i, shape (n, d); differentiable."""
        return self.value_and_gradient(x)[1]

    def value_and_gradient(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return f, shape (n,), and its gradient, shape (n, d); differentiable."""
        h, (opening, *bends) = self._up(x)
        g = self.readout.expand_as(h)
        for weight, bend in zip(reversed(self.weights[1:]), reversed(bends), strict=True):
            g = torch.addmm(g, g * (1 - bend.square()), weight.T, alpha=self.share)
        return h @ self.readout, (g * (1 - opening.square())) @ self.weights[0].T

    def _up(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return h_m and the tanh of each layer, the opening one first."""
        h = torch.addmm(self.biases[0], x, self.weights[0]).tanh()
        bends = [h]
        for weight, bias in zip(self.weights[1:], self.biases[1:], strict=True):
            bends.append(torch.addmm(bias, h, weight).tanh())
            h = torch.add(h, bends[-1], alpha=self.share)
        return h, bends
