"""The planar task: sets as declared, exact references, scores of known maps, pictures, and bad input."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from otbench.config import build_config
from otbench.datasets import toy2d
from otbench.datasets.toy2d import DENSITIES, RINGS, STD, Toy2D, Toy2DConfig, Toy2DInstance
from otbench.errors import UsageError
from otbench.plugins.registry import Registry
from otbench.problem import PoolMeasure
from otbench.records.store import Store
from otbench.registration import registrations
from otbench.task import Outputs

CPU = torch.device("cpu")
SETS = [*RINGS, *DENSITIES]
CLI = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module", autouse=True)
def _few_test_points() -> Iterator[None]:
    """The exact plans take most of the time, which grows as the cube of the number of points."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(toy2d, "TEST_POINTS", 500)
        yield


@functools.cache
def instance(name: str, seed: int = 0, pool: int | None = 400) -> Toy2DInstance:
    config = Toy2DConfig(set=name, pool=pool)  # type: ignore[arg-type]
    return Toy2D(config).build(seed=seed, device=CPU, dtype=torch.float64)


def centres(name: str, side: int) -> Tensor:
    angles = torch.tensor(RINGS[name][side], dtype=torch.float64).deg2rad()
    return torch.stack([angles.cos(), angles.sin()], 1)


def translation(made: Toy2DInstance, name: str) -> Tensor:
    """The exact map: the covariances of a class are the same on both sides."""
    label = made.test.source.label
    assert label is not None
    return made.test.source.x + (centres(name, 1) - centres(name, 0))[label]


@pytest.mark.parametrize("name", RINGS)
def test_classes_are_clusters_that_go_to_their_own(name: str) -> None:
    made = instance(name, 0, None)
    k = len(RINGS[name][0])
    assert made.problem.classes == k == made.facts["classes"]
    for side, measure in enumerate((made.problem.source, made.problem.target)):
        assert isinstance(measure, PoolMeasure)
        assert len(measure.pool) == 1000 * k
        assert not measure.is_standard_normal
        for number, centre in enumerate(centres(name, side)):
            x = measure.pool[measure.members(number)]
            assert len(x) == 1000
            assert (x.mean(0) - centre).norm() < 4 * STD * math.sqrt(2 / 1000)
            assert x.std(0).tolist() == pytest.approx([STD, STD], rel=0.1)


@pytest.mark.parametrize("name", RINGS)
def test_exact_map_passes_and_the_reference_cost_is_that_of_the_translation(name: str) -> None:
    made = instance(name)
    exact = float((centres(name, 1) - centres(name, 0))[0].square().sum()) / 2
    assert made.facts["exact_cost"] == pytest.approx(exact, rel=0.01)
    scores = made.score(Outputs(translation(made, name)))
    assert scores["monotone_violations"] == 0
    assert scores["cost_gap"] < 1
    assert scores["class_energy"] < 0.002
    assert scores["sliced_w2_fwd"] < 0.01
    assert not {"sliced_w2_bwd", "energy_bwd", "inverse_gap"} & set(scores)


def test_swapped_labels_and_the_identity_are_seen() -> None:
    """The two sides of the swap are one and the same set: only the classes tell that nothing has moved."""
    made = instance("horizontal-swap")
    scores = made.score(Outputs(made.test.source.x, made.test.target.x, made.test.source.x))
    assert scores["cost"] == 0
    assert scores["cost_gap"] == 100
    assert scores["inverse_gap"] == 0
    assert scores["sliced_w2_fwd"] < 0.02
    assert scores["sliced_w2_bwd"] < 0.02
    assert scores["class_energy"] > 3
    mirrored = made.score(Outputs(-made.test.source.x))  # arrives, but turned around
    assert mirrored["class_energy"] < 0.002
    assert mirrored["monotone_violations"] == 100


