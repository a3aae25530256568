"""Finds solvers, baselines and tasks by name without importing them, and knows where each came from.

Three places, in this order: the plugin folders (`solvers/`, `baselines/`, `datasets/`: a plugin is a file or a package;
names that begin with `_` are private), the entry points `otbench.solvers`, `otbench.baselines`, `otbench.datasets` of
installed packages, and files given by `--plugin`. Names are read from the decorator calls in the source. A broken file
or a doubled name is reported and hurts nobody else.
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
from otbench.names import hint
from otbench.registration import Kind, Registration, registrations

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
            PluginError: a file of `plugins` does not exist or registers nothing (the user asked for it by name).
        """
        self.plugins = tuple(dict.fromkeys(Path(path).resolve() for path in plugins))
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
            if not path.is_file():
                raise PluginError(f"--plugin {path}: no such file")
            if any(entry.path is not None and entry.path.resolve() == path for entry in self._entries.values()):
                continue  # a file of the plugin folders, named once more
            before = len(self._entries) + len(self.problems)
            self._read(path, f"otbench_ext.{path.stem}", "plugin")
            if len(self._entries) + len(self.problems) == before:
                raise PluginError(
                    f"--plugin {path}: registers nothing; decorate a class with register_solver, register_baseline "
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
            if name in Path(p.where).name or p.where.rpartition(":")[0] in asked_for
        )
        raise UsageError(f"unknown {what} '{name}'{hint(name, known, 'known')}{broken}")

    def load(self, entry: Entry) -> Registration:
        """Import the file of `entry` and return its registration.

        Raises:
            PluginError: the import fails; the message holds the file, the line and the error.
        """
        if entry.name in self._loaded:
            return self._loaded[entry.name]
        try:
            module = self._import(entry)
        except OtbenchError as error:
            raise PluginError(f"{entry.kind} '{entry.name}' ({entry.where}): {error}") from error
        except (Exception, SystemExit) as error:  # any error of a plugin is the plugin's own: report it, go on
            raise PluginError(f"{entry.kind} '{entry.name}' cannot be imported: {_located(error, entry)}") from error
        for value in vars(module).values():
            for note in registrations(value):
                if note.name == entry.name and note.kind == entry.kind:
                    self._loaded[entry.name] = note
                    return note
        raise PluginError(f"{entry.kind} '{entry.name}' ({entry.where}): no class registered under this name")

    def _import(self, entry: Entry) -> ModuleType:
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
        sys.modules[entry.module] = module
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[entry.module]
            raise
        return module

    def _read(self, path: Path, module: str, origin: str) -> None:
        try:
            tree = ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
        except (SyntaxError, ValueError, OSError) as error:
            line = getattr(error, "lineno", None) or 0
            self.problems.append(BrokenPlugin(f"{path}:{line}", f"{type(error).__name__}: {error}"))
            return
        for node in tree.body:
            if isinstance(node, ast.ClassDef):
                for decorator in node.decorator_list:
                    kind, name = _announced(decorator)
                    if kind and name:
                        summary = (ast.get_docstring(node) or "").split("\n")[0]
                        self._add(Entry(kind, name, summary, origin, module, path, decorator.lineno))

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


def _plugin_files(folder: Path) -> list[Path]:
    """Return the modules and packages of a plugin folder; names that begin with `_` are private."""
    found = [*folder.glob("[!_]*.py"), *folder.glob("[!_]*/__init__.py")]
    return sorted(found, key=lambda path: path.parent.name if path.parent != folder else path.stem)


def _announced(decorator: ast.expr) -> tuple[Kind | None, str | None]:
    """Return (kind, name) if `decorator` is a register call with a plain string in front."""
    if not isinstance(decorator, ast.Call) or not decorator.args:
        return None, None
    function = decorator.func
    called = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    first = decorator.args[0]
    name = first.value if isinstance(first, ast.Constant) and isinstance(first.value, str) else None
    return _DECORATORS.get(called), name


def _located(error: BaseException, entry: Entry) -> str:
    """Return "file:line: Type: message": the last line of the plugin that led to `error`, or the one not readable."""
    if isinstance(error, SyntaxError):
        return f"{error.filename}:{error.lineno}: {type(error).__name__}: {error.msg}"
    frames = traceback.extract_tb(error.__traceback__)
    frame = ([f for f in frames if f.filename == str(entry.path)] or frames)[-1]
    return f"{frame.filename}:{frame.lineno}: {type(error).__name__}: {error}"
