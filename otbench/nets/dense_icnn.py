r"""DenseICNN: the scalar potential that most Gaussian solvers share.

With input $x \in R^d$, hidden widths $h_0..h_m$ and quadratic skip layers
$Q_k(x)_j = \sum_{\rho \le r} \langle a_{k,j,\rho}, x \rangle^2 + \langle b_{k,j}, x \rangle + c_{k,j}$,

$$z_0 = Q_0(x), \quad z_k = \sigma(z_{k-1} C_k + Q_k(x)), \quad g(x) = \langle w, z_m \rangle + s |x|^2 / 2.$$

Source: Korotin et al., "Wasserstein-2 Generative Networks" (ICLR 2021), appendix B; the settings are those of the
Gaussian runs of ImplicitOT (arXiv 2605.10792). Convex if and only if $C_k, w \ge 0$ (`clamp_convex_`); the solvers here
mostly leave it free.

Why there is hand-written calculus in this file: the solvers call $\nabla g$ thousands of times, and differentiate it
once more. Automatic differentiation of the same expressions takes two to three times as long.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Literal, NamedTuple, Unpack

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx
from torch.nn import functional

from otbench.nets.start import Start, normal
from otbench.recorded import Recorded

Activation = Literal["softplus", "celu"]


def dense_icnn_widths(dim: int, least: int = 0) -> tuple[int, int, int]:
    """Return the published hidden widths for data of dimension `dim`: (max(2d, 64), max(2d, 64), max(d, 32)).

    Args:
        dim: d.
        least: lower bound of the first two; half of it is that of the last.
    """
    wide = max(2 * dim, 64, least)
    return (wide, wide, max(dim, 32, least // 2))


class DenseICNN(Recorded):
    """Scalar network g: R^d -> R with a fast gradient that can itself be differentiated.

    Attributes:
        dim: input dimension d.
        widths: hidden widths (h_0, ..., h_m), m >= 1; their sum is H below.
        rank: number r of squares per hidden unit.
        quadratic: all a_{k,j,rho}, shape (d, r * H); column rho * H + j belongs to square rho of unit j.
        linear: all b_{k,j}, shape (d, H).
        bias: all c_{k,j}, shape (H,).
        mixing: C_1, ..., C_m, shapes (h_{k-1}, h_k).
        readout: w, shape (h_m,).
    """

    def __init__(
        self,
        dim: int,
        *,
        widths: Sequence[int] | None = None,
        rank: int = 1,
        activation: Activation = "softplus",
        strong_convexity: float = 1e-4,
        init_std: float = 0.1,
        **start: Unpack[Start],
    ) -> None:
        """Draw every parameter, biases included, from N(0, init_std^2).

        Args:
            dim: input dimension.
            widths: hidden widths, at least two; by default `dense_icnn_widths(dim)`. A space-time network on d + 1
                inputs passes `dense_icnn_widths(d)`.
            rank: squares per hidden unit.
            activation: softplus (beta = 1) or celu (alpha = 1).
            strong_convexity: s, the weight of |x|^2 / 2.
            init_std: standard deviation of the initial parameters.
            start: see `Start`.

        Raises:
            ValueError: fewer than two layers, or a size that is not positive.
        """
        super().__init__()
        self.dim, self.rank, self.activation, self.strong_convexity = dim, rank, activation, strong_convexity
        self.widths = tuple(dense_icnn_widths(dim) if widths is None else widths)
        if len(self.widths) < 2 or min(dim, rank, *self.widths) < 1:
            raise ValueError(f"DenseICNN needs dim, rank >= 1 and two or more widths >= 1, got {dim}, {rank}, {widths}")

        total = sum(self.widths)
        self.quadratic = normal(init_std, dim, rank * total, **start)
        self.linear = normal(init_std, dim, total, **start)
        self.bias = normal(init_std, total, **start)
        self.mixing = nn.ParameterList(normal(init_std, *shape, **start) for shape in itertools.pairwise(self.widths))
        self.readout = normal(init_std, self.widths[-1], **start)

    def forward(self, x: Tensor) -> Tensor:
        """Return g(x_i), shape (n,), for `x` of shape (n, d)."""
        return self._evaluate(x, value=True, gradient=False)[0]

    def gradient(self, x: Tensor) -> Tensor:
        """Return the gradient of g at each x_i, shape (n, d), for `x` of shape (n, d).

        It can be differentiated with respect to `x` and all parameters.
        """
        return self._evaluate(x, value=False, gradient=True)[1]

    def value_and_gradient(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return g, shape (n,), and its gradient, shape (n, d), for little more than the price of the gradient."""
        return self._evaluate(x, value=True, gradient=True)

    @torch.no_grad()
    def clamp_convex_(self) -> None:
        """Clamp C_k and w to be >= 0, in place: g is convex afterwards."""
        for weight in (*self.mixing, self.readout):
            weight.clamp_(min=0.0)

    def _evaluate(self, x: Tensor, *, value: bool, gradient: bool) -> tuple[Tensor, Tensor]:
        # Layer 0 has no activation, so its affine part can move into layer 1: h_0 columns less in every product.
        first, second = self.widths[:2]
        own, rest = self.linear.split_with_sizes((first, self.linear.shape[1] - first), 1)
        own_bias, rest_bias = self.bias.split_with_sizes((first, len(self.bias) - first))
        linear = torch.cat((torch.addmm(rest[:, :second], own, self.mixing[0]), rest[:, second:]), 1)
        bias = torch.cat((torch.addmv(rest_bias[:second], self.mixing[0].t(), own_bias), rest_bias[second:]))
        spec = _Spec(self.widths, self.rank, self.activation == "softplus", self.strong_convexity, value, gradient)
        weights = (self.quadratic, linear, bias, self.readout, *self.mixing)
        if torch.is_grad_enabled() and (x.requires_grad or any(weight.requires_grad for weight in weights)):
            return _Evaluate.apply(spec, x, *weights)  # type: ignore[no-any-return]
        return _forward(spec, x, weights, keep=False)[:2]


