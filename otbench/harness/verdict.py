"""What became of a job of a cluster that is over and left no record, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass

from otbench.harness.batch import Note
from otbench.harness.slurm import Job
from otbench.records.record import Status

LOSSES = 5
"""How often a job is handed in again that its node or a more urgent one ended, before its row says so."""


@dataclass(frozen=True)
class Verdict:
    """What to do about a job that is over, and left no record.

    Attributes:
        status: how its run ended; None = it is handed in again.
        reason: why, for the record.
        lost: whether it is handed in again `LOSSES` times at most.
        cancelled: whether it stays ended.
    """

    status: Status | None = None
    reason: str = ""
    lost: bool = False
    cancelled: bool = False


def verdict(job: Job | None, note: Note | None, *, moved: bool) -> Verdict:
    """Say what became of a job that is over, and left no record.

    Args:
        job: as the queue remembers it; None = not at all.
        note: what it last said of itself.
        moved: whether anything came of its runs since it last began.
    """
    said = note.what if note is not None else ""
    state = job.state if job is not None else ""
    named = f"job {job.number}" if job is not None else "its job"
    if state == "CANCELLED" or (job is None and said in ("", "stopped")):
        how = "was cancelled" if job is not None else "left the queue, which does not remember why"
        return Verdict(Status.ERROR, f"{named} {how}; it is tried again with --retry-cancelled", cancelled=True)
    if said == "refused":
        assert note is not None
        return Verdict(Status.ERROR, note.message)
    if said == "again":
        return Verdict()
    if said == "stuck" or (state in ("TIMEOUT", "DEADLINE") and not moved):
        return Verdict(Status.TIMEOUT, f"the limit of time of {named} came before a checkpoint; give it more time")
    if state in ("TIMEOUT", "DEADLINE"):
        return Verdict()
    if state == "OUT_OF_MEMORY":
        return Verdict(Status.OOM, f"{named} took more memory than it asked for (--slurm mem=...)")
    if job is None or said == "stopped" or state in ("PREEMPTED", "NODE_FAIL", "BOOT_FAIL", "REVOKED"):
        return Verdict(lost=True, reason=f"{named} was ended by its node or by the queue ({state or 'no state'})")
    return Verdict(Status.ERROR, f"{named} ended as {state} without a record")
