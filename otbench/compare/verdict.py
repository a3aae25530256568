"""What a comparison says and the rules that it follows, as data; nothing is computed from records here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from otbench.records.series import Series


class Verdict(StrEnum):
    """What a comparison says."""

    WORSE = "worse"
    SUSPICIOUS = "suspicious"
    BETTER = "better"
    SAME = "same"
    NOT_COMPARABLE = "not comparable"
    NOTHING = "nothing measured"


def verdict_of(change: float, threshold: float) -> Verdict:
    """Return what a change is, larger being worse: the same up to `threshold`."""
    if abs(change) <= threshold:
        return Verdict.SAME
    return Verdict.WORSE if change > 0 else Verdict.BETTER


class Aspect(StrEnum):
    """What is compared of a series."""

    STATUS = "status"
    QUALITY = "quality"
    MEMORY = "memory"
    TIME = "time"


@dataclass(frozen=True)
class Rules:
    """What counts as a change.

    Attributes:
        alpha: chance that unchanged code is called worse in any number of quality, over all series and metrics
            together, and the chance that it is called better.
        tolerance: relative change of a quality metric that is never called better or worse.
        gate_time: threshold of time in units of its own noise, and time then counts for `regressed`; None = time is
            shown only.
        metrics: names of the metrics to judge; None = the primary ones of each task.
        require_all: whether a series of BASE without a run in NEW counts as "could not be compared".
    """

    alpha: float = 0.01
    tolerance: float = 0.05
    gate_time: float | None = None
    metrics: tuple[str, ...] | None = None
    require_all: bool = False


@dataclass(frozen=True)
class Comparison:
    """One number of one series in BASE and NEW.

    Attributes:
        series: what was run.
        aspect: what the number is about.
        metric: its name; "status" and "run" for the run itself.
        label: its name for people.
        unit: of `base` and `new`.
        verdict: what became of it.
        gated: whether `worse` here is a regression.
        seeds: those in both BASE and NEW.
        base: mean over `seeds` (geometric where `relative`).
        new: the same of NEW.
        spread: standard deviation of NEW over its seeds, in `unit`; None for one seed.
        relative: whether `change` is a ratio (new / base) or a difference (new - base).
        of_gap: whether the ratio is that of the distance to the best possible value, not of the value.
        change: how much; with `low` and `high` its interval.
        p: Holm's adjusted one-sided p-value; None where no test was needed or possible.
        reason: what else is to be said.
        smaller_is_better: direction of `new`.
        leaning: whether any seed is worse by more than the tolerance, whatever the mean and the noise say.
    """

    series: Series
    aspect: Aspect
    metric: str
    label: str
    unit: str
    verdict: Verdict
    gated: bool = True
    seeds: tuple[int, ...] = ()
    base: float | None = None
    new: float | None = None
    spread: float | None = None
    relative: bool = True
    of_gap: bool = False
    change: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    reason: str = ""
    smaller_is_better: bool = True
    leaning: bool = False

    @property
    def regressed(self) -> bool:
        """Whether this alone makes NEW a regression."""
        return self.gated and self.verdict is Verdict.WORSE


@dataclass(frozen=True)
class Comparisons:
    """All comparisons, the ones to look at first.

    Attributes:
        rows: in the order of verdicts, then of series.
        rules: by which they were judged.
        between: labels of the two solvers that are BASE and NEW; None where BASE and NEW are two states of the code.
        only_in_base: by label, seeds that BASE has and NEW has not, of solvers that both have.
        notes: what else the reader should know: other versions, records that were passed over.
    """

    rows: tuple[Comparison, ...]
    rules: Rules
    notes: tuple[str, ...] = ()
    between: tuple[str, str] | None = None
    only_in_base: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    @property
    def suspects(self) -> dict[str, tuple[int, ...]]:
        """Solvers and baselines with a number that may be worse, and the seeds that would tell more."""
        labels = dict.fromkeys(row.series.label for row in self.rows if row.leaning)
        return {label: self.only_in_base.get(label, ()) for label in labels}

    def count(self, verdict: Verdict) -> int:
        """Return the number of rows with `verdict`."""
        return sum(row.verdict is verdict for row in self.rows)

    @property
    def regressed(self) -> bool:
        """Whether anything that counts is worse."""
        return any(row.regressed for row in self.rows)

    @property
    def compared(self) -> bool:
        """Whether any quality could be compared; with `require_all`, whether everything that BASE measured was.

        Runs that ended well and took the same memory are no comparison if no metric of theirs could be judged.
        """
        if self.rules.require_all and self.count(Verdict.NOTHING):
            return False
        judged = (Verdict.WORSE, Verdict.SUSPICIOUS, Verdict.BETTER, Verdict.SAME)
        return self.regressed or any(row.aspect is Aspect.QUALITY and row.verdict in judged for row in self.rows)
