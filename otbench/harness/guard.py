"""The process that starts the processes of runs, and ends all that they leave behind.

It has torch and the harness loaded and does one job after another, so that the import is paid once a plan; every
process of a run is a fresh fork of it. It computes nothing, touches no GPU and imports no plugin. It alone sees exit
codes and processor times, and what it says of them goes through pipes that the processes of solvers do not have.

The code of a run may end its process in any way and start others that leave the process group: the guard adopts what
loses its parent (Linux), and ends it with the process that started it.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import os
import selectors
import shutil
import signal
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import NoReturn

from otbench.harness.messages import Ask, Command, Ended, Job, Told, Training

ORPHAN_GRACE_SECONDS = 20.0
"""How long a run may take to write its checkpoint when the parent is gone."""
TICK = 0.2
"""Seconds between two looks at limits."""
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_CHILD_SUBREAPER = 1, 4, 36
_STDIN, _STDOUT, _STDERR = 0, 1, 2


def main(accounts: int) -> NoReturn:
    """Do jobs from standard input until it closes; say what became of processes to the descriptor `accounts`."""
    events = os.dup(_STDOUT)  # what plugins print must not mix with events
    os.dup2(_STDERR, _STDOUT)
    signal.signal(signal.SIGCHLD, lambda *_: None)  # a handler, so that it wakes us up
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's, which says what to do
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)  # the queue of a cluster sends it to all processes of a job
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    _prctl(_PR_SET_DUMPABLE, 0)
    _preload()
    guard = _Guard(accounts, events)
    code = 0
    try:
        guard.serve()
    except BaseException:  # whatever it is, nothing that was started may stay
        traceback.print_exc()
        code = 1
    _end_children(but=None)
    sys.stderr.flush()
    os._exit(code)


def _preload() -> None:
    """Load what every process of a run would load otherwise."""
    import torch

    from otbench.harness import applier, judge, trainer  # noqa: F401

    torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))])  # loads what torch puts off until then
    _freeze()


def _load(names: Iterable[str]) -> None:
    """Load packages by the names of their modules, or of what is in these; what is missing the runs themselves find."""
    for name in names:
        while name and name not in sys.modules:
            try:
                importlib.import_module(name)
            except Exception:  # a name inside a module, or not installed
                name = name.rpartition(".")[0]


def _freeze() -> None:
    gc.collect()
    gc.freeze()  # collections in the children leave these pages shared


@dataclass
class _Process:
    """A child of the guard."""

    pid: int
    run: str
    role: str
    begun: float
    deadline: float
    cpu_s: float = 0.0
    held_up: float = 0.0
    timed_out: bool = False


class _Lines:
    """Whole lines from a descriptor that is read as it comes."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._torn = b""
        self.closed = False

    def read(self) -> list[bytes]:
        data = os.read(self._descriptor, 2**16)
        self.closed = not data
        *lines, self._torn = (self._torn + data).split(b"\n")
        return lines


