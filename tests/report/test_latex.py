"""Paper tables: what they say, how wide they are, and that LaTeX takes them, whatever stands in records."""

from __future__ import annotations

import io
import re
import shutil
import subprocess
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from pathlib import Path

import pytest

from otbench.cli import main
from otbench.errors import UsageError
from otbench.names import plain
from otbench.plugins.registry import Registry
from otbench.records.record import Record
from otbench.records.store import read_all
from otbench.report.bibliography import bibliography, cited, named, works
from otbench.report.build import compile_latex
from otbench.report.files import Slugs, letter
from otbench.report.latex import Stems, definitions, document, escape, fragment
from otbench.report.latex_summary import summary
from otbench.report.notation import display, entry, notation, notations
from otbench.report.rows import published_table, sections
from otbench.report.summary.summary import summarise
from otbench.report.tables import Table, families, tables

from ..helpers.report_records import HOSTILE, hostile, record, small, write

Cli = Callable[..., tuple[int, str, str]]


def missing() -> str:
    """Why LaTeX cannot be compiled here; empty where it can."""
    if shutil.which("pdflatex") is None:
        return "pdflatex is not installed: LaTeX is not compiled"
    found = subprocess.run(["kpsewhich", "siunitx.sty"], capture_output=True, check=False)
    return "" if found.stdout.strip() else "siunitx (Debian: texlive-science) is not installed: LaTeX is not compiled"


compiles = pytest.mark.skipif(bool(missing()), reason=missing() or "all is there")


def made(records: list[dict[str, object]]) -> list[Table]:
    slugs = Slugs()
    found = families(sections([Record.model_validate(one) for one in records]), slugs)
    return [table for family in found for table in tables(family, slugs)]


def report(folder: Path, out: Path, *words: str) -> dict[str, str]:
    """The LaTeX files of a report by name."""
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        assert main(["report", str(folder), "--format", "latex", "--out", str(out), *words]) == 0
    return {path.name: path.read_text() for path in (out / "latex").iterdir()}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("store"), small())