class _Spec(NamedTuple):
    """What is fixed about one evaluation; `value` and `gradient` say which results are wanted."""

    widths: tuple[int, ...]
    rank: int
    softplus: bool
    strong_convexity: float
    value: bool
    gradient: bool


_Weights = tuple[Tensor, ...]
"""a (d, r H), b (d, H - h_0), c (H - h_0), w (h_m), C_1, ..., C_m, after layer 0 was folded into layer 1."""


class _Saved(NamedTuple):
    """What the backward pass needs of the forward pass."""

    square: Tensor  # <a, x>, shape (n, r H)
    slope: Tensor  # dg/dQ, shape (n, H)
    hidden: tuple[Tensor, ...]  # z_0 (its squares only), ..., z_m; z_m is empty unless the value was wanted
    rate: tuple[Tensor, ...]  # sigma'(p_k) for k = 1, ..., m
    pull: Tensor  # square * slope, shape (n, r H); empty unless the gradient was wanted


def _activate(spec: _Spec, p: Tensor, *, value: bool = True) -> tuple[Tensor, Tensor]:
    """Return sigma(p) and sigma'(p); sigma(p) is left empty if `value` is false.

    torch's own softplus takes about as long as everything here, so softplus is written as p - log sigmoid(p). The
    sigmoid is kept off zero and the result above zero, so that both are finite, and right to one rounding of p,
    for every finite p.
    """
    if spec.softplus:
        rate = torch.sigmoid(p)
        if not value:
            return p.new_empty(0), rate
        out = rate.clamp_min(torch.finfo(p.dtype).tiny).log_()
        return torch.sub(p, out, out=out).clamp_min_(0.0), rate
    rate = p.clamp_max(0.0).exp_()
    return torch.maximum(p, rate - 1), rate


def _bend(spec: _Spec, rate: Tensor) -> Tensor:
    """Return sigma'' / sigma' from sigma'."""
    return 1 - rate if spec.softplus else (rate < 1).to(rate.dtype)


def _sum_squares(spec: _Spec, u: Tensor, v: Tensor) -> Tensor:
    """Return sum_rho u_rho v_rho, shape (n, H), for `u` and `v` of shape (n, r H)."""
    product = u * v
    return product if spec.rank == 1 else product.view(len(u), spec.rank, sum(spec.widths)).sum(1)


def _times(spec: _Spec, u: Tensor, v: Tensor, *, keep: bool = True) -> Tensor:
    """Return u_rho v for each rho, shape (n, r H), for `u` of shape (n, r H) and `v` of shape (n, H).

    Overwrites `u` unless it is to be kept: at these sizes fresh memory costs more than the product.
    """
    squares, factor = u.view(len(u), spec.rank, v.shape[1]), v.unsqueeze(1)
    return (squares * factor if keep else squares.mul_(factor)).view_as(u)


