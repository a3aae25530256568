from __future__ import annotations

import gc
import os
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import Tensor

from otbench.config import build_config
from otbench.datasets.gaussian import RELEASED, Gaussian, GaussianConfig, GaussianInstance
from otbench.errors import DataError, UsageError
from otbench.metrics.gaussian import exact_maps, generate_pair
from otbench.problem import Cost, FreshMeasure, HarmonicCost, PoolMeasure, QuadraticCost
from otbench.task import Outputs, Published
from otbench.transport import Transport

from ..helpers.applied import way_of

CPU = torch.device("cpu")
DATA_DIR = os.environ.get("OTBENCH_DATA_DIR")
needs_data = pytest.mark.skipif(
    DATA_DIR is None or not Path(DATA_DIR, "gaussian_pairs").is_dir(),
    reason="set OTBENCH_DATA_DIR to a folder with gaussian_pairs/{D}D_Test_Distributions.npz",
)

# dim: (tr Sigma0, tr Sigma1, smallest and largest eigenvalue of the map, UVP of identity fwd and bwd, W2^2)
TABLE = {
    2: (1.9785, 2.3320, 0.849, 1.331, 5.15, 6.07, 0.1201),
    4: (4.8840, 4.2830, 0.773, 1.230, 4.65, 4.08, 0.1990),
    8: (10.1494, 11.0054, 0.627, 1.354, 5.08, 5.51, 0.5590),
    16: (17.4046, 15.3671, 0.587, 1.451, 8.48, 7.49, 1.3026),
    32: (35.8251, 30.5048, 0.575, 1.533, 9.26, 7.88, 2.8241),
    64: (67.1190, 72.2278, 0.592, 1.725, 7.94, 8.54, 5.7349),
}


def task(data_dir: Path | None = None, **values: object) -> Gaussian:
    values = {"pool": 500} | values
    return Gaussian(build_config(GaussianConfig, values, owner="task gaussian"), data_dir=data_dir)


def build(given: Gaussian, seed: int = 0, dtype: torch.dtype = torch.float64) -> GaussianInstance:
    given.check()
    return given.build(seed=seed, device=CPU, dtype=dtype)


def identity(instance: GaussianInstance) -> dict[str, float]:
    x, y = instance.test.source.x, instance.test.target.x
    return instance.score(Outputs(x, y, x))


def sampling_error(gamma: np.ndarray, cov: np.ndarray) -> float:
    """Relative standard error of the mean of |(Gamma - I) x|^2 over the test points, x ~ N(0, cov)."""
    moved = (gamma - np.eye(len(gamma))) @ cov @ (gamma - np.eye(len(gamma)))
    return float(np.sqrt(2 * np.trace(moved @ moved) / 2**14) / np.trace(moved))


@needs_data
@pytest.mark.parametrize("dim", TABLE)
def test_released_pairs_agree_with_their_table(dim: int) -> None:
    given = task(Path(str(DATA_DIR)), dim=dim, pair="released")
    instance = build(given)
    trace0, trace1, low, high, forward, backward, w2 = TABLE[dim]
    facts = instance.facts
    assert facts["trace0"] == pytest.approx(trace0, abs=6e-5)
    assert facts["trace1"] == pytest.approx(trace1, abs=6e-5)
    # the table truncates some eigenvalues and rounds others
    assert facts["map_spectrum_min"] == pytest.approx(low, abs=1e-3)
    assert facts["map_spectrum_max"] == pytest.approx(high, abs=1e-3)
    assert facts["w2_squared"] == pytest.approx(w2, abs=6e-5)
    pair = given._pair
    exact = exact_maps(pair)
    scores = identity(instance)
    for name, value, gamma, cov in (
        ("uvp_fwd", forward, exact.forward[0], pair.cov0),
        ("uvp_bwd", backward, exact.backward[0], pair.cov1),
    ):
        assert scores[name] == pytest.approx(value, rel=4 * sampling_error(gamma, cov), abs=0.006)


@needs_data
def test_published_rows_stand_beside_the_released_pairs_only() -> None:
    released = task(Path(str(DATA_DIR)), dim=8, pair="released", pool="100000")
    assert released.published() == Published("gaussian", {"dim": 8})
    assert released.describe() == "d = 8, released pair, pool 100 000"
    assert task(dim=8, pair="released", pool=500).published() is None
    assert task(dim=8, pool="100000").published() is None


