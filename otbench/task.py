"""The Task contract: instances to solve (problem + truth + test data) and the metrics to report.

The solver is given `instance.problem` only. The harness applies the trained maps to `instance.test` and hands the
mapped points, not the solver, to `instance.score`.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Generic, TypeVar

import torch
from torch import Tensor

from otbench.config import Config, Field, Value
from otbench.picture import Picture
from otbench.problem import Batch, Problem
from otbench.registration import register_task
from otbench.reporting import Metric, Published

__all__ = [
    "TIMES",
    "Config",
    "Field",
    "Instance",
    "Metric",
    "Outputs",
    "Picture",
    "Published",
    "Task",
    "TestData",
    "Way",
    "register_task",
]

if TYPE_CHECKING:
    from otbench.data.sources import DataSource

ConfigT = TypeVar("ConfigT", bound=Config)


@dataclass(frozen=True)
class TestData:
    """Held-out samples, on the run's device: `source` for the forward map, `target` for the backward map."""

    source: Batch
    target: Batch


TIMES = (0.0, 0.25, 0.5, 0.75, 1.0)
"""When the way from source to target is looked at."""


@dataclass(frozen=True)
class Way:
    """What trained maps say of the way from source to target, at the end of training.

    Attributes:
        rows: places of the k points that are followed, among those of test.source.x, shape (k,), int64.
        points: where they are at `TIMES`, shape (5, k, *shape): by the maps' own interpolation, else on straight lines
            to their images.
        velocity: the maps' velocity there, shape (5, k, *shape); None for maps without velocity or interpolation.
        exact: the maps' velocity at `Instance.waypoints()`, shape of these; None for maps without velocity.
    """

    rows: Tensor
    points: Tensor
    velocity: Tensor | None = None
    exact: Tensor | None = None


@dataclass(frozen=True)
class Outputs:
    """What trained maps made of the test data.

    Attributes:
        forward: T(test.source.x), shape (n, *shape).
        backward: S(test.target.x), shape (m, *shape); None for one-way solvers.
        roundtrip: S(T(test.source.x)), shape (n, *shape); None for one-way solvers.
        log_prob: log densities of T#source at k points of test.target.x, shape (k,), NaN where none was found:
            `otbench.metrics.density.mean_nll` makes a score of them. All m points where the solver has densities of
            its own, a fixed part of them where they are made from the Jacobians of its map. None where there are none,
            and before the end.
        forward_mean: mean of T(test.source.x) over draws, shape (n, *shape): the barycentric projection; None for
            deterministic maps, and where `Instance.scores_mean` is not set.
        final: whether training is over; at points of the curve, costly metrics are left out.
        way: what lies between; None before the end, and where `Instance.waypoints` has none.
    """

    forward: Tensor
    backward: Tensor | None = None
    roundtrip: Tensor | None = None
    log_prob: Tensor | None = None
    forward_mean: Tensor | None = None
    final: bool = True
    way: Way | None = None


class Instance(abc.ABC):
    """One problem with its truth and its test data.

    Attributes:
        problem: the solver's view.
        test: held-out samples, fixed by their own seed.
        facts: numbers about the instance for the record (exact distance, sample sizes, floors).
        scores_mean: whether `score` looks at `Outputs.forward_mean`; else no draws are spent on it.
        curve_points: at points of the curve maps are applied to the first so many test points of each side alone, and
            `Outputs` holds no more; None = to all. Points with classes are always all mapped.
    """

    problem: Problem
    test: TestData
    facts: Mapping[str, Value]
    scores_mean: ClassVar[bool] = False
    curve_points: ClassVar[int | None] = None

    @abc.abstractmethod
    def score(self, outputs: Outputs) -> dict[str, float]:
        """Return metrics by name; a metric that does not apply is left out."""

    def waypoints(self) -> Tensor | None:
        """Return points of exact paths at the inner `TIMES`, shape (3, m, *shape), at which velocities are wanted.

        Maps see them: no path may occur at two times, or its velocity could be read off. Without any, none of
        `Outputs.way` is made.
        """
        return None

    def task_rows(self) -> Mapping[str, Mapping[str, float]]:
        """Return metrics, by name, of rows that are no method: real test data, the best that a decoder allows.

        Shown as the baselines of these names (`otbench.registration.register_task_row`).
        """
        return {}

    def pictures(self, outputs: Outputs) -> Sequence[Picture]:
        """Return what a report draws of the trained maps: a few small arrays, kept beside the record."""
        return ()


class Task(abc.ABC, Generic[ConfigT]):
    """A family of instances, one for each configuration and seed."""

    metrics: ClassVar[tuple[Metric, ...]]
    replaces: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    """A parameter that takes the place of others when a user sets it (a file names its own dimension): their preset
    values are dropped then."""

    lists: ClassVar[frozenset[str]] = frozenset()
    """Parameters of which `a|b|c` on a command line is one value with several names, and no grid."""

    def __init__(self, config: ConfigT, *, data_dir: Path | None = None) -> None:
        """Take a checked configuration and the folder with the user's own copies of data, if any."""
        self.config = config
        self.data_dir = data_dir

    @classmethod
    def choose(
        cls, preset: Mapping[str, Value | Sequence[Value]], *, typed: frozenset[str], data_dir: Path | None
    ) -> tuple[Mapping[str, Value | Sequence[Value]], Sequence[str]]:
        """Return the preset's values as they can be used here, and notes for the user.

        A task with several data sets leaves out, with the reason, those that are not on this machine.

        Args:
            preset: values by parameter name; a sequence is a grid.
            typed: parameters that the user sets: their values in the preset do not count.
            data_dir: the folder with the user's own copies of data, if any.
        """
        return preset, ()

    def controls(self) -> tuple[str, ...]:
        """Return names of baselines that always stand in this instance's table, beside those of every task."""
        return ()

    @classmethod
    def sources(cls) -> Sequence[DataSource]:
        """Return the data that the task gets from elsewhere: what `otbench data` lists, fetches and verifies."""
        return ()

    def check(self) -> None:
        """Look at inputs (files, sizes) before any run starts.

        Raises:
            DataError: what is missing or wrong, and what to do.
        """

    def pool_seed(self, seed: int) -> int:
        """Return the seed of the training pools: parameter `pool_seed` where it is given, else that of the run.

        Runs that share `pool_seed` and differ in their own seed show what the solver's randomness alone does.
        """
        chosen = self._given_pool_seed()
        return seed if chosen is None else chosen

    def pool_words(self) -> str:
        """Return what the head of a table says of `pool_seed`: nothing, unless it is given."""
        chosen = self._given_pool_seed()
        return "" if chosen is None else f", pool seed {chosen}"

    def _given_pool_seed(self) -> int | None:
        return getattr(self.config, "pool_seed", None)

    def inputs(self) -> tuple[Path, ...]:
        """Return files that the instance is made of and that may change: their content is part of a run's identity."""
        return ()

    @abc.abstractmethod
    def build(self, *, seed: int, device: torch.device, dtype: torch.dtype) -> Instance:
        """Make the instance of one seed: the training pool depends on the seed, the test data do not."""

    @abc.abstractmethod
    def describe(self) -> str:
        """Return the instance in a few words, for the head of a table ("d = 8, released pair")."""

    def published(self) -> Published | None:
        """Say which published rows were measured on this very instance; None if none were."""
        return None
