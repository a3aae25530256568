"""Executes planned runs, each in its own fresh process, and sees to it that every one leaves a record.

The parent never computes and never touches a GPU. It starts workers, reads their events, ends those that pass their
hard limit, and writes the record of a run whose worker could not.
"""

from __future__ import annotations

import contextlib
import os
import queue
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from pydantic import ValidationError

from otbench._links import checkout_root
from otbench.errors import StoreError
from otbench.harness.messages import EXIT_INTERRUPTED, EXIT_STORE, Event, Job, Planned
from otbench.harness.plan import Plan
from otbench.records.record import Record, Status
from otbench.records.store import Store

STOP_SECONDS = 15.0
"""How long workers may take to write their checkpoints after Ctrl-C."""
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
        until_step: step at which training ends although the budget, which schedules follow, goes on; such a run has a
            curve and no metrics at the end.

    Raises:
        StoreError: a record cannot be written. Records already written are kept.
    """
    store.prepare()
    if force:
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
    """A process and what is known of its runs."""

    process: subprocess.Popen[str]
    stdin: IO[str]
    stderr: IO[bytes]
    runs: list[Planned]
    deadline: float
    reader: threading.Thread = field(init=False)
    last: dict[str, Record] = field(default_factory=dict)
    ended: set[str] = field(default_factory=set)
    timed_out: bool = False

    @property
    def current(self) -> Planned | None:
        return next((run for run in self.runs if run.id not in self.ended), None)

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)

    def close(self) -> None:
        """Let go of an ended process: its pipes and its error output."""
        with contextlib.suppress(OSError):  # a broken pipe on closing is no news
            self.stdin.close()
        if self.process.stdout is not None:
            self.process.stdout.close()
        self.stderr.close()

    def stderr_tail(self) -> str:
        self.stderr.seek(0, os.SEEK_END)
        self.stderr.seek(max(0, self.stderr.tell() - STDERR_TAIL))
        return self.stderr.read().decode(errors="replace").strip()


class _Executor:
    def __init__(
        self,
        store: Store,
        jobs: int,
        data_dir: Path | None,
        plugins: tuple[Path, ...],
        listen: Listener,
        until_step: int | None,
    ) -> None:
        self._until_step = until_step
        self.records: dict[str, Record] = {}
        self._store = store
        self._jobs = jobs
        self._data_dir = data_dir
        self._plugins = plugins
        self._listen = listen
        self._workers: list[_Worker] = []
        self._events: queue.Queue[tuple[_Worker, str | None]] = queue.Queue()

    def run(self, groups: list[list[Planned]]) -> bool:
        """Do all groups; return True if interrupted."""
        waiting = list(reversed(groups))
        with _sigterm_as_interrupt():
            try:
                while waiting or self._workers:
                    while waiting and len(self._workers) < self._jobs:
                        self._workers.append(self._start(waiting.pop()))
                    self._turn(waiting)
            except KeyboardInterrupt:
                self._interrupt()
                return True
            finally:
                for worker in self._workers:
                    worker.kill()
                    worker.process.wait()
                    worker.reader.join()
                    worker.close()
        return False

    def _turn(self, waiting: list[list[Planned]]) -> None:
        """Handle one event, or look for workers past their limit."""
        try:
            worker, line = self._events.get(timeout=0.2)
        except queue.Empty:
            pass
        else:
            if line is None:
                self._workers.remove(worker)
                left = self._finish(worker)
                if left:
                    waiting.append(left)
            else:
                self._hear(worker, line)
        now = time.monotonic()
        for worker in self._workers:
            if now > worker.deadline and not worker.timed_out:
                worker.timed_out = True
                worker.kill()

    def _start(self, runs: list[Planned]) -> _Worker:
        job = Job(
            runs=runs,
            folder=self._store.folder.resolve(),
            data_dir=self._data_dir.resolve() if self._data_dir else None,
            plugins=list(self._plugins),
            shared_device=self._jobs > 1,
            until_step=self._until_step,
        )
        threads = str(runs[0].spec.threads)
        stderr = tempfile.TemporaryFile()  # noqa: SIM115  (lives as long as the worker)
        process = subprocess.Popen(
            worker_command(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            encoding="utf-8",
            start_new_session=True,  # its own group: ended as a whole, and out of reach of Ctrl-C
            env=os.environ | {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads},
        )
        assert process.stdin is not None
        worker = _Worker(process, process.stdin, stderr, runs, time.monotonic() + runs[0].spec.hard_limit)
        with contextlib.suppress(OSError):  # a worker that died at once is seen by its exit code
            process.stdin.write(job.model_dump_json() + "\n")
            process.stdin.flush()
        worker.reader = threading.Thread(target=self._read, args=(worker,), daemon=True)
        worker.reader.start()
        return worker

    def _read(self, worker: _Worker) -> None:
        assert worker.process.stdout is not None
        for line in worker.process.stdout:
            self._events.put((worker, line))
        worker.process.wait()
        self._events.put((worker, None))

    def _hear(self, worker: _Worker, line: str) -> None:
        try:
            event = Event.model_validate_json(line)
        except ValidationError:  # the torn last line of a killed worker
            return
        run = next((run for run in worker.runs if run.id == event.id), None)
        if run is None:
            return
        if event.phase == "setup":
            worker.deadline = time.monotonic() + run.spec.hard_limit
        if event.record is not None:
            worker.last[run.id] = event.record
        if event.phase == "end":
            worker.ended.add(run.id)
            record = self._store.read(run.id)
            if record is not None:
                self._keep(run, record)
            return
        self._listen(run, event)

    def _keep(self, run: Planned, record: Record) -> None:
        self.records[run.id] = record
        self._listen(run, record)

    def _finish(self, worker: _Worker) -> list[Planned]:
        """Settle what a worker left; return runs of it that had not begun."""
        code, tail = worker.process.returncode, worker.stderr_tail()
        worker.close()
        if code == EXIT_STORE:
            raise StoreError(tail.splitlines()[-1] if tail else f"cannot write to '{self._store.folder}'")
        victim = worker.current
        if victim is None or code == EXIT_INTERRUPTED:
            return []
        if worker.timed_out:
            status, reason = Status.TIMEOUT, f"ended after the hard limit of {victim.spec.hard_limit:g} s"
        elif code < 0:
            name = signal.Signals(-code).name
            hint = " (often the system, out of memory)" if name == "SIGKILL" else ""
            status, reason = Status.ERROR, f"the worker was ended by {name}{hint}"
        else:
            status, reason = Status.ERROR, f"the worker ended with code {code} and no record"
        record = worker.last.get(victim.id) or victim.blank()
        record.status, record.reason, record.stderr = status, reason, tail
        self._store.write(record)
        self._keep(victim, record)
        return [run for run in worker.runs if run.id not in worker.ended and run is not victim]

    def _interrupt(self) -> None:
        """Let workers write their checkpoints; keep what finishes meanwhile."""
        for worker in self._workers:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                worker.process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS
        with contextlib.suppress(KeyboardInterrupt, StoreError):  # a second Ctrl-C: do not wait
            while self._workers and time.monotonic() < deadline:
                try:
                    worker, line = self._events.get(timeout=0.2)
                except queue.Empty:
                    continue
                if line is None:
                    self._workers.remove(worker)
                    worker.close()
                else:
                    self._hear(worker, line)


def worker_command() -> list[str]:
    """Return the command line of a worker.

    The checkout's folder goes first on the path, as for `python bench.py`; an installed package needs no path.
    """
    root = checkout_root()
    where = f"sys.path.insert(0, {str(root)!r}); " if root is not None else ""
    code = f"import sys; {where}from otbench.harness.worker import main; sys.exit(main())"
    return [sys.executable, "-P", "-c", code]


@contextlib.contextmanager
def _sigterm_as_interrupt() -> Iterator[None]:
    """Treat SIGTERM like Ctrl-C while runs are going (main thread only)."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