def _forward(spec: _Spec, x: Tensor, weights: _Weights, *, keep: bool = True) -> tuple[Tensor, Tensor, _Saved]:
    """Return g (n,), its gradient (n, d) and what to save; what `spec` does not want is left empty.

    With `keep` false the saved tensors are spoilt and a value alone is found without the gradient's work.
    """
    a, b, c, w, *mixing = weights
    first = spec.widths[0]
    square = x @ a
    pre = torch.addmm(c, x, b)
    if spec.rank == 1:
        z = square[:, :first].square()
        pre.addcmul_(square[:, first:], square[:, first:])
    else:
        z, others = _sum_squares(spec, square, square).split_with_sizes((first, pre.shape[1]), 1)
        pre += others
    hidden, rate = [z], []
    for k, (p, mix) in enumerate(zip(pre.split_with_sizes(spec.widths[1:], 1), mixing, strict=True), 1):
        p.addmm_(z, mix)
        z, q = _activate(spec, p, value=spec.value or k < len(mixing))
        hidden.append(z)
        rate.append(q)

    s = spec.strong_convexity
    value = gradient = x.new_empty(0)
    if spec.value:
        value = torch.addmv(x.square().sum(1), z, w, beta=s / 2)
    if not (spec.gradient or keep):
        return value, gradient, _Saved(square, square, (), (), gradient)

    slope = x.new_empty(len(x), sum(spec.widths))
    layers = slope.split_with_sizes(spec.widths, 1)
    torch.mul(rate[-1], w, out=layers[-1])
    for k in range(len(mixing) - 1, -1, -1):
        torch.mm(layers[k + 1], mixing[k].t(), out=layers[k])
        if k:
            layers[k].mul_(rate[k - 1])
    pull = gradient
    if spec.gradient:
        pull = _times(spec, square, slope, keep=keep)
        gradient = torch.addmm(x, slope[:, first:], b.t(), beta=s).addmm_(pull, a.t(), alpha=2)
    return value, gradient, _Saved(square, slope, tuple(hidden), tuple(rate), pull)


def _plain(spec: _Spec, x: Tensor, weights: _Weights) -> tuple[Tensor, Tensor]:
    """Return g and its gradient in ordinary differentiable operations: the way to derivatives of third order."""
    a, b, c, w, *mixing = weights
    x = x if x.requires_grad else x.detach().requires_grad_()
    square = x @ a
    first, *others = _sum_squares(spec, square, square).split_with_sizes(spec.widths, 1)
    z = first
    for q, p, mix in zip(others, torch.addmm(c, x, b).split_with_sizes(spec.widths[1:], 1), mixing, strict=True):
        z = functional.softplus(z @ mix + q + p) if spec.softplus else functional.celu(z @ mix + q + p)
    value = z @ w + x.square().sum(1) * (spec.strong_convexity / 2)
    return value, torch.autograd.grad(value.sum(), x, create_graph=True)[0]


class _Evaluate(torch.autograd.Function):
    r"""g and its gradient v, with the derivative written out.

    For cotangents $\bar g_i, \bar v_i$ the backward pass is the derivative of
    $S = \sum_i \bar g_i g(x_i) + \langle \bar v_i, \nabla g(x_i) \rangle$. The second term is the derivative of g along
    $\bar v$: one forward sweep of tangents, written `_dot`, then one ordinary reverse sweep gives all of it.
    """

    # the stubs know only part of what ctx can do
    @staticmethod
    def forward(ctx: FunctionCtx, spec: _Spec, x: Tensor, *weights: Tensor) -> tuple[Tensor, Tensor]:
        value, gradient, saved = _forward(spec, x, weights)
        ctx.spec, ctx.layers = spec, len(saved.rate)  # type: ignore[attr-defined]
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x, *weights, saved.square, saved.slope, saved.pull, *saved.hidden, *saved.rate)
        return value, gradient

    @staticmethod
    def backward(ctx: FunctionCtx, g_bar: Tensor | None, v_bar: Tensor | None) -> tuple[Tensor | None, ...]:
        spec: _Spec = ctx.spec  # type: ignore[attr-defined]
        m: int = ctx.layers  # type: ignore[attr-defined]
        tensors: tuple[Tensor, ...] = ctx.saved_tensors  # type: ignore[attr-defined]
        inputs, (square, slope, pull), rest = tensors[: 5 + m], tensors[5 + m : 8 + m], tensors[8 + m :]
        g_bar, v_bar = g_bar if spec.value else None, v_bar if spec.gradient else None
        if torch.is_grad_enabled():
            return None, *_differentiable_backward(spec, inputs, g_bar, v_bar, ctx.needs_input_grad[1:])  # type: ignore[attr-defined]
        saved = _Saved(square, slope, rest[: m + 1], rest[m + 1 :], pull)
        return None, *_backward(spec, inputs, saved, g_bar, v_bar, wants_x=ctx.needs_input_grad[1])  # type: ignore[attr-defined]


