"""What a user types, as data: `"ncf[lr=1e-4|1e-3],fixedpoint"` and `"gaussian[dim=2|8]"`.

A selection is a name with parameters; each parameter holds one value or several, separated by `|`. Several parameters
are separated by commas. A grid runs over all combinations.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from otbench.errors import UsageError

DIGITS = 9
"""Most digits of a seed or a dimension: what every random generator and every array can take."""
LONGEST = 10_000
"""Most numbers of a range."""


@dataclass(frozen=True)
class Selection:
    """A name and its grid: values by parameter, as typed."""

    name: str
    grid: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Number of combinations, without making them."""
        return math.prod(len(values) for values in self.grid.values())

    def points(self) -> list[dict[str, str]]:
        """Return every combination of the grid, as one mapping of parameter to value each."""
        return [dict(zip(self.grid, values, strict=True)) for values in itertools.product(*self.grid.values())]


def parse(text: str, *, option: str) -> list[Selection]:
    """Read a list of selections.

    Args:
        text: what was typed.
        option: the option it was typed for, for the message.

    Raises:
        UsageError: an empty name, an unclosed bracket, a parameter without value, an empty grid.
    """
    selections = []
    for part in split_outside(text, ",", option=option):
        name, bracket, rest = part.partition("[")
        name = name.strip()
        if not name:
            raise UsageError(
                f"{option} {text!r}: a name is missing; write NAME or NAME[parameter=value], like 'ncf[lr=1e-3]'"
            )
        grid: dict[str, tuple[str, ...]] = {}
        if bracket:
            if not rest.endswith("]"):
                raise UsageError(f"{option} {text!r}: '{part}' has text behind the closing bracket")
            for item in rest[:-1].split(","):
                key, equals, values = item.partition("=")
                key = key.strip()
                choices = tuple(value.strip() for value in values.split("|"))
                if not key or not equals:
                    raise UsageError(f"{option} {text!r}: '{item}' is not parameter=value")
                if not all(choices):
                    raise UsageError(f"{option} {text!r}: parameter '{key}' has an empty value in its grid '{values}'")
                if key in grid:
                    raise UsageError(f"{option} {text!r}: parameter '{key}' is given twice; write {key}=A|B for a grid")
                grid[key] = choices
        selections.append(Selection(name, grid))
    return selections


def split_outside(text: str, separator: str, *, option: str) -> list[str]:
    """Split at `separator` outside square brackets; empty parts at the ends are dropped.

    Raises:
        UsageError: brackets do not match, or nothing is left.
    """
    if not re.fullmatch(r"[^][]*(\[[^][]*\][^][]*)*", text):
        raise UsageError(f"{option} {text!r}: brackets do not match; write NAME[parameter=value,other=1|2]")
    parts = [part.strip() for part in re.split(rf"{separator}(?![^[]*\])", text)]
    if not any(parts):
        raise UsageError(f"{option} {text!r}: nothing is named")
    return parts


def integers(text: str, *, option: str) -> list[int]:
    """Read a comma-separated list of whole numbers, or ranges such as `0-4`.

    Raises:
        UsageError: something is not a whole number >= 0 of at most `DIGITS` digits, or the list is empty.
    """
    values: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not _is_whole(first) or (dash and not _is_whole(last)):
            raise UsageError(
                f"{option} {text!r}: '{part.strip()}' is not a whole number from 0 to 10^{DIGITS} (write 0,1,2 or 0-2)"
            )
        stop = int(last) if dash else int(first)
        if stop - int(first) >= LONGEST:
            raise UsageError(
                f"{option} {text!r}: '{part.strip()}' is a range of more than {LONGEST} numbers; shorten it"
            )
        if stop < int(first):
            raise UsageError(f"{option} {text!r}: '{part.strip()}' is not a range that goes up")
        values += range(int(first), stop + 1)
    return list(dict.fromkeys(values))


def check_number(option: str, value: float | None, least: float, most: float) -> None:
    """Refuse a number, if one was typed, that is not from `least` to `most`.

    Raises:
        UsageError: it is not.
    """
    if value is not None and not least <= value <= most:
        kind = "a whole number" if isinstance(value, int) else "a number"
        raise UsageError(f"{option} {value}: must be {kind} from {least:g} to {most:g}")


def _is_whole(text: str) -> bool:
    # isdigit alone would let through what int() refuses (a superscript), or reads but nobody means
    return text.isascii() and text.isdigit() and len(text) <= DIGITS


def as_grid(values: Mapping[str, object]) -> dict[str, tuple[str, ...]]:
    """Return a preset's values as a grid of typed text: lists as several choices, None as `none`."""
    return {
        key: tuple(_text(v) for v in value)
        if isinstance(value, Sequence) and not isinstance(value, str)
        else (_text(value),)
        for key, value in values.items()
    }


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) or value is None else str(value)
