"""`otbench.harness.selection`: what a user types, as data."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otbench.errors import UsageError
from otbench.harness.selection import Selection, as_grid, integers, parse, split_outside

NAMES = st.text("abcdefghijklmnopqrstuvwxyz_0123456789", min_size=1, max_size=8)
VALUES = st.text("abcdefghijklmnopqrstuvwxyz0123456789.-+/ ", min_size=1, max_size=8).map(str.strip).filter(bool)
SELECTIONS = st.builds(
    Selection, NAMES, st.dictionaries(NAMES, st.lists(VALUES, min_size=1, max_size=3).map(tuple), max_size=3)
)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("ncf", [Selection("ncf")]),
        ("ncf,fixedpoint", [Selection("ncf"), Selection("fixedpoint")]),
        (" ncf , fixedpoint ", [Selection("ncf"), Selection("fixedpoint")]),
        ("ncf[lr=1e-4]", [Selection("ncf", {"lr": ("1e-4",)})]),
        ("ncf[ lr = 1e-4 | 1e-3 ]", [Selection("ncf", {"lr": ("1e-4", "1e-3")})]),
        ("ncf[a=1,b=2|3],fixedpoint", [Selection("ncf", {"a": ("1",), "b": ("2", "3")}), Selection("fixedpoint")]),
        ("gaussian[file=/a/b=c.npz]", [Selection("gaussian", {"file": ("/a/b=c.npz",)})]),
        ("ncf[lr=1],ncf[lr=2]", [Selection("ncf", {"lr": ("1",)}), Selection("ncf", {"lr": ("2",)})]),
    ],
)
def test_what_is_typed_is_what_is_meant(text: str, wanted: list[Selection]) -> None:
    assert parse(text, option="--solvers") == wanted


@given(st.lists(SELECTIONS, min_size=1, max_size=3))
def test_every_selection_can_be_typed(selections: list[Selection]) -> None:
    def typed(one: Selection) -> str:
        inside = ",".join(f"{key}={'|'.join(values)}" for key, values in one.grid.items())
        return f"{one.name}[{inside}]" if inside else one.name

    assert parse(",".join(map(typed, selections)), option="--solvers") == selections


@given(st.text("ab=|,[] -1²\n", max_size=12))
def test_whatever_is_typed_is_read_or_refused_with_the_option_named(text: str) -> None:
    for reader in (parse, integers):
        message = None
        try:
            assert reader(text, option="--thing")
        except UsageError as error:
            message = str(error)
        assert message is None or message.startswith("--thing ")


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "nothing is named"),
        (",", "nothing is named"),
        ("ncf,", "a name is missing"),
        (",ncf", "a name is missing"),
        ("ncf,,mm", "a name is missing"),
        ("[lr=1]", "a name is missing"),
        ("ncf[", "brackets do not match"),
        ("ncf]", "brackets do not match"),
        ("ncf[lr=1", "brackets do not match"),
        ("ncf[a=[1]]", "brackets do not match"),
        ("ncf[lr=1]x", "text behind the closing bracket"),
        ("ncf[]", "is not parameter=value"),
        ("ncf[lr]", "'lr' is not parameter=value"),
        ("ncf[=1]", "'=1' is not parameter=value"),
        ("ncf[lr=1,]", "is not parameter=value"),
        ("ncf[lr=]", "parameter 'lr' has an empty value"),
        ("ncf[lr=|]", "parameter 'lr' has an empty value"),
        ("ncf[lr=1||2]", "parameter 'lr' has an empty value"),
        ("ncf[lr=1,lr=2]", "parameter 'lr' is given twice"),
    ],
)
def test_what_cannot_be_meant_is_refused_and_named(text: str, part: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(text, option="--solvers")
    assert part in str(caught.value)
    assert repr(text) in str(caught.value)


def test_a_grid_runs_over_all_combinations() -> None:
    selection = Selection("ncf", {"a": ("1", "2"), "b": ("x",), "c": ("3", "4")})
    assert len(selection.points()) == 4
    assert {"a": "2", "b": "x", "c": "3"} in selection.points()
    assert Selection("ncf").points() == [{}]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [("0", [0]), ("0,1,2", [0, 1, 2]), ("0-2", [0, 1, 2]), ("2,0-2", [2, 0, 1]), (" 1 , 1 ", [1]), ("3-3", [3])],
)
def test_integers(text: str, wanted: list[int]) -> None:
    assert integers(text, option="--seeds") == wanted


@pytest.mark.parametrize(
    "text", ["", ",", "1,", "a", "1.5", "-1", "1-", "2-1", "²", "٣", "9" * 5000, "0-99999999", "0x1"]
)
def test_what_is_no_list_of_whole_numbers_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--seeds"):
        integers(text, option="--seeds")


def test_split_outside_leaves_brackets_alone() -> None:
    assert split_outside("a[b,c],d", ",", option="-") == ["a[b,c]", "d"]


def test_a_preset_becomes_what_one_would_type() -> None:
    grid = as_grid({"dim": [2, 8], "pool": "fresh", "convex": True, "lr": 1e-3, "file": None})
    assert grid == {"dim": ("2", "8"), "pool": ("fresh",), "convex": ("true",), "lr": ("0.001",), "file": ("none",)}
