r"""The potential of OT-Flow: a residual network plus a quadratic, with gradient and Hessian trace in closed form.

Source: Onken, Wu Fung, Li, Ruthotto, "OT-Flow", AAAI 2021 (arXiv 2006.00104), sec. 3. On space-time points s = (x, t),

    Phi(s) = <w, u_1> + |A s|^2 / 2 + <b, s> + c,
    u_0 = sigma(K_0 s + b_0),    u_1 = u_0 + sigma(K_1 u_0 + b_1),    sigma(v) = |v| + log(1 + exp(-2 |v|)),

so that sigma' = tanh. With tau_0, tau_1 the two tanh layers, z = w + K_1^T (tau_1 * w) is the derivative by u_0, and

    grad Phi = K_0^T (tau_0 * z) + A^T A s + b,
    tr Hess_x Phi = <(1 - tau_0^2) * z, rows |K_0x|^2> + <w * (1 - tau_1^2), rows |K_1 diag(tau_0) K_0x|^2> + |A_x|^2.

The last but one term costs n d m^2 and is all of the time. Its derivative is written out here: one buffer is kept, and
the points pass in pieces that stay in the processor's cache.
"""

from __future__ import annotations

import math
from typing import Any, Unpack

import torch
from torch import Tensor
from torch.nn import functional

from otbench.nets.start import Start, constant, uniform
from otbench.recorded import Recorded

PIECE = 2**17
"""Numbers of an intermediate result that are held at a time on a CPU: half a megabyte in float32."""


