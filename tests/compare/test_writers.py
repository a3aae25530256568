"""Outputs of `compare` and `export`: readable, valid, and deaf to what names and reasons try to be."""

from __future__ import annotations

import csv
import errno
import io
import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from rich.console import Console

from otbench.compare.accept import accept
from otbench.compare.compare import compare
from otbench.compare.verdict import Comparisons
from otbench.compare.writers import benchmark_json, junit, markdown, print_comparison, verdict_line
from otbench.errors import UsageError
from otbench.names import plain
from otbench.records.export import export, tidy
from otbench.records.record import Counts, Memory, Record, RunSpec, Status, Times
from otbench.records.store import Store
from otbench.reporting import Metric, Published

Cli = Callable[..., tuple[int, str, str]]

HOSTILE = [
    "<script>alert(1)</script>",
    "]]><x/>&amp;&lt;",
    "../../../etc/passwd",
    "a | b ` c `` | [x](javascript:y) @someone #1 **b**",
    "line\nbreak\r\n| --- |\x00\x1b[31mred\x07",
    "=cmd|' /C calc'!A0",
    "\u202ereversed\u200b\ufffe\U0001f600",
    "[bold red]x[/bold red][/]",
    "x" * 5000,
]


def record(value: float, *, seed: int = 0, label: str = "one", **changes: object) -> Record:
    spec = RunSpec(
        kind="solver",
        solver=label,
        solver_config={"lr": 0.1},
        task=str(changes.pop("task", "toy")),
        task_config={"dim": 2},
        preset="smoke",
        seed=seed,
        steps=20,
        time_limit=None,
        device="cpu",
        threads=1,
        hard_limit=60.0,
    )
    values: dict[str, object] = {
        "id": "r",
        "spec": spec,
        "status": Status.OK,
        "label": label,
        "instance": "d = 2",
        "metrics": {"error": value},
        "metric_info": [Metric(name="error", label="error", unit="%", primary=True)],
        "times": Times(step_ms=10.0, train_s=1.0),
        "memory": Memory(rss_above_imports=1000),
    }
    return Record(**(values | changes))


def outcome() -> Comparisons:
    base = [record(1.0 + 0.01 * k, seed=k) for k in range(3)] + [record(3.0, label="equal"), record(1.0, label="gone")]
    new = [record(90.0 + k, seed=k) for k in range(3)] + [record(3.0, label="equal")]
    return compare(base, new)


def printed(found: Comparisons, **options: bool) -> str:
    out = io.StringIO()
    print_comparison(Console(file=out, width=200), found, **options)
    return out.getvalue()


def every_output(found: Comparisons) -> None:
    """All forms can be made, and parsers of others read them."""
    assert "\x1b" not in printed(found, everything=True)
    ElementTree.fromstring(junit(found).encode())
    json.loads(benchmark_json(found), parse_constant=lambda token: pytest.fail(token))
    rendered = MarkdownIt("commonmark", {"html": True}).enable("table").render(markdown(found))
    for tag in ("<script", "<img", "<a ", "<x", "<strong>b"):
        assert tag not in rendered


# ------------------------------------------------------------------------------------------------------------- outputs


def test_the_terminal_shows_what_differs_and_counts_the_rest() -> None:
    text = printed(outcome())
    lines = text.splitlines()
    assert lines[-1].startswith("REGRESSED: 1 worse, ")
    row = next(line for line in lines if line.startswith(" worse"))
    assert row.split()[1:6] == ["one", "toy:", "d", "=", "2"]
    assert "1.01" in row
    assert "x90" in row
    assert "in BASE, not in NEW" in text
    assert " same " not in "".join(line for line in lines[:-1] if not line.startswith("REGRESSED"))
    assert " same " in printed(outcome(), everything=True)
    assert verdict_line(compare([], [])) == "COULD NOT COMPARE: no runs at all"


def test_markdown_is_a_table_and_what_is_the_same_is_folded() -> None:
    text = markdown(outcome())
    assert text.startswith("### otbench: REGRESSED")
    assert "| **worse** | `one` | `toy: d = 2 (smoke)` | `error, %` |" in text
    assert "<details>" in text
    html = MarkdownIt("commonmark").enable("table").render(text)
    assert html.count("<table>") == 2
    assert "<code>one</code>" in html