@pytest.fixture(scope="module")
def files(store: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return report(store, tmp_path_factory.mktemp("report"))


def wide() -> list[dict[str, object]]:
    """Nine metrics with intervals, a long name, settings, an end of an interval, labels that are read."""
    names = ["accuracy", "accuracy_low", "accuracy_high", "mmd_fwd", "mmd_bwd", "energy_fwd", "fd_pixel", "nll", "cost"]
    infos = [{"name": name, "label": name.upper(), "unit": "data units^2", "primary": True} for name in names]
    labels = ("identity", "ncf", "ncf[lr=1e-2,hj_points=300]", "fixedpoint[weight_decay=0.3]", "a_plugin" * 6)
    return [
        record(
            label.partition("[")[0],
            8,
            seed,
            0.1,
            label=label,
            metrics={name: (-10.0) ** -place * (1 + seed) for place, name in enumerate(names)},
            metric_info=infos,
            start={},
            curve=[],
            published=None,
            reads_label=label.startswith("ncf"),
            id=f"{label}-{seed}",
        )
        for label in labels
        for seed in range(3)
    ]


# -------------------------------------------------------------------------------------------------------- what it says


def test_a_fragment_says_how_it_is_made_again_and_cannot_leave_its_comment() -> None:
    text = fragment(made(small())[0], "otbench report a\n\\input{x}", "name")
    assert text.splitlines()[0] == r"% Made by otbench; made again by: otbench report a?\input{x}"


def test_heads_are_mathematics_names_are_those_of_papers_and_sources_are_cited() -> None:
    text = fragment(made(small())[0], "otbench report", "name")
    assert r"\caption{$\mathrm{UVP}(T)$ (\%) by dimension. Gaussian pairs: released pair (preset full, CPU)." in text
    assert r"\label{tab:name}" in text
    assert r"method & \multicolumn{2}{c}{$d = 2$} & " in text
    assert "ImplicitOT & " in text
    assert "fixedpoint" not in text
    assert r"a\_plugin" in text
    assert r"\quad \textit{published}\textsuperscript{" in text
    assert r"\cite[Table 1]{park2026implicit}" in text
    assert text.count(r"\midrule") == 3  # head; sanity rows; solvers with their published rows
    assert r"\bfseries 0.0" in text
    assert "S[table-format=" in text
    assert "resizebox" not in text


@pytest.mark.parametrize("others", range(28, 36))
def test_published_rows_are_never_cut_off_from_their_solver(others: int) -> None:
    records = [record(f"a_plugin{number}", 8, 0, 0.1) for number in range(others)]
    records += [record(solver, 8, 0, 0.1) for solver in ("fixedpoint", "mmr", "mmv1", "ncf", "not")]
    (table,) = (table for table in made(records) if table.title == "accuracy")
    text = fragment(table, "otbench report", "name")
    assert text.count(r"\begin{table}") == 2
    assert text.count(r"\quad \textit{published}") >= 5
    assert not re.search(r"\\midrule\n\\quad", text)
    lines = [part.count(r"\\") - 2 for part in text.split(r"\begin{tabular}")[1:]]  # less the two of the head
    assert sum(lines) == len(table.lines)
    assert max(lines) <= 36


def test_the_solver_not_is_no_word_of_a_sentence() -> None:
    records = [record(name, dim, seed, 0.1) for name in ("not", "ncf") for dim in (2, 8) for seed in range(2)]
    records.append(record("not", 8, 2, 0.1, status="error", reason="why"))
    text = fragment(made(records)[0], "otbench report", "name")
    assert "NOT, $d = 8$: seed 2: error: why" in text
    assert "are not ranked" in text


def test_only_primary_metrics_stand_there_unless_others_are_asked_for(store: Path, tmp_path: Path) -> None:
    files = report(store, tmp_path / "asked", "--metrics", "cosine")
    text = files["gaussian-released-full-cosine.tex"]
    assert r"\caption{Cosine by dimension." in text
    assert "gaussian-released-full-uvp-fwd.tex" not in files
    assert r"--metrics cosine" in text


def test_a_score_before_training_is_no_column_and_ends_of_an_interval_stand_beside_it() -> None:
    records = [record("ncf", 8, seed, 0.1, published=None) for seed in range(2)]
    (table, *_) = made(records)
    assert "at step 0" in [column.label for column in table.columns]
    assert "step 0" not in fragment(table, "otbench report", "name")
    text = fragment(made(wide())[0], "otbench report", "name")
    assert re.search(r" \{\[\}(\$-\$)?[\d.]+, (\$-\$)?[\d.]+\{\]\}", text)
    assert r"}\,Told the class of the point that it moves." in text
    assert "lr = 1e-2, hj\\_points = 300" in text


def test_names_of_files_follow_from_the_instance_alone(files: dict[str, str]) -> None:
    assert "gaussian-released-full-uvp-fwd.tex" in files
    assert "gaussian-d8-released-full-efficiency.tex" in files
    assert "gaussian-d8-released-full-training-uvp-fwd.tex" in files
    assert not [name for name in files if re.search(r"-[0-9a-f]{8}\.tex", name)]
    stems = Stems()
    every, some = made(small()), made([one for one in small() if one["spec"]["task_config"]["dim"] != 2])  # type: ignore[index]
    assert {stems.make(table) for table in some} <= {name.removesuffix(".tex") for name in files}
    names = [Stems().make(table) for table in every]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("text", HOSTILE)
def test_latex_escapes_have_no_command_left(text: str) -> None:
    safe = escape(plain(text))
    assert safe.isascii() or re.fullmatch(r"[ -~À-ÿ]*", safe)
    commands = set(re.findall(r"\\([a-zA-Z]+|.)", safe))
    assert commands <= {
        *("textbackslash", "textasciicircum", "textasciitilde", "textless", "textgreater", "textbar", "symbol"),
        *("textquotesingle", "textasciigrave", "pm", "times", "textendash", "dots", "textsuperscript", *"{}$&#%_"),
    }  # fmt: skip
    assert "--" not in safe
    assert "^^" not in safe


def test_symbols_in_the_name_of_a_metric_stay_symbols() -> None:
    """Escaped symbols hold braces, which pandas takes for places to fill in."""
    info = [{"name": "gap", "label": "|S(T(x))-x|^2 {n} < 3", "unit": "%", "primary": True}]
    changes = {"metrics": {"gap": 0.5}, "start": {}, "curve": [], "metric_info": info, "published": None}
    text = fragment(made([record("ncf", 8, 0, 0.1, **changes)])[0], "otbench report", "name")
    assert escape("|S(T(x))-x|^2 {n} < 3") in text


def test_letters_of_footnotes() -> None:
    assert [letter(k) for k in (0, 25, 26, 51, 52, 701, 702)] == ["a", "z", "aa", "az", "ba", "zz", "aaa"]


# ------------------------------------------------------------------------------------------------------ names and works


def test_every_metric_of_every_task_has_its_notation_and_nothing_else_has() -> None:
    registry = Registry()
    numbers = {metric.name for e in registry.entries("task") for metric in registry.load(e).cls.metrics}  # type: ignore[attr-defined]
    assert {name for name in numbers if not entry(name)} == set()
    harness = {name for name, found in notations().items() if not found.formula}
    assert set(notations()) - harness == {entry(name) for name in numbers}
    assert notation("uvp_bwd").head == r"$\mathrm{UVP}(S)$"  # type: ignore[union-attr]
    assert notation("of_a_plugin") is None


def test_all_that_comes_with_the_program_has_a_name_for_papers() -> None:
    for e in Registry().entries():
        assert display(e.name), e.name
        assert display(e.name) != e.name or e.name in SAME, e.name


SAME = {"identity", "constant", "linear", "copies", "reconstruction", "w2ot"}
NO_WORK = re.compile(r"none: .*|the user's own files|control|pairs: (ours|https://.*)|(data|potentials): https://.*")


def test_every_reference_is_an_entry_of_the_bibliography() -> None:
    registry = Registry()
    lines = {e.name: registry.load(e).reference for e in registry.entries()}
    for table in ("gaussian", "mnist", "uci", "w2bench"):
        lines |= {source: source for source in published_table(table)["source"]}
    used = set()
    for name, line in lines.items():
        for part, (work, _) in zip(line.split("; "), named(line), strict=True):
            assert work is not None or NO_WORK.fullmatch(part), f"{name}: {part}"
            used |= {work.key} if work else set()
    assert used == {work.key for work in works().values()}


def test_a_reference_of_a_plugin_becomes_an_entry_that_bibtex_takes() -> None:
    ((work, _),) = cited("Doe & {Roe}, 100 % \\input{x}, 2026")
    text = bibliography([work, work], "otbench report")
    assert text.count("@misc{") == 1
    assert "input x" in text
    assert text.count("{") == text.count("}")
    assert cited("no work at all") == []


# --------------------------------------------------------------------------------------------------------------- LaTeX


@compiles
def test_pdflatex_compiles_the_document_and_nothing_is_wider_than_a_line(files: dict[str, str]) -> None:
    (table,) = (table for table in made(wide()) if table.title == "accuracy")
    (long,) = (
        t
        for t in made([record("ncf", 8, 0, 0.1 + k, label=f"ncf[lr={k}]", id=str(k)) for k in range(200)])
        if t.title == "accuracy"
    )
    more = {"wide.tex": fragment(table, "x", "wide"), "long.tex": fragment(long, "x", "long")}
    assert more["long.tex"].count(r"\label") == 1
    assert "Continued, part 6 of 6" in more["long.tex"]
    assert more["wide.tex"].count(r"\begin{tabular}") >= 2
    names = [name.removesuffix(".tex") for name in more]
    tex = files["report.tex"].replace(
        r"\bibliographystyle", "\n".join(rf"\input{{{n}}}" for n in names) + r"\clearpage\bibliographystyle"
    )
    logs: list[str] = []
    assert compile_latex({**files, **more, "report.tex": tex}, logs=logs).startswith(b"%PDF")
    assert not re.findall(r"Overfull \\hbox.*|.*undefined.*|.*multiply.defined.*", logs[0])


@compiles
def test_fragments_need_two_packages_and_names_from_hell_break_none(tmp_path: Path) -> None:
    files = report(write(tmp_path / "bad", hostile()), tmp_path / "out")
    files["report.tex"] = files["report.tex"].replace(r"\IfFileExists{lmodern.sty}{\usepackage{lmodern}}{}", "")
    del files["otbench.bib"]  # one run is enough
    assert compile_latex(files).startswith(b"%PDF")
    packages = set(re.findall(r"\\usepackage(?:\[.*\])?\{(.*)\}", files["report.tex"]))
    assert packages == {"fontenc", "geometry", "booktabs,siunitx"}


def test_the_summary_is_a_page_with_the_names_of_papers(files: dict[str, str]) -> None:
    text = files["summary.tex"]
    assert r"\label{tab:summary}" in text
    assert "1: ImplicitOT" in text
    assert "fixedpoint" not in text
    assert text.count(r"\begin{table}") == 1
    assert r"\input{summary}" in files["report.tex"]


@compiles
def test_all_formulas_are_taken(tmp_path: Path) -> None:
    lines = [
        rf"\item[{found.head.replace('{map}', 'T')}] \[ {found.formula or 'x'} \]" for found in notations().values()
    ]
    body = "\n".join([r"\begin{description}", *lines, r"\end{description}"])
    text = document([], "x").replace(r"\bibliographystyle{plain}", body).replace(r"\bibliography{otbench}", "")
    assert compile_latex({"report.tex": text}).startswith(b"%PDF")
    assert definitions(made(small()), "x").count(r"\item") == 1  # both directions are one


def test_without_pdflatex_the_message_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match="texlive"):
        compile_latex({"report.tex": ""})


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed: LaTeX is not compiled")
def test_a_failure_of_pdflatex_is_told_in_its_own_words() -> None:
    with pytest.raises(UsageError, match="Undefined control sequence"):
        compile_latex({"report.tex": r"\documentclass{article}\begin{document}\nosuch\end{document}"})


@compiles
def test_the_summary_fits_a_page_whatever_is_in_it() -> None:
    root = Path(__file__).resolve().parents[2] / "results" / "reference"
    of_reference = summarise(read_all([root, *(root / task for task in ("mnist", "uci", "w2bench"))])[0])
    crowded = replace(of_reference, contests=of_reference.compared * 4)
    crowded.guide = [one for one in of_reference.guide if one.solvers] * 3
    crowded.scopes, crowded.equal_scopes = of_reference.scopes * 3, of_reference.equal_scopes
    for found in (of_reference, crowded):
        sources = {"summary.tex": summary(found, "c"), "report.tex": document(["summary"], "c", alone=1)}
        logs: list[str] = []
        assert compile_latex(sources, logs=logs).startswith(b"%PDF")
        assert "too large" not in logs[0]
        assert "[2]" not in logs[0]  # no second page
    assert "more}" in summary(crowded, "c")
    assert "more}" not in summary(replace(of_reference, contests=of_reference.compared[:8]), "c")
