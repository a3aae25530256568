"""How papers and documents write what the program calls by short names: `names.csv` and `metrics.toml`."""

from __future__ import annotations

import csv
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources

DIRECTIONS = {"_fwd": "T", "_bwd": "S"}
"""What the names of numbers of the two maps end in, and the maps."""


@dataclass(frozen=True)
class Notation:
    """How a number is written.

    Attributes:
        head: of a column, LaTeX.
        formula: what it is, LaTeX of a displayed formula; empty where there is nothing to compute.
        says: what it is, in words.
    """

    head: str
    formula: str
    says: str


@cache
def notations() -> Mapping[str, Notation]:
    """Return how numbers are written, by name; names of both maps stand there without `_fwd` and `_bwd`."""
    with resources.files("otbench.report").joinpath("metrics.toml").open("rb") as file:
        return {name: Notation(**fields) for name, fields in tomllib.load(file).items()}


def entry(number: str) -> str:
    """Return the name under which `notations` has the number; empty where it has none, as for those of plugins."""
    return next(
        (name for name in (number, number[:-4] if number[-4:] in DIRECTIONS else "") if name in notations()), ""
    )


def notation(number: str) -> Notation | None:
    """Return how a number is written, by its name in records; None for one that is not known here."""
    found = notations().get(entry(number))
    if found is None:
        return None
    return Notation(found.head.replace("{map}", DIRECTIONS.get(number[-4:], "T")), found.formula, found.says)


@cache
def _displayed() -> Mapping[str, str]:
    with resources.files("otbench.report").joinpath("names.csv").open(encoding="utf-8") as file:
        return {row["name"]: row["display"] for row in csv.DictReader(file)}


def display(name: str) -> str:
    """Return a solver, baseline or task as papers name it; the name itself where it is not known here."""
    return _displayed().get(name, name)
