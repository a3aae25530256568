"""Regressions planted into a solver are caught by `compare`, end to end; the same code again raises no alarm."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from otbench.compare.compare import compare
from otbench.compare.verdict import Aspect, Comparisons
from otbench.harness.execute import execute
from otbench.harness.plan import Request, make_plan
from otbench.plugins.registry import Registry
from otbench.records.record import Record
from otbench.records.store import Store

ROOT = Path(__file__).resolve().parents[2]
TOY = (ROOT / "tests" / "helpers" / "plugins" / "toy.py").read_text(encoding="utf-8")
STEP = "loss = (x.mean(0) + self.net.by - y.mean(0)).square().sum()"
PLANTS = {
    "unchanged": ("", ""),
    "wrong sign": (STEP, STEP.replace("loss = (", "loss = -(")),
    "a tenth of the learning rate": ("self.config.lr * (1", "0.1 * self.config.lr * (1"),
    "300 MB held": ("self.count = 0", "self.count = 0\n        self.held = torch.ones(75_000_000)"),
}
SEEDS = "0-1"

Measure = Callable[[str], list[Record]]


@pytest.fixture(scope="module")
def measure(tmp_path_factory: pytest.TempPathFactory) -> Measure:
    """Runs the toy solver with one line of it changed; the name of the solver stays, as in a pull request."""
    done: dict[str, list[Record]] = {}

    def run(plant: str) -> list[Record]:
        if plant not in done:
            folder = tmp_path_factory.mktemp("plant")
            before, after = PLANTS[plant]
            assert before in TOY
            (folder / "toy.py").write_text(TOY.replace(before, after, 1) if before else TOY)
            plugin = folder / "toy.py"
            done[plant] = repeat(plugin, folder / "out")
        return done[plant]

    return run


def repeat(plugin: Path, folder: Path) -> list[Record]:
    request = Request(solvers="toyshift", task="toy", preset="smoke", seeds=SEEDS, device="cpu", threads=1)
    plan = make_plan(request, Registry([plugin]))
    only = tuple(run for run in plan.runs if run.spec.kind == "solver")
    return execute(type(plan)(only, plan.closed_form, plan.has_full), Store(folder)).records


@pytest.mark.parametrize("plant", [name for name in PLANTS if name != "unchanged"])
def test_a_planted_regression_is_caught(plant: str, measure: Measure) -> None:
    outcome = compare(measure("unchanged"), measure(plant))
    assert outcome.regressed
    aspects = {row.aspect for row in outcome.rows if row.regressed}
    wanted = Aspect.MEMORY if plant == "300 MB held" else Aspect.QUALITY
    assert aspects == {wanted}
    assert not compare(measure(plant), measure("unchanged")).regressed


def test_twenty_unchanged_repetitions_with_the_noise_of_a_busy_machine(measure: Measure) -> None:
    # quality is equal to the last bit (test_run proves it of real repetitions); time and memory are not
    generator = np.random.default_rng(0)
    base = measure("unchanged")
    for _ in range(20):
        assert not noisy_repetition(base, generator).regressed


def noisy_repetition(base: list[Record], generator: np.random.Generator) -> Comparisons:
    again = []
    for record in base:
        assert record.memory.rss_above_imports is not None
        extra = int(generator.uniform(0, 70e6))  # as seen between equal runs
        memory = record.memory.model_copy(update={"rss_above_imports": record.memory.rss_above_imports + extra})
        factor = float(np.exp(generator.normal(0, 0.3)))
        times = record.times.model_copy(update={"step_ms": (record.times.step_ms or 1.0) * factor})
        again.append(record.model_copy(update={"memory": memory, "times": times}))
    return compare(base, again)


@pytest.mark.slow
def test_twenty_real_repetitions_raise_no_alarm(tmp_path: Path) -> None:
    plugin = tmp_path / "toy.py"
    plugin.write_text(TOY)
    base = repeat(plugin, tmp_path / "base")
    for k in range(20):
        outcome = compare(base, repeat(plugin, tmp_path / f"again{k}"))
        assert outcome.compared
        assert not outcome.regressed
