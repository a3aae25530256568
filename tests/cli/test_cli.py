"""`otbench.cli`: the commands, their screens and their exit codes, as a user meets them."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Callable
from pathlib import Path

import pytest

from otbench.cli import main
from otbench.errors import UsageError
from otbench.files import results_folder
from otbench.harness.plan import Plan, Request, make_plan
from otbench.plugins.registry import Registry
from otbench.records.record import Status
from otbench.records.store import Store

Cli = Callable[..., tuple[int, str, str]]

HEAVY = ("torch", "scipy", "pandas", "ot", "numpy")


def planned(toy: str, **asked: object) -> Plan:
    return make_plan(Request(**({"solvers": "toyshift", "task": "toy"} | asked)), Registry([Path(toy)]))  # type: ignore[arg-type]


def solver_runs(plan: Plan) -> list[tuple[str, dict[str, object], int]]:
    return [
        (run.label, {name: value for name, value in run.spec.task_config.items() if value is not None}, run.spec.seed)
        for run in plan.runs
        if run.spec.kind == "solver"
    ]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory, run_cli: Cli, toy: str) -> tuple[Path, tuple[int, str, str]]:
    """Records of a good and a failing solver beside the baselines, and what the command that made them printed."""
    folder = tmp_path_factory.mktemp("records")
    words = ("--solvers", "toyshift,toyraise", "--task", "toy", "--preset", "smoke", "--device", "cpu")
    return folder, run_cli("--plugin", toy, *words, "--threads", 1, "--out", folder)


# ---------------------------------------------------------------------------------------------------- light commands


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["list"], ["run", "--help"], ["list", "tasks"], []])
def test_help_and_list_import_nothing_heavy(words: list[str], root: Path, toy: str) -> None:
    if "list" in words:
        words = [*words, "--plugin", toy]
    code = (
        "import sys\nfrom otbench.cli import main\n"
        f"try: main({words!r})\nexcept SystemExit: pass\n"
        f"print('heavy:', [name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.splitlines()[-1] == "heavy: []"
    assert done.stderr == ""


def test_help_names_every_command_and_option(cli: Cli) -> None:
    code, out, _ = cli("--help")
    assert code == 0
    for command in ("run", "table", "list", "show", "check", "report"):
        assert re.search(rf"^\s+{command}\s", out, re.MULTILINE)
    code, out, _ = cli("run", "--help")
    assert code == 0
    for option in ("solvers", "task", "dim", "seeds", "preset", "steps", "time-limit", "device", "threads", "config"):
        assert f"--{option} " in out
    for option in ("out", "force", "jobs", "dry-run", "plugin", "data-dir", "hard-limit"):
        assert f"--{option}" in out


def test_no_words_at_all_print_the_help(cli: Cli) -> None:
    assert cli()[0] == 0
    assert "usage:" in cli()[1]


def test_list_names_what_there_is_by_kind(cli: Cli, toy: str) -> None:
    code, out, err = cli("list", "--plugin", toy)
    assert (code, err) == (0, "")
    assert re.search(r"^toyshift\s+Learns the shift .*\(plugin\)", out, re.MULTILINE)
    assert re.search(r"^identity\s+\S", out, re.MULTILINE)
    code, out, _ = cli("list", "tasks", "--plugin", toy)
    assert code == 0
    assert "toy " in out
    assert "toyshift" not in out


def test_show_says_all_about_a_solver(cli: Cli, toy: str) -> None:
    code, out, _ = cli("show", "toyshift", "--plugin", toy)
    assert code == 0
    assert "solvers that learn a shift" in out
    assert re.search(r"^reference +none", out, re.MULTILINE)
    assert re.search(r"^supports +\S", out, re.MULTILINE)
    assert re.search(r"^gives +forward map, inverse map", out, re.MULTILINE)
    source = re.search(r"^source +(\S+):(\d+)", out, re.MULTILINE)
    assert source is not None
    assert source[1] == toy
    assert "ToyShift" in "".join(Path(toy).read_text(encoding="utf-8").splitlines()[int(source[2]) - 1 :][:2])
    assert re.search(r"^lr +float +0\.1 +> 0, < 10 +step size", out, re.MULTILINE)
    assert re.search(r"^nap +float +0 +>= 0 +s +time to sleep", out, re.MULTILINE)
    assert re.search(r"^smoke +steps=20", out, re.MULTILINE)


def test_show_finds_the_maps_of_a_solver_that_names_the_base_only(cli: Cli) -> None:
    code, out, _ = cli("show", "enot")
    assert code == 0
    assert re.search(r"^gives +forward map, inverse map, Jacobians of the map$", out, re.MULTILINE)


def test_show_finds_what_a_solver_gives_on_some_problems(cli: Cli) -> None:
    code, out, _ = cli("show", "cfm")
    assert code == 0
    said = re.search(r"^gives +(.*)$", out, re.MULTILINE)
    assert said is not None
    always, _, sometimes = said[1].partition("; on some problems ")
    assert always == "forward map, inverse map, Jacobians of the map"
    assert sometimes == "log densities, velocity field, interpolation"


@pytest.mark.parametrize("name", [entry.name for entry in Registry().entries()])
def test_show_works_for_everything_built_in(name: str, cli: Cli) -> None:
    code, out, err = cli("show", name)
    assert (code, err) == (0, "")
    assert out.startswith(f"{name}  (")
    assert "\nreference  " in out
    assert re.search(r"\nsource     \S+\.py:\d+", out)
    assert "full " in out or "(baseline" in out


# ------------------------------------------------------------------------------------------------- what will be run


def test_run_is_the_default_command(cli: Cli, toy: str, tmp_path: Path) -> None:
    words = ("--plugin", toy, "--solvers", "toyshift", "--task", "toy", "--dry-run", "--out", tmp_path / "none")
    told = [cli(*words), cli("run", *words)]
    with_default, with_run = ((code, out.rpartition("; done about")[0], err) for code, out, err in told)
    assert with_default == with_run
    assert with_run[0] == 0
    assert "toyshift" in with_run[1]
    assert not (tmp_path / "none").exists(), "a dry run writes nothing"


def test_the_sanity_rows_always_stand_beside(toy: str) -> None:
    assert [run.spec.solver for run in planned(toy).runs] == ["toyshift", "constant", "identity", "linear"]


def test_a_baseline_asked_for_by_name_is_run_once(toy: str) -> None:
    runs = planned(toy, solvers="identity,toyshift,identity").runs
    assert [run.spec.solver for run in runs] == ["identity", "toyshift", "constant", "linear"]


def test_all_takes_every_solver_that_has_the_preset(toy: str) -> None:
    names = {run.spec.solver for run in planned(toy, solvers="all", preset="smoke").runs}
    assert {entry.name for entry in Registry([Path(toy)]).entries("solver", "baseline")} == names
    plan = planned(toy, solvers="all", preset="full")
    assert "toyshift" not in {run.spec.solver for run in plan.runs}
    assert any("toyshift declares no preset 'full'" in note for note in plan.notes)


def test_grids_run_over_all_combinations(toy: str) -> None:
    plan = planned(toy, solvers="toyshift[lr=0.1|0.2]", task="toy[dim=2|3,shift=1|2]", seeds="0,4-5")
    runs = solver_runs(plan)
    assert len(runs) == len(set(map(str, runs))) == 2 * 4 * 3
    assert ("toyshift[lr=0.2]", {"dim": 3, "shift": 2.0}, 5) in runs


def test_one_solver_with_two_settings_is_two_rows_and_the_same_setting_twice_is_one(toy: str) -> None:
    labels = [label for label, *_ in solver_runs(planned(toy, solvers="toyshift,toyshift[lr=0.2],toyshift"))]
    assert labels == ["toyshift", "toyshift[lr=0.2]"]


def test_an_old_parameter_name_plans_the_same_run_and_is_shown_by_the_present_one(toy: str, cli: Cli) -> None:
    old, new = (planned(toy, solvers=f"toyshift[{name}=0.2|0.3]") for name in ("rate", "lr"))
    assert old == new  # labels and commands included
    with pytest.raises(UsageError, match="solver toyshift: 'rate' is the old name of 'lr'"):
        planned(toy, solvers="toyshift[rate=0.2,lr=0.3]")
    assert "rate" not in cli("show", "toyshift", "--plugin", toy)[1].split()


def test_dim_is_short_for_the_parameter_of_the_task(toy: str) -> None:
    assert solver_runs(planned(toy, dim="2,8,32")) == solver_runs(planned(toy, task="toy[dim=2|8|32]"))


def test_what_is_typed_wins_over_the_preset(toy: str) -> None:
    assert {config["dim"] for _, config, _ in solver_runs(planned(toy, task="toy[dim=5]"))} == {5}
    assert [run.spec.steps for run in planned(toy, preset="smoke").runs if run.spec.kind == "solver"] == [20]
    assert [run.spec.steps for run in planned(toy, steps=7).runs if run.spec.kind == "solver"] == [7]
    (timed,) = [run.spec for run in planned(toy, time_limit=3.0).runs if run.spec.kind == "solver"]
    assert (timed.steps, timed.time_limit) == (None, 3.0)
    assert timed.hard_limit > 3
    (timed,) = [run for run in planned(toy, cpu_limit=3.0).runs if run.spec.kind == "solver"]
    assert (timed.spec.steps, timed.spec.time_limit, timed.spec.cpu_limit) == (None, None, 3.0)
    assert timed.command.endswith("--cpu-limit 3")


def test_a_request_is_planned_the_same_way_each_time_and_a_setting_changes_the_id(toy: str) -> None:
    ids = [run.id for run in planned(toy).runs]
    assert ids == [run.id for run in planned(toy).runs]
    assert ids == [run.id for run in planned(toy, solvers="toyshift[lr=0.1]").runs], "a default written out is the same"
    assert ids[0] != planned(toy, solvers="toyshift[lr=0.2]").runs[0].id
    assert ids[0] != planned(toy, threads=9).runs[0].id


def test_a_run_knows_the_command_that_repeats_it(toy: str) -> None:
    import shlex

    run = planned(toy, solvers="toyshift[lr=0.2|0.3]", task="toy[dim=2|3,shift=2.5]", seeds="1-2", steps=9).runs[3]
    words = shlex.split(run.command)[2:]
    asked = {words[i].removeprefix("--").replace("-", "_"): words[i + 1] for i in range(0, len(words), 2)}
    again = planned(toy, **(asked | {"steps": int(asked["steps"]), "threads": int(asked["threads"])})).runs[0]
    assert again.id == run.id


def test_dry_run_prints_runs_budgets_and_costs(cli: Cli, toy: str, tmp_path: Path) -> None:
    words = ("--solvers", "toyshift[lr=0.1|0.2]", "--task", "toy", "--dim", "2,3", "--seeds", "0-1", "--dry-run")
    code, out, _ = cli("--plugin", toy, *words, "--preset", "smoke", "--out", tmp_path)
    assert code == 0
    assert re.search(r"^toyshift\[lr=0\.2\] +toy\[dim=3,shift=1\.0\] +1 +20 steps +not known", out, re.MULTILINE)
    assert "20 runs, 0 of them recorded" in out


def test_dry_run_says_which_rows_will_be_skipped_and_why(cli: Cli, toy: str, tmp_path: Path) -> None:
    words = ("--solvers", "toyskip,toyshift", "--task", "toy", "--preset", "smoke", "--dry-run")
    code, out, _ = cli("--plugin", toy, *words, "--out", tmp_path)
    assert code == 0
    assert re.search(r"^toyskip .* will be skipped: takes no problem at all", out, re.MULTILINE)
    assert re.search(r"^toyshift .* not known", out, re.MULTILINE)
    assert "1 will be skipped" in out


def test_dry_run_says_which_rows_a_task_does_not_have(cli: Cli, tmp_path: Path) -> None:
    words = ("--solvers", "real_images,exact_plan", "--task", "eot", "--dim", 2, "--dry-run", "--out", tmp_path)
    code, out, _ = cli(*words)
    assert code == 0
    assert re.search(r"^real_images .* will be skipped: this task has no row of real_images", out, re.MULTILINE)
    assert not re.search(r"^exact_plan .* will be skipped", out, re.MULTILINE)


def test_a_dry_run_names_all_limits(cli: Cli, toy: str, tmp_path: Path) -> None:
    words = ("--solvers", "toyshift", "--task", "toy", "--dry-run", "--out", tmp_path, "--time-limit", 5)
    code, out, _ = cli("--plugin", toy, *words, "--cpu-limit", 6)
    assert code == 0
    assert re.search(r"^toyshift .* 5 s or 6 CPU s  ", out, re.MULTILINE)


def test_the_command_for_the_best_settings_is_of_the_same_problems(toy: str, tmp_path: Path) -> None:
    from otbench.cli.program import parsers
    from otbench.cli.run import _full_command, _request

    def command(*words: str) -> str | None:
        options = parsers("otbench")[0].parse_args(["run", *words, "--device", "cpu", "--out", str(tmp_path)])
        request, _, _, kept = _request(options)
        return _full_command(make_plan(request, Registry([])), request, options, kept)

    said = command("--solvers", "ncf", "--task", "gaussian", "--dim", "2,3", "--data-dir", str(tmp_path))
    assert said is not None
    rest = said.partition("--seeds 0,1,2 ")[2]
    assert rest == f"--dim 2,3 --device cpu --data-dir {tmp_path} --out {tmp_path}"
    assert command("--solvers", "linear", "--task", "gaussian") is None


def test_dry_run_judges_by_the_nearest_recorded_run_and_says_when_it_is_done(
    cli: Cli, toy: str, tmp_path: Path
) -> None:
    for dim, steps, step_ms in ((2, 20, 1000.0), (90, 20, 5000.0)):
        (run,) = (
            r for r in planned(toy, task=f"toy[dim={dim}]", preset="smoke", device="cpu").runs if "toy" in r.label
        )
        record = run.blank()
        record.status, record.times.step_ms, record.counts.steps = Status.OK, step_ms, steps
        Store(tmp_path / "below").write(record.model_copy(update={"id": f"r{dim}"}))
    words = ("--plugin", toy, "--solvers", "toyshift", "--preset", "smoke", "--device", "cpu", "--dry-run")
    for task, steps, cost in (
        ("toy[dim=2]", 20, "about 20 s"),
        ("toy[dim=2]", 40, "about 40 s"),
        ("toy[dim=3]", 20, "roughly 20 s"),
        ("toy[dim=100]", 10, "roughly 50 s"),
    ):
        code, out, _ = cli(*words, "--task", task, "--steps", steps, "--out", tmp_path)
        assert code == 0
        assert re.search(rf"^toyshift .* {cost}", out, re.MULTILINE), out
        assert re.search(r"done about \d\d:\d\d", out)


# ---------------------------------------------------------------------------------------------------------- TOML file


def dry(cli: Cli, toy: str, config: Path, *words: str) -> str:
    code, out, err = cli("--plugin", toy, "--dry-run", "--config", config, *words)
    assert (code, err) == (0, "")
    return out


def test_every_option_can_stand_in_a_file_and_the_command_line_wins(cli: Cli, toy: str, tmp_path: Path) -> None:
    config = tmp_path / "a.toml"
    config.write_text(
        f'solvers = ["toyshift[lr=0.2]", "toynan"]\ntask = "toy"\ndim = [2, 3]\nseeds = 1\npreset = "smoke"\n'
        f'steps = 30\ntime-limit = 5\nhard_limit = 50.5\ndevice = "cpu"\nthreads = 1\njobs = 2\n'
        f'data-dir = "{tmp_path}"\nout = "{tmp_path}/out"\n'
    )
    out = dry(cli, toy, config)
    assert re.search(r"^toyshift\[lr=0\.2\] +toy\[dim=3,shift=1\.0\] +1 +5 s or 30 steps", out, re.MULTILINE)
    assert "toynan" in out
    assert "at most 50.5 s" in out
    out = dry(cli, toy, config, "--solvers", "toyshift", "--steps", "9")
    assert "9 steps" in out
    assert "toynan" not in out


def test_a_file_may_give_one_seed_or_many(cli: Cli, toy: str, tmp_path: Path) -> None:
    config = tmp_path / "a.toml"
    for text, runs in (("0", 4), ('"0-2"', 12), ("[0, 5]", 8)):
        config.write_text(f'solvers = "toyshift"\ntask = "toy"\nseeds = {text}\nout = "{tmp_path}"\n')
        assert f"{runs} runs, 0 of them" in dry(cli, toy, config)


def test_records_go_to_the_checkout_unless_said_otherwise(root: Path) -> None:
    assert results_folder() == root / "results" / "local"


# ------------------------------------------------------------------------------------------------ runs, tables, exits


def test_a_failed_row_is_exit_code_1_and_in_the_table(recorded: tuple[Path, tuple[int, str, str]]) -> None:
    folder, (code, out, err) = recorded
    assert code == 1
    assert "Traceback" not in out + err
    assert re.search(r"^ toyraise +error", out, re.MULTILINE)
    assert "ValueError: planted failure" in out
    assert re.search(r"^ toyshift +\d", out, re.MULTILINE)
    assert "preset smoke, cpu" in out
    assert "not comparable with published numbers" in out
    assert len(list(folder.glob("*.json"))) == 5


def test_away_from_a_terminal_progress_is_plain_lines(recorded: tuple[Path, tuple[int, str, str]]) -> None:
    _, (_, out, _) = recorded
    assert "\x1b" not in out
    assert "\r" not in out
    assert "5 runs to do" in out.splitlines()[0]
    assert "toyshift on toy: started" in out
    assert re.search(r"^\[\d/5\] toyshift on toy: ok", out, re.MULTILINE)
    assert re.search(r"^\[\d/5\] toyraise on toy: error: ValueError", out, re.MULTILINE)


def test_recorded_runs_are_not_repeated_and_all_ok_is_exit_code_0(
    recorded: tuple[Path, tuple[int, str, str]], cli: Cli, toy: str
) -> None:
    words = ("--solvers", "toyshift", "--task", "toy", "--preset", "smoke", "--device", "cpu", "--threads", 1)
    code, out, _ = cli("--plugin", toy, *words, "--out", recorded[0])
    assert code == 0
    assert "0 runs to do, 4 already recorded" in out
    assert re.search(r"^ toyshift +\d", out, re.MULTILINE)
    code, out, _ = cli("--plugin", toy, *words, "--out", recorded[0], "--dry-run")
    assert code == 0
    assert "4 runs, 4 of them recorded" in out


def test_table_prints_the_records_again(recorded: tuple[Path, tuple[int, str, str]], cli: Cli, toy: str) -> None:
    folder, (_, printed, _) = recorded
    code, out, err = cli("table", folder, "--plugin", toy)  # without it, the rows would be by unknown code
    assert (code, err) == (0, "")
    assert len(out.splitlines()) > 10
    assert out.strip() in printed


def test_table_takes_only_what_is_asked_for(recorded: tuple[Path, tuple[int, str, str]], cli: Cli) -> None:
    code, out, _ = cli("table", recorded[0], "--solvers", "identity,toyshift", "--task", "toy", "--preset", "smoke")
    assert code == 0
    rows = re.findall(r"^ (\w+) +[\d-]", out, re.MULTILINE)
    assert rows == ["identity", "toyshift"]


def test_metrics_without_a_name(recorded: tuple[Path, tuple[int, str, str]], cli: Cli) -> None:
    code, out, err = cli("table", recorded[0], "--metrics", "")
    assert (code, out) == (2, "")
    assert err.startswith("otbench: --metrics '': nothing is named; there is: ")


def test_away_from_a_terminal_nothing_is_wrapped_and_no_line_ends_in_spaces(
    recorded: tuple[Path, tuple[int, str, str]], run_cli: Cli, toy: str
) -> None:
    words = ("--plugin", toy, "--solvers", f"toyskip,toyshift[lr={'|'.join(f'0.{k}' for k in range(1, 10))}]")
    _, plan, _ = run_cli(*words, "--task", "toy", "--preset", "smoke", "--dry-run", "--out", recorded[0])
    assert len(re.findall(r"^toyshift\[lr=0\.\d\] ", plan, re.MULTILINE)) == 9
    for text in (plan, recorded[1][1], *(run_cli(command, recorded[0])[1] for command in ("table", "summary"))):
        assert not [line for line in text.splitlines() if line != line.rstrip()]
    assert re.search("^rank: shared where .* in the order of their errors.$", text, re.MULTILINE) or "rank" not in text


def test_table_passes_over_a_torn_file_and_names_it(
    recorded: tuple[Path, tuple[int, str, str]], cli: Cli, tmp_path: Path
) -> None:
    for path in recorded[0].glob("*.json"):
        (tmp_path / path.name).write_bytes(path.read_bytes()[: -100 if "toyraise" in path.name else None])
    code, out, err = cli("table", tmp_path)
    assert code == 0
    assert "toyshift" in out
    (line,) = err.splitlines()
    assert "toyraise" in line
    assert "passed over" in line


def on_a_terminal(words: list[str], columns: int) -> tuple[int, str]:
    """Run the program on a pseudo terminal; return exit code and all that it wrote."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    env = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "LINES", "NO_COLOR", "CI")}
    env |= {"TERM": "xterm-256color", "OMP_NUM_THREADS": "1"}
    program = subprocess.Popen(words, stdin=theirs, stdout=theirs, stderr=theirs, env=env)
    os.close(theirs)
    written = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # the other end is closed
            break
        if not part:
            break
        written += part
    os.close(ours)
    return program.wait(timeout=60), written.decode()


