"""Energy distance of several pairs of small samples at once: the class-wise marginal loss.

The arithmetic is that of `otbench.ops.energy`, whose product form gives value and gradient in one pass, with a leading
axis for the pairs: a loop over ten classes of a hundred points each would spend most of its time between operations.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from otbench.ops.pairwise import block_rows, left_factor, right_factor


def energy_losses(x: Tensor, y: Tensor, *, own_term: bool = True) -> Tensor:
    """Return 2 E|X_k - Y_k| - E|X_k - X_k'| for K pairs of samples.

    Each value is that of `energy_distance` without its target term, unbiased. Differentiable once, in `x` only. No
    synchronisation with the device.

    Args:
        x: first samples, shape (K, n, d), n >= 2, float32 or float64.
        y: second samples, shape (K, m, d), dtype and device of `x`; constant.
        own_term: False leaves out E|X_k - X_k'|.

    Returns:
        The K values, shape (K,), dtype of `x`, in data units.

    Raises:
        ValueError: shapes, dtypes or devices do not fit, n < 2, or `y` wants a gradient.
    """
    if x.ndim != 3 or y.ndim != 3 or x.shape[::2] != y.shape[::2] or x.shape[1] < 2 or not y.shape[1]:
        raise ValueError(
            f"need samples of shapes (K, n, d), n >= 2, and (K, m, d), got {tuple(x.shape)} and {tuple(y.shape)}"
        )
    if x.dtype != y.dtype or x.device != y.device:
        raise ValueError(f"samples differ in kind: {x.dtype} on {x.device}, {y.dtype} on {y.device}")
    if y.requires_grad:
        raise ValueError("the second samples are constant here, but they want a gradient")
    return _Energies.apply(x, y, own_term)  # type: ignore[no-any-return]


class _Energies(torch.autograd.Function):
    """Value and gradient together; what is saved for backward has the shape of `x`."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, y: Tensor, own_term: bool) -> Tensor:
        n, m = x.shape[1], y.shape[1]
        # centred, unit-sized points lose the fewest digits in the product form of a squared distance
        centre = y.mean(1, keepdim=True)
        a, b = x - centre, y - centre
        square = (a.square().sum((1, 2), keepdim=True) + b.square().sum((1, 2), keepdim=True)) / (n + m)
        scale = square.sqrt().clamp_min(torch.finfo(x.dtype).tiny ** 0.5)
        a, b = a / scale, b / scale
        left = left_factor(a)
        total = slope = _pull(left, right_factor(b)).mul_(2 / (n * m))
        if own_term:
            inner = _pull(left, right_factor(a), within=True).div_(n * (n - 1))
            # each |x_i - x_j| moves with both of its ends: the gradient of its sum counts twice
            total, slope = total - inner, slope - 2 * inner
        d = x.shape[2]
        ctx.save_for_backward(a * slope[..., d : d + 1] - slope[..., :d])
        value = (left * total).sum((1, 2), dtype=torch.float64)
        return (value * scale.flatten()).to(x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, outer: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = ctx.saved_tensors  # type: ignore[attr-defined]
        return outer[:, None, None] * gradient, None, None


def _pull(left: Tensor, right: Tensor, *, within: bool = False) -> Tensor:
    """Return W R(y) with W = 1 / distance, shape (K, n, d + 2), from L(x) and R(y); `within` leaves out pairs i = j."""
    columns, sums = right.mT.contiguous(), torch.empty_like(left)
    rows = block_rows(left, left.shape[0] * right.shape[1])
    for start in range(0, left.shape[1], rows):
        weight = left[:, start : start + rows] @ columns
        # a squared distance of unit-sized points is known to a few eps only, and may come out negative
        weight.clamp_(min=16 * torch.finfo(weight.dtype).eps).rsqrt_()
        if within:
            weight.diagonal(start, 1, 2).zero_()
        sums[:, start : start + rows] = weight @ right
    return sums