@pytest.mark.parametrize("name", DENSITIES)
def test_densities_have_no_classes_and_the_scale_of_the_published_ones(name: str) -> None:
    made = instance(name, 0, 4000)
    problem = made.problem
    assert problem.classes == 0
    assert problem.source.is_standard_normal
    assert isinstance(problem.target, PoolMeasure)
    y = problem.target.pool
    assert y.shape == (4000, 2)
    assert 2 < float(y.abs().max()) < 7
    assert made.test.source.label is None
    aim = made.test.target.x
    scores = made.score(Outputs(aim))  # right marginal, no plan
    spread = float(torch.cdist(aim.double(), aim.double()).mean())
    assert scores["energy_fwd"] == pytest.approx(-2 * spread / (len(aim) - 1), rel=1e-4)  # the very points
    assert scores["class_energy"] == scores["energy_fwd"]
    assert scores["sliced_w2_fwd"] == pytest.approx(0, abs=1e-6)
    assert scores["cost_gap"] > 20
    assert scores["monotone_violations"] > 20


def test_shapes_of_the_densities() -> None:
    def sample(name: str) -> Tensor:
        return DENSITIES[name](4000, torch.Generator().manual_seed(0))

    def inside(values: Tensor, low: float, high: float) -> float:
        return float(((values > low) & (values < high)).double().mean())

    assert inside(sample("8gaussians").norm(dim=1), 4 / 1.414 - 1.5, 4 / 1.414 + 1.5) > 0.99
    assert inside(sample("circles").norm(dim=1), 2, 2.5) < 0.05
    rings = sample("rings").norm(dim=1) / 0.75
    assert float((rings - rings.round()).abs().mean()) < 0.15
    assert sorted(set(rings.round().long().tolist())) == [1, 2, 3, 4]
    board = sample("checkerboard")
    cell = (board / 2).floor().sum(1).remainder(2)
    assert len(set(cell.tolist())) == 1  # one colour only
    roll = sample("swissroll") * 5
    turn = roll.norm(dim=1)  # the radius of a spiral is its angle
    off = torch.remainder(torch.atan2(roll[:, 1], roll[:, 0]) - turn + math.pi, 2 * math.pi) - math.pi
    assert float(off.abs().median()) < 0.9  # noise of 1 on a radius of 5 to 14; 1.6 without any order
    spiral = sample("2spirals")
    assert float(spiral.mean(0).norm()) < 0.1  # two arms, point-symmetric
    moons = sample("moons")
    assert inside(moons[:, 0], -3.5, 3.5) > 0.99
    wheel = sample("pinwheel")
    assert float(wheel.mean(0).norm()) < 0.15  # five arms, evenly around


def test_pools_follow_the_seed_and_test_data_do_not() -> None:
    build = instance.__wrapped__
    first, second, again = build("crossed-ring", 0), build("crossed-ring", 1), build("crossed-ring", 0)
    pools = [made.problem.source.pool for made in (first, second, again)]
    assert torch.equal(pools[0], pools[2])  # type: ignore[arg-type]
    assert not torch.equal(pools[0], pools[1])  # type: ignore[arg-type]
    assert torch.equal(first.test.source.x, second.test.source.x)
    assert first.facts["exact_cost"] == second.facts["exact_cost"]
    other = instance("horizontal-swap").test.source
    assert not torch.equal(first.test.source.x, other.x)


def test_picture_has_the_lines_of_the_test_points() -> None:
    made = instance("four-mode-ring")
    (picture,) = made.pictures(Outputs(made.test.source.x + 1))
    assert picture.kind == "arrows"
    assert set(picture.arrays) == {"source", "mapped", "target", "label"}
    assert len({len(picture.arrays[name]) for name in ("source", "mapped", "label")}) == 1
    assert picture.arrays["label"].dtype == "int64"
    assert picture.arrays["mapped"].dtype == "float32"
    assert picture.names == ("class 0", "class 1", "class 2", "class 3")
    made = instance("moons", 0, 4000)
    (plain,) = made.pictures(Outputs(made.test.source.x))
    assert not plain.arrays["label"].any()


def test_presets_and_descriptions() -> None:
    (note,) = registrations(Toy2D)
    assert set(note.presets) == {"smoke", "quick", "full", "paper"}
    assert note.presets["quick"]["set"] == list(RINGS)
    assert note.presets["full"]["set"] == SETS
    assert Toy2D(Toy2DConfig(set="four-mode-ring")).describe() == "four-mode-ring, 4 classes, pool 4 000"
    assert Toy2D(Toy2DConfig(set="rings")).describe() == "rings, no classes, pool 50 000"


