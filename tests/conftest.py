"""What several test files share: the program run in this process or in one of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from otbench.cli import main

ROOT = Path(__file__).parent.parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files that lie here first: they have few tests that take long, and two processes should end together."""
    items.sort(key=lambda item: item.path.parent != Path(__file__).parent)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """Tests share the machine; a test that wants more threads says so, and takes them for itself alone."""
    if (torch := sys.modules.get("torch")) is not None and torch.get_num_threads() != 1:
        torch.set_num_threads(1)


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout."""
    return ROOT


@pytest.fixture(scope="session")
def toy() -> str:
    """The plugin file with the task `toy` and the solvers `toyshift`, `toynan`, ..."""
    return str(ROOT / "tests" / "helpers" / "plugins" / "toy.py")


@pytest.fixture(scope="session")
def run_cli() -> Callable[..., tuple[int, str, str]]:
    """`python bench.py ...` in a process of its own: returns exit code, standard output, standard error."""

    def run(
        *words: str | Path,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        program: tuple[str | Path, ...] = (sys.executable, ROOT / "bench.py"),
    ) -> tuple[int, str, str]:
        done = subprocess.run(
            [*map(str, program), *map(str, words)],
            cwd=cwd,
            env=os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "160"} | dict(env or {}),
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        return done.returncode, done.stdout, done.stderr

    return run


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """The same in this process, which spares the import of torch: returns exit code, output, error output."""

    def run(*words: str | Path) -> tuple[int, str, str]:
        capsys.readouterr()
        try:
            code = main([str(word) for word in words])
        except SystemExit as error:  # --help and --version of argparse
            code = int(error.code or 0)
        out, err = capsys.readouterr()
        return code, out, err

    return run
