"""Executes planned runs, each in its own fresh process, and sees to it that every one leaves a record.

The parent never computes and never touches a GPU. It starts workers, reads their events, ends those that pass their
hard limit, and writes the record of a run whose worker could not.
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
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from pathlib import Path
from time import perf_counter
from typing import IO

from pydantic import ValidationError

from otbench._links import checkout_root
from otbench.errors import StoreError
from otbench.harness.guard import END_NOW
from otbench.harness.messages import CANNOT_WRITE, Event, Job, Planned
from otbench.harness.plan import Plan
from otbench.names import plain_lines
from otbench.records.record import Account, Record, Status
from otbench.records.store import Store

STOP_SECONDS = 15.0
"""How long workers may take to write their checkpoints after Ctrl-C, and to end after their last run."""
KILL_SECONDS = 5.0
"""How long a guard may take to end a worker and what it started; then it is ended itself."""
TICK = 0.05
"""Seconds between two looks at which workers have ended."""
SHORT = 0.1
"""Share of a run's wall clock that may be missing from the times it reports."""
SHORT_SECONDS = 2.0
"""Seconds that may be missing beside that share: what no phase counts (writing the record, events on their way) takes
tenths of a second, and on a loaded machine or a slow disk about one. Start-up is left out, as no plugin has run yet."""
PIPE_BYTES = 2**20
"""At least what a pipe holds, so that one look takes all."""
STDERR_TAIL = 4000
ORDER_SEED = 0


@dataclass
class Outcome:
    """What became of a plan.

    Attributes:
        records: of every planned run that has one, in the order of the plan.
        interrupted: True if Ctrl-C or SIGTERM ended it early.
    """

    records: list[Record]
    interrupted: bool = False


Listener = Callable[[Planned, Event | Record], None]
"""Called with each event of a run, and with its record when it has ended."""


def settled(plan: Plan, store: Store) -> dict[str, Record]:
    """Return the records that already settle runs of `plan`, by run id."""
    found = {run.id: store.read(run.id) for run in plan.runs}
    return {run.id: r for run in plan.runs if (r := found[run.id]) is not None and r.final(run.spec)}


def execute(
    plan: Plan,
    store: Store,
    *,
    jobs: int = 1,
    force: bool = False,
    data_dir: Path | None = None,
    plugins: Sequence[Path] = (),
    listen: Listener = lambda run, event: None,
    until_step: int | None = None,
) -> Outcome:
    """Do every run of `plan` that has no final record yet.

    Args:
        plan: what to do.
        store: where records are and go.
        jobs: workers at a time; with more than one, records say that the device was shared.
        force: repeat runs that have a final record.
        data_dir: the user's own data.
        plugins: files given by `--plugin`.
        listen: told of every event.
        until_step: stop solvers at this step of the same budget, as if they were looked at on the way: the last point
            of the curve is that of this step, and nothing is evaluated beyond it. Such records have the names of whole
            runs, so `store` must be a folder of its own. No checkpoint is read or left.

    Raises:
        StoreError: a record cannot be written. Records already written are kept.
    """
    store.prepare()
    if force and until_step is None:
        for run in plan.runs:
            store.checkpoint(run.id).unlink(missing_ok=True)
    have = {} if force else settled(plan, store)
    pending = [run for run in plan.runs if run.id not in have]
    groups = _grouped(pending, plan.closed_form)
    random.Random(ORDER_SEED).shuffle(groups)
    executor = _Executor(store, jobs, data_dir, tuple(plugins), listen, until_step)
    interrupted = executor.run(groups)
    records = [r for run in plan.runs if (r := have.get(run.id) or executor.records.get(run.id)) is not None]
    return Outcome(records, interrupted)


def _grouped(runs: Sequence[Planned], closed_form: frozenset[str]) -> list[list[Planned]]:
    """Put the closed-form baselines of one instance and seed together, every other run alone."""
    groups: dict[object, list[Planned]] = {}
    for run in runs:
        spec = run.spec
        instance = (spec.task, tuple(spec.task_config.items()), spec.seed)
        groups.setdefault(instance if spec.solver in closed_form else run.id, []).append(run)
    return list(groups.values())


