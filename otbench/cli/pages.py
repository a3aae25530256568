"""Writes the pages of docs/ that are made from the code: one for each solver, baseline and task, and that of metrics.

`python -m otbench.cli.pages` in a checkout. What they say is what `otbench show` says; a test compares them.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from otbench.cli.show import PARAMETERS, Facts, facts_of
from otbench.plugins.registry import Registry
from otbench.registration import Kind, Registration
from otbench.report.notation import entry, notations

if TYPE_CHECKING:
    from otbench.reporting import Metric

_FOLDERS: Mapping[Kind, tuple[str, str, str]] = {
    # kind: folder in docs, folder of the code, what its index says first
    "solver": ("solvers", "solvers", "Methods that are trained. [add-a-solver.md](../add-a-solver.md) adds one."),
    "baseline": ("baselines", "baselines", "Rows that keep tables honest: no training, or a closed form."),
    "task": (
        "tasks",
        "datasets",
        "What solvers are trained and scored on. [add-a-task.md](../add-a-task.md) adds one.",
    ),
}
_MADE = "Made from the code by `python -m otbench.cli.pages`; a test compares the two."


def pages() -> dict[str, str]:
    """Return the pages by their paths below docs/, as Markdown."""
    registry, made, metrics = Registry(), {}, {}
    for kind, (folder, code, says) in _FOLDERS.items():
        rows = []
        for found in (e for e in registry.entries(kind) if e.origin == "built in"):
            registration = registry.load(found)
            facts = facts_of(found, registration)
            made[f"{folder}/{found.name}.md"] = _page(facts, registration, code)
            rows.append(f"| [{found.name}]({found.name}.md) | {_cell(found.summary)} |\n")
            if kind == "task":
                metrics[found.name] = registration.cls.metrics  # type: ignore[attr-defined]
        made[f"{folder}/README.md"] = (
            f"# {folder.capitalize()}\n\n{says} {_MADE}\n\n| | |\n| --- | --- |\n{''.join(rows)}"
        )
    made["metrics.md"] = _metrics(metrics)
    return made


def _page(facts: Facts, registration: Registration, code: str) -> str:
    name, parts = facts.entry.name, [f"# {facts.entry.name}\n\n{facts.summary}\n"]
    file = facts.path.as_posix().rpartition(f"/{code}/")[2]
    said = {"reference": facts.reference, "source": f"[{code}/{file}](../../{code}/{file})", **facts.said}
    parts.append("".join(f"* {head}: {words}\n" for head, words in said.items()))
    parts.append(f"{_MADE} On the terminal: `otbench show {name}`.\n")
    if facts.text:
        parts.append(f"## What it is\n\n{facts.text}\n")
    if facts.parameters:
        parts.append("## Parameters\n\n" + _table(PARAMETERS, facts.parameters))
    if facts.presets:
        parts.append("## Presets\n\n" + _table(("preset", "values"), [*facts.presets.items()]))
    if facts.search:
        parts.append("## Tried by `otbench tune`\n\n" + _table(("parameter", "values"), [*facts.search.items()]))
    if registration.kind == "task":
        rows = [
            (
                f"[`{m.name}`](../metrics.md#{_anchor(entry(m.name))})",
                m.label,
                m.unit,
                _better(m),
                "yes" if m.primary else "",
            )
            for m in registration.cls.metrics  # type: ignore[attr-defined]
        ]
        parts.append("## Metrics\n\n" + _table(("name", "label", "unit", "better", "primary"), rows))
    return "\n".join(parts)


def _table(heads: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """Return a table without columns that are empty throughout."""
    full = [k for k in range(len(heads)) if any(row[k] for row in rows)]
    lines = [tuple(heads[k] for k in full), ("---",) * len(full), *(tuple(_cell(row[k]) for k in full) for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _cell(text: str) -> str:
    """Return text for a table, in which neither bars nor angles nor signs of mathematics are read as such."""
    return re.sub(r"([|<*])", r"\\\1", text.replace("\n", " "))


def _better(metric: Metric) -> str:
    return "higher" if metric.higher_is_better else "lower"


# ------------------------------------------------------------------------------------------------------------- metrics


def _metrics(tasks: Mapping[str, tuple[Metric, ...]]) -> str:
    parts = [
        f"# Metrics\n\n{_MADE}\n",
        "T is the forward map and T* the exact one; S and S* go back. X ~ mu is a test point of the source, Y ~ nu of"
        " the target; primes mark independent copies. Means are over held-out test points. A name that ends in `_fwd`"
        " is of T, one in `_bwd` the same of S, with the two measures exchanged. A task shows its primary metrics; the"
        " others stand in records and in `--format csv`. [rules.md](rules.md#quality) says how to read them.\n",
    ]
    for key, found in notations().items():
        if not found.formula:
            continue
        using: dict[str, list[Metric]] = {}
        for task, metrics in tasks.items():
            for metric in (m for m in metrics if entry(m.name) == key):
                using.setdefault(task, []).append(metric)
        shown = {m.name: m for metrics in using.values() for m in metrics}
        units = ", ".join(dict.fromkeys(m.unit for m in shown.values() if m.unit))
        better = " or ".join(dict.fromkeys(_better(m) for m in shown.values()))
        primary = [task for task, metrics in using.items() if any(m.primary for m in metrics)]
        said = [f"`{name}`" for name in shown]
        said += [f"in {units}"] if units else []
        said.append(f"{better} is better")
        links = ", ".join(f"[{task}](tasks/{task}.md){' (primary)' if task in primary else ''}" for task in using)
        parts.append(f"## {key}\n\n$$ {found.formula} $$\n\n{found.says}\n\n{', '.join(said)}. Tasks: {links}.\n")
    parts.append(
        "## Notes of the code\n\nWhat the modules of `otbench.metrics` say of how these numbers are computed.\n"
    )
    parts += [f"### {name}\n\n{text}\n" for name, text in _notes()]
    return "\n".join(parts)


def _notes() -> Iterator[tuple[str, str]]:
    import otbench.metrics

    for module in sorted(info.name for info in pkgutil.iter_modules(otbench.metrics.__path__)):
        yield module, inspect.getdoc(importlib.import_module(f"otbench.metrics.{module}")) or ""


def _anchor(key: str) -> str:
    """Return the anchor of a heading, as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", key.lower()).replace(" ", "-")


def write(docs: Path) -> int:
    """Write all pages to `docs`, remove those of names that are gone, and return how many there are."""
    made = pages()
    for folder, _, _ in _FOLDERS.values():
        (docs / folder).mkdir(exist_ok=True)
        for old in (docs / folder).glob("*.md"):
            if f"{folder}/{old.name}" not in made:
                old.unlink()
    for name, text in made.items():
        (docs / name).write_text(text, encoding="utf-8")
    return len(made)


if __name__ == "__main__":
    root = Path(__file__).resolve().parents[2] / "docs"
    if not root.is_dir():
        sys.exit("otbench.cli.pages: there is no docs/ here; run it in a checkout")
    sys.stdout.write(f"{write(root)} pages in {root}\n")
