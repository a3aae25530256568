"""Finds solvers, baselines and tasks by name without importing them, and knows where each came from.

Three places, in this order: the plugin folders (`solvers/`, `baselines/`, `datasets/`: a plugin is a file or a package;
names that begin with `_` are private), the entry points `otbench.solvers`, `otbench.baselines`, `otbench.datasets` of
installed packages, and files given by `--plugin`. Names are read from the decorator calls in the source. A broken file
or a doubled name is reported and hurts nobody else; a broken file that the user named is an error.
"""

from __future__ import annotations

import ast
import importlib
import importlib.metadata
import importlib.util
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from otbench import _links
from otbench.errors import OtbenchError, PluginError, UsageError
from otbench.files import SHOWN, read_regular, shown
from otbench.names import hint
from otbench.records.words import why_unread
from otbench.registration import Kind, Registration, registrations

MAX_SOURCE = 2**24
"""Bytes that a plugin file may have."""
_FOLDERS = ("solvers", "baselines", "datasets")
_DECORATORS: dict[str, Kind] = {
    "register_solver": "solver",
    "register_baseline": "baseline",
    "register_task_row": "baseline",
    "register_task": "task",
}


@dataclass(frozen=True)
class Entry:
    """One name that can be asked for.

    Attributes:
        kind: solver, baseline or task.
        name: what a user types.
        summary: first line of the class docstring; empty where it is not known without importing.
        origin: "built in", "entry point NAME" or "plugin".
        module: importable module name.
        path: file; None for entry points not imported yet.
        line: line of the decorator, 0 where unknown.
    """

    kind: Kind
    name: str
    summary: str
    origin: str
    module: str
    path: Path | None
    line: int

    @property
    def where(self) -> str:
        """`file:line`, or the module where the file is not known."""
        return f"{self.path}:{self.line}" if self.path else self.module


@dataclass(frozen=True)
class BrokenPlugin:
    """A plugin that cannot be used, for the report: where and why."""

    where: str
    reason: str


class Registry:
    """All names known to this call of the program."""

    def __init__(self, plugins: Sequence[Path] = ()) -> None:
        """Look through the folders, the entry points and the files in `plugins`.

        Raises:
            PluginError: a file of `plugins` does not exist, cannot be read or registers nothing.
        """
        self.plugins = tuple(dict.fromkeys(path.resolve() for path in plugins))
        self.problems: list[BrokenPlugin] = []
        self._entries: dict[str, Entry] = {}
        self._doubled: dict[str, list[str]] = {}
        self._loaded: dict[str, Registration] = {}
        for folder in _FOLDERS:
            for path in _plugin_files(_links.folder(folder)):
                stem = path.parent.name if path.name == "__init__.py" else path.stem
                self._read(path, f"otbench.{folder}.{stem}", "built in")
        self._read_entry_points()
        for path in self.plugins:
            self._read_plugin(path, f"--plugin {shown(path)}")

    def add_plugin(self, path: Path, typed: str) -> None:
        """Look through one more file, named `typed` in messages.

        Raises:
            PluginError: as of the files that a registry is made with.
        """
        path = path.resolve()
        if path not in self.plugins:
            self.plugins = (*self.plugins, path)
            self._read_plugin(path, typed)

    def _read_plugin(self, path: Path, typed: str) -> None:
        if not path.is_file():
            why = "no such file" if not path.exists() else "is a folder" if path.is_dir() else "not a regular file"
            raise PluginError(f"{typed}: {why}")
        if any(entry.path is not None and entry.path.resolve() == path for entry in self._entries.values()):
            return  # a file of the plugin folders, named once more
        before = len(self._entries) + len(self.problems)
        if not self._read(path, f"otbench_ext.{path.stem}", "plugin"):
            line = self.problems[-1].where.removeprefix(str(path))
            raise PluginError(f"{typed}{line}: {self.problems[-1].reason}")
        if len(self._entries) + len(self.problems) == before:
            raise PluginError(
                f"{typed}: registers nothing; decorate a class with register_solver, register_baseline "
                "or register_task from otbench.solver or otbench.task"
            )

    def entries(self, *kinds: Kind) -> list[Entry]:
        """Return the entries of `kinds` (all if none is given), by kind and name."""
        chosen = [entry for entry in self._entries.values() if not kinds or entry.kind in kinds]
        return sorted(chosen, key=lambda entry: (entry.kind, entry.name))

    def find(self, name: str, *kinds: Kind) -> Entry:
        """Return the entry called `name`.

        Raises:
            UsageError: there is none (the message names the nearest), or there are two.
        """
        known = {entry.name: entry for entry in self.entries(*kinds)}
        if name in self._doubled:
            places = " and ".join(self._doubled[name])
            raise UsageError(f"'{name}' is registered twice, by {places}; rename one of the two")
        if name in known:
            return known[name]
        what = " or ".join(kinds) if kinds else "solver, baseline or task"
        asked_for = [str(path) for path in self.plugins]  # the user gave these files: what is wrong there matters
        broken = "".join(
            f" ({p.where} is left out: {p.reason})"
            for p in self.problems
            if name in Path(p.where).name or p.where in asked_for or p.where.rpartition(":")[0] in asked_for
        )
        raise UsageError(f"unknown {what} '{name}'{hint(name, known, 'known')}{broken}")

    def load(self, entry: Entry) -> Registration:
        """Import the file of `entry` and return its registration.

        Raises:
            PluginError: the import fails, or the class is not of the registered kind; the message holds file and line.
        """
        if entry.name not in self._loaded:
            self._loaded[entry.name] = load_entry(entry)
        return self._loaded[entry.name]

    def load_plugins(self) -> None:
        """Import the files given by `--plugin`: whoever names one wants to know that it is broken.

        Raises:
            PluginError: as `load`.
        """
        for entry in self._entries.values():
            if entry.origin == "plugin":
                self.load(entry)

    def _read(self, path: Path, module: str, origin: str) -> bool:
        """Add the names that `path` announces; False, and a problem, if it cannot be read."""
        try:
            tree = ast.parse(read_regular(path, MAX_SOURCE).decode(), filename=str(path))
        except (SyntaxError, ValueError, OSError, RecursionError, MemoryError) as error:  # last: nested too deep
            line = getattr(error, "lineno", None)
            unread = isinstance(error, (OSError, UnicodeDecodeError))
            reason = why_unread(error) if unread else f"{type(error).__name__}: {error}"
            self.problems.append(BrokenPlugin(f"{path}:{line}" if line else str(path), reason))
            return False
        for node in tree.body:
            if isinstance(node, ast.ClassDef):
                summary = (ast.get_docstring(node) or "").split("\n")[0]
                for decorator in node.decorator_list:
                    match decorator:
                        case ast.Call(
                            ast.Name(id=called) | ast.Attribute(attr=called), [ast.Constant(value=str(name)), *_]
                        ) if name and (kind := _DECORATORS.get(called)):
                            self._add(Entry(kind, name, summary, origin, module, path, decorator.lineno))
        return True

    def _read_entry_points(self) -> None:
        kinds: dict[str, Kind] = {"solvers": "solver", "baselines": "baseline", "datasets": "task"}
        for folder, kind in kinds.items():
            for point in importlib.metadata.entry_points(group=f"otbench.{folder}"):
                origin = f"entry point {point.dist.name}" if point.dist else "entry point"
                self._add(Entry(kind, point.name, "", origin, point.module, None, 0))

    def _add(self, entry: Entry) -> None:
        first = self._entries.get(entry.name)
        if first is None:
            self._entries[entry.name] = entry
        elif (first.module, first.path, first.line) != (entry.module, entry.path, entry.line):
            self._doubled.setdefault(entry.name, [first.where]).append(entry.where)
            reason = f"the name '{entry.name}' is already taken by {first.where}; rename one of the two"
            self.problems.append(BrokenPlugin(entry.where, reason))


