"""The user's own samples: two files of rows, one map between them, held-out rows to judge it by.

Rows for testing are chosen by a fixed seed and the digest of the file, whatever their order in it; the run's seed (or
`pool_seed`) parts the others into training and validation. Two sides of one file with as many rows have the same rows
for testing, so that no test row of one side trains the other.

Solvers are given (x - a) / s and (y - b) / s with the mean of each side's training rows, and one scale s for both sides
and all columns, the root of the mean variance: what the harness does for all tasks, done here in the file's own
precision. A scale for each column, or for each side, would change which map is optimal. Images stay as they are, and so
do points with `cost=power`, whose optimal map depends on where the two sides lie. The map that is kept, the test rows
and all metrics are in the user's units.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from otbench.config import Value
from otbench.datasets._cost import chosen_cost, of_any_cost
from otbench.datasets.samples.data import Data, Rows, Side, Split, load, parts_of, tensor
from otbench.datasets.samples.settings import SamplesConfig
from otbench.metrics.class_energy import class_energy
from otbench.metrics.two_sides import METRICS, TwoSides
from otbench.metrics.uvp import cosine, uvp
from otbench.names import few, plain
from otbench.problem import Batch, Cost, PoolMeasure, Problem, Units, common_scale
from otbench.task import Instance, Metric, Outputs, Picture, Task, TestData, register_task

__all__ = ["Samples", "SamplesConfig", "SamplesInstance"]


class SamplesInstance(Instance):
    """Two samples with their held-out rows."""

    def __init__(
        self,
        problem: Problem,
        test: TestData,
        facts: dict[str, Value],
        names: tuple[str, ...],
        *,
        training: Tensor,
        truth: Tensor | None,
        target_variance: float,
    ) -> None:
        """Hold the parts, all in the user's units but for the problem.

        Args:
            problem: the solver's view, in units of its own.
            test: held-out rows.
            facts: for the record.
            names: of the columns.
            training: training rows of the target, for `novelty`.
            truth: exact images of the held-out source rows, or None.
            target_variance: E|y - E y|^2, which UVP is relative to.
        """
        self.problem, self.test, self._names = problem, test, names
        self._truth, self._target_variance = truth, target_variance
        # with classes, mass moves within its class: the plan of all rows is not what a map should cost
        self._sides = TwoSides(
            test.source.x, test.target.x, training=training, plan=not problem.classes, ground=problem.cost
        )
        self.facts = {**facts, **self._sides.facts()}

    def score(self, outputs: Outputs) -> dict[str, float]:
        """Return the metrics by name; those that do not apply are left out.

        UVP needs the truth. `class_energy` needs classes, and two held-out rows of each on either side.
        """
        scores = self._sides.scores(outputs.forward, outputs.backward, outputs.roundtrip, final=outputs.final)
        if self._truth is not None and self._target_variance > 0:
            scores["uvp_fwd"] = uvp(outputs.forward, self._truth, self._target_variance)
            found = cosine(self.test.source.x, outputs.forward, self._truth)
            scores |= {} if found is None else {"cosine_fwd": found}
        image = Batch(outputs.forward.flatten(1), self.test.source.label)
        aim = Batch(self.test.target.x.flatten(1), self.test.target.label)
        if self.problem.classes and all(_enough(side, self.problem.classes) for side in (image, aim)):
            scores["class_energy"] = class_energy(_labelled(image), _labelled(aim))
        return scores

    def pictures(self, outputs: Outputs) -> Sequence[Picture]:
        """Return held-out rows of both sides and the images, at most 2000 fixed ones of each."""
        return (self._sides.picture(outputs.forward, self._names),)


@register_task(
    "samples",
    config=SamplesConfig,
    reference="the user's own files",
    presets={"smoke": {}, "quick": {}, "full": {}, "paper": {}},
)
class Samples(Task[SamplesConfig]):
    """Your own two samples: which solver maps one to the other best, judged on held-out rows."""

    metrics: ClassVar[tuple[Metric, ...]] = (
        METRICS[0],
        Metric("uvp_fwd", "UVP fwd", "%", primary=True, flag_worse=True),
        Metric("class_energy", "class energy", "data units", primary=True),
        *of_any_cost(METRICS[1:]),
        Metric("cost_gap", "cost gap", "%", primary=True),
        Metric("cosine_fwd", "cosine fwd", higher_is_better=True),
    )
    lists: ClassVar[frozenset[str]] = frozenset({"columns"})

    def controls(self) -> tuple[str, ...]:
        """Return the row of copies of training rows: what memorising reaches."""
        return ("copies",)

    def check(self) -> None:
        """Read all files.

        Raises:
            UsageError: a file is not named, or parameters contradict each other.
            DataError: a file is missing, damaged, too large, or does not fit the others.
        """
        self._cost()
        self._splits(0)
        self._data.check_numbers()

    def inputs(self) -> tuple[Path, ...]:
        """Return all files that were named."""
        return self._data.files

    def build(self, *, seed: int, device: torch.device, dtype: torch.dtype) -> SamplesInstance:
        """Make the instance: training and validation rows from `seed`, test rows from their own."""
        data, ground = self._data, self._cost()
        splits = self._splits(self.pool_seed(seed))
        moments = [side.moments(split.train) for side, split in zip(data.sides, splits, strict=True)]
        centred = len(data.shape) == 1 and ground.name == "quadratic"
        scale = common_scale(*(total / data.shape[0] for _, total in moments)) if centred else 1.0
        means = [mean for mean, _ in moments] if centred else [0.0, 0.0]

        def points(side: Side, rows: Rows, **units: Any) -> Tensor:
            return tensor(side.parts(rows), len(rows), data.shape, device, dtype, **units)

        def label(side: Side, rows: Rows) -> Tensor | None:
            return None if side.label is None else torch.from_numpy(side.label[rows]).to(device)

        measures = [
            PoolMeasure(
                points(side, split.train, mean=mean, scale=scale),
                label=label(side, split.train),
                classes=len(data.classes),
                validation=points(side, split.validation, mean=mean, scale=scale) if len(split.validation) else None,
            )
            for side, split, mean in zip(data.sides, splits, means, strict=True)
        ]
        units = None
        if centred:
            centres = [torch.from_numpy(mean).to(device, dtype) for mean, _ in moments]
            units = Units(centres[0], centres[1], torch.tensor(scale, device=device, dtype=dtype))
        tests = [
            Batch(points(s, split.test), label(s, split.test)) for s, split in zip(data.sides, splits, strict=True)
        ]
        rows = splits[0].test
        truth = None if data.truth is None else parts_of(data.truth, rows)
        return SamplesInstance(
            Problem(measures[0], measures[1], ground, device, dtype, units),
            TestData(tests[0], tests[1]),
            self._facts(splits, scale),
            data.sides[0].table.names,
            training=points(data.sides[1], splits[1].train),
            truth=None if truth is None else tensor(truth, len(rows), data.shape, device, dtype),
            target_variance=data.sides[1].moments(np.arange(len(data.sides[1])))[1],
        )

    def describe(self) -> str:
        """Return files, dimension, classes and sizes in a few words."""
        source, target = self._data.sides
        splits = self._splits(0)
        words = f"{_said(source, self.config.source_where)} to {_said(target, self.config.target_where)}, "
        words += f"d = {math.prod(self._data.shape)}"
        words += f", {len(self._data.classes)} classes" if self._data.classes else ""
        sizes = [f"{len(split.train):,}".replace(",", " ") for split in splits]
        words += (
            f", {sizes[0]} and {sizes[1]} training rows" if sizes[0] != sizes[1] else f", {sizes[0]} training rows each"
        )
        cost = self._cost().name
        words += "" if cost == "quadratic" else f", cost {cost}"
        return words + self.pool_words()

    def _cost(self) -> Cost:
        return chosen_cost(self.config.cost, self.config.p, owner="task samples")

    def _facts(self, splits: Sequence[Split], scale: float) -> dict[str, Value]:
        data = self._data
        facts: dict[str, Value] = {
            "dim": math.prod(data.shape),
            "columns": few(data.sides[0].table.names, 100),
            "classes": len(data.classes),
            "class_names": few(data.classes, 100),
            "scale": scale,
        }
        for side, split in zip(data.sides, splits, strict=True):
            sizes = {"training": split.train, "validation": split.validation, "test": split.test}
            facts |= {f"{side.name}_{what}_rows": len(rows) for what, rows in sizes.items()}
        return facts

    def _splits(self, seed: int) -> list[Split]:
        return [side.split(self.config.test, self.config.validation, seed) for side in self._data.sides]

    @functools.cached_property
    def _data(self) -> Data:
        return load(self.config)


def _said(side: Side, where: str | None) -> str:
    """Return the name of a side's file, its part, and which rows are taken, for a title."""
    name = plain(Path(side.said).name, 60)
    return name if where is None else f"{name} ({plain(where.replace(':', ' = ', 1), 60)})"


def _enough(side: Batch, classes: int) -> bool:
    assert side.label is not None
    return int(torch.bincount(side.label[side.label >= 0], minlength=classes).min()) >= 2


def _labelled(side: Batch) -> Batch:
    assert side.label is not None
    return Batch(side.x[side.label >= 0], side.label[side.label >= 0])
