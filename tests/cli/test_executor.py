"""`--executor slurm` as a user meets it: a queue that starts jobs at once, and mistakes."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from otbench.harness.execute import execute
from otbench.harness.plan import Request, make_plan
from otbench.harness.remote import execute_in_queue
from otbench.harness.slurm import Slurm
from otbench.plugins.registry import Registry
from otbench.records.store import Store

from ..helpers.lasting import lasting

Cli = Callable[..., tuple[int, str, str]]

SBATCH = """
# Starts the jobs of an array, all at once.
import os, pathlib, re, subprocess, sys
script = pathlib.Path(sys.argv[1])
options = dict(re.findall("#SBATCH --([a-z-]+)=(.*)", script.read_text()))
with open(os.environ["QUEUE"], "a") as queue:
    last = int(re.match("0-([0-9]+)", options["array"])[1]) if "array" in options else None
    for place in range(last + 1) if last is not None else [None]:
        names = dict(SLURM_JOB_ID="7", SLURM_ARRAY_JOB_ID="7", SLURM_ARRAY_TASK_ID=str(place))
        names = names if place is not None else dict(SLURM_JOB_ID="7")
        line = f"{options['job-name']}|7|{'N/A' if place is None else place}|"
        print(f"{line}RUNNING|None", file=queue)
        code = f"bash {script}; echo '{line}COMPLETED|None' >> $QUEUE"
        nothing = subprocess.DEVNULL
        subprocess.Popen(["bash", "-c", code], env=os.environ | names, stdout=nothing, stderr=nothing)
print("Submitted batch job 7")
"""
SRUN = """
# Runs the command behind its own options, output in the log.
import os, sys
words = sys.argv[1:]
log = words[words.index("--output") + 1]
for name, value in (("%A", "7"), ("%a", os.environ.get("SLURM_ARRAY_TASK_ID", "")), ("%j", "7"), ("%t", "0")):
    log = log.replace(name, value)
out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
os.dup2(out, 1), os.dup2(out, 2)
while words[0].startswith("--"):
    words = words[1 if "=" in words[0] or words[0] == "--unbuffered" else 2:]
os.execvp(words[0], words)
"""
SQUEUE = """
import os
print(open(os.environ["QUEUE"]).read() if os.path.exists(os.environ["QUEUE"]) else "", end="")
"""


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs that stand in for SLURM's, in front on the path."""
    pytest.importorskip("submitit")
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, code in {"sbatch": SBATCH, "srun": SRUN, "squeue": SQUEUE, "scontrol": ""}.items():
        (folder / name).write_text(f"#!{sys.executable}\n{code}")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("QUEUE", str(tmp_path / "queue"))
    monkeypatch.setattr("otbench.harness.remote.LEAST_POLL", 0.2)


@pytest.mark.slow
def test_a_job_leaves_the_record_that_a_run_here_leaves(cluster: None, cli: Cli, toy: str, tmp_path: Path) -> None:
    plan = make_plan(Request("toyshift", "toy", preset="smoke", device="cpu", threads=1), Registry([Path(toy)]))
    plan = replace(plan, runs=tuple(run for run in plan.runs if run.spec.kind == "solver"))
    (there,) = execute_in_queue(plan, Store(tmp_path / "there"), Slurm(), shared=False).records
    (here,) = execute(plan, Store(tmp_path / "here")).records
    assert lasting(there) == lasting(here)
    assert not (tmp_path / "there" / "slurm").exists()
    words = ("--plugin", toy, "--task", "toy", "--solvers", "toyshift", "--preset", "smoke", "--threads", 1)
    code, said, _ = cli(*words, "--dry-run", "--executor", "slurm", "--out", tmp_path / "there")
    assert code == 0
    assert "4 runs, 1 of them recorded" in said


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--executor", "slum"), "--executor: unknown executor 'slum'; did you mean 'slurm'?"),
        (("--slurm", "partition=gpu"), "add --executor slurm"),
        (("--executor", "slurm", "--slurm", "gpu"), "'gpu' has no value"),
        (("--executor", "slurm", "--slurm", "cpus-per-task=1", "--threads", 2), "less than the 2 threads of a run"),
    ],
)
def test_mistakes(cluster: None, words: tuple[str, ...], says: str, cli: Cli, toy: str, tmp_path: Path) -> None:
    code, out, err = cli("--plugin", toy, "--task", "toy", "--solvers", "toyshift", "--out", tmp_path / "out", *words)
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1
    assert says in err


def test_without_slurm(cli: Cli, toy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    code, out, err = cli("--plugin", toy, "--task", "toy", "--solvers", "toyshift", "--executor", "slurm")
    assert (code, out) == (2, "")
    assert err.startswith("otbench: --executor slurm: no sbatch, squeue, srun, scontrol on this machine")


def test_a_gpu_is_taken_where_it_is_asked_for(cluster: None, cli: Cli, toy: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = ("--plugin", toy, "--task", "toy", "--solvers", "toyshift", "--dry-run", "--out", out)
    code, said, err = cli(*words, "--executor", "slurm", "--slurm", "gpus=1")
    assert (code, err) == (0, "")
    assert "which GPU the nodes have is not known before the first job" in said
    assert not out.exists()
    file = tmp_path / "gpu.toml"
    file.write_text('executor = "slurm"\nslurm = ["gpus=1", "partition=gpu"]\ntask = "toy"\nsolvers = "toyshift"\n')
    code, said, _ = cli("campaign", file, "--here", "--plugin", toy, "--dry-run", "--out", out)
    assert code == 0
    assert "which GPU the nodes have" not in said  # campaigns run on the CPU unless the file says otherwise


def test_times_need_nodes_of_their_own(cluster: None, cli: Cli, toy: str, tmp_path: Path) -> None:
    file = tmp_path / "toy.toml"
    file.write_text('task = "toy"\nsolvers = "toyshift"\npreset = "smoke"\n')
    words = ("campaign", file, "--here", "--plugin", toy, "--out", tmp_path / "out", "--timing")
    code, _, err = cli(*words, "--executor", "slurm")
    assert code == 2
    assert "add --slurm exclusive=true" in err
