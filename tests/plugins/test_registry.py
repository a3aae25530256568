"""`otbench.plugins.registry`: what is dropped, installed or named is found, and what is broken hurts nobody else."""

from __future__ import annotations

import os
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from otbench import _links
from otbench.errors import PluginError, UsageError
from otbench.plugins.registry import Registry

Cli = Callable[..., tuple[int, str, str]]

SOLVER = '''
from otbench.solver import Config, Solver, register_solver

@register_solver("{name}", config=Config, reference="none", presets={{"smoke": {{}}}})
class Dropped(Solver):
    """{summary}"""
'''


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(text), encoding="utf-8")
    return path


def solver(name: str, summary: str = "One that was dropped in.") -> str:
    return SOLVER.format(name=name, summary=summary)


@pytest.fixture(autouse=True)
def _forget_plugin_modules() -> Iterator[None]:
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.startswith(("otbench_ext", "someones_")):
            del sys.modules[name]


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Plugin folders of this test's own, empty."""
    for name in ("solvers", "baselines", "datasets"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(_links, "folder", lambda name: tmp_path / name)
    return tmp_path


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str, str], Path]:
    """Installs a package of one module with one entry point; returns the module's file."""
    site = tmp_path / "site"
    monkeypatch.syspath_prepend(str(site))

    def install(module: str, group: str, source: str, name: str = "theirs") -> Path:
        info = site / f"{module}-1.0.dist-info"
        write(info / "METADATA", f"Metadata-Version: 2.1\nName: {module.replace('_', '-')}\nVersion: 1.0\n")
        write(info / "entry_points.txt", f"[{group}]\n{name} = {module}\n")
        return write(site / f"{module}.py", source)

    return install


def test_built_in_names_are_found_with_kind_file_and_line() -> None:
    entry = Registry().find("identity")
    assert (entry.kind, entry.origin, entry.module) == ("baseline", "built in", "otbench.baselines.identity")
    assert entry.path is not None
    line = entry.path.read_text(encoding="utf-8").splitlines()[entry.line - 1]
    assert line.startswith("@register_baseline(")
    assert entry.summary
    assert Registry().problems == []


def test_a_file_dropped_into_a_folder_is_found(folders: Path) -> None:
    path = write(folders / "solvers" / "mine.py", solver("dropped"))
    (entry,) = Registry().entries()
    assert (entry.kind, entry.name, entry.summary) == ("solver", "dropped", "One that was dropped in.")
    assert entry.where == f"{path}:4"


def test_a_file_may_register_several_names_of_any_kind(folders: Path) -> None:
    text = solver("one") + solver("two").replace("register_solver", "register_baseline")
    write(folders / "solvers" / "both.py", text)
    assert [(e.kind, e.name) for e in Registry().entries()] == [("baseline", "two"), ("solver", "one")]


def test_files_that_begin_with_an_underscore_are_private(folders: Path) -> None:
    write(folders / "solvers" / "_helper.py", "this is not python")
    write(folders / "solvers" / "__init__.py", solver("hidden"))
    registry = Registry()
    assert registry.entries() == []
    assert registry.problems == []


def test_an_entry_point_is_found_loaded_and_says_whose_it_is(
    folders: Path, installed: Callable[[str, str, str], Path]
) -> None:
    installed("someones_solvers", "otbench.solvers", solver("theirs"))
    registry = Registry()
    entry = registry.find("theirs")
    assert entry.origin == "entry point someones-solvers"
    assert registry.load(entry).cls.__name__ == "Dropped"


def test_an_entry_point_that_cannot_be_imported_is_one_error_and_stops_nothing_else(
    folders: Path, installed: Callable[[str, str, str], Path]
) -> None:
    path = installed("someones_broken", "otbench.solvers", "import no_such_module_of_mine\n")
    write(folders / "solvers" / "mine.py", solver("dropped"))
    registry = Registry()
    with pytest.raises(PluginError, match="no_such_module_of_mine") as caught:
        registry.load(registry.find("theirs"))
    assert f"{path}:1" in str(caught.value)
    assert registry.find("dropped").name == "dropped"


def test_a_plugin_file_is_found_and_loaded(tmp_path: Path, toy: str) -> None:
    registry = Registry([Path(toy)])
    entry = registry.find("toyshift", "solver")
    assert entry.origin == "plugin"
    note = registry.load(entry)
    assert note.name == "toyshift"
    assert registry.load(entry) is note


