"""`otbench report`: all formats from the same rows, nothing trusted or written outside the folder, the same bytes."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import sys
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from html.parser import HTMLParser
from pathlib import Path

import pytest

from otbench.cli import main
from otbench.errors import StoreError
from otbench.harness import identity
from otbench.names import plain
from otbench.plugins.registry import Registry
from otbench.records.record import Record
from otbench.records.verified import read_verified
from otbench.report.build import FORMATS, parse_formats
from otbench.report.figures.canvas import legend_below, theme
from otbench.report.figures.style import _listed, style
from otbench.report.files import Folder, Slugs
from otbench.report.markdown import markdown_escape
from otbench.report.rows import Section, sections
from otbench.report.tables import families, tables

from ..helpers.report_records import HOSTILE, hostile, record, small, write

Cli = Callable[..., tuple[int, str, str]]
LIGHT = "latex,markdown,csv"
"""Formats that need no figures."""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("store"), small())


@pytest.fixture(scope="module")
def bad_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("bad"), hostile())


@pytest.fixture(scope="module")
def whole(store: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, bytes], str, str]:
    """The files of a report in all formats, by name, and what the command printed: output, error output."""
    folder = tmp_path_factory.mktemp("whole") / "new" / "reports"
    with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as err:
        assert main(["report", str(store), "--out", str(folder)]) == 0
    return tree(folder), out.getvalue(), err.getvalue()


def made(records: list[dict[str, object]]) -> list[Section]:
    return sections([Record.model_validate(one) for one in records])


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def parsed(html: str) -> tuple[list[str], list[tuple[str, str]]]:
    """Return all tags and all attributes of a page."""
    tags: list[str] = []
    attributes: list[tuple[str, str]] = []

    class Parser(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            tags.append(tag)
            attributes.extend((name, value or "") for name, value in attrs)

    parser = Parser()
    parser.feed(html)
    parser.close()
    return tags, attributes


# ------------------------------------------------------------------------------------------------------------- content


def test_accuracy_by_dimension_has_published_beside_measured_best_marks_and_failures() -> None:
    slugs = Slugs()
    (family,) = families(made(small()), slugs)
    assert family.sizes == [2, 8, 32]
    forward = tables(family, slugs)[0]
    assert [column.label for column in forward.columns] == ["d = 2", "d = 8", "d = 32"]
    labels = [(line.row.label, line.group) for line in forward.lines]
    assert labels[:2] == [("identity", 0), ("linear", 0)]
    assert labels[labels.index(("fixedpoint", 1)) + 1] == ("ImplicitOT", 1)
    assert labels[labels.index(("ncf", 1)) + 1] == ("NCF", 1)
    ranks = {line.row.label: [cell.rank for cell in line.cells] for line in forward.lines if line.row.kind == "solver"}
    assert ranks == {"fixedpoint": [1, 1, 1], "ncf": [0, 0, 0], "a_plugin": [0, 0, 0]}
    plugin = next(line for line in forward.lines if line.row.label == "a_plugin")
    assert [cell.marks for cell in plugin.cells] == ["!v", "!v", "!v"]
    (note,) = plugin.cells[2].notes
    assert forward.notes[note] == "a_plugin, d = 32: seed 2: diverged: the loss is nan at step 40"
    assert forward.seeds == "n = 1 to 3 seeds; numbers without ± are of one seed"
    assert forward.sources[0].startswith("Park")


def test_nobody_is_best_where_doing_nothing_is_as_good() -> None:
    info = [{"name": "far", "label": "far", "primary": True}, {"name": "p", "label": "p", "higher_is_better": True}]
    info[1]["primary"] = True
    rows = {"identity": (5.0, 0.002), "ncf": (1.0, 0.002), "fixedpoint": (2.0, 0.001)}
    rest: dict[str, object] = {"start": {}, "curve": [], "published": None}
    records = [
        record(name, 8, seed, 0.1, metrics={"far": far * (1 + seed / 50), "p": p}, metric_info=info, **rest)
        for name, (far, p) in rows.items()
        for seed in range(3)
    ]
    slugs = Slugs()
    (family,) = families(made(records), slugs)
    accuracy = tables(family, slugs)[0]
    ranks = {line.row.label: [cell.rank for cell in line.cells] for line in accuracy.lines}
    assert {label: rank[:2] for label, rank in ranks.items()} == {
        "identity": [0, 0],
        "fixedpoint": [0, 0],
        "ncf": [1, 0],
    }
    assert "Not ranked, as doing nothing is as good there: p." in accuracy.legend("bold")


def test_times_of_a_loaded_machine_are_not_ranked() -> None:
    spent = {"fixedpoint": 6.0, "ncf": 12.8, "mm": 12.8}
    records = [
        record(
            name, dim, s, value * (1 + s / 50), times={"train_s": 12.8, "train_cpu_s": spent[name], "step_ms": value}
        )
        for dim in (2, 8)
        for name, value in (("fixedpoint", 0.01), ("ncf", 0.02), ("mm", 0.03))
        for s in range(3)
    ]
    records += [record("identity", dim, 0, 50.0, curve=[]) for dim in (2, 8)]
    slugs = Slugs()
    (family,) = families(made(records), slugs)
    by_title = {table.title: table for table in tables(family, slugs)}
    efficiency = by_title["efficiency"]
    step = [column.key for column in efficiency.columns].index("step_ms")
    ranks = {line.row.label: line.cells[step].rank for line in efficiency.lines if line.row.kind == "solver"}
    assert ranks == {"ncf": 1, "mm": 0, "fixedpoint": 0}
    for title, table in by_title.items():
        ranks = {line.row.label: line.cells[0].rank for line in table.lines}
        if "training time" in title:
            assert (ranks["fixedpoint"], ranks["ncf"]) == (0, 1), title
        elif "by dimension" in title and "fwd" in title:
            assert ranks["fixedpoint"] == 1, title


def test_a_legend_stays_within_its_figure() -> None:
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    for labels, columns in ((["a", "b", "c"], 3), (["a label of many letters", "b"] * 3, 1)):
        with theme():
            figure = Figure(figsize=(3.5, 2), layout="constrained")
            legend_below(figure, [Line2D([], []) for _ in labels], labels, columns=3)
            (legend,) = figure.legends
            assert legend.get_window_extent().width <= figure.bbox.width
            assert legend._ncols == columns


def test_a_row_whose_runs_all_failed_says_so_in_its_cell() -> None:
    records = small()
    for one in records:
        if one["label"] == "ncf":
            one["status"], one["reason"] = "timeout", "the hard limit"
    slugs = Slugs()
    (family,) = families(made(records), slugs)
    line = next(line for line in tables(family, slugs)[0].lines if line.row.label == "ncf")
    assert [cell.mean for cell in line.cells] == ["timeout"] * 3
    assert all(cell.failed and cell.notes for cell in line.cells)


def test_the_newest_record_of_a_seed_counts_and_lengths_are_never_mixed() -> None:
    first = record("ncf", 8, 0, 0.5, created="2026-01-01T00:00:00+00:00")
    again = record("ncf", 8, 0, 0.25, created="2026-02-01T00:00:00+00:00", id="again")
    longer = record("ncf", 8, 0, 0.125, id="longer")
    longer["spec"] = {**longer["spec"], "steps": 200}  # type: ignore[dict-item]
    (section,) = made([again, first])
    (row,) = [row for row in section.rows if row.kind == "solver"]
    assert (row.numbers["uvp_fwd"].mean, row.numbers["uvp_fwd"].n) == (0.25, 1)
    (section,) = made([again, first, longer])
    rows = {row.label: row.numbers["uvp_fwd"].mean for row in section.rows if row.kind == "solver"}
    assert rows == {"ncf (100 steps)": 0.25, "ncf (200 steps)": 0.125}


def test_a_seed_that_misses_the_target_is_spelled_out() -> None:
    records = [record("identity", dim, 0, 5.0, curve=[]) for dim in (2, 8)]
    records += [record("ncf", dim, seed, 0.001) for dim in (2, 8) for seed in (0, 1)]
    records[-1]["curve"] = []
    slugs = Slugs()
    (family,) = families(made(records), slugs)
    table = next(table for table in tables(family, slugs) if "0.01 of identity" in table.title)
    assert [cell.mean for cell in table.lines[0].cells] == ["1.01", "1 of 2 seeds"]


# ---------------------------------------------------------------------------------------------------------- the command


def test_report_writes_every_format(whole: tuple[dict[str, bytes], str, str]) -> None:
    files, out, err = whole
    assert "files in" in out
    head = "gaussian-released-pair-full-cpu"
    for name in (
        "index.html",
        "tables.md",
        "numbers.csv",
        "latex/report.tex",
        "latex/gaussian-released-full-uvp-fwd.tex",
        "latex/otbench.bib",
        "latex/definitions.tex",
    ):
        assert name in files
    for figure in ("by-dimension", "curves-2", "curves-8", "curves-32", "time-to-target"):
        for ending in ("svg", "pdf", "png"):
            assert f"figures/{head}--{figure}.{ending}" in files
    assert "efficiency" in " ".join(files)
    if shutil.which("pdflatex"):
        assert files["tables.pdf"].startswith(b"%PDF")
        assert err == ""
    else:
        assert "tables.pdf: left out: there is no pdflatex here" in err


def test_the_same_records_give_the_same_bytes(
    whole: tuple[dict[str, bytes], str, str], store: Path, cli: Cli, tmp_path: Path
) -> None:
    # in a folder of the same depth: the page's links to the records are relative
    assert cli("report", store, "--out", tmp_path / "new" / "reports")[0] == 0
    one, two = whole[0], tree(tmp_path / "new" / "reports")
    assert list(one) == list(two)
    assert [name for name in one if one[name] != two[name]] == []


def test_formats_are_those_asked_for(store: Path, cli: Cli, tmp_path: Path) -> None:
    assert cli("report", store, "--out", tmp_path, "--format", " CSV , markdown")[0] == 0
    assert set(tree(tmp_path)) == {"numbers.csv", "tables.md", "summary.md"}
    assert parse_formats("html,latex") == ["latex", "html"]
    assert parse_formats(",".join(FORMATS)) == list(FORMATS)


def test_only_what_is_asked_for_is_reported(store: Path, cli: Cli, tmp_path: Path) -> None:
    words = ("--solvers", "ncf,identity", "--task", "gaussian", "--preset", "full", "--format", LIGHT)
    assert cli("report", store, *words, "--out", tmp_path)[0] == 0
    text = (tmp_path / "tables.md").read_text()
    assert "| ncf |" in text
    assert "fixedpoint" not in text
    assert "--solvers ncf,identity --task gaussian --preset full" in text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--format", "latx"], "unknown format 'latx'; did you mean 'latex'?"),
        (["--format", "docx,csv"], "unknown format 'docx'; formats: latex, pdf"),
        (["--format", " , "], "no format is named"),
        (["--solvers", "nfc"], "did you mean 'ncf'?"),
        (["--fromat", "csv"], "did you mean '--format'?"),
        (["--out", "a_file"], "--out a_file: is a file, not a folder"),
        (["--out", "a_file/x"], "a_file is a file, not a folder"),
        (["--out", "/proc/nothing"], "cannot write '/proc/nothing"),
    ],
)
def test_wrong_words_are_one_message(
    words: list[str], message: str, store: Path, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a_file").write_text("no folder")
    code, out, err = cli("report", store, *words)
    assert (code, out) == (2, "")
    assert message in err
    assert len(err.splitlines()) == 1


def test_an_empty_or_missing_folder_is_one_message_and_writes_nothing(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for folder in ("empty", "missing"):
        code, _, err = cli("report", tmp_path / folder, "--out", tmp_path / "reports")
        assert code == 2
        assert len(err.splitlines()) == 1
        assert folder in err
    assert not (tmp_path / "reports").exists()


# ----------------------------------------------------------------------------------------------------- Markdown and CSV


def test_csv_has_every_number_unrounded(store: Path, cli: Cli, tmp_path: Path) -> None:
    assert cli("report", store, "--format", "csv", "--out", tmp_path)[0] == 0
    rows = list(csv.DictReader(io.StringIO((tmp_path / "numbers.csv").read_text())))
    (row,) = [
        r for r in rows if (r["instance"], r["method"], r["quantity"]) == ("d = 8, released pair", "ncf", "uvp_fwd")
    ]
    values = [one["metrics"]["uvp_fwd"] for one in small() if one["id"] in row["records"].split()]  # type: ignore[index]
    assert float(row["mean"]) == pytest.approx(sum(values) / 3, rel=1e-11)
    assert (row["n"], row["unit"]) == ("3", "%")
    assert {r["quantity"] for r in rows} >= {"uvp_bwd", "cosine", "step_ms", "memory", "stored_bytes", "parameters"}


def test_no_cell_of_a_spreadsheet_is_a_formula(bad_store: Path, cli: Cli, tmp_path: Path) -> None:
    assert cli("report", bad_store, "--format", "csv", "--out", tmp_path)[0] == 0
    for row in csv.reader(io.StringIO((tmp_path / "numbers.csv").read_text())):
        for cell in row:
            assert not re.match(r"[=+@\t]|-(?![\d.]|inf)", cell), cell


@pytest.mark.parametrize("text", HOSTILE)
def test_markdown_escapes(text: str) -> None:
    safe = markdown_escape(plain(text))
    assert "<" not in safe
    assert not re.search(r"(?<!\\)[|`*_\[]", safe)
    assert not re.search(r"(?<!\\)://", safe)


# -------------------------------------------------------------------------------------------------------------- figures


def test_listed_solvers_differ_in_their_markers_and_strangers_from_them() -> None:
    listed = _listed()
    looks = [look for look in listed.values() if look.marker]
    assert len({look.marker for look in looks}) == len(looks)  # readable without colour
    for name in ("mine", "yours", "中文", "x" * 5000):
        assert style(name) == style(name)
        assert style(name) not in looks
    for look in looks:
        red, green, blue = (int(look.colour[k : k + 2], 16) / 255 for k in (1, 3, 5))
        assert 0.2126 * red + 0.7152 * green + 0.0722 * blue < 0.72, look  # dark enough for white paper


def test_all_that_comes_with_the_program_has_a_style() -> None:
    registry = Registry()
    for entry in registry.entries("solver"):
        assert _listed()[entry.name].marker, entry.name
    for entry in registry.entries("baseline"):
        assert not _listed()[entry.name].marker, entry.name


def test_figures_embed_their_fonts_and_hold_no_date(whole: tuple[dict[str, bytes], str, str]) -> None:
    figures = {name: data for name, data in whole[0].items() if name.startswith("figures/")}
    pdfs = [data for name, data in figures.items() if name.endswith(".pdf")]
    assert len(pdfs) == 8
    for data in pdfs:
        assert b"/FontFile2" in data  # TrueType, fonttype 42
        assert b"/Type3" not in data
        assert b"CreationDate" not in data
    for name in (name for name in figures if name.endswith(".svg")):
        assert b"<dc:date>" not in figures[name]


# -------------------------------------------------------------------------------------------------------------- hostile


def test_hostile_records_break_nothing(bad_store: Path, cli: Cli, tmp_path: Path) -> None:
    target = tmp_path / "out" / "reports"
    code, _, err = cli("report", bad_store, "--format", "latex,svg,markdown,csv,html", "--out", target)
    assert (code, err) == (0, "")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["reports"]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+", part) for name in tree(target) for part in name.split("/"))
    for path in (target / "figures").glob("*.svg"):
        root = ElementTree.fromstring(path.read_text())  # well-formed
        assert not [node for node in root.iter() if node.tag.rpartition("}")[2] in ("script", "foreignObject", "image")]
    tags, attributes = parsed((target / "index.html").read_text())
    assert (tags.count("script"), tags.count("style")) == (2, 1)
    assert ("type", "application/octet-stream") in attributes  # one of the two is data, which nobody runs
    assert not set(tags) & {"iframe", "object", "embed", "form", "base", "svg"}
    assert not [name for name, _ in attributes if name.startswith("on") or name in ("style", "srcset", "srcdoc")]
    # no file of this store has the name that its record gives itself, so that there is nothing to link to
    assert {value[0] for name, value in attributes if name == "href" and value != "data:,"} == {"#"}
    assert {value[:19] for name, value in attributes if name == "src"} == {"data:image/svg+xml,"}
    code, out, _ = cli("table", bad_store)
    assert code == 0
    assert "\x1b]" not in out


def test_a_name_never_leaves_the_folder(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "out")
    for name in ("../x", "/etc/x", "a/../../x", "", ".", "..", "a//b", "a\\b", "a\0b", "-rf", ".hidden"):
        with pytest.raises(ValueError):
            folder.write(name, "text")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out" / "latex").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreError, match="leads out"):
        folder.write("latex/x.tex", "text")
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_slugs_are_safe_short_and_unique() -> None:
    slugs = Slugs()
    names = [slugs.make(text) for text in [*HOSTILE, *HOSTILE, "a" * 500, "a" * 501]]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[a-z0-9-]{1,90}", name) for name in names)


# ------------------------------------------------------------------------------------------------- committed, and large


def test_the_committed_reports_are_up_to_date(
    root: Path, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are as this code makes them, whichever code the records were last compared with: that changes every day."""
    if not (root / "reports").is_dir():
        pytest.skip("reports/ is not in this checkout")
    monkeypatch.chdir(root)
    monkeypatch.setattr(sys, "argv", ["bench.py"])
    verified = {(v.solver, v.task): v.code for v in read_verified([root / "results" / "reference"])}

    def text(folder: Path) -> dict[str, list[str]]:  # without the figures, which are not drawn here
        return {
            name: [line for line in data.decode().splitlines() if line and not line.startswith("![")]
            for name, data in tree(folder).items()
            if name.endswith((".tex", ".md"))
        }

    made = []
    for name, codes in (("now", None), ("when verified", verified), ("by other code", {})):
        with monkeypatch.context() as patch:
            if codes is not None:
                patch.setattr(
                    identity, "current_hash", lambda solver, task, registry, codes=codes: codes.get((solver, task))
                )
            folders = (
                "results/reference",
                *(
                    f"results/reference/{task}"
                    for task in ("colour", "convex", "eot", "images", "mnist", "pools", "uci", "w2bench")
                ),
            )
            words = ("report", *folders, "--format", "latex,markdown", "--out", tmp_path / name)
            assert cli(*map(str, words))[0] == 0
        made.append(text(tmp_path / name))
    assert text(root / "reports") in made, "run the command of docs/reproduce.md again"
    assert sum(map(len, tree(root / "reports").values())) < 10_000_000


@pytest.mark.slow
def test_ten_thousand_records_take_about_ten_seconds_each(
    cli: Cli, tmp_path: Path, record_property: Callable[..., None]
) -> None:
    records = [
        record(f"solver{k}" if k else "identity", 2**power, seed, (k + 5) * 2**power / 100)
        for k in range(20)
        for power in range(1, 11)
        for seed in range(50)
    ]
    store = write(tmp_path / "store", records)
    assert len(list(store.iterdir())) == 10_000
    for words in (["table", store], ["report", store, "--out", tmp_path / "reports"]):
        begin = time.process_time()
        assert cli(*words)[0] == 0
        seconds = time.process_time() - begin
        record_property(str(words[0]), seconds)
        assert seconds < 20, f"{words[0]}: {seconds:.1f} s of processor time"
    assert json.loads((store / "00000.json").read_text())["id"]
