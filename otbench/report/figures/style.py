"""One colour and one marker per solver, the same in every figure.

Solvers that we report have theirs in `styles.csv`; any other name gets its own from a hash of the name, so that a
plugin looks the same in every report without being listed anywhere. The colours are told apart with every common
colour blindness (after Okabe and Ito, and Tol) and are dark enough for white paper; the markers tell the solvers apart
in grey.
"""

from __future__ import annotations

import csv
import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Literal, TypeAlias

COLOURS = (
    "#0072b2",
    "#d55e00",
    "#009e73",
    "#cc79a7",
    "#b8860b",
    "#3ba3d9",
    "#6b4c9a",
    "#7a4a21",
    "#882255",
    "#44aa99",
)
_MARKERS = ("s", "^", "D", "v", "P", "X", "*", "<", ">", "p", "d", "o")
Dashes: TypeAlias = Literal["-", "--", "-.", ":"]
DASHES: tuple[Dashes, ...] = ("-", "--", "-.", ":")
"""Line styles: several settings of one solver are told apart by these."""


@dataclass(frozen=True)
class Style:
    """How a solver looks.

    Attributes:
        colour: #rrggbb.
        marker: of matplotlib; empty for a baseline, which is drawn as a plain line.
    """

    colour: str
    marker: str


@cache
def _listed() -> dict[str, Style]:
    with resources.files("otbench.report").joinpath("styles.csv").open(encoding="utf-8") as file:
        return {row["name"]: Style(row["colour"], row["marker"]) for row in csv.DictReader(file)}


@cache
def style(solver: str) -> Style:
    """Return the style of `solver`, by its registered name."""
    listed = _listed()
    if solver in listed:
        return listed[solver]
    taken = set(listed.values())
    free = [look for marker in _MARKERS for colour in COLOURS if (look := Style(colour, marker)) not in taken]
    digest = hashlib.sha256(solver.encode("utf-8", "replace")).digest()
    return free[int.from_bytes(digest[:8], "big") % len(free)]


def looks(rows: Iterable[tuple[str, str]]) -> list[tuple[Style, Dashes]]:
    """Return style and dashes of each row, given by kind and solver.

    Sanity rows are broken lines, as they have no markers; rows of one solver, or of one colour, differ by their dashes.
    """
    made: list[tuple[Style, Dashes]] = []
    used: Counter[str] = Counter()
    for kind, solver in rows:
        key, choice = ("", DASHES[1:]) if kind == "baseline" else (style(solver).colour, DASHES)
        made.append((style(solver), choice[used[key] % len(choice)]))
        used[key] += 1
    return made
