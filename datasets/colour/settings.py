"""Parameters of the task of colour transfer."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator
from pydantic_core import PydanticCustomError

from otbench.config import Config, Field, Value
from otbench.datasets.colour.sets import BUNDLED, PAIRS, REPORTED

LEAST_PIXELS = 100
"""Pixels that a picture needs: there must be some to train on and some to test on."""


class ColourConfig(Config):
    """Parameters of colour transfer."""

    set: Literal["scikit-learn", "summer2winter", "monet2photo", "vangogh2photo", "own"] = Field(
        BUNDLED, "where the pictures are from; own: those named by source and target"
    )
    pair: int = Field(
        1, f"pair of the set: 1 to {REPORTED} are those of tables, the others for trying things out", ge=1, le=PAIRS
    )
    source: str | None = Field(None, "your own picture whose colours are changed: a file")
    target: str | None = Field(None, "your own picture whose colours it is to get: a file")
    space: Literal["rgb", "lab"] = Field("rgb", "where colours are points: sRGB in [0, 1], or CIELAB over 100")
    pool: int = Field(100_000, "training pixels of a picture at most", unit="pixels", ge=8, le=10**7)
    pixels: int = Field(
        2**20, "pixels of a picture at most; a larger one is made smaller", unit="pixels", ge=LEAST_PIXELS, le=2**26
    )
    pool_seed: int | None = Field(None, "seed that chooses training pixels; left out: the run's seed", ge=0, lt=10**9)

    @model_validator(mode="before")
    @classmethod
    def _one_pair(cls, values: dict[str, Value]) -> dict[str, Value]:
        """Make one of what is the same: where there is one pair, it has the number 1."""
        own = values.get("source") is not None or values.get("target") is not None
        if own and values.get("set", "own") != "own":
            raise PydanticCustomError("set", "give a set, or source and target, not both")
        name = "own" if own else values.get("set", BUNDLED)
        return {**values, "set": name, "pair": 1} if name in ("own", BUNDLED) else values
