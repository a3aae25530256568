r"""A fully connected ELU potential whose gradient, and the gradients of losses in it, are written out by hand.

With $h_0 = x$ and $z_l = h_{l-1} W_l + b_l$, $h_l = \sigma(z_l)$, the value is $f(x) = \langle h_m, w \rangle$:
a constant would change no map. One pass up and one pass down give f and its gradient,

$$\delta_m = w \odot \sigma'(z_m), \quad \delta_l = (\delta_{l+1} W_{l+1}^T) \odot \sigma'(z_l), \quad
\nabla f(x) = \delta_1 W_1^T,$$

and the same $\delta$ serve every loss that is linear in values or in directional derivatives of f, which is all that
solvers of the dual problem need: automatic differentiation would go up and down twice.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Unpack

import torch
from torch import Tensor, nn

from otbench.nets.activation import elu, elu_and_slope
from otbench.nets.start import Start, uniform
from otbench.recorded import Recorded


@dataclass(frozen=True, slots=True)
class Pass:
    """One pass up and down at n points, without a graph.

    Attributes:
        layers: h_0, ..., h_m, shapes (n, width).
        slopes: sigma'(z_1), ..., sigma'(z_m).
        deltas: delta_1, ..., delta_m.
        value: f, shape (n,).
        gradient: its gradient, shape (n, d).
    """

    layers: list[Tensor]
    slopes: list[Tensor]
    deltas: list[Tensor]
    value: Tensor
    gradient: Tensor


class ELUPotential(Recorded):
    """f: R^d -> R with ELU layers; f is smooth up to its second derivative, and need not be convex.

    Attributes:
        weights: W_1, ..., W_m, shapes (fan in, width).
        biases: b_1, ..., b_m.
        readout: w, shape (h_m,).
    """

    def __init__(self, dim: int, *, widths: Sequence[int], **start: Unpack[Start]) -> None:
        """Draw weights and biases from U(-1, 1) / sqrt(fan-in), PyTorch's rule.

        Args:
            dim: number of coordinates.
            widths: hidden widths, at least one.
            start: see `Start`.
        """
        super().__init__()
        if min(dim, *widths) < 1:
            raise ValueError(f"ELUPotential needs positive sizes, got {dim} and {tuple(widths)}")
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        for fan_in, width in itertools.pairwise((dim, *widths)):
            self.weights.append(uniform(1 / math.sqrt(fan_in), fan_in, width, **start))
            self.biases.append(uniform(1 / math.sqrt(fan_in), width, **start))
        self.readout = uniform(1 / math.sqrt(widths[-1]), widths[-1], **start)

    def forward(self, x: Tensor) -> Tensor:
        """Return f(x_i), shape (n,), for `x` of shape (n, d)."""
        h = x
        for weight, bias in zip(self.weights, self.biases, strict=True):
            h = elu(torch.addmm(bias, h, weight))
        return h @ self.readout

    def gradient(self, x: Tensor) -> Tensor:
        """Return the gradient of f at each x_i, shape (n, d); differentiable."""
        return self.value_and_gradient(x)[1]

    def value_and_gradient(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return f, shape (n,), and its gradient, shape (n, d); differentiable."""
        h, slopes = x, []
        for weight, bias in zip(self.weights, self.biases, strict=True):
            h, slope = elu_and_slope(torch.addmm(bias, h, weight))
            slopes.append(slope)
        delta = self.readout * slopes[-1]
        for weight, slope in zip(reversed(self.weights[1:]), reversed(slopes[:-1]), strict=True):
            delta = (delta @ weight.T) * slope
        return h @ self.readout, delta @ self.weights[0].T

    @torch.no_grad()
    def look(self, x: Tensor) -> Pass:
        """Go up and down once at `x`, shape (n, d)."""
        layers, slopes = [x], []
        for weight, bias in zip(self.weights, self.biases, strict=True):
            h, slope = elu_and_slope(torch.addmm(bias, layers[-1], weight))
            layers.append(h)
            slopes.append(slope)
        deltas = [slopes[-1] * self.readout]
        for weight, slope in zip(reversed(self.weights[1:]), reversed(slopes[:-1]), strict=True):
            deltas.append((deltas[-1] @ weight.T).mul_(slope))
        deltas.reverse()
        return Pass(layers, slopes, deltas, layers[-1] @ self.readout, deltas[0] @ self.weights[0].T)

    @torch.no_grad()
    def add_value_gradient(self, seen: Pass, share: Tensor) -> None:
        """Add the gradient of sum_i share_i f(x_i) to `grad` of all parameters; `share` has shape (n,)."""
        for weight, bias, h, delta in zip(self.weights, self.biases, seen.layers, seen.deltas, strict=False):
            scaled = delta * share[:, None]
            _add_product(weight, h, scaled)
            _add(bias, scaled.sum(0))
        _add(self.readout, share @ seen.layers[-1])

    @torch.no_grad()
    def add_direction_gradient(self, seen: Pass, direction: Tensor, share: Tensor | None = None) -> None:
        """Add the gradient of sum_i <direction_i, grad f(x_i)> to `grad` of all parameters.

        Args:
            seen: the pass at x.
            direction: shape (n, d).
            share: adds sum_i share_i f(x_i) for little more work, shape (n,).
        """
        tangents, bends = [direction], []
        for weight, slope in zip(self.weights, seen.slopes, strict=True):
            along = tangents[-1] @ weight
            tangents.append(along * slope)
            # ELU''(z) is ELU'(z) where that is below 1, else 0: what z adds to the tangent of h is delta times this
            bends.append(along.masked_fill_(slope == 1, 0))
        _add(self.readout, tangents[-1].sum(0))
        if share is not None:
            _add(self.readout, share @ seen.layers[-1])
        above: Tensor | None = None  # what the layers above say of h_l, by way of z
        for k in reversed(range(len(self.weights))):
            delta = seen.deltas[k]
            by_z = bends[k].mul_(delta)
            if above is not None:
                by_z.addcmul_(above, seen.slopes[k])
            _add_product(self.weights[k], tangents[k], delta)
            above = by_z @ self.weights[k].T if k else None
            if share is not None:  # not before: what the values say goes further down in delta
                by_z.addcmul_(delta, share[:, None])
            _add_product(self.weights[k], seen.layers[k], by_z)
            _add(self.biases[k], by_z.sum(0))


def _add(parameter: Tensor, gradient: Tensor) -> None:
    parameter.grad = gradient if parameter.grad is None else parameter.grad.add_(gradient)


def _add_product(parameter: Tensor, left: Tensor, right: Tensor) -> None:
    """Add left^T right to the gradient of `parameter`."""
    if parameter.grad is None:
        parameter.grad = left.T @ right
    else:
        parameter.grad.addmm_(left.T, right)
