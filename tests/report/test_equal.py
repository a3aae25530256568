"""Scores at an equal time of training: closed forms, both clocks, what has none, and where the tables stand."""

from __future__ import annotations

import io
import json
import math
import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from otbench.records.record import Record
from otbench.report.build import build
from otbench.report.equal import CPU_SECONDS, SECONDS, EqualTime, at_equal_time
from otbench.report.files import Slugs
from otbench.report.rows import Section, sections
from otbench.report.summary.contests import contests
from otbench.report.summary.data import as_json
from otbench.report.summary.guide import guide
from otbench.report.summary.markdown import document
from otbench.report.summary.summary import Summary, summarise
from otbench.report.summary.terminal import print_summary
from otbench.report.tables import equal_time
from otbench.report.terminal import print_sections

from ..helpers.report_records import METRICS, record, spec

POINTS = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)


def power(seconds: float, scale: float) -> float:
    return scale * seconds**-1.5


def run(
    solver: str, end: float, *, dim: int = 8, seed: int = 0, scale: float = 1.0, cpu: float = 1.0, **changes: object
) -> Record:
    """Return a run of `end` seconds by the wall, `cpu` of them on the processor, whose error is a power of them."""
    at = [0.0, *(t for t in POINTS if t < end), end]
    curve = [
        {
            "step": round(100 * t),
            "train_s": t,
            "train_cpu_s": cpu * t,
            "samples": round(1000 * t),
            "metrics": {"uvp_fwd": power(t, scale) if t else 50.0, "uvp_bwd": 2 * power(t, scale) if t else 60.0},
        }
        for t in at
    ]
    final = dict(curve[-1]["metrics"])  # type: ignore[call-overload]
    times = {"warmup_s": 0.25, "train_s": end - 0.25, "train_cpu_s": cpu * end, "infer_fwd_s": 0.01}
    made = record(solver, dim, seed, 1.0, metrics=final, curve=curve, times=times, metric_info=METRICS[:2])
    made["counts"] = {"steps": round(100 * end), "samples": round(1000 * end)}
    made["spec"] = spec(solver, dim, seed, steps=None, solver_config={"optimiser": "soap"})
    made["id"] = f"{solver}-{dim}-{seed}"
    return Record.model_validate(made | changes)


def section_of(*records: Record) -> Section:
    (found,) = sections(records)
    return found


def cut(*records: Record) -> EqualTime:
    found = at_equal_time(section_of(*records))
    assert found is not None
    return found


@given(st.floats(3.0, 30.0), st.floats(1.2, 4.0), st.sampled_from([1.0, 0.5]))
@settings(max_examples=25, deadline=None)
def test_a_power_law_is_read_where_it_is(end: float, longer: float, cpu: float) -> None:
    found = cut(run("ncf", end, cpu=cpu), run("mmr", longer * end, scale=3.0, cpu=cpu))
    assert found.clock == CPU_SECONDS
    assert 0.9 * cpu * end <= found.seconds <= cpu * end * (1 + 1e-12)  # two digits
    ncf, mmr = (next(r for r in found.section.rows if r.label == name) for name in ("ncf", "mmr"))
    wall = found.seconds / cpu
    for row, scale in ((ncf, 1.0), (mmr, 3.0)):
        assert row.numbers["uvp_fwd"].mean == pytest.approx(power(wall, scale))
        assert row.numbers["uvp_bwd"].mean == pytest.approx(2 * power(wall, scale))
        assert row.numbers["train_s"].mean == found.seconds
        assert row.numbers["samples"].mean == pytest.approx(1000 * wall, abs=2)
        assert row.numbers["steps"].mean == pytest.approx(100 * wall, abs=2)