def load_entry(entry: Entry) -> Registration:
    """Import the file of `entry` and return its registration.

    Raises:
        PluginError: the import fails, or the class is not of the registered kind; the message holds file and line.
    """
    from otbench.solver import Solver  # here: imports torch, which a list of names need not wait for
    from otbench.task import Task

    try:
        module = _import(entry)
    except OtbenchError as error:
        raise PluginError(f"{entry.kind} '{entry.name}' ({entry.where}): {error}") from error
    except (Exception, SystemExit, GeneratorExit) as error:  # a plugin's error is its own: report it, go on
        why = located(error, entry.path)
        raise PluginError(f"{entry.kind} '{entry.name}' cannot be imported: {why}") from error
    base = Task if entry.kind == "task" else Solver
    for value in vars(module).values():
        for found in registrations(value):
            if found.name == entry.name and found.kind == entry.kind:
                if not (found.scored_by_task or issubclass(found.cls, base)):
                    raise PluginError(
                        f"{entry.kind} '{entry.name}' ({entry.where}): class {found.cls.__name__} must be derived "
                        f"from {base.__module__}.{base.__name__}"
                    )
                old = [name for name in ("forward_map", "stored_modules") if hasattr(found.cls, name)]
                if old and base is Solver and "transport" in getattr(found.cls, "__abstractmethods__", ()):
                    raise PluginError(
                        f"{entry.kind} '{entry.name}' ({entry.where}): written for an earlier version of otbench: "
                        f"move {', '.join(old)} and the like to a Transport, and return it from transport() "
                        "(docs/add-a-solver.md)"
                    )
                return found
    raise PluginError(f"{entry.kind} '{entry.name}' ({entry.where}): no class registered under this name")


def _import(entry: Entry) -> ModuleType:
    if entry.origin != "plugin":
        return importlib.import_module(entry.module)
    assert entry.path is not None
    loaded = sys.modules.get(entry.module)
    if loaded is not None and getattr(loaded, "__file__", None) == str(entry.path):
        return loaded
    spec = importlib.util.spec_from_file_location(entry.module, entry.path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault(package := entry.module.partition(".")[0], ModuleType(package))  # pickle asks for it
    sys.modules[entry.module] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[entry.module]
        raise
    return module


def _plugin_files(folder: Path) -> list[Path]:
    """Return the modules and packages of a plugin folder; names that begin with `_` are private."""
    found = [*folder.glob("[!_]*.py"), *folder.glob("[!_]*/__init__.py")]
    return sorted(found, key=lambda path: path.parent.name if path.parent != folder else path.stem)


def located(error: BaseException, path: Path | None) -> str:
    """Return "file:line: Type: message": the last line of `path` that led to `error`, else the last of all."""
    if isinstance(error, SyntaxError):
        return f"{error.filename}:{error.lineno}: {type(error).__name__}: {error.msg}"
    frames = traceback.extract_tb(error.__traceback__)
    frame = ([f for f in frames if f.filename == str(path)] or frames)[-1]
    try:
        text = str(error)[:SHOWN]
    except Exception:  # a plugin's exception may fail even at that
        text = "(its message cannot be read)"
    return f"{frame.filename}:{frame.lineno}: {type(error).__name__}: {text}"
