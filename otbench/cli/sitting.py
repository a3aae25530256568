"""One sitting of a campaign: what is left of it, as far as the budget goes, or the times of what is done."""

from __future__ import annotations

import os
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

from otbench.cli.common import EXIT_FAILED_ROWS, EXIT_INTERRUPTED, warn
from otbench.cli.console import console, plain_table, say
from otbench.cli.executor import Executor
from otbench.errors import DataError, UsageError
from otbench.files import results_folder, shown
from otbench.records.words import counted

if TYPE_CHECKING:
    from otbench.harness.campaign import Campaign
    from otbench.harness.messages import Planned
    from otbench.harness.plan import Request
    from otbench.plugins.registry import Registry
    from otbench.records.record import Record
    from otbench.records.store import Store

TIMING = "timing"
"""Folder beside the records for those of the timing pass, one folder a repetition."""
IDLE = 0.5
"""Load of a machine on which times are measured, at most."""


@dataclass
class Sitting:
    """One call of the command, with the code that makes the numbers.

    Attributes:
        requests: the parts, in order of worth; jobs and the user's data are the same in all.
        out: folder of the records.
        deadline: reading of `perf_counter` at which it ends; None = when all is done.
        executor: where runs are done.
        retry: whether runs that were cancelled in the queue of a cluster are left to do, too.
        left_out: parts that cannot be planned here, and why.
        left_behind: what becomes of runs that were begun, in words.
    """

    requests: Sequence[Request]
    out: Path
    deadline: float | None
    executor: Executor = field(default_factory=Executor)
    retry: bool = False
    left_out: list[str] = field(default_factory=list)
    left_behind: str = ""

    def run(self, registry: Registry, *, timing: bool, dry_run: bool) -> int:
        """Do what is left, or measure times; return the exit code.

        Args:
            registry: with all plugins loaded.
            timing: measure times of what is done.
            dry_run: only say what there is to do.
        """
        from otbench.harness.campaign import campaign_of
        from otbench.harness.plan import make_plan
        from otbench.records.store import Store

        plans = []
        for request in self.requests:
            title = f"{request.solvers} on {request.task}"
            try:
                plans.append((title, make_plan(request, registry)))
            except DataError as error:  # the other parts can do without
                self.left_out.append(f"left out, {title}: {error}")
        warn(self.left_out)
        if not plans:
            raise UsageError("nothing is left of the campaign without the data that its parts need")
        warn(list(dict.fromkeys(note for _, plan in plans for note in plan.notes)))
        made, store = campaign_of(plans), Store(self.out)
        if timing:
            return self._time(made, store, dry_run=dry_run)
        self._say_progress(made, store, registry if dry_run else None)
        if dry_run:
            return 0
        store.prepare()
        interrupted = self._do(made, store)
        warn(store.passed_over)
        return self._end(made, store, interrupted=interrupted)

    def _do(self, made: Campaign, store: Store) -> bool:
        """Do what is left; what fails is tried again after all others. Return whether that was cut short."""
        from otbench.harness.campaign import TRIES, is_left, records_of

        for number in range(TRIES):
            have = records_of(made.runs, store)
            again = {name for name, record in have.items() if self.retry and not number and record.cancelled}
            left = [run for run in made.runs if run.id in again or is_left(run, have.get(run.id))]
            if left and self._execute(made, left, store, repeat=set(have), jobs=self.requests[0].jobs):
                return True
        return False

    def _execute(
        self,
        made: Campaign,
        runs: Sequence[Planned],
        store: Store,
        *,
        repeat: set[str],
        jobs: int,
        until_step: int | None = None,
    ) -> bool:
        from otbench.cli.display import make_display

        with make_display(console(), runs) as display:
            outcome = self.executor.execute(
                made.plan(runs),
                store,
                display,
                jobs=jobs,
                data_dir=self.requests[0].data_dir,
                until_step=until_step,
                repeat=repeat,
                in_order=True,
                deadline=self.deadline,
            )
        self.left_behind = self.executor.left_behind(outcome)
        return outcome.interrupted

    def _say_progress(self, made: Campaign, store: Store, registry: Registry | None = None) -> None:
        """Print what is done, what is left and what it will cost, less what solvers of `registry` refuse."""
        from rich.text import Text

        from otbench.cli.estimate import estimates, makespan, recorded, refusals
        from otbench.harness.campaign import is_left, records_of

        have = records_of(made.runs, store)
        cost = estimates(made.runs, recorded([store.folder, results_folder().parent / "reference"]))
        table = plain_table("part", "seeds", "runs", "done", "failed", "left", "hours")
        if registry is not None:
            asked = [run for run in made.runs if run.id not in cost and is_left(run, have.get(run.id))]
            cost |= dict.fromkeys(refusals(asked, registry, self.requests[0].data_dir), (0.0, True))
        costs: list[float] = []
        unknown, counts = 0, Counter[str]()
        for part in made.parts:
            seeds = ",".join(map(str, sorted({run.spec.seed for run in part.runs})))
            left = [run for run in part.runs if is_left(run, have.get(run.id))]
            settled = {run.id for run in part.runs} - {run.id for run in left}
            failed = sum(_failed(have[run]) for run in settled)
            known = [cost[run.id][0] for run in left if run.id in cost]
            blank = len(left) - len(known)
            said = f"{sum(known) / 3600:.2f}" + (f" + {blank} of unknown cost" if blank else "") if left else ""
            numbers = (len(part.runs), len(settled) - failed, failed, len(left))
            table.add_row(*map(Text, (part.title, seeds, *map(str, numbers), said)))
            counts.update(done=len(settled) - failed, failed=failed, left=len(left))
            costs, unknown = costs + known, unknown + blank
        console().print(table)
        jobs = self.requests[0].jobs
        side = f", {makespan(costs, jobs) / 3600:.2f} with {jobs} at a time" if jobs > 1 else ""
        more = f", and {counted(unknown, 'run')} whose cost is not known yet" if unknown else ""
        total = counted(len(made.runs), "run")
        say(
            f"{total}: {counts['done']} done, {counts['failed']} failed, {counts['left']} left;"
            f" about {sum(costs) / 3600:.2f} hours to go, one run at a time{side}{more}; records in {store.folder}"
        )

    def _end(self, made: Campaign, store: Store, *, interrupted: bool) -> int:
        """Say how the sitting ended; return the exit code."""
        from otbench.harness.campaign import records_of

        self._say_progress(made, store)
        if interrupted:
            return self._cut_short()
        have = records_of(made.runs, store)
        failed = [have[run.id] for run in made.runs if run.id in have and _failed(have[run.id])]
        for record in failed:
            say(f"{record.id}: {record.status}: {record.reason}")
        return EXIT_FAILED_ROWS if failed or self.left_out else 0

    def _cut_short(self) -> int:
        if self.deadline is not None and perf_counter() > self.deadline:
            say(f"the budget is spent; {self.left_behind}")
            return 0
        warn([f"interrupted: {self.left_behind}"])
        return EXIT_INTERRUPTED

    def _time(self, made: Campaign, store: Store, *, dry_run: bool) -> int:
        """Measure times: a few short runs of each solver on each instance, one at a time."""
        from otbench.harness.campaign import LENGTHS, REPETITIONS, TIMED_SECONDS, is_left, records_of, timed_runs
        from otbench.records.store import Store

        queue = self.executor.queue
        if queue is not None and not queue.exclusive:
            raise UsageError("--timing: a job beside others measures these, too; add --slurm exclusive=true")
        by_length = timed_runs(made.runs, records_of(made.runs, store))
        runs = [run for length in by_length.values() for run in length]
        stores = [Store(store.folder / TIMING / str(number)) for number in range(1, REPETITIONS + 1)]
        if not runs:
            raise UsageError(f"{shown(store.folder)}: no run of the campaign has ended well, so nothing can be timed")
        steps = f"{min(by_length)} to {max(by_length)}" if len(by_length) > 1 else str(*by_length)
        total = counted(len(runs), "run")
        say(f"{total} of {steps} steps, {REPETITIONS} times each, about {TIMED_SECONDS:g} s of training a run")
        if dry_run:
            return 0
        if queue is None and (load := os.getloadavg()[0]) > IDLE:
            warn([f"the machine is not idle (load {load:.1f}): times of this sitting measure the other work, too"])
        interrupted = False
        for one in stores:  # a repetition after the other: what drifts touches all solvers
            one.prepare()
            for length in (length for length in LENGTHS if length in by_length and not interrupted):
                have = records_of(by_length[length], one)
                left = [r for r in by_length[length] if is_left(r, have.get(r.id)) or have[r.id].loaded]
                if left:
                    interrupted = self._execute(made, left, one, repeat=set(have), jobs=1, until_step=length)
        self._print_times(runs, [records_of(runs, one) for one in stores])
        say(f"records in {store.folder / TIMING}")
        return self._cut_short() if interrupted else 0

    def _print_times(self, runs: Sequence[Planned], repetitions: Sequence[dict[str, Record]]) -> None:
        from rich.text import Text

        table = plain_table("solver", "task", "step (ms)", "least", "most", "repetitions", "machine under load")
        for run in runs:
            found = [have[run.id] for have in repetitions if run.id in have and have[run.id].times.step_ms]
            times = [record.times.step_ms or 0.0 for record in found if not record.loaded]
            numbers = [f"{value:.4g}" for value in (statistics.median(times), min(times), max(times))] if times else []
            config = ",".join(f"{name}={value}" for name, value in run.spec.task_config.items() if value is not None)
            cells = [run.label, f"{run.spec.task}[{config}]", *(numbers or ["-"] * 3)]
            table.add_row(*map(Text, [*cells, str(len(times)), str(len(found) - len(times))]))
        console().print(table)


def _failed(record: Record) -> bool:
    from otbench.records.record import Status

    return record.status not in (Status.OK, Status.SKIPPED)
