"""Centred points in one common scale, for solvers that would otherwise depend on where the user's points lie.

The quadratic cost does not care about a translation of either side and a scale common to both; most solvers do. Here,
and nowhere else, moments of the two measures are looked at on a solver's behalf.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import torch
from torch import Tensor

from otbench.problem import Batch, Measure, PoolMeasure, Problem, Units, common_scale

DRAWS = 2**17
"""Points of a measure without a pool from which its mean and scale are taken; they count as drawn."""
CHUNK = 2**13
"""Points looked at at a time."""


def standardised(problem: Problem, generator: torch.Generator) -> Problem:
    """Return `problem` with centred points, both sides in units of one common scale.

    It is returned as it is where it has units already, and where its cost, its points or its sides do not allow any:
    other costs than the quadratic, images, sides of different shapes; and where an entropic plan is asked for, whose
    epsilon has units. A side that is flagged as standard normal keeps its points, and so the scale is 1 then.

    Args:
        problem: in the user's units.
        generator: what the points of measures without a pool are drawn with, on the problem's device.
    """
    sides = (problem.source, problem.target)
    takes_units = problem.cost.name == "quadratic" and sides[0].shape == sides[1].shape == (problem.dim,)
    flagged = [side.is_standard_normal for side in sides]
    if problem.units is not None or problem.epsilon is not None or not takes_units or all(flagged):
        return problem
    moments = [_moments(side, generator) for side in sides]
    scale = 1.0 if any(flagged) else common_scale(*(variance for _, variance in moments))
    source, target = (
        side if side.is_standard_normal else moved(side, mean, scale, problem.dtype)
        for side, (mean, _) in zip(sides, moments, strict=True)
    )
    means = [mean.to(problem.dtype) for mean, _ in moments]
    units = Units(means[0], means[1], means[0].new_tensor(scale))
    return dataclasses.replace(problem, source=source, target=target, units=units)


def in_own_units(problem: Problem) -> Problem:
    """Return `problem` with the user's points, whatever units its task has chosen."""
    units = problem.units
    if units is None:
        return problem
    scale = 1 / float(units.scale)
    source = moved(problem.source, -scale * units.source_mean.double(), scale, problem.dtype)
    target = moved(problem.target, -scale * units.target_mean.double(), scale, problem.dtype)
    return dataclasses.replace(problem, source=source, target=target, units=None)


def _moments(side: Measure, generator: torch.Generator) -> tuple[Tensor, float]:
    """Return the mean, shape (d,), float64, and the mean over coordinates of the variance."""
    if side.is_standard_normal:
        return torch.zeros(side.shape, dtype=torch.float64, device=generator.device), 1.0
    parts = (part.double() for part in _parts(side, generator))
    first = next(parts)
    about = first.mean(0)  # sums about a point of the cloud do not cancel, wherever it lies
    count, total, squares = len(first), torch.zeros_like(about), (first - about).square().sum(0)
    for part in parts:
        count += len(part)
        total += (part - about).sum(0)
        squares += (part - about).square().sum(0)
    shift = total / count
    return about + shift, float((squares / count - shift.square()).clamp_(min=0).mean())


def _parts(side: Measure, generator: torch.Generator) -> Iterator[Tensor]:
    if side.pool is not None:
        yield from torch.split(side.pool, CHUNK)
        return
    for _ in range(DRAWS // CHUNK):
        yield side.sample(CHUNK, generator=generator).x


def moved(side: Measure, mean: Tensor, scale: float, dtype: torch.dtype) -> Measure:
    """Return the measure of (x - mean) / scale; the mean in float64, because a pool far away loses digits otherwise."""
    if side.pool is None:
        return _Moved(side, mean.to(dtype), scale)

    def own(points: Tensor) -> Tensor:
        return ((points.double() - mean) / scale).to(dtype)

    validation = None if side.validation is None else own(side.validation)
    return PoolMeasure(own(side.pool), label=side.pool_label, classes=side.classes, validation=validation)


class _Moved(Measure):
    """A measure without a pool, moved."""

    def __init__(self, side: Measure, mean: Tensor, scale: float) -> None:
        super().__init__()
        self.shape, self.classes, self.drawn = side.shape, side.classes, side.drawn
        self._side, self._mean, self._scale = side, mean, scale

    def _draw(self, n: int, generator: torch.Generator, label: int | Tensor | None) -> Batch:
        batch = self._side.sample(n, generator=generator, label=label)
        return dataclasses.replace(batch, x=(batch.x - self._mean).div_(self._scale))
