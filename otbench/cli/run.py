"""`otbench run`: from options and a configuration file to records and their table; the dry run."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from otbench.cli.common import (
    EXIT_FAILED_ROWS,
    EXIT_INTERRUPTED,
    AddCommand,
    data_folder,
    program_name,
    registry_of,
    warn,
)
from otbench.cli.console import console, plain_table, say
from otbench.cli.results import print_records
from otbench.errors import UsageError
from otbench.files import results_folder, shown, typed_path
from otbench.names import hint

if TYPE_CHECKING:
    from otbench.harness.plan import Plan, Request
    from otbench.plugins.registry import Registry
    from otbench.records.store import Store

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
    ("hard-limit", float, "S", "wall-clock seconds after which a run is ended as `timeout`"),
    ("device", str, "NAME", "cpu, cuda, cuda:N or auto (default: a GPU if there is one)"),
    ("threads", int, "N", "CPU threads of each run (default: the cores, at most 4, shared by --jobs)"),
    ("jobs", int, "N", "runs at a time (default: 1; more makes times worthless, and records say so)"),
    ("standardise", str, "on|off", "centred points, one scale for both sides (default: on; off under paper)"),
    ("data-dir", str, "DIR", "your own copies of data files (also: OTBENCH_DATA_DIR)"),
    ("out", str, "DIR", "where records go (default: results/local)"),
)
MAX_CONFIG = 2**20
"""Bytes that are read of a --config file."""


def add_commands(add: AddCommand) -> None:
    """Announce these commands and their options."""
    parser = add("run", run, "train solvers on a task and print the table (the default command)")
    for name, kind, metavar, text in RUN_OPTIONS:
        parser.add_argument(f"--{name}", metavar=metavar, type=kind, help=text)
    parser.add_argument("--config", metavar="FILE", help="TOML file with any of these options; the command line wins")
    parser.add_argument("--force", action="store_true", help="repeat runs that are already recorded")
    parser.add_argument(
        "--keep-maps", action="store_true", help="leave the trained maps beside the records (for `apply`)"
    )
    parser.add_argument("--dry-run", action="store_true", help="print the planned runs and what they will cost")


def run(options: argparse.Namespace) -> int:
    """Plan, execute, and print the table."""
    from otbench.harness.plan import make_plan
    from otbench.records.store import Store

    request, out = _request(options)
    store = Store(out)
    registry = registry_of(options)
    registry.load_plugins()
    plan = make_plan(request, registry)
    warn(plan.notes)
    if options.dry_run:
        return _dry_run(plan, store, request, registry, keep_maps=options.keep_maps)
    store.prepare()
    return _execute(plan, store, request, options)


def _execute(plan: Plan, store: Store, request: Request, options: argparse.Namespace) -> int:
    from otbench.cli.display import make_display
    from otbench.harness.execute import execute, settled
    from otbench.records.record import Status

    have = {} if options.force else settled(plan, store, keep_maps=options.keep_maps)
    waiting = [run for run in plan.runs if run.id not in have]
    known = f", {len(have)} already recorded (--force repeats them)" if have else ""
    say(f"{len(waiting)} run{'' if len(waiting) == 1 else 's'} to do{known}; records in {store.folder}")
    with make_display(console(), waiting) as display:
        outcome = execute(
            plan,
            store,
            jobs=request.jobs,
            force=options.force,
            data_dir=request.data_dir,
            listen=display.show,
            keep_maps=options.keep_maps,
        )
    warn(store.passed_over)
    print_records(outcome.records, full_command=_full_command(plan, request, options))
    if outcome.interrupted:
        missing = len(plan.runs) - len(outcome.records)
        warn([f"interrupted: {missing} of {len(plan.runs)} runs are not finished; the same command goes on from here"])
        return EXIT_INTERRUPTED
    good = all(record.status in (Status.OK, Status.SKIPPED) for record in outcome.records)
    return 0 if good else EXIT_FAILED_ROWS


def _request(options: argparse.Namespace) -> tuple[Request, Path]:
    """Return what is asked for: command line over configuration file over environment over defaults."""
    from otbench.harness.plan import Request

    values: dict[str, object] = {}
    if options.config is not None:
        values |= _read_config(typed_path(options.config, "--config"))
    typed = {name: getattr(options, name.replace("-", "_")) for name, *_ in RUN_OPTIONS}
    values |= {name: value for name, value in typed.items() if value is not None}
    for name in ("solvers", "task"):
        if name not in values:
            raise UsageError(f"--{name} is missing; example: {program_name()} --solvers ncf,fixedpoint --task gaussian")
    out = typed_path(str(values.pop("out", results_folder())), "--out")
    typed_folder = values.pop("data-dir", None)
    folder = data_folder(None if typed_folder is None else str(typed_folder))
    fields = {name.replace("-", "_"): value for name, value in values.items()}
    return Request(**fields, data_dir=folder), out  # type: ignore[arg-type]


def _read_config(path: Path) -> dict[str, object]:
    import tomllib

    try:
        with path.open("rb") as stream:  # a pipe will do, one without end will not
            content = tomllib.loads(stream.read(MAX_CONFIG).decode())
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--config {shown(path)}: cannot be read: {error}") from None
    except (tomllib.TOMLDecodeError, RecursionError) as error:  # the latter: nested without end
        raise UsageError(f"--config {path}: not valid TOML: {error}") from None
    known = {name: kind for name, kind, *_ in RUN_OPTIONS}
    values: dict[str, object] = {}
    for key, value in content.items():
        name = key.replace("_", "-")
        if name not in known:
            raise UsageError(f"--config {path}: unknown option '{key}'{hint(name, known, 'options')}")
        values[name] = _config_value(name, known[name], value, path)
    return values


def _config_value(name: str, kind: type[str] | type[int] | type[float], value: object, path: Path) -> object:
    if isinstance(value, list) and value and all(isinstance(item, (str, int, float)) for item in value):
        value = ",".join(str(item) for item in value)
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise UsageError(f"--config {path}: '{name}' must be text, a number, or a list of them, not {value!r}")
    try:
        typed = kind(value)
    except (ValueError, OverflowError):
        typed = None
    if typed is None or (kind is int and isinstance(value, float) and typed != value):  # 1.5 steps
        what = "a whole number" if kind is int else "a number"
        raise UsageError(f"--config {path}: '{name}' must be {what}, not {value!r}")
    return typed


def _full_command(plan: Plan, request: Request, options: argparse.Namespace) -> str | None:
    """Return the command for comparable numbers; None where a solver of the plan declares no such preset."""
    if not plan.has_full:
        return None
    words = [*program_name().split(), "--solvers", request.solvers, "--task", request.task, "--preset", "full"]
    words += ["--seeds", "0,1,2"]
    for path in options.plugin:
        words += ["--plugin", path]
    return shlex.join(words)


def _dry_run(plan: Plan, store: Store, request: Request, registry: Registry, *, keep_maps: bool) -> int:
    from datetime import datetime, timedelta

    from rich.text import Text

    from otbench.cli.estimate import estimates, recorded, refusals
    from otbench.harness.execute import settled

    recorded_runs = settled(plan, store) if store.folder.is_dir() else {}
    have = settled(plan, store, keep_maps=keep_maps) if recorded_runs else {}
    known = estimates(plan.runs, recorded([store.folder, results_folder().parent / "reference"]))
    waiting = [run for run in plan.runs if run.id not in have]
    refused = refusals(waiting, registry, request.data_dir)
    table = plain_table("run", "task", "seed", "budget", "expected")
    total, unknown = 0.0, 0
    for run in plan.runs:
        spec = run.spec
        budget = f"{spec.steps} steps" if spec.steps else "until done"
        if spec.time_limit:
            budget = f"{spec.time_limit:g} s" + (f" or {spec.steps} steps" if spec.steps else "")
        seconds, same = known.get(run.id, (None, False))
        if run.id in have:
            cost = f"recorded: {have[run.id].status}"
        elif run.id in refused:
            cost = f"will be skipped: {refused[run.id]}"
        elif seconds is None:
            cost, unknown = f"not known, at most {spec.hard_limit:g} s", unknown + 1
        else:
            cost, total = f"{'about' if same else 'roughly'} {seconds:.0f} s", total + seconds
        if run.id in recorded_runs and run.id not in have:
            cost = f"recorded without maps, {cost}"
        config = ",".join(f"{key}={value}" for key, value in spec.task_config.items() if value is not None)
        table.add_row(Text(run.label), Text(f"{spec.task}[{config}]"), str(spec.seed), budget, Text(cost))
    console().print(table)
    more = f", and {unknown} whose cost is not known yet" if unknown else ""
    last = min(1e9, total / request.jobs)  # in thirty years nobody looks at the clock
    end = datetime.now() + timedelta(seconds=last)
    done = f"; done about {end:{'%H:%M' if last < 43_200 else '%d %B %Y, %H:%M'}}" if last else ""
    skipped = f", {len(refused)} will be skipped" if refused else ""
    say(f"{len(plan.runs)} runs, {len(have)} of them recorded{skipped}; about {last:.0f} s to go{more}{done}")
    return 0
