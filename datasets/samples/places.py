"""What a user names, and what was read from it: a file, perhaps a part of it, and a table of its numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from otbench.errors import DataError, UsageError
from otbench.files import require_file, shown, typed_path, unreadable
from otbench.names import few, hint

Array: TypeAlias = NDArray[np.generic]

MAX_ROWS = 10**7
MAX_COLUMNS = 4096
SHOWN = 8
"""Names that a message lists, at most."""
ENDINGS = (".npy", ".npz", ".csv", ".parquet", ".pt", ".h5ad")
"""Files that are read."""
WITH_PARTS = (".npz", ".pt", ".h5ad")
"""Files of several arrays; one is named as in `X.npz:key`."""
_GB = 1e9
_WORKING = 8
"""Bytes a number while a run works on it: the tensor of training, and the part that is being read."""


@dataclass(frozen=True)
class Place:
    """A file that a user named.

    Attributes:
        path: the file.
        part: which of its arrays, as in `X.npz:part`; empty for the only one.
        option: where it was named, for messages ("task samples: source").
    """

    path: Path
    part: str
    option: str

    def __str__(self) -> str:
        """Return the place as it was typed."""
        return f"{self.path}:{self.part}" if self.part else str(self.path)


@dataclass(frozen=True)
class Wanted:
    """Which columns of a file are read.

    Attributes:
        points: names (positions, counted from 0, where columns have no names); None = all that hold numbers.
        beside: columns that are not coordinates: classes, conditions.
    """

    points: tuple[str, ...] | None = None
    beside: tuple[str, ...] = ()


@dataclass(frozen=True)
class Table:
    """The numbers of a file.

    Attributes:
        points: shape (n, *shape), in the type that they have in the file; large .npy files are mapped, not read.
        names: of the columns.
        beside: the columns of `Wanted.beside` that there are, shape (n,) each, of any type.
        known: all names of columns, for messages; empty where columns have no names.
    """

    points: Array
    names: tuple[str, ...]
    beside: Mapping[str, Array] = field(default_factory=dict)
    known: tuple[str, ...] = ()


def placed(text: str, option: str, *, endings: Sequence[str] = ENDINGS) -> Place:
    """Return the file that `text` names, which must exist and be of a known kind.

    Raises:
        UsageError: it cannot be a path, or its ending is not known.
        DataError: there is no such file, or it may not be read.
    """
    head, colon, part = text.rpartition(":")
    if not (colon and head.endswith(WITH_PARTS)):
        head, part = text, ""
    path = typed_path(head, option)
    require_file(path)
    if path.suffix not in endings:
        kind = f"files that end in '{path.suffix}'" if path.suffix else "files without an ending"
        raise UsageError(f"{option} {shown(head)}: {kind} are not read; save it as one of {', '.join(endings)}")
    try:
        path.open("rb").close()
    except OSError as error:
        raise unreadable(path, error) from error
    return Place(path, part, option)


def chosen_part(place: Place, names: Sequence[str]) -> str:
    """Return which of the arrays `names` is meant.

    Raises:
        DataError: it is not there, or several are and none is named.
    """
    if place.part in names:
        return place.part
    if place.part:
        said = hint(place.part, names, "it holds", most=SHOWN)
        raise DataError(f"{place.path}: holds no '{place.part}'{said}")
    if len(names) != 1:
        held = few(sorted(names), SHOWN) or "nothing"
        raise DataError(f"{place.path}: name one of its arrays, as in {place.path.name}:NAME; it holds {held}")
    return names[0]


def columns_of(place: Place, wanted: Sequence[str] | None, names: Sequence[str]) -> list[int]:
    """Return the positions of the wanted columns among `names`; all where none are named.

    Raises:
        DataError: one does not exist, or is named twice.
    """
    if wanted is None:
        return list(range(len(names)))
    positions = {name: k for k, name in enumerate(names)}
    for name in wanted:
        if name not in positions:
            raise DataError(f"{place}: has no column '{name}'{hint(name, names, 'its columns', most=SHOWN)}")
    if len(set(wanted)) < len(wanted):
        raise DataError(f"{place}: a column is named twice in columns={'|'.join(wanted)}")
    return [positions[name] for name in wanted]


def numbered(count: int) -> tuple[str, ...]:
    """Return the names of columns that have none: their positions."""
    return tuple(map(str, range(count)))


def check_room(place: Place, shape: Sequence[int], itemsize: int) -> None:
    """Check, before anything is read, that an array of this shape is one this task can take.

    Args:
        place: where it is.
        shape: (n, *shape of a point).
        itemsize: bytes that the reader needs for each number.

    Raises:
        DataError: it has no rows or no columns, or more than fit; the message says what they would need.
    """
    rows, columns = shape[0] if shape else 0, math.prod(shape[1:])
    if len(shape) < 2:
        raise DataError(f"{place}: has shape {tuple(shape)}; it must hold rows of numbers, shape (rows, columns)")
    if not rows or not columns:
        raise DataError(f"{place}: holds {rows} rows of {columns} columns; there is nothing to transport")
    need = rows * columns * (itemsize + _WORKING) / _GB
    if columns > MAX_COLUMNS:
        raise DataError(
            f"{place}: {columns:,} columns are more than {MAX_COLUMNS:,}, and would need {need:.3g} GB of memory; take "
            "some of them (columns=a|b|c), or their leading principal components"
        )
    if rows > MAX_ROWS:
        raise DataError(
            f"{place}: {rows:,} rows of {columns:,} are more than {MAX_ROWS:,} rows, and would need {need:.3g} GB of "
            "memory; take a random part of them"
        )
    free = free_memory()
    if free is not None and need > free / _GB:
        raise DataError(
            f"{place}: {rows:,} rows of {columns:,} need about {need:.3g} GB of memory, and {free / _GB:.3g} GB are "
            "free; take fewer rows or columns"
        )


def free_memory() -> int | None:
    """Return the bytes of memory that programs can still take; None where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, ValueError, IndexError, StopIteration):
        return None


Reader: TypeAlias = Callable[[Place, Wanted], Table]
