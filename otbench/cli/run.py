"""`otbench run`: from options and a configuration file to records and their table; the dry run."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from otbench.cli.common import (
    EXIT_FAILED_ROWS,
    EXIT_INTERRUPTED,
    AddCommand,
    out_folder,
    program_name,
    registry_of,
    warn,
)
from otbench.cli.console import console, plain_table, say
from otbench.cli.executor import Executor, executor_of
from otbench.cli.request import RUN_OPTIONS, config_values, read_toml, request_of
from otbench.cli.results import print_records
from otbench.errors import UsageError
from otbench.files import results_folder, typed_path
from otbench.records.words import counted

if TYPE_CHECKING:
    from otbench.harness.plan import Plan, Request
    from otbench.plugins.registry import Registry
    from otbench.records.record import RunSpec
    from otbench.records.store import Store


_KEPT = ("dim", "device", "executor", "slurm", "data-dir", "out")
"""Options that say which problems are solved and where: what a suggested command repeats."""


def add_commands(add: AddCommand) -> None:
    """Announce these commands and their options."""
    parser = add("run", run, "train solvers on a task and print the table (the default command)")
    for name, kind, metavar, text in RUN_OPTIONS:
        parser.add_argument(f"--{name}", metavar=metavar, type=kind, help=text)
    parser.add_argument("--config", metavar="FILE", help="TOML file with any of these options; the command line wins")
    parser.add_argument("--force", action="store_true", help="repeat runs that are already recorded")
    parser.add_argument(
        "--retry-cancelled", action="store_true", help="do runs that were cancelled in the queue of a cluster"
    )
    parser.add_argument(
        "--keep-maps", action="store_true", help="leave the trained maps beside the records (for `apply`)"
    )
    parser.add_argument("--dry-run", action="store_true", help="print the planned runs and what they will cost")


def run(options: argparse.Namespace) -> int:
    """Plan, execute, and print the table."""
    from otbench.harness.plan import make_plan
    from otbench.records.store import Store

    request, out, executor, kept = _request(options)
    store = Store(out)
    registry = registry_of(options)
    registry.load_plugins()
    executor, (request,) = executor.with_cards([request], out, dry_run=options.dry_run)
    plan = make_plan(request, registry)
    warn(plan.notes)
    if options.dry_run:
        return _dry_run(plan, store, request, registry, keep_maps=options.keep_maps)
    store.prepare()
    return _execute(plan, store, request, options, executor, full_command=_full_command(plan, request, options, kept))


def _execute(
    plan: Plan,
    store: Store,
    request: Request,
    options: argparse.Namespace,
    executor: Executor,
    *,
    full_command: str | None,
) -> int:
    from otbench.cli.display import make_display
    from otbench.harness.execute import settled
    from otbench.records.record import Status

    have = {} if options.force else settled(plan, store, keep_maps=options.keep_maps)
    repeat = {name for name, record in have.items() if record.cancelled and options.retry_cancelled}
    have = {name: record for name, record in have.items() if name not in repeat}
    waiting = [run for run in plan.runs if run.id not in have]
    known = f", {len(have)} already recorded (--force repeats them)" if have else ""
    say(f"{counted(len(waiting), 'run')} to do{known}; records in {store.folder}")
    with make_display(console(), waiting) as display:
        outcome = executor.execute(
            plan,
            store,
            display,
            jobs=request.jobs,
            force=options.force,
            data_dir=request.data_dir,
            keep_maps=options.keep_maps,
            repeat=repeat,
        )
    warn(store.passed_over)
    print_records(outcome.records, full_command=full_command)
    if outcome.interrupted:
        missing = len(plan.runs) - len(outcome.records)
        total = counted(len(plan.runs), "run")
        warn([f"interrupted: {missing} of {total} not finished; {executor.left_behind(outcome)}"])
        return EXIT_INTERRUPTED
    good = all(record.status in (Status.OK, Status.SKIPPED) for record in outcome.records)
    return 0 if good else EXIT_FAILED_ROWS


def _request(options: argparse.Namespace) -> tuple[Request, Path, Executor, dict[str, str]]:
    """Return what is asked for: command line over configuration file over environment over defaults.

    The last part is what of it another command for the same problems must say, too: options by name.
    """
    values: dict[str, object] = {}
    if options.config is not None:
        path = typed_path(options.config, "--config")
        values |= config_values(read_toml(path, "--config"), f"--config {path}")
    typed = {name: getattr(options, name.replace("-", "_")) for name, *_ in RUN_OPTIONS}
    values |= {name: value for name, value in typed.items() if value is not None}
    for name in ("solvers", "task"):
        if name not in values:
            raise UsageError(f"--{name} is missing; example: {program_name()} --solvers ncf,fixedpoint --task gaussian")
    kept = {name: str(values[name]) for name in _KEPT if name in values}
    out = out_folder(str(values.pop("out", results_folder())), "--out")
    executor, values = executor_of(values, dry_run=options.dry_run)
    return request_of(values), out, executor, kept


def _full_command(plan: Plan, request: Request, options: argparse.Namespace, kept: Mapping[str, str]) -> str | None:
    """Return the command for comparable numbers; None where there is no solver, or one declares no such preset."""
    if not plan.has_full or all(run.spec.kind == "baseline" for run in plan.runs):
        return None
    words = [*program_name().split(), "--solvers", request.solvers, "--task", request.task, "--preset", "full"]
    words += ["--seeds", "0,1,2", *(word for name, value in kept.items() for word in (f"--{name}", value))]
    for path in options.plugin:
        words += ["--plugin", path]
    return shlex.join(words)


def _budget(spec: RunSpec) -> str:
    """Return what ends training, whichever comes first."""
    limits = [f"{spec.time_limit:g} s"] if spec.time_limit else []
    limits += [f"{spec.cpu_limit:g} CPU s"] if spec.cpu_limit else []
    limits += [f"{spec.steps} steps"] if spec.steps else []
    return " or ".join(limits) or "until done"


def _dry_run(plan: Plan, store: Store, request: Request, registry: Registry, *, keep_maps: bool) -> int:
    from datetime import datetime, timedelta

    from rich.text import Text

    from otbench.cli.estimate import estimates, makespan, recorded, refusals
    from otbench.harness.execute import settled

    recorded_runs = settled(plan, store) if store.folder.is_dir() else {}
    have = settled(plan, store, keep_maps=keep_maps) if recorded_runs else {}
    known = estimates(plan.runs, recorded([store.folder, results_folder().parent / "reference"]))
    waiting = [run for run in plan.runs if run.id not in have]
    refused = refusals(waiting, registry, request.data_dir)
    table = plain_table("run", "task", "seed", "budget", "expected")
    costs: list[float] = []
    unknown = 0
    for run in plan.runs:
        spec = run.spec
        seconds, same = known.get(run.id, (None, False))
        if run.id in have:
            cost = f"recorded: {have[run.id].status}"
        elif run.id in refused:
            cost = f"will be skipped: {refused[run.id]}"
        elif seconds is None:
            cost, unknown = f"not known, at most {spec.hard_limit:g} s", unknown + 1
        else:
            cost = f"{'about' if same else 'roughly'} {seconds:.0f} s"
            costs.append(seconds)
        if run.id in recorded_runs and run.id not in have:
            cost = f"recorded without maps, {cost}"
        config = ",".join(f"{key}={value}" for key, value in spec.task_config.items() if value is not None)
        table.add_row(Text(run.label), Text(f"{spec.task}[{config}]"), str(spec.seed), _budget(spec), Text(cost))
    console().print(table)
    more = f", and {unknown} whose cost is not known yet" if unknown else ""
    last = min(1e9, makespan(costs, request.jobs))  # in thirty years nobody looks at the clock
    end = datetime.now() + timedelta(seconds=last)
    done = f"; done about {end:{'%H:%M' if last < 43_200 else '%d %B %Y, %H:%M'}}" if last else ""
    skipped = f", {len(refused)} will be skipped" if refused else ""
    say(
        f"{counted(len(plan.runs), 'run')}, {len(have)} of them recorded{skipped}; about {last:.0f} s to go{more}{done}"
    )
    return 0
