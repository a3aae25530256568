"""Parameters of solvers and tasks: frozen, typed, bounded, described.

A plugin declares its parameters once, as a subclass of `Config`; command-line overrides, presets, `show` and the
record all read that one declaration.
"""

from __future__ import annotations

import reprlib
import typing
from collections.abc import Mapping
from typing import Any, TypeAlias, TypeVar

import pydantic
from pydantic import BaseModel, ConfigDict, ValidationError

from otbench.errors import UsageError

Value: TypeAlias = bool | int | float | str | None
"""What a parameter can hold: everything that a command line and a JSON file can both write down."""

ConfigT = TypeVar("ConfigT", bound="Config")


class Config(BaseModel):
    """Base of all parameter sets: immutable, unknown names refused, defaults checked as well."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)


def Field(  # noqa: N802  (reads as a declaration: `lr: float = Field(1e-3, "learning rate", gt=0)`)
    default: Value,
    description: str,
    *,
    unit: str = "",
    gt: float | None = None,
    ge: float | None = None,
    lt: float | None = None,
    le: float | None = None,
) -> Any:
    """Declare one parameter; typed as anything, so that the assignment to an annotated name checks.

    Args:
        default: value when nobody sets it.
        description: one line, what it does.
        unit: physical or mathematical unit ("s", "steps", "data units"); empty for pure numbers.
        gt: exclusive lower bound.
        ge: inclusive lower bound.
        lt: exclusive upper bound.
        le: inclusive upper bound.
    """
    return pydantic.Field(
        default, description=description, json_schema_extra={"unit": unit}, gt=gt, ge=ge, lt=lt, le=le
    )


def build_config(cls: type[ConfigT], values: Mapping[str, Value | str], *, owner: str) -> ConfigT:
    """Check `values` against `cls`.

    Args:
        cls: the parameter set.
        values: overrides by name; strings from a command line are converted to the declared type, `none` to None
            where the type admits it.
        owner: whose parameters they are, for the message ("solver ncf").

    Raises:
        UsageError: an unknown name (with the nearest known one), a value of the wrong type or out of bounds.
    """
    from otbench.names import did_you_mean

    for name in values:
        if name not in cls.model_fields:
            known = ", ".join(cls.model_fields) or "none"
            hint = did_you_mean(name, cls.model_fields) or "."
            raise UsageError(f"{owner} has no parameter '{name}'{hint} Its parameters: {known}.")
    try:
        return cls(**{name: _unset(cls, name, value) for name, value in values.items()})
    except ValidationError as error:
        problems = []
        for item in error.errors():
            name = ".".join(str(part) for part in item["loc"])
            where = f"{owner}: {name}={reprlib.repr(item['input'])}" if name else owner
            problems.append(f"{where}: {item['msg'][:1].lower()}{item['msg'][1:]}")
        raise UsageError("; ".join(problems)) from None


def _unset(cls: type[Config], name: str, value: Value) -> Value:
    """Read `none`, typed for a parameter that may be left out, as leaving it out."""
    optional = type(None) in typing.get_args(cls.model_fields[name].annotation)
    return None if optional and isinstance(value, str) and value.lower() == "none" else value
