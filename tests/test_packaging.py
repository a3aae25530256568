"""Checkout, editable install and wheel are the same program; nobody else's package is shadowed."""

from __future__ import annotations

import ast
import re
import shutil
import site
import subprocess
import sys
import venv
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from otbench import _links
from otbench.plugins.registry import Registry

Cli = Callable[..., tuple[int, str, str]]

FOLDERS = ("solvers", "baselines", "datasets")
KEPT = ("otbench", *FOLDERS, "bench.py", "pyproject.toml", "README.md", "LICENSE")

SOLVER = '''
"""A solver that was dropped in."""

import datasets
import torch
from otbench.solver import Config, Solver, StepInfo, Transport, register_solver

assert datasets.MARK == "someone else's package", datasets


@register_solver("dropped", config=Config, reference="none", presets={"smoke": {"steps": 2}})
class Dropped(Solver[Config]):
    """Does nothing."""

    def step(self):
        return StepInfo(torch.zeros(()), done=True)

    def transport(self):
        return Unmoved()


class Unmoved(Transport):
    def forward(self, x, label=None, generator=None):
        return x
'''


def copy(root: Path, target: Path, *, links: bool) -> Path:
    """Copy what the program and its build need; `links=False` as a file system without links would hold them."""
    target.mkdir()
    ignore = shutil.ignore_patterns("__pycache__", "*.pyc")
    for name in KEPT:
        if (root / name).is_dir():
            shutil.copytree(root / name, target / name, symlinks=True, ignore=ignore)
        else:
            shutil.copy(root / name, target / name)
    shutil.copytree(root / "results" / "published", target / "results" / "published")
    if not links:
        for name in _links.TARGETS:
            link = target / "otbench" / name
            text = str(link.readlink())
            link.unlink()
            link.write_text(text)  # what git and zip archives leave there
    return target


def library(root: Path) -> list[Path]:
    """Every module of the library; the links to the plugin folders lead elsewhere."""
    top = root / "otbench"
    return [path for path in top.rglob("*.py") if path.relative_to(top).parts[0] not in _links.TARGETS]


def files(root: Path) -> set[str]:
    """Names inside the package of all that a user must get: code, plugins, published numbers, the type marker."""
    wanted = {"otbench/py.typed"} | {str(path.relative_to(root)) for path in library(root)}
    for folder in FOLDERS:
        wanted |= {f"otbench/{path.relative_to(root)}" for path in (root / folder).rglob("*.py")}
    for ending in ("bib", "csv", "j2", "css", "js", "toml"):
        wanted |= {f"otbench/report/{path.name}" for path in (root / "otbench" / "report").glob(f"*.{ending}")}
    return wanted | {f"otbench/published/{path.name}" for path in (root / "results" / "published").glob("*.csv")}


