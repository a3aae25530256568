"""Applies trained maps to held-out points, and times inference. The truth is not here: scoring is the task's."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter

import numpy as np
import torch
from torch import Tensor

from otbench.errors import OtbenchError
from otbench.harness.measure import synchronize
from otbench.metrics.density import DENSITY_POINTS, has_density, pushforward_log_prob
from otbench.ops.points import fixed_rows
from otbench.problem import Batch, Problem
from otbench.task import TIMES, Instance, Outputs
from otbench.transport import Transport

REPEATS = 5
DRAWS = 32
"""Draws of a stochastic map over which its mean is taken."""
SLOW_SECONDS = 2.0
"""An inference pass slower than this is timed once instead of `REPEATS` times."""


@dataclass(frozen=True)
class Applier:
    """Applies the maps of `transport`, a chunk at a time, and refuses what has not the form that its contract says.

    Attributes:
        transport: the maps.
        owner: whose maps they are, for messages.
        seed: of the generators that stochastic maps draw from, one for each use.
    """

    transport: Transport
    owner: str
    seed: int

    def forward(self, points: Batch) -> Tensor:
        """Return the images of `points`, shape (n, *shape)."""
        return self._mapped("forward", points, self._generator(0, points))

    def mean(self, points: Batch) -> Tensor:
        """Return the mean of the images of `points` over `DRAWS` draws, shape (n, *shape)."""
        generator = self._generator(1, points)
        total = torch.zeros_like(points.x)
        for _ in range(DRAWS):
            total += self._mapped("forward", points, generator)
        return total / DRAWS

    def backward(self, points: Batch) -> Tensor:
        """Return the images of `points` under the map back, shape (n, *shape)."""
        return self._mapped("backward", points, self._generator(2, points))

    def roundtrip(self, images: Batch) -> Tensor:
        """Return the images under the map back of what are images of the map, shape (n, *shape)."""
        return self._mapped("backward", images, self._generator(3, images))

    def log_prob(self, target: Batch, rows: Batch, *, normal: bool) -> Tensor | None:
        """Return log densities: the map's own at all points of `target`, else made of its Jacobians at `rows`.

        Args:
            target: points, shape (m, *shape).
            rows: those for which Jacobians are made, shape (k, *shape).
            normal: whether the source is N(0, I), of points of the same shape.
        """
        if hasattr(self.transport, "log_prob"):
            return self._mapped("log_prob", target, None)
        shape = tuple(target.x.shape[1:])
        if not has_density(self.transport, is_standard_normal=normal, source_shape=shape, target_shape=shape):
            return None
        return pushforward_log_prob(self.transport, rows.x, self._label(rows))

    def at(self, name: str, x: Tensor, t: float) -> Tensor:
        """Return what `velocity` or `interpolate`, called `name`, makes of points `x` at time `t`, same shape."""
        return self._mapped(name, Batch(x), None, time=t)

    def way(self, x: Tensor) -> tuple[Tensor, Tensor | None] | None:
        """Return where points `x` are at `TIMES` and, where there is one, their velocity, each (5, n, *shape).

        None for maps without an interpolation.
        """
        if not hasattr(self.transport, "interpolate"):
            return None
        places = [self.at("interpolate", x, t) for t in TIMES]
        if not hasattr(self.transport, "velocity"):
            return torch.stack(places), None
        speeds = [self.at("velocity", place, t) for place, t in zip(places, TIMES, strict=True)]
        return torch.stack(places), torch.stack(speeds)

    def seconds(self, name: str, points: Batch) -> float:
        """Return how long the map called `name` takes for all `points`: the median after a warm-up."""
        generator = self._generator(4, points)
        return _median_seconds(lambda: self._mapped(name, points, generator), points.x.device)

    def _generator(self, use: int, points: Batch) -> torch.Generator:
        seed = int(np.random.SeedSequence([self.seed, use]).generate_state(1)[0])
        return torch.Generator(points.x.device).manual_seed(seed)

    def _label(self, points: Batch) -> Tensor | None:
        return points.label if self.transport.reads_label else None

    def _mapped(
        self, name: str, batch: Batch, generator: torch.Generator | None, *, time: float | None = None
    ) -> Tensor:
        parts = []
        for points, found in self.transport.mapped(name, batch.x, self._label(batch), generator, time=time):
            wanted = points.flatten(1)[:, 0] if name == "log_prob" else points
            if name == "log_prob" and isinstance(found, Tensor) and found.dtype == torch.float64:
                wanted = wanted.double()  # more digits than asked for are welcome
            if _form(found) != _form(wanted):
                raise OtbenchError(f"{self.owner}: {name} must return {_form(wanted)} here; it returned {_form(found)}")
            assert isinstance(found, Tensor)
            parts.append(found.detach())
        return parts[0] if len(parts) == 1 else torch.cat(parts)


def density_rows(target: Batch) -> Batch:
    """Return the fixed part of `target` at which densities are made from Jacobians."""
    rows = fixed_rows(len(target.x), DENSITY_POINTS).to(target.x.device)
    return Batch(target.x[rows], None if target.label is None else target.label[rows])


def normal_source(problem: Problem) -> bool:
    """Say whether a map that can be differentiated has a density here: its source is N(0, I), in the target's space."""
    return problem.source.is_standard_normal and problem.source.shape == problem.target.shape


def score(instance: Instance, outputs: Outputs) -> dict[str, float]:
    """Return the metrics of `outputs`, which maps made of the held-out data of `instance`."""
    return {name: float(value) for name, value in instance.score(outputs).items()}


def _form(found: object) -> str:
    if not isinstance(found, Tensor):
        return f"a {type(found).__name__}"
    return f"shape {tuple(found.shape)}, {str(found.dtype).removeprefix('torch.')}, on {found.device}"


def _median_seconds(run: Callable[[], object], device: torch.device) -> float:
    durations = []
    for _ in range(REPEATS + 1):
        synchronize(device)
        begin = perf_counter()
        run()
        synchronize(device)
        durations.append(perf_counter() - begin)
        if durations[0] > SLOW_SECONDS:
            return durations[0]
    return statistics.median(durations[1:])