def test_junit_has_a_case_per_number_and_a_failure_per_regression() -> None:
    root = ElementTree.fromstring(junit(outcome()).encode())
    (suite,) = root.findall("testsuite")
    assert suite.attrib == {
        "name": "toy",
        "tests": str(len(list(suite))),
        "failures": "1",
        "errors": "0",
        "skipped": "5",
    }
    (failure,) = root.iter("failure")
    assert "x90" in failure.attrib["message"]
    assert sum(1 for _ in root.iter("skipped")) == 5


def test_json_is_what_github_action_benchmark_reads() -> None:
    entries = json.loads(benchmark_json(outcome()))
    for entry in entries:
        assert set(entry) <= {"name", "unit", "value", "range", "extra"}
        assert isinstance(entry["name"], str)
        assert isinstance(entry["unit"], str)
        assert math.isfinite(entry["value"])
    (error,) = [entry for entry in entries if entry["name"] == "toy / d = 2 / smoke / one / error"]
    assert error["unit"] == "%"
    assert error["value"] == pytest.approx(91.0, rel=1e-3)
    assert error["range"] == "± 1"


def test_json_turns_what_should_grow_into_what_should_shrink() -> None:
    def made(unit: str, value: float) -> list[dict[str, object]]:
        info = [Metric(name="error", label="good", unit=unit, higher_is_better=True, primary=True)]
        pair = [record(value, metric_info=info)]
        return [e for e in json.loads(benchmark_json(compare(pair, pair))) if "good" in e["name"]]

    assert made("", 0.9)[0]["value"] == pytest.approx(0.1)
    assert str(made("", 0.9)[0]["name"]).endswith("1 - good")
    assert made("%", 97.0)[0]["value"] == pytest.approx(3.0)
    assert made("", 20.0)[0]["value"] == pytest.approx(0.05)


# ------------------------------------------------------------------------------------------------------------- hostile


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_names_are_text(text: str) -> None:
    info = [Metric(name=text, label=text, unit=text, primary=True)]
    base, new = (
        [record(0, label=text, task=text, instance=text, metric_info=info, metrics={text: v}, status=s, reason=text)]
        for v, s in ((1.0, Status.OK), (99.0, Status.OK))
    )
    failed = [record(0, label=text, task=text, instance=text, status=Status.ERROR, reason=text, traceback=text)]
    for found in (compare(base, new), compare(base, failed), compare(base, [])):
        every_output(found)
        assert len(printed(found, everything=True)) < 50_000
    assert "\n" not in plain(text)
    table = tidy([*base, *failed])
    assert (table["value"].notna()).any()


def test_plain_leaves_ordinary_text_alone() -> None:
    assert plain("ncf[lr=1e-3|1e-2], d = 2, ±3 %, é 中") == "ncf[lr=1e-3|1e-2], d = 2, ±3 %, é 中"


_numbers = st.floats(allow_nan=True, allow_infinity=True)
_texts = st.text(max_size=20) | st.sampled_from(HOSTILE[:-1])


@st.composite
def _records(draw: st.DrawFn) -> Record:
    whole = st.integers(-(2**70), 2**70) | st.none()
    made = record(
        0.0,
        seed=draw(st.integers(0, 2)),
        label=draw(st.sampled_from(["one", "two", "<b>"])),
        instance=draw(_texts),
        status=draw(st.sampled_from([Status.OK, Status.OK, Status.OK, *Status])),
        reason=draw(_texts),
        metrics=draw(st.dictionaries(st.sampled_from(["error", "other"]), _numbers)),
        start=draw(st.dictionaries(st.sampled_from(["error", "other"]), _numbers)),
        metric_info=draw(
            st.lists(
                st.builds(
                    Metric,
                    name=st.sampled_from(["error", "other"]),
                    label=_texts,
                    unit=st.sampled_from(["", "%", "<i>"]),
                    higher_is_better=st.booleans(),
                    primary=st.booleans(),
                ),
                max_size=2,
            )
        ),
        published=draw(st.none() | st.just(Published(table="../x", where={}))),
        times=Times(step_ms=draw(_numbers | st.none()), step_ms_p10=draw(_numbers), step_ms_p90=draw(_numbers)),
        memory=Memory(rss_above_imports=draw(whole), cuda_peak_allocated=draw(whole)),
        counts=Counts(parameters=draw(whole)),
        environment=draw(
            st.sampled_from([{}, {"cpu": "a", "cores": 1, "system": "s", "device": "cpu"}, {"cpu": None, "torch": 3}])
        ),
        created=draw(st.sampled_from(["", "2026", "nonsense"])),
    )
    return made.model_copy(update={"id": draw(_texts)})


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(_records(), max_size=6), st.lists(_records(), max_size=6))
def test_no_record_that_loads_breaks_anything(base: list[Record], new: list[Record]) -> None:
    every_output(compare(base, new))
    table = tidy([*base, *new])
    assert set(table["status"]) <= set(map(str, Status))


