"""What all commands share: exit codes, the names of the program and of its folders, warnings."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from otbench._links import checkout_root

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

    return Registry([Path(path) for path in options.plugin])


def warn(lines: Sequence[str]) -> None:
    """Say `lines` on standard error."""
    for line in lines:
        sys.stderr.write(f"otbench: {line}\n")


def default_out() -> Path:
    """Return where records go unless the user says otherwise: results/local of the checkout, or of this folder."""
    return (checkout_root() or Path()) / "results" / "local"