def test_records_without_the_clock_at_each_point_have_the_share_of_the_whole_run() -> None:
    def older(one: Record) -> Record:
        curve = [p.model_copy(update={"train_cpu_s": None, "samples": None}) for p in one.curve]
        return one.model_copy(update={"curve": curve})

    new = [run("ncf", 10.0, cpu=0.8), run("mmr", 20.0, scale=2.0, cpu=0.5)]
    a, b = cut(*new), cut(*map(older, new))
    assert (a.seconds, a.clock) == (b.seconds, b.clock) == (8.0, CPU_SECONDS)
    for x, y in zip(a.section.rows, b.section.rows, strict=True):
        assert {k: v.mean for k, v in x.numbers.items()} == pytest.approx({k: v.mean for k, v in y.numbers.items()})


def test_the_shortest_of_all_runs_counts_and_baselines_stay_as_they_are() -> None:
    records = [run("ncf", 10.0 + seed, seed=seed) for seed in range(3)] + [run("mmr", 20.0)]
    records.append(Record.model_validate(record("identity", 8, 0, 5.0, curve=[], metric_info=METRICS[:2])))
    found = cut(*records)
    assert found.seconds == 10.0
    identity = next(row for row in found.section.rows if row.label == "identity")
    assert identity.numbers["uvp_fwd"].mean == 5.0
    assert found.words == "10 CPU s"


def test_there_is_none_where_it_would_say_nothing() -> None:
    a, b = run("ncf", 10.0), run("mmr", 20.0)
    assert at_equal_time(section_of(a)) is None  # one solver
    assert at_equal_time(section_of(a, run("mmr", 10.2))) is None  # as long as the other
    assert at_equal_time(section_of(a, b.model_copy(update={"curve": []}))) is None  # no curve
    assert at_equal_time(section_of(a, b.model_copy(update={"status": "diverged", "metrics": {}}))) is None
    late = b.model_copy(update={"curve": [b.curve[0], *b.curve[-2:]]})  # first looked at after the other had ended
    assert at_equal_time(section_of(run("ncf", 3.0), late)) is None


def test_on_a_busy_machine_only_the_processors_clock_is_read() -> None:
    a, b = run("ncf", 10.0, cpu=0.5), run("mmr", 20.0, cpu=0.5)
    assert cut(a, b).seconds == 5.0
    (no_clock,) = [b.model_copy(update={"times": b.times.model_copy(update={"train_cpu_s": None})})]
    assert at_equal_time(section_of(a, no_clock)) is None
    idle = run("ncf", 10.0)
    assert cut(idle, no_clock).clock == SECONDS


def test_failed_runs_stay_failed() -> None:
    failed = run("mm", 5.0, status="diverged", reason="the loss is nan", metrics={})
    found = cut(run("ncf", 10.0), run("mmr", 20.0), failed)
    assert found.seconds == 10.0
    assert next(row for row in found.section.rows if row.label == "mm").status == "diverged"


def test_what_has_no_logarithm_is_read_on_a_straight_line() -> None:
    def with_zero(one: Record) -> Record:
        curve = [p.model_copy(update={"metrics": {"uvp_fwd": 0.0 if p.train_s >= 8 else 1.0}}) for p in one.curve]
        return one.model_copy(update={"curve": curve})

    found = cut(run("ncf", 6.0), with_zero(run("mmr", 20.0)))
    mmr = next(row for row in found.section.rows if row.label == "mmr")
    assert mmr.numbers["uvp_fwd"].mean == pytest.approx(1 - math.log(6 / 4) / math.log(8 / 4))


# Where they stand


def field_of(dims: tuple[int, ...] = (2, 4, 8)) -> list[Record]:
    """Return runs in which the quick one is worse at its end, and better at equal time."""
    return [
        run(solver, end, dim=dim, seed=seed, scale=scale * (1 + 0.2 * seed) * (1 + 0.001 * seed * end))
        for dim in dims
        for seed in range(3)
        for solver, end, scale in (("quick", 8.0, 1.0), ("long", 32.0, 2.0))
    ]


