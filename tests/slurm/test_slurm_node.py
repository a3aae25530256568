"""A real SLURM: arrays, kills, requeues, limits of time, and what `--executor slurm` makes of them.

    python -m pytest -n 0 -m slurm tests/slurm -v

One node is brought up for all tests, and taken down at the end. They take some ten minutes, most of it waiting.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from otbench.harness.execute import execute
from otbench.harness.plan import Request, make_plan
from otbench.harness.remote import execute_in_queue
from otbench.harness.slurm import Slurm
from otbench.plugins.registry import Registry
from otbench.records.record import Record, Status
from otbench.records.store import Store

from . import node as slurm_node

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(5000)]

ROOT = Path(__file__).resolve().parents[2]
TOY = ROOT / "tests" / "helpers" / "plugins" / "toy.py"
PATIENCE = 1500.0
"""Seconds that a test waits for one thing to happen, on a machine that may be busy."""


@pytest.fixture(scope="module")
def node() -> Iterator[slurm_node.Node]:
    pytest.importorskip("submitit", reason="needs submitit: pip install 'otbench[slurm]'")
    if reason := slurm_node.missing():
        pytest.skip(reason)
    with slurm_node.running() as one:
        os.environ |= one.environment
        yield one
        for name in one.environment:
            del os.environ[name]


@dataclass
class Parent:
    """`bench.py --executor slurm`, in a process of its own."""

    folder: Path
    words: tuple[str, ...]

    @property
    def out(self) -> Path:
        return self.folder / "out"

    @property
    def started(self) -> Path:
        """A file that slow toys leave at their second step."""
        return self.folder / "started"

    def start(self, *more: str) -> subprocess.Popen[str]:
        self.started.unlink(missing_ok=True)
        words = [sys.executable, str(ROOT / "bench.py"), *self.words, "--plugin", str(TOY), "--out", str(self.out)]
        return subprocess.Popen(
            [*words, "--executor", "slurm", *more],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=os.environ | {"TOY_STARTED": str(self.started), "OMP_NUM_THREADS": "1"},
            # where the tests themselves run in the background, Ctrl-C is ignored, and children inherit that
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    def run(self, *more: str) -> tuple[int, str]:
        return end(self.start(*more))

    def records(self) -> dict[str, Record]:
        return {record.label: record for record in Store(self.out).all() if record.spec.kind == "solver"}


def end(process: subprocess.Popen[str]) -> tuple[int, str]:
    said, _ = process.communicate(timeout=PATIENCE)
    print(said)
    return process.returncode, said


def until(what: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not what():
        assert time.monotonic() < deadline, "it does not happen"
        time.sleep(0.5)


@pytest.fixture
def slow(node: slurm_node.Node, tmp_path: Path) -> Parent:
    """A run of 120 steps, half a second each."""
    words = ("--task", "toy", "--solvers", "toyshift[nap=0.5]", "--steps", "120", "--threads", "1", "--device", "cpu")
    return Parent(tmp_path, words)


def job_of(node: slurm_node.Node, out: Path, label: str) -> str:
    """Return the number of the job that does the run with this label."""
    (path,) = (out / "slurm").glob("otbench-*.json")
    groups = json.loads(path.read_text())["groups"]
    place = next(place for place, runs in enumerate(groups) if runs[0]["label"] == label)
    said = node.ask("squeue", "--noheader", "--array", "--states=all", f"--name={path.stem}", "--format=%F|%K|%T")
    return next(f"{line.split('|')[0]}_{place}" for line in said.splitlines() if line.split("|")[1] == str(place))


def curve(record: Record) -> object:
    return [(point.step, point.digest, point.metrics) for point in record.curve]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Record:
    """The slow run, done here without its naps and without a break."""
    request = Request("toyshift[nap=0.5]", "toy", steps=120, device="cpu", threads=1)
    plan = make_plan(request, Registry([TOY]))
    plan = replace(plan, runs=tuple(run for run in plan.runs if run.spec.kind == "solver"))
    os.environ["TOY_NAP_SCALE"] = "0"
    (record,) = execute(plan, Store(tmp_path_factory.mktemp("here"))).records
    del os.environ["TOY_NAP_SCALE"]
    return record


def test_an_array_of_thirty_runs(node: slurm_node.Node, tmp_path: Path) -> None:
    seeds = ",".join(map(str, range(30)))
    request = Request("toyshift", "toy", seeds=seeds, preset="smoke", device="cpu", threads=1)
    plan = make_plan(request, Registry([TOY]))
    plan = replace(plan, runs=tuple(run for run in plan.runs if run.spec.kind == "solver"))
    told: list[str] = []
    outcome = execute_in_queue(plan, Store(tmp_path / "there"), Slurm({"time": "30"}), tell=told.append)
    print("\n".join(told))
    assert [record.status for record in outcome.records] == [Status.OK] * 30
    assert len(told) == 1
    assert told[0].startswith("30 jobs handed in as otbench-")
    few = replace(plan, runs=plan.runs[:3])
    for there, here in zip(outcome.records, execute(few, Store(tmp_path / "here")).records, strict=False):
        assert there.id == here.id
        assert curve(there) == curve(here)
        assert there.metrics == here.metrics
        assert there.source == here.source
        assert there.shared_device  # on a node that others may use
    assert not (tmp_path / "there" / "slurm").exists()


def test_the_parent_is_killed_and_comes_back(node: slurm_node.Node, slow: Parent, undisturbed: Record) -> None:
    first = slow.start()
    until(slow.started.exists)
    job = job_of(node, slow.out, "toyshift[nap=0.5]")
    node.ask("scontrol", "suspend", job)  # it would end before the next parent has begun, on a machine that is busy
    first.kill()
    first.communicate()
    second = slow.start()
    assert second.stdout is not None
    heard: list[str] = []
    until(lambda: heard.append(second.stdout.readline()) or "from an earlier call" in heard[-1])
    second.send_signal(signal.SIGINT)
    code, said = end(second)
    assert code == 130
    assert "handed in" not in "".join(heard) + said
    assert re.search("jobs stay in the queue, and the same command waits for them; to end them: scancel --name=", said)
    node.ask("scontrol", "resume", job)
    code, said = slow.run()
    assert code == 0, said
    assert "handed in" not in said
    record = slow.records()["toyshift[nap=0.5]"]
    assert record.counts.resumed == 0
    assert curve(record) == curve(undisturbed)


def requeued(node: slurm_node.Node, job: str) -> None:
    node.ask("scontrol", "requeue", job)


def preempted(node: slurm_node.Node, job: str) -> None:
    node.ask("sbatch", "--partition=urgent", "--ntasks=2", "--output=/dev/null", "--wrap=sleep 5")


@pytest.mark.parametrize("happens", [requeued, preempted])
def test_a_job_that_is_requeued_resumes_from_its_checkpoint(
    node: slurm_node.Node, slow: Parent, undisturbed: Record, happens: Callable[[slurm_node.Node, str], None]
) -> None:
    parent = slow.start()
    until(slow.started.exists)
    happens(node, job_of(node, slow.out, "toyshift[nap=0.5]"))
    until(lambda: list((slow.out / "checkpoints").glob("*.pt")))
    code, said = end(parent)
    assert code == 0, said
    assert said.count("handed in") == 1  # by the queue itself, not by the parent
    record = slow.records()["toyshift[nap=0.5]"]
    assert record.counts.resumed == 1
    assert record.tries == 1
    assert curve(record) == curve(undisturbed)


def test_the_job_of_a_node_that_died_is_done_on_another(
    node: slurm_node.Node, slow: Parent, undisturbed: Record
) -> None:
    parent = slow.start()
    until(slow.started.exists)
    node.fail()
    code, said = end(parent)
    assert code == 0, said
    assert curve(slow.records()["toyshift[nap=0.5]"]) == curve(undisturbed)


def test_a_job_whose_time_is_up_goes_on_and_one_that_gets_nowhere_ends(node: slurm_node.Node, tmp_path: Path) -> None:
    words = ("--task", "toy", "--solvers", "toyshift[nap=1],toyshift[nap=1000]", "--steps", "90")
    parent = Parent(tmp_path, (*words, "--threads", "1", "--device", "cpu"))
    code, said = parent.run("--slurm", "time=1m,signal=USR2@10")
    assert code == 1, said
    slow, stuck = (parent.records()[f"toyshift[nap={nap}]"] for nap in (1, 1000))
    assert slow.status is Status.OK
    assert slow.counts.resumed >= 1
    assert stuck.status is Status.TIMEOUT
    assert "came before a checkpoint" in stuck.reason


def test_cancelled_jobs_stay_ended_until_they_are_asked_for(node: slurm_node.Node, slow: Parent) -> None:
    parent = slow.start()
    until(slow.started.exists)
    node.ask("scancel", job_of(node, slow.out, "toyshift[nap=0.5]"))
    code, said = end(parent)
    assert code == 1, said
    record = slow.records()["toyshift[nap=0.5]"]
    assert record.cancelled
    assert re.fullmatch(r"job \d+_\d+ was cancelled; it is tried again with --retry-cancelled", record.reason)
    code, said = slow.run()
    assert code == 1
    assert "0 runs to do" in said
    code, said = slow.run("--retry-cancelled")
    assert code == 0, said
    record = slow.records()["toyshift[nap=0.5]"]
    assert record.status is Status.OK
    assert record.counts.resumed == 1  # from the checkpoint that it left when it was cancelled


def test_a_campaign_and_its_second_tries(node: slurm_node.Node, tmp_path: Path) -> None:
    file = tmp_path / "toys.toml"
    file.write_text('preset = "smoke"\ntask = "toy"\nexecutor = "slurm"\nsolvers = "toyraise,toyshift"\n')
    words = ["campaign", str(file), "--here", "--plugin", str(TOY), "--out", str(tmp_path / "out")]
    done = subprocess.run(
        [sys.executable, str(ROOT / "bench.py"), *words, "--slurm", "time=20"],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    print(done.stdout)
    assert (done.returncode, done.stderr) == (1, "")
    records = {record.spec.solver: record for record in Store(tmp_path / "out").all()}
    assert {name: record.tries for name, record in records.items() if name.startswith("toy")} == {
        "toyraise": 2,
        "toyshift": 1,
    }
    assert records["toyraise"].reason == "ValueError: planted failure"


@pytest.mark.parametrize("options", ["partition=nowhere", "no-such-option=1", "time=30-00:00:00,partition=nowhere"])
def test_what_the_queue_refuses_is_one_message(node: slurm_node.Node, slow: Parent, options: str) -> None:
    code, said = slow.run("--slurm", options)
    assert code == 2
    (line,) = [line for line in said.splitlines() if "runs to do" not in line]
    assert line.startswith("otbench: SLURM refuses the jobs: ")
    assert not (slow.out / "slurm").exists()