def test_describe() -> None:
    assert task(dim=8, pool=100_000).describe() == "d = 8, generated pair 0, pool 100 000"
    assert task(pair=3, pool="fresh").describe() == "d = 2, generated pair 3, fresh samples"


@pytest.mark.parametrize("dim", [1, 2, 8, 40])
def test_identity_on_generated_pairs_has_its_closed_form(dim: int) -> None:
    instance = build(task(dim=dim, pair=1))
    pair = generate_pair(dim, 1)
    exact = exact_maps(pair)
    scores = identity(instance)
    trace0, trace1 = np.trace(pair.cov0), np.trace(pair.cov1)
    tolerance = 4 * sampling_error(exact.forward[0], pair.cov0)
    assert scores["uvp_fwd"] == pytest.approx(100 * exact.w2_squared / trace1, rel=tolerance)
    assert scores["uvp_bwd"] == pytest.approx(100 * exact.w2_squared / trace0, rel=tolerance)
    assert scores["cost"] == 0
    assert scores["inverse_gap"] == 0
    assert scores["cost_gap"] == pytest.approx(-100, rel=tolerance)
    assert "cosine_fwd" not in scores
    assert "cosine_bwd" not in scores


class Exact(Transport):
    """x -> A x + b, its geodesic and its velocity: for the quadratic cost, or for that of `omega`."""

    matrix: Tensor
    shift: Tensor

    def __init__(self, matrix: Tensor, shift: Tensor, omega: float = 0.0) -> None:
        super().__init__()
        self.register_buffer("matrix", matrix)
        self.register_buffer("shift", shift)
        self.cost: Cost = HarmonicCost(omega) if omega else QuadraticCost()

    def forward(self, x: Tensor, label: Tensor | None = None, generator: torch.Generator | None = None) -> Tensor:
        return x @ self.matrix.T + self.shift

    def interpolate(self, x: Tensor, t: float) -> Tensor:
        return self.cost.path(x, self.forward(x), t)

    def velocity(self, x: Tensor, t: float) -> Tensor:
        """X_t is affine in its start, which is solved for."""
        zero = torch.zeros(1, x.shape[1], dtype=x.dtype)
        at_zero = self.interpolate(zero, t)
        linear = (self.interpolate(torch.eye(x.shape[1], dtype=x.dtype), t) - at_zero).T
        start = torch.linalg.solve(linear, (x - at_zero).T).T
        return self.cost.path_velocity(start, self.forward(start), t)


@pytest.mark.parametrize("omega", [1.0, 2.0])
def test_with_a_potential_the_map_is_the_same_and_bent_paths_are_exact(omega: float) -> None:
    given = task(dim=3, omega=omega)
    instance, straight = build(given), build(task(dim=3))
    assert f"cost harmonic {omega:g}" in given.describe()
    assert torch.equal(instance.test.source.x, straight.test.source.x)
    a, b = (torch.from_numpy(part) for part in exact_maps(given._pair).forward)
    x = instance.test.source.x
    maps = Exact(a, b, omega)
    scores = instance.score(Outputs(maps(x), way=way_of(maps, instance)))
    for name in ("uvp_fwd", "cost_gap", "uvp_half", "velocity_error"):
        assert abs(scores[name]) < 1e-6
    assert scores["action_ratio"] == pytest.approx(1)
    assert scores["continuity"] < 0.5
    assert scores["cost"] == pytest.approx(instance.facts["exact_cost"], rel=0.05)
    lines = instance.score(Outputs(maps(x), way=way_of(Exact(a, b), instance)))
    assert lines["uvp_half"] > 0.1
    assert lines["action_ratio"] > 1.001
    assert straight.score(Outputs(maps(x)))["cost"] < scores["cost"]


