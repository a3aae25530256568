"""`otbench.run`, `otbench.read`, `otbench.solvers`, `otbench.tasks`: the harness and its records as tables."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from otbench.api import given
from otbench.api.given import PathLike
from otbench.api.progress import Line
from otbench.config import Parameter, parameters_of
from otbench.errors import UsageError
from otbench.files import results_folder, shown
from otbench.harness.execute import execute
from otbench.harness.messages import Event, Planned
from otbench.harness.plan import Request, make_plan
from otbench.plugins.registry import Registry
from otbench.records.record import Record
from otbench.records.store import Store, frame
from otbench.registration import Kind

if TYPE_CHECKING:
    import pandas as pd


@given.public
def run(
    solvers: str | Sequence[str],
    task: str | Sequence[str],
    *,
    dims: int | str | Sequence[int] | None = None,
    seeds: int | str | Sequence[int] = 0,
    preset: str = "quick",
    steps: int | None = None,
    time_limit: float | None = None,
    cpu_limit: float | None = None,
    hard_limit: float | None = None,
    device: str = "auto",
    threads: int | None = None,
    jobs: int = 1,
    data_dir: PathLike | None = None,
    out: PathLike | None = None,
    force: bool = False,
    keep_maps: bool = False,
    plugins: PathLike | Sequence[PathLike] = (),
    progress: bool | None = None,
) -> pd.DataFrame:
    """Train solvers on a task as `python bench.py` does, one process per run, and return a row per record.

    Runs that are already recorded are not repeated. After Ctrl-C, with a warning, the rows are those of the runs that
    had ended; the same call goes on from there.

    Args:
        solvers: names, with parameters and grids: "ncf[lr=1e-4|1e-3],fixedpoint", or a list of them; or "all".
        task: a task with parameters and grids: "gaussian[dim=2|8]".
        dims: short for the task's parameter `dim`.
        seeds: run seeds.
        preset: "smoke" (seconds), "quick" (about a minute a solver), "full" (our best), "paper" (the authors').
        steps: training steps of every solver; None = the preset's.
        time_limit: training seconds of every solver, instead of the preset's steps.
        cpu_limit: the same in CPU seconds, of which a busy machine takes none away.
        hard_limit: wall-clock seconds after which a run is ended as `timeout`.
        device: "cpu", "cuda", "cuda:N" or "auto" (a GPU if there is one).
        threads: CPU threads of each run; None = the cores, at most 4, shared by `jobs`.
        jobs: runs at a time; more than one makes times worthless, and records say so.
        data_dir: your own copies of data files; None = the environment's OTBENCH_DATA_DIR.
        out: where records go; None = results/local.
        force: repeat runs that are already recorded.
        keep_maps: leave the maps beside the records; `otbench.load` reads the files in the column `map`.
        plugins: files that register more names.
        progress: whether to show how far runs are; None = on a terminal and in a notebook.

    Returns:
        One row per record, as `read` gives them.

    Raises:
        UsageError: an argument is wrong.
        PluginError: a file of `plugins` cannot be loaded.
        DataError: the task's input is missing or wrong.
        StoreError: a record cannot be written.
    """
    repeat, keep = bool(given.flag("force", force)), bool(given.flag("keep-maps", keep_maps))
    visible = given.flag("progress", progress)
    folder = data_dir if data_dir is not None else os.environ.get("OTBENCH_DATA_DIR") or None
    request = Request(
        solvers=_selection("solvers", solvers),
        task=_selection("task", task),
        dim=None if dims is None else given.listed("dims", dims),
        seeds=given.listed("seeds", seeds),
        steps=given.whole("steps", steps),
        time_limit=given.number("time-limit", time_limit),
        cpu_limit=given.number("cpu-limit", cpu_limit),
        hard_limit=given.number("hard-limit", hard_limit),
        device=given.text("device", device),
        threads=given.whole("threads", threads),
        preset=given.text("preset", preset),
        jobs=given.whole("jobs", jobs) or 0,
        data_dir=None if folder is None else given.path_of("data_dir", folder, folder=True),
    )
    store = Store(results_folder() if out is None else given.path_of("out", out))
    registry = Registry(given.plugin_files(plugins))
    registry.load_plugins()
    plan = make_plan(request, registry)
    given.warn(plan.notes)
    ended = 0
    with Line(visible) as line:

        def listen(run: Planned, event: Event | Record) -> None:
            nonlocal ended
            ended += isinstance(event, Record)
            share = f"{event.progress:.0%}" if isinstance(event, Event) else str(event.status)
            line.show(f"{ended} of {len(plan.runs)} runs ended; {run.label} on {run.spec.task}: {share}")

        outcome = execute(
            plan,
            store,
            jobs=request.jobs,
            force=repeat,
            data_dir=request.data_dir,
            listen=listen,
            keep_maps=keep,
        )
    given.warn(store.passed_over)
    if outcome.interrupted:
        missing = len(plan.runs) - len(outcome.records)
        given.warn(
            [f"interrupted: {missing} of {len(plan.runs)} runs are not finished; the same call goes on from here"]
        )
    return _rows(store, outcome.records)


@given.public
def read(folders: PathLike | Sequence[PathLike] | None = None) -> pd.DataFrame:
    """Return the records of folders as a table, one row per record.

    Columns: what was run; the parameters, `solver.NAME` and `task.NAME`; the metrics at the end, `metric.NAME`, and at
    step 0, `start.NAME`; `time.NAME`, `memory.NAME`, `count.NAME`; and `map`, the file of the map that was kept, empty
    where none was. Files that are no records are passed over, with a warning.

    Args:
        folders: one or several; None = results/local.

    Raises:
        UsageError: a folder does not exist, or there is no record.
        StoreError: a folder cannot be read.
    """
    import pandas as pd

    chosen = [results_folder()] if folders is None else [folders] if isinstance(folders, (str, Path)) else folders
    if not isinstance(chosen, Sequence) or not chosen:
        raise UsageError("folders: must be a path or a list of paths")
    tables: list[pd.DataFrame] = []
    paths = [given.path_of("folders", path, folder=True) for path in chosen]
    for path in paths:
        store = Store(path)
        records = store.all()
        tables += [_rows(store, records)] if records else []
        given.warn(store.passed_over)
    if not tables:
        raise UsageError(f"no records in {', '.join(map(shown, paths))}")
    return tables[0] if len(tables) == 1 else pd.concat(tables, ignore_index=True)


def _rows(store: Store, records: Sequence[Record]) -> pd.DataFrame:
    table = frame(records)
    kept = [path if (path := store.map_path(record.id)).is_file() else "" for record in records]
    table["map"] = [str(path) for path in kept]
    return table


@given.public
def solvers(name: str | None = None, *, plugins: PathLike | Sequence[PathLike] = ()) -> pd.DataFrame:
    """Return all solvers and baselines by name; or, of one `name`, all its parameters.

    Args:
        name: a solver or baseline; None = list them all.
        plugins: files that register more.

    Raises:
        UsageError: there is no such solver.
        PluginError: a file of `plugins`, or that of the solver, cannot be loaded.
    """
    return _table(name, plugins, "solver", "baseline")


@given.public
def tasks(name: str | None = None, *, plugins: PathLike | Sequence[PathLike] = ()) -> pd.DataFrame:
    """Return all tasks by name; or, of one `name`, all its parameters.

    Args:
        name: a task; None = list them all.
        plugins: files that register more.

    Raises:
        UsageError: there is no such task.
        PluginError: a file of `plugins`, or that of the task, cannot be loaded.
    """
    return _table(name, plugins, "task")


def _table(name: object, plugins: PathLike | Sequence[PathLike], *kinds: Kind) -> pd.DataFrame:
    import pandas as pd

    registry = Registry(given.plugin_files(plugins))
    if name is not None:
        entry = registry.find(given.text("name", name), *kinds)
        rows = [dataclasses.asdict(parameter) for parameter in parameters_of(registry.load(entry).config)]
        columns = [field.name for field in dataclasses.fields(Parameter)]
        return pd.DataFrame(rows, columns=columns).set_index("name")
    entries = sorted(registry.entries(*kinds), key=lambda entry: kinds.index(entry.kind))
    rows = [{"name": e.name, "kind": e.kind, "summary": e.summary, "origin": e.origin} for e in entries]
    given.warn(f"{problem.where}: left out: {problem.reason}" for problem in registry.problems)
    return pd.DataFrame(rows, columns=["name", "kind", "summary", "origin"]).set_index("name")


def _selection(name: str, value: object) -> str:
    return value if isinstance(value, str) else given.listed(name, value)
