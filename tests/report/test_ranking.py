"""What tables print in bold, and what they never rank."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from rich.console import Console

from otbench.records.record import Record
from otbench.report.columns import ranked, shown
from otbench.report.files import Slugs
from otbench.report.markdown import markdown
from otbench.report.rows import Number, sections
from otbench.report.tables import Cell, Table, accuracy, families, tables
from otbench.report.terminal import print_sections
from otbench.reporting import Metric
from tests.helpers.report_records import record

NOISE = (1.0, 1.05, 0.97)


def made(values: Mapping[str, Sequence[float]], **changes: object) -> list[Record]:
    """Return records of rows by seed, on a task without a floor unless `task` says another one."""
    records = []
    for solver, by_seed in values.items():
        for seed, value in enumerate(by_seed):
            one = record(solver, 8, seed, value, curve=[], **changes)
            one["published"] = None
            one["spec"] = {**one["spec"], "task": "toy"}  # type: ignore[dict-item]
            records.append(one)
    return [Record.model_validate(one) for one in records]


def whole(records: Sequence[Record]) -> Table:
    (section,) = sections(records)
    return accuracy(section, section.context, Slugs(), everything=True)


def cells(table: Table, label: str) -> dict[str, Cell]:
    """Return the cells of the column `label` by method."""
    (index,) = [k for k, column in enumerate(table.columns) if column.label == label]
    return {line.row.label: line.cells[index] for line in table.lines}


def bold(table: Table, label: str = "UVP fwd") -> set[str]:
    return {name for name, cell in cells(table, label).items() if cell.rank}


def scaled(factor: float, noise: Sequence[float] = NOISE) -> list[float]:
    return [factor * value for value in noise]


def test_all_rows_that_are_not_shown_to_be_worse_are_best() -> None:
    near = [1.04, 1.02, 1.01]
    table = whole(made({"ncf": scaled(1.0), "mm": near, "enot": scaled(2.0, (1.01, 1.04, 0.98))}))
    assert bold(table) == {"ncf", "mm"}
    text = " ".join(table.legend("bold"))
    assert "Bold: all rows that are not shown to be worse than the best one (paired t-tests" in text
    assert "Holm over all pairs of a column, 5 %" in text
    assert "UVP fwd, paired with ncf (95 %, each by itself): mm x1.02 (" in text
    assert "enot x2" in text


def test_of_one_seed_nobody_is_best_and_the_table_says_so() -> None:
    table = whole(made({"ncf": [1.0], "mm": [9.0]}))
    assert not any(cell.rank for line in table.lines for cell in line.cells)
    assert "One seed shows no row to be better than another, so none is bold." in table.legend("bold")


def test_a_row_of_one_seed_is_left_out_and_named() -> None:
    table = whole(made({"ncf": scaled(1.0), "mm": scaled(3.0), "enot": [0.1]}))
    assert bold(table) == {"ncf"}
    assert "Not ranked, with fewer than two seeds in common with others: enot." in table.legend("bold")


def test_equal_print_is_never_split() -> None:
    table = whole(made({"ncf": scaled(1.0), "mm": scaled(1.000001)}))
    found = cells(table, "UVP fwd")
    assert [found[name].text for name in ("ncf", "mm")] == ["1.01 ±0.10"] * 2
    assert bold(table) == {"ncf", "mm"}


def test_what_pairs_tell_apart_gets_the_digits_to_see_it() -> None:
    table = whole(made({"ncf": scaled(1.0), "mm": scaled(1.001)}))
    found = cells(table, "UVP fwd")
    assert [found[name].mean for name in ("ncf", "mm")] == ["1.007", "1.008"]
    assert bold(table) == {"ncf"}


def test_gaussian_rows_are_ranked_by_what_they_add_to_the_pool() -> None:
    pool, extra = (0.001, 0.004, 0.016), {"ncf": (2.0, 2.1, 1.9), "mm": (4.0, 4.2, 4.1)}
    values = {"linear": pool} | {
        name: [a + b / 1e4 for a, b in zip(pool, by, strict=True)] for name, by in extra.items()
    }
    assert bold(whole(made(values))) == {"ncf", "mm"}
    gaussian = [r.model_copy(update={"spec": r.spec.model_copy(update={"task": "gaussian"})}) for r in made(values)]
    assert bold(whole(gaussian)) == {"ncf"}


@pytest.mark.parametrize(
    ("name", "result"),
    [
        ("uvp_fwd", True),
        ("start", False),
        ("p_value", False),
        ("p_value_fwd", False),
        ("accuracy", True),
        ("accuracy_low", False),
        ("accuracy_high", False),
        ("highest", True),
    ],
)
def test_only_results_are_ranked(name: str, result: bool) -> None:
    assert ranked(Metric(name, name)) is result


def test_scores_before_training_and_sizes_of_networks_are_not_ranked() -> None:
    table = whole(made({"ncf": scaled(1.0), "mm": scaled(9.0)}))
    assert not bold(table, "at step 0")
    for label in ("steps", "samples", "dirs", "parameters"):
        assert next(column for column in table.columns if column.label == label).best is None


@pytest.mark.parametrize(
    ("budget", "best"), [({}, {"ncf"}), ({"time_limit": 60.0}, set()), ({"cpu_limit": 9.0}, set())]
)
def test_nobody_is_best_in_the_seconds_that_all_were_given(budget: Mapping[str, object], best: set[str]) -> None:
    records = []
    for one in made({"ncf": scaled(1.0), "mm": scaled(9.0)}):
        spec = one.spec.model_copy(update=budget)
        seconds = {"ncf": 10.0, "mm": 60.0}[one.spec.solver] + one.spec.seed
        times = one.times.model_copy(update={"train_s": seconds})
        records.append(one.model_copy(update={"spec": spec, "times": times}))
    assert bold(whole(records), "train") == best
    assert bold(whole(records)) == {"ncf"}


def test_a_failed_run_takes_no_part() -> None:
    records = made({"ncf": scaled(1.0), "mm": scaled(3.0), "enot": scaled(9.0)})
    records[0] = records[0].model_copy(update={"status": "diverged", "metrics": {}})
    assert bold(whole(records)) == {"mm"}


def test_writers_print_the_best_in_bold() -> None:
    records = made({"ncf": scaled(1.0), "mm": scaled(3.0)})
    found = sections(records)
    slugs = Slugs()
    text = markdown([(family, tables(family, slugs)) for family in families(found, slugs)], "again")
    assert "| ncf | **1.01 ±0.10** |" in text
    assert "| mm | 3.02 ±0.30 |" in text
    out = io.StringIO()
    print_sections(Console(file=out, width=200, force_terminal=True, color_system="standard"), found)
    assert "\x1b[1m1.01 ±0.10\x1b[0m" in out.getvalue()
    assert "Bold: all rows that are not shown" in out.getvalue()
    plain = io.StringIO()
    print_sections(Console(file=plain, width=200), found)
    assert "Bold" not in plain.getvalue()
    assert "UVP fwd, paired with ncf (95 %, each by itself): mm x3 (3 to 3)." in plain.getvalue()


@pytest.mark.parametrize(
    ("mean", "half", "text"),
    [(6.678, 2.34, "6.7"), (123.4, 56.0, "123"), (6.678, 0.0012, "6.68"), (6.678, None, "6.68")],
)
def test_a_mean_without_its_interval_has_no_more_digits_than_the_seeds_support(
    mean: float, half: float | None, text: str
) -> None:
    assert shown(Number(mean, half, 3), interval=False) == (text, "")


def test_no_table_of_noise_calls_a_row_worse_more_often_than_it_says() -> None:
    generator = np.random.default_rng(7)
    split = 0
    for _ in range(40):
        values = {f"s{k}": list(np.exp(0.2 * generator.normal(size=3))) for k in range(5)}
        split += len(bold(whole(made(values)))) < 5
    assert split <= 6  # more come once in two hundred times at 5 %
