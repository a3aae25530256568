"""Identity: every module that makes a number is in the runs that use it, and in no others."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from otbench.harness.identity import BEYOND, Standing, code_hash, code_of, modules_of, standing
from otbench.harness.plan import Request, make_plan
from otbench.plugins.registry import Entry, Registry
from otbench.plugins.syntax import imported
from otbench.records.record import Record, RunSpec, Status
from otbench.records.verified import Outcome, Verification

RUNS = [
    *(("ls", "gaussian"), ("notweak", "gaussian"), ("constant", "gaussian")),
    *(("ncf", "toy2d"), ("fixedpoint", "uci"), ("otflow", "uci"), ("gnot", "mnist")),
]
ENTRIES = {run: (Registry().find(run[0]), Registry().find(run[1])) for run in RUNS}


@pytest.fixture
def package(root: Path, tmp_path: Path) -> Path:
    """The package in a copy of the checkout, whose files a test may change."""
    for folder in ("otbench", "solvers", "baselines", "datasets"):
        shutil.copytree(root / folder, tmp_path / folder, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path / "otbench"


def hashes(package: Path) -> dict[tuple[str, str], str]:
    return {run: code_hash(code_of(*entries, package=package)) for run, entries in ENTRIES.items()}


def test_a_changed_line_of_any_module_changes_the_runs_that_use_it_and_no_others(package: Path) -> None:
    used = {run: set(modules_of(*entries, package=package).values()) for run, entries in ENTRIES.items()}
    before = hashes(package)
    for path in sorted(set.union(*used.values())):
        text = path.read_text()
        path.write_text(f"{text}\n_x = 1\n")
        after = hashes(package)
        assert {run for run in RUNS if after[run] != before[run]} == {run for run in RUNS if path in used[run]}, path
        path.write_text(text)
    assert hashes(package) == before


def test_comments_layout_and_docstrings_change_no_run(package: Path) -> None:
    before = hashes(package)
    for path in [*package.rglob("*.py"), *(package.parent / "solvers").glob("*.py")]:
        path.write_text(f'"""Words."""\n# a comment\n\n\n{path.read_text()}\n"""More words."""\n')
    assert hashes(package) == before


@pytest.mark.parametrize(
    ("file", "runs"),
    [
        ("harness/train.py", RUNS),
        ("harness/evaluate.py", RUNS),
        ("harness/judge.py", RUNS),
        ("harness/trainer.py", RUNS),
        ("harness/applier.py", RUNS),
        ("harness/images.py", RUNS),
        ("harness/spool.py", RUNS),
        ("transport.py", RUNS),
        ("harness/guard.py", []),
        ("harness/execute.py", []),
        ("harness/measure.py", RUNS),
        ("problem.py", RUNS),
        ("samplers.py", RUNS[:2] + RUNS[3:]),
        ("datasets/_toy_densities.py", [("ncf", "toy2d")]),
        ("datasets/mnist/scores.py", [("gnot", "mnist")]),
        ("datasets/uci/tables.py", [("fixedpoint", "uci"), ("otflow", "uci")]),
        ("solvers/_paired.py", [("ls", "gaussian")]),
        ("solvers/_saddle.py", [("notweak", "gaussian"), ("gnot", "mnist")]),
        ("nets/unet.py", [("notweak", "gaussian"), ("gnot", "mnist")]),
        ("report/rows.py", []),
        ("compare/compare.py", []),
        ("records/store.py", []),
        ("cli/program.py", []),
        ("plugins/registry.py", []),
        ("solvers/mm.py", []),
    ],
)
def test_who_is_hit_by_a_change(package: Path, file: str, runs: list[tuple[str, str]]) -> None:
    before = hashes(package)
    with (package / file).open("a") as stream:
        stream.write("\n_x = 1\n")
    after = hashes(package)
    hit = {run for run in RUNS if before[run] != after[run]}
    # who imports the samplers is the solvers' own affair: the baseline does not
    assert hit >= set(runs) if file == "samplers.py" else hit == set(runs)


def test_all_that_is_really_imported_is_in_the_identity(root: Path) -> None:
    program = (
        "import sys, otbench.harness.judge, otbench.harness.trainer, otbench.harness.applier, otbench.solvers.gnot, "
        "otbench.datasets.mnist; print(*(f'{name}={module.__file__}' for name, module in sys.modules.items() "
        "if name.startswith('otbench') and getattr(module, '__file__', None)))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=True)
    files = dict(word.split("=") for word in done.stdout.split())
    beyond = {name for name in files if BEYOND.match(name)}

    def used(by: set[str]) -> set[str]:
        return {other for name in by for other in imported(Path(files[name]).read_bytes(), name, package=False)}

    really = set(files) - beyond
    only_for_records = used(beyond) - used(really)
    assert really - only_for_records <= set(modules_of(*ENTRIES["gnot", "mnist"]))


def test_a_checkout_without_links_has_the_same_identity(package: Path) -> None:
    before = hashes(package)
    for name in ("solvers", "baselines", "datasets"):
        (package / name).unlink()
        (package / name).write_text(f"../{name}")
    assert hashes(package) == before


def test_a_plugin_file_counts_with_what_lies_beside_it(tmp_path: Path, toy: str) -> None:
    plugin = tmp_path / "mine.py"
    plugin.write_text(f"import helper\nfrom helpers_of import more\nimport torch\n{Path(toy).read_text()}")
    (tmp_path / "helper.py").write_text("import deeper\n")
    (tmp_path / "deeper.py").write_text("x = 1\n")
    (tmp_path / "helpers_of").mkdir()
    (tmp_path / "helpers_of" / "more.py").write_text("y = 1\n")
    registry = Registry([plugin])
    solver, task = registry.find("toyshift"), registry.find("toy")
    before = code_of(solver, task)
    assert {"mine.py", "helper.py", "deeper.py", "helpers_of/more.py", "harness", "otbench"} <= set(before)
    (tmp_path / "deeper.py").write_text("x = 2\n")
    changed = {name for name, value in code_of(solver, task).items() if value != before[name]}
    assert changed == {"deeper.py"}


def test_an_installed_plugin_counts_with_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "lab_of_mine"
    (package / "solvers").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "solvers" / "best.py").write_text("from ..nets import net\nfrom otbench.ops import prox\nimport numpy\n")
    (package / "nets.py").write_text("raise RuntimeError('never imported here')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    entry = Entry("solver", "best", "", "entry point lab", "lab_of_mine.solvers.best", None, 0)
    parts = code_of(entry, ENTRIES["ls", "gaussian"][1])
    assert {"lab_of_mine/__init__.py", "lab_of_mine/solvers/best.py", "lab_of_mine/nets.py", "ops"} <= set(parts)
    assert not any(name.startswith("numpy") for name in parts)


def test_ids_follow_the_code(toy: str, tmp_path: Path) -> None:
    copy = tmp_path / "toy.py"
    copy.write_text(Path(toy).read_text())
    request = Request(solvers="toyshift", task="toy", device="cpu", threads=1)

    def ids() -> set[str]:
        return {run.id for run in make_plan(request, Registry([copy])).runs if run.spec.solver == "toyshift"}

    before = ids()
    copy.write_text(copy.read_text() + "# words only\n")
    assert ids() == before
    copy.write_text(copy.read_text() + "_x = 1\n")
    assert ids() != before


def record(name: str, source: Mapping[str, str], *, solver: str = "ls", commit: str | None = "c" * 40) -> Record:
    spec = RunSpec(
        kind="solver",
        solver=solver,
        solver_config={},
        task="gaussian",
        task_config={},
        preset="quick",
        seed=0,
        steps=1,
        time_limit=None,
        device="cpu",
        threads=1,
        hard_limit=1,
    )
    return Record(id=name, spec=spec, status=Status.OK, source=dict(source), environment={"commit": commit})


def verified(of: Record, outcome: Outcome, code: str) -> Verification:
    then = code_hash(of.source)
    return Verification(
        id=of.id, solver="ls", task="gaussian", outcome=outcome, recorded=then, code=code, created="2026-01-01"
    )


def test_records_of_this_code_are_current_and_others_name_their_commit() -> None:
    registry, now = Registry(), code_of(*ENTRIES["ls", "gaussian"])
    records = [
        record("same", now),
        record("same-data", {**now, "input pair.npz": "0"}),
        record("old", {"kernels": "0", "solvers/ls.py": "1"}),
        record("nowhere", {"kernels": "0"}, commit=None),
        record("gone", now, solver="no_such_solver"),
    ]
    found = standing(records, registry)
    assert found == Standing({"old": "commit cccccccc", "nowhere": "an unknown commit", "gone": "commit cccccccc"})


def test_verified_records_lift_the_group_that_one_code_made_until_one_differs() -> None:
    registry, now = Registry(), code_hash(code_of(*ENTRIES["ls", "gaussian"]))
    group = [record(name, {"kernels": "0"}) for name in ("a", "b", "c")]
    other = record("d", {"kernels": "1"})
    found = [verified(group[0], Outcome.EQUAL, now), verified(group[1], Outcome.WITHIN, now)]
    lifted = standing([*group, other], registry, found)
    assert lifted == Standing({"d": "commit cccccccc"}, dict.fromkeys("abc", "2 of 3 verified"))
    assert not standing(group, registry, [*found, verified(group[2], Outcome.UNKNOWN, now)]).stale
    assert len(standing(group, registry, [*found, verified(group[2], Outcome.DIFFERENT, now)]).stale) == 3
    # what was verified under yet other code says nothing of today's
    assert len(standing(group, registry, [verified(group[0], Outcome.EQUAL, "0")]).stale) == 3
