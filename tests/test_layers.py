"""The layout: few rooms, arrows one way, plugins on the outside. The contracts stand in pyproject.toml."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from otbench import _links

MOST_ROOMS = 31
PLUGIN_FOLDERS = ("solvers", "baselines", "datasets")


@pytest.fixture
def checkout(root: Path, tmp_path: Path) -> Path:
    """A copy of the code and its contracts, to plant faults in."""
    for folder in ("otbench", *PLUGIN_FOLDERS):
        shutil.copytree(root / folder, tmp_path / folder, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(root / "results" / "published", tmp_path / "results" / "published")
    for name in ("pyproject.toml", "bench.py"):
        shutil.copy(root / name, tmp_path / name)
    return tmp_path


def lint_imports(folder: Path) -> tuple[int, str]:
    code = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    words = [sys.executable, "-c", code, "--no-cache"]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    return done.returncode, " ".join(done.stdout.split())


def plant(file: Path, line: str) -> None:
    file.write_text(file.read_text(encoding="utf-8") + f"\n{line}\n", encoding="utf-8")


def test_the_contracts_hold(checkout: Path) -> None:
    code, said = lint_imports(checkout)
    assert code == 0, said
    assert "0 broken" in said


@pytest.mark.parametrize(
    ("file", "line", "fault"),
    [
        ("solvers/ls.py", "from otbench.harness import train", "otbench.solvers.ls -> otbench.harness.train"),
        ("baselines/emd.py", "import otbench.records.store", "otbench.baselines.emd -> otbench.records.store"),
        ("datasets/mnist/points.py", "from otbench.cli import main", "otbench.datasets.mnist.points -> otbench.cli"),
        ("otbench/harness/plan.py", "from otbench.solvers import ls", "otbench.harness.plan -> otbench.solvers.ls"),
        ("otbench/ops/prox.py", "from otbench.harness import plan", "otbench.ops.prox -> otbench.harness.plan"),
        ("otbench/records/store.py", "from otbench.report import rows", "otbench.records.store -> otbench.report.rows"),
        ("otbench/records/record.py", "from otbench.records import export", "No circles, inside rooms either BROKEN"),
    ],
)
def test_a_planted_import_is_caught(file: str, line: str, fault: str, checkout: Path) -> None:
    plant(checkout / file, line)
    code, said = lint_imports(checkout)
    assert code == 1
    assert fault in said


def test_a_module_without_a_place_is_caught(checkout: Path) -> None:
    (checkout / "otbench" / "attic.py").write_text('"""Nobody says where this belongs."""\n')
    code, said = lint_imports(checkout)
    assert code == 1
    assert "attic" in said


def test_the_house_has_few_rooms(root: Path) -> None:
    rooms = {
        path.stem for path in (root / "otbench").iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    assert len(rooms - set(_links.TARGETS) | set(PLUGIN_FOLDERS)) <= MOST_ROOMS