class _Guard:
    def __init__(self, accounts: int, events: int) -> None:
        self._accounts = accounts
        self._events = events
        self._commands = _Lines(_STDIN)
        self._heard: list[Command] = []
        self._loaded: set[str] = set()
        self._wake, wake = os.pipe()
        os.set_blocking(self._wake, False)
        os.set_blocking(wake, False)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        self._own = [accounts, events, self._wake, wake]

    def serve(self) -> None:
        """Do jobs, one after the other, until told to end."""
        while True:
            while not self._heard:
                self._listen()
                if self._commands.closed:
                    return
            command = self._heard.pop(0)
            if command.what == "end":
                return
            if command.job is not None:
                if wanted := {name for run in command.job.runs for name in run.packages} - self._loaded:
                    _load(sorted(wanted))
                    _freeze()
                    self._loaded |= wanted
                go_on = self._do(command.job)
                shutil.rmtree(command.job.spool, ignore_errors=True)
                if not go_on:
                    return

    def _listen(self) -> None:
        self._heard += [Command.model_validate_json(line) for line in self._commands.read()]

    def _do(self, job: Job) -> bool:
        """Do one job; return False if the guard is to end."""
        with _pipes(3) as ((ask, judge_asks), (judge_hears, answer), (judge_listens, reports)):
            from otbench.harness import judge

            limit = job.runs[0].spec.hard_limit

            def body() -> int:
                return judge.main(job, judge_asks, judge_hears, judge_listens, self._events)

            shared = [ask, judge_asks, judge_hears, answer, judge_listens, reports]
            keep = {judge_asks, judge_hears, judge_listens, self._events}
            process = self._start(job.runs[0].id, "judge", limit, body, shared, keep)
            return self._watch(process, _Lines(ask), ask, answer, reports, shared)

    def _watch(self, judge: _Process, asks: _Lines, ask: int, answer: int, reports: int, shared: list[int]) -> bool:
        """Start what the judge asks for, and wait for all to end; return False if the guard is to end."""
        child: _Process | None = None
        orphaned = 0.0
        last = perf_counter()
        with selectors.SelectSelector() as selector:
            for descriptor in (_STDIN, ask, self._wake):
                selector.register(descriptor, selectors.EVENT_READ)
            while True:
                ready = {key.fd for key, _ in selector.select(TICK)}
                now = perf_counter()
                if self._wake in ready:
                    os.read(self._wake, 4096)
                busy = child or judge
                busy.held_up += max(0.0, now - last - 2 * TICK)
                last = now
                if _STDIN in ready:
                    self._listen()
                    if self._commands.closed:
                        selector.unregister(_STDIN)
                        orphaned = now + ORPHAN_GRACE_SECONDS
                    if any(command.what == "end" for command in self._heard):
                        return False
                    if self._stopping:
                        for process in (judge, child):
                            if process is not None and process.role in ("judge", "trainer"):
                                os.kill(process.pid, signal.SIGTERM)
                if orphaned and now > orphaned:
                    return False
                if now > busy.deadline and not busy.timed_out:
                    busy.timed_out = True
                    os.kill(busy.pid, signal.SIGKILL)
                for pid, status, cpu_s in _ended():
                    if child is not None and pid == child.pid:
                        # what the run left behind ends with it, before anybody hears that it has ended
                        child.cpu_s += cpu_s + _end_children(but=judge.pid)
                        ended = self._account(child, status)
                        child = None
                        judge.deadline = perf_counter() + self._limit
                        _write(answer, ended.model_dump_json())
                    elif pid == judge.pid:
                        judge.cpu_s += cpu_s + _end_children(but=None)
                        self._account(judge, status)
                        return not self._commands.closed
                    else:
                        busy.cpu_s += cpu_s  # it lost its parent
                if ask in ready:
                    for line in asks.read():
                        child = self._serve(Ask.model_validate_json(line), reports, shared)
                        if self._stopping and child.role == "trainer":  # asked for before the judge heard of it
                            os.kill(child.pid, signal.SIGTERM)

    @property
    def _stopping(self) -> bool:
        """Whether the run in progress is to leave a checkpoint and end."""
        return self._commands.closed or any(command.what == "stop" for command in self._heard)

    def _serve(self, ask: Ask, reports: int, shared: list[int]) -> _Process:
        from otbench.harness import applier, trainer

        self._limit = ask.limit
        work = ask.work

        def body() -> int:
            if isinstance(work, Training):
                return trainer.main(work, reports)
            return applier.main(work, reports)

        return self._start(ask.run, ask.role, ask.limit, body, shared, {reports})

    def _start(
        self, run: str, role: str, limit: float, body: Callable[[], int], shared: list[int], keep: set[int]
    ) -> _Process:
        self._limit = limit
        _write(self._accounts, Told(limit=limit).model_dump_json())
        begun, guard = perf_counter(), os.getpid()
        pid = os.fork()
        if not pid:
            self._become(role, body, {*self._own, *shared} - keep, guard)
        return _Process(pid, run, role, begun, begun + limit)

    def _become(self, role: str, body: Callable[[], int], close: set[int], guard: int) -> NoReturn:
        """Be a process of a run, and end as it does: nothing of the guard is left here but what is loaded."""
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            # A cluster sends it to all processes of a job. Judges and trainers know what to do; appliers work to their
            # end. A handler, not SIG_IGN: what they start by exec must not inherit it.
            stops = role in ("judge", "trainer")
            signal.signal(signal.SIGTERM, signal.SIG_DFL if stops else lambda *_: None)
            _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != guard:  # it ended meanwhile
                os._exit(1)
            _prctl(_PR_SET_DUMPABLE, 0 if role == "judge" else 1)  # no other process looks into a judge's memory
            for descriptor in close:
                os.close(descriptor)
            nothing = os.open(os.devnull, os.O_RDONLY)
            os.dup2(nothing, _STDIN)
            os.close(nothing)
            code = body()
        except BaseException:
            traceback.print_exc()
        finally:
            with contextlib.suppress(BaseException):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)

    def _account(self, process: _Process, status: int) -> Ended:
        ended = Ended(
            run=process.run,
            role=process.role,
            code=os.waitstatus_to_exitcode(status),
            wall_s=perf_counter() - process.begun,
            cpu_s=process.cpu_s,
            held_up=process.held_up,
            timed_out=process.timed_out,
        )
        _write(self._accounts, Told(ended=ended, limit=self._limit).model_dump_json())
        return ended


@contextlib.contextmanager
def _pipes(n: int) -> Iterator[list[tuple[int, int]]]:
    made = [os.pipe() for _ in range(n)]
    try:
        yield made
    finally:
        for pair in made:
            for end in pair:
                os.close(end)


def _write(descriptor: int, text: str) -> None:
    with contextlib.suppress(OSError):  # who listened is gone
        os.write(descriptor, text.encode() + b"\n")


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def _ended() -> Iterator[tuple[int, int, float]]:
    """Yield process id, status and CPU seconds of all children that have ended."""
    with contextlib.suppress(ChildProcessError):  # none is left
        while True:
            pid, status, usage = os.wait4(-1, os.WNOHANG)
            if not pid:
                return
            yield pid, status, usage.ru_utime + usage.ru_stime


def _end_children(*, but: int | None) -> float:
    """End all children but one; theirs become ours, and end in the next round. Return their CPU seconds."""
    spent = 0.0
    while left := [child for child in _children() if child != but]:
        for child in left:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(child, signal.SIGKILL)
        for child in left:
            with contextlib.suppress(ChildProcessError):
                _, _, usage = os.wait4(child, 0)
                spent += usage.ru_utime + usage.ru_stime
    return spent


def _children() -> list[int]:
    """Return the process ids of all children; empty where there is no /proc, and so no adopted ones."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # ended meanwhile
            if int(path.read_text(errors="replace").rpartition(")")[2].split()[1]) == os.getpid():
                found.append(int(path.parent.name))
    return found
