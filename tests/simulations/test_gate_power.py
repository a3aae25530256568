"""The gate of continuous integration sees what the committed table says, and the table is that of this code."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest

from .gate_power import FACTORS, FEWER_STEPS, OTHER, TABLE, Gate, Simulation, baseline, ratios, residuals


@pytest.fixture(scope="module")
def gate() -> Gate:
    return baseline()


def rows() -> dict[str, list[str]]:
    """Return the cells of each solver in the committed table."""
    found = re.findall(r"^\| `([^`]+)` \| (.*) \|$", TABLE.read_text(encoding="utf-8"), re.M)
    return {name: cells.split(" | ") for name, cells in found}


def test_every_solver_of_the_baseline_was_planted_into(gate: Gate) -> None:
    solvers = {series.label for series in gate.base if series.kind == "solver"}
    for name in (*FEWER_STEPS, OTHER):
        assert ratios(name).keys() == solvers
    assert min(len(found) for name in FEWER_STEPS for found in ratios(name).values()) >= 5
    assert min(len(found) for found in ratios(OTHER).values()) >= 3


def test_residuals_have_the_spread_of_what_was_measured() -> None:
    found = [{"a": x, "b": 2 * x} for x in (0.1, 0.3, 0.2, 1.0)]
    made = residuals(found)
    assert sum(logs["a"] for logs in made) == pytest.approx(0)
    assert np.mean([logs["b"] ** 2 for logs in made]) == pytest.approx(np.var([x["b"] for x in found], ddof=1))
    half = residuals(found, 0.2)  # a: 0.4 on average, so half of the scatter; b: 0.8, so a quarter
    assert [x["a"] / y["a"] for x, y in zip(half, made, strict=True)] == pytest.approx([0.5] * 4)
    assert [x["b"] / y["b"] for x, y in zip(half, made, strict=True)] == pytest.approx([0.25] * 4)


def test_the_scatter_is_that_of_the_plant_that_scatters_more(gate: Gate, tmp_path: Path) -> None:
    measured = ((FEWER_STEPS[0], 2.0, 0.5), (FEWER_STEPS[1], 0.4, 0.2))  # mean, and the size of each seed's residual
    lines = [f"{name},a,m,{k},{mean + size * (-1) ** k}" for name, mean, size in measured for k in range(4)]
    (tmp_path / "plants.csv").write_text("\n".join(["plant,method,metric,seed,log_ratio", *lines]))
    made = Simulation(gate, 0, tmp_path / "plants.csv")
    stretch = math.sqrt(4 / 3)
    assert max(logs["m"] for logs in made.scatter("a", 3.0)) == pytest.approx(stretch * 0.5 * math.log(3) / 2)
    assert max(logs["m"] for logs in made.scatter("a", 1.5)) == pytest.approx(stretch * 0.2)


def test_what_is_equal_raises_no_alarm_and_what_is_tenfold_does(gate: Gate) -> None:
    made = Simulation(gate, 1)
    assert not gate.alarm(lambda *_: {}, gate.base)
    for series in gate.base:
        if series.kind == "solver":
            assert gate.alarm(made.regression(series, 10.0), [series]), series.label
            assert not gate.alarm(made.regression(series, 0.1), [series]), series.label


def test_the_committed_table_shows_what_is_claimed(gate: Gate) -> None:
    text = TABLE.read_text(encoding="utf-8")
    unchanged = re.findall(r"^\| (?:on another machine|with other random numbers.*?) \| (\d+) \| (\d+) \|$", text, re.M)
    assert len(unchanged) == 2
    for fails, of in unchanged:
        assert int(fails) <= 0.01 * int(of)
    runs = {series.label: by_seed for series, by_seed in gate.base.items() if series.kind == "solver"}
    assert rows().keys() == runs.keys()
    for name, (seeds, _, _, *powers) in rows().items():
        assert int(seeds) == len(runs[name])
        assert len(powers) == 2 * len(FACTORS)
        for found in (powers[: len(FACTORS)], powers[len(FACTORS) :]):
            by_factor = dict(zip(FACTORS, map(int, found), strict=True))
            assert by_factor[2.0] >= 80, name
            assert by_factor[3.0] >= 95, name


@pytest.mark.parametrize("label", ["mmv1", "not"])
def test_the_table_is_that_of_this_code(gate: Gate, label: str) -> None:
    """Two solvers again, with few draws, within what few draws scatter."""
    made = Simulation(gate, 2)
    (series,) = [series for series in gate.base if series.label == label]
    draws = 60
    found = sum(gate.alarm(made.regression(series, FACTORS[0]), [series]) for _ in range(draws)) / draws
    stated = int(rows()[label][3]) / 100
    assert abs(found - stated) < 4 * math.sqrt(max(stated * (1 - stated), 0.05) / draws)
