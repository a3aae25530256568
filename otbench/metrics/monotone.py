r"""Share of pairs of points that a map turns around: $\langle x - x', T(x) - T(x') \rangle < 0$.

The optimal map of the quadratic cost is monotone: no pair of points violates it. Crossing segments are no error
measure, since optimal segments can cross.
"""

from __future__ import annotations

from torch import Tensor

ROUNDING = 1e-10
"""A pair counts from this share of the two clouds' sizes on: equal images, and rounding, are no violation."""
CHUNK = 1024
"""Rows of the matrix of pairs at a time: bounds the memory."""


def monotone_violations(x: Tensor, image: Tensor, label: Tensor | None = None) -> float:
    """Return the share of pairs with <x - x', T(x) - T(x')> < 0, in % of all pairs, of one class if there are classes.

    Computed in float64, in time O(n^2 d) and memory O(n).

    Args:
        x: points, shape (n, *shape).
        image: T(x), shape (n, *shape).
        label: classes, shape (n,), int64: only pairs of one class count, and points with -1 not at all.

    Returns:
        The share, %; 0 where there is no pair.

    Raises:
        ValueError: the numbers of points differ.
    """
    if len(x) != len(image) or (label is not None and len(label) != len(x)):
        raise ValueError(f"{len(x)} points, {len(image)} images and their labels do not match")
    groups = [slice(None)] if label is None else [label == k for k in sorted(set(label.tolist())) if k >= 0]
    turned = pairs = 0
    for group in groups:
        a, b = (points[group].flatten(1).double() for points in (x, image))
        turned += _turned(a - a.mean(0), b - b.mean(0))
        pairs += len(a) * (len(a) - 1)
    return 100 * turned / pairs if pairs else 0.0


def _turned(a: Tensor, b: Tensor) -> int:
    """Return the number of ordered pairs that are turned around, for centred points and images (n, d)."""
    own = (a * b).sum(1)
    floor = -ROUNDING * (a.square().sum(1).mean() * b.square().sum(1).mean()).sqrt()
    count = 0
    for start in range(0, len(a), CHUNK):
        here = slice(start, start + CHUNK)
        product = own[here, None] + own - a[here] @ b.T - b[here] @ a.T
        count += int((product < floor).sum())
    return count