def test_two_plugin_files_of_one_file_name_do_not_disturb_each_other(tmp_path: Path) -> None:
    paths = [write(tmp_path / where / "mine.py", solver(where, summary=where)) for where in ("here", "there")]
    registry = Registry(paths)
    for where in ("here", "there"):
        assert registry.load(registry.find(where)).cls.__doc__ == where


def test_a_plugin_named_twice_or_standing_in_a_folder_is_one_plugin(folders: Path, toy: str) -> None:
    path = write(folders / "solvers" / "mine.py", solver("dropped"))
    registry = Registry([Path(toy), Path(toy), path])
    assert registry.problems == []
    assert registry.find("dropped").origin == "built in"


@pytest.mark.parametrize("kind", ["missing", "folder", "silent"])
def test_a_plugin_that_gives_nothing_is_an_error_that_names_it(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "my_plugin.py"
    if kind == "folder":
        path.mkdir()
    if kind == "silent":
        write(path, "x = 1\n")
    reason = {"missing": "no such file", "folder": "is a folder", "silent": "registers nothing"}[kind]
    with pytest.raises(PluginError, match=rf"--plugin .*my_plugin\.py: {reason}"):
        Registry([path])


def test_the_same_name_twice_is_an_error_with_both_places_and_hurts_no_other_name(folders: Path) -> None:
    first = write(folders / "solvers" / "a.py", solver("dropped"))
    second = write(folders / "solvers" / "b.py", solver("dropped") + solver("other"))
    registry = Registry()
    (problem,) = registry.problems
    assert problem.where == f"{second}:4"
    assert f"{first}:4" in problem.reason
    with pytest.raises(UsageError, match="registered twice") as error:
        registry.find("dropped")
    assert f"{first}:4" in str(error.value)
    assert f"{second}:4" in str(error.value)
    assert registry.find("other").path == second


def test_the_same_name_in_two_plugin_files_of_one_file_name_is_reported(tmp_path: Path) -> None:
    first, second = (write(tmp_path / where / "mine.py", solver("dropped")) for where in ("here", "there"))
    (problem,) = Registry([first, second]).problems
    assert problem.where == f"{second}:4"
    assert f"{first}:4" in problem.reason


def test_one_name_for_two_kinds_is_reported_too(folders: Path) -> None:
    write(folders / "solvers" / "a.py", solver("dropped"))
    write(folders / "datasets" / "a.py", solver("dropped").replace("register_solver", "register_task"))
    assert "already taken" in Registry().problems[0].reason


@pytest.mark.parametrize(
    ("content", "line", "reason"),
    [
        (b"x = 1\ndef f(:\n", ":2", "SyntaxError"),
        (b"x = '\xff\xfe'\n", "", "is not UTF-8 text"),
        (b"x = '\x00'\n", "", "null byte"),
    ],
)
def test_a_file_that_cannot_be_read_is_reported_with_its_line_and_the_rest_is_found(
    folders: Path, content: bytes, line: str, reason: str
) -> None:
    broken = folders / "solvers" / "broken.py"
    broken.write_bytes(content)
    write(folders / "solvers" / "mine.py", solver("dropped"))
    registry = Registry()
    (problem,) = registry.problems
    assert problem.where == f"{broken}{line}"
    assert reason in problem.reason
    assert [entry.name for entry in registry.entries()] == ["dropped"]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("import no_such_module_of_mine", "ModuleNotFoundError"),
        ("raise RuntimeError('at import')", "RuntimeError: at import"),
        ("int('x')", "ValueError"),
        ("import sys; sys.exit('stop')", "SystemExit: stop"),
        ("import json; json.loads('{')", "JSONDecodeError"),
    ],
)
def test_a_file_that_cannot_be_imported_is_one_error_with_its_own_line(
    tmp_path: Path, line: str, reason: str, cli: Cli, toy: str
) -> None:
    path = write(tmp_path / "broken.py", f"\n{line}\n{solver('dropped')}")
    registry = Registry([path])
    with pytest.raises(PluginError) as caught:
        registry.load(registry.find("dropped"))
    assert f"{path}:2: {reason}" in str(caught.value)
    code, _, err = cli("--plugin", toy, "--plugin", path, "--solvers", "toyshift", "--task", "toy", "--dry-run")
    assert code == 2, "the user named the file"
    assert f"{path}:2: {reason}" in err


