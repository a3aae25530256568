"""What runs can be asked for: the options of `otbench run`, as typed and as configuration files hold them."""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from otbench.cli.common import data_folder
from otbench.errors import UsageError
from otbench.files import shown
from otbench.names import hint
from otbench.records.words import why_unread

if TYPE_CHECKING:
    from otbench.harness.plan import Request

RUN_OPTIONS: tuple[tuple[str, type[str] | type[int] | type[float], str, str], ...] = (
    # name, kind, metavar, help; every one can also stand in a --config file
    ("solvers", str, "LIST", "solvers by name, with parameters and grids: 'ncf[lr=1e-4|1e-3],fixedpoint'; or 'all'"),
    ("task", str, "TASK", "task by name, with parameters and grids: 'gaussian[dim=2|8]'"),
    ("dim", str, "LIST", "short for the task's parameter dim: 2,8,32"),
    ("seeds", str, "LIST", "run seeds: 0,1,2 or 0-2 (default: 0)"),
    (
        "preset",
        str,
        "NAME",
        "smoke (seconds), quick (default: about a minute a solver), full (our best), paper (the authors')",
    ),
    ("steps", int, "N", "training steps of every solver (default: the preset's)"),
    ("time-limit", float, "S", "training seconds of every solver, instead of the preset's steps"),
    ("cpu-limit", float, "S", "the same in CPU seconds, of which a busy machine takes none away"),
    ("hard-limit", float, "S", "wall-clock seconds after which a run is ended as `timeout`"),
    ("device", str, "NAME", "cpu, cuda, cuda:N or auto (default: a GPU if there is one)"),
    ("threads", int, "N", "CPU threads of each run (default: the cores, at most 4, shared by --jobs)"),
    ("jobs", int, "N", "runs at a time (default: 1; more makes times worthless, and records say so)"),
    ("executor", str, "NAME", "where runs are done: local (default: here) or slurm (as jobs of the cluster)"),
    ("slurm", str, "LIST", "options of sbatch for --executor slurm: partition=gpu,gpus=1,time=2h"),
    ("standardise", str, "on|off", "centred points, one scale for both sides (default: on; off under paper)"),
    ("data-dir", str, "DIR", "your own copies of data files (also: OTBENCH_DATA_DIR)"),
    ("out", str, "DIR", "where records go (default: results/local)"),
)
MAX_CONFIG = 2**20
"""Bytes that are read of a --config file."""


def read_toml(path: Path, option: str) -> dict[str, Any]:
    """Return what the TOML file `path` holds.

    Args:
        path: a file or a pipe.
        option: where it was named, for messages ("--config").

    Raises:
        UsageError: it cannot be read, or is no TOML.
    """
    try:
        with path.open("rb") as stream:  # a pipe will do, one without end will not
            return tomllib.loads(stream.read(MAX_CONFIG).decode())
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{option} {shown(path)}: {why_unread(error)}; name a TOML file") from None
    except (tomllib.TOMLDecodeError, RecursionError) as error:  # the latter: nested without end
        raise UsageError(f"{option} {path}: not valid TOML: {error}") from None


def config_values(
    content: Mapping[str, object], where: str, *, without: Collection[str] = ()
) -> dict[str, str | int | float]:
    """Return the options in `content`, by their names on the command line.

    Args:
        content: of a file, or of one of its tables; `time_limit` and `time-limit` are the same.
        where: what it is, for messages ("--config FILE").
        without: options that cannot stand here.

    Raises:
        UsageError: there is no such option, or a value is of the wrong type.
    """
    known = {name: kind for name, kind, *_ in RUN_OPTIONS if name not in without}
    values: dict[str, str | int | float] = {}
    for key, value in content.items():
        name = key.replace("_", "-")
        if name not in known:
            raise UsageError(f"{where}: unknown option '{key}'{hint(name, known, 'options')}")
        values[name] = _config_value(name, known[name], value, where)
    return values


def _config_value(name: str, kind: type[str] | type[int] | type[float], value: object, where: str) -> str | int | float:
    if isinstance(value, list) and value and all(isinstance(item, (str, int, float)) for item in value):
        value = ",".join(str(item) for item in value)
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise UsageError(f"{where}: '{name}' must be text, a number, or a list of them, not {value!r}")
    try:
        typed = kind(value)
    except (ValueError, OverflowError):
        typed = None
    if typed is None or (kind is int and isinstance(value, float) and typed != value):  # 1.5 steps
        what = "a whole number" if kind is int else "a number"
        raise UsageError(f"{where}: '{name}' must be {what}, not {value!r}")
    return typed


def request_of(values: Mapping[str, object]) -> Request:
    """Return what options by their names ask for; `out` is none of them."""
    from otbench.harness.plan import Request

    fields = {name.replace("-", "_"): value for name, value in values.items() if name != "data-dir"}
    typed_folder = values.get("data-dir")
    folder = data_folder(None if typed_folder is None else str(typed_folder))
    return Request(**fields, data_dir=folder)  # type: ignore[arg-type]
