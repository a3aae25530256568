"""Campaigns: many runs in order of worth, done in several sittings. What is left of them is read off the records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from otbench.harness.messages import Planned
from otbench.harness.plan import Plan
from otbench.records.record import Record, Status
from otbench.records.store import Store

TRIES = 2
"""How often a run is tried that fails in a way that need not come again."""
REPETITIONS = 3
"""Runs that the time of one step is taken from."""
TIMED_SECONDS = 10.0
"""Training of a timed run, about."""
LENGTHS = (20, 50, 100, 200, 500, 1000, 2000, 5000)
"""Steps that a timed run can have: few choices, so that runs of one length share their processes."""


@dataclass(frozen=True)
class Part:
    """What one table of a campaign's file asks for.

    Attributes:
        title: in words, for screens.
        runs: without those of earlier parts, one seed after the other.
    """

    title: str
    runs: tuple[Planned, ...]


@dataclass(frozen=True)
class Campaign:
    """All parts, in order of worth.

    Attributes:
        parts: each with its runs.
        closed_form: names whose runs of one instance may share a process.
    """

    parts: tuple[Part, ...]
    closed_form: frozenset[str]

    @property
    def runs(self) -> tuple[Planned, ...]:
        """All runs, in order of worth."""
        return tuple(run for part in self.parts for run in part.runs)

    def plan(self, runs: Sequence[Planned]) -> Plan:
        """Return a plan of some of the runs."""
        return Plan(tuple(runs), self.closed_form, has_full=False)


def campaign_of(plans: Sequence[tuple[str, Plan]]) -> Campaign:
    """Return the campaign whose parts have these titles and plans, in order of worth."""
    seen: set[str] = set()
    parts = []
    for title, plan in plans:
        runs = [run for run in sorted(plan.runs, key=lambda run: run.spec.seed) if run.id not in seen]
        seen |= {run.id for run in runs}
        parts.append(Part(title, tuple(runs)))
    return Campaign(tuple(parts), frozenset(name for _, plan in plans for name in plan.closed_form))


def records_of(runs: Sequence[Planned], store: Store) -> dict[str, Record]:
    """Return the records that `store` has of `runs`, by run id."""
    return {run.id: record for run in runs if (record := store.read(run.id)) is not None}


def is_left(run: Planned, record: Record | None) -> bool:
    """Say whether a campaign has yet to do `run`, whose record so far is `record`.

    A run that failed in a way that need not come again is tried `TRIES` times, and once more under another limit of
    time. Then its row stays.
    """
    if record is None:
        return True
    other_limit = record.status is Status.TIMEOUT and not record.final(run.spec)
    return record.passing and (record.tries < TRIES or other_limit)


def timed_runs(runs: Sequence[Planned], records: Mapping[str, Record]) -> dict[int, list[Planned]]:
    """Return the runs that stand for the times of a campaign, by the number of steps that takes `TIMED_SECONDS`.

    That is the lowest seed of each solver on each instance, where that run has ended well and says what a step takes.

    Args:
        runs: those of the campaign.
        records: those that there are, by run id.
    """
    lowest: dict[str, Planned] = {}
    for run in sorted(runs, key=lambda run: run.spec.seed):
        record = records.get(run.id)
        if run.spec.kind == "solver" and record is not None and record.status is Status.OK and record.times.step_ms:
            lowest.setdefault(run.spec.model_dump_json(exclude={"seed", "hard_limit"}), run)
    found: dict[int, list[Planned]] = {}
    for run in lowest.values():
        fitting = [n for n in LENGTHS if n * (records[run.id].times.step_ms or 0.0) <= 1000 * TIMED_SECONDS]
        found.setdefault(max(fitting, default=LENGTHS[0]), []).append(run)
    return dict(sorted(found.items()))
