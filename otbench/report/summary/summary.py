"""The summary: contests, what they say together, and the guide."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from otbench.records.record import Record
from otbench.records.words import counted
from otbench.report.summary.contests import SMOKE, Contest, contests
from otbench.report.summary.guide import Advice, guide
from otbench.report.summary.scopes import Scope, scopes

RULE = (
    "Ranked together are rows of one task with the same parameters, preset, device, budget and kind of points;"
    " yardsticks (rows that are no solvers) stand beside. Solvers share a rank where paired differences over seeds"
    " do not show that one is worse (5 %, Holm); one seed shows nothing."
)


@dataclass
class Summary:
    """What all records together say.

    What is made of the contests is made when it is asked for: its tests take longer than all else.

    Attributes:
        records: how many it rests on, without those that a newer run took the place of.
        contests: by task and size; those of one solver last.
        remarks: what was left out, and why.
    """

    records: int
    contests: list[Contest]
    remarks: list[str] = field(default_factory=list)

    @cached_property
    def guide(self) -> list[Advice]:
        """Which solver by need."""
        return guide(self.contests)

    @property
    def unanswered(self) -> list[Advice]:
        """The advice of all needs for which no task has records enough."""
        answered = {advice.need for advice in self.guide if advice.solvers}
        return [advice for advice in self.guide if advice.need not in answered]

    @cached_property
    def scopes(self) -> list[Scope]:
        """Statistics over instances."""
        return scopes(self.contests)

    @cached_property
    def equal_scopes(self) -> list[Scope]:
        """The same at equal times of training, where solvers trained for lengths of their own."""
        return scopes([contest.equal for contest in self.contests if contest.equal is not None])

    @property
    def compared(self) -> list[Contest]:
        """The contests of two solvers or more."""
        return [contest for contest in self.contests if len(contest.entries) > 1]

    @property
    def alone(self) -> list[Contest]:
        """The contests of one solver, which say nothing of another."""
        return [contest for contest in self.contests if len(contest.entries) == 1]


def summarise(records: Iterable[Record], *, stale: Mapping[str, str] = {}, verified: Mapping[str, str] = {}) -> Summary:
    """Return the summary of `records`, of any tasks, presets and budgets.

    Records under the preset `smoke` are left out, as it shows only that a solver runs, unless there are no others.

    Args:
        records: of any folders.
        stale: see `otbench.report.rows.sections`.
        verified: see `otbench.report.rows.sections`.
    """
    given = list(records)
    kept = [record for record in given if record.spec.preset != SMOKE]
    remarks = []
    if kept and len(kept) < len(given):
        n = len(given) - len(kept)
        count = f"{counted(n, 'record')} under the preset smoke {'is' if n == 1 else 'are'} left out"
        remarks.append(f"{count}: it shows that a solver runs, not how good it is.")
    found = contests(kept or given, stale=stale, verified=verified)
    found.sort(key=lambda contest: len(contest.entries) == 1)
    presets = Counter(contest.terms.preset for contest in found)
    if not kept and given:
        remarks.append("All records are under the preset smoke, which shows that a solver runs, not how good it is.")
    elif len(presets) > 1:
        counts = ", ".join(f"{n} under {name}" for name, n in sorted(presets.items()))
        remarks.append(f"Presets are never ranked together; instances: {counts}.")
    used = {id(record) for contest in found for row in contest.section.rows for record in row.records}
    return Summary(len(used), found, remarks)
