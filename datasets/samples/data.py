"""Both sides of the user's samples: rows of two files that fit each other, their classes, and what they are for."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from otbench.datasets.samples.files import read_labels, read_table
from otbench.datasets.samples.labels import encoded, same_as
from otbench.datasets.samples.places import SHOWN, Array, Table, Wanted, placed
from otbench.datasets.samples.settings import SamplesConfig
from otbench.errors import DataError, UsageError
from otbench.files import file_digest
from otbench.names import few

LEAST_ROWS = 10
"""Rows for training, and rows for testing, that a side must have."""
MAX_TEST_ROWS = 100_000
"""Rows for testing, at most; those above it train."""
LARGEST = 1e18
"""Numbers beyond this have no finite squares in float32."""
SIDES = ("source", "target")
_CHUNK_NUMBERS = 2**22
_TEST, _POOL = 0, 1

Rows = NDArray[np.int64]


class Split(NamedTuple):
    """Places of rows in a side, by what they are for, each rising."""

    train: Rows
    validation: Rows
    test: Rows


@dataclass(frozen=True)
class Side:
    """The rows of one side.

    Attributes:
        name: "source" or "target".
        said: where they are from, for messages.
        table: all of the file.
        rows: which rows of the file are taken, shape (n,), rising; None = all.
        digest: SHA-256 of the file, hexadecimal.
        label: classes of the rows taken, shape (n,), int64, -1 = unlabelled; None without classes.
    """

    name: str
    said: str
    table: Table
    rows: Rows | None
    digest: str
    label: Rows | None = None

    def __len__(self) -> int:
        """Return the number of rows that are taken."""
        return len(self.table.points) if self.rows is None else len(self.rows)

    def split(self, test: float, validation: float, seed: int) -> Split:
        """Return which rows test, validate and train; only the last two depend on `seed`.

        Raises:
            DataError: too few are left for one of them.
        """
        words = [_TEST, *np.frombuffer(hashlib.sha256(self.digest.encode()).digest(), np.uint32).tolist()]
        order = np.random.Generator(np.random.PCG64(words)).permutation(len(self))
        held_out = min(round(test * len(self)), MAX_TEST_ROWS)
        rest = order[held_out:]
        rest = rest[np.random.Generator(np.random.PCG64([_POOL, SIDES.index(self.name), seed])).permutation(len(rest))]
        aside = min(max(1, round(validation * len(rest))), len(rest)) if validation else 0
        for what, count in (("testing", held_out), ("training", len(rest) - aside)):
            if count < LEAST_ROWS:
                raise DataError(
                    f"{self.said}: its {len(self):,} rows leave {count} for {what} (test={test:g}, "
                    f"validation={validation:g}), and at least {LEAST_ROWS} are needed; give more rows, or other shares"
                )
        parts = (np.sort(part) for part in (rest[aside:], rest[:aside], order[:held_out]))
        return Split(*parts)

    def parts(self, chosen: Rows) -> Iterator[NDArray[np.float64]]:
        """Yield the points of the chosen rows, flattened, float64, a part at a time."""
        yield from parts_of(self.table.points, chosen if self.rows is None else self.rows[chosen])

    def moments(self, chosen: Rows) -> tuple[NDArray[np.float64], float]:
        """Return the mean of the chosen rows, shape (d,), and E|x - E x|^2."""
        mean = sum((part.sum(0) for part in self.parts(chosen)), np.zeros(())) / len(chosen)
        return mean, float(sum(np.square(part - mean).sum() for part in self.parts(chosen))) / len(chosen)


@dataclass(frozen=True)
class Data:
    """Two sides that fit each other.

    Attributes:
        sides: source and target.
        shape: of a point.
        classes: their names; empty without classes.
        truth: exact images of the source's rows, as many, in their order; None where they are not known.
        files: all that was read.
    """

    sides: tuple[Side, Side]
    shape: tuple[int, ...]
    classes: tuple[str, ...]
    truth: Array | None
    files: tuple[Path, ...]

    def check_numbers(self) -> None:
        """Look at all numbers.

        Raises:
            DataError: one is not finite, or so large that its square is not.
        """
        for side in self.sides:
            _check_numbers(side.table.points, side.said, side.rows)
        if self.truth is not None:
            _check_numbers(self.truth, "task samples: truth")


def load(config: SamplesConfig) -> Data:
    """Read all files that `config` names.

    Raises:
        UsageError: a file is not named, or parameters contradict each other.
        DataError: a file is missing, damaged, too large, or does not fit the others.
    """
    missing = [name for name in SIDES if getattr(config, name) is None]
    if missing:
        raise UsageError(
            f"task samples: {' and '.join(missing)} not given; name two files of rows, as in "
            '--task "samples[source=X.npy,target=Y.npy]"'
        )
    if (config.source_label is None) != (config.target_label is None):
        raise UsageError(
            "task samples: class goes to the same class, so give source_label and target_label, or neither"
        )
    files: list[Path] = []
    (source, source_label), (target, target_label) = (_side(config, name, files) for name in SIDES)
    shape = _shape(config, source, target)
    classes: tuple[str, ...] = ()
    if source_label is not None and target_label is not None:
        said = [f"task samples: {name}_label {getattr(config, f'{name}_label')}" for name in SIDES]
        (left, right), classes = encoded((source_label, target_label), said)
        source, target = _replace_label(source, left), _replace_label(target, right)
    truth = None
    if config.truth is not None:
        place, table = read_table(config.truth, "task samples: truth", Wanted(_columns(config)))
        files.append(place.path)
        truth = table.points
        if len(truth) != len(source) or math.prod(truth.shape[1:]) != math.prod(shape):
            raise DataError(
                f"{place}: truth must hold the image of each of {len(source):,} source rows, {math.prod(shape)} "
                f"numbers each, and has shape {truth.shape}"
            )
    return Data((source, target), shape, classes, truth, tuple(files))


def tensor(
    parts: Iterator[NDArray[np.float64]],
    count: int,
    shape: tuple[int, ...],
    device: torch.device,
    dtype: torch.dtype,
    *,
    mean: NDArray[np.float64] | float = 0.0,
    scale: float = 1.0,
) -> Tensor:
    """Return `count` points that come in `parts`, (x - mean) / scale, shape (count, *shape)."""
    made = torch.empty(count, math.prod(shape), dtype=dtype)
    begin = 0
    for part in parts:
        made[begin : begin + len(part)] = torch.from_numpy((part - mean) / scale)
        begin += len(part)
    return made.view(count, *shape).to(device)


def parts_of(points: Array, rows: Rows) -> Iterator[NDArray[np.float64]]:
    """Yield `points` at `rows`, flattened, float64, a part at a time."""
    step = max(1, _CHUNK_NUMBERS // math.prod(points.shape[1:]))
    for begin in range(0, len(rows), step):
        part = points[rows[begin : begin + step]]
        yield part.reshape(len(part), -1).astype(np.float64)


def _side(config: SamplesConfig, name: str, files: list[Path]) -> tuple[Side, Array | None]:
    """Return one side and the classes of its rows as they were given; note the files that were read."""
    option = f"task samples: {name}"
    label, where = getattr(config, f"{name}_label"), getattr(config, f"{name}_where")
    column, _, value = (where or "").partition(":")
    beside = tuple(dict.fromkeys(word for word in (label, column) if word))
    place, table = read_table(str(getattr(config, name)), option, Wanted(_columns(config), beside))
    files.append(place.path)
    rows = None
    if column:
        if column not in table.beside:
            raise DataError(f"{place}: has no column '{column}' for {name}_where; {_columns_known(table)}")
        rows = np.flatnonzero(same_as(table.beside[column], value))
        if not len(rows):
            values = few(sorted({str(entry) for entry in table.beside[column].tolist()}), SHOWN)
            raise DataError(f"{place}: no row has {column} = '{value}'; its values: {values}")
    classes = None if label is None else table.beside.get(label)
    if label is not None and classes is None:
        if "." not in label and not Path(label).exists():
            raise DataError(f"{place}: '{label}' is no column of it, and no file either; {_columns_known(table)}")
        classes = read_labels(label, f"{option}_label", len(table.points))
        files.append(placed(label, f"{option}_label").path)
    if classes is not None and rows is not None:
        classes = classes[rows]
    return Side(name, str(place), table, rows, file_digest(place.path)), classes


def _replace_label(side: Side, label: Rows) -> Side:
    return Side(side.name, side.said, side.table, side.rows, side.digest, label)


def _columns(config: SamplesConfig) -> tuple[str, ...] | None:
    return None if config.columns is None else tuple(name.strip() for name in config.columns.split("|"))


def _columns_known(table: Table) -> str:
    return f"its columns: {few(table.known, SHOWN)}" if table.known else "its columns have no names"


def _shape(config: SamplesConfig, source: Side, target: Side) -> tuple[int, ...]:
    """Return the shape of a point, which both sides share.

    Raises:
        DataError: they do not.
    """
    shapes = [side.table.points.shape[1:] for side in (source, target)]
    sizes = [math.prod(shape) for shape in shapes]
    if sizes[0] != sizes[1]:
        raise DataError(
            f"{source.said} has {sizes[0]:,} columns and {target.said} has {sizes[1]:,}; both need the same "
            "(columns=a|b|c names those to take)"
        )
    if config.shape is not None:
        shape = tuple(map(int, config.shape.split("x")))
        if math.prod(shape) != sizes[0]:
            raise DataError(
                f"task samples: shape={config.shape} has {math.prod(shape):,} numbers, and {source.said} holds "
                f"{sizes[0]:,} a row"
            )
        return shape
    if shapes[0] != shapes[1]:
        raise DataError(f"{source.said} holds points of shape {shapes[0]}, {target.said} of {shapes[1]}; give shape=")
    return shapes[0]


def _check_numbers(points: Array, said: str, rows: Rows | None = None) -> None:
    if points.dtype.kind in "iu":
        return
    step = max(1, _CHUNK_NUMBERS // math.prod(points.shape[1:]))
    for begin in range(0, len(points) if rows is None else len(rows), step):
        places = slice(begin, begin + step) if rows is None else rows[begin : begin + step]
        part = np.asarray(points[places]).reshape(-1, math.prod(points.shape[1:]))
        good = np.abs(part) <= LARGEST  # False for NaN
        if not good.all():
            at, column = (int(k) for k in np.argwhere(~good)[0])
            row = begin + at if rows is None else rows[begin + at]
            raise DataError(
                f"{said}: row {row}, column {column} (counted from 0) holds {float(part[at, column]):g}; only "
                f"finite numbers up to {LARGEST:g} are taken, so fill in or leave out such rows"
            )