def test_on_a_terminal_of_80_columns_progress_is_live_and_nothing_is_cut_off(
    recorded: tuple[Path, tuple[int, str, str]], root: Path, toy: str
) -> None:
    words = ["--plugin", toy, "--solvers", "toyshift[lr=0.05,nap=0.02]", "--task", "toy", "--preset", "smoke"]
    words += ["--device", "cpu", "--threads", "1", "--steps", "60", "--out", str(recorded[0])]
    code, written = on_a_terminal([sys.executable, str(root / "bench.py"), *words], 80)
    assert code == 0, written
    assert "Traceback" not in written
    assert "\x1b[" in written, "no live display"
    screen = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", written)
    live = [line for line in re.split(r"[\r\n]+", screen) if "━" in line]
    assert any(re.search(r"step \d+", line) for line in live)
    assert all(len(line) <= 80 and re.search(r"\d:\d\d:\d\d *$", line) for line in live), "a line wraps or is cut off"
    table = screen[screen.index("toy: d = 2") :]
    assert re.search(r"^ toyshift\[lr=0\.05,nap=0\.02\](?: \?)? +[\d.]+ +[\d.]+", table, re.MULTILINE)
    assert "…" not in table


def test_a_reader_that_leaves_early_is_no_error(root: Path) -> None:
    command = f"'{sys.executable}' '{root}/bench.py' list | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode in (0, 1)
    assert done.stderr == ""


def test_main_takes_the_words_of_the_process(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["bench.py", "list", "tasks"])
    assert main() == 0
    assert "gaussian" in capsys.readouterr().out
