"""What training took to bring an error to a level: closed forms, all clocks, words where there is no number."""

from __future__ import annotations

import csv
import io
import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from otbench.records.record import Record
from otbench.report.files import Slugs
from otbench.report.markdown import numbers_csv
from otbench.report.reach import CLOCKS, LEVELS, crossing, goals, reach
from otbench.report.rows import Section, sections
from otbench.report.tables import Table, reaches
from otbench.report.terminal import print_sections

from ..helpers.report_records import record

times = st.lists(st.floats(1e-3, 1e3), min_size=2, max_size=12, unique=True).map(sorted)
errors = st.floats(1e-3, 1e3)
curves = times.flatmap(
    lambda at: st.lists(errors, min_size=len(at), max_size=len(at)).map(lambda values: [*zip(at, values, strict=True)])
)


def power(time: float) -> float:
    return 40 * time**-1.5


def test_a_power_law_is_crossed_where_it_is_however_coarse_the_curve() -> None:
    for step in (2, 10, 1000):
        points = [(0.01 * step**k, power(0.01 * step**k)) for k in range(40) if step**k < 1e7]
        for level in LEVELS:
            assert crossing(points, level) == pytest.approx((40 / level) ** (1 / 1.5), rel=1e-9)


def test_only_the_last_descent_counts() -> None:
    points = [(1.0, 20.0), (2.0, 2.0), (4.0, 20.0), (8.0, 5.0)]
    assert crossing(points, 10) == pytest.approx(math.sqrt(4 * 8))
    assert crossing(points, 3) is None
    assert crossing([*points, (16.0, 2.0)], 3) is not None


def test_a_point_without_a_logarithm_before_it_makes_it_an_upper_bound() -> None:
    assert crossing([(0.0, 40.0), (3.0, 2.0)], 10) == 3
    assert crossing([(1.0, math.nan), (3.0, 2.0)], 10) == 3
    assert crossing([(1.0, math.inf), (3.0, 2.0)], 10) == 3
    assert crossing([(1.0, 40.0), (3.0, -0.1)], 10) == 3
    assert crossing([(0.0, 5.0), (3.0, 2.0)], 10) == 0  # it began there


@pytest.mark.parametrize("points", [[], [(1.0, 20.0)], [(1.0, 5.0), (2.0, math.nan)]])
def test_what_is_not_below_at_the_end_has_not_arrived(points: list[tuple[float, float]]) -> None:
    assert crossing(points, 10) is None


@given(curves, errors, st.floats(0.1, 10), st.floats(1e-3, 1e3))
def test_time_on_another_clock_is_the_same_time_on_it(
    points: list[tuple[float, float]], level: float, exponent: float, factor: float
) -> None:
    """A power of the time is a clock under which straight lines stay straight."""
    moved = [(factor * time**exponent, error) for time, error in points]
    here, there = crossing(points, level), crossing(moved, level)
    assert (here is None) == (there is None)
    if here is not None and there is not None:
        assert there == pytest.approx(factor * here**exponent, rel=1e-6)


@given(curves, errors, errors)
def test_a_lower_level_takes_no_less_time(points: list[tuple[float, float]], one: float, other: float) -> None:
    high, low = crossing(points, max(one, other)), crossing(points, min(one, other))
    if low is not None:
        assert high is not None
        assert high <= low * (1 + 1e-9)


@given(curves, errors)
def test_it_lies_between_the_points_around_it(points: list[tuple[float, float]], level: float) -> None:
    found = crossing(points, level)
    if found is not None:
        assert points[0][0] <= found <= points[-1][0] * (1 + 1e-9)
        assert all(error <= level for time, error in points if time > found * (1 + 1e-9))
        before = [(a, b) for a, b in pairwise(points) if a[0] * (1 + 1e-9) < found < b[0] * (1 - 1e-9)]
        assert all(a[1] > level >= b[1] for a, b in before)


# -------------------------------------------------------------------------------------------------------------- tables


