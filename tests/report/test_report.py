"""Rows and tables: means and intervals over seeds, marks, published numbers only where they may stand."""

from __future__ import annotations

import csv
import html
import io
from collections.abc import Mapping
from pathlib import Path

import pytest
from rich.console import Console

from otbench.records.record import Counts, Memory, Record, RunSpec, Status, Times
from otbench.report.build import build
from otbench.report.columns import shown
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
    ],
)
def test_numbers_have_three_digits_and_intervals_end_at_the_same_place(value: Number, text: str) -> None:
    assert " ±".join(filter(None, shown(value))) == text


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


# ------------------------------------------------------------------------------------------- other code, loaded machine

BUSY = Times(train_s=9.0, warmup_s=1.0, train_cpu_s=8.9, step_ms=12.0)
OTHER = "made by other code than this checkout's: commit 0eebcbe"


def written(records: list[Record], folder: Path, **said: Mapping[str, str]) -> dict[str, str]:
    """Return what each writer makes of `records`, by format."""
    build(records, folder, ["latex", "markdown", "html", "csv"], command="otbench report", **said)
    out = io.StringIO()
    print_sections(Console(file=out, width=160), sections(records, **said))
    latex = "".join(path.read_text() for path in sorted((folder / "latex").iterdir()))
    files = {"markdown": "tables.md", "html": "index.html", "csv": "numbers.csv"}
    made = {name: html.unescape((folder / file).read_text()) for name, file in files.items()}
    return made | {"latex": latex.replace(r"\textquotesingle{}", "'"), "terminal": out.getvalue()}


def test_a_row_made_by_other_code_has_a_mark_and_the_commit_is_named(tmp_path: Path) -> None:
    records = [record("identity", 5.0), record("ncf", 0.1), record("fixedpoint", 0.2)]
    made = written(records, tmp_path, stale={"ncf-0": "commit 0eebcbe"})
    assert " ncf * " in made["terminal"]
    assert f"*  {OTHER}" in made["terminal"]
    assert r"| ncf<sup>\*</sup> |" in made["markdown"]
    assert rf"\* {OTHER}." in made["markdown"]
    assert r"NCF\textsuperscript{{*}} &" in made["latex"]
    assert f"{{*}} {OTHER}." in made["latex"]
    assert f'ncf</a><sup><span title="{OTHER}">*</span></sup>' in made["html"]
    assert f"* {OTHER}." in made["html"]
    assert {row["method"] for row in csv.DictReader(io.StringIO(made["csv"])) if row["marks"] == "*"} == {"ncf"}
    assert "fixedpoint *" not in made["terminal"]


def test_where_all_rows_are_made_by_other_code_one_remark_says_so(tmp_path: Path) -> None:
    records = [record("identity", 5.0), *(record("ncf", 0.1, seed=seed) for seed in range(3))]
    commits = {one.id: f"commit {k // 2}" for k, one in enumerate(records)}
    made = written(records, tmp_path, stale=commits)
    for name in ("terminal", "markdown", "html"):
        assert "All rows are made by other code than this checkout's: commit 0, commit 1." in made[name]
    assert "Code: otbench, commit 0, 1." in made["latex"]  # a paper has no checkout
    assert " ncf * " not in made["terminal"]
    assert r"\*" not in made["markdown"]
    assert "{{*}}" not in made["latex"]
    assert ">*<" not in made["html"]


def test_many_commits_are_counted() -> None:
    records = [record("ncf", 0.1, seed=seed) for seed in range(9)]
    commits = {one.id: f"commit {k}" for k, one in enumerate(records)}
    out = io.StringIO()
    print_sections(Console(file=out, width=160), sections(records, stale=commits))
    assert "commit 3, commit 4 and 4 more." in out.getvalue()


def test_tables_say_which_optimiser_trained_each_row() -> None:
    def by(solver: str, name: str | None, **changes: object) -> Record:
        made = record(solver, 0.1, **changes)
        return made.model_copy(update={"spec": made.spec.model_copy(update={"solver_config": {"optimiser": name}})})

    text = printed([by("ncf", "soap"), by("mm", "adam"), by("ls", "adam"), record("fixedpoint", 0.2)])
    assert "Optimisers: adam (ls, mm), soap (ncf)." in text
    assert "soap (not)" in printed([by("not", None, settings={"optimiser": "soap"})])  # the solver chose it
    assert "Optimisers" not in printed([record("fixedpoint", 0.2)])


