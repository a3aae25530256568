"""The modules that make up a plugin: its file, what that imports of this package or beside it, and so on.

They are found from the import statements, wherever these stand; nothing is imported. What is imported by a name put
together at run time is not seen, and neither are packages of others (torch, NumPy).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

from otbench._links import TARGETS
from otbench.plugins.registry import Entry
from otbench.plugins.syntax import code_digest, digest, imported

PACKAGE = Path(__file__).parents[1]
"""The folder of this package."""


def modules_of(
    entries: Sequence[Entry],
    roots: Sequence[str] = (),
    *,
    beyond: re.Pattern[str] | None = None,
    package: Path = PACKAGE,
) -> dict[str, Path]:
    """Return the files of all modules that make up plugins, by full name of the module.

    Args:
        entries: the plugins.
        roots: modules of this package that count beside them.
        beyond: names where the search stops.
        package: folder of this package, for another checkout than the one that runs.
    """
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
        waiting |= {part for part in whole - seen if not (beyond and beyond.match(part))}
    return found


def digest_of(entry: Entry) -> str:
    """Return one digest for all code of a plugin; empty where its files cannot be read."""
    try:
        lines = [f"{name} {code_digest(path.read_bytes())}" for name, path in sorted(modules_of([entry]).items())]
    except OSError:
        return ""
    return digest("\n".join(lines).encode())


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