def test_a_solver_that_cannot_be_imported_is_left_out_of_all_with_a_note(
    folders: Path, monkeypatch: pytest.MonkeyPatch, cli: Cli, toy: str
) -> None:
    path = write(folders / "solvers" / "broken.py", f"raise RuntimeError('at import')\n{solver('dropped')}")
    monkeypatch.setattr("otbench.solvers.__path__", [str(folders / "solvers")])
    words = ("--solvers", "all", "--task", "toy", "--preset", "smoke", "--dry-run")
    code, out, err = cli("--plugin", toy, *words)
    assert code == 0
    assert "toyshift" in out
    assert f"{path}:1: RuntimeError: at import" in err


@pytest.mark.parametrize("words", [("list",), ("show", "toyshift"), ("check", "toyshift"), ("data", "list")], ids=str)
def test_a_broken_file_that_the_user_named_is_an_error(
    words: tuple[str, ...], tmp_path: Path, cli: Cli, toy: str
) -> None:
    path = write(tmp_path / "broken.py", "def f(:\n")
    code, out, err = cli(*words, "--plugin", toy, "--plugin", path)
    assert (code, out) == (2, "")
    assert err.startswith(f"otbench: --plugin {path}:1: SyntaxError")


def test_a_pipe_in_a_plugin_folder_is_passed_over(folders: Path) -> None:
    os.mkfifo(folders / "solvers" / "pipe.py")
    (folders / "solvers" / "endless.py").symlink_to("/dev/zero")
    assert ["not a regular file" in problem.reason for problem in Registry().problems] == [True, True]


@pytest.mark.parametrize("kind", ["solver", "baseline", "task"])
def test_a_class_that_is_not_what_it_is_registered_as_is_refused(kind: str, tmp_path: Path, cli: Cli, toy: str) -> None:
    module = "task" if kind == "task" else "solver"
    text = solver("odd").replace("Solver, ", "").replace("(Solver)", "").replace("otbench.solver", f"otbench.{module}")
    path = write(tmp_path / "odd.py", text.replace("register_solver", f"register_{kind}"))
    with pytest.raises(PluginError, match=r"odd\.py:4\): class Dropped must be derived from otbench\."):
        Registry([path]).load(Registry([path]).find("odd"))
    name = ("--solvers", "toyshift", "--task", "odd") if kind == "task" else ("check", "odd")
    code, _, err = cli(*name, "--plugin", toy, "--plugin", path)
    assert (code, len(err.splitlines())) == (2, 1)


@pytest.mark.parametrize("steps", ["'many'", "float('inf')", "-5", "0", "True", "1.5", "None", "10**30"])
def test_a_preset_with_no_sensible_number_of_steps_is_refused_at_planning(
    steps: str, tmp_path: Path, cli: Cli, toy: str
) -> None:
    path = write(tmp_path / "odd.py", solver("odd").replace('"smoke": {}', f'"smoke": {{"steps": {steps}}}'))
    words = ("--solvers", "odd", "--task", "toy", "--preset", "smoke")
    code, _, err = cli("--plugin", toy, "--plugin", path, *words)
    assert code == 2
    assert "preset 'smoke' sets steps=" in err
    assert "whole number from 1 to" in err


def test_a_name_that_the_decorator_does_not_give_in_plain_text_is_not_announced(folders: Path) -> None:
    write(folders / "solvers" / "mine.py", solver("dropped").replace('"dropped"', "'drop' + 'ped'"))
    assert Registry().entries() == []


def test_unknown_names_come_with_the_nearest_or_with_all_there_are(toy: str) -> None:
    registry = Registry([Path(toy)])
    with pytest.raises(UsageError, match=r"unknown solver or baseline 'toyshfit'; did you mean 'toyshift'\?"):
        registry.find("toyshfit", "solver", "baseline")
    with pytest.raises(UsageError, match=r"unknown task 'zzzzzz'; known: .*toy"):
        registry.find("zzzzzz", "task")


def test_asking_for_a_name_out_of_a_broken_file_says_what_is_broken(folders: Path) -> None:
    write(folders / "solvers" / "dropped.py", "def f(:\n")
    with pytest.raises(UsageError, match=r"unknown solver 'dropped'.*dropped\.py:1 is left out: SyntaxError"):
        Registry().find("dropped", "solver")


def test_text_in_square_brackets_is_shown_as_it_is(tmp_path: Path, cli: Cli) -> None:
    path = write(tmp_path / "mine.py", solver("dropped", summary="Maps [/red] the box [0, 1] onto [bold]."))
    code, out, _ = cli("list", "--plugin", path)
    assert code == 0
    assert "Maps [/red] the box [0, 1] onto [bold]." in out