def test_exact_discrete_transport_always_stands_in_the_table() -> None:
    baselines = {entry.name for entry in Registry().entries("baseline")}
    assert Toy2D(Toy2DConfig(set="four-mode-ring")).controls() == ("emd_class", "classwise_linear")
    assert Toy2D(Toy2DConfig(set="rings")).controls() == ("emd",)
    assert {"emd", "emd_class", "classwise_linear"} <= baselines


@pytest.mark.parametrize("values", [{"set": "spirals"}, {"pool": 3}, {"pool": "many"}])
def test_bad_parameters_are_named(values: dict[str, str | int]) -> None:
    with pytest.raises(UsageError, match=next(iter(values))):
        build_config(Toy2DConfig, values, owner="task toy2d")


def test_unknown_set_ends_with_exit_code_2(cli: CLI) -> None:
    code, _, error = cli("--solvers", "fixedpoint", "--task", "toy2d[set=spirals]")
    assert code == 2
    assert "set='spirals'" in error
    assert "Traceback" not in error


@pytest.mark.slow
@pytest.mark.parametrize("solver", ["fixedpoint", "ncf"])
@pytest.mark.parametrize("name", RINGS)
def test_class_conditional_solvers_find_the_exact_plan(name: str, solver: str, cli: CLI, tmp_path: Path) -> None:
    """As shipped, preset `quick`: the exact discrete cost within 5 %, and at most 1 % of the pairs turned."""
    words = ("--solvers", solver, "--task", f"toy2d[set={name}]", "--threads", "1", "--out", tmp_path)
    code, _, error = cli(*words)
    assert code == 0, error
    (record,) = [r for r in Store(tmp_path).all() if r.spec.solver == solver]
    assert record.spec.preset == "quick"
    assert record.reads_label
    assert record.metrics["cost_gap"] <= 5
    assert record.metrics["monotone_violations"] <= 1
    assert record.metrics["sliced_w2_fwd"] < 0.03  # a cheap map that does not arrive would not do
    assert any(picture.kind == "arrows" for picture in record.pictures)


def test_another_cost_has_its_own_plan_and_solvers_of_the_quadratic_one_decline() -> None:
    def made(name: str, p: float) -> Toy2DInstance:
        config = Toy2DConfig(set=name, pool=200, cost="power", p=p)  # type: ignore[arg-type]
        task = Toy2D(config)
        task.check()
        assert task.describe().endswith(f"pool 200, cost power {p:g}")
        return task.build(seed=0, device=CPU, dtype=torch.float64)

    swap = made("horizontal-swap", 3.0)
    scores = swap.score(Outputs(translation(swap, "horizontal-swap")))
    assert swap.facts["exact_cost"] == pytest.approx(2**3 / 3, rel=0.02)
    assert scores["cost"] == pytest.approx(2**3 / 3, rel=0.02)
    assert scores["cost_gap"] < 2
    assert "monotone_violations" not in scores
    # in one dimension at a time sorting is optimal for every convex cost, so the sets differ in two
    plane = made("8gaussians", 1.5)
    x, y = plane.test.source.x.numpy(), plane.test.target.x.numpy()
    cost = (abs(x[:, None] - y) ** 1.5).sum(2) / 1.5
    rows, columns = linear_sum_assignment(cost)
    assert plane.facts["exact_cost"] == pytest.approx(cost[rows, columns].mean(), rel=1e-6)
    registry = Registry()
    answers = {
        name: registry.load(registry.find(name)).cls.supports(plane.problem).ok  # type: ignore[attr-defined]
        for name in ("ncf", "emd", "identity", "fixedpoint", "mmr", "linear", "sinkhorn")
    }
    assert [name for name, ok in answers.items() if ok] == ["ncf", "emd", "identity"]


def test_an_exponent_belongs_to_the_power_cost() -> None:
    with pytest.raises(UsageError, match="p=3 belongs to cost=power"):
        Toy2D(Toy2DConfig(p=3.0)).check()
    with pytest.raises(UsageError, match="p"):
        build_config(Toy2DConfig, {"cost": "power", "p": 1.0}, owner="task toy2d")
