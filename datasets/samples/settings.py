"""Parameters of the user's own samples."""

from __future__ import annotations

import re

from pydantic import field_validator
from pydantic_core import PydanticCustomError

from otbench.config import Config, Field
from otbench.datasets._cost import CostName


class SamplesConfig(Config):
    """Parameters of the user's samples."""

    source: str | None = Field(
        None, "file of the source's rows: .npy, .npz (X.npz:key), .csv, .parquet, .pt, .h5ad (cells.h5ad:X_pca)"
    )
    target: str | None = Field(None, "file of the target's rows")
    columns: str | None = Field(None, "columns that are coordinates, a|b|c (positions from 0 where they have no names)")
    source_label: str | None = Field(None, "classes of the source's rows: a column of its file, or a file")
    target_label: str | None = Field(None, "classes of the target's rows; class goes to the same class")
    source_where: str | None = Field(None, "take only the rows with this value in a column of the file: COLUMN:VALUE")
    target_where: str | None = Field(None, "the same for the target's rows")
    truth: str | None = Field(None, "file of the exact images of the source's rows, in their order: gives UVP")
    cost: CostName = Field("quadratic", "the cost that the map is to minimise")
    p: float | None = Field(None, "exponent of cost=power; left out: 3", gt=1, le=10)
    test: float = Field(0.2, "share of the rows of each side for testing", gt=0, lt=1)
    validation: float = Field(0.1, "share of the other rows for early stopping", ge=0, lt=1)
    shape: str | None = Field(None, "shape of a point, for images: 1x28x28")
    pool_seed: int | None = Field(None, "seed of the training rows; left out: the run's seed", ge=0, lt=10**9)

    @field_validator("shape")
    @classmethod
    def _shape(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch("[1-9][0-9]{0,4}(x[1-9][0-9]{0,4}){0,3}", value):
            raise PydanticCustomError("shape", "write the shape of a point as 1x28x28")
        return value

    @field_validator("source_where", "target_where")
    @classmethod
    def _where(cls, value: str | None) -> str | None:
        if value is not None and not all(value.partition(":")):
            raise PydanticCustomError("where", "write COLUMN:VALUE, as in condition:control")
        return value
