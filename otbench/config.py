"""Parameters of solvers and tasks: frozen, typed, bounded, described.

A plugin declares its parameters once, as a subclass of `Config`; command-line overrides, presets, `show` and the
record all read that one declaration.
"""

from __future__ import annotations

import dataclasses
import reprlib
import typing
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias, TypeVar

import pydantic
from pydantic import BaseModel, ConfigDict, ValidationError

from otbench.errors import UsageError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Value: TypeAlias = bool | int | float | str | None
"""What a parameter can hold: everything that a command line and a JSON file can both write down."""

Renamed: TypeAlias = str | Callable[[Any], Mapping[str, Any]]
"""The present name of a parameter, or what gives present names and values for the old value."""

ConfigT = TypeVar("ConfigT", bound="Config")
ValueT = TypeVar("ValueT")
SettingsT = TypeVar("SettingsT", bound="DataclassInstance")


class Config(BaseModel):
    """Base of all parameter sets: immutable, unknown names refused, defaults checked as well."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)
    renamed: ClassVar[Mapping[str, Renamed]] = {}
    """Parameters that once had another name, by that name: command lines and records that have it stay readable."""

    @pydantic.model_validator(mode="before")
    @classmethod
    def _rename(cls, values: dict[str, Value]) -> dict[str, Value]:
        return present_names(cls, values, owner=cls.__name__)


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


def present_names(cls: type[Config], values: Mapping[str, ValueT], *, owner: str) -> dict[str, ValueT]:
    """Return `values` by the present names of parameters that were renamed; `owner` is whose they are.

    Raises:
        UsageError: a parameter is given by its old and its present name.
    """
    found: dict[str, ValueT] = {}
    for name, value in values.items():
        renamed = cls.renamed.get(name, name)
        given = {renamed: value} if isinstance(renamed, str) else renamed(value)
        for present in given:
            if present in found or (present != name and present in values):
                raise UsageError(f"{owner}: '{name}' is the old name of '{present}'; give one of the two")
        found |= given
    return found


_BOUNDS = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}


@dataclasses.dataclass(frozen=True)
class Parameter:
    """One parameter in words and with its default, for whoever wants to set it."""

    name: str
    type: str
    default: Value
    bounds: str
    unit: str
    meaning: str


def parameters_of(cls: type[Config]) -> list[Parameter]:
    """Return all parameters of `cls`, in their order."""
    found = []
    for name, field in cls.model_fields.items():
        extra = field.json_schema_extra
        kind = field.annotation.__name__ if isinstance(field.annotation, type) else str(field.annotation)
        limits = ((sign, getattr(item, word, None)) for item in field.metadata for word, sign in _BOUNDS.items())
        found.append(
            Parameter(
                name=name,
                type=kind.replace("typing.", ""),
                default=field.default,
                bounds=", ".join(f"{sign} {value:g}" for sign, value in limits if value is not None),
                unit=str(extra.get("unit", "")) if isinstance(extra, dict) else "",
                meaning=field.description or "",
            )
        )
    return found


def settle(settings: SettingsT, config: Config) -> SettingsT:
    """Return `settings` with those parameters of `config` that are given, not None, in place of its fields.

    Args:
        settings: a row of values; its fields are parameters of `config`.
        config: what the user gave.
    """
    fields = {field.name: getattr(config, field.name) for field in dataclasses.fields(settings)}
    return dataclasses.replace(settings, **{name: value for name, value in fields.items() if value is not None})


def build_config(cls: type[ConfigT], values: Mapping[str, Value | str], *, owner: str) -> ConfigT:
    """Check `values` against `cls`.

    Args:
        cls: the parameter set.
        values: overrides by name; strings from a command line are converted to the declared type, `none` to None
            where the type admits it.
        owner: whose parameters they are, for the message ("solver ncf").

    Raises:
        UsageError: an unknown name (with the nearest known one), an old name beside its present one, a value of the
            wrong type or out of bounds.
    """
    from otbench.names import did_you_mean

    values = present_names(cls, values, owner=owner)
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
