"""Squared distances between two samples, block by block: the shared inner loop of all statistics over pairs.

A block is one matrix product: with L(x) = (-2x, |x|^2, 1) and R(y) = (y, 1, |y|^2), L(x_i) . R(y_j) = |x_i - y_j|^2.
Blocks are small enough for the cache, where the passes over them that follow cost little.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

CPU_BLOCK = 2**18
"""Distances per block on a CPU: a megabyte in float32, which stays in the L2 cache of one core."""
GPU_BLOCK = 2**24
"""Distances per block on an accelerator: enough to fill it."""


def squared_distance_blocks(
    x: Tensor, y: Tensor | None = None, *, chunk: int | None = None
) -> Iterator[tuple[slice, slice, Tensor]]:
    """Yield (rows, columns, block), block[i, j] = |x_i - y_j|^2 >= 0 of these rows of `x` and columns of `y`.

    A block lives until the next one is asked for, and may be overwritten. Extra memory is O(chunk * m + (n + m) d);
    no graph, no synchronisation with the device. Rounding errors are a few eps of |x_i - c|^2 + |y_j - c|^2, with c
    the mean of the second sample.

    Args:
        x: first sample, shape (n, d), float32 or float64.
        y: second sample, shape (m, d), dtype and device of `x`; None = `x` itself, of whose pairs only the blocks on
            and right of the diagonal come: those left of it are their transposes. A point is then exactly 0 from
            itself, on the diagonal of the block's first square.
        chunk: rows of a block; None = sized for the cache.

    Yields:
        Slices of rows and of columns, and the block, contiguous.
    """
    x = x.detach()
    other = x if y is None else y.detach()
    centre = other.mean(0)
    left = left_factor(x - centre)
    columns = right_factor(other - centre).T.contiguous()  # the product that fills a block runs faster on it
    n, m = len(x), len(other)
    rows = min(n, chunk or block_rows(x, m))
    buffer = x.new_empty(rows * m)
    for start in range(0, n, rows):
        stop = min(start + rows, n)
        first = start if y is None else 0
        block = buffer[: (stop - start) * (m - first)].view(stop - start, m - first)
        torch.mm(left[start:stop], columns[:, first:], out=block).clamp_(min=0)
        if y is None:
            block.diagonal().zero_()
        yield slice(start, stop), slice(first, m), block


def left_factor(x: Tensor) -> Tensor:
    """Return L(x), shape (..., n, d + 2), for `x` of shape (..., n, d)."""
    return torch.cat([-2 * x, x.square().sum(-1, keepdim=True), torch.ones_like(x[..., :1])], -1)


def right_factor(x: Tensor) -> Tensor:
    """Return R(x), shape (..., n, d + 2), for `x` of shape (..., n, d)."""
    return torch.cat([x, torch.ones_like(x[..., :1]), x.square().sum(-1, keepdim=True)], -1)


def block_rows(x: Tensor, columns: int) -> int:
    """Return how many rows of `columns` distances make a block on the device of `x`."""
    return max(16, (CPU_BLOCK if x.device.type == "cpu" else GPU_BLOCK) // columns)