def _backward(
    spec: _Spec, inputs: _Weights, saved: _Saved, g_bar: Tensor | None, v_bar: Tensor | None, *, wants_x: bool
) -> tuple[Tensor | None, ...]:
    """Return dS/dx (None unless wanted) and dS/d(a, b, c, w, C_1, ...); see `_Evaluate`.

    dS/dQ_k is called mu_k below; dS/d(Q_k dot) is the slope of the forward pass.
    """
    x, a, b, _c, _w, *mixing = inputs
    first, s = spec.widths[0], spec.strong_convexity
    square, slope, hidden, rate, pull = saved
    slopes = slope.split_with_sizes(spec.widths, 1)

    if v_bar is None:
        if g_bar is None:
            return (None,) * len(inputs)
        mu = slope * g_bar.unsqueeze(1)
        mus = mu.split_with_sizes(spec.widths, 1)
        d_square = _times(spec, square, mu)
        d_a = x.t() @ d_square
        d_w = g_bar @ hidden[-1]
        d_mixing = [z.t() @ mus[k + 1] for k, z in enumerate(hidden[:-1])]
    else:
        square_dot = v_bar @ a
        z_dot = _sum_squares(spec, square, square_dot)
        pre_dot = (v_bar @ b).add_(z_dot[:, first:], alpha=2)
        z_dots = [z_dot[:, :first].mul_(2)]
        p_dots = pre_dot.split_with_sizes(spec.widths[1:], 1)
        for k, mix in enumerate(mixing):
            p_dots[k].addmm_(z_dots[k], mix)
            z_dots.append(rate[k] * p_dots[k])

        mu = torch.empty_like(slope)
        mus = mu.split_with_sizes(spec.widths, 1)
        torch.mul(slopes[-1], 0.0 if g_bar is None else g_bar.unsqueeze(1), out=mus[-1])
        for k in range(len(mixing) - 1, -1, -1):
            mus[k + 1].addcmul_(_bend(spec, rate[k]).mul_(p_dots[k]), slopes[k + 1])
            torch.mm(mus[k + 1], mixing[k].t(), out=mus[k])
            if k:
                mus[k].mul_(rate[k - 1])
        d_square = _times(spec, square, mu).add_(_times(spec, square_dot, slope, keep=False))
        d_a = (x.t() @ d_square).addmm_(v_bar.t(), pull)
        d_w = z_dots[-1].sum(0) if g_bar is None else torch.addmv(z_dots[-1].sum(0), hidden[-1].t(), g_bar)
        d_mixing = [(hidden[k].t() @ mus[k + 1]).addmm_(z_dots[k].t(), slopes[k + 1]) for k in range(len(mixing))]

    d_b = x.t() @ mu[:, first:]
    if v_bar is not None:
        d_b.addmm_(v_bar.t(), slope[:, first:])
    d_x = None
    if wants_x:
        d_x = (mu[:, first:] @ b.t()).addmm_(d_square, a.t(), alpha=2)
        if g_bar is not None:
            d_x.addcmul_(x, g_bar.unsqueeze(1), value=s)
        if v_bar is not None:
            d_x.add_(v_bar, alpha=s)
    return d_x, d_a.mul_(2), d_b, mu[:, first:].sum(0), d_w, *d_mixing


def _differentiable_backward(
    spec: _Spec, inputs: _Weights, g_bar: Tensor | None, v_bar: Tensor | None, wanted: Sequence[bool]
) -> tuple[Tensor | None, ...]:
    """Return the same as `_backward`, with a graph, for those who differentiate the result again."""
    value, gradient = _plain(spec, inputs[0], inputs[1:])
    pairs = [(out, bar) for out, bar in ((value, g_bar), (gradient, v_bar)) if bar is not None]
    asked = [tensor for tensor, want in zip(inputs, wanted, strict=True) if want]
    if not pairs or not asked:
        return (None,) * len(inputs)
    outputs, bars = zip(*pairs, strict=True)
    found = iter(torch.autograd.grad(outputs, asked, bars, create_graph=True, allow_unused=True))
    return tuple(next(found) if want else None for want in wanted)
