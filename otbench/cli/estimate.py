"""What planned runs will cost, judged by recorded ones."""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Sequence
from pathlib import Path

from otbench.errors import StoreError
from otbench.harness.messages import Planned
from otbench.records.record import Record
from otbench.records.store import Store


def estimates(runs: Sequence[Planned], folders: Sequence[Path]) -> dict[str, float]:
    """Return expected seconds by run id, for the runs of which records in `folders` allow a guess.

    The guess is the recorded time per step of the same solver on the same instance (any seed), times the planned
    steps, plus recorded set-up and evaluation.
    """
    seen: dict[tuple[object, ...], list[Record]] = {}
    for folder in folders:
        with contextlib.suppress(StoreError):  # no such folder yet: nothing known
            for record in Store(folder).all():
                if record.times.step_ms is not None:
                    seen.setdefault(_key(record.spec.solver, record.spec.task_config, record.spec.device), []).append(
                        record
                    )
    known = {}
    for run in runs:
        same = seen.get(_key(run.spec.solver, run.spec.task_config, run.spec.device), [])
        if same:
            known[run.id] = statistics.median(_seconds(run, record) for record in same)
    return known


def _key(solver: str, task_config: object, device: str) -> tuple[object, ...]:
    assert isinstance(task_config, dict)
    return solver, tuple(sorted((k, str(v)) for k, v in task_config.items())), device.split(":")[0]


def _seconds(run: Planned, record: Record) -> float:
    times = record.times
    steps = run.spec.steps if run.spec.steps is not None else record.counts.steps
    training = steps * (times.step_ms or 0.0) / 1000
    if run.spec.time_limit is not None:
        training = min(training, run.spec.time_limit) if run.spec.steps else run.spec.time_limit
    return training + (times.setup_s or 0.0) + (times.eval_s or 0.0)
