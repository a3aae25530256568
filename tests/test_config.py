"""`otbench.config`: parameters are typed, bounded, frozen, and a wrong one is one clear message."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import ClassVar, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from otbench.config import Config, Field, Value, build_config, settle
from otbench.errors import UsageError


class Demo(Config):
    lr: float = Field(0.1, "step size", gt=0, lt=10)
    count: int = Field(3, "how many", unit="points", ge=1, le=100)
    convex: bool = Field(False, "a switch")
    inner: Literal["ours", "paper"] = Field("ours", "a choice")
    word: str = Field("a", "any text")
    patience: int | None = Field(None, "may be left out", ge=1)
    file: str | None = Field(None, "may be left out")


@pytest.mark.parametrize(
    ("name", "typed", "wanted"),
    [
        ("lr", "1e-3", 0.001),
        ("lr", 1, 1.0),
        ("count", "7", 7),
        ("count", "7.0", 7),
        ("convex", "true", True),
        ("convex", "False", False),
        ("convex", "yes", True),
        ("convex", "0", False),
        ("inner", "paper", "paper"),
        ("word", "none", "none"),
        ("word", "7", "7"),
        ("patience", "5", 5),
        ("patience", "none", None),
        ("patience", "None", None),
        ("patience", None, None),
        ("file", "none", None),
        ("file", "a.npz", "a.npz"),
    ],
)
def test_text_becomes_the_declared_type(name: str, typed: Value, wanted: Value) -> None:
    value = getattr(build_config(Demo, {name: typed}, owner="solver demo"), name)
    assert value == wanted
    assert type(value) is type(wanted)


@pytest.mark.parametrize(
    ("name", "typed", "part"),
    [
        ("lr", "0", "greater than 0"),
        ("lr", "-1", "greater than 0"),
        ("lr", "10", "less than 10"),
        ("lr", "nan", "finite number"),
        ("lr", "inf", "finite number"),
        ("lr", "1e400", "finite number"),
        ("lr", "abc", "valid number"),
        ("lr", "none", "valid number"),
        ("lr", None, "valid number"),
        ("count", "0", "greater than or equal to 1"),
        ("count", "101", "less than or equal to 100"),
        ("count", "2.5", "valid integer"),
        ("count", "true", "valid integer"),
        ("count", "9" * 5000, "count="),
        ("convex", "maybe", "valid boolean"),
        ("convex", "2", "valid boolean"),
        ("inner", "papper", "'ours' or 'paper'"),
        ("patience", "0", "greater than or equal to 1"),
        ("patience", "x", "valid integer"),
    ],
)
def test_a_wrong_value_is_refused_with_owner_name_and_value(name: str, typed: Value, part: str) -> None:
    with pytest.raises(UsageError) as caught:
        build_config(Demo, {name: typed}, owner="solver demo")
    message = str(caught.value)
    assert message.startswith(f"solver demo: {name}=")
    assert part in message
    assert len(message) < 300


def test_several_wrong_values_are_named_in_one_message() -> None:
    with pytest.raises(UsageError, match=r"lr='x'.*count='0'"):
        build_config(Demo, {"lr": "x", "count": "0"}, owner="solver demo")


@pytest.mark.parametrize("typed", ["Lr", "patiense", "cuont"])
def test_an_unknown_name_is_refused_with_the_nearest(typed: str) -> None:
    with pytest.raises(
        UsageError, match=f"solver demo has no parameter '{typed}'; did you mean '.*'\\? Its parameters"
    ):
        build_config(Demo, {typed: "1"}, owner="solver demo")


def test_an_unknown_name_unlike_any_other_lists_what_there_is() -> None:
    with pytest.raises(UsageError, match=r"has no parameter 'zzzz'\. Its parameters: lr, count"):
        build_config(Demo, {"zzzz": "1"}, owner="solver demo")


@given(st.floats(min_value=0, max_value=10, exclude_min=True, exclude_max=True))
def test_every_number_within_bounds_survives_being_typed(value: float) -> None:
    assert build_config(Demo, {"lr": str(value)}, owner="solver demo").lr == value


def test_parameters_cannot_be_changed_and_defaults_are_checked() -> None:
    demo = Demo()
    with pytest.raises(ValidationError):
        demo.lr = 1.0

    class Wrong(Config):
        lr: float = Field(-1.0, "step size", gt=0)

    with pytest.raises(UsageError, match="solver wrong: lr"):
        build_config(Wrong, {}, owner="solver wrong")


def test_unit_and_bounds_are_kept_with_the_parameter() -> None:
    field = Demo.model_fields["count"]
    assert field.description == "how many"
    assert field.json_schema_extra == {"unit": "points"}


def slow(on: str | bool) -> Mapping[str, Value]:
    return {"lr": 0.01 if str(on).lower() == "true" else 1.0, "count": 7}


class Renamed(Demo):
    renamed: ClassVar = {"rate": "lr", "slow": slow}


@pytest.mark.parametrize(
    ("old", "lr", "count"),
    [({"rate": "2"}, 2.0, 3), ({"rate": 2.0, "count": 9}, 2.0, 9), ({"slow": "true"}, 0.01, 7), ({}, 0.1, 3)],
)
def test_an_old_name_stays_readable_and_only_present_names_are_kept(
    old: dict[str, Value], lr: float, count: int
) -> None:
    for built in (build_config(Renamed, old, owner="solver demo"), Renamed(**old)):  # typed; read from a record
        assert (built.lr, built.count) == (lr, count)
        assert set(built.model_dump()) == set(Demo.model_fields)


@pytest.mark.parametrize("both", [{"rate": 1, "lr": 1}, {"lr": 1, "rate": 1}, {"slow": True, "count": 1}])
def test_an_old_name_beside_its_present_one_is_refused(both: dict[str, Value]) -> None:
    with pytest.raises(UsageError, match=r"solver demo: '(rate|slow)' is the old name of '(lr|count)'"):
        build_config(Renamed, both, owner="solver demo")
    with pytest.raises(UsageError, match="old name"):
        Renamed(**both)


def test_a_wrong_value_under_an_old_name_is_reported_under_the_present_one() -> None:
    with pytest.raises(UsageError, match="solver demo: lr='0'"):
        build_config(Renamed, {"rate": "0"}, owner="solver demo")


def test_given_parameters_replace_the_values_of_a_row() -> None:
    @dataclasses.dataclass(frozen=True)
    class Row:
        patience: int
        file: str | None

    row = Row(5, "a.npz")
    assert settle(row, Demo()) == row
    assert settle(row, Demo(patience=2)) == Row(2, "a.npz")
