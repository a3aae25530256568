"""The pages under docs/ hold together: links, anchors, commands, and the reference made from the program."""

from __future__ import annotations

import inspect
import io
import re
import shlex
from pathlib import Path

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token
from rich.console import Console

import otbench
from otbench.cli.pages import pages
from otbench.cli.program import parsers
from otbench.cli.reference import command_reference
from otbench.plugins.check import check
from otbench.plugins.registry import Registry
from otbench.problem import Measure
from otbench.solver import HasValidate, Solver, Transport
from otbench.task import Instance, Task
from otbench.transport import Standardised

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([*(ROOT / "docs").rglob("*.md"), *ROOT.glob("*.md"), *(ROOT / "results" / "reference").rglob("*.md")])
FOLDERS = ("solvers", "baselines", "tasks")
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]


def tokens(page: Path) -> list[Token]:
    found = MarkdownIt("commonmark").enable("table").parse(page.read_text(encoding="utf-8"))
    return [token for block in found for token in (block, *(block.children or ()))]


def links(page: Path) -> list[str]:
    return [str(token.attrs["href"]) for token in tokens(page) if token.type == "link_open"]


def anchors(page: Path) -> set[str]:
    """What GitHub makes of the headings."""
    blocks = MarkdownIt("commonmark").enable("table").parse(page.read_text(encoding="utf-8"))
    heads = [blocks[k + 1].content for k, block in enumerate(blocks) if block.type == "heading_open"]
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("name", NAMES)
def test_links_lead_somewhere(name: str) -> None:
    page = ROOT / name
    for link in links(page):
        if re.match("https?://", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{name}: {link}"
        assert target.is_relative_to(ROOT), f"{name}: {link} leads out of the repository"
        if anchor:
            assert anchor in anchors(target), f"{name}: {link}"


@pytest.mark.parametrize("folder", ["docs", "docs/solvers", "docs/baselines", "docs/tasks"])
def test_every_page_is_named_by_the_index(folder: str) -> None:
    named = {link.partition("#")[0] for link in links(ROOT / folder / "README.md")}
    assert {page.name for page in (ROOT / folder).glob("*.md")} - {"README.md"} <= named


def test_pages_that_are_made_from_the_code_are_up_to_date() -> None:
    made = pages()
    for name, text in made.items():
        assert (ROOT / "docs" / name).read_text(encoding="utf-8") == text, f"{name}: run: python -m otbench.cli.pages"
    written = {f"{folder}/{page.name}" for folder in FOLDERS for page in (ROOT / "docs" / folder).glob("*.md")}
    assert written <= set(made)
    assert set(made) >= {"solvers/ncf.md", "baselines/linear.md", "tasks/gaussian.md", "metrics.md"}


def signature(name: str) -> str:
    """How a guide has to print a method, read from the code."""
    owner, _, method = name.partition(".")
    cls = {"Solver": Solver, "HasValidate": HasValidate, "Transport": Transport, "Measure": Measure}.get(owner)
    cls = cls or {"Task": Task, "Instance": Instance}[owner]
    abilities = {"backward", "log_prob", "velocity", "interpolate"}  # a Transport has these only where it defines them
    found = inspect.getattr_static(Standardised if method in abilities else cls, method)
    function = getattr(found, "method", getattr(found, "__func__", found))
    return f"{name}{inspect.signature(function)}".replace("'", "")


@pytest.mark.parametrize(
    ("guide", "owners"),
    [("add-a-solver", (Solver, HasValidate, Transport)), ("add-a-task", (Task, Instance))],
)
def test_signatures_in_the_guides_are_those_of_the_code(guide: str, owners: tuple[type, ...]) -> None:
    text = (ROOT / "docs" / f"{guide}.md").read_text(encoding="utf-8")
    shown = re.findall(r"^    ((\w+\.\w+)\(.*)$", text.partition("## Signatures")[2], re.MULTILINE)
    for line, name in shown:
        assert line == signature(name)
    names = {name for _, name in shown}
    for owner in owners:
        abstract = {f"{owner.__name__}.{name}" for name in getattr(owner, "__abstractmethods__", ())}
        assert abstract <= names
    assert len(names) > 10


def test_the_example_of_a_network_passes_the_kit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("otbench.plugins.check.RUN_SECONDS", 0.5)
    text = (ROOT / "docs" / "add-a-solver.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (tmp_path / "moved.py").write_text(code)
    registry = Registry([tmp_path / "moved.py"])
    out = io.StringIO()
    assert check(registry.load(registry.find("moved")), device="cpu", out=Console(file=out, width=200)), out.getvalue()


def test_the_citation_file_has_what_its_format_asks_for() -> None:
    text = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    fields = dict(re.findall(r"^([a-z-]+): *(.*)$", text, re.MULTILINE))
    assert fields["cff-version"] == "1.2.0"
    assert {"message", "title", "authors"} <= fields.keys()
    assert fields["version"] == otbench.__version__
    assert fields["license"] == "MIT"
    assert "  - name: otbench developers" in text


@pytest.mark.parametrize("name", NAMES)
def test_shown_commands_have_no_unknown_words(name: str) -> None:
    parser, commands = parsers("otbench")
    text = (ROOT / name).read_text(encoding="utf-8").replace("\\\n", "")
    for line in re.findall(r"^ {4,}python bench\.py ([^#\n]*)", text, re.MULTILINE):
        words = shlex.split(line)
        if words[0] not in commands:
            words = ["run", *words]
        _, unknown = parser.parse_known_args(words)
        assert not unknown, f"{name}: {line}"


def test_the_command_reference_is_up_to_date() -> None:
    written = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    assert written == command_reference(), "run: python -m otbench.cli.reference > docs/commands.md"


def test_every_command_and_option_has_its_help() -> None:
    rows = re.findall(r"^\| `(.*)` \| (.*)\|$", command_reference(), re.MULTILINE)
    assert len(rows) > 40
    assert [name for name, text in rows if not text.strip()] == []


def test_the_workflow_runs_what_the_repository_has() -> None:
    text = (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
    assert "run: .ci/run" in text
    for script in (ROOT / ".ci" / "run", ROOT / ".ci" / "compare"):
        assert script.stat().st_mode & 0o100, f"{script} cannot be run"
    assert text.count(".tox/regressions/") == 5
