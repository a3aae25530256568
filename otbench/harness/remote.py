"""Executes planned runs as jobs of a cluster. The jobs do what `execute` does; this hands them in and looks after them.

Nothing that matters is in this process: what was handed in lies beside the records, what becomes of it is read off
records, notes and the queue. So it may end at any time, and the next one goes on with the same jobs.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter, sleep

from otbench.errors import StoreError, UsageError
from otbench.files import shown
from otbench.harness.batch import Batch, Batches, mark, now, record_digest
from otbench.harness.execute import Listener, Outcome, python_command, sigterm_as_interrupt, todo
from otbench.harness.messages import Event, Planned
from otbench.harness.plan import Plan, resolve_device
from otbench.harness.slurm import ARRAY, Job, Jobs, Queue, SilentQueueError
from otbench.harness.verdict import LOSSES, Verdict, verdict
from otbench.names import plain, plain_lines
from otbench.records.record import Record, Status
from otbench.records.store import Store

LEAST_POLL, MOST_POLL = 2.0, 30.0
"""Seconds between two looks at the queue: often while things happen, seldom while nothing does."""
GRACE = 20.0
"""Seconds from the first look at which a job is over to the verdict: a shared disk may lag, and the job come again."""

Tell = Callable[[str], None]
"""Called with a line that the user should see."""


def execute_in_queue(
    plan: Plan,
    store: Store,
    queue: Queue,
    *,
    limit: int | None = None,
    shared: bool = True,
    cards: tuple[str, ...] | None = None,
    tell: Tell = lambda line: None,
    force: bool = False,
    data_dir: Path | None = None,
    listen: Listener = lambda run, event: None,
    until_step: int | None = None,
    keep_maps: bool = False,
    repeat: Collection[str] = (),
    in_order: bool = False,
    deadline: float | None = None,
) -> Outcome:
    """Do every run of `plan` that has no final record yet, as jobs of `queue`.

    Runs that an earlier call handed in, and whose jobs wait or run, are waited for. Jobs stay in the queue when this
    ends early, by Ctrl-C, SIGTERM or the deadline.

    Args:
        plan: what to do.
        store: where records are and go, on a disk that the nodes share.
        queue: where jobs are handed in.
        limit: jobs that run at a time; None = as many as the queue lets.
        shared: whether others may use the device at the same time.
        cards: names of the GPUs of the nodes; None = of this machine.
        tell: told what the user should know of the queue.
        force: see `execute`, as for the following ones.
        data_dir: the user's own data.
        listen: told of every event.
        until_step: stop solvers at this step.
        keep_maps: leave the final maps beside each record.
        repeat: ids of runs that are done again although they have a final record.
        in_order: begin the runs in the order of the plan.
        deadline: reading of `perf_counter` at which waiting ends.

    Raises:
        UsageError: the queue does not answer at the start, or refuses a job.
        StoreError: a record cannot be written, here or on a node.
    """
    store.prepare()
    parent = _Parent(
        store,
        queue,
        limit,
        tell,
        listen,
        deadline,
        Batch(
            name="",
            groups=[],
            lost=[],
            before={},
            data_dir=None if data_dir is None else data_dir.resolve(),
            until_step=until_step,
            keep_maps=keep_maps,
            shared=shared,
        ),
        cards,
    )
    known = parent.take_over({run.id for run in plan.runs})
    left = todo(plan, store, force=force, keep_maps=keep_maps, repeat=repeat, in_order=in_order)  # what ended till now
    groups = [fresh for group in left.groups if (fresh := [run for run in group if run.id not in known])]
    if force and until_step is None:
        for run in (run for group in groups for run in group):
            store.forget(run.id)
    interrupted = parent.run(groups)
    records = [r for run in plan.runs if (r := left.have.get(run.id) or parent.records.get(run.id)) is not None]
    return Outcome(records, interrupted, tuple(sorted({flight.batch.name for flight in parent.flights})))


@dataclass
class _Flight:
    """A job that was handed in, and whose runs are not settled yet."""

    batch: Batch
    place: int
    seen: bool = False  # whether this call knows it from before it was over
    over_since: float | None = None  # when it was first seen to be over
    shown: str = ""  # the run that the user knows to be going
    reason: str = ""  # why it waits, as the user knows

    @property
    def runs(self) -> list[Planned]:
        return self.batch.groups[self.place]


@dataclass
class _Waiting:
    """Runs that are to be handed in as one job."""

    runs: list[Planned]
    lost: int = 0


@dataclass
class _Parent:
    store: Store
    queue: Queue
    limit: int | None
    tell: Tell
    listen: Listener
    deadline: float | None
    blank: Batch
    cards: tuple[str, ...] | None
    flights: list[_Flight] = field(default_factory=list)
    records: dict[str, Record] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.batches = Batches(self.store)
        self.waiting: list[_Waiting] = []
        self.silent = False
        self.moved = perf_counter()

    def run(self, groups: list[list[Planned]]) -> bool:
        """Do all groups, and what was taken over; return True if interrupted."""
        self.waiting = [_Waiting(runs) for runs in groups]
        with sigterm_as_interrupt():
            try:
                while self.waiting or self.flights:
                    if self.deadline is not None and perf_counter() > self.deadline:
                        return True
                    self._hand_in()
                    self._look()
                    if self.flights:
                        self._pause()
            except KeyboardInterrupt:
                return True
            finally:
                self._tidy()
        return False

    def take_over(self, wanted: set[str]) -> set[str]:
        """Find jobs of earlier calls that do runs of `wanted`; return the ids of all their runs."""
        batches = self.batches.all()
        try:
            jobs = self.queue.jobs([batch.name for batch in batches])
        except SilentQueueError as error:
            raise UsageError(f"SLURM does not answer: {error}") from None
        known: set[str] = set()
        for batch in reversed(batches):  # where a job was handed in again, the later one counts
            mine = {place for name, place in jobs if name == batch.name}
            if not (batch.submitted or mine or self.queue.past([batch.name], batch.created)):
                self.batches.forget(batch, logs=False)  # the call that wrote it ended before it was handed in
                continue
            batch.submitted = True
            for place, runs in enumerate(batch.groups):
                left = {run.id for run in runs if self.batches.news(batch, run.id) is None}
                if left - known and wanted & left:
                    self.flights.append(_Flight(batch, place))
                    known |= {run.id for run in runs}
        if known:
            jobs_are = "job is" if len(self.flights) == 1 else "jobs are"
            self.tell(f"{len(self.flights)} {jobs_are} in the queue from an earlier call, and will be waited for")
        return known

    def _hand_in(self) -> None:
        """Hand in what waits, as far as the queue has room: one array for each number of threads."""
        if self.flights and self.limit is not None:
            return  # two arrays would run twice as many at a time
        while self.waiting and len(self.flights) + min(len(self.waiting), ARRAY) <= ARRAY:
            threads = self.waiting[0].runs[0].spec.threads
            alike = [one for one in self.waiting if one.runs[0].spec.threads == threads][:ARRAY]
            self._submit(alike, threads)
            taken = set(map(id, alike))
            self.waiting = [one for one in self.waiting if id(one) not in taken]
            if self.limit is not None:
                return

    def _submit(self, jobs: list[_Waiting], threads: int) -> None:
        runs = [run for one in jobs for run in one.runs]
        batch = self.blank.model_copy(
            update={
                "name": f"otbench-{secrets.token_hex(4)}",
                "created": now(),
                "groups": [one.runs for one in jobs],
                "lost": [one.lost for one in jobs],
                "before": {run.id: record_digest(self.store, run.id) for run in runs},
                "card": resolve_device(runs[0].spec.device, self.cards)[1],
            }
        )
        self.batches.write(batch)
        path = self.batches.path(batch).resolve()
        commands = [
            python_command(f"from otbench.harness.node import main; main({str(path)!r}, {place})")
            for place in range(len(jobs))
        ]
        try:
            self.queue.submit(
                batch.name,
                self.batches.logs(batch).resolve(),
                commands,
                threads=threads,
                limit=min(len(jobs), self.limit or len(jobs)),
            )
        except UsageError:
            self.batches.forget(batch, logs=False)
            raise
        batch.submitted = True
        self.batches.write(batch)
        self.flights += [_Flight(batch, place, seen=True) for place in range(len(jobs))]
        self.moved = perf_counter()
        self.tell(f"{len(jobs)} job{'' if len(jobs) == 1 else 's'} handed in as {batch.name}")

    def _look(self) -> None:
        """Take in what records, notes and the queue say."""
        try:
            jobs = self.queue.jobs(sorted({flight.batch.name for flight in self.flights}))
        except SilentQueueError as error:
            if not self.silent:
                self.tell(f"the queue does not answer, and is asked again: {error}")
            self.silent = True
            jobs = None
        else:
            self.silent = False
        for flight in list(self.flights):
            if self._settled(flight):
                self.flights.remove(flight)
            elif jobs is not None:
                self._follow(flight, jobs)

    def _settled(self, flight: _Flight) -> bool:
        """Take over records that have come; return whether that is all."""
        found = {run.id: self.batches.news(flight.batch, run.id) for run in flight.runs}
        for run in flight.runs:
            record = found[run.id]
            if record is not None and run.id not in self.records:
                self._keep(run, record)
        return all(found.values())

    def _keep(self, run: Planned, record: Record) -> None:
        self.records[run.id] = record
        self.moved = perf_counter()
        self.listen(run, record)

    def _follow(self, flight: _Flight, jobs: Jobs) -> None:
        job = jobs.get((flight.batch.name, flight.place))
        if job is not None and job.live:
            flight.seen, flight.over_since = True, None
            self._show(flight, job)
            return
        if flight.over_since is None:
            flight.over_since = perf_counter()
        if perf_counter() - flight.over_since >= GRACE and not self._settled(flight):
            if job is None:
                job = self.queue.past([flight.batch.name], flight.batch.created).get((flight.batch.name, flight.place))
            self.flights.remove(flight)
            self._end(flight, job)

    def _show(self, flight: _Flight, job: Job) -> None:
        """Let the user see how far a job is, or why it waits."""
        if job.state == "PENDING":
            if job.reason != flight.reason and job.reason.lower().startswith(("job", "launch", "bad", "dependency")):
                self.tell(f"job {job.number} waits: {plain(job.reason)}")
            flight.reason = job.reason
            return
        note = self.batches.note(flight.batch, flight.place)
        run = next((run for run in flight.runs if note is not None and run.id == note.run), None)
        if note is None or run is None or note.what != "going" or run.id in self.records:
            return
        if flight.shown != run.id:
            flight.shown, self.moved = run.id, perf_counter()
            self.listen(run, Event(id=run.id, phase="setup"))
        self.listen(run, Event(id=run.id, phase="train", progress=note.progress, step=note.step, record=run.blank()))

    def _end(self, flight: _Flight, job: Job | None) -> None:
        """Settle what a job that is over has left open."""
        note, lost = self.batches.note(flight.batch, flight.place), flight.batch.lost[flight.place]
        if note is not None and note.what == "cannot write":
            if flight.seen:
                raise StoreError(plain_lines(note.message))
            note = note.model_copy(update={"what": "again"})  # an earlier call said so; now there may be room
        moved = note is not None and bool(note.mark) and note.mark != mark(self.store, flight.runs)
        found = verdict(job, note, moved=moved)
        left = [run for run in flight.runs if run.id not in self.records]
        if found.lost and lost >= LOSSES:
            found = Verdict(Status.ERROR, f"{found.reason}, and so were {lost} before it")
        if found.status is None:
            self.waiting.append(_Waiting(left, lost + found.lost))
            self.tell(f"{left[0].label} on {left[0].spec.task}: {found.reason or 'its time was up'}; handed in again")
            return
        every = found.cancelled or (note is not None and note.what == "refused")
        for run in left if every else left[:1]:
            before, record = self.store.read(run.id), run.blank()
            record.end(found.status, found.reason, stderr=self.batches.log_tail(flight.batch, flight.place))
            record.cancelled, record.shared_device = found.cancelled, flight.batch.shared
            record.tries = before.tries + 1 if before is not None and before.passing else 1
            self.store.write(record)
            self._keep(run, record)
        if rest := [run for run in left if run.id not in self.records]:
            self.waiting.append(_Waiting(rest, lost))

    def _pause(self) -> None:
        quiet = perf_counter() - self.moved
        seconds = min(MOST_POLL, max(LEAST_POLL, quiet / 10))
        if self.deadline is not None:
            seconds = min(seconds, max(0.0, self.deadline - perf_counter()))
        sleep(seconds)

    def _tidy(self) -> None:
        """Remove the files of arrays whose runs are all settled; logs stay where a run failed."""
        going = {flight.batch.name for flight in self.flights}
        for batch in self.batches.all():
            records = [self.batches.news(batch, run.id) for runs in batch.groups for run in runs]
            if batch.name in going or not all(records):
                continue
            failed = any(record is not None and (record.passing or record.cancelled) for record in records)
            self.batches.forget(batch, logs=failed)
            if failed:
                self.tell(f"logs of failed jobs: {shown(self.batches.logs(batch))}")
