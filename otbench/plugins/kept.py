"""Kept maps: who made one, and how it is read again with the code that is here."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import torch

from otbench import __version__
from otbench.data.mapfile import read_map
from otbench.errors import DataError, OtbenchWarning, UsageError
from otbench.files import shown
from otbench.names import plain
from otbench.plugins.code import digest_of
from otbench.plugins.registry import Entry, Registry
from otbench.problem import Problem
from otbench.transport import Origin, Transport


def origin_of(entry: Entry, problem: Problem, *, run: str = "") -> Origin:
    """Return what a file of a map says of its origin.

    Args:
        entry: the solver or baseline.
        problem: what it was trained on.
        run: id of the run; empty outside the harness.
    """
    return Origin(
        solver=entry.name,
        kind=entry.kind,
        plugin=entry.path.name if entry.origin == "plugin" and entry.path is not None else "",
        code=digest_of(entry),
        version=__version__,
        run=run,
        source_shape=problem.source.shape,
        target_shape=problem.target.shape,
        classes=problem.classes,
        colours=problem.colours,
    )


def load_map(path: Path, *, plugins: Sequence[Path] = (), device: str | torch.device = "cpu") -> Transport:
    """Return the maps that a file keeps, in evaluation mode. Nothing in the file is executed.

    The code of their solver is loaded first, by its name. Where it has changed since, the maps are loaded if they still
    fit, with a warning.

    Args:
        path: the file.
        plugins: files that register more solvers; one that was given by `--plugin` must be given again.
        device: where the maps go.

    Raises:
        DataError: the file is missing, damaged, or does not fit the code that is here.
        PluginError: the solver's code cannot be loaded.
    """
    file = read_map(path)
    registry = Registry(plugins)
    try:
        origin = Origin.read(file.origin)
        entry = _maker(origin, registry)
        registry.load(entry)
        transport = Transport.restored(file, torch.device(device))
    except DataError as error:
        raise DataError(f"{shown(path)}: {error}") from None
    if origin.code != digest_of(entry):
        made = f"version {origin.version}" if origin.version and origin.version != __version__ else "other code"
        warnings.warn(
            f"{shown(path)}: made by {made} of {plain(origin.kind)} '{origin.solver}' than is here; its images may"
            " differ from those of then",
            OtbenchWarning,
            stacklevel=2,
        )
    return transport


def _maker(origin: Origin, registry: Registry) -> Entry:
    """Return the solver or baseline that made a map.

    Raises:
        DataError: nobody here has this name.
    """
    try:
        return registry.find(origin.solver, "solver", "baseline")
    except UsageError as error:
        if origin.plugin:
            raise DataError(
                f"its {origin.kind} '{origin.solver}' is registered by {origin.plugin}, which must be given again"
                f" (--plugin {origin.plugin}; in Python: plugins=[...])"
            ) from None
        raise DataError(f"who made it is not known here: {error}") from None
