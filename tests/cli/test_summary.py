"""`otbench summary`: which records are read, where it is written, and what is said of a mistake."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from ..helpers.report_records import small, write

Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the results folder of a checkout that has reference records in a subfolder, and none of its own."""
    monkeypatch.setattr("otbench.cli.summary.results_folder", lambda: tmp_path / "results" / "local")
    write(tmp_path / "results" / "reference" / "some", small())
    return tmp_path / "results"


def test_without_a_folder_it_is_ones_own_records_and_the_reference_where_there_are_none(
    cli: Cli, results: Path
) -> None:
    code, out, err = cli("summary")
    assert (code, err) == (0, "")
    assert "fixedpoint" in out
    assert "results/reference/some" in out
    own = [one | {"spec": one["spec"] | {"solver": "mine"}, "label": "mine"} for one in small()[2:4]]  # type: ignore[operator]
    write(results / "local", own)
    code, out, _ = cli("summary")
    assert "mine" in out
    assert "fixedpoint" not in out


def test_it_is_written_between_marks_or_as_a_document_and_as_data(cli: Cli, results: Path, tmp_path: Path) -> None:
    page, new, data = tmp_path / "page.md", tmp_path / "new.md", tmp_path / "summary.json"
    page.write_text("top\n<!-- summary: -->\n<!-- end of the summary -->\nbottom\n", encoding="utf-8")
    folder = str(results / "reference")
    code, out, _ = cli("summary", folder, "--markdown", str(page), "--json", str(data))
    assert code == 0
    assert "written to" in out
    text = page.read_text(encoding="utf-8")
    assert text.startswith("top\n")
    assert text.endswith("bottom\n")
    assert "two samples, both maps" in text
    assert json.loads(data.read_text(encoding="utf-8"))["guide"]
    assert cli("summary", folder, "--markdown", str(new))[0] == 0
    assert new.read_text(encoding="utf-8").startswith("# Which solver when\n")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nowhere"], "FOLDER nowhere: no such folder"),
        (["."], "no records in .; make some with"),
        (["--task", "gausian"], "--task gausian: no such records"),
        (["--markdown", ""], "--markdown: the path is empty"),
    ],
)
def test_mistakes_are_named(
    cli: Cli, results: Path, words: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    code, _, err = cli("summary", *words)
    assert code == 2
    assert said in err
