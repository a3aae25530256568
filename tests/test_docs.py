"""The pages under docs/ hold together: links, anchors, commands, and the reference made from the program."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token

from otbench.cli.program import parsers
from otbench.cli.reference import command_reference

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([*(ROOT / "docs").glob("*.md"), *ROOT.glob("*.md"), *(ROOT / "results" / "reference").rglob("*.md")])
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


def test_every_page_is_named_by_the_index() -> None:
    named = {link.partition("#")[0] for link in links(ROOT / "docs" / "README.md")}
    assert {page.name for page in (ROOT / "docs").glob("*.md")} - {"README.md"} <= named


@pytest.mark.parametrize("name", NAMES)
def test_shown_commands_have_no_unknown_words(name: str) -> None:
    parser, commands = parsers("otbench")
    text = (ROOT / name).read_text(encoding="utf-8")
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