@dataclass(eq=False)
class _Worker:
    """A process, its guard, and what is known of its runs."""

    process: subprocess.Popen[bytes]
    stdin: IO[bytes]
    stdout: IO[bytes]
    stderr: IO[bytes]
    runs: list[Planned]
    deadline: float
    mark: float  # when the process was started, or its last run ended
    open: bool = True  # whether its pipe may bring more
    torn: bytes = b""
    accounts: dict[str, Account] = field(default_factory=dict)
    last: dict[str, Record] = field(default_factory=dict)
    done: dict[str, Record] = field(default_factory=dict)
    held_up: float = 0.0  # seconds in which this process looked at nothing, so that its account is late
    timed_out: bool = False
    cannot_write: str = ""

    @property
    def current(self) -> Planned | None:
        return next((run for run in self.runs if run.id not in self.done), None)

    def signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(self.process.pid, number)

    def kill(self) -> None:
        """End the whole group, the guard included: only where the guard has ended, or does not react."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)

    def exited(self) -> bool:
        """Whether the guard has ended, and with it all that it started; notes its processor time once."""
        if self.process.returncode is None:
            try:
                pid, status, usage = os.wait4(self.process.pid, os.WNOHANG)
            except ChildProcessError:  # waited for elsewhere: SIGCHLD is ignored
                self.process.returncode = 0
                return True
            if pid:
                self.process.returncode = os.waitstatus_to_exitcode(status)
                if len(self.runs) == 1:
                    self.account(self.runs[0]).cpu_s = usage.ru_utime + usage.ru_stime
        return self.process.returncode is not None

    def account(self, run: Planned) -> Account:
        return self.accounts.setdefault(run.id, Account())

    def fileno(self) -> int:
        return self.stdout.fileno()

    def lines(self) -> list[bytes]:
        """Return the whole lines that have come."""
        try:
            data = os.read(self.fileno(), PIPE_BYTES)
        except BlockingIOError:
            return []
        self.open = bool(data)
        *lines, self.torn = (self.torn + data).split(b"\n")
        return lines

    def close(self) -> None:
        """Let go of an ended process: its pipes and its error output."""
        self.kill()  # where there is no guard to adopt orphans, at least those of the group
        for file in (self.stdin, self.stdout, self.stderr):
            with contextlib.suppress(OSError):  # a broken pipe on closing is no news
                file.close()

    def stderr_tail(self) -> str:
        self.stderr.seek(0, os.SEEK_END)
        self.stderr.seek(max(0, self.stderr.tell() - STDERR_TAIL))
        return self.stderr.read().decode(errors="replace").strip()


@dataclass
class _Executor:
    store: Store
    jobs: int
    data_dir: Path | None
    plugins: tuple[Path, ...]
    listen: Listener
    until_step: int | None
    records: dict[str, Record] = field(default_factory=dict)
    workers: list[_Worker] = field(default_factory=list)
    looked: float = field(default_factory=perf_counter)

    def run(self, groups: list[list[Planned]]) -> bool:
        """Do all groups; return True if interrupted."""
        waiting = list(reversed(groups))
        with _sigterm_as_interrupt():
            try:
                while waiting or self.workers:
                    while waiting and len(self.workers) < self.jobs:
                        self.workers.append(self._start(waiting.pop()))
                    for worker in self._turn():
                        left = self._finish(worker)
                        if left:
                            waiting.append(left)
            except KeyboardInterrupt:
                self._interrupt()
                return True
            finally:
                self._end_all()
        return False

    def _turn(self) -> list[_Worker]:
        """Handle what workers say, end those past their limit; return those that have ended."""
        ready = wait([worker.fileno() for worker in self.workers if worker.open], TICK)
        now = perf_counter()
        late, self.looked = max(0.0, now - self.looked - 2 * TICK), now
        for worker in self.workers:
            worker.held_up += late
            if now > worker.deadline:
                # at first the guard is asked; it has a little time before it is ended itself
                worker.signal(END_NOW) if not worker.timed_out else worker.kill()
                worker.timed_out, worker.deadline = True, now + KILL_SECONDS
        ended = [worker for worker in self.workers if worker.exited()]
        for worker in self.workers:
            if worker.fileno() in ready or worker in ended:
                for line in worker.lines():
                    self._hear(worker, line)
        self.workers = [worker for worker in self.workers if worker not in ended]
        return ended

    def _start(self, runs: list[Planned]) -> _Worker:
        job = Job(
            runs=runs,
            folder=self.store.folder.resolve(),
            data_dir=self.data_dir.resolve() if self.data_dir else None,
            plugins=list(self.plugins),
            shared_device=self.jobs > 1,
            until_step=self.until_step,
        )
        threads = str(runs[0].spec.threads)
        stderr = tempfile.TemporaryFile()  # noqa: SIM115  (lives as long as the worker)
        now = perf_counter()
        process = subprocess.Popen(
            worker_command(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            start_new_session=True,  # its own group: ended as a whole, and out of reach of Ctrl-C
            env=os.environ | {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads},
        )
        assert process.stdin is not None
        assert process.stdout is not None
        deadline = now + runs[0].spec.hard_limit
        worker = _Worker(process, process.stdin, process.stdout, stderr, runs, deadline, mark=now)
        with contextlib.suppress(OSError):  # a worker that died at once is seen by its exit code
            process.stdin.write(job.model_dump_json().encode() + b"\n")
            process.stdin.flush()
        os.set_blocking(process.stdout.fileno(), False)
        return worker

    def _hear(self, worker: _Worker, line: bytes) -> None:
        try:
            event = Event.model_validate_json(line)
        except ValidationError:  # no line of ours: plugins can write to the pipe, too
            return
        run = next((run for run in worker.runs if run.id == event.id), None)
        if run is None or run.id in worker.done:
            return
        now = perf_counter()
        if event.phase == "setup":
            worker.deadline = now + run.spec.hard_limit
            worker.account(run).startup_s = now - worker.mark
        if event.phase == CANNOT_WRITE:
            worker.cannot_write = event.message
        if event.record is not None:
            worker.last[run.id] = event.record
        if event.phase == "end":
            worker.account(run).wall_s, worker.mark = now - worker.mark, now
            record = self.store.read(run.id)
            if record is not None:
                worker.done[run.id] = record
            if worker.current is None:
                worker.deadline = now + STOP_SECONDS
            return
        self.listen(run, event)

    def _keep(self, worker: _Worker, run: Planned, record: Record) -> None:
        """Write `record` with the parent's account of it, which the worker cannot know."""
        record.account = worker.account(run)
        said = _clock_fault(record, worker.held_up) if record.status is Status.OK else ""
        if said:
            record.end(Status.ERROR, said, stderr=record.stderr)
        self.store.write(record)
        self.records[run.id] = record
        self.listen(run, record)

    def _finish(self, worker: _Worker, *, interrupted: bool = False) -> list[Planned]:
        """Settle what a worker left; return runs of it that had not begun.

        Its exit code is a plugin's as well as ours: it is quoted, and nothing follows from it.
        """
        code, tail = worker.process.returncode, worker.stderr_tail()
        worker.close()
        if worker.cannot_write:
            raise StoreError(plain_lines(worker.cannot_write))
        for run in worker.runs:
            if run.id in worker.done:
                self._keep(worker, run, worker.done[run.id])
        victim = worker.current
        if victim is None or interrupted:
            return []
        if worker.timed_out:
            status, reason = Status.TIMEOUT, f"ended after the hard limit of {victim.spec.hard_limit:g} s"
        elif code < 0:
            name = signal.Signals(-code).name
            hint = " (often the system, out of memory)" if name == "SIGKILL" else ""
            status, reason = Status.ERROR, f"the worker was ended by {name}{hint}"
        else:
            status, reason = Status.ERROR, f"the worker ended with code {code} and no record"
        worker.account(victim).wall_s = perf_counter() - worker.mark
        record = worker.last.get(victim.id) or victim.blank()
        record.end(status, reason, stderr=tail)
        self._keep(worker, victim, record)
        return [run for run in worker.runs if run.id not in worker.done and run is not victim]

    def _interrupt(self) -> None:
        """Let workers write their checkpoints; keep what finishes meanwhile."""
        for worker in self.workers:
            worker.signal(signal.SIGTERM)
        deadline = perf_counter() + STOP_SECONDS
        with contextlib.suppress(KeyboardInterrupt, StoreError):  # a second Ctrl-C: do not wait
            while self.workers and perf_counter() < deadline:
                for worker in self._turn():
                    self._finish(worker, interrupted=True)

    def _end_all(self) -> None:
        """End the workers that are left, where an error or the user has ended the plan."""
        for worker in self.workers:
            worker.signal(END_NOW)
        for worker in self.workers:
            with contextlib.suppress(subprocess.TimeoutExpired):
                worker.process.wait(KILL_SECONDS)
            worker.close()
            worker.process.wait()


def _clock_fault(record: Record, held_up: float) -> str:
    """Return what is wrong if the times that a run reports do not add up to what it took; empty if they do."""
    measured, reported = (record.account.wall_s or 0.0) - record.account.startup_s, record.times.total_s
    if reported >= (1 - SHORT) * measured - SHORT_SECONDS - held_up:
        return ""
    return f"its clock cannot be believed: it reports {reported:.1f} s in all, and took {measured:.1f} s"


def worker_command() -> list[str]:
    """Return the command line of a worker.

    The checkout's folder goes first on the path, as for `python bench.py`; an installed package needs no path.
    """
    root = checkout_root()
    where = f"sys.path.insert(0, {str(root)!r}); " if root is not None else ""
    code = f"import sys; {where}from otbench.harness.guard import main; sys.exit(main())"
    return [sys.executable, "-P", "-c", code]


@contextlib.contextmanager
def _sigterm_as_interrupt() -> Iterator[None]:
    """Treat SIGTERM like Ctrl-C while runs are going (main thread only)."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
