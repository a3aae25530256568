"""The task: its instance, its scores, and which sets a preset takes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from otbench.datasets.uci import REAL, UCI, UCIInstance, tables
from otbench.datasets.uci.demo import DEMO
from otbench.problem import FreshMeasure, PoolMeasure
from otbench.task import Outputs

from ...helpers.uci_sets import DATA_DIR, build, needs, task, write_whole

Cli = Callable[..., tuple[int, str, str]]


SCALINGS: tuple[tables.Scaling, ...] = ("zscore", "minmax")


PRESET = {"set": list(REAL)}


class Means:
    """What the task asks of the metrics: here only the distance of means, so that the test can do it again."""

    def __init__(self, y: torch.Tensor, *, vstat: bool) -> None:
        self.y = y

    def bandwidths(self, *, final: bool) -> tuple[float, ...]:
        return (float(len(self.y)), 0.5)

    def compare(self, x: torch.Tensor, *, seed: int, final: bool) -> dict[str, float]:
        values = {"mmd": float((x.mean(0) - self.y.mean(0)).norm())}
        return values | ({"p_value": 0.5} if final else {})


@pytest.fixture
def wine(monkeypatch: pytest.MonkeyPatch) -> UCIInstance:
    monkeypatch.setattr("otbench.metrics.two_sides.HeldOut", Means)
    return build(task("wine"))


@needs("MINIBOONE")
@pytest.mark.parametrize("scaling", SCALINGS)
def test_real_miniboone(scaling: tables.Scaling) -> None:
    instance = build(task("miniboone", Path(DATA_DIR or ""), scaling))
    assert instance.facts["partial"] == (
        "partial: 2 956 of 29 556 training rows, MAF's validation rows stand in for its training rows"
    )
    assert len(instance.test.target.x) == tables.PUBLISHED["miniboone"][3]
    if scaling == "zscore":  # by statistics of rows that are not here
        assert (instance.test.target.x.std(0) - 1).abs().max() < 0.5


@needs("POWER_subset")
def test_real_power() -> None:
    instance = build(task("power", Path(DATA_DIR or "")))
    assert instance.facts["partial"] == "partial: 225 878 of 1 659 917 training rows"
    target = instance.problem.target
    assert isinstance(target, PoolMeasure)
    assert target.validation is not None
    known = torch.cat((target.pool, target.validation))
    assert torch.allclose(known.mean(0), torch.zeros(6), atol=1e-4)
    assert torch.allclose(known.std(0), torch.ones(6), atol=1e-4)


def test_source_is_normal_and_seeds_leave_data_alone(wine: UCIInstance) -> None:
    other = build(task("wine"), seed=7)
    source = wine.problem.source
    assert isinstance(source, FreshMeasure)
    assert source.is_standard_normal
    assert torch.equal(wine.test.source.x, other.test.source.x)
    assert torch.equal(wine.test.target.x, other.test.target.x)
    assert wine.test.source.x.shape == (1000, 13)
    assert wine.facts["mmd_bandwidths_fwd"] == f"{len(wine.test.target.x)}, 0.5"
    assert wine.facts["mmd_bandwidths_bwd"] == "1000, 0.5"
    drawn = source.sample(20_000, generator=torch.Generator().manual_seed(0)).x
    assert torch.allclose(drawn.T @ drawn / 20_000, torch.eye(13), atol=0.05)


def test_scores(wine: UCIInstance) -> None:
    x, y = wine.test.source.x, wine.test.target.x
    log_prob = torch.linspace(-2, 0, len(y))
    scores = wine.score(Outputs(x + 1, y - 1, x + 0.1, log_prob))
    assert scores["mmd_fwd"] == pytest.approx(float((x.mean(0) + 1 - y.mean(0)).norm()))
    assert scores["mmd_bwd"] == pytest.approx(float((y.mean(0) - 1 - x.mean(0)).norm()))
    assert scores["cost"] == pytest.approx(13 / 2, rel=1e-5)
    assert scores["inverse_gap"] == pytest.approx(100 * 0.01, rel=1e-4)
    assert scores["nll"] == pytest.approx(1.0)
    assert set(scores) <= {metric.name for metric in UCI.metrics}


def test_scores_of_one_way_maps_on_the_way(wine: UCIInstance) -> None:
    scores = wine.score(Outputs(wine.test.source.x, final=False))
    assert set(scores) == {"mmd_fwd", "cost"}
    assert scores["cost"] == 0


def test_rows_of_the_same_table_score_better_than_the_normal() -> None:
    instance = build(task("breast-cancer", scaling="minmax"))
    x, y, pool = instance.test.source.x, instance.test.target.x, instance.problem.target.pool
    assert pool is not None
    rows = pool[torch.arange(len(x)) % len(pool)]
    alike, normal = instance.score(Outputs(rows, final=False)), instance.score(Outputs(x, y))
    assert set(normal) <= {metric.name for metric in UCI.metrics}
    for name in ("mmd_fwd", "energy_fwd", "sliced_w2_fwd"):
        assert alike[name] < 0.1 * normal[name]
    assert normal["p_value_fwd"] < 0.01
    assert normal["p_points_fwd"] == instance.facts["permutation_points"] == len(y)


def test_picture(wine: UCIInstance) -> None:
    x = wine.test.source.x
    (picture,) = wine.pictures(Outputs(x + 1))
    assert picture.kind == "points"
    np.testing.assert_allclose(picture.arrays["mapped"], x.numpy() + 1)
    assert picture.arrays["data"].shape == (53, 13)
    assert picture.names[0] == "alcohol"


def test_large_test_splits_are_thinned_to_fixed_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("otbench.datasets.uci.MAX_TEST_ROWS", 30)
    write_whole("miniboone", tmp_path)
    one, two = (build(task("miniboone", tmp_path), seed) for seed in (0, 1))
    assert len(one.test.target.x) == one.facts["test_rows_used"] == 30
    assert one.facts["test_rows"] == 40
    assert torch.equal(one.test.target.x, two.test.target.x)


def test_without_real_sets_the_demo_is_taken_and_each_missing_set_named() -> None:
    chosen, notes = UCI.choose(PRESET, typed=frozenset(), data_dir=None)
    assert chosen == {"set": list(DEMO)}
    assert len(notes) == len(REAL) + 1
    for name, note in zip(REAL, notes, strict=False):
        assert f"{name} left out: not on this machine; `python bench.py data fetch {name}` downloads" in note


def test_sets_in_the_folder_are_taken(tmp_path: Path) -> None:
    write_whole("gas", tmp_path)
    write_whole("power", tmp_path)
    chosen, notes = UCI.choose(PRESET, typed=frozenset(), data_dir=tmp_path)
    assert chosen == {"set": ["power", "gas"]}
    assert [note.split()[1] for note in notes] == ["hepmass", "miniboone", "bsds300"]


@pytest.mark.parametrize(("preset", "typed"), [(PRESET, {"set"}), ({"set": ["wine"]}, set()), ({}, set())])
def test_what_is_typed_or_bundled_stays(preset: dict[str, list[str]], typed: set[str]) -> None:
    chosen, notes = UCI.choose(preset, typed=frozenset(typed), data_dir=None)
    assert (chosen, list(notes)) == (preset, [])


def test_dry_run_of_the_task_works_offline(cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("OTBENCH_DATA_DIR", raising=False)
    monkeypatch.setattr("otbench.cli.estimate.PATIENCE", 0.0)  # nothing need be built
    code, out, err = cli("--solvers", "ncf", "--task", "uci", "--device", "cpu", "--dry-run", "--out", tmp_path)
    assert code == 0, err
    assert all(f"set={name}" in "".join(out.split()) for name in DEMO)
    assert "power left out" in err


def test_copies_of_training_rows_always_stand_beside() -> None:
    assert task("wine").controls() == ("copies",)