def test_records_cannot_write_outside_the_folder(tmp_path: Path) -> None:
    base = tmp_path / "deep" / "base"
    base.mkdir(parents=True)
    made = record(1.0).model_copy(update={"id": "../../escaped"})
    (base / "a.json").write_text(made.model_dump_json())
    into = tmp_path / "deep" / "into"
    accept(Store(base), Store(into))
    export(Store(base).all(), tmp_path / "deep" / "out", ["csv", "parquet"])
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()) == [
        "deep/base/a.json",
        "deep/into/a.json",
        "deep/out/metrics.csv",
        "deep/out/metrics.parquet",
    ]


# -------------------------------------------------------------------------------------------------------------- export


def test_the_export_is_tidy_and_both_formats_say_the_same(tmp_path: Path) -> None:
    failed = record(0, seed=1, metrics={}, status=Status.OOM, reason="no memory", times=Times(), memory=Memory())
    made = [record(0.125, start={"error": 3.0}), failed, record(math.inf, seed=2)]
    paths = export(made, tmp_path, ["csv", "parquet"])
    assert [path.name for path in paths] == ["metrics.csv", "metrics.parquet"]
    parquet = pd.read_parquet(paths[1])
    text = pd.read_csv(paths[0], keep_default_na=False, na_values={"value": [""]})
    assert list(parquet.columns) == list(text.columns)
    assert len(parquet) == len(text)
    pd.testing.assert_series_equal(parquet["value"], text["value"])
    one = parquet[(parquet["group"] == "metric") & (parquet["seed"] == 0)].iloc[0]
    assert (one["metric"], one["value"], one["unit"], one["status"]) == ("error", 0.125, "%", "ok")
    assert not one["higher_is_better"]
    assert json.loads(one["solver_config"]) == {"lr": 0.1}
    ok = parquet[parquet["metric"] == "ok"]
    assert dict(zip(ok["seed"], ok["value"], strict=True)) == {0: 1.0, 1: 0.0, 2: 1.0}
    assert parquet.duplicated(["seed", "group", "metric"]).sum() == 0


def test_no_text_of_the_csv_is_a_formula(tmp_path: Path) -> None:
    (path,) = export([record(-1.0, label=text, reason=text) for text in HOSTILE], tmp_path, ["csv"])
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {row["label"] for row in rows} >= {"'=cmd|' /C calc'!A0", "<script>alert(1)</script>"}
    assert any(float(row["value"]) == -1.0 for row in rows if row["value"]), "numbers stay numbers"


# -------------------------------------------------------------------------------------------------------------- accept


def test_accept_renames_over_a_pipe_and_never_writes_into_it(tmp_path: Path) -> None:
    new, into = Store(tmp_path / "new"), Store(tmp_path / "into")
    new.write(record(1.0).model_copy(update={"id": "a"}))
    into.folder.mkdir()
    os.mkfifo(into.folder / "a.json")
    reader = os.open(into.folder / "a.json", os.O_RDONLY | os.O_NONBLOCK)  # else a writer would wait for one
    try:
        assert accept(new, into).written == 1
    finally:
        os.close(reader)
    assert (into.folder / "a.json").is_file()
    assert [made.metrics for made in into.all()] == [{"error": 1.0}]


