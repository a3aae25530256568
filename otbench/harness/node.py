"""What a job does on a compute node: `execute` on its own few runs, and a note of how that ended.

The queue ends jobs in two ways. A minute before the limit of time it sends SIGUSR2: the job leaves a checkpoint and has
itself requeued, if it got on at all. Where it pre-empts, requeues or cancels a job it sends SIGTERM: the job leaves a
checkpoint, and whether it comes again is the queue's business.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from time import monotonic
from typing import NoReturn

from otbench.errors import OtbenchError, StoreError
from otbench.files import shown, write_whole
from otbench.harness.batch import Batch, Note, mark, note_path, read_batch, record_digest
from otbench.harness.execute import execute
from otbench.harness.identity import INPUT, code_of
from otbench.harness.messages import Event, Planned
from otbench.harness.plan import Plan, resolve_device
from otbench.harness.slurm import SilentQueueError, requeue
from otbench.records.record import Record
from otbench.records.store import Store

NOTE_SECONDS = 15.0
"""Between two notes of how far a run is."""


def main(path: str, place: int) -> NoReturn:
    """Do the job at `place` of the array in the file `path`."""
    sys.exit(Node(Path(path), place).work())


class Node:
    """One job."""

    def __init__(self, path: Path, place: int) -> None:
        """Prepare the job at `place` of the array in the file `path`."""
        self._path, self._place = path, place
        self._note = Note(what="going")
        self._noted = 0.0
        self._time_is_up = False

    def work(self) -> int:
        """Do all runs of the job that are left; return the exit code."""
        batch = read_batch(self._path)
        if batch is None:
            sys.stderr.write(f"{shown(self._path)}: no array of jobs; do nodes share this folder?\n")
            return 2
        runs, store = batch.groups[self._place], Store(self._path.parent.parent)
        signal.signal(signal.SIGUSR2, self._end)
        try:
            self._say(what="going", mark=mark(store, runs))
            if reason := unfit(batch, runs):
                self._say(what="refused", message=reason)
                return 2
            outcome = execute(
                Plan(tuple(runs), frozenset(run.spec.solver for run in runs if len(runs) > 1), has_full=False),
                store,
                data_dir=batch.data_dir,
                listen=self._listen,
                until_step=batch.until_step,
                keep_maps=batch.keep_maps,
                repeat={run.id for run in runs if record_digest(store, run.id) == batch.before[run.id]},
                in_order=True,
                shared=batch.shared,
            )
        except StoreError as error:
            sys.stderr.write(f"{error}\n")
            self._say(what="cannot write", message=str(error))
            return 2
        if outcome.interrupted:
            return self._interrupted(store, runs)
        return 0

    def _interrupted(self, store: Store, runs: list[Planned]) -> int:
        """Say that the job was told to end, or have it requeued."""
        if not self._time_is_up:
            self._say(what="stopped")
        elif mark(store, runs) == self._note.mark:
            self._say(what="stuck")
        else:
            self._say(what="again")
            try:
                requeue(os.environ["SLURM_JOB_ID"])
            except (SilentQueueError, KeyError) as error:  # the parent hands it in again
                sys.stderr.write(f"cannot be requeued: {error}\n")
        return 1

    def _end(self, *_: object) -> None:
        self._time_is_up = True
        os.kill(os.getpid(), signal.SIGTERM)

    def _listen(self, run: Planned, event: Event | Record) -> None:
        if isinstance(event, Event) and (self._note.run != run.id or monotonic() - self._noted > NOTE_SECONDS):
            self._say(run=run.id, progress=event.progress, step=event.step)

    def _say(self, **changes: object) -> None:
        self._note, self._noted = self._note.model_copy(update=changes), monotonic()
        write_whole(note_path(self._path, self._place), self._note.model_dump_json().encode())


def unfit(batch: Batch, runs: list[Planned]) -> str:
    """Return why this machine must not do `runs`: other code or another card than they are named for; else nothing."""
    try:
        for run in runs:
            planned = {name: value for name, value in run.source.items() if not name.startswith(INPUT)}
            if code_of(run.solver, run.task) != planned:
                return "the code has changed since the job was handed in"
        card = resolve_device(runs[0].spec.device)[1]
    except (OSError, OtbenchError) as error:
        return f"the node cannot do it: {error}"
    if card != batch.card:
        return f"the node has another card ({card}) than its run is named for ({batch.card}); ask for one kind of card"
    return ""
