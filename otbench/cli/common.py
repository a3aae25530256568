"""What all commands share: exit codes, the names of the program and of its folders, warnings."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from otbench.files import typed_path

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


def warn(lines: Sequence[str]) -> None:
    """Say `lines` on standard error."""
    for line in lines:
        sys.stderr.write(f"otbench: {line}\n")