def test_accept_replaces_the_same_runs_and_keeps_the_rest(tmp_path: Path) -> None:
    old, new, into = tmp_path / "old", tmp_path / "new", Store(tmp_path / "into")
    for folder, records in (
        (old, [record(1.0).model_copy(update={"id": "a"}), record(2.0, label="two").model_copy(update={"id": "b"})]),
        (new, [record(5.0).model_copy(update={"id": "c"})]),
    ):
        for made in records:
            Store(folder).write(made)
    assert accept(Store(old), into).written == 2
    (into.folder / "README.md").write_text("kept")
    done = accept(Store(new), into)
    assert (done.written, done.replaced, done.pruned, done.kept) == (1, 1, 0, 1)
    assert sorted(path.name for path in into.folder.iterdir()) == ["README.md", "b.json", "c.json"]
    done = accept(Store(new), into, prune=True)
    assert (done.replaced, done.pruned) == (1, 1)
    assert sorted(path.name for path in into.folder.iterdir()) == ["README.md", "c.json"]
    assert compare(into.all(), Store(new).all()).compared


def test_accept_leaves_out_what_a_solver_declined(tmp_path: Path) -> None:
    new, into = Store(tmp_path / "new"), Store(tmp_path / "into")
    new.write(record(1.0).model_copy(update={"id": "a"}))
    new.write(record(1.0, status=Status.SKIPPED, label="two").model_copy(update={"id": "b"}))
    assert accept(new, into).written == 1
    assert [one.id for one in into.all()] == ["a"]
    none = Store(tmp_path / "none")
    none.write(record(1.0, status=Status.SKIPPED).model_copy(update={"id": "b"}))
    with pytest.raises(UsageError, match="nothing to accept: 1 run, declined"):
        accept(none, into, prune=True)
    assert [one.id for one in into.all()] == ["a"]


@pytest.mark.parametrize("prune", [True, False])
def test_accept_refuses_damaged_records_before_it_writes_or_removes_anything(
    prune: bool, cli: Cli, tmp_path: Path
) -> None:
    new, into = Store(tmp_path / "new"), Store(tmp_path / "into")
    for name, label in (("a", "one"), ("b", "two")):
        for store, value in ((into, 1.0), (new, 2.0)):
            store.write(record(value, label=label).model_copy(update={"id": name}))
    new.path("b").write_text(new.path("b").read_text()[:-50])
    before = {path: path.read_bytes() for path in into.folder.iterdir()}
    code, out, err = cli("accept", new.folder, "--into", into.folder, *(["--prune"] if prune else []))
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1
    assert f"1 file cannot be used, so nothing was accepted; repair or move away: {new.path('b')}" in err
    assert {path: path.read_bytes() for path in into.folder.iterdir()} == before


def test_accept_refuses_what_is_no_baseline(tmp_path: Path) -> None:
    store = Store(tmp_path / "a")
    store.prepare()
    with pytest.raises(UsageError, match="no records"):
        accept(store, Store(tmp_path / "b"))
    store.write(record(1.0, status=Status.DIVERGED))
    with pytest.raises(UsageError, match=r"1 of 1 run failed \(one, seed 0: diverged\)"):
        accept(store, Store(tmp_path / "b"))
    with pytest.raises(UsageError, match="baseline itself"):
        accept(store, Store(tmp_path / "a"))
    assert not (tmp_path / "b").exists()


# -------------------------------------------------------------------------------------------------------- command line


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    for name, values in (("base", (1.0, 1.1, 0.9)), ("new", (90.0, 91.0, 92.0))):
        for seed, value in enumerate(values):
            Store(tmp_path / name).write(record(value, seed=seed).model_copy(update={"id": f"r{seed}"}))
    return tmp_path / "base", tmp_path / "new"


def test_exit_codes_and_files(cli: Cli, folders: tuple[Path, Path], tmp_path: Path) -> None:
    base, new = folders
    files = ("--markdown", tmp_path / "x/a.md", "--junit", tmp_path / "x/a.xml", "--json", tmp_path / "x/a.json")
    code, out, err = cli("compare", base, new, *files)
    assert (code, err) == (1, "")
    assert "REGRESSED" in out
    assert (tmp_path / "x/a.md").read_text().startswith("### otbench: REGRESSED")
    ElementTree.parse(tmp_path / "x/a.xml")
    json.loads((tmp_path / "x/a.json").read_text())
    assert cli("compare", new, base)[0] == 0
    (tmp_path / "empty").mkdir()
    code, out, _ = cli("compare", tmp_path / "empty", new)
    assert code == 3
    assert "COULD NOT COMPARE" in out
    Store(tmp_path / "less").write(record(1.0))
    assert cli("compare", base, tmp_path / "less")[0] == 0
    Store(base).write(record(1.0, label="more").model_copy(update={"id": "more"}))
    assert cli("compare", base, tmp_path / "less", "--require-all")[0] == 3


