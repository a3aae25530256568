"""Rows and tables: means and intervals over seeds, marks, published numbers only where they may stand."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from otbench.records.record import Counts, Memory, Record, RunSpec, Status, Times
from otbench.report.columns import quantity
from otbench.report.rows import Number, number, published_table, sections
from otbench.report.terminal import print_sections
from otbench.reporting import Metric, Published

METRICS = [
    Metric(name="uvp_fwd", label="UVP fwd", unit="%", primary=True, flag_worse=True),
    Metric(name="cosine_fwd", label="cosine", higher_is_better=True),
]


def record(solver: str, value: float | None, *, seed: int = 0, preset: str = "full", **changes: object) -> Record:
    baseline = solver in ("identity", "linear")
    spec = RunSpec(
        kind="baseline" if baseline else "solver",
        solver=solver,
        solver_config={},
        task="gaussian",
        task_config={"dim": 8, "pair": "released"},
        preset=preset,
        seed=seed,
        steps=None if baseline else 100,
        time_limit=None,
        device="cpu",
        threads=1,
        hard_limit=60.0,
    )
    values: dict[str, object] = {
        "id": f"{solver}-{seed}",
        "spec": spec,
        "status": Status.OK,
        "label": solver,
        "instance": "d = 8, released pair",
        "metrics": {} if value is None else {"uvp_fwd": value},
        "start": {"uvp_fwd": 5.0},
        "metric_info": METRICS,
        "published": Published(table="gaussian", where={"dim": 8}),
        "times": Times(warmup_s=1.0, train_s=9.0, step_ms=12.0, infer_fwd_s=0.5),
        "memory": Memory(rss_above_imports=123_000_000),
        "counts": Counts(steps=100, stored_bytes=35_584, networks_moved={"potential": True}),
    }
    return Record(**(values | changes))


def printed(records: list[Record], width: int = 160, **options: str) -> str:
    out = io.StringIO()
    print_sections(Console(file=out, width=width), sections(records), **options)
    return out.getvalue()


def test_the_interval_is_students() -> None:
    # scipy-free check: for n = 3 the 0.975 quantile of t with 2 degrees of freedom is 4.302653
    result = number([1.0, 2.0, 3.0])
    assert result.mean == 2.0
    assert result.half == pytest.approx(4.302653 * 1.0 / 3**0.5, rel=1e-6)
    assert result.n == 3
    assert number([7.0]) == Number(7.0, None, 1)


def test_seeds_become_one_row_with_mean_interval_and_n() -> None:
    text = printed([record("fixedpoint", v, seed=s) for s, v in enumerate([0.010, 0.012, 0.014])])
    assert "0.0120 ±0.0050" in text
    assert "n = 3 seeds" in text


def test_published_numbers_stand_only_beside_comparable_presets() -> None:
    full = printed([record("fixedpoint", 0.01)])
    assert "ImplicitOT [" in full
    assert "] published: Park" in full
    assert "0.046" in full  # the paper's value at d = 8
    quick = printed([record("fixedpoint", 0.01, preset="quick")], full_command="python bench.py --preset full")
    assert "ImplicitOT" not in quick
    assert "not comparable with published numbers" in quick
    assert "python bench.py --preset full" in quick


@pytest.mark.parametrize("facts", [{"partial": "partial: 5 of 9 rows"}, {"demo": True}])
def test_a_part_or_a_demo_is_comparable_in_no_preset(facts: dict[str, str | bool]) -> None:
    text = printed([record("fixedpoint", 0.01, facts=facts)], full_command="python bench.py --preset full")
    assert "not comparable with published numbers" in text
    assert "ImplicitOT" not in text
    assert "python bench.py --preset full" not in text
    whole = [record("fixedpoint", 0.01, facts=dict.fromkeys(facts, ""))]
    assert "ImplicitOT" in printed(whole)


def test_marks_above_identity_worse_than_start_never_moved() -> None:
    rows = {
        row.label: row
        for row in sections(
            [
                record("identity", 5.0),
                record("good", 0.1),
                record("above", 7.0, start={"uvp_fwd": 9.0}),
                record("worse", 4.0, start={"uvp_fwd": 1.0}),
                record("frozen", 0.1, counts=Counts(networks_moved={"a": True, "critic": False})),
            ]
        )[0].rows
        if row.kind != "published"
    }
    assert {name: row.marks for name, row in rows.items()} == {
        "identity": "",
        "good": "",
        "above": "!",
        "worse": "v",
        "frozen": "~",
    }


def test_a_failed_seed_is_spelled_out_beside_the_others() -> None:
    text = printed(
        [record("fixedpoint", 0.01), record("fixedpoint", None, seed=1, status=Status.DIVERGED, reason="loss is nan")]
    )
    assert "0.0100" in text
    assert "fixedpoint: seed 1: diverged: loss is nan" in text


def test_markup_in_names_is_text() -> None:
    text = printed([record("fixedpoint", 0.01, label="[bold red]x[/bold red]", instance="[link=x]d[/link]")])
    assert "[bold red]x[/bold red]" in text
    assert "[link=x]d[/link]" in text


def test_on_80_columns_a_table_is_set_in_two_and_nothing_is_cut() -> None:
    records = [record("fixedpoint", 0.0123), record("identity", 5.15)]
    narrow, wide = printed(records, width=80), printed(records, width=160)
    rows = [line for line in narrow.splitlines() if line.startswith((" fixedpoint", " identity"))]
    assert len(rows) == 4
    assert all("…" not in line and len(line) <= 80 for line in rows)
    single = [line for line in wide.splitlines() if line.startswith((" fixedpoint", " identity"))]
    assert len(single) == 2
    assert [" ".join(a.split() + b.split()[1:]) for a, b in zip(rows[:2], rows[2:], strict=True)] == [
        " ".join(line.split()) for line in single
    ]


def test_a_row_says_what_it_used_and_where_it_began() -> None:
    counts = Counts(steps=100, samples=204_800, directions=2)
    text = printed([record("mmv1", 0.05, start={"uvp_fwd": 5.43}, counts=counts), record("identity", 5.15)])
    head = next(line for line in text.splitlines() if "at step 0" in line)
    row = next(line for line in text.splitlines() if line.startswith(" mmv1"))
    assert "samples" in head
    assert "dirs" in text
    assert row.split()[1:6] == ["0.0500", "5.43", "100", "205", "2"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Number(0.012345, None, 1), "0.0123"),
        (Number(5.0, None, 1), "5"),
        (Number(123.456, None, 1), "123"),
        (Number(1.5, 0.25, 3), "1.50 ±0.25"),
        (Number(0.00701, 0.01744, 3), "0.007 ±0.017"),
        (Number(5.2064, 0.0031, 3), "5.2064 ±0.0031"),
        (Number(101.3, 1e-9, 3), "101 ±0"),
        (Number(2e-9, None, 1), "2.00e-09"),
        (Number(1e300, None, 1), "1.00e+300"),
        (Number(float("inf"), None, 1), "inf"),
        (None, "-"),
    ],
)
def test_numbers_have_three_digits_and_intervals_end_at_the_same_place(value: Number | None, text: str) -> None:
    assert quantity(value) == text


def test_every_published_number_has_a_source() -> None:
    table = published_table("gaussian")
    assert (table["source"].str.len() > 10).all()


def test_many_metrics_stand_below_each_other_on_a_narrow_screen() -> None:
    names = [f"metric_{k}" for k in range(9)]
    metrics = [Metric(name=name, label=f"a rather long {name}", primary=True) for name in names]
    values = {name: 1234.5 + k for k, name in enumerate(names)}
    text = printed([record("ncf", None, metrics=values, metric_info=metrics)], width=80)
    assert "…" not in text
    assert all(f"long {name}" in text for name in names)
    assert all(str(round(value)) in text for value in values.values())
    assert max(map(len, text.splitlines()[:40])) <= 80
