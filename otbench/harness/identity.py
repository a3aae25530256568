"""Which code makes a number, so that a record is never taken for the work of code that has since changed.

It is every module of this package or of a plugin that solver and task import, and that those import in turn, together
with the harness modules in `ROOTS`. They are found from the import statements, wherever these stand; nothing is
imported. What is imported by a name put together at run time is not seen, and neither are packages of others (torch,
NumPy): records hold their versions.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from otbench._links import TARGETS
from otbench.errors import UsageError
from otbench.plugins.code import PACKAGE
from otbench.plugins.code import modules_of as plugin_modules
from otbench.plugins.registry import Entry, Registry
from otbench.plugins.syntax import code_digest, digest, imported
from otbench.records.record import Record
from otbench.records.verified import Outcome, Verification

ROOTS = tuple(
    f"otbench.harness.{name}"
    for name in ("judge", "trainer", "applier", "images", "spool", "train", "evaluate", "measure")
)
"""What every run goes through: it seeds and draws, trains and ends the budget, applies maps and scores, reads clocks.
`problem`, `samplers`, `solver`, `task` and the like come in because these or a plugin import them."""

BEYOND = re.compile(r"otbench\.(cli|compare|plugins|records|report|harness\.(failures|guard|identity|messages))(\.|$)")
"""Where the search stops. The processes of a run find plugins, hear jobs and write records by these modules: they carry
numbers and make none, and a change of how results are found, kept or shown must not rename every run."""

HEAVY = ("ot", "scipy", "sklearn", "torchdiffeq")
"""Packages of others that take long to import, and are safe to have where processes are forked from."""

INPUT = "input "
"""What a record's source names begin with that are data, not code."""


def code_of(solver: Entry, task: Entry, *, package: Path = PACKAGE) -> dict[str, str]:
    """Return the digests of the code that makes the numbers of `solver` on `task`.

    Files of plugins have one each, by path; modules of this package have one for each room ("nets", "harness"), and
    those at its root one together ("otbench").

    Args:
        solver: solver or baseline.
        task: task.
        package: folder of this package, for another checkout than the one that runs.
    """
    parts: dict[str, list[str]] = {}
    for name, path in sorted(modules_of(solver, task, package=package).items()):
        parts.setdefault(_part(name, path), []).append(f"{name} {code_digest(path.read_bytes())}")
    return {part: digest("\n".join(lines).encode()) for part, lines in sorted(parts.items())}


def modules_of(solver: Entry, task: Entry, *, package: Path = PACKAGE) -> dict[str, Path]:
    """Return the files of the modules that make the numbers of `solver` on `task`, by full name of the module."""
    return plugin_modules((solver, task), ROOTS, beyond=BEYOND, package=package)


def packages_of(solver: Entry, task: Entry) -> list[str]:
    """Return what the modules of `solver` and `task` import of packages of others, by full name, without plugins'."""
    found: set[str] = set()
    built_in = [entry for entry in (solver, task) if entry.origin == "built in"]
    for name, path in plugin_modules(built_in, beyond=BEYOND).items():
        found |= imported(path.read_bytes(), name, package=path.name == "__init__.py")
    return sorted(name for name in found if name.partition(".")[0] in HEAVY)


def _part(name: str, path: Path) -> str:
    """Return under which name a record shows the digest of a module."""
    top, *rest = name.split(".")
    package = path.name == "__init__.py"
    if top == "otbench" and (not rest or rest[0] not in TARGETS):
        return rest[0] if len(rest) > 1 or (rest and package) else top
    parts = rest if top in ("otbench", "otbench_ext") else [top, *rest]
    return "/".join(parts) + ("/__init__.py" if package else ".py")


def code_hash(source: Mapping[str, str]) -> str:
    """Return one digest for all code named in `source`, as a record holds it; inputs do not count."""
    code = {name: value for name, value in source.items() if not name.startswith(INPUT)}
    return digest(json.dumps(code, sort_keys=True).encode())


@dataclass(frozen=True)
class Standing:
    """How records stand to the code of this checkout.

    Attributes:
        stale: id of each record that other code made, and the commit of that code in words.
        lifted: id of each record that other code made and that counts as current, and why: "2 of 5 verified".
    """

    stale: Mapping[str, str] = field(default_factory=dict)
    lifted: Mapping[str, str] = field(default_factory=dict)


def standing(records: Sequence[Record], registry: Registry, verified: Sequence[Verification] = ()) -> Standing:
    """Say which of `records` the code of this checkout made.

    Records of one solver on one task, made by the same code, are a group. Where `otbench verify` found some of a group
    to come out the same under the code of today and none to come out different, the whole group counts as current.

    Args:
        records: those that are shown.
        registry: where solvers and tasks are found; what is gone or broken has no current records.
        verified: what `otbench verify` found, of the same folders.
    """
    groups: dict[tuple[str, str, str], list[Record]] = {}
    for record in records:
        groups.setdefault((record.spec.solver, record.spec.task, code_hash(record.source)), []).append(record)
    now = {pair: current_hash(*pair, registry) for pair in {(solver, task) for solver, task, _ in groups}}
    stale: dict[str, str] = {}
    lifted: dict[str, str] = {}
    for (solver, task, then), members in groups.items():
        if now[solver, task] == then:
            continue
        ids, code = {record.id for record in members}, now[solver, task]
        outcomes = [v.outcome for v in verified if v.id in ids and (v.recorded, v.code) == (then, code)]
        same = [outcome for outcome in outcomes if outcome in (Outcome.EQUAL, Outcome.WITHIN)]
        if same and Outcome.DIFFERENT not in outcomes:
            lifted |= dict.fromkeys(ids, f"{len(same)} of {len(ids)} verified")
        else:
            stale |= {record.id: _commit(record) for record in members}
    return Standing(stale, lifted)


def current_hash(solver: str, task: str, registry: Registry) -> str | None:
    """Return the digest of the code that would make the numbers of `solver` on `task` now; None if one is gone."""
    try:
        return code_hash(code_of(registry.find(solver, "solver", "baseline"), registry.find(task, "task")))
    except (UsageError, OSError):
        return None


def _commit(record: Record) -> str:
    commit = record.environment.get("commit")
    return f"commit {str(commit)[:8]}" if commit else "an unknown commit"
