"""How well each class arrives at its own: the mean of the energy distances within classes."""

from __future__ import annotations

from otbench.ops.energy import energy_distance
from otbench.problem import Batch


def class_energy(image: Batch, aim: Batch) -> float:
    """Return the mean over classes of the energy distance between two samples' points of that class, unbiased.

    Args:
        image: first sample, points of shape (n, d).
        aim: second sample, points of shape (m, d), whose classes are those that count. Without labels on either side
            all points are one class.
    """
    if image.label is None or aim.label is None:
        return float(energy_distance(image.x, aim.x, unbiased=True))
    pairs = ((image.x[image.label == k], aim.x[aim.label == k]) for k in aim.label.unique())  # type: ignore[no-untyped-call]
    values = [float(energy_distance(x, y, unbiased=True)) for x, y in pairs]
    return sum(values) / len(values)
