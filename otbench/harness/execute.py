"""Executes planned runs, each in fresh processes, and sees to it that every one leaves a record.

The parent never computes and never touches a GPU. It starts guards, which start the processes of runs, reads what they
and the judges say, ends what does not react, and writes the record of a run whose judge could not.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from pathlib import Path
from time import perf_counter
from typing import IO

from pydantic import ValidationError

from otbench._links import checkout_root
from otbench.errors import StoreError
from otbench.harness.messages import CANNOT_WRITE, Command, Ended, Event, Job, Planned, Told
from otbench.harness.plan import Plan
from otbench.names import plain_lines
from otbench.records.record import Account, Record, Status
from otbench.records.store import Store

STOP_SECONDS = 15.0
"""How long runs may take to write their checkpoints after Ctrl-C."""
START_SECONDS = 120.0
"""How long a guard may take to load what runs need."""
KILL_SECONDS = 5.0
"""How long a guard may take to end a process and what it started; then it is ended itself."""
TICK = 0.05
"""Seconds between two looks at which guards have ended."""
PIPE_BYTES = 2**20
"""More than a pipe holds, so that one look takes all."""
STDERR_TAIL = 4000
ORDER_SEED = 0


@dataclass
class Outcome:
    """What became of a plan.

    Attributes:
        records: of every planned run that has one, in the order of the plan.
        interrupted: True if Ctrl-C, SIGTERM or the deadline ended it early.
        queued: names of the arrays of jobs that are still in a cluster's queue then.
    """

    records: list[Record]
    interrupted: bool = False
    queued: tuple[str, ...] = ()


Listener = Callable[[Planned, Event | Record], None]
"""Called with each event of a run, and with its record when it has ended."""


def settled(plan: Plan, store: Store, *, keep_maps: bool = False) -> dict[str, Record]:
    """Return the records that already settle runs of `plan`, by run id.

    Args:
        plan: what is to be done.
        store: where records are.
        keep_maps: whether a run that has ended well must have its maps beside the record.
    """
    found = {run.id: store.read(run.id) for run in plan.runs}
    return {
        run.id: record
        for run in plan.runs
        if (record := found[run.id]) is not None
        and record.final(run.spec)
        and not (keep_maps and lacks_map(run, record, store))
    }


@dataclass(frozen=True)
class Todo:
    """What there is to do of a plan.

    Attributes:
        have: records that settle runs already, by run id.
        groups: runs that share their processes, in the order in which they are begun.
        failed: how often runs failed before, by run id.
    """

    have: Mapping[str, Record]
    groups: list[list[Planned]]
    failed: Mapping[str, int]


def todo(
    plan: Plan,
    store: Store,
    *,
    force: bool = False,
    keep_maps: bool = False,
    repeat: Collection[str] = (),
    in_order: bool = False,
) -> Todo:
    """Return what is left of `plan`; the arguments are those of `execute`."""
    have = {} if force else settled(plan, store, keep_maps=keep_maps)
    have = {name: record for name, record in have.items() if name not in repeat}
    pending = [run for run in plan.runs if run.id not in have]
    failed = {run.id: record.tries for run in pending if (record := store.read(run.id)) and record.passing}
    groups = _grouped(pending, plan.closed_form)
    if not in_order:
        random.Random(ORDER_SEED).shuffle(groups)
    return Todo(have, groups, failed)


def lacks_map(run: Planned, record: Record, store: Store) -> bool:
    """Say whether maps of `run` could stand beside its record, and do not."""
    kept = bool(record.map_digest) and store.map_path(run.id).is_file()
    return record.status is Status.OK and not run.scored_by_task and not kept


def execute(
    plan: Plan,
    store: Store,
    *,
    jobs: int = 1,
    force: bool = False,
    data_dir: Path | None = None,
    listen: Listener = lambda run, event: None,
    until_step: int | None = None,
    keep_maps: bool = False,
    repeat: Collection[str] = (),
    in_order: bool = False,
    deadline: float | None = None,
    shared: bool = False,
) -> Outcome:
    """Do every run of `plan` that has no final record yet.

    Args:
        plan: what to do.
        store: where records are and go.
        jobs: runs at a time; with more than one, records say that the device was shared.
        force: repeat runs that have a final record.
        data_dir: the user's own data.
        listen: told of every event.
        until_step: stop solvers at this step of the same budget, as if they were looked at on the way: the last point
            of the curve is that of this step, and nothing is evaluated beyond it. Such records have the names of whole
            runs, so `store` must be a folder of its own. No checkpoint is read or left.
        keep_maps: leave the final maps beside each record; a run that has ended without is repeated.
        repeat: ids of runs that are done again although they have a final record.
        in_order: begin the runs in the order of the plan, not in a shuffled one.
        deadline: reading of `perf_counter` at which the plan ends as if by Ctrl-C: runs leave checkpoints.
        shared: whether others may use the device at the same time, so that records say so even with one run at a time.

    Raises:
        StoreError: a record cannot be written. Records already written are kept.
    """
    store.prepare()
    if force and until_step is None:
        for run in plan.runs:
            store.forget(run.id)
    left = todo(plan, store, force=force, keep_maps=keep_maps, repeat=repeat, in_order=in_order)
    with tempfile.TemporaryDirectory(prefix="otbench-", ignore_cleanup_errors=True) as spool:
        executor = _Executor(
            store,
            jobs,
            shared or jobs > 1,
            data_dir,
            listen,
            until_step,
            keep_maps,
            left.failed,
            deadline,
            Path(spool).resolve(),
        )
        interrupted = executor.run(left.groups)
    records = [r for run in plan.runs if (r := left.have.get(run.id) or executor.records.get(run.id)) is not None]
    return Outcome(records, interrupted)


def _grouped(runs: Sequence[Planned], closed_form: frozenset[str]) -> list[list[Planned]]:
    """Put the closed-form baselines of one instance and seed together, every other run alone."""
    groups: dict[object, list[Planned]] = {}
    for run in runs:
        spec = run.spec
        instance = (spec.task, tuple(spec.task_config.items()), spec.seed)
        groups.setdefault(instance if spec.solver in closed_form else run.id, []).append(run)
    return list(groups.values())


class _Pipe:
    """One end of a pipe from a guard or its judges, read line by line as it comes."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._torn = b""
        self.open = True
        os.set_blocking(descriptor, False)

    def fileno(self) -> int:
        return self._descriptor

    def lines(self) -> list[bytes]:
        """Return the whole lines that have come."""
        try:
            data = os.read(self._descriptor, PIPE_BYTES)
        except BlockingIOError:
            return []
        self.open = bool(data)
        *lines, self._torn = (self._torn + data).split(b"\n")
        return lines


