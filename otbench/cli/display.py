"""What a user sees while runs are going: a live display on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from otbench.harness.messages import Event, Planned
from otbench.records.record import Record, Status

PLAIN_SECONDS = 15.0
"""Seconds between two plain lines of one run."""
WIDE = 100
"""Columns from which the live display has room for long bars."""
STATE_WIDTH = 24
"""Columns that the live display keeps for what a run is at ("step 10000") and its time."""
_STYLES = {Status.OK: "green", Status.SKIPPED: "yellow"}


class Display:
    """Shows events as plain lines; used as a context manager around the runs."""

    def __init__(self, out: Console, runs: Sequence[Planned]) -> None:
        """Show the events of `runs` on `out`."""
        self._out = out
        self._titles = _Titles(runs)
        self._total, self._done = len(runs), 0
        self._last: dict[str, float] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        """Leave the screen as it was."""

    def show(self, run: Planned, event: Event | Record) -> None:
        """Show one event of `run`."""
        if isinstance(event, Record):
            self._done += 1
            self._ended(run, _ending(self._titles(run), event))
        else:
            self._going(run, event)

    def tell(self, line: str) -> None:
        """Show a line that is about no run."""
        self._out.print(Text(line), soft_wrap=True)

    def _ended(self, run: Planned, text: Text) -> None:
        self._out.print(Text(f"[{self._done}/{self._total}] ").append(text))

    def _going(self, run: Planned, event: Event) -> None:
        now = time.monotonic()
        if event.phase == "setup":
            self._last[run.id] = now
            if run.spec.kind == "solver":
                self._out.print(Text(f"{self._titles(run)}: started"))
        elif event.record is not None and now - self._last.get(run.id, now) > PLAIN_SECONDS:
            self._last[run.id] = now
            self._out.print(Text(f"{self._titles(run)}: {event.progress:.0%}, {_state(event)}"))


def make_display(out: Console, runs: Sequence[Planned]) -> Display:
    """Return the display that fits `out`."""
    return _Live(out, runs) if out.is_terminal else Display(out, runs)


class _Titles:
    """Names of runs, with only those parameters of the task that tell the planned runs apart."""

    def __init__(self, runs: Sequence[Planned]) -> None:
        values: dict[str, set[object]] = {}
        for run in runs:
            for key, value in run.spec.task_config.items():
                values.setdefault(key, set()).add(value)
        self._varied = [key for key, seen in values.items() if len(seen) > 1]
        self._seeds = len({run.spec.seed for run in runs}) > 1

    def __call__(self, run: Planned) -> str:
        parts = [f"{key}={run.spec.task_config.get(key)}" for key in self._varied]
        parts += [f"seed={run.spec.seed}"] if self._seeds else []
        return f"{run.label} on {run.spec.task}" + (f"[{','.join(parts)}]" if parts else "")


def _ending(title: str, record: Record) -> Text:
    text = Text(f"{title}: ").append(str(record.status), style=_STYLES.get(record.status, "red"))
    if record.reason:
        return text.append(f": {record.reason}")
    shown = [metric for metric in record.metric_info if metric.primary and metric.name in record.metrics]
    for metric in shown:
        text.append(f"  {metric.label} {record.metrics[metric.name]:.3g}{' ' + metric.unit if metric.unit else ''}")
    if record.spec.kind == "solver" and record.times.train_s is not None:
        text.append(f"  {record.counts.steps} steps in {record.times.train_s + (record.times.warmup_s or 0):.1f} s")
    return text


def _state(event: Event) -> str:
    if event.record is None:
        return event.phase
    return f"step {event.step}"


def _shortened(title: str, room: int) -> str:
    """Leave out the middle of a title that is too long: both the solver and the instance stay readable."""
    if len(title) <= room:
        return title
    return f"{title[: room // 2]}…{title[len(title) - (room - room // 2 - 1) :]}"


class _Live(Display):
    def __init__(self, out: Console, runs: Sequence[Planned]) -> None:
        super().__init__(out, runs)
        self._bars: dict[str, TaskID] = {}
        bar = 20 if out.width >= WIDE else 10
        self._room = max(12, out.width - bar - STATE_WIDTH)
        columns = (
            TextColumn("{task.description}", markup=False),  # a name like ncf[lr=1e-3] is no markup
            BarColumn(bar_width=bar),
            TextColumn("{task.fields[state]}", markup=False),
        )
        self._progress = Progress(*columns, TimeElapsedColumn(), console=out, transient=True)
        self._all = self._progress.add_task("all runs", total=len(runs), state=f"0/{len(runs)}")

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._progress.stop()

    def tell(self, line: str) -> None:
        self._progress.console.print(Text(line), soft_wrap=True)

    def _ended(self, run: Planned, text: Text) -> None:
        self._progress.update(self._all, completed=self._done, state=f"{self._done}/{self._total}")
        if run.id in self._bars:
            self._progress.remove_task(self._bars.pop(run.id))
        self._progress.console.print(text)

    def _going(self, run: Planned, event: Event) -> None:
        if run.id not in self._bars:
            self._bars[run.id] = self._progress.add_task(_shortened(self._titles(run), self._room), total=1.0, state="")
        self._progress.update(self._bars[run.id], completed=event.progress, state=_state(event))
