"""What a task says about its numbers: how each metric is shown, and which published rows stand beside them.

Both go into the record as they are, so that reports need no plugin.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import pydantic

from otbench.config import Value


@dataclass(frozen=True)
class Metric:
    """One number that a task reports.

    Attributes:
        name: key in records ("uvp_fwd").
        label: head of a column ("UVP fwd").
        unit: "%", "data units"; empty for pure numbers.
        higher_is_better: direction of improvement.
        primary: shown in the main table; the others are in the record and in `--format csv`.
        flag_worse: whether a row gets a mark if its value is worse than identity's, or than its own start. Records
            made before it got this name say `marked`.
    """

    name: str
    label: str
    unit: str = ""
    higher_is_better: bool = False
    primary: bool = False
    flag_worse: Annotated[bool, pydantic.Field(validation_alias=pydantic.AliasChoices("flag_worse", "marked"))] = False


@dataclass(frozen=True)
class Published:
    """Which rows of a published table stand beside an instance.

    Attributes:
        table: file name in results/published, without ending.
        where: values of key columns, such as {"dim": 8}.
    """

    table: str
    where: Mapping[str, Value]
