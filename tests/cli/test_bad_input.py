"""Every class of mistake, at every command that can meet it: one clear message, exit code 2, no traceback."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

Cli = Callable[..., tuple[int, str, str]]

TOY = ("--solvers", "toyshift", "--task", "toy")


@pytest.fixture
def refused(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Runs a command that must be refused; returns its one message."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OTBENCH_DATA_DIR", raising=False)

    def run(*words: str | Path, names: str) -> str:
        code, out, err = cli(*words)
        assert code == 2, out + err
        lines = err.splitlines()
        assert len(lines) == 1, err
        assert lines[0].startswith("otbench: ")
        assert names in lines[0]
        assert "Traceback" not in out + err
        assert len(lines[0]) < 1000
        return lines[0]

    return run


# ------------------------------------------------------------------------------------------------ words of the command


@pytest.mark.parametrize(
    ("words", "names", "hint"),
    [
        (["lisst"], "'lisst'", "did you mean 'list'?"),
        (["frobnicate"], "'frobnicate'", "commands: run, campaign, summary, table, report, export, compare"),
        (["--solver", "ncf"], "'--solver'", "did you mean '--solvers'?"),
        (["run", "--stepz=3"], "'--stepz'", "did you mean '--steps'?"),
        (["table", "--tsak", "x"], "'--tsak'", "did you mean '--task'?"),
        (["list", "--plugins", "x"], "'--plugins'", "did you mean '--plugin'?"),
        (["show", "ncf", "--verbose"], "'--verbose'", "show --help"),
        (["check", "ncf", "--devise", "cpu"], "'--devise'", "did you mean '--device'?"),
        (["run", "extra"], "'extra'", "run --help"),
        (["show", "ncf", "extra"], "'extra'", "show --help"),
        (["list", "solvers", "extra"], "'extra'", "list --help"),
        (["check", "ncf", "extra"], "'extra'", "check --help"),
        (["show"], "NAME", "required"),
        (["check"], "NAME", "required"),
        (["run", "--steps"], "--steps", "expected one argument"),
        (["list", "--plugin"], "--plugin", "expected one argument"),
        (["list", "solver"], "'solver'", "did you mean 'solvers'?"),
        (["list", "everything"], "'everything'", "kinds: solvers, baselines, tasks"),
    ],
)
def test_unknown_commands_options_and_arguments(
    words: list[str], names: str, hint: str, refused: Callable[..., str]
) -> None:
    assert hint in refused(*words, names=names)


@pytest.mark.parametrize("option", ["solvers", "task"])
def test_what_must_be_said_is_asked_for(option: str, refused: Callable[..., str], tmp_path: Path) -> None:
    values = {"solvers": 'solvers = "toyshift"\n', "task": 'task = "toy"\n'}
    config = tmp_path / "a.toml"
    config.write_text("".join(line for name, line in values.items() if name != option))
    other = "task" if option == "solvers" else "solvers"
    refused("run", f"--{other}", "x", names=f"--{option} is missing")
    refused("--config", config, names=f"--{option} is missing")
    refused("--dry-run", f"--{other}", "x", names=f"--{option} is missing")


# --------------------------------------------------------------------------------------------------------- selections


@pytest.mark.parametrize(
    ("solvers", "task", "names"),
    [
        ("toyshfit", "toy", "'toyshfit'; did you mean 'toyshift'?"),
        ("zzzzzz", "toy", "'zzzzzz'; known: "),
        ("toyshift,toyshfit", "toy", "'toyshfit'"),
        ("toy", "toy", "unknown solver or baseline 'toy'"),
        ("toyshift", "tyo", "'tyo'; did you mean 'toy'?"),
        ("toyshift", "toyshift", "unknown task 'toyshift'"),
        ("toyshift[lrr=1]", "toy", "no parameter 'lrr'; did you mean 'lr'?"),
        ("toyshift[zzz=1]", "toy", "no parameter 'zzz'. Its parameters: lr, nap"),
        ("identity[zzz=1]", "toy", "identity has no parameter 'zzz'"),
        ("all[lr=1]", "toy", "--solvers all takes no parameters"),
        ("toyshift", "toy[dmi=3]", "no parameter 'dmi'; did you mean 'dim'?"),
        ("toyshift[lr=-1]", "toy", "solver toyshift: lr='-1': input should be greater than 0"),
        ("toyshift[lr=0.1|10]", "toy", "lr='10': input should be less than 10"),
        ("toyshift[lr=abc]", "toy", "lr='abc'"),
        ("toyshift[lr=nan]", "toy", "lr='nan': input should be a finite number"),
        ("toyshift[lr=1e400]", "toy", "lr='1e400'"),
        ("toyshift", "toy[dim=0]", "task toy: dim='0'"),
        ("toyshift", "toy[dim=2|101]", "dim='101'"),
        ("toyshift", "toy[dim=two]", "dim='two'"),
        ("toyshift", "toy[dim=2.5]", "dim='2.5'"),
        ("toyshift", "toy[shift=inf]", "shift='inf'"),
        ("", "toy", "--solvers ''"),
        (" , ", "toy", "nothing is named"),
        ("toyshift", "", "--task ''"),
        ("toyshift,", "toy", "a name is missing"),
        ("toyshift[lr=]", "toy", "parameter 'lr' has an empty value"),
        ("toyshift[lr=|]", "toy", "parameter 'lr' has an empty value"),
        ("toyshift[]", "toy", "not parameter=value"),
        ("toyshift[lr]", "toy", "'lr' is not parameter=value"),
        ("toyshift", "toy[dim=]", "parameter 'dim' has an empty value"),
        ("toyshift[lr=1", "toy", "brackets do not match"),
        ("toyshift]lr=1[", "toy", "brackets do not match"),
        ("toyshift[lr=1]2", "toy", "text behind the closing bracket"),
        ("toyshift", "toy[dim=2", "brackets do not match"),
        ("toyshift[lr=1,lr=2]", "toy", "'lr' is given twice"),
        ("toyshift", "toy[dim=2,dim=3]", "'dim' is given twice"),
        ("toyshift[lr=\x1b[31m]", "toy", "brackets do not match"),
        ("toyshift\x00", "toy", "toyshift"),
        ("größer", "toy", "'größer'"),
    ],
)
def test_selections(solvers: str, task: str, names: str, refused: Callable[..., str], toy: str) -> None:
    refused("--plugin", toy, "--solvers", solvers, "--task", task, names=names)


def test_a_grid_without_end_is_refused_before_it_is_built(refused: Callable[..., str], toy: str) -> None:
    many = "|".join(str(i / 1000) for i in range(1, 2000))
    for solvers, task, seeds in (
        ("toyshift", f"toy[shift={many}]", "0-100"),
        ("toyshift", f"toy[shift={many},dim={'|'.join(map(str, range(1, 101)))}]", "0"),
        (f"toyshift[lr={many},nap={many}]", "toy", "0"),
    ):
        words = ("--solvers", solvers, "--task", task, "--seeds", seeds)
        refused("--plugin", toy, *words, names="more than 100000 runs")


# ------------------------------------------------------------------------------------------------------------ options


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *(("--steps", value) for value in ("0", "-1", "abc", "1.5", "1e400", "nan", "", "9" * 30)),
        *(("--threads", value) for value in ("0", "-2", "many", "100000")),
        *(("--jobs", value) for value in ("0", "-2", "many", "100000")),
        *(("--time-limit", value) for value in ("0", "-1", "abc", "nan", "inf", "")),
        *(("--cpu-limit", value) for value in ("0", "-1", "abc", "nan")),
        *(("--hard-limit", value) for value in ("0", "-1", "abc", "nan", "inf")),
        *(("--seeds", value) for value in ("", ",", "-1", "1.5", "abc", "1-", "2-1", "0,,1", "²", "9" * 30, "0-99999")),
        ("--seeds", "0-99999999"),
        *(("--dim", value) for value in ("", ",", "0", "-1", "1.5", "abc", "2,,8", "101", "1" * 50)),
        *(("--preset", value) for value in ("smok", "", "FULL", "zzz")),
        *(
            ("--device", value)
            for value in ("", "cudaX", "gpu", "cuda:", "cuda:-1", "cuda:²", "CPU", "mps", "cuda:0:1")
        ),
    ],
)
def test_numbers_and_names_out_of_range(option: str, value: str, refused: Callable[..., str], toy: str) -> None:
    message = refused("--plugin", toy, *TOY, f"{option}={value}", names=option.removeprefix("--"))
    assert value[:12] in message


def test_the_nearest_preset_and_those_that_a_solver_has_are_named(refused: Callable[..., str], toy: str) -> None:
    assert "did you mean 'smoke'?" in refused("--plugin", toy, *TOY, "--preset", "smok", names="'smok'")
    assert "it has: smoke, quick" in refused("--plugin", toy, *TOY, "--preset", "paper", names="'paper'")


def test_a_dimension_said_twice_or_for_a_task_without_one(
    refused: Callable[..., str], toy: str, tmp_path: Path
) -> None:
    refused("--plugin", toy, "--solvers", "toyshift", "--task", "toy[dim=2]", "--dim", "3", names="--dim")
    plugin = tmp_path / "dimless.py"
    plugin.write_text(
        "from otbench.task import Config, Task, register_task\n\n"
        '@register_task("dimless", config=Config, reference="none", presets={"quick": {}})\n'
        "class Dimless(Task):\n    pass\n"
    )
    words = ("--plugin", toy, "--plugin", plugin, "--solvers", "toyshift", "--task", "dimless")
    refused(*words, "--dim", "3", names="task dimless has no parameter 'dim'")


# ------------------------------------------------------------------------------------------------------------ devices


@pytest.mark.parametrize("command", ["run", "dry-run", "check"])
@pytest.mark.parametrize("device", ["cuda", "cuda:99"])
def test_a_device_that_is_not_there(
    command: str, device: str, refused: Callable[..., str], toy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("otbench.harness.plan.gpus", lambda: ())
    words = {"run": TOY, "dry-run": (*TOY, "--dry-run"), "check": ("check", "toyshift")}[command]
    message = refused(*words, "--plugin", toy, "--device", device, names=f"--device {device}")
    assert "--device cpu" in message


def test_a_device_beyond_those_there_are(
    refused: Callable[..., str], toy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("otbench.harness.plan.gpus", lambda: ("Card",))
    refused(*TOY, "--plugin", toy, "--device", "cuda:1", names="this machine has 1 GPU(s)")


# -------------------------------------------------------------------------------------------------- files and folders


@pytest.mark.parametrize("where", ["a_file/records", "a_file", "/proc/no/records"])
def test_a_folder_that_cannot_be_written(where: str, refused: Callable[..., str], toy: str, tmp_path: Path) -> None:
    (tmp_path / "a_file").write_text("in the way")
    message = refused(
        "--plugin", toy, *TOY, "--out", where, names=f"--out {where}" if "a_file" in where else f"cannot write '{where}"
    )
    assert "--out" in message
    if "a_file" in where:
        assert "is a file, not a folder" in message
        refused("--plugin", toy, *TOY, "--dry-run", "--out", where, names="is a file, not a folder")


PATHS: dict[str, tuple[str, ...]] = {
    "--out": (*TOY, "--dry-run"),
    "--data-dir": TOY,
    "--config": TOY,
    "--plugin": ("list",),
    "NAME.py": ("check",),
    "FOLDER": ("table",),
    "FOLDER of report": ("report",),
    "FOLDER of export": ("export", "--out", "."),
    "BASE": ("compare", "{}", "."),
    "NEW": ("compare", "records", "{}"),
    "NEW of accept": ("accept", "{}"),
    "--into": ("accept", "records"),
    "--markdown": ("compare", "records", "."),
    "--junit": ("compare", "records", "."),
    "--json": ("compare", "records", "."),
    "--out of report": ("report",),
    "--out of export": ("export",),
    "--data-dir of data": ("data", "list"),
    "file of gaussian": ("--solvers", "identity", "--task", "gaussian[file={}]"),
}
"""Every place of a path: what is typed before it, `{}` where it is no option and not the last word."""


@pytest.mark.parametrize("place", PATHS)
@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("", "the path is empty"),
        ("x" * 5000, "File name too long"),
        ("x" * 300 + "/y", "File name too long"),
        ("loop/x", "Too many levels of symbolic links"),
        ("~no-such-user/x", "no such user"),
        ("a\0b", "embedded null byte"),
    ],
    ids=["empty", "long", "long part", "loop", "no user", "zero byte"],
)
def test_what_is_no_path_is_one_message_wherever_it_is_typed(
    place: str, path: str, reason: str, refused: Callable[..., str], toy: str, tmp_path: Path
) -> None:
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "records").mkdir()
    option = place.partition(" of ")[0]
    if place == "NAME.py":
        path += ".py"
        reason = "no such file" if path == ".py" else reason
    if place == "file of gaussian" and not path:
        pytest.skip("the grammar of parameters refuses it")
    words = [word.replace("{}", path) for word in PATHS[place]]
    if words == list(PATHS[place]):
        words += [f"{option}={path}"] if option.startswith("--") else [path]
    plugins = ("--plugin", toy) if place in ("--out", "--data-dir", "--config", "--plugin") else ()
    refused(*words, *plugins, names=reason)


@pytest.mark.parametrize("words", [TOY, ("data", "list")], ids=str)
def test_a_data_folder_without_permission(
    words: tuple[str, ...], refused: Callable[..., str], toy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.access", lambda path, mode: Path(path) != tmp_path)  # root may read everything
    refused(*words, "--plugin", toy, "--data-dir", tmp_path, names="cannot be read; check its permissions")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission(refused: Callable[..., str], toy: str, tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0o500)
    refused("--plugin", toy, *TOY, "--out", tmp_path / "locked", names="locked")


@pytest.mark.parametrize("folder", ["nowhere", "a_file", "a_file/x"])
def test_a_table_of_records_that_are_not_there(folder: str, refused: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "a_file").write_text("no folder")
    refused("table", folder, names=f"'{folder}'")


@pytest.mark.parametrize("words", [("table",), ("report",), ("export", "--out", "o")], ids=str)
def test_the_first_use(
    words: tuple[str, ...], refused: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("otbench.cli.results.results_folder", lambda: tmp_path / "results" / "local")
    message = refused(*words, names=f"no records in {tmp_path / 'results' / 'local'}")
    assert "; make some with: " in message


def test_a_table_of_an_empty_folder_or_of_what_is_not_recorded(refused: Callable[..., str], tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    refused("table", empty, names=f"no records in {empty}")
    for option in ("--solvers", "--task", "--preset"):
        refused("table", empty, option, "smok", names=f"{option} smok")


@pytest.mark.parametrize("how", ["option", "file", "environment"])
@pytest.mark.parametrize("folder", ["nowhere", "a_file"])
def test_a_data_folder_that_is_not_there(
    how: str, folder: str, refused: Callable[..., str], toy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a_file").write_text("no folder")
    words: tuple[str, ...] = ()
    if how == "option":
        words = ("--data-dir", folder)
    elif how == "file":
        (tmp_path / "a.toml").write_text(f'data-dir = "{folder}"\n')
        words = ("--config", "a.toml")
    else:
        monkeypatch.setenv("OTBENCH_DATA_DIR", folder)
    refused("--plugin", toy, *TOY, *words, names=folder)


@pytest.mark.parametrize("words", [TOY, ("list",), ("show", "toyshift"), ("check", "toyshift")], ids=str)
@pytest.mark.parametrize("kind", ["missing", "folder", "silent"])
def test_a_plugin_that_is_not_there_or_registers_nothing(
    words: tuple[str, ...], kind: str, refused: Callable[..., str], tmp_path: Path
) -> None:
    path = tmp_path / "mine.py"
    if kind == "folder":
        path.mkdir()
    elif kind == "silent":
        path.write_text("x = 1\n")
    message = refused(*words, "--plugin", path, names=f"--plugin {path}")
    assert {"silent": "registers nothing", "folder": "is a folder", "missing": "no such file"}[kind] in message


@pytest.mark.parametrize(
    "words", [("--solvers", "mine", "--task", "toy"), ("show", "mine"), ("check", "mine")], ids=str
)
@pytest.mark.parametrize(
    ("line", "reason"),
    [("def f(:", "SyntaxError"), ("raise RuntimeError('no')", "RuntimeError: no"), ("raise SystemExit", "SystemExit")],
)
def test_a_name_out_of_a_broken_plugin(
    words: tuple[str, ...], line: str, reason: str, refused: Callable[..., str], toy: str, tmp_path: Path
) -> None:
    path = tmp_path / "broken.py"
    path.write_text(
        "from otbench.solver import Config, Solver, register_solver\n"
        f"{line}\n"
        '@register_solver("mine", config=Config, reference="none", presets={"quick": {}})\n'
        "class Mine(Solver):\n    pass\n"
    )
    message = refused(*words, "--plugin", toy, "--plugin", path, names=f"{path}:2")
    assert reason in message


@pytest.mark.parametrize(
    ("name", "names"),
    [
        ("toyshfit", "did you mean 'toyshift'?"),
        ("zzzzzz", "unknown solver, baseline or task 'zzzzzz'"),
        ("nowhere.py", "otbench: nowhere.py: no such file"),
        ("latin.py", "otbench: latin.py: is not UTF-8 text"),
        ("a.csv", "'a.csv': check takes a name, or a Python file (.py)"),
        ("silent.py", "silent.py: registers nothing"),
        ("broken.py", "otbench: broken.py:1: SyntaxError"),
        ("task.py", "task 'only' cannot be imported"),
    ],
)
def test_check_of_what_cannot_be_checked(
    name: str, names: str, refused: Callable[..., str], toy: str, tmp_path: Path
) -> None:
    (tmp_path / "silent.py").write_text("")
    (tmp_path / "latin.py").write_bytes(b'x = "\xe9"\n')
    (tmp_path / "broken.py").write_text("def f(:\n")
    (tmp_path / "task.py").write_text('@register_task("only")\nclass Only:\n    pass\n')
    refused("check", name, "--plugin", toy, names=names)


@pytest.mark.parametrize("name", ["toyshfit", "zzzzzz", "", "ncf[lr=1]"])
def test_show_of_what_is_not_there(name: str, refused: Callable[..., str], toy: str) -> None:
    refused("show", name, "--plugin", toy, names=f"'{name}'")


# ---------------------------------------------------------------------------------------------------------------- TOML


@pytest.mark.parametrize(
    ("content", "names"),
    [
        ("solvers = ", "not valid TOML"),
        ("[solvers\n", "not valid TOML"),
        ("steps = 1\nsteps = 2\n", "not valid TOML"),
        ("x = " + "[" * 5000, "not valid TOML"),
        ('solver = "toyshift"\n', "unknown option 'solver'; did you mean 'solvers'?"),
        ("zzz = 1\n", "unknown option 'zzz'; options: solvers, task"),
        ("[run]\nsteps = 3\n", "unknown option 'run'"),
        ("[solvers]\nncf = 1\n", "'solvers' must be text"),
        ("solvers = []\n", "'solvers' must be text"),
        ("solvers = [[1]]\n", "'solvers' must be text"),
        ("solvers = 3\n", "'3'"),
        ("steps = true\n", "'steps' must be text"),
        ("steps = [1, 2]\n", "'steps' must be a whole number"),
        ('steps = "abc"\n', "'steps' must be a whole number, not 'abc'"),
        ("steps = 1.5\n", "'steps' must be a whole number, not 1.5"),
        ("steps = inf\n", "'steps' must be a whole number, not inf"),
        ("steps = nan\n", "'steps' must be a whole number, not nan"),
        ("steps = 0\n", "--steps 0"),
        ("steps = -1\n", "--steps -1"),
        ("threads = 0\n", "--threads 0"),
        ('time-limit = "soon"\n', "'time-limit' must be a number"),
        ("time-limit = nan\n", "--time-limit nan"),
        ("time_limit = -inf\n", "--time-limit -inf"),
        ("seeds = 1.5\n", "--seeds '1.5'"),
        ("seeds = -1\n", "--seeds '-1'"),
        ("seeds = 2020-01-01\n", "'seeds' must be text"),
        ('dim = ["a"]\n', "--dim 'a'"),
        ('preset = "smok"\n', "did you mean 'smoke'?"),
        ('device = "cudaX"\n', "--device cudaX"),
        ('out = "a\\u0000b"\n', r"--out a\x00b: embedded null byte"),
        ('data-dir = "a\\u0000b"\n', r"--data-dir a\x00b: embedded null byte"),
        ('out = ""\n', "--out: the path is empty"),
        ('data-dir = "~no-such-user/x"\n', "--data-dir ~no-such-user/x: no such user"),
    ],
)
def test_a_file_of_options_with_a_mistake(
    content: str, names: str, refused: Callable[..., str], toy: str, tmp_path: Path
) -> None:
    config = tmp_path / "my.toml"
    config.write_text(content)
    words = [] if re.match("solvers|task", content) else ["--solvers", "toyshift"]
    refused("--plugin", toy, *words, "--task", "toy", "--config", config, names=names)


@pytest.mark.parametrize("kind", ["missing", "folder", "binary", "below a file"])
def test_a_file_of_options_that_cannot_be_read(
    kind: str, refused: Callable[..., str], toy: str, tmp_path: Path
) -> None:
    config = tmp_path / "my.toml"
    if kind == "folder":
        config.mkdir()
    elif kind == "binary":
        config.write_bytes(bytes(range(256)))
    elif kind == "below a file":
        config.write_text("")
        config = config / "my.toml"
    refused("--plugin", toy, *TOY, "--config", config, names=f"--config {config}: ")


# ----------------------------------------------------------------------------------------------------- Gaussian pairs


def spd(dim: int = 3) -> np.ndarray:
    return np.diag(np.arange(1.0, dim + 1))


@pytest.mark.parametrize(
    ("arrays", "names"),
    [
        ({"Sigma0": spd()}, "Sigma1"),
        ({"Sigma0": np.triu(np.ones((3, 3))), "Sigma1": spd()}, "Sigma0"),
        ({"Sigma0": np.diag([1.0, -1.0, 2.0]), "Sigma1": spd()}, "Sigma0"),
        ({"Sigma0": spd(), "Sigma1": np.full((3, 3), np.nan)}, "Sigma1"),
        ({"Sigma0": spd(), "Sigma1": np.full((3, 3), np.inf)}, "Sigma1"),
        ({"Sigma0": spd(3), "Sigma1": spd(2)}, "Sigma1"),
        ({"Sigma0": np.ones(3), "Sigma1": spd()}, "Sigma0"),
        ({"Sigma0": np.ones((2, 3)), "Sigma1": spd()}, "Sigma0"),
        ({"Sigma0": np.zeros((0, 0)), "Sigma1": np.zeros((0, 0))}, "Sigma0"),
        ({"Sigma0": spd(), "Sigma1": spd(), "mean0": np.zeros(2)}, "mean0"),
        ({"Sigma0": spd(), "Sigma1": spd(), "mean1": np.full(3, np.nan)}, "mean1"),
        ({"Sigma0": spd().astype(str), "Sigma1": spd()}, "Sigma0"),
        ({"Sigma0": spd() * 1j, "Sigma1": spd()}, "Sigma0"),
        ({"Sigma0": np.array([[{}]], dtype=object), "Sigma1": spd()}, "Sigma0"),
    ],
)
@pytest.mark.parametrize("dry", [True, False])
def test_a_pair_of_ones_own_that_is_no_pair_of_covariances(
    arrays: dict[str, np.ndarray], names: str, dry: bool, refused: Callable[..., str], tmp_path: Path
) -> None:
    np.savez(tmp_path / "pair.npz", **arrays)  # type: ignore[arg-type]
    words = ("--solvers", "identity", "--task", "gaussian[file=pair.npz]", *(["--dry-run"] if dry else []))
    message = refused(*words, names="pair.npz")
    assert names in message


@pytest.mark.parametrize("kind", ["missing", "folder", "empty", "text", "torn", "no archive", "pickle"])
def test_a_pair_of_ones_own_that_cannot_be_read(kind: str, refused: Callable[..., str], tmp_path: Path) -> None:
    path = tmp_path / "pair.npz"
    if kind == "folder":
        path.mkdir()
    elif kind in ("empty", "text"):
        path.write_text("" if kind == "empty" else "Sigma0 = 1\n")
    elif kind == "torn":
        np.savez(path, Sigma0=spd(), Sigma1=spd())
        path.write_bytes(path.read_bytes()[:-40])
    elif kind == "no archive":
        with path.open("wb") as file:
            np.save(file, spd())
    elif kind == "pickle":
        import pickle

        path.write_bytes(pickle.dumps({"Sigma0": 1}))
    refused("--solvers", "identity", "--task", "gaussian[file=pair.npz]", names="pair.npz")


@pytest.mark.parametrize(
    ("task", "names"),
    [
        ("gaussian[dim=0]", "dim='0'"),
        ("gaussian[dim=-2]", "dim='-2'"),
        ("gaussian[dim=100000000]", "dim='100000000'"),
        ("gaussian[pair=abc]", "pair='abc'"),
        ("gaussian[pair=-1]", "pair='-1'"),
        ("gaussian[pair=1.5]", "pair='1.5'"),
        ("gaussian[pool=0]", "pool='0'"),
        ("gaussian[pool=few]", "pool='few'"),
        ("gaussian[pool=nan]", "pool='nan'"),
        ("gaussian[pair=released,dim=3]", "dim"),
    ],
)
def test_parameters_of_the_gaussian_task(task: str, names: str, refused: Callable[..., str]) -> None:
    refused("--solvers", "identity", "--task", task, names=names)


def test_a_pair_and_a_dimension_that_do_not_fit(refused: Callable[..., str], tmp_path: Path) -> None:
    np.savez(tmp_path / "pair.npz", Sigma0=spd(3), Sigma1=spd(3))
    refused("--solvers", "identity", "--task", "gaussian[file=pair.npz]", "--dim", "2", names="pair.npz")


def test_released_pairs_that_are_not_in_the_data_folder(refused: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    words = ("--solvers", "identity", "--task", "gaussian[pair=released,dim=2]", "--data-dir", "data")
    refused(*words, names="data")


# ----------------------------------------------------------------------------------------------------------- for real


def test_nothing_is_left_behind_and_no_traceback_is_shown_in_a_process_of_its_own(
    run_cli: Cli, toy: str, tmp_path: Path
) -> None:
    code, out, err = run_cli("--plugin", toy, "--solvers", "toyshfit", "--task", "toy", "--out", "o", cwd=tmp_path)
    assert (code, out) == (2, "")
    assert err == "otbench: unknown solver or baseline 'toyshfit'; did you mean 'toyshift'?\n"
    assert list(tmp_path.rglob("*.json")) == []
