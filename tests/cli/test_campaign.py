"""`campaign`, as a user meets it: order of worth, budget, second tries, times; killed at random, same records."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from otbench.records.record import Record
from otbench.records.store import Store

Cli = Callable[..., tuple[int, str, str]]
ROOT = Path(__file__).resolve().parents[2]
FILE = """
preset = "smoke"
task = "toy"
[[runs]]
solvers = "toyraise,toyshift"
[[runs]]
solvers = "toyshift"
seeds = [1, 0]
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "toys.toml"
    path.write_text(FILE)
    return path


def test_parts_are_done_in_order_failures_once_more_and_times_apart(
    cli: Cli, toy: str, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    words = ("campaign", file, "--here", "--plugin", toy, "--out", out)
    code, said, _ = cli(*words, "--dry-run")
    assert code == 0
    assert "9 runs: 0 done, 0 failed, 9 left" in said
    assert not out.exists()
    code, said, _ = cli(*words, "--timing")
    assert code == 2

    code, said, err = cli(*words)
    assert (code, err) == (1, "")
    ended = [line.partition(":")[0] for line in said.splitlines() if line.startswith("[")]
    assert len(ended) == 10
    assert ended[0] == "[1/9] toyraise on toy[seed=0]"
    assert all("seed=1" in line for line in ended[5:9])
    assert ended[9] == "[1/1] toyraise on toy"
    assert "9 runs: 8 done, 1 failed, 0 left" in said
    assert "error: ValueError: planted failure" in said.splitlines()[-1]
    tries = {record.spec.solver: record.tries for record in Store(out).all()}
    assert tries == {"toyraise": 2, "toyshift": 1, "identity": 1, "constant": 1, "linear": 1}

    before = {path: path.read_bytes() for path in out.glob("*.json")}
    code, said, _ = cli(*words)
    assert code == 1
    assert not [line for line in said.splitlines() if line.startswith("[")]
    assert {path: path.read_bytes() for path in out.glob("*.json")} == before

    monkeypatch.setattr("otbench.harness.campaign.REPETITIONS", 1)
    code, said, _ = cli(*words, "--timing")
    assert code == 0
    (timed,) = Store(out / "timing" / "1").all()
    assert timed.spec.solver == "toyshift"
    assert timed.spec.seed == 0
    assert not timed.shared_device
    assert timed.times.step_ms is not None
    assert f"{timed.times.step_ms:.4g}" in said
    assert {path: path.read_bytes() for path in out.glob("*.json")} == before


def test_the_code_as_it_is_and_that_of_a_commit_at_once(cli: Cli, file: Path, tmp_path: Path) -> None:
    code, out, err = cli("campaign", file, "--here", "--commit", "HEAD", "--out", tmp_path / "out")
    assert (code, out) == (2, "")
    assert err.startswith("otbench: --here runs the code as it is here, --commit that of a commit")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("none.toml", None, "no such file; name a TOML file"),
        ("folder", None, "is a folder; name a TOML file"),
        ("latin.toml", b'task = "\xe9"', "is not UTF-8 text; name a TOML file"),
    ],
)
def test_a_file_that_cannot_be_read(name: str, content: bytes | None, why: str, cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    elif name == "folder":
        path.mkdir()
    code, out, err = cli("campaign", path, "--here", "--dry-run")
    assert (code, out, err) == (2, "", f"otbench: FILE {path}: {why}\n")


def test_a_spent_budget_is_no_failure(cli: Cli, toy: str, file: Path, tmp_path: Path) -> None:
    code, said, err = cli("campaign", file, "--here", "--plugin", toy, "--out", tmp_path / "out", "--budget", "1s")
    assert (code, err) == (0, "")
    assert said.splitlines()[-1] == "the budget is spent; the same command goes on from here"
    assert "0 failed" in said


def test_a_part_without_its_data_is_left_out(cli: Cli, toy: str, file: Path, tmp_path: Path) -> None:
    file.write_text(FILE + '[[runs]]\ntask = "gaussian[file=none.npz]"\nsolvers = "ncf"\npreset = "quick"\n')
    code, said, err = cli("campaign", file, "--here", "--plugin", toy, "--out", tmp_path / "out", "--dry-run")
    assert code == 0
    assert "9 runs" in said
    assert err.startswith("otbench: left out, ncf on gaussian[file=none.npz]: ")


def outcome(record: Record) -> object:
    curve = [(point.step, point.digest, point.metrics) for point in record.curve]
    return record.spec, record.status, record.reason, record.tries, record.metrics, curve


BROKEN = """

@register_solver("toybroken", config=ToyConfig, reference="none", presets=PRESETS)
class ToyBroken(ToyShift):
    \"\"\"Raises at every step: after a checkpoint, too.\"\"\"

    def step(self) -> StepInfo:
        raise ValueError("planted failure")
"""


@pytest.mark.parametrize("kills", [2, pytest.param(10, marks=[pytest.mark.slow, pytest.mark.timeout(1200)])])
def test_killed_at_random_it_ends_with_the_same_records(
    kills: int, cli: Cli, toy: str, file: Path, tmp_path: Path
) -> None:
    plugin = tmp_path / "toy.py"
    plugin.write_text(Path(toy).read_text() + BROKEN)
    file.write_text(FILE.replace("toyraise", "toybroken"))
    draw = random.Random(kills)
    words = ["campaign", str(file), "--here", "--plugin", str(plugin), "--jobs", "2", "--out"]
    for _ in range(kills):
        program = subprocess.Popen(
            [sys.executable, str(ROOT / "bench.py"), *words, str(tmp_path / "killed")],
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"},
        )
        assert program.stdout is not None
        heard = draw.randrange(4, 8)  # lines, the first of which say what is left
        while heard and program.stdout.readline():
            heard -= 1
        program.send_signal(signal.SIGKILL)
        program.stdout.close()
        program.wait()
    assert cli(*words, tmp_path / "killed")[0] == 1
    assert cli(*words, tmp_path / "whole")[0] == 1
    killed, whole = ({r.id: outcome(r) for r in Store(tmp_path / name).all()} for name in ("killed", "whole"))
    assert killed == whole
    assert len(whole) == 9


def git(folder: Path, *words: str) -> str:
    config = ("-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false")
    done = subprocess.run(["git", "-C", str(folder), *config, *words], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with a commit that can be handed over to, in the place of this checkout."""
    if shutil.which("git") is None:
        pytest.skip("needs git")
    folder = tmp_path / "clone"
    (folder / "otbench" / "cli").mkdir(parents=True)
    git(tmp_path, "init", "--quiet", str(folder))
    (folder / "bench.py").write_text("")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "-m", "too old")
    (folder / "otbench" / "cli" / "campaign.py").write_text("")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "-m", "has the command")
    monkeypatch.setattr("otbench.cli.worktree.checkout_root", lambda: folder)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return folder


def test_a_campaign_runs_one_commit(
    clone: Path, cli: Cli, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[list[str]] = []

    def start(program: str, words: list[str], environment: dict[str, str]) -> None:
        assert program == sys.executable
        assert "PYTHONSAFEPATH" not in environment
        started.append(words)
        raise SystemExit(0)

    monkeypatch.setattr("os.execve", start)
    monkeypatch.setenv("PYTHONSAFEPATH", "1")
    out = tmp_path / "out"
    head = git(clone, "rev-parse", "HEAD")
    words = ("campaign", file, "--out", out, "--budget", "2h", "--jobs", 2)
    out.mkdir()
    (out / "COMMIT").write_text("0" * 40)  # of a campaign that never made a record
    assert cli(*words)[0] == 0
    assert (out / "COMMIT").read_text() == f"{head}\n"
    _, script, *rest = started[0]
    assert git(Path(script).parent, "rev-parse", "HEAD") == head
    assert rest == ["campaign", str(file), "--here", "--out", str(out), "--budget", "2h", "--jobs", "2"]

    # the checkout moves on, the campaign does not
    (out / "record.json").write_text("{}")
    git(clone, "commit", "--quiet", "--allow-empty", "-m", "later")
    assert cli(*words)[0] == 0
    assert started[1] == started[0]
    code, _, err = cli(*words, "--commit", "HEAD")
    assert code == 2
    assert f"has records of commit {head[:8]}" in err
    assert cli("campaign", file, "--out", tmp_path / "other", "--commit", "HEAD", "--dry-run")[0] == 0
    assert not (tmp_path / "other").exists()

    code, _, err = cli("campaign", file, "--out", tmp_path / "other", "--commit", "HEAD~2")
    assert code == 2
    assert "is older than this command" in err
    file.write_text(f'commit = "nowhere"\n{FILE}')
    code, _, err = cli("campaign", file, "--out", tmp_path / "other")
    assert code == 2
    assert "'nowhere' is not in this clone" in err

    Path(script).write_text("# changed by hand")
    code, _, err = cli(*words, "--commit", head)
    assert code == 2
    assert "git worktree remove" in err


@pytest.mark.parametrize(
    ("content", "words", "names"),
    [
        (None, (), "no such file"),
        ("runs = 1", (), "'runs' must be tables"),
        ("runs = []", (), "'runs' must be tables"),
        ("commit = 1", (), "'commit' must be text"),
        ("[[runs]]\ntask = 'toy'", (), "part 1: 'solvers' is missing"),
        ("solvers = 'toyshift'\n[[runs]]\ntask = 'toy'\njobs = 2", (), "part 1: unknown option 'jobs'"),
        ("solvers = 'toyshift'\n[[runs]]\ntask = 'toy'\nsed = 2", (), "unknown option 'sed'; did you mean 'seeds'?"),
        (FILE, ("--budget", "soon"), "--budget soon: write hours, minutes and seconds"),
        (FILE, ("--budget", "0m"), "--budget 0m"),
        (FILE, ("--jobs", "0"), "--jobs 0"),
    ],
)
def test_mistakes(content: str | None, words: tuple[str, ...], names: str, cli: Cli, toy: str, tmp_path: Path) -> None:
    path = tmp_path / "campaign.toml"
    if content is not None:
        path.write_text(content)
    code, out, err = cli("campaign", path, "--here", "--plugin", toy, "--out", tmp_path / "out", *words)
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1
    assert names in err


def test_a_folder_with_something_else_as_its_commit(cli: Cli, clone: Path, file: Path, tmp_path: Path) -> None:
    (tmp_path / "COMMIT").write_text("yesterday's")
    (tmp_path / "checkpoints").mkdir()
    code, _, err = cli("campaign", file, "--out", tmp_path)
    assert code == 2
    assert "no name of a commit; move it away" in err


CAMPAIGNS = sorted((ROOT / "results" / "campaigns").glob("*.toml"))


@pytest.mark.parametrize("path", CAMPAIGNS, ids=lambda path: path.stem)
def test_the_page_says_how_each_campaign_is_counted(path: Path) -> None:
    content = tomllib.loads(path.read_text())
    parts = [content | part for part in content["runs"]]
    words = {"cpu-limit": "CPU seconds of training", "steps": "1000 steps"}
    (counted,) = {next((words[key] for key in words if key in part), "steps of the preset") for part in parts}
    page = (ROOT / "docs" / "campaigns.md").read_text()
    assert f"`{path.stem}`" in page
    rows = [line for line in page.splitlines() if line.startswith("| `") and f"`{path.stem}`" in line.split("|")[1]]
    assert path.stem == "acceptance" or [row.split("|")[2].strip() for row in rows] == [counted]


@pytest.mark.slow
@pytest.mark.parametrize("path", CAMPAIGNS, ids=lambda path: path.stem)
def test_each_campaign_of_the_repository_has_something_to_do(path: Path, cli: Cli, tmp_path: Path) -> None:
    code, out, err = cli("campaign", path, "--here", "--dry-run", "--out", tmp_path)
    missing = [words for words in ("no CUDA GPU", "nothing is left of the campaign without the data") if words in err]
    if code == 2 and missing:
        pytest.skip(f"{missing[0]} on this machine")
    assert code in (0, 1)  # 1: data of a part are not on this machine, which is said
    assert " left" in out
    assert "Traceback" not in err
