"""A real SLURM of one node, in a temporary folder of its own: started, asked, and taken down again.

It needs the programs of Debian's `slurm-wlm` and `munge` and no root, no systemd, no cgroups and no free port but the
two that it finds. By hand, `python tests/slurm/node.py` starts one, and takes it down at Ctrl-C.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scancel", "scontrol", "sinfo")
START_SECONDS = 60.0
CORES = 2
"""What SLURM is told that the node has: two toy runs beside each other, on any machine."""


def missing() -> str:
    """Return why no SLURM can be brought up here; empty if one can."""
    gone = [name for name in PROGRAMS if _found(name) is None]
    return f"needs {', '.join(gone)} (Debian: slurm-wlm, munge)" if gone else ""


def _found(name: str) -> str | None:
    return shutil.which(name, path=os.environ.get("PATH", "") + os.pathsep + "/usr/sbin:/sbin")


@dataclass
class Node:
    """A SLURM that runs.

    Attributes:
        folder: its configuration, state and logs.
        environment: what programs need to find it.
    """

    folder: Path
    environment: Mapping[str, str]

    def ask(self, *words: str) -> str:
        """Return what a command of SLURM says."""
        done = subprocess.run(
            words, env=os.environ | dict(self.environment), capture_output=True, text=True, timeout=60, check=False
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(words)}: {done.stderr.strip()}")
        return done.stdout

    def fail(self) -> None:
        """Have the node die under its jobs: no process hears of it first. It comes back, as after a reboot."""
        _kill(self.folder / "slurmd.pid", signal.SIGKILL)
        for processes in (self._keepers, self._of_jobs):  # keepers first: they would tell that a job has ended
            for pid in processes():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        self.ask("scontrol", "update", f"nodename={socket.gethostname()}", "state=down", "reason=died")
        _start("slurmd", environment=self.environment)
        _wait_until_idle(self)

    def _keepers(self) -> Iterator[int]:
        """Yield the processes of SLURM that look after jobs on this node."""
        for path in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                name, folder = path.joinpath("exe").readlink().name, path.joinpath("cwd").readlink()
                if name.startswith("slurmstepd") and folder == self.folder:
                    yield int(path.name)

    def _of_jobs(self) -> Iterator[int]:
        """Yield the processes of jobs."""
        here = f"SLURM_CONF={self.environment['SLURM_CONF']}".encode()
        for path in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                words = path.joinpath("environ").read_bytes().split(b"\0")
                if here in words and any(word.startswith(b"SLURM_JOB_ID=") for word in words):
                    yield int(path.name)


@contextlib.contextmanager
def running() -> Iterator[Node]:
    """Bring one node up, and take it down at the end with all jobs that are left."""
    folder = Path(tempfile.mkdtemp(prefix="otbench-slurm-"))
    folder.chmod(0o755)  # munge wants its socket to be reachable
    environment = {"SLURM_CONF": str(folder / "slurm.conf")}
    node = Node(folder, environment)
    try:
        _configure(folder)
        _start("munged", *_munge(folder), environment=environment)
        _start("slurmctld", environment=environment)
        _start("slurmd", environment=environment)
        _wait_until_idle(node)
        yield node
    finally:
        with contextlib.suppress(RuntimeError, subprocess.TimeoutExpired):
            node.ask("scancel", "--signal=KILL", "--full", f"--user={getpass.getuser()}")
            node.ask("scancel", f"--user={getpass.getuser()}")
            deadline = time.monotonic() + 40
            while node.ask("squeue", "--noheader").strip() and time.monotonic() < deadline:
                time.sleep(0.5)
        for name in ("slurmd", "slurmctld", "munged"):
            _kill(folder / f"{name}.pid", signal.SIGTERM)
        shutil.rmtree(folder, ignore_errors=True)


def _configure(folder: Path) -> None:
    key = folder / "munge.key"
    key.write_bytes(secrets.token_bytes(1024))
    key.chmod(0o400)
    host, user = socket.gethostname(), getpass.getuser()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20
    for name in ("state", "spool"):
        (folder / name).mkdir()
    lines = f"""
        ClusterName=otbench
        SlurmctldHost={host}(127.0.0.1)
        SlurmctldPort={_free_port()}
        SlurmdPort={_free_port()}
        SlurmUser={user}
        SlurmdUser={user}
        AuthType=auth/munge
        AuthInfo=socket={folder}/munge.socket
        CryptoType=crypto/munge
        StateSaveLocation={folder}/state
        SlurmdSpoolDir={folder}/spool
        SlurmctldPidFile={folder}/slurmctld.pid
        SlurmdPidFile={folder}/slurmd.pid
        SlurmctldLogFile={folder}/slurmctld.log
        SlurmdLogFile={folder}/slurmd.log
        ProctrackType=proctrack/linuxproc
        TaskPlugin=task/none
        JobAcctGatherType=jobacct_gather/none
        AccountingStorageType=accounting_storage/none
        SelectType=select/cons_tres
        SelectTypeParameters=CR_Core
        SchedulerParameters=sched_interval=2,batch_sched_delay=1,bf_interval=5
        PreemptType=preempt/partition_prio
        PreemptMode=REQUEUE
        ReturnToService=2
        SlurmdParameters=config_overrides
        MpiDefault=none
        KillWait=30
        MailProg=/bin/true
        NodeName={host} NodeAddr=127.0.0.1 CPUs={CORES} RealMemory={memory // 2} State=UNKNOWN
        PartitionName=normal Nodes={host} Default=YES MaxTime=60 State=UP PriorityTier=1 PreemptMode=REQUEUE
        PartitionName=urgent Nodes={host} MaxTime=60 State=UP PriorityTier=9 PreemptMode=OFF
    """
    (folder / "slurm.conf").write_text("\n".join(line.strip() for line in lines.strip().splitlines()) + "\n")


def _munge(folder: Path) -> list[str]:
    where = {"socket": "munge.socket", "key-file": "munge.key", "pid-file": "munged.pid"}
    where |= {"log-file": "munged.log", "seed-file": "munge.seed"}
    return ["--force", "--num-threads=1", *(f"--{name}={folder / file}" for name, file in where.items())]


def _start(name: str, *words: str, environment: Mapping[str, str]) -> None:
    program = _found(name)
    assert program is not None
    done = subprocess.run(
        [program, *words], env=os.environ | dict(environment), capture_output=True, text=True, timeout=60, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{name} does not start: {done.stderr.strip()}")


def _wait_until_idle(node: Node) -> None:
    deadline = time.monotonic() + START_SECONDS
    said = ""
    while time.monotonic() < deadline:
        with contextlib.suppress(RuntimeError):
            said = node.ask("sinfo", "--noheader", "--format=%T", "--partition=normal").strip()
            if said == "idle":
                return
        time.sleep(0.2)
    log = (node.folder / "slurmctld.log").read_text()[-2000:]
    raise RuntimeError(f"the node of SLURM is {said or 'silent'} after {START_SECONDS:g} s:\n{log}")


def _kill(pid_file: Path, number: signal.Signals) -> None:
    """End the daemon that wrote its process id to `pid_file`, and wait until it is gone."""
    with contextlib.suppress(OSError, ValueError):
        pid = int(pid_file.read_text())
        os.kill(pid, number)
        deadline = time.monotonic() + 10
        while Path(f"/proc/{pid}/stat").exists() and time.monotonic() < deadline:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return
            time.sleep(0.1)
        if Path(f"/proc/{pid}").exists():
            os.kill(pid, signal.SIGKILL)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM):  # in the background, the first is ignored
        signal.signal(number, signal.default_int_handler)
    with running() as here, contextlib.suppress(KeyboardInterrupt):
        print(f"export SLURM_CONF={here.environment['SLURM_CONF']}", flush=True)
        while True:
            time.sleep(1)