def run(solver: str, end: float, *, seed: int = 0, clocks: bool = True, **changes: object) -> dict[str, object]:
    """Return a run whose UVP falls from 80 % to `end`, a factor of ten in time for each factor of ten."""
    curve: list[dict[str, object]] = [{"step": 0, "train_s": 0.0, "metrics": {"uvp_fwd": 80.0}}]
    while (value := 100 / 2 ** len(curve)) > end:
        time = 1.0 * 2 ** len(curve)
        curve.append({"step": len(curve), "train_s": time, "metrics": {"uvp_fwd": value}})
    curve.append({"step": len(curve), "train_s": 100 / end, "metrics": {"uvp_fwd": end}})
    if clocks:
        for point in curve:
            seconds = float(str(point["train_s"]))
            point |= {"train_cpu_s": 2 * seconds, "samples": round(1000 * seconds)}
    return record(solver, 8, seed, end, curve=curve, **changes)


def made(records: list[dict[str, object]]) -> Section:
    (section,) = sections([Record.model_validate(one) for one in records])
    return section


def cells(table: Table) -> dict[str, list[object]]:
    """Return numbers, and words where there are none."""
    return {
        line.row.label: [cell.text if cell.value is None else pytest.approx(cell.value) for cell in line.cells]
        for line in table.lines
    }


def test_the_table_has_all_clocks_bounds_words_and_baselines() -> None:
    closed = [
        {"step": 0, "train_s": 0.0, "metrics": {"uvp_fwd": 50.0}},
        {"step": 1, "train_s": 0.25, "metrics": {"uvp_fwd": 5.0}},
    ]
    section = made(
        [
            record("identity", 8, 0, 50.0, curve=[]),
            record("linear", 8, 0, 5.0, curve=closed),
            run("fast", 0.5),
            run("slow", 4.0),
            *(run("split", end, seed=seed) for seed, end in enumerate((0.5, 4.0))),
            run("lost", 0.5, status="diverged", reason="the loss is nan", metrics={}),
        ]
    )
    (table,) = reaches(section, "", Slugs())
    assert [column.head for column in table.columns] == [
        f"to {level} % ({unit})" for unit in ("s", "CPU s", "k samples") for level in (10, 3, 1)
    ]
    fast, some = [10, 100 / 3, 100], "1 of 2 seeds"
    assert cells(table) == {
        "linear": [0.25, *["-"] * 8],
        "fast": [*fast, *(2 * time for time in fast), *fast],
        "lost": ["diverged", *["-"] * 8],
        "slow": [10, "> 25", "> 25", 20, "> 50", "> 50", 10, "> 25", "> 25"],
        "split": [10, some, some, 20, some, some, 10, some, some],
    }


def test_levels_that_doing_nothing_keeps_and_clocks_that_nobody_has_are_left_out() -> None:
    section = made([record("identity", 8, 0, 5.0, curve=[]), run("old", 0.5, clocks=False)])
    (table,) = reaches(section, "", Slugs())
    assert [column.head for column in table.columns] == ["to 3 % (s)", "to 1 % (s)"]
    assert not [*reaches(made([record("identity", 8, 0, 0.5, curve=[]), run("old", 0.1)]), "", Slugs())]
    assert not [*reaches(made([record("identity", 8, 0, 50.0), record("ncf", 8, 0, 0.1, curve=[])]), "", Slugs())]


def test_numbers_are_in_the_csv_and_the_first_table_on_the_screen() -> None:
    section = made([record("identity", 8, 0, 50.0, curve=[]), run("fast", 0.5), run("slow", 4.0)])
    lines = list(csv.DictReader(io.StringIO(numbers_csv([section]))))
    found = {(line["method"], line["quantity"]): (float(line["mean"]), line["unit"]) for line in lines if line["mean"]}
    assert found["fast", "uvp_fwd_to_10_train_s"] == (pytest.approx(10), "s")
    assert found["fast", "uvp_fwd_to_10_samples"] == (pytest.approx(10), "k samples")
    assert ("slow", "uvp_fwd_to_3_train_cpu_s") not in found
    out = io.StringIO()
    print_sections(Console(file=out, width=80), [section])
    assert "Training to bring UVP fwd to 10, 3, 1 %" in out.getvalue()
    assert "> 25" in out.getvalue()


def test_a_goal_is_named_by_its_metric_level_and_clock() -> None:
    section = made([run("fast", 0.5)])
    assert len({goal.key for goal in goals(section)}) == len(LEVELS) * len(CLOCKS)
    row = section.rows[0]
    assert reach(row, goals(section)[0]).values == [pytest.approx(10)]
