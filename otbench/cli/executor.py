"""Where runs are done: here, or as jobs of a cluster."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from otbench.cli.common import program_name
from otbench.errors import UsageError
from otbench.names import few, hint

if TYPE_CHECKING:
    from otbench.cli.display import Display
    from otbench.harness.execute import Outcome
    from otbench.harness.plan import Plan, Request
    from otbench.harness.slurm import Slurm
    from otbench.records.store import Store

EXECUTORS = ("local", "slurm")


@dataclass(frozen=True)
class Executor:
    """Does plans.

    Attributes:
        queue: of the cluster; None = runs are done here.
        limit: jobs of the cluster that run at a time; None = as many as it lets.
        cards: names of the GPUs of its nodes; None where they have not been asked for.
    """

    queue: Slurm | None = None
    limit: int | None = None
    cards: tuple[str, ...] | None = None

    def with_cards(self, requests: list[Request], out: Path, *, dry_run: bool) -> tuple[Executor, list[Request]]:
        """Return what runs on the nodes' GPUs need to know of these, and the requests that say so.

        Args:
            requests: what is to be done.
            out: folder of records.
            dry_run: hand in no job: what is not known yet is only said.
        """
        from otbench.cli.console import say

        if self.queue is None or not any(request.device.startswith("cuda") for request in requests):
            return self, requests
        from otbench.harness.cards import card_file, find_cards, known_cards

        path = card_file(out, [f"{name}={value}" for name, value in self.queue.options.items()])
        cards = known_cards(path)
        if cards is None and dry_run:
            say("which GPU the nodes have is not known before the first job: runs that are recorded count as left")
            cards = ("GPU of a node",)
        elif cards is None:
            cards = find_cards(self.queue, path, say)
        return replace(self, cards=cards), [replace(request, cards=cards) for request in requests]

    def execute(self, plan: Plan, store: Store, display: Display, *, jobs: int, **more: object) -> Outcome:
        """Do `plan`; `more` is what `execute` and `execute_in_queue` both take."""
        from otbench.harness.execute import execute
        from otbench.harness.remote import execute_in_queue

        if self.queue is None:
            return execute(plan, store, jobs=jobs, listen=display.show, **more)  # type: ignore[arg-type]
        exclusive = self.queue.exclusive or (plan.runs and plan.runs[0].spec.device.startswith("cuda"))
        return execute_in_queue(
            plan,
            store,
            self.queue,
            limit=self.limit,
            shared=not exclusive,
            cards=self.cards,
            tell=display.tell,
            listen=display.show,
            **more,  # type: ignore[arg-type]
        )

    def left_behind(self, outcome: Outcome) -> str:
        """Return what becomes of what an interrupted plan has begun, in words."""
        if not outcome.queued:
            return "the same command goes on from here"
        return "jobs stay in the queue, and the same command waits for them; to end them: scancel --name=" + few(
            outcome.queued, 20
        ).replace(", ", ",")


def executor_of(values: Mapping[str, object]) -> tuple[Executor, dict[str, object]]:
    """Return the executor that options by their names ask for, and the options that are left for a request.

    Raises:
        UsageError: there is no such executor, or it cannot be used from here.
    """
    left = dict(values)
    name, text = str(left.pop("executor", "local")), left.pop("slurm", None)
    if name not in EXECUTORS:
        raise UsageError(f"--executor: unknown executor '{name}'{hint(name, EXECUTORS, 'executors')}")
    if name == "local":
        if text is not None:
            raise UsageError(f"--slurm says how jobs are handed in; add --executor slurm ({program_name()} run --help)")
        return Executor(), left
    from otbench.harness.slurm import Slurm, sbatch_options

    queue = Slurm(sbatch_options("" if text is None else str(text)) if text else {})
    queue.check()
    cores = queue.options.get("cpus-per-task")
    # As for one run at a time here, so that the same command without --executor finds the same records.
    left.setdefault("threads", min(4, int(cores) if cores else os.cpu_count() or 1))
    if cores is not None and int(cores) < int(str(left["threads"])):
        raise UsageError(f"--slurm cpus-per-task={cores}: less than the {left['threads']} threads of a run")
    if left.get("device", "auto") == "auto":
        left["device"] = "cuda" if queue.wants_gpu else "cpu"
    limit = left.get("jobs")
    return Executor(queue, None if limit is None else int(str(limit))), left
