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
from importlib.util import find_spec
from pathlib import Path

from otbench._links import TARGETS
from otbench.errors import UsageError
from otbench.harness.syntax import code_digest, digest, imported
from otbench.plugins.registry import Entry, Registry
from otbench.records.record import Record
from otbench.records.verified import Outcome, Verification

ROOTS = tuple(
    f"otbench.harness.{name}"
    for name in ("judge", "trainer", "applier", "images", "spool", "train", "evaluate", "measure")
)
"""What every run goes through: it seeds and draws, trains and ends the budget, applies maps and scores, reads clocks.
`problem`, `samplers`, `solver`, `task` and the like come in because these or a plugin import them."""

BEYOND = re.compile(
    r"otbench\.(cli|compare|plugins|records|report|harness\.(failures|guard|identity|messages|syntax))(\.|$)"
)
"""Where the search stops. The processes of a run find plugins, hear jobs and write records by these modules: they carry
numbers and make none, and a change of how results are found, kept or shown must not rename every run."""

INPUT = "input "
"""What a record's source names begin with that are data, not code."""

_PACKAGE = Path(__file__).parents[1]


def code_of(solver: Entry, task: Entry, *, package: Path = _PACKAGE) -> dict[str, str]:
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


def solver_code(solver: Entry) -> str:
    """Return one digest of the code that makes the maps of `solver`: its module, and what that imports in turn."""
    found = sorted(_modules((solver,), ()).items())
    return digest("\n".join(f"{name} {code_digest(path.read_bytes())}" for name, path in found).encode())


def modules_of(solver: Entry, task: Entry, *, package: Path = _PACKAGE) -> dict[str, Path]:
    """Return the files of the modules that make the numbers of `solver` on `task`, by full name of the module."""
    return _modules((solver, task), ROOTS, package=package)


def _modules(entries: Sequence[Entry], roots: Sequence[str], *, package: Path = _PACKAGE) -> dict[str, Path]:
    homes = {"otbench": package.parent}
    found = {entry.module: entry.path for entry in entries if entry.origin == "plugin" and entry.path}
    beside = [path.parent for path in found.values()]
    for entry in entries:
        if entry.origin not in ("plugin", "built in") and (home := _home(entry.module)) is not None:
            homes[entry.module.partition(".")[0]] = home
    waiting, seen = {*roots, *(entry.module for entry in entries)}, set()
    while waiting:
        name = waiting.pop()
        seen.add(name)
        path = found.get(name) or _file(name, homes, beside)
        if path is None:  # a name inside a module, a folder without __init__.py, or somebody else's package
            continue
        found[name] = path
        names = imported(path.read_bytes(), name, package=path.name == "__init__.py")
        # a module is imported after the packages that it lies in
        whole = {".".join(full.split(".")[:n]) for full in (name, *names) for n in range(1, full.count(".") + 2)}
        waiting |= {part for part in whole - seen if not BEYOND.match(part)}
    return found


def _home(module: str) -> Path | None:
    """Return the folder that holds the top-level package or module of an installed plugin, without importing it."""
    spec = find_spec(module.partition(".")[0])
    if spec is None:
        return None
    places = list(spec.submodule_search_locations or ()) or [spec.origin or ""]
    return Path(places[0]).parent


def _file(name: str, homes: Mapping[str, Path], beside: Sequence[Path]) -> Path | None:
    top, *rest = name.split(".")
    places = [homes[top].joinpath(top, *rest)] if top in homes else [folder.joinpath(top, *rest) for folder in beside]
    if top == "otbench" and rest and rest[0] in TARGETS:  # a checkout without links
        places.append(homes[top].joinpath(TARGETS[rest[0]], *rest[1:]))
    for place in places:
        for path in (place / "__init__.py", place.with_name(f"{place.name}.py")):
            if path.is_file():
                return path
    return None


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