@dataclass
class _Work:
    """A job, and what is known of its runs."""

    runs: list[Planned]
    mark: float  # when the job was given, or its last run ended
    stderr: int  # bytes that the guard had written to its error output before
    accounts: dict[str, Account] = field(default_factory=dict)
    last: dict[str, Record] = field(default_factory=dict)
    done: dict[str, Record] = field(default_factory=dict)
    ended: Ended | None = None  # the judge
    cannot_write: str = ""

    @property
    def current(self) -> Planned | None:
        return next((run for run in self.runs if run.id not in self.done), None)

    def account(self, run: str) -> Account:
        return self.accounts.setdefault(run, Account())


class _Guard:
    """A guard, and the job that it is doing."""

    def __init__(self, threads: int) -> None:
        """Start it; `threads` are those of its runs."""
        self.threads = threads
        self.work: _Work | None = None
        self.silent = False  # whether it was ended because it did not react
        self.deadline = perf_counter() + START_SECONDS
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115  (lives as long as the guard)
        accounts, theirs = os.pipe()
        self.process = subprocess.Popen(
            guard_command(theirs),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            pass_fds=(theirs,),
            start_new_session=True,  # its own group: ended as a whole, and out of reach of Ctrl-C
            env=os.environ | {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)},
        )
        os.close(theirs)
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self._stdin: IO[bytes] = self.process.stdin
        self.events = _Pipe(self.process.stdout.fileno())
        self.accounts = _Pipe(accounts)

    @property
    def pipes(self) -> list[int]:
        return [pipe.fileno() for pipe in (self.events, self.accounts) if pipe.open]

    def give(self, job: Job) -> None:
        self.work = _Work(job.runs, perf_counter(), os.fstat(self._stderr.fileno()).st_size)
        self.deadline = perf_counter() + START_SECONDS
        self.say(Command(job=job))

    def say(self, command: Command) -> None:
        with contextlib.suppress(OSError):  # a guard that has ended is seen by its exit code
            self._stdin.write(command.model_dump_json().encode() + b"\n")
            self._stdin.flush()

    def kill(self) -> None:
        """End the whole group: what the guard has started may be left where it cannot adopt."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)

    def ended(self) -> bool:
        return self.process.poll() is not None

    def close(self) -> None:
        """Let go of an ended guard, and of its pipes."""
        self.kill()
        self.process.wait()
        os.close(self.accounts.fileno())
        for file in (self._stdin, self.process.stdout, self._stderr):
            assert file is not None
            with contextlib.suppress(OSError):  # a broken pipe on closing is no news
                file.close()

    def stderr_tail(self) -> str:
        """Return the end of what the processes of this job wrote to their error output."""
        assert self.work is not None
        size = os.fstat(self._stderr.fileno()).st_size
        begin = max(self.work.stderr, size - STDERR_TAIL)
        return os.pread(self._stderr.fileno(), STDERR_TAIL, begin).decode(errors="replace").strip()


@dataclass
class _Executor:
    store: Store
    jobs: int
    shared: bool
    data_dir: Path | None
    listen: Listener
    until_step: int | None
    keep_maps: bool
    failed: Mapping[str, int]  # how often runs failed before, by id
    deadline: float | None
    spool: Path
    records: dict[str, Record] = field(default_factory=dict)
    guards: list[_Guard] = field(default_factory=list)
    given: int = 0

    @property
    def busy(self) -> list[_Guard]:
        return [guard for guard in self.guards if guard.work is not None]

    def run(self, groups: list[list[Planned]]) -> bool:
        """Do all groups; return True if interrupted."""
        waiting = list(reversed(groups))
        with sigterm_as_interrupt():
            try:
                while waiting or self.busy:
                    if self.deadline is not None and perf_counter() > self.deadline:
                        self._interrupt()
                        return True
                    while waiting and len(self.busy) < self.jobs:
                        self._give(waiting.pop())
                    for guard in self._turn():
                        left = self._finish(guard)
                        if left:
                            waiting.append(left)
            except KeyboardInterrupt:
                self._interrupt()
                return True
            finally:
                self._end_all()
        return False

    def _turn(self) -> list[_Guard]:
        """Handle what guards and judges say, end guards that do not react; return those whose job has ended."""
        busy = self.busy
        ready = wait([descriptor for guard in busy for descriptor in guard.pipes], TICK)
        now = perf_counter()
        finished = []
        for guard in busy:
            work = guard.work
            assert work is not None
            if now > guard.deadline:
                guard.silent = True
                guard.kill()
            gone = guard.ended()
            if guard.accounts.fileno() in ready or gone:
                for line in guard.accounts.lines():
                    self._account(guard, work, Told.model_validate_json(line))
            if guard.events.fileno() in ready or gone or work.ended is not None:
                for line in guard.events.lines():
                    self._hear(work, line)
            if gone or work.ended is not None:
                finished.append(guard)
        return finished

    def _give(self, runs: list[Planned]) -> None:
        """Have a guard do `runs`: one that is free, or a new one."""
        threads = runs[0].spec.threads
        free = [guard for guard in self.guards if guard.work is None]
        guard = next((guard for guard in free if guard.threads == threads), None)
        if guard is None:
            for other in free:
                self._dismiss(other)
            guard = _Guard(threads)
            self.guards.append(guard)
        self.given += 1
        spool = self.spool / str(self.given)
        spool.mkdir()
        guard.give(
            Job(
                runs=runs,
                folder=self.store.folder.resolve(),
                data_dir=self.data_dir.resolve() if self.data_dir else None,
                shared_device=self.shared,
                spool=spool,
                until_step=self.until_step,
                keep_maps=self.keep_maps,
            )
        )

    def _account(self, guard: _Guard, work: _Work, told: Told) -> None:
        if told.limit is not None:
            guard.deadline = perf_counter() + told.limit + KILL_SECONDS
        ended = told.ended
        if ended is None:
            return
        if ended.role == "judge":
            work.ended = ended
            return
        account = work.account(ended.run)
        account.cpu_s = (account.cpu_s or 0.0) + ended.cpu_s
        if ended.role == "trainer":
            account.trainer_s = ended.wall_s

    def _hear(self, work: _Work, line: bytes) -> None:
        try:
            event = Event.model_validate_json(line)
        except ValidationError:  # no line of ours
            return
        run = next((run for run in work.runs if run.id == event.id), None)
        if run is None or run.id in work.done:
            return
        now = perf_counter()
        if event.phase == "setup":
            work.account(run.id).startup_s = now - work.mark
        if event.phase == CANNOT_WRITE:
            work.cannot_write = event.message
        if event.record is not None:
            work.last[run.id] = event.record
        if event.phase == "end":
            work.account(run.id).wall_s, work.mark = now - work.mark, now
            record = self.store.read(run.id)
            if record is not None:
                work.done[run.id] = record
            return
        self.listen(run, event)

    def _keep(self, work: _Work, run: Planned, record: Record) -> None:
        """Write `record` with the account of it, which its judge cannot know."""
        record.account = work.account(run.id)
        record.tries = self.failed.get(run.id, 0) + 1
        self.store.write(record)
        self.records[run.id] = record
        self.listen(run, record)

    def _finish(self, guard: _Guard, *, interrupted: bool = False) -> list[Planned]:
        """Settle what a job left; return runs of it that had not begun."""
        work = guard.work
        assert work is not None
        tail, guard.work = guard.stderr_tail(), None
        gone = guard.ended()
        if gone:
            self._dismiss(guard)
        if work.cannot_write:
            raise StoreError(plain_lines(work.cannot_write))
        for run in work.runs:
            if run.id in work.done:
                record = work.done[run.id]
                if record.status is Status.ERROR and not record.traceback:  # what a process said when it was killed
                    record.stderr = record.stderr or plain_lines(tail)
                self._keep(work, run, record)
        victim = work.current
        if victim is None or interrupted:
            return []
        status, reason = Status.ERROR, "the process that judges ended with no record"
        if guard.silent or (work.ended is not None and work.ended.timed_out):
            status, reason = Status.TIMEOUT, f"ended after the hard limit of {victim.spec.hard_limit:g} s"
        elif work.ended is None:
            reason = "the process that starts the others was ended (often by the system, out of memory)"
        elif work.ended.code < 0:
            name = signal.Signals(-work.ended.code).name
            hint = " (often the system, out of memory)" if name == "SIGKILL" else ""
            reason = f"the process that judges was ended by {name}{hint}"
        work.account(victim.id).wall_s = perf_counter() - work.mark
        record = work.last.get(victim.id) or victim.blank()
        record.end(status, reason, stderr=tail)
        self._keep(work, victim, record)
        return [run for run in work.runs if run.id not in work.done and run is not victim]

    def _interrupt(self) -> None:
        """Let runs write their checkpoints; keep what finishes meanwhile."""
        for guard in self.busy:
            guard.say(Command(what="stop"))
        deadline = perf_counter() + STOP_SECONDS
        with contextlib.suppress(KeyboardInterrupt, StoreError):  # a second Ctrl-C: do not wait
            while self.busy and perf_counter() < deadline:
                for guard in self._turn():
                    self._finish(guard, interrupted=True)

    def _dismiss(self, guard: _Guard) -> None:
        """End a guard that has nothing to do, or nothing that is to go on."""
        guard.say(Command(what="end"))
        with contextlib.suppress(subprocess.TimeoutExpired):
            guard.process.wait(KILL_SECONDS)
        guard.close()
        self.guards.remove(guard)

    def _end_all(self) -> None:
        """End all guards, with the runs that are left where an error or the user has ended the plan."""
        for guard in self.guards:
            guard.say(Command(what="end"))
        for guard in list(self.guards):
            self._dismiss(guard)


def guard_command(accounts: int) -> list[str]:
    """Return the command line of a guard, which says to the file descriptor `accounts` what became of processes."""
    return python_command(f"from otbench.harness.guard import main; main({accounts})")


def python_command(code: str) -> list[str]:
    """Return the command line that runs `code` in a Python like this one.

    The checkout's folder goes first on the path, as for `python bench.py`; an installed package needs no path.
    """
    root = checkout_root()
    where = f"sys.path.insert(0, {str(root)!r}); " if root is not None else ""
    return [sys.executable, "-P", "-c", f"import sys; {where}{code}"]


@contextlib.contextmanager
def sigterm_as_interrupt() -> Iterator[None]:
    """Treat the first SIGTERM like Ctrl-C while runs are going (main thread only); a queue may send it repeatedly."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(*_: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