def test_a_contest_of_own_lengths_has_one_at_equal_time_beside_it() -> None:
    for contest in contests(field_of()):
        assert [(entry.label, entry.rank) for entry in contest.entries] == [("long", 1), ("quick", 2)]
        equal = contest.equal
        assert equal is not None
        assert equal.equal is None
        assert [(entry.label, entry.rank) for entry in equal.entries] == [("quick", 1), ("long", 2)]
        assert (equal.terms.cut_cpu_s, equal.terms.limited, contest.terms.limited) == (8.0, True, False)
        assert equal.terms.words == "preset full, cpu, curves read at 8 CPU s"
        assert not any(entry.on_front for entry in equal.entries)
        assert {entry.optimiser for entry in equal.entries} == {"soap"}


def test_a_contest_with_one_limit_for_all_has_none() -> None:
    limited = [r.model_copy(update={"spec": r.spec.model_copy(update={"cpu_limit": 32.0})}) for r in field_of()]
    assert all(contest.equal is None for contest in contests(limited))
    assert not summarise(limited).equal_scopes


def test_the_guide_rests_on_runs_as_they_were_made() -> None:
    made = summarise(field_of())
    (scope,) = made.scopes
    (equal,) = made.equal_scopes
    assert (scope.solvers, equal.solvers) == (["long", "quick"], ["quick", "long"])
    assert (equal.title, equal.target, equal.limited) == ("gaussian, at equal time", None, True)
    alone = [replace(contest, equal=None) for contest in made.contests]
    assert guide(alone) == made.guide


def printed(made: Summary) -> str:
    out = io.StringIO()
    print_summary(Console(file=out, width=100), made)
    return out.getvalue()


def test_every_form_of_the_summary_has_both(tmp_path: Path) -> None:
    records = field_of()
    made = summarise(records)
    for text in (printed(made), document(made, "c")):
        assert text.count("At equal time, 8 CPU s of training each") == 3
        assert "optimiser" in text
        assert "samples" in text
    data = json.loads(as_json(made))
    assert data["contests"][0]["equal_time"]["read_at_cpu_s"] == 8.0
    assert data["contests"][0]["entries"][0]["optimiser"] == "soap"
    folder = build(records, tmp_path, ["html", "latex", "markdown"], command="c")
    assert not folder.notes
    page, tables = ((tmp_path / name).read_text() for name in ("index.html", "tables.md"))
    assert page.count("At equal time, 8 CPU s of training each") >= 3
    assert tables.count("At equal time: 8 CPU s of training") == 3
    assert "Gaussian pairs, at equal time" in (tmp_path / "latex" / "summary.tex").read_text()
    assert len(list((tmp_path / "latex").glob("*-at-equal-time.tex"))) == 3


def test_a_table_at_equal_time_has_time_samples_and_optimiser() -> None:
    section = section_of(*field_of((8,)))
    table = equal_time(section, section.context, Slugs())
    assert table is not None
    assert [column.head for column in table.columns][-3:] == ["train (CPU s)", "samples (k)", "optimiser"]
    quick = next(line for line in table.lines if line.row.label == "quick")
    assert [cell.text for cell in quick.cells][-3:] == ["8", "8", "soap"]
    assert [bool(cell.rank) for cell in quick.cells] == [True, True, False, False, False]
    assert not quick.cells[-1].failed
    out = io.StringIO()
    print_sections(Console(file=out, width=100), [section])
    assert "At equal time: 8 CPU s of training" in out.getvalue()
    assert "read off the curves" in out.getvalue()


def test_a_narrow_terminal_has_the_columns_below_each_other() -> None:
    def lines(width: int) -> list[str]:
        out = io.StringIO()
        print_summary(Console(file=out, width=width), summarise(field_of((8,))))
        return out.getvalue().splitlines()

    narrow, wide = lines(72), lines(140)
    assert max(map(len, narrow)) <= 72
    assert sum("optimiser" in line and "maps" in line for line in wide) == 1
    assert not any("optimiser" in line and "maps" in line for line in narrow)
    assert sum(bool(re.search(r"\d +quick ", line)) for line in narrow) == 3  # as tuned in two parts, at equal time
