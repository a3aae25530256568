"""SLURM, as far as otbench needs it: options as typed, arrays of jobs handed in by submitit, and what became of them.

States come from `squeue`, which every cluster has, and for jobs that it has forgotten from `sacct`, which needs
accounting and may not be there. submitit's own watching needs accounting, so it is not used.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from otbench.errors import OtbenchError, UsageError
from otbench.names import plain

ARRAY = 1000
"""Jobs of an array, at most: what SLURM takes unless its administrator says otherwise."""
ANSWER_SECONDS = 60.0
"""How long a command of SLURM may take to answer."""
WARNING_SECONDS = 60
"""Before a job's limit of time, so long its runs are told to leave checkpoints."""
LIVE = frozenset(
    {
        *("CONFIGURING", "COMPLETING", "PENDING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "RESIZING"),
        *("RESV_DEL_HOLD", "RUNNING", "SIGNALING", "SPECIAL_EXIT", "STAGE_OUT", "STOPPED", "SUSPENDED"),
    }
)
"""States of jobs that are not over."""
_OWN = {
    "array": "otbench makes the array; --jobs N limits how many of it run at a time",
    "chdir": "otbench says where jobs run",
    "error": "otbench says where logs go",
    "job-name": "otbench names the jobs",
    "nodes": "a run takes one node",
    "no-requeue": "pre-empted jobs go on only if they are requeued",
    "ntasks": "a run is one task",
    "ntasks-per-node": "a run is one task",
    "open-mode": "otbench says where logs go",
    "output": "otbench says where logs go",
    "wrap": "otbench says what jobs run",
}
"""Options of sbatch that otbench sets itself, and why."""


@dataclass(frozen=True)
class Job:
    """A job that the queue knows.

    Attributes:
        number: how SLURM names it ("12_3").
        state: as `squeue` has it, in capitals ("RUNNING").
        reason: why it waits ("Priority"); empty where it does not.
    """

    number: str
    state: str
    reason: str = ""

    @property
    def live(self) -> bool:
        """Whether it waits, runs, or comes again."""
        return self.state in LIVE


Jobs = Mapping[tuple[str, int], Job]
"""Jobs by the name of their array and their place in it."""


class SilentQueueError(OtbenchError):
    """The queue does not answer, which may pass."""


class Queue(Protocol):
    """Where jobs are handed in and looked after."""

    def submit(self, name: str, folder: Path, commands: Sequence[Sequence[str]], *, threads: int, limit: int) -> None:
        """Hand in an array of jobs, one for each of `commands`, of which `limit` run at a time.

        Raises:
            UsageError: the queue refuses it.
        """
        ...

    def jobs(self, names: Sequence[str]) -> Jobs:
        """Return all jobs of arrays with these names that the queue remembers.

        Raises:
            SilentQueueError: it does not answer.
        """
        ...

    def past(self, names: Sequence[str], since: str) -> Jobs:
        """Return jobs that the queue may have forgotten, from its accounts; nothing where it keeps none.

        Args:
            names: of their arrays.
            since: when they were handed in, ISO 8601.
        """
        ...


def sbatch_options(text: str) -> dict[str, str]:
    """Return the options of sbatch in `partition=gpu,gpus=1,time=2h`, by their long names.

    A piece without `=` belongs to the value before it: `nodelist=a1,a2`. Times can be written like 2h or 90m.

    Raises:
        UsageError: it is not of this form, or otbench sets the option itself.
    """
    found: dict[str, str] = {}
    name = ""
    for piece in text.split(","):
        if "=" not in piece:
            if not name or piece.strip() in ("exclusive", "oversubscribe", "contiguous", "spread-job"):
                raise UsageError(
                    f"--slurm {plain(text)}: '{plain(piece, 40)}' has no value; write option=value, and"
                    " exclusive=true for what takes none"
                )
            found[name] += f",{piece.strip()}"
            continue
        typed, value = (part.strip() for part in piece.split("=", 1))
        name = typed.lower().replace("_", "-").removeprefix("--")
        if not re.fullmatch("[a-z][a-z0-9-]+", name) or not value or not value.isprintable():
            raise UsageError(
                f"--slurm {plain(text)}: '{plain(piece, 60)}' is no option with its value; use the long names of sbatch"
            )
        if name in found:
            raise UsageError(f"--slurm {plain(text)}: '{name}' stands there twice")
        if name in _OWN:
            raise UsageError(f"--slurm {plain(typed)}=...: {_OWN[name]}; leave it out")
        found[name] = _checked(name, value)
    return found


def _checked(name: str, value: str) -> str:
    if name == "time":
        return _minutes(value)
    if name == "cpus-per-task" and not re.fullmatch("[1-9][0-9]{0,3}", value):
        raise UsageError(f"--slurm cpus-per-task={plain(value, 40)}: must be a whole number")
    if name == "signal" and not re.fullmatch("USR2@[0-9]{1,4}", value):
        raise UsageError(
            f"--slurm signal={plain(value, 40)}: only the time can be chosen: signal=USR2@90 tells runs 90 s before the"
            " end of the job to leave checkpoints"
        )
    return value


def _minutes(text: str) -> str:
    """Return a limit of time as sbatch takes it: `2h` and `1h30m` become minutes, SLURM's own forms stay."""
    if re.fullmatch(r"[0-9]+|([0-9]+-)?[0-9]+(:[0-9]+){0,2}", text):
        return text
    found = re.fullmatch(r"(?:(\d{1,4})d)?(?:(\d{1,5})h)?(?:(\d{1,6})m)?", text.lower())
    days, hours, minutes = (int(n or 0) for n in found.groups()) if found else (0, 0, 0)
    total = (24 * days + hours) * 60 + minutes
    if not total:
        raise UsageError(f"--slurm time={plain(text, 40)}: write 2h, 90m, 1d12h, or as sbatch does: 1-12:00:00")
    return str(total)


@dataclass(frozen=True)
class Slurm:
    """The queue of the cluster that this machine belongs to.

    Attributes:
        options: of sbatch, by their long names.
    """

    options: Mapping[str, str] = field(default_factory=dict)

    def check(self) -> None:
        """Look whether jobs can be handed in from here.

        Raises:
            UsageError: SLURM or submitit is missing.
        """
        missing = [name for name in ("sbatch", "squeue", "srun", "scontrol") if shutil.which(name) is None]
        if missing:
            raise UsageError(
                f"--executor slurm: no {', '.join(missing)} on this machine; start it on a login node of the cluster,"
                " or leave --executor out to run here"
            )
        with _quiet():
            try:
                import submitit  # noqa: F401
            except ImportError:
                raise UsageError("--executor slurm needs submitit: pip install 'otbench[slurm]'") from None

    @property
    def wants_gpu(self) -> bool:
        """Whether jobs ask for a GPU."""
        return any(
            name.startswith("gpus") or (name.startswith(("gres", "tres")) and "gpu" in value)
            for name, value in self.options.items()
        )

    @property
    def exclusive(self) -> bool:
        """Whether jobs have their nodes to themselves."""
        return self.options.get("exclusive") == "true"

    def submit(self, name: str, folder: Path, commands: Sequence[Sequence[str]], *, threads: int, limit: int) -> None:
        """Hand in an array of jobs, see `Queue`; logs go to `folder`."""
        with _quiet():
            import submitit

        cores = max(threads, int(self.options.get("cpus-per-task", "1")))
        options: dict[str, str | bool] = {"requeue": True, "signal": f"USR2@{WARNING_SECONDS}"}
        options |= {key: True if value == "true" else value for key, value in self.options.items()}
        options["cpus-per-task"] = str(cores)
        try:
            with _quiet():
                executor = submitit.SlurmExecutor(folder=folder)
                executor.update_parameters(
                    job_name=name,
                    time=None,  # the partition's, unless it stands among the options
                    wckey=None,
                    array_parallelism=limit,
                    stderr_to_stdout=True,
                    srun_args=[f"--cpus-per-task={cores}"],  # since 22.05 srun no longer takes it from sbatch
                    additional_parameters=options,
                )
                # Each job becomes its command: signals of the queue go to otbench's handlers, not to submitit's.
                executor.map_array(os.execv, [words[0] for words in commands], [list(words) for words in commands])
        except (RuntimeError, OSError, ValueError, subprocess.SubprocessError) as error:
            said = " ".join(line.removeprefix("sbatch: ").removeprefix("error: ") for line in str(error).splitlines())
            raise UsageError(f"SLURM refuses the jobs: {plain(said, 400) or type(error).__name__}") from None

    def jobs(self, names: Sequence[str]) -> Jobs:
        """Return all jobs of arrays with these names that the queue remembers, see `Queue`."""
        if not names:
            return {}
        words = ["squeue", "--noheader", "--array", "--all", "--states=all", f"--name={','.join(names)}"]
        found = {}
        for line in _asked(*words, "--format=%j|%F|%K|%T|%r").splitlines():
            name, array, place, state, reason = (line.strip().split("|", 4) + [""] * 5)[:5]
            if place.isdecimal() or place in ("N/A", ""):
                number = f"{array}_{place}" if place.isdecimal() else array
                waits = "" if reason == "None" else reason
                found[name, int(place) if place.isdecimal() else 0] = Job(number, state, waits)
        return found

    def past(self, names: Sequence[str], since: str) -> Jobs:
        """Return jobs from the accounts, see `Queue`."""
        if not names or shutil.which("sacct") is None:
            return {}
        words = ["sacct", "--noheader", "--allocations", "--parsable2", f"--name={','.join(names)}"]
        try:
            said = _asked(*words, f"--starttime={since[:19]}", "--format=JobName,JobID,State")
        except SilentQueueError:  # no accounting
            return {}
        found = {}
        for line in said.splitlines():
            name, number, state = (line.split("|") + [""] * 3)[:3]
            place = number.partition("_")[2] or "0"
            if place.isdecimal() and state:
                found[name, int(place)] = Job(number, state.split()[0])  # "CANCELLED by 1000"
        return found


def requeue(number: str) -> None:
    """Have the queue run the job `number` again, which ends it now.

    Raises:
        SilentQueueError: it cannot.
    """
    _asked("scontrol", "requeue", number)


def _asked(*words: str) -> str:
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=ANSWER_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SilentQueueError(f"{words[0]}: {error}") from None
    if done.returncode:
        raise SilentQueueError(f"{shlex.join(words[:1])}: {plain(done.stderr) or f'exit code {done.returncode}'}")
    return done.stdout


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep submitit, whose logger prints what an error says as well, from the screen."""
    before = os.environ.get("SUBMITIT_LOG_LEVEL")
    os.environ["SUBMITIT_LOG_LEVEL"] = before or "CRITICAL"
    try:
        with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        if before is None:
            del os.environ["SUBMITIT_LOG_LEVEL"]
