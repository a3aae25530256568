"""What a solver reaches for beyond what it is given, as Python's audit hooks show it: for `otbench check`.

This is no wall: code that wants to hide can. It names what an author, or whoever reads a plugin, should know of: code
of tasks, from which exact maps can be worked out; files, through which processes could hand each other notes;
connections, and other processes.
"""

from __future__ import annotations

import contextlib
import os
import site
import sys
import sysconfig
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from otbench.plugins.syntax import imported

_TASKS = "otbench.datasets"
_PROCESSES = ("os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "os.system", "subprocess.Popen")
_CONNECTIONS = ("socket.bind", "socket.connect", "socket.sendto", "urllib.Request")
_DEVICES = ("/dev", "/proc", "/sys")
_CACHES = ("torchinductor_", "torch_extensions", "triton")
"""Where torch keeps compiled code: what the names of these folders have in them."""

_listeners: list[tuple[set[str], Path]] = []


@contextlib.contextmanager
def watched(plugin: Path) -> Iterator[set[str]]:
    """Collect, in words, what is opened, imported, started or connected to inside.

    To read Python, installed packages, this package without its tasks, and the file `plugin`, is no finding.
    """
    _hook()
    found: set[str] = set()
    before = set(sys.modules)
    _listeners.append((found, plugin.resolve()))
    try:
        yield found
    finally:
        _listeners.pop()
        found |= {f"imports {name}" for name in sys.modules if name not in before and _of_tasks(name)}


def task_imports(plugin: Path) -> list[str]:
    """Return what the file of a plugin imports of tasks, found in its text; nothing is imported."""
    names = imported(plugin.read_bytes(), plugin.stem, package=plugin.name == "__init__.py")
    return sorted(name for name in names if _of_tasks(name))


@cache
def _hook() -> None:
    sys.addaudithook(_heard)  # stays for as long as the process does


def _heard(event: str, arguments: tuple[object, ...]) -> None:
    for found, plugin in _listeners:
        if text := _finding(event, arguments, plugin):
            found.add(text)


def _finding(event: str, arguments: tuple[object, ...], plugin: Path) -> str:
    if event == "import" and _of_tasks(str(arguments[0])):
        return f"imports {arguments[0]}"
    if event in _PROCESSES:
        return f"starts a process ({event})"
    if event in _CONNECTIONS:
        return f"connects to something ({event})"
    if event == "open" and isinstance(arguments[0], (str, bytes, os.PathLike)):
        path = os.path.realpath(os.fsdecode(arguments[0]))
        if path != str(plugin) and not _allowed(path):
            return f"opens {path}"
    return ""


def _allowed(path: str) -> bool:
    within = any(path == folder or path.startswith(folder + os.sep) for folder in _folders())
    return (within and not _data_of_tasks(path)) or any(name in path for name in _CACHES)


def _data_of_tasks(path: str) -> bool:
    return path.startswith(os.path.realpath(_package() / "datasets") + os.sep)


@cache
def _folders() -> tuple[str, ...]:
    """Return the folders of Python, of what is installed, and of this package with its plugins."""
    places = [sys.prefix, sys.base_prefix, *sysconfig.get_paths().values(), *site.getsitepackages(), *_DEVICES]
    package = _package()
    places += [str(folder) for folder in (package, package / "solvers", package / "baselines")]
    return tuple({os.path.realpath(place) for place in places})


def _package() -> Path:
    return Path(__file__).parents[1]


def _of_tasks(name: str) -> bool:
    return name == _TASKS or name.startswith(f"{_TASKS}.")