def test_tables_say_which_rows_were_trained_on_which_processor_where_there_are_several() -> None:
    def on(solver: str, cpu: str, **changes: object) -> Record:
        made = record(solver, 0.1, **changes)
        return made.model_copy(update={"environment": made.environment | {"cpu": cpu}})

    rows = [on("ncf", "slow", seed=0), on("ncf", "fast", seed=1), on("mm", "fast")]
    text = " ".join(printed(rows).split())
    assert "Several processors, on which an equal time is not equal work: fast: mm, ncf; slow: ncf." in text
    for one in ([on("ncf", "slow"), on("mm", "slow")], [on("ncf", "slow"), on("linear", "fast")]):
        assert "Several processors" not in printed(one)


def test_what_was_verified_is_a_remark(tmp_path: Path) -> None:
    made = written([record("identity", 5.0), record("ncf", 0.1)], tmp_path, verified={"ncf-0": "3 of 9 verified"})
    for name, method in (("terminal", "ncf"), ("markdown", "ncf"), ("latex", "NCF"), ("html", "ncf")):
        assert f"repeated by this checkout's bit-equal or within the spread: {method} (3 of 9 verified)." in made[name]


def test_words_about_code_are_text_in_every_format(tmp_path: Path) -> None:
    bad = "<script>x</script> \\input{x} [a](b)\n\x1b[31m"
    records = [record("identity", 5.0), record("ncf", 0.1)]
    made = written(records, tmp_path, stale={"ncf-0": bad}, verified={"identity-0": bad})
    page, markdown = (tmp_path / "index.html").read_text(), (tmp_path / "tables.md").read_text()
    assert page.count("&lt;script&gt;x") >= 2
    assert "<script>x" not in page + markdown
    assert markdown.count("(b)") == markdown.count(r"\](b)") > 0
    assert r"\input{x}" not in made["latex"]
    assert "\x1b" not in "".join(made.values())


def test_a_row_of_a_loaded_machine_has_a_mark_where_times_are_shown(tmp_path: Path) -> None:
    records = [record("identity", 5.0), record("ncf", 0.1, times=BUSY), record("fixedpoint", 0.2)]
    made = written(records, tmp_path)
    meaning = "processor share below 90 %: times are not to be trusted"
    assert " ncf ? " in made["terminal"]
    assert f"?  {meaning}" in made["terminal"]
    assert made["markdown"].count("| ncf<sup>?</sup> |") == 1  # the efficiency, not the accuracy
    assert made["markdown"].count("| ncf |") == 1
    assert f"? {meaning}." in made["markdown"]
    assert r"NCF\textsuperscript{?} &" in made["latex"]
    assert rf"? {meaning}.".replace(" %", r"~\%") in made["latex"]
    assert f'<span title="{meaning}">?</span>' in made["html"]


@pytest.mark.parametrize(
    ("changes", "loaded"),
    [
        ({"times": BUSY}, True),
        ({"times": BUSY.model_copy(update={"train_cpu_s": 9.0})}, False),
        ({"times": BUSY.model_copy(update={"train_cpu_s": None})}, False),
        ({"times": Times(train_s=0.5, train_cpu_s=0.1)}, False),
        ({"times": Times()}, False),
    ],
)
def test_a_machine_is_loaded_below_nine_tenths_of_a_processor(changes: dict[str, object], loaded: bool) -> None:
    assert record("ncf", 0.1, **changes).loaded is loaded


def test_the_flag_of_a_metric_is_read_under_its_old_name() -> None:
    text = record("ncf", 0.1).model_dump_json()
    assert '"flag_worse":true' in text
    old = Record.model_validate_json(text.replace("flag_worse", "marked"))
    assert old == Record.model_validate_json(text) == record("ncf", 0.1)
