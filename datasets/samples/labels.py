"""Classes of the user's rows as whole numbers from 0, the same on both sides."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from otbench.datasets.samples.places import SHOWN, Array
from otbench.errors import DataError
from otbench.names import few, plain

MAX_CLASSES = 1000
UNLABELLED = -1


def encoded(sides: Sequence[Array], said: Sequence[str]) -> tuple[list[NDArray[np.int64]], tuple[str, ...]]:
    """Return the classes of both sides as 0, ..., K - 1, shape (n,) and (m,), and their names in that order.

    Whole numbers and text are taken; -1, NaN and None are unlabelled, -1 in the result as well.

    Args:
        sides: classes of the source and of the target.
        said: where they were named, for messages.

    Raises:
        DataError: they are not whole numbers or text, there are too many, or both sides do not have the same.
    """
    found = [_values(side, name) for side, name in zip(sides, said, strict=True)]
    kinds = [{type(value) for value in side if value is not None} for side in found]
    if len(kinds[0] | kinds[1]) > 1:
        raise DataError(f"{said[0]} holds {_kind(kinds[0])}, {said[1]} {_kind(kinds[1])}: give both in the same form")
    present = [set(side) - {None} for side in found]
    for here, there, name in ((0, 1, "source"), (1, 0, "target")):
        alone = sorted(present[here] - present[there])  # type: ignore[type-var]
        if alone:
            words = few([f"'{plain(str(value), 40)}'" for value in alone], SHOWN)
            raise DataError(f"{said[here]}: class {words} is in the {name} alone; class goes to the same class")
    classes = sorted(present[0])  # type: ignore[type-var]
    if not classes:
        raise DataError(f"{said[0]} labels no row")
    if len(classes) > MAX_CLASSES:
        raise DataError(f"{said[0]} holds {len(classes):,} different values; at most {MAX_CLASSES:,} classes are taken")
    code = {value: k for k, value in enumerate(classes)} | {None: UNLABELLED}
    return [np.array([code[value] for value in side], dtype=np.int64) for side in found], tuple(map(str, classes))


def same_as(column: Array, value: str) -> NDArray[np.bool_]:
    """Return which entries of a column are `value`, as text or as a number, shape (n,)."""
    return np.array([_text(entry) == value for entry in column.tolist()], dtype=bool)


def _values(column: Array, said: str) -> list[int | str | None]:
    return [_value(entry, said) for entry in column.tolist()]


def _value(entry: object, said: str) -> int | str | None:
    """Return one class: a whole number or text; None for a row without one."""
    if isinstance(entry, str):
        text = entry.strip()
        if not re.fullmatch("-?[0-9]{1,18}", text):
            return text or None
        entry = int(text)
    if entry is None or (isinstance(entry, float) and math.isnan(entry)) or entry == UNLABELLED:
        return None
    if isinstance(entry, int) or (isinstance(entry, float) and entry.is_integer()):
        return int(entry)
    raise DataError(f"{said}: classes must be whole numbers or text, and one is {plain(str(entry), 40)}")


def _text(entry: object) -> str:
    return str(int(entry)) if isinstance(entry, float) and entry.is_integer() else str(entry)


def _kind(kinds: set[type]) -> str:
    return " and ".join(sorted("whole numbers" if kind is int else "text" for kind in kinds)) or "nothing"
