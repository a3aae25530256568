"""Batches of a measure without replacement: over all points, or as many of every class."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from otbench.problem import Batch, Measure, PoolMeasure, class_counts


class _Walk:
    """Places 0, ..., size - 1 in batches, in a new random order each epoch; the last, smaller part is left out."""

    def __init__(self, size: int, batch_size: int, generator: torch.Generator) -> None:
        self._size, self._batch_size, self._generator = size, batch_size, generator
        self._order: Tensor | None = None
        self._at = 0

    def next(self) -> Tensor:
        """Return the next places, shape (batch_size,), int64, on the generator's device."""
        if self._order is None or self._at + self._batch_size > self._size:
            self._order = torch.randperm(self._size, generator=self._generator, device=self._generator.device)
            self._at = 0
        self._at += self._batch_size
        return self._order[self._at - self._batch_size : self._at]

    def state_dict(self) -> dict[str, object]:
        """Return the order of this epoch and the place in it."""
        return {"order": self._order, "at": self._at}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`."""
        self._order, self._at = state["order"], state["at"]


class Sampler(abc.ABC):
    """Batches of a measure.

    Part of a solver's state: a resumed run goes on with the batch that the interrupted one would have drawn.

    Attributes:
        batch_size: points of a batch.
    """

    batch_size: int
    _walks: list[_Walk]

    @abc.abstractmethod
    def next(self) -> Batch:
        """Return the next batch of `batch_size` points."""

    def state_dict(self) -> dict[str, object]:
        """Return order and place of each walk."""
        return {str(k): walk.state_dict() for k, walk in enumerate(self._walks)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`."""
        for k, walk in enumerate(self._walks):
            walk.load_state_dict(state[str(k)])


class EpochSampler(Sampler):
    """Batches without replacement: walks a pool in a new random order each epoch.

    A measure without a pool is sampled afresh. The last, smaller part of an epoch is left out.
    """

    def __init__(self, measure: Measure, batch_size: int, generator: torch.Generator) -> None:
        """Walk `measure` in batches of `batch_size` (at most the pool's size), shuffled by `generator`."""
        self._measure, self._generator = measure, generator
        size = len(measure.pool) if measure.pool is not None else batch_size
        self.batch_size = min(batch_size, size)
        self._walks = [_Walk(size, self.batch_size, generator)]

    def next(self) -> Batch:
        """Return the next batch of `batch_size` points."""
        if not isinstance(self._measure, PoolMeasure):
            return self._measure.sample(self.batch_size, generator=self._generator)
        return self._measure.take(self._walks[0].next())


class ClassSampler(Sampler):
    """Class-balanced batches without replacement: as many points of every class, walked through in shuffled epochs.

    Row i is of class i % classes, so that the first rows of a batch hold all classes and two batches of one number of
    classes pair row by row within a class. Unlabelled points are never drawn.
    """

    def __init__(self, measure: Measure, batch_size: int, generator: torch.Generator) -> None:
        """Take about `batch_size` points at a time from `measure`: at least two of each class, if it has as many.

        Args:
            measure: with classes.
            batch_size: points per batch, shared out evenly.
            generator: source of randomness, on the measure's device.

        Raises:
            ValueError: a class without a labelled point, or a measure without classes.
        """
        self._measure, self._generator, self.classes = measure, generator, measure.classes
        counts = class_counts(measure)
        if min(counts, default=0) < 1:
            raise ValueError(f"every class needs a labelled point, got {counts} per class")
        self.per_class = min(max(2, batch_size // self.classes), *counts)
        self.batch_size = self.per_class * self.classes
        self._walks = [_Walk(count, self.per_class, generator) for count in counts]

    def next(self) -> Batch:
        """Return the next batch of `per_class` points of each class, classes taking turns."""
        if not isinstance(self._measure, PoolMeasure):
            turns = torch.arange(self.classes, device=self._generator.device).repeat(self.per_class)
            return self._measure.sample(self.batch_size, generator=self._generator, label=turns)
        places = [self._measure.members(k)[walk.next()] for k, walk in enumerate(self._walks)]
        return self._measure.take(torch.stack(places, 1).flatten())


class Repeated(Sampler):
    """Each batch of another sampler several times in a row."""

    def __init__(self, sampler: Sampler, times: int) -> None:
        """Take batches from `sampler`, each `times` times."""
        self.batch_size, self._sampler, self._times = sampler.batch_size, sampler, times
        self._batch, self._used = Batch(torch.empty(0)), times

    @property
    def again(self) -> bool:
        """Whether the last call returned the batch of the call before it."""
        return self._used > 1

    def next(self) -> Batch:
        """Return the batch of the last call again, or the next one."""
        if self._used == self._times:
            self._batch, self._used = self._sampler.next(), 0
        self._used += 1
        return self._batch

    def state_dict(self) -> dict[str, object]:
        """Return the batch in use, and the state of the other sampler."""
        batch = self._batch
        return {"batch": (batch.x, batch.label, batch.index), "used": self._used, "walk": self._sampler.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`."""
        self._batch, self._used = Batch(*state["batch"]), state["used"]
        self._sampler.load_state_dict(state["walk"])


def sampler_of(measure: Measure, batch_size: int, generator: torch.Generator, *, balanced: bool) -> Sampler:
    """Return the sampler of class-balanced batches, or that of batches which do not look at labels."""
    return (ClassSampler if balanced else EpochSampler)(measure, batch_size, generator)


def by_class(x: Tensor, classes: int) -> Tensor:
    """Return the points of a `ClassSampler` batch, shape (classes * n, d), class by class: (classes, n, d)."""
    return x.view(-1, classes, x.shape[1]).transpose(0, 1)
