"""What is asked of SLURM and what it answers, by programs that stand in for its own."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from otbench.errors import UsageError
from otbench.harness.slurm import Job, SilentQueueError, Slurm, requeue, sbatch_options


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("partition=gpu,gpus=1,time=2h", {"partition": "gpu", "gpus": "1", "time": "120"}),
        ("nodelist=a1,a2,exclusive=true", {"nodelist": "a1,a2", "exclusive": "true"}),
        ("mem_per_cpu=4G, --qos = low", {"mem-per-cpu": "4G", "qos": "low"}),
        ("time=1d2h30m", {"time": "1590"}),
        ("time=1-12:00:00", {"time": "1-12:00:00"}),
        ("time=45", {"time": "45"}),
        ("gres=gpu:a100:1,signal=USR2@30", {"gres": "gpu:a100:1", "signal": "USR2@30"}),
        ("export=A=1", {"export": "A=1"}),
    ],
)
def test_options(text: str, options: dict[str, str]) -> None:
    assert sbatch_options(text) == options


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("gpu", "'gpu' has no value"),
        ("partition=gpu,exclusive", "write option=value, and exclusive=true"),
        ("partition=", "is no option with its value"),
        ("p=gpu", "use the long names of sbatch"),
        ("partition=gpu,partition=cpu", "'partition' stands there twice"),
        ("array=0-3", "otbench makes the array"),
        ("nodes=2", "a run takes one node"),
        ("time=soon", "write 2h, 90m, 1d12h"),
        ("time=0m", "write 2h, 90m, 1d12h"),
        ("cpus_per_task=many", "must be a whole number"),
        ("signal=TERM@30", "only the time can be chosen"),
        ("comment=a\nb", "is no option with its value"),
    ],
)
def test_mistakes_in_options(text: str, says: str) -> None:
    with pytest.raises(UsageError, match=says) as error:
        sbatch_options(text)
    assert "\n" not in str(error.value)


def test_whether_jobs_ask_for_a_gpu_or_for_whole_nodes() -> None:
    for text in ("gpus=1", "gpus_per_node=1", "gres=gpu:1", "tres-per-task=gres/gpu:1"):
        assert Slurm(sbatch_options(text)).wants_gpu, text
    assert not Slurm(sbatch_options("partition=gpu,gres=disk:1")).wants_gpu
    assert Slurm(sbatch_options("exclusive=true")).exclusive
    assert not Slurm(sbatch_options("exclusive=user")).exclusive


Stand = Callable[[str, str], None]


@pytest.fixture
def stand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stand:
    """Put a program of a few lines of Python on the path."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))

    def put(name: str, code: str) -> None:
        (folder / name).write_text(f"#!{sys.executable}\nimport sys\n{code}\n")
        (folder / name).chmod(0o755)

    return put


@pytest.fixture
def cluster(stand: Stand) -> None:
    for name in ("sbatch", "squeue", "srun", "scontrol"):
        stand(name, "")


def test_what_is_missing_is_named(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="no sbatch, squeue, srun, scontrol on this machine"):
        Slurm().check()
    for name in ("sbatch", "squeue", "srun", "scontrol"):
        stand(name, "")
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(UsageError, match=r"pip install 'otbench\[slurm\]'"):
        Slurm().check()


def test_an_array_as_sbatch_gets_it(cluster: None, stand: Stand, tmp_path: Path) -> None:
    pytest.importorskip("submitit")
    stand(
        "sbatch", f"open({str(tmp_path / 'script')!r}, 'w').write(open(sys.argv[1]).read()); print('Submitted job 7')"
    )
    options = sbatch_options("partition=gpu,gpus=1,time=2h,exclusive=true,nodelist=a1,a2")
    commands = [["/bin/true", str(number)] for number in range(3)]
    Slurm(options).submit("otbench-1", tmp_path / "logs", commands, threads=2, limit=2)
    lines = (tmp_path / "script").read_text().splitlines()
    for wanted in (
        "--job-name=otbench-1",
        "--array=0-2%2",
        "--partition=gpu",
        "--gpus=1",
        "--time=120",
        "--exclusive",
        "--nodelist=a1,a2",
        "--cpus-per-task=2",
        "--requeue",
        "--signal=USR2@60",
        "--open-mode=append",
    ):
        assert f"#SBATCH {wanted}" in lines
    assert not any("--wckey" in line or "--error" in line for line in lines)
    (command,) = [line for line in lines if line.startswith("srun ")]
    assert "--cpus-per-task=2" in command
    assert len(list((tmp_path / "logs").glob("7_?_submitted.pkl"))) == 3


def test_a_refusal_is_one_message(
    cluster: None, stand: Stand, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("submitit")
    said = "sbatch: error: invalid partition specified: nope\\nsbatch: error: Batch job submission failed"
    stand("sbatch", f"print('{said}', file=sys.stderr); sys.exit(1)")
    with pytest.raises(UsageError) as error:
        Slurm({"partition": "nope"}).submit("otbench-1", tmp_path, [["/bin/true"]] * 2, threads=1, limit=2)
    assert str(error.value) == ("SLURM refuses the jobs: invalid partition specified: nope Batch job submission failed")
    assert capfd.readouterr() == ("", "")


def test_answers_of_squeue_and_sacct(cluster: None, stand: Stand) -> None:
    lines = ("otbench-1|12|0|RUNNING|None", "otbench-1|12|1|PENDING|Resources", "otbench-2|13|N/A|CANCELLED|None")
    stand("squeue", f"assert '--name=otbench-1,otbench-2' in sys.argv; print({chr(10).join(lines)!r})")
    queue = Slurm()
    found = queue.jobs(["otbench-1", "otbench-2"])
    assert found == {
        ("otbench-1", 0): Job("12_0", "RUNNING"),
        ("otbench-1", 1): Job("12_1", "PENDING", "Resources"),
        ("otbench-2", 0): Job("13", "CANCELLED"),
    }
    assert [job.live for job in found.values()] == [True, True, False]
    assert queue.jobs([]) == {}
    assert queue.past(["otbench-1"], "2026-01-01T00:00:00.123") == {}  # no sacct
    rows = ("otbench-1|12_0|CANCELLED by 1000", "otbench-1|12_[2-9]|PENDING", "otbench-2|13|NODE_FAIL")
    stand("sacct", f"assert '--starttime=2026-01-01T00:00:00' in sys.argv; print({chr(10).join(rows)!r})")
    assert queue.past(["otbench-1", "otbench-2"], "2026-01-01T00:00:00.123") == {
        ("otbench-1", 0): Job("12_0", "CANCELLED"),
        ("otbench-2", 0): Job("13", "NODE_FAIL"),
    }
    stand("sacct", "print('Slurm accounting storage is disabled', file=sys.stderr); sys.exit(1)")
    assert queue.past(["otbench-1"], "2026-01-01T00:00:00.123") == {}
    stand("squeue", "print('slurm_load_jobs error: Unable to contact slurm controller', file=sys.stderr); sys.exit(1)")
    with pytest.raises(SilentQueueError, match="squeue: slurm_load_jobs error: Unable to contact"):
        queue.jobs(["otbench-1"])
    stand("scontrol", "assert sys.argv[1:] == ['requeue', '12']")
    requeue("12")