def test_mistakes_are_one_line(cli: Cli, folders: tuple[Path, Path], tmp_path: Path) -> None:
    base, new = folders
    file = tmp_path / "file"
    file.write_text("x")
    for words, message in (
        (("compare", base), "NEW"),
        (("compare", base, tmp_path / "none"), "cannot read results"),
        (("compare", base, base), "the same folder"),
        (("compare", base, new, "--metrics", "eror"), "did you mean 'error'?"),
        (("compare", base, new, "--gate-time", "nan"), "--gate-time"),
        (("compare", base, new, "--tolerance", "-1"), "--tolerance -1"),
        (("compare", base, new, "--tolerance", "much"), "--tolerance"),
        (("compare", base, new, "--markdwn", "x"), "did you mean '--markdown'?"),
        (
            ("compare", base, new, "--junit", file / "x.xml"),
            f"--junit {file / 'x.xml'}: {file} is a file, not a folder",
        ),
        (("compare", base, new, "--json", tmp_path), f"--json {tmp_path}: is a folder, not a file"),
        (("compare", base, new, "--asv", file), f"--asv {file}: is a file, not a folder"),
        (("export", base, "--out", tmp_path / "o", "--format", "parket"), "did you mean 'parquet'?"),
        (("export", base, "--out", tmp_path / "o", "--format", ","), "--format"),
        (("export", base), "--out"),
        (("export", tmp_path / "none", "--out", tmp_path / "o"), "cannot read results"),
        (("export", base, "--out", file / "o"), f"--out {file / 'o'}: {file} is a file, not a folder"),
        (("accept", tmp_path / "none"), "cannot read results"),
        (("accept", base, "--into", file / "o"), f"--into {file / 'o'}: {file} is a file, not a folder"),
        (("merge", base, "--into", file), f"--into {file}: is a file, not a folder"),
        (("summary", base, "--markdown", tmp_path), f"--markdown {tmp_path}: is a folder, not a file"),
        (("report", base, "--out", file), f"--out {file}: is a file, not a folder"),
    ):
        code, _, err = cli(*words)
        assert code == 2, words
        assert message in err, err
        assert len(err.splitlines()) == 1, err


def test_export_and_accept_say_what_they_did(cli: Cli, folders: tuple[Path, Path], tmp_path: Path) -> None:
    code, out, _ = cli("export", *folders, "--format", "parquet,csv", "--out", tmp_path / "out")
    assert code == 0
    assert len(out.splitlines()) == 2
    assert len(pd.read_parquet(tmp_path / "out" / "metrics.parquet")) > 6
    code, out, _ = cli("accept", folders[0], "--into", tmp_path / "ci")
    assert code == 0
    assert "3 runs accepted" in out
    assert cli("compare", tmp_path / "ci", folders[0])[0] == 0


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_disk_that_fills_up_during_an_export_is_one_message(
    cli: Cli, folders: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    out = tmp_path / "out"
    assert cli("export", folders[0], "--format", kind, "--out", out)[0] == 0
    path = out / f"metrics.{kind}"
    before = path.read_bytes()
    synced = os.fsync
    calls = []

    def full_after_the_first(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) > 1:  # the first is the proof that the folder can be written
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        synced(descriptor)

    monkeypatch.setattr("otbench.files.os.fsync", full_after_the_first)
    code, _, err = cli("export", *folders, "--format", kind, "--out", out)
    assert code == 2
    assert f"cannot write '{path}': No space left" in err
    assert len(err.splitlines()) == 1
    assert [p.name for p in out.iterdir()] == [path.name]
    assert path.read_bytes() == before


def test_a_torn_record_is_named_and_counts_as_missing(cli: Cli, folders: tuple[Path, Path]) -> None:
    base, new = folders
    for path in sorted(new.glob("*.json")):
        path.write_text(path.read_text()[:-50])
    code, out, err = cli("compare", base, new)
    assert code == 3
    assert err.count("passed over") == 3
    assert "in BASE, not in NEW" in out