class Half(Transport):
    """x -> x / 2, in float64."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("factor", torch.tensor(0.5, dtype=torch.float64))

    def forward(self, x: Tensor, label: Tensor | None = None, generator: torch.Generator | None = None) -> Tensor:
        return x * self.factor


def test_of_maps_without_interpolation_the_way_is_straight_and_has_no_velocity() -> None:
    instance = build(task(dim=2))
    maps = Half()
    scores = instance.score(Outputs(maps(instance.test.source.x), way=way_of(maps, instance)))
    assert 0 < scores["uvp_quarter"] < scores["uvp_half"] < scores["uvp_three_quarters"]
    assert {"action_ratio"} == scores.keys() & {"action_ratio", "velocity_error", "continuity"}


def own_file(path: Path, **changed: object) -> Path:
    pair = generate_pair(3, 0)
    arrays = {"Sigma0": 4 * pair.cov0, "Sigma1": pair.cov1, "mean0": np.ones(3), "mean1": np.array([1.0, -2.0, 5.0])}
    np.savez(path, **{name: value for name, value in (arrays | changed).items() if value is not None})
    return path


def test_exact_maps_score_zero_also_with_means(tmp_path: Path) -> None:
    given = task(file=str(own_file(tmp_path / "pair.npz")))
    assert given.describe() == "d = 3, pair of pair.npz, pool 500"
    assert given.published() is None
    instance = build(given)
    exact = exact_maps(given._pair)
    x, y = instance.test.source.x, instance.test.target.x
    (a, b), (c, e) = ((torch.from_numpy(m), torch.from_numpy(v)) for m, v in (exact.forward, exact.backward))
    mapped = x @ a.T + b
    way = way_of(Exact(a, b), instance)
    scores = instance.score(Outputs(mapped, y @ c.T + e, mapped @ c.T + e, forward_mean=mapped, way=way))
    for name in ("uvp_fwd", "uvp_mean", "uvp_bwd", "inverse_gap", "cost_gap", "uvp_quarter", "uvp_half"):
        assert abs(scores[name]) < 1e-6
    assert scores["action_ratio"] == pytest.approx(1)
    assert scores["velocity_error"] < 1e-6
    assert scores["continuity"] < 0.1  # of the quadrature
    assert scores["cosine_fwd"] == pytest.approx(1)
    assert scores["cosine_bwd"] == pytest.approx(1)
    assert scores["cost"] == pytest.approx(instance.facts["exact_cost"], rel=0.02)
    assert scores.keys() == {metric.name for metric in Gaussian.metrics}
    assert x.mean(0) == pytest.approx(torch.ones(3), abs=0.1)
    pool = instance.problem.target.pool
    assert pool is not None
    assert pool.mean(0) == pytest.approx(torch.tensor([1.0, -2.0, 5.0]), abs=0.3)


def test_constant_map_scores_hundred() -> None:
    instance = build(task(dim=8))
    x, y = instance.test.source.x, instance.test.target.x
    scores = instance.score(Outputs(torch.zeros_like(x), torch.zeros_like(y)))
    assert scores["uvp_fwd"] == pytest.approx(100, abs=3)
    assert scores["uvp_bwd"] == pytest.approx(100, abs=3)


def test_one_way_maps_have_no_backward_scores() -> None:
    instance = build(task())
    scores = instance.score(Outputs(instance.test.source.x + 1))
    assert scores.keys() == {"uvp_fwd", "cosine_fwd", "cost", "cost_gap"}


def test_equal_measures_leave_out_what_is_undefined(tmp_path: Path) -> None:
    cov = generate_pair(3, 0).cov0
    path = own_file(tmp_path / "same.npz", Sigma0=cov, Sigma1=cov, mean0=None, mean1=None)
    instance = build(task(file=str(path)))
    scores = identity(instance)
    assert scores.keys() == {"uvp_fwd", "uvp_bwd", "cost", "inverse_gap"}
    assert scores["uvp_fwd"] < 1e-6


def test_rotation_changes_no_score(tmp_path: Path) -> None:
    q, _ = np.linalg.qr(np.random.default_rng(0).standard_normal((3, 3)))
    pair = generate_pair(3, 0)
    plain = own_file(tmp_path / "a.npz", Sigma0=pair.cov0, mean0=None, mean1=None)
    turned = own_file(
        tmp_path / "b.npz", Sigma0=q @ pair.cov0 @ q.T, Sigma1=q @ pair.cov1 @ q.T, mean0=None, mean1=None
    )
    first, second = (build(task(file=str(path))) for path in (plain, turned))
    assert first.facts["w2_squared"] == pytest.approx(second.facts["w2_squared"], rel=1e-9)
    assert identity(first)["uvp_fwd"] == pytest.approx(identity(second)["uvp_fwd"], rel=0.08)  # other test points


def test_pools_depend_on_the_seed_and_test_data_do_not() -> None:
    given = task(dim=4)
    first, again, other = build(given, 0), build(given, 0), build(given, 1)
    for side in ("source", "target"):
        pools = [getattr(instance.problem, side).pool for instance in (first, again, other)]
        tests = [getattr(instance.test, side).x for instance in (first, again, other)]
        assert pools[0].shape == (500, 4)
        assert tests[0].shape == (2**14, 4)
        assert torch.equal(pools[0], pools[1])
        assert not torch.equal(pools[0], pools[2])
        assert torch.equal(tests[0], tests[1])
        assert torch.equal(tests[0], tests[2])
        assert not torch.equal(pools[0], tests[0][:500])
    correlation = np.corrcoef(first.test.source.x[:, 0], first.test.target.x[:, 0])[0, 1]
    assert abs(correlation) < 0.05  # source and target are drawn independently


def test_all_dtypes_see_the_same_points() -> None:
    single, double = (build(task(dim=4), dtype=dtype) for dtype in (torch.float32, torch.float64))
    assert single.problem.dtype == torch.float32
    assert torch.equal(single.problem.source.pool, double.problem.source.pool.float())
    assert torch.equal(single.test.target.x, double.test.target.x.float())


def test_pools_have_the_moments_of_the_pair() -> None:
    instance, pair = build(task(dim=3, pool=50_000)), generate_pair(3, 0)
    for side, cov in ((instance.problem.source, pair.cov0), (instance.problem.target, pair.cov1)):
        assert isinstance(side, PoolMeasure)
        np.testing.assert_allclose(np.cov(side.pool.numpy().T), cov, atol=0.06)


def test_fresh_measures_never_repeat(tmp_path: Path) -> None:
    path = own_file(tmp_path / "pair.npz", Sigma0=np.eye(3), mean0=None)
    problem = build(task(file=str(path), pool="fresh"), dtype=torch.float32).problem
    assert isinstance(problem.source, FreshMeasure)
    assert problem.source.pool is None
    assert problem.source.is_standard_normal
    assert not problem.target.is_standard_normal
    generator = torch.Generator().manual_seed(0)
    x = problem.target.sample(20_000, generator=generator).x
    assert x.dtype == torch.float32
    assert not torch.equal(x, problem.target.sample(20_000, generator=generator).x)
    np.testing.assert_allclose(np.cov(x.numpy().T), generate_pair(3, 0).cov1, atol=0.08)
    np.testing.assert_allclose(x.mean(0), [1, -2, 5], atol=0.08)


def reachable(root: object) -> list[object]:
    """Everything that can be reached from `root`, stopping at modules, types and the globals of functions."""
    seen: dict[int, object] = {}
    stack = [root]
    while stack:
        item = stack.pop()
        if id(item) in seen or isinstance(item, ModuleType | type):
            continue
        if isinstance(item, dict) and "__builtins__" in item:
            continue
        seen[id(item)] = item
        stack += gc.get_referents(item)
    return list(seen.values())


@pytest.mark.parametrize("pool", ["500", "fresh"])
def test_the_truth_cannot_be_reached_from_the_problem(pool: str) -> None:
    dim = 7
    instance = build(task(dim=dim, pool=pool))
    exact = exact_maps(generate_pair(dim, 0))
    found = reachable(instance.problem)
    assert any(isinstance(item, torch.Tensor) for item in found)  # the walk does see tensors
    secret = [instance, instance.test, instance.test.source.x, instance.test.target.x, instance.facts]
    secret += [instance._known.forward, instance._known.backward]
    assert not {id(item) for item in found} & {id(item) for item in secret}
    values = [torch.from_numpy(exact.forward[0]), torch.from_numpy(exact.backward[0]), *secret[2:4], *secret[5:]]
    for item in found:
        assert not isinstance(item, GaussianInstance | Gaussian | GaussianConfig)
        if isinstance(item, float):
            assert item not in (exact.w2_squared, exact.w2_squared / 2)
        if isinstance(item, np.ndarray):
            item = torch.from_numpy(item)
        if isinstance(item, torch.Tensor):
            assert not any(item.shape == v.shape and torch.allclose(item.double(), v) for v in values)
            assert len(item) != 2**14


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"Sigma0": np.array([[1.0, 0.5, 0], [0, 1, 0], [0, 0, 1]])}, "Sigma0 is not symmetric"),
        ({"Sigma1": np.diag([1.0, 2.0, -1.0])}, "Sigma1 is not positive definite"),
        ({"Sigma1": np.diag([1.0, 2.0, 0.0])}, "Sigma1 is not positive definite"),
        ({"Sigma0": np.zeros((3, 3))}, "Sigma0 is not positive definite"),
        ({"Sigma0": np.full((3, 3), np.nan)}, "Sigma0 holds NaN"),
        ({"Sigma0": np.diag([1.0, np.inf, 1.0])}, "Sigma0 holds NaN or infinite"),
        ({"Sigma0": np.eye(4)}, "mismatched dimensions: Sigma0 is 4 x 4, Sigma1 is 3 x 3"),
        ({"Sigma0": np.ones((3, 2))}, "square"),
        ({"Sigma0": np.ones(3)}, "square"),
        ({"Sigma0": np.zeros((0, 0))}, "square"),
        ({"mean1": np.zeros(2)}, "mismatched dimensions: mean1"),
        ({"mean0": np.array([0.0, np.nan, 0.0])}, "mean0 holds NaN"),
        ({"Sigma1": None}, "lacks Sigma1"),
        ({"Sigma1": np.array([["a"]])}, "not numeric"),
        ({"Sigma1": np.array([[object()]])}, "Python objects"),
        ({"Sigma0": np.zeros((3000, 3000))}, "unpacks to"),
        ({"Sigma0": np.eye(1030), "Sigma1": np.eye(1030), "mean0": None, "mean1": None}, "above 1024"),
    ],
)
def test_bad_pairs_are_one_message(tmp_path: Path, changed: dict[str, object], message: str) -> None:
    path = own_file(tmp_path / "pair.npz", **changed)
    with pytest.raises(DataError) as error:
        task(file=str(path)).check()
    assert message in str(error.value)
    assert str(path) in str(error.value)


def test_slight_asymmetry_is_symmetrised(tmp_path: Path) -> None:
    cov = np.eye(3)
    cov[0, 1] = 1e-12
    pair = task(file=str(own_file(tmp_path / "pair.npz", Sigma0=cov)))._pair
    assert (pair.cov0 == pair.cov0.T).all()


def test_dimension_follows_the_file_and_must_not_contradict_it(tmp_path: Path) -> None:
    path = str(own_file(tmp_path / "pair.npz"))
    task(file=path, dim=3).check()
    with pytest.raises(DataError, match=r"mismatched dimensions: the file holds a pair with d = 3, but dim=2"):
        task(file=path, dim=2).check()
    with pytest.raises(DataError, match="no such file"):
        task(file=path + "x").check()


def test_released_pair_of_another_dimension() -> None:
    with pytest.raises(UsageError, match="released pairs exist for dim = 2, 4, 8, 16, 32, 64"):
        task(dim=3, pair="released").check()
    assert list(RELEASED) == list(TABLE)


def test_damaged_released_pair(tmp_path: Path) -> None:
    np.savez(tmp_path / "2D_Test_Distributions.npz", Sigma0=np.eye(2), Sigma1=np.eye(2))
    with pytest.raises(DataError, match="wrong checksum"):
        task(tmp_path, dim=2, pair="released").check()


@pytest.mark.parametrize(
    "values",
    [
        {"dim": 0},
        {"dim": 1025},
        {"dim": "two"},
        {"pair": "-1"},
        {"pair": "publishd"},
        {"pair": True},
        {"pool": "1"},
        {"pool": "many"},
        {"pool": "1e5"},
        {"pool": 1.5},
    ],
)
def test_values_out_of_range(values: dict[str, object]) -> None:
    with pytest.raises(UsageError, match=next(iter(values))) as error:
        task(**values)
    assert "value error" not in str(error.value)


def test_equal_configurations_are_written_alike() -> None:
    assert task(pair=7, pool=20000).config == task(pair="07", pool="020000").config
