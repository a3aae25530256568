"""Energy distance between two samples, value and gradient in one pass.

The squared maximum mean discrepancy with kernel k(x, y) = -|x - y| (Szekely & Rizzo, "Energy statistics", 2013; the
marginal loss of NCF, arXiv 2510.01153). Written in plain torch operations it keeps several n x m matrices alive for the
backward pass. Here the gradient is made while a block of distances is still in cache, so nothing of that size is ever
stored, and backward is one multiplication.

How: with L(x) = [-2x, |x|^2, 1] and R(y) = [y, 1, |y|^2], one matrix product gives all squared distances of a block,
D = L(x) R(y)^T. With weights W = 1 / sqrt(D), a second one, G = W R(y), gives everything else: the sum of distances is
sum(L(x) * G), and its gradient with respect to x_i is x_i G_{i,d} - G_{i,:d}.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from otbench.ops.pairwise import block_rows, left_factor, right_factor


def energy_distance(
    x: Tensor, y: Tensor, *, chunk: int | None = None, target_term: bool = True, unbiased: bool = False
) -> Tensor:
    """Return 2 E|X - Y| - E|X - X'| - E|Y - Y'| over two samples.

    By default a V-statistic: means over all pairs, i = j included, at least 0. It is biased by (E|X - X'|) / n and
    (E|Y - Y'|) / m, which as a loss pulls the outermost points of `x` inwards.

    Extra memory is O(chunk * max(n, m) + (n + m) d), in the backward pass O((n + m) d). Distances below about a
    thousandth (float32) of the samples' common root mean square are rounded towards zero; equal points give zero value
    and finite gradient. Differentiable once. No synchronisation with the device.

    Args:
        x: first sample, shape (n, d), float32 or float64.
        y: second sample, shape (m, d), dtype and device of `x`.
        chunk: rows of a block of distances; None = sized for the cache.
        target_term: False leaves out E|Y - Y'|, which does not depend on `x`, and a third of the work; the value is
            then no distance (it can be negative).
        unbiased: True leaves out i = j (U-statistic), which needs two points or more per sample; it can be negative.

    Returns:
        The statistic, shape (), dtype of `x`, in data units.

    Raises:
        ValueError: `x` and `y` are not two non-empty matrices of one width, dtype and device, or `chunk` < 1.
    """
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1] or not len(x) or not len(y):
        raise ValueError(f"need samples of shapes (n, d) and (m, d), got {tuple(x.shape)} and {tuple(y.shape)}")
    if x.dtype != y.dtype or x.device != y.device:
        raise ValueError(f"samples differ in kind: {x.dtype} on {x.device}, {y.dtype} on {y.device}")
    if chunk is not None and chunk < 1:
        raise ValueError(f"chunk must be at least 1, got {chunk}")
    if unbiased and (len(x) < 2 or (target_term and len(y) < 2)):
        raise ValueError(f"an unbiased value needs samples of two points or more, got {len(x)} and {len(y)}")
    return _Energy.apply(x, y, chunk, target_term, unbiased)  # type: ignore[no-any-return]


class _Energy(torch.autograd.Function):
    """Value and gradient together; what is saved for backward has the shape of the samples."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, y: Tensor, chunk: int | None, target_term: bool, unbiased: bool) -> Tensor:
        n, m = len(x), len(y)
        pairs_x, pairs_y = (n * (n - 1), m * (m - 1)) if unbiased else (n * n, m * m)
        # Distances do not see a shift, and scale with the data: centred, unit-sized points lose the fewest digits
        # in the product form of a squared distance, and make its rounding error a known constant.
        centre = y.mean(0)
        a, b = x - centre, y - centre
        scale = ((a.square().sum() + b.square().sum()) / (n + m)).sqrt().clamp_min(torch.finfo(x.dtype).tiny ** 0.5)
        a, b = a / scale, b / scale

        wants_x, wants_y = ctx.needs_input_grad[:2]  # type: ignore[attr-defined]
        cross, grad_x, grad_y = _cross(a, b, chunk, wants_y)
        inner_x, self_x = _within(a, chunk, wants_gradient=wants_x)
        value = 2 * cross / (n * m) - inner_x / pairs_x
        if self_x is not None:
            grad_x.mul_(2 / (n * m)).sub_(self_x, alpha=2 / pairs_x)
        if grad_y is not None:
            grad_y.mul_(2 / (n * m))
        if target_term:
            inner_y, self_y = _within(b, chunk, wants_gradient=wants_y)
            value = value - inner_y / pairs_y
            if grad_y is not None and self_y is not None:
                grad_y.sub_(self_y, alpha=2 / pairs_y)
        # The gradient of a distance has no unit: only the value is scaled back.
        ctx.save_for_backward(grad_x if wants_x else None, grad_y)  # type: ignore[arg-type]
        return (value * scale).to(x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, outer: Tensor) -> tuple[Tensor | None, Tensor | None, None, None, None]:
        saved = ctx.saved_tensors  # type: ignore[attr-defined]
        grad_x, grad_y = (None if gradient is None else outer * gradient for gradient in saved)
        return grad_x, grad_y, None, None, None


def _cross(x: Tensor, y: Tensor, chunk: int | None, wants_y: bool) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return the sum of |x_i - y_j| in float64, its gradient (n, d) in x and, if asked for, (m, d) in y."""
    left, right, right_x = left_factor(x), right_factor(y), right_factor(x)
    columns = right.T.contiguous()  # the product that fills a block runs faster on it
    rows = _rows(x, len(y), chunk)
    block = x.new_empty(rows, len(y))
    sums = torch.empty_like(left)
    sums_y = torch.zeros_like(right) if wants_y else None
    for start in range(0, len(x), rows):
        here = slice(start, start + rows)
        weight = _weights(left[here], columns, block[: len(x[here])])
        torch.mm(weight, right, out=sums[here])
        if sums_y is not None:
            sums_y.addmm_(weight.T, right_x[here])
    return (left * sums).sum(dtype=torch.float64), _gradient(x, sums), None if sums_y is None else _gradient(y, sums_y)


def _within(x: Tensor, chunk: int | None, *, wants_gradient: bool) -> tuple[Tensor, Tensor | None]:
    """Return the sum of |x_i - x_j| over all i, j in float64 and, if asked for, the gradient (n, d) of half of it."""
    left, right = left_factor(x), right_factor(x)
    columns = right.T.contiguous()
    n = len(x)
    rows = _rows(x, n, chunk)
    buffer = x.new_empty(min(rows, n) * n)
    sums = torch.zeros_like(left)
    total = torch.zeros((), dtype=torch.float64, device=x.device)
    for start in range(0, n, rows):
        stop = min(start + rows, n)
        # Only the blocks on and right of the diagonal: those left of it are their transposes.
        block = buffer[: (stop - start) * (n - start)].view(stop - start, n - start)
        if wants_gradient:
            weight = _weights(left[start:stop], columns[:, start:], block)
            weight.diagonal().zero_()
            sums[start:stop].addmm_(weight, right[start:])
            sums[stop:].addmm_(weight[:, stop - start :].T, right[start:stop])
        else:
            distance = torch.mm(left[start:stop], columns[:, start:], out=block).clamp_(min=0).sqrt_()
            distance.diagonal().zero_()
            # The block on the diagonal holds both halves, those right of it stand for two.
            total += 2 * distance.sum() - distance[:, : stop - start].sum()
    if wants_gradient:
        return (left * sums).sum(dtype=torch.float64), _gradient(x, sums)
    return total, None


def _weights(left: Tensor, columns: Tensor, out: Tensor) -> Tensor:
    """Fill `out` (r, m) with 1 / distance, from L(x) (r, d + 2) and the transposed R(y) (d + 2, m)."""
    torch.mm(left, columns, out=out)
    # A squared distance of unit-sized points is known to a few eps only, and may come out negative. At this floor the
    # weight is still small enough for the rounding errors of the gradient's product to stay near sqrt(eps).
    return out.clamp_(min=16 * torch.finfo(out.dtype).eps).rsqrt_()


def _gradient(x: Tensor, sums: Tensor) -> Tensor:
    d = x.shape[1]
    return x * sums[:, d : d + 1] - sums[:, :d]


def _rows(x: Tensor, columns: int, chunk: int | None) -> int:
    return block_rows(x, columns) if chunk is None else chunk
