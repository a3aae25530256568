"""What all commands share: exit codes, the names of the program and of its folders, warnings."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from otbench.errors import UsageError
from otbench.files import shown, typed_path

if TYPE_CHECKING:
    from otbench.plugins.registry import Registry

EXIT_FAILED_ROWS = 1
EXIT_USAGE = 2
EXIT_NOTHING_COMPARED = 3
EXIT_INTERRUPTED = 130

Command: TypeAlias = Callable[[argparse.Namespace], int]
"""What a command does: takes its options, returns the exit code."""
AddCommand: TypeAlias = Callable[[str, Command, str], argparse.ArgumentParser]
"""Announces a command by name, function and what it does in words; returns its parser."""


def program_name() -> str:
    """Return how the user called this program, for commands in messages."""
    return "python bench.py" if Path(sys.argv[0]).name == "bench.py" else "otbench"


def registry_of(options: argparse.Namespace) -> Registry:
    """Return all names that this call of the program knows."""
    from otbench.plugins.registry import Registry

    return Registry(plugin_files(options))


def plugin_files(options: argparse.Namespace) -> list[Path]:
    """Return the files given by `--plugin`."""
    return [typed_path(path, "--plugin") for path in options.plugin]


def data_folder(typed: str | None) -> Path | None:
    """Return the folder with the user's own copies of data: as typed, or from the environment; None for neither."""
    if typed is not None:
        return typed_path(typed, "--data-dir", folder=True)
    named = os.environ.get("OTBENCH_DATA_DIR")
    return typed_path(named, "OTBENCH_DATA_DIR", folder=True) if named else None


def out_folder(typed: str, option: str) -> Path:
    """Return the folder that a command writes to; nothing need be there yet.

    Raises:
        UsageError: it is no path, or a file lies where a folder must be.
    """
    path = typed_path(typed, option)
    if (file := _in_the_way(path)) is not None:
        said = "is a file" if file == path else f"{shown(file)} is a file"
        raise UsageError(f"{option} {shown(path)}: {said}, not a folder; name a folder, old or new")
    return path


def out_file(typed: str, option: str) -> Path:
    """Return the file that a command writes; a pipe or a device will do, too.

    Raises:
        UsageError: it is no path, is a folder, or lies below a file.
    """
    path = typed_path(typed, option)
    if path.is_dir():
        raise UsageError(f"{option} {shown(path)}: is a folder, not a file; name a file in it")
    if (file := _in_the_way(path.parent)) is not None:
        raise UsageError(f"{option} {shown(path)}: {shown(file)} is a file, not a folder; name another file")
    return path


def _in_the_way(folder: Path) -> Path | None:
    """Return what is no folder and lies at `folder`, or above it; None where there is no such thing."""
    for path in (folder, *folder.parents):
        try:
            if path.exists():
                return None if path.is_dir() else path
        except OSError:  # no permission to look: writing says so
            return None
    return None


def warn(lines: Sequence[str]) -> None:
    """Say `lines` on standard error."""
    for line in lines:
        sys.stderr.write(f"otbench: {line}\n")
