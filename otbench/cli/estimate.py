"""What planned runs will cost, judged by recorded ones, and which of them their solver will refuse."""

from __future__ import annotations

import contextlib
import heapq
import math
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

from otbench.errors import StoreError
from otbench.harness.messages import Planned
from otbench.plugins.registry import Registry
from otbench.records.record import Record
from otbench.records.store import Store
from otbench.registration import MAX_STEPS
from otbench.solver import Solver
from otbench.task import Instance

PATIENCE = 10.0
"""Seconds that may be spent on asking solvers whether they take a problem; what is not known by then is not said."""


def recorded(folders: Sequence[Path]) -> list[Record]:
    """Return all records in `folders` and in the folders right below them; a folder that is not there holds none."""
    found = []
    for folder in dict.fromkeys(below for top in folders for below in (top, *sorted(top.glob("*/")))):
        with contextlib.suppress(StoreError):
            found += Store(folder).all()
    return found


def estimates(runs: Sequence[Planned], records: Sequence[Record]) -> dict[str, tuple[float, bool]]:
    """Return expected seconds by run id, and whether the very same instance and setting was recorded.

    The guess is the recorded time per step of the same solver on the same class of device, times the planned steps,
    plus recorded set-up and evaluation. Of several records the nearest count: same task before same parameters of it,
    then dimension, setting, and number of steps.
    """
    seen: dict[tuple[str, str], list[Record]] = {}
    for record in records:
        if math.isfinite(record.times.step_ms or math.nan):
            seen.setdefault(_kind(record), []).append(record)
    known = {}
    for run in runs:
        if same := seen.get(_kind(run)):
            least = min(_distance(run, record) for record in same)
            nearest = [_seconds(run, record) for record in same if _distance(run, record) == least]
            known[run.id] = statistics.median(nearest), not any(least[:4])
    return known


def makespan(seconds: Sequence[float], jobs: int) -> float:
    """Return the seconds from the first start to the last end of runs that take so long, `jobs` of them at a time.

    They are begun in this order, each as soon as there is room.
    """
    ends = [0.0] * min(jobs, max(1, len(seconds)))
    for one in seconds:
        heapq.heapreplace(ends, ends[0] + one)
    return max(ends)


def refusals(runs: Sequence[Planned], registry: Registry, data_dir: Path | None) -> dict[str, str]:
    """Return why runs will be skipped, by run id: what the solver says of the problem.

    Each problem is built once. After `PATIENCE` no further one is begun: large ones take minutes.
    """
    import torch

    begin, found = time.monotonic(), {}
    built: dict[str, Instance | None] = {}
    shown: dict[str, set[str]] = {}  # the task's own rows, by problem
    for run in runs:
        key = f"{run.spec.task} {run.spec.task_config}"
        with contextlib.suppress(Exception):  # whatever it is, the run itself will say it
            row = registry.load(registry.find(run.spec.solver, "solver", "baseline"))
            if key not in built:
                built[key] = None
                if time.monotonic() - begin < PATIENCE:
                    task = registry.load(registry.find(run.spec.task, "task"))
                    made = task.cls(task.config(**run.spec.task_config), data_dir=data_dir)
                    built[key] = made.build(seed=run.spec.seed, device=torch.device("cpu"), dtype=torch.float32)
                    shown[key] = set(made.controls())
            instance = built[key]
            if instance is not None and row.scored_by_task:
                if row.name not in shown[key]:  # not one of those that always stand there: its scores must tell
                    shown[key] |= set(instance.task_rows())
                if row.name not in shown[key]:
                    found[run.id] = f"this task has no row of {row.name}"
            elif instance is not None and issubclass(row.cls, Solver):
                support = row.cls.supports(instance.problem)
                found |= {} if support.ok else {run.id: support.reason}
    return found


def _kind(run: Planned | Record) -> tuple[str, str]:
    return run.spec.solver, run.spec.device.split(":")[0]


def _distance(run: Planned, record: Record) -> tuple[bool, bool, float, bool, float]:
    ours, theirs = run.spec, record.spec
    return (
        ours.task != theirs.task,
        ours.task_config != theirs.task_config,
        _ratio(ours.task_config.get("dim"), theirs.task_config.get("dim")),
        ours.solver_config != theirs.solver_config,
        _ratio(ours.steps, record.counts.steps),
    )


def _ratio(one: object, other: object) -> float:
    """Return how far apart two sizes are, on a logarithmic scale; 0 where one of them is no size."""
    sizes = [math.log(value) for value in (one, other) if isinstance(value, int) and value > 0]
    return abs(sizes[0] - sizes[1]) if len(sizes) == 2 else 0.0


def _seconds(run: Planned, record: Record) -> float:
    times = record.times
    steps = run.spec.steps if run.spec.steps is not None else min(record.counts.steps, MAX_STEPS)
    training = steps * (times.step_ms or 0.0) / 1000
    for limit in (run.spec.time_limit, run.spec.cpu_limit):
        if limit is not None:
            training = min(training, limit) if run.spec.steps else limit
    return training + (times.setup_s or 0.0) + (times.eval_s or 0.0)
