"""What is drawn of transported images: a row of each kind, the confusion matrix, points along principal components."""

from __future__ import annotations

import torch
from torch import Tensor

from otbench.datasets.mnist.images import CLASSES
from otbench.ops.points import fixed_rows
from otbench.picture import POINTS, Picture

_AXES = 3
"""Principal components that are drawn."""


def image_rows(source: Tensor, wanted: Tensor, moved: Tensor, target: Tensor, goals: Tensor) -> Picture:
    """Return the first source image of each wanted class, what it became, and the first target image of that class.

    Where there is one class alone, they are the first images of it.

    Args:
        source: source images, shape (n, h, w), uint8.
        wanted: classes that they are to become, shape (n,), int64.
        moved: what they became, shape (n, 1, h, w), in [0, 1].
        target: target images, shape (m, h, w), uint8.
        goals: their classes, shape (m,), int64.
    """
    classes, words = wanted.unique(), "one of each class"  # type: ignore[no-untyped-call]
    if len(classes) > 1:
        firsts, others = ([int((label == k).nonzero()[0]) for k in classes] for label in (wanted, goals))
    else:
        firsts, others = (list(range(min(len(label), CLASSES))) for label in (wanted, goals))
        words = "of one class"
    grid = {
        "source": source[firsts].numpy(),
        "transported": (moved[firsts, 0].cpu() * 255).round().to(torch.uint8).numpy(),
        "target": target[others].numpy(),
    }
    return Picture("images", "images", f"test images, {words}", grid, tuple(grid))


def confusion(wanted: Tensor, found: Tensor) -> Picture:
    """Return how often each class was found, shape (10, 10), where another was wanted; both (n,), int64, on the CPU."""
    counts = torch.bincount(wanted * CLASSES + found, minlength=CLASSES**2).view(CLASSES, CLASSES)
    classes = tuple(map(str, range(CLASSES)))
    return Picture("confusion", "matrix", "wanted class (rows), class found", {"counts": counts.numpy()}, classes)


def components(source: Tensor, moved: Tensor, target: Tensor) -> Picture:
    """Return points (n, *shape), (n, *shape) and (m, *shape) along the target's first principal components."""
    aim = target.flatten(1).cpu().double()
    axes, centre = _principal(aim), aim.mean(0)
    clouds = {
        name: ((x[fixed_rows(len(x), POINTS)].flatten(1).cpu().double() - centre) @ axes).float().numpy()
        for name, x in (("data", target), ("mapped", moved), ("source", source))
    }
    names = tuple(f"PC {k + 1}" for k in range(axes.shape[1]))
    return Picture("components", "points", "along the target's principal components", clouds, names)


def _principal(x: Tensor) -> Tensor:
    """Return the first principal axes of points (n, d), as columns (d, k), k <= 3; signs fixed by the largest entry."""
    centred = x - x.mean(0)
    vectors: Tensor = torch.linalg.eigh(centred.T @ centred)[1]
    axes = vectors.flip(1)[:, :_AXES]
    return axes * axes.gather(0, axes.abs().argmax(0, keepdim=True)).sign()