@pytest.fixture(scope="module")
def wheel(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel by way of the source distribution, as an index would serve it; from a copy without links."""
    work = tmp_path_factory.mktemp("build")
    source = copy(root, work / "checkout", links=False)
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(work / "dist"), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (made,) = (work / "dist").glob("*.whl")
    return made


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel installed in it."""
    target = tmp_path_factory.mktemp("installed") / "site"
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index", "--no-compile"]
    subprocess.run([*pip, "--target", str(target), str(wheel)], check=True, timeout=240)
    return target


@pytest.fixture
def someones_datasets(tmp_path: Path) -> Path:
    """A folder with a package `datasets` in it, as Hugging Face's is installed."""
    package = tmp_path / "site-of-others" / "datasets"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text('MARK = "someone else\'s package"\n')
    return package.parent


# --------------------------------------------------------------------------------------------------------- the checkout


def test_links_stand_where_they_should(root: Path) -> None:
    for name, target in _links.TARGETS.items():
        link = root / "otbench" / name
        assert link.is_symlink()
        assert link.readlink() == Path("..") / target
        assert link.resolve() == root / target


def test_plugin_folders_are_no_packages_of_their_own(root: Path) -> None:
    assert [folder for folder in FOLDERS if (root / folder / "__init__.py").exists()] == []


def test_the_build_names_every_package(root: Path) -> None:
    import tomllib

    setup = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    folders = {path.parent.relative_to(root) for path in library(root)}
    plugins = {
        Path("otbench") / path.parent.relative_to(root) for name in FOLDERS for path in (root / name).rglob("*.py")
    }
    found = {".".join(folder.parts) for folder in folders | plugins} | {"otbench.published"}
    assert set(setup["packages"]) == found
    assert {f"otbench.{name}": target for name, target in _links.TARGETS.items()} | {"otbench": "otbench"} == setup[
        "package-dir"
    ]


def test_no_file_of_the_harness_names_a_particular_solver_or_task(root: Path) -> None:
    names = {entry.name for entry in Registry().entries()} - {"samples", "colour"}  # also columns of records, of styles
    for path in library(root):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        said = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
        # rows above identity are marked, and those of copies explained; between Gaussians `linear` has the pool's error
        allowed = {"rows.py": {"identity", "copies"}, "series.py": {"gaussian", "linear"}}.get(path.name, set())
        assert said & names <= allowed, path
        imports = re.findall(r"^\s*(?:from|import) otbench\.(\w+)", path.read_text(encoding="utf-8"), re.MULTILINE)
        assert not set(imports) & set(FOLDERS), f"{path}: imports point from plugins to the library only"


# ----------------------------------------------------------------------------------------------------------- the wheel


def test_the_wheel_holds_one_top_level_name_and_every_file(wheel: Path, root: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert len(names) == len(set(names))
    top = {name.partition("/")[0] for name in names}
    assert "otbench" in top
    (info,) = top - {"otbench"}
    assert info.endswith(".dist-info")
    assert {name for name in names if not name.startswith(info)} == files(root)
    assert f"{info}/licenses/LICENSE" in names
    entry_points = zipfile.ZipFile(wheel).read(f"{info}/entry_points.txt").decode()
    assert "otbench = otbench.cli:main" in entry_points


def test_the_installed_program_lists_what_the_checkout_lists(installed: Path, run_cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "datasets").mkdir()  # a user's own folder, wherever the program is called from
    env = {"PYTHONPATH": str(installed)}
    theirs = run_cli("list", cwd=tmp_path, env=env, program=(sys.executable, "-m", "otbench"))
    assert theirs[0] == 0
    assert theirs == run_cli("list", cwd=tmp_path)
    code, out, _ = run_cli("show", "identity", cwd=tmp_path, env=env, program=(sys.executable, "-m", "otbench"))
    assert code == 0
    assert str(installed / "otbench" / "baselines" / "identity.py") in out
    code, out, _ = run_cli(cwd=tmp_path, env=env, program=(installed / "bin" / "otbench", "--version"))
    assert code == 0


def test_the_installed_program_runs(installed: Path, run_cli: Cli, tmp_path: Path, toy: str) -> None:
    words = ("--plugin", toy, "--solvers", "identity,toyskip", "--task", "toy", "--preset", "smoke", "--device", "cpu")
    env = {"PYTHONPATH": str(installed)}
    code, out, err = run_cli(*words, cwd=tmp_path, env=env, program=(sys.executable, "-m", "otbench"))
    assert (code, err) == (0, "")
    assert re.search(r"^ identity +1 ", out, re.MULTILINE)
    assert len(list((tmp_path / "results" / "local").glob("*.json"))) == 4, "records go below the current folder"


def test_published_numbers_are_read_from_the_installed_package(installed: Path, root: Path) -> None:
    code = (
        "import otbench; from otbench.report.rows import published_table;"
        "print(otbench.__file__, len(published_table('gaussian')))"
    )
    command = [sys.executable, "-P", "-c", code]
    done = subprocess.run(
        command, env={"PYTHONPATH": str(installed)}, capture_output=True, text=True, check=True, timeout=120
    )
    where, number = done.stdout.split()
    assert where == str(installed / "otbench" / "__init__.py")
    assert int(number) > 0


# ------------------------------------------------------------------------------------------------------ other checkouts


def test_an_editable_install_is_the_checkout(root: Path, run_cli: Cli, tmp_path: Path) -> None:
    source = copy(root, tmp_path / "checkout", links=True)
    (source / "solvers" / "dropped.py").write_text(SOLVER)
    environment = tmp_path / "venv"
    venv.create(environment, with_pip=False, symlinks=True)
    python = environment / "bin" / "python"
    purelib = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout.strip()
    # what this environment has, without a download; appended as plain folders, so no other editable install interferes
    (Path(purelib) / "host.pth").write_text("\n".join(site.getsitepackages()) + "\n")
    pip = [str(python), "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "-e", str(source)], check=True, timeout=240)
    code, out, err = run_cli("list", cwd=tmp_path, program=(environment / "bin" / "otbench",))
    assert (code, err) == (0, "")
    assert re.search(r"^dropped +Does nothing\.", out, re.MULTILINE)
    code, out, _ = run_cli("show", "identity", cwd=tmp_path, program=(environment / "bin" / "otbench",))
    assert code == 0
    assert str(source) in out


@pytest.mark.parametrize("links", [True, False], ids=["with links", "without links"])
def test_a_dropped_file_runs_and_sees_the_datasets_package_of_others(
    links: bool, root: Path, someones_datasets: Path, run_cli: Cli, tmp_path: Path, toy: str
) -> None:
    source = copy(root, tmp_path / "checkout", links=links)
    for path in (source / "baselines").glob("*.py"):
        path.unlink()  # their worker would cost seconds and say nothing new
    (source / "solvers" / "dropped.py").write_text(SOLVER)
    env = {"PYTHONPATH": str(someones_datasets)}
    words: tuple[str, ...] = ("show", "dropped")
    if links:  # what can be loaded without them runs as well
        words = ("--plugin", toy, "--solvers", "dropped", "--task", "toy", "--preset", "smoke", "--device", "cpu")
        words += ("--out", str(tmp_path / "out"))
    code, out, err = run_cli(*words, cwd=tmp_path, env=env, program=(sys.executable, source / "bench.py"))
    assert (code, err) == (0, "")
    assert re.search(r"^ ?dropped ", out, re.MULTILINE)
    assert links or str(source) in out


def test_without_links_plugins_and_published_numbers_are_found(root: Path, tmp_path: Path) -> None:
    source = copy(root, tmp_path / "checkout", links=False)
    code = (
        "import otbench, importlib, pkgutil\n"
        "from importlib import resources\n"
        "from otbench.plugins.registry import Registry\n"
        "registry = Registry()\n"
        "print(*sorted(e.name for e in registry.entries()), registry.problems, sep='|')\n"
        "print(registry.load(registry.find('identity')).cls.__module__)\n"
        "print(resources.files('otbench.published').joinpath('gaussian.csv').is_file())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=source, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.stderr == ""
    names, module, numbers = done.stdout.splitlines()
    assert names == "|".join([*sorted(entry.name for entry in Registry().entries()), "[]"])
    assert (module, numbers) == ("otbench.baselines.identity", "True")


def test_importing_the_package_is_cheap(root: Path) -> None:
    code = "import sys; before = set(sys.modules); import otbench; print(*set(sys.modules) - before)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True, timeout=60
    )
    assert not {"torch", "numpy", "pydantic", "importlib.metadata"} & set(done.stdout.split())
