"""What tasks share that draw their points: the sizes of pools, as typed and in words, and the seeds of streams."""

from __future__ import annotations

from typing import Annotated, TypeAlias

import numpy as np
from pydantic import AfterValidator, BeforeValidator
from pydantic_core import PydanticCustomError

FRESH = "fresh"
LARGEST_POOL = 10**8


def stream_seed(role: int, side: int, number: int) -> int:
    """Return the seed of one stream of points.

    Args:
        role: what the points are for (pools, test data).
        side: 0 = source, 1 = target.
        number: which of the streams with this role.
    """
    return int(np.random.SeedSequence([role, side, number]).generate_state(1)[0])


def as_text(value: object) -> object:
    """Return a number as it would be typed, for parameters that take a word or a number; else `value`."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def word_or_number(value: str, word: str, low: int, high: int) -> str:
    """Return `word`, or a whole number from `low` to `high` without leading zeros.

    Raises:
        PydanticCustomError: `value` is neither; a plain ValueError would reach the user as "value error, use ...".
    """
    if value == word:
        return value
    if not (value.isascii() and value.isdigit() and low <= int(value) <= high):
        raise PydanticCustomError("number", f"use '{word}' or a whole number from {low} to {high}")
    return str(int(value))


def pool_size(value: str) -> str:
    """Return the points of a training pool, or `FRESH`, as typed.

    Raises:
        PydanticCustomError: fewer than two, of which no variance can be taken, or no such number.
    """
    return word_or_number(value, FRESH, 2, LARGEST_POOL)


PoolSize: TypeAlias = Annotated[str, BeforeValidator(as_text), AfterValidator(pool_size)]
"""Type of the parameter `pool`: a number as text, or `FRESH`."""


def pool_in_words(pool: str) -> str:
    """Return what the head of a table says of `pool`."""
    return "fresh samples" if pool == FRESH else f"pool {int(pool):,}".replace(",", " ")
