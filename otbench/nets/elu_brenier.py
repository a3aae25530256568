r"""Brenier potentials with ELU layers and a quadratic: $\psi(x) = \sigma(z) + e^\alpha |x|^2 / 2$, plain or convex.

The networks of Amos, "On amortizing convex conjugates for optimal transport", ICLR 2023 (arXiv 2210.12153), whose
scalar z goes through the activation as well. With $h_0 = x$ and $h_k = \sigma(z_k)$, the plain one (`mlp`) has
$z_k = h_{k-1} V_k + b_k$. The convex one (`icnn`) has, from its second layer on, positive weights and a way from x,

$$z_k = e^{s_k} \odot (h_{k-1} \mathrm{softplus}(U_k) / w_{k-1} + x W_k) + b_k,$$

with $w_{k-1}$ units in $h_{k-1}$ and the scales s_k of hidden layers alone; s and b begin such that z_k has mean 0 and
variance 1 on the box [-5, 5]^d (ActNorm). ELU is convex and does not fall, so psi is strongly convex.

Gradients are written out: one pass up and one down.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Literal, TypeAlias, Unpack

import torch
from torch import Tensor, nn
from torch.nn import functional

from otbench.nets.activation import elu, elu_and_slope
from otbench.nets.start import Start, constant, normal
from otbench.recorded import Recorded

Kind = Literal["mlp", "icnn"]
BOX, BATCH = 5.0, 1024
"""Half the side of the box, and points in it, on which the scales of the convex network begin."""
_Layer: TypeAlias = tuple[Tensor | None, Tensor | None, Tensor]
"""Weights of the layer below and of x, where there are any, and the bias."""


class ELUBrenier(Recorded):
    """psi: R^d -> R, near |x|^2 / 2 at the start.

    Attributes:
        inner: V_2, ... of the plain network, U_2, ... of the convex one, shapes (w_{k-1}, w_k).
        outer: V_1, or W_1, W_2, ..., shapes (d, w_k).
        biases: b_1, ..., shapes (w_k,).
        scales: s_2, ... of hidden layers, shapes (w_k,); none in the plain network.
        log_alpha: alpha, shape ().
    """

    def __init__(
        self, dim: int, *, widths: Sequence[int], kind: Kind = "mlp", flat: bool = False, **start: Unpack[Start]
    ) -> None:
        """Draw weights from N(0, 1 / fan-in); biases and alpha begin at zero.

        Args:
            dim: number of coordinates.
            widths: hidden widths, at least one.
            kind: plain, or convex.
            flat: begin with V, or U and W, of the last layer at zero: the gradient is the identity, or about that.
            start: see `Start`.

        Raises:
            ValueError: a size that is not positive, or no hidden layer.
        """
        super().__init__()
        if not widths or min(dim, *widths) < 1:
            raise ValueError(f"ELUBrenier needs positive sizes and a hidden layer, got {dim} and {tuple(widths)}")
        self.convex = kind == "icnn"
        sizes = (*widths, 1)
        reached = sizes if self.convex else sizes[:1]
        self.outer = nn.ParameterList(normal(dim**-0.5, dim, size, **start) for size in reached)
        self.inner = nn.ParameterList(normal(a**-0.5, a, b, **start) for a, b in itertools.pairwise(sizes))
        self.biases = nn.ParameterList(constant(0.0, size, **start) for size in sizes)
        scaled = sizes[1:-1] if self.convex else ()
        self.scales = nn.ParameterList(constant(0.0, size, **start) for size in scaled)
        self.log_alpha = constant(0.0, **start)
        if flat:
            for last in (self.inner[-1], self.outer[-1]) if self.convex else (self.inner[-1],):
                nn.init.zeros_(last)
        if self.scales:
            box = self.outer[0].new_empty(BATCH, dim)
            self._normalise(box.uniform_(-BOX, BOX, generator=start.get("generator")))

    @torch.no_grad()
    def _normalise(self, x: Tensor) -> None:
        """Set scales and biases of hidden layers from the second on such that z_k has mean 0 and variance 1 at `x`."""
        first, *layers = self._layers()
        h = elu(_affine(x, x, first))
        for layer, scale, bias in zip(layers, self.scales, self.biases[1:], strict=False):
            z = _affine(x, h, layer)
            std, mean = torch.std_mean(z, 0)
            scale.copy_(-std.log())
            bias.copy_(-mean / std)
            h = elu((z - mean) / std)

    def _layers(self) -> list[_Layer]:
        layers: list[_Layer] = [(None, self.outer[0], self.biases[0])]
        if not self.convex:
            return [*layers, *((v, None, b) for v, b in zip(self.inner, self.biases[1:], strict=True))]
        for k, (u, w, b) in enumerate(zip(self.inner, self.outer[1:], self.biases[1:], strict=True)):
            v = functional.softplus(u) / len(u)
            if k < len(self.scales):
                scale = self.scales[k].exp()
                v, w = v * scale, w * scale
            layers.append((v, w, b))
        return layers

    def forward(self, x: Tensor) -> Tensor:
        """Return psi(x_i), shape (n,), for `x` of shape (n, d)."""
        return self._up(x, self._layers())[0]

    def gradient(self, x: Tensor) -> Tensor:
        """Return the gradient of psi at each x_i, shape (n, d); differentiable."""
        return self.value_and_gradient(x)[1]

    def value_and_gradient(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return psi, shape (n,), and its gradient, shape (n, d); differentiable."""
        layers = self._layers()
        value, slopes = self._up(x, layers)
        gradient = x * self.log_alpha.exp()
        delta = slopes[-1]
        for k in range(len(layers) - 1, -1, -1):
            inner, outer, _ = layers[k]
            if outer is not None:
                gradient = torch.addmm(gradient, delta, outer.T)
            if inner is not None:
                delta = (delta @ inner.T) * slopes[k - 1]
        return value, gradient

    def _up(self, x: Tensor, layers: list[_Layer]) -> tuple[Tensor, list[Tensor]]:
        """Return psi, shape (n,), and the slopes of all activations."""
        h, slopes = x, []
        for layer in layers:
            h, slope = elu_and_slope(_affine(x, h, layer))
            slopes.append(slope)
        return h.squeeze(1) + x.square().sum(1) * (self.log_alpha.exp() / 2), slopes


def _affine(x: Tensor, h: Tensor, layer: _Layer) -> Tensor:
    """Return what goes into the activation, shape (n, w), from points x and the layer below."""
    inner, outer, z = layer
    for weight, value in ((outer, x), (inner, h)):
        z = z if weight is None else torch.addmm(z, value, weight)
    return z