class OTFlowPotential(Recorded):
    """Phi: R^dim x [0, 1] -> R with one residual layer. The time is one number, or one per point, shape (n, 1).

    Attributes:
        dim: number of coordinates of x.
        opening: K_0, shape (width, dim + 1), time last; `opening_bias`: b_0, shape (width,).
        layer: K_1, shape (width, width); `layer_bias`: b_1, shape (width,).
        readout: w, shape (width,).
        quadratic: A, shape (min(rank, dim + 1), dim + 1).
        linear: b, shape (dim + 1,).
        constant: c, shape (1,).
    """

    def __init__(
        self,
        dim: int,
        *,
        width: int,
        rank: int = 10,
        **start: Unpack[Start],
    ) -> None:
        """Start as the published code does: K uniform in 1 / sqrt(fan-in), A by Xavier, w = 1, b = 0, c = 0.

        Args:
            dim: number of coordinates of x.
            width: width m of both layers.
            rank: largest number of rows of A.
            start: see `Start`.

        Raises:
            ValueError: a size that is not positive.
        """
        super().__init__()
        if min(dim, width, rank) < 1:
            raise ValueError(f"OTFlowPotential needs positive sizes, got dim={dim}, width={width}, rank={rank}")
        self.dim, self.width, self.rank = dim, width, min(rank, dim + 1)

        self.opening = uniform((dim + 1) ** -0.5, width, dim + 1, **start)
        self.opening_bias = uniform((dim + 1) ** -0.5, width, **start)
        self.layer = uniform(width**-0.5, width, width, **start)
        self.layer_bias = uniform(width**-0.5, width, **start)
        self.readout = constant(1.0, width, **start)
        self.quadratic = uniform(math.sqrt(6 / (self.rank + dim + 1)), self.rank, dim + 1, **start)
        self.linear = constant(0.0, dim + 1, **start)
        self.constant = constant(0.0, 1, **start)

    def forward(self, x: Tensor, t: float | Tensor) -> Tensor:
        """Return Phi(x_i, t), shape (n,), for `x` of shape (n, dim)."""
        first = self._first(x, t)
        inner = _antiderivative(first)
        last = inner + _antiderivative(functional.linear(inner, self.layer, self.layer_bias))
        straight = x @ self.linear[:-1] + (t * self.linear[-1:]).sum(-1)
        return last @ self.readout + self._root(x, t).square().sum(1) / 2 + straight + self.constant

    def gradient(self, x: Tensor, t: float | Tensor) -> Tensor:
        """Return the gradient of Phi in (x, t) at each (x_i, t), shape (n, dim + 1), for `x` of shape (n, dim)."""
        return self._derivatives(x, t)[0]

    def gradient_and_trace(self, x: Tensor, t: float | Tensor) -> tuple[Tensor, Tensor]:
        """Return the gradient, shape (n, dim + 1), and the trace of the Hessian in x, shape (n,).

        Both can be differentiated once.
        """
        gradient, tanh, slope, tanh_last = self._derivatives(x, t)
        opening = self.opening[:, :-1]
        bend = self.readout * (1 - tanh_last.square())
        trace = torch.mv((1 - tanh.square()) * slope, opening.square().sum(1))
        trace = trace + _layer_trace(tanh, bend, opening, self.layer) + self.quadratic[:, :-1].square().sum()
        return gradient, trace

    def _derivatives(self, x: Tensor, t: float | Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return the gradient (n, dim + 1) and tau_0, z, tau_1, each (n, width)."""
        first = self._first(x, t)
        tanh = first.tanh()
        tanh_last = functional.linear(_antiderivative(first), self.layer, self.layer_bias).tanh()
        slope = torch.addmm(self.readout, tanh_last * self.readout, self.layer)
        gradient = torch.addmm(self.linear, self._root(x, t), self.quadratic)
        return torch.addmm(gradient, tanh * slope, self.opening), tanh, slope, tanh_last

    def _first(self, x: Tensor, t: float | Tensor) -> Tensor:
        return torch.addmm(self.opening_bias + t * self.opening[:, -1], x, self.opening[:, :-1].t())

    def _root(self, x: Tensor, t: float | Tensor) -> Tensor:
        return torch.addmm(t * self.quadratic[:, -1], x, self.quadratic[:, :-1].t())


def _antiderivative(v: Tensor) -> Tensor:
    """Return |v| + log(1 + exp(-2 |v|)), whose derivative is tanh, exactly so for autograd too."""
    size = v.abs()
    return size + functional.softplus(-2 * size)


def _layer_trace(tanh: Tensor, bend: Tensor, opening: Tensor, layer: Tensor) -> Tensor:
    """Return sum_k bend_ik |row k of layer diag(tanh_i) opening|^2, shape (n,); differentiable once.

    Args:
        tanh: shape (n, m).
        bend: shape (n, m).
        opening: shape (m, d).
        layer: shape (m, m).
    """
    value: Tensor = _LayerTrace.apply(tanh, bend, opening, layer)
    return value


class _LayerTrace(torch.autograd.Function):
    """`_layer_trace`, with its derivative written out and the points taken in pieces."""

    @staticmethod
    def forward(ctx: Any, tanh: Tensor, bend: Tensor, opening: Tensor, layer: Tensor) -> Tensor:
        (n, m), d = tanh.shape, opening.shape[1]
        columns = opening.t().contiguous()
        keep, rows = any(ctx.needs_input_grad), _rows(tanh, d)
        products = tanh.new_empty((n if keep else min(rows, n), d, m))
        trace = tanh.new_empty(n)
        for begin in range(0, n, rows):
            here = slice(begin, min(begin + rows, n))
            part = products[here] if keep else products[: here.stop - begin]
            jacobian = tanh[here, None] * columns
            torch.mm(jacobian.view(-1, m), layer.t(), out=part.view(-1, m))
            torch.mul(part, part, out=jacobian)
            torch.sum(jacobian.sum(1).mul_(bend[here]), 1, out=trace[here])
        if keep:
            ctx.save_for_backward(tanh, bend, columns, layer, products)
        return trace

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, by: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        tanh, bend, columns, layer, products = ctx.saved_tensors
        (n, m), d = tanh.shape, columns.shape[0]
        by_tanh, by_bend = torch.empty_like(tanh), torch.empty_like(bend)
        by_columns, by_layer = torch.zeros_like(columns), torch.zeros_like(layer)
        weight = bend * (2 * by[:, None])
        rows = _rows(tanh, d)
        for begin in range(0, n, rows):
            here = slice(begin, min(begin + rows, n))
            part, outer = products[here], tanh[here, None]
            scratch = part.square()
            torch.sum(scratch, 1, out=by_bend[here])
            by_product = torch.mul(part, weight[here, None], out=scratch).view(-1, m)
            jacobian = outer * columns
            by_layer.addmm_(by_product.t(), jacobian.view(-1, m))
            by_jacobian = torch.mm(by_product, layer, out=jacobian.view(-1, m)).view_as(jacobian)
            by_columns += torch.mul(by_jacobian, outer, out=scratch).sum(0)
            torch.sum(by_jacobian.mul_(columns), 1, out=by_tanh[here])
        return by_tanh, by_bend.mul_(by[:, None]), by_columns.t(), by_layer


def _rows(tanh: Tensor, d: int) -> int:
    """Return how many points to take at a time."""
    return len(tanh) if tanh.is_cuda else max(1, PIECE // (d * tanh.shape[1]))
