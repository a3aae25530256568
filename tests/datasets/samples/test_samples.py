"""The task of the user's own samples: who sees which rows, and what the scores say."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from otbench.baselines.constant import Constant
from otbench.baselines.copies import Copies
from otbench.baselines.identity import Identity
from otbench.baselines.linear import Linear, LinearConfig
from otbench.datasets.samples import Samples, SamplesConfig, SamplesInstance
from otbench.errors import UsageError
from otbench.harness.plan import Request, input_digests, make_plan
from otbench.harness.units import in_own_units
from otbench.metrics.gaussian import exact_maps, generate_pair
from otbench.metrics.two_sample import median_bandwidths
from otbench.metrics.uvp import cosine, uvp
from otbench.plugins.registry import Registry
from otbench.records.store import Store
from otbench.solver import Config, Context, Solver
from otbench.task import Outputs
from otbench.transport import Transport, in_user_units

Cli = Callable[..., tuple[int, str, str]]
Array = NDArray[np.float64]
CPU = torch.device("cpu")


def random(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=shape)


def task(folder: Path, source: Array, target: Array, **values: Any) -> Samples:
    for name, array in (("source", source), ("target", target)):
        np.save(folder / f"{name}.npy", array)
    names = {name: str(folder / f"{name}.npy") for name in ("source", "target")}
    made = Samples(SamplesConfig(**names | values))
    made.check()
    return made


def build(given: Samples, seed: int = 0) -> SamplesInstance:
    return given.build(seed=seed, device=CPU, dtype=torch.float32)


def trained(cls: type[Solver[Any]], instance: SamplesInstance) -> Transport:
    """The maps of a closed-form row, as the harness keeps them."""
    config = LinearConfig() if cls is Linear else Config()
    solver = cls(instance.problem, config, Context(CPU, torch.float32, torch.Generator().manual_seed(0), lambda: 0.0))
    solver.step()
    return in_user_units(solver.transport(), instance.problem)


def outputs(transport: Transport, instance: SamplesInstance) -> Outputs:
    generator = torch.Generator().manual_seed(1)
    forward = transport(instance.test.source.x, None, generator)
    backward = transport.backward(instance.test.target.x, None, generator)
    return Outputs(forward, backward, transport.backward(forward, None, generator))


def scores(cls: type[Solver[Any]], instance: SamplesInstance) -> dict[str, float]:
    return instance.score(outputs(trained(cls, instance), instance))


def apart(one: dict[str, float], other: dict[str, float]) -> bool:
    """Whether the intervals of the forward MMD say that `one` is better than `other`."""
    return one["mmd_high_fwd"] < other["mmd_low_fwd"]


def paired(one: torch.Tensor, other: torch.Tensor, y: torch.Tensor) -> tuple[float, float]:
    """The 95 % interval of MMD^2(one, y) - MMD^2(other, y) for two images of the same points: noise they share is none.

    From the jackknife of both samples, which sees twice the degenerate part of the variance on average.
    """
    one, other, y = (side.double() for side in (one, other, y))
    widths = median_bandwidths(y)

    def kernel(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        square = torch.cdist(left, right).square()
        return torch.stack([(-square / width).exp() for width in widths]).mean(0)

    def means(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        within, across = kernel(x, x).fill_diagonal_(0), kernel(x, y)
        return within.sum(1) / (len(x) - 1) - across.mean(1), -across.mean(0)

    (x_one, y_one), (x_other, y_other) = means(one), means(other)
    by_x, by_y = x_one - x_other, y_one - y_other
    half = 1.96 * 2 * float((by_x.var() / len(by_x) + by_y.var() / len(by_y)).sqrt())
    value = float(by_x.mean() + by_y.mean())
    return value - half, value + half


def tied(one: torch.Tensor, other: torch.Tensor, y: torch.Tensor) -> bool:
    low, high = paired(one, other, y)
    return low <= 0 <= high


# ------------------------------------------------------------------------------------------------------ who sees what


def rows(points: torch.Tensor | None) -> set[tuple[float, ...]]:
    assert points is not None
    return {tuple(row) for row in points.double().round(decimals=4).tolist()}


def test_test_rows_are_fixed_and_the_seed_draws_the_others(tmp_path: Path) -> None:
    given = task(tmp_path, random(300, 2), random(200, 2, seed=1))
    one, two = build(given), build(given, seed=1)
    for name, count in (("source", 300), ("target", 200)):
        sides = [getattr(in_own_units(instance.problem), name) for instance in (one, two)]
        tests = [rows(getattr(instance.test, name).x) for instance in (one, two)]
        assert tests[0] == tests[1]
        assert rows(sides[0].pool) != rows(sides[1].pool)
        for side, held_out in zip(sides, tests, strict=True):
            parts = [rows(side.pool), rows(side.validation), held_out]
            assert [len(part) for part in parts] == [count * 0.72, count * 0.08, count * 0.2]
            assert len(set.union(*parts)) == count


def test_test_rows_are_neither_first_nor_last_and_follow_the_file(tmp_path: Path) -> None:
    line = np.arange(1000.0)[:, None]
    one = build(task(tmp_path, line, line)).test
    assert torch.equal(one.source.x, one.target.x)  # one content: no test row of one side trains the other
    assert one.source.x.min() < 50
    assert one.source.x.max() > 950
    other = build(task(tmp_path, line + 1, line)).test
    assert not torch.equal(other.source.x - 1, other.target.x)


def test_no_validation_rows(tmp_path: Path) -> None:
    instance = build(task(tmp_path, random(100, 2), random(100, 2), validation=0))
    assert instance.problem.source.validation is None
    assert instance.facts["source_training_rows"] == 80


def test_pool_seed_fixes_the_training_rows(tmp_path: Path) -> None:
    given = task(tmp_path, random(100, 2), random(100, 2), pool_seed=7)
    pools = [build(given, seed).problem.source.pool for seed in (0, 1)]
    assert torch.equal(*pools)  # type: ignore[arg-type]
    assert given.describe() == "source.npy to target.npy, d = 2, 72 training rows each, pool seed 7"


def test_files_of_one_name_both_count_for_the_identity_of_a_run(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        np.save(tmp_path / folder / "x.npy", random(100, 2))
    given = Samples(SamplesConfig(source=str(tmp_path / "a" / "x.npy"), target=str(tmp_path / "b" / "x.npy")))
    before = input_digests(given)
    assert set(before) == {"input x.npy", "input x.npy (2)"}
    np.save(tmp_path / "b" / "x.npy", random(100, 2, seed=1))
    after = input_digests(given)
    assert before["input x.npy"] == after["input x.npy"]
    assert before["input x.npy (2)"] != after["input x.npy (2)"]


def test_columns_are_a_list_and_no_grid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", random(100, 3))
    plan = make_plan(Request("linear", "samples[source=x.npy,target=x.npy,columns=0|2]", device="cpu"), Registry())
    assert {run.spec.solver for run in plan.runs} == {"identity", "constant", "linear", "copies"}
    assert {run.spec.task_config["columns"] for run in plan.runs} == {"0|2"}
    assert all("columns=0|2" in run.command for run in plan.runs)


# --------------------------------------------------------------------------------------------------------- the scores


def test_uvp_of_the_truth_is_that_of_the_gaussian_task(tmp_path: Path) -> None:
    pair = generate_pair(3, 0)
    exact = exact_maps(pair)
    x = random(4000, 3) @ np.linalg.cholesky(pair.cov0).T + pair.mean0
    y = random(4000, 3, seed=1) @ np.linalg.cholesky(pair.cov1).T + pair.mean1
    matrix, offset = exact.forward
    np.save(tmp_path / "truth.npy", x @ matrix.T + offset)
    instance = build(task(tmp_path, x, y, truth=str(tmp_path / "truth.npy")))
    assert instance.score(Outputs(torch.zeros(800, 3) + torch.from_numpy(y.mean(0)).float()))["uvp_fwd"] == (
        pytest.approx(100, rel=0.1)
    )
    held_out = instance.test.source.x
    wanted = held_out.double() @ torch.from_numpy(matrix).T + torch.from_numpy(offset)
    for cls in (Identity, Linear):
        mapped = outputs(trained(cls, instance), instance)
        found = instance.score(mapped)
        gaussian = uvp(mapped.forward, wanted, float(np.trace(pair.cov1)))
        assert found["uvp_fwd"] == pytest.approx(gaussian, rel=0.05)  # the target's variance is that of its rows
        if cls is Linear:
            assert found["cosine_fwd"] == pytest.approx(cosine(held_out, mapped.forward, wanted), rel=1e-6)
            assert found["uvp_fwd"] < 0.5


def test_on_gaussians_the_identity_and_the_constant_are_apart_and_linear_maps_tied(tmp_path: Path) -> None:
    pair = generate_pair(2, 1)
    matrix, offset = (torch.from_numpy(part) for part in exact_maps(pair).forward)
    sides = [
        random(5000, 2, seed=seed) @ np.linalg.cholesky(cov).T + mean
        for seed, (mean, cov) in enumerate(((pair.mean0, pair.cov0), (pair.mean1, pair.cov1)))
    ]
    instance = build(task(tmp_path, *sides))
    x, y = instance.test.source.x, instance.test.target.x
    exact = x.double() @ matrix.T + offset
    images = {cls: outputs(trained(cls, instance), instance).forward for cls in (Identity, Constant, Linear)}
    assert tied(images[Linear], exact, y)  # between Gaussians the linear map is the exact one
    for cls in (Identity, Constant):
        assert paired(images[cls], exact, y)[0] > 0, cls
        assert paired(images[cls], images[Linear], y)[0] > 0, cls


def test_without_truth_distances_tell_bad_maps_from_good_ones(tmp_path: Path) -> None:
    def exact(x: Array) -> Array:
        return np.exp(x) + 2 * x  # monotone by coordinate, hence optimal

    instance = build(task(tmp_path, random(3000, 2), exact(random(3000, 2, seed=1))))
    best = instance.score(Outputs(torch.from_numpy(exact(instance.test.source.x.double().numpy())).float()))
    copies = scores(Copies, instance)
    for control in (Identity, Constant, Linear):
        assert apart(best, scores(control, instance)), control
    assert not apart(best, copies)
    assert not apart(copies, best)
    x, y = instance.test.source.x, instance.test.target.x
    images = torch.from_numpy(exact(x.double().numpy()))
    assert paired(trained(Linear, instance)(x), images, y)[0] > 0
    assert tied(images * 1.005, images, y)  # a map that is nearly as good
    assert best["novelty"] == pytest.approx(1, abs=0.2)
    assert copies["novelty"] == 0
    assert best["cost_gap"] < 10 < copies["cost_gap"]
    assert "uvp_fwd" not in best
    assert set(best) | set(copies) <= {metric.name for metric in Samples.metrics}


def test_where_both_sides_are_one_distribution_the_identity_is_tied_for_best(tmp_path: Path) -> None:
    instance = build(task(tmp_path, random(4000, 3), random(4000, 3, seed=1)))
    identity, linear, copies = (scores(cls, instance) for cls in (Identity, Linear, Copies))
    assert identity["mmd_low_fwd"] < 0 < identity["mmd_high_fwd"]
    assert identity["p_value_fwd"] > 0.05
    assert identity["inverse_gap"] == identity["cost"] == 0
    assert not apart(linear, identity)
    assert not apart(copies, identity)


# ---------------------------------------------------------------------------------------------------------- the units


def bures(points: Array, images: Array) -> Array:
    """The matrix of the optimal map between Gaussians with the covariances of two samples."""
    from otbench.metrics.gaussian import GaussianPair

    moments = [(part.mean(0), np.cov(part.T)) for part in (points, images)]
    (mean0, cov0), (mean1, cov1) = moments
    return np.asarray(exact_maps(GaussianPair(mean0, cov0, mean1, cov1)).forward[0])


def test_a_common_scale_keeps_the_optimal_map_and_one_per_column_does_not(tmp_path: Path) -> None:
    mix = np.array([[5.0, 3.0], [0.0, 0.1]])
    x, y = 300 + random(5000, 2) @ mix, random(5000, 2, seed=1) @ np.array([[1.0, 0.0], [4.0, 2.0]]) - 20
    with_units = build(task(tmp_path, x, y))
    points = with_units.test.source.x  # in the user's units
    pool = with_units.problem.source.pool
    assert pool is not None
    assert pool.mean(0).abs().max() < 1e-4
    spread = [side.pool.var(0).sum() for side in (with_units.problem.source, with_units.problem.target)]  # type: ignore[union-attr]
    assert float(sum(spread)) / 4 == pytest.approx(1, rel=1e-3)
    without = copy.copy(with_units)
    without.problem = in_own_units(with_units.problem)
    one, other = (trained(Linear, instance)(points) for instance in (with_units, without))
    assert torch.allclose(one, other, atol=0.02 * float(other.std()))
    by_column = [(side - side.mean(0)) / side.std(0) for side in (x, y)]
    undone = np.diag(y.std(0)) @ bures(*by_column) @ np.diag(1 / x.std(0))
    assert np.abs(undone - bures(x, y)).max() > 0.1


def test_the_identity_does_nothing_in_the_units_of_the_user(tmp_path: Path) -> None:
    instance = build(task(tmp_path, random(200, 2), 50 + 3 * random(200, 2)))
    x = instance.test.source.x
    assert torch.equal(trained(Identity, instance)(x), x)


def test_from_two_tables_to_records_of_maps_in_the_users_units(tmp_path: Path, run_cli: Cli) -> None:
    for name, array in (("x", random(200, 3)), ("y", 100 + 2 * random(200, 3, seed=1))):
        np.savetxt(tmp_path / f"{name}.csv", array, delimiter=",", header="a,b,c", comments="")
    words = ("--solvers", "linear", "--task", "samples[source=x.csv,target=y.csv]", "--device", "cpu", "--threads", "1")
    code, out, err = run_cli(*words, "--out", "out", cwd=tmp_path)
    assert code == 0, out + err
    records = {record.spec.solver: record for record in Store(tmp_path / "out").all()}
    assert set(records) == {"identity", "constant", "linear", "copies"}
    assert all(record.status == "ok" for record in records.values())
    assert records["identity"].metrics["cost"] == 0
    assert records["constant"].metrics["cost"] == pytest.approx(3 * 100**2 / 2, rel=0.1)
    assert records["linear"].metrics["mmd_low_fwd"] < 0 < records["linear"].metrics["mmd_high_fwd"]
    assert records["copies"].keeps_rows == 2 * records["copies"].facts["source_training_rows"]  # type: ignore[operator]
    assert "copies: training rows drawn at random" in " ".join(out.split())


def test_another_cost_keeps_the_points_as_they_are_and_has_its_own_plan(tmp_path: Path) -> None:
    x = random(60, 2)
    given = task(tmp_path, x, 5 + 2 * random(60, 2, seed=1), cost="power", p=3.0)
    assert ", cost power 3" in given.describe()
    made = build(given)
    assert made.problem.units is None
    pool = made.problem.source.pool
    assert pool is not None
    assert np.isin(pool[:, 0].numpy(), x[:, 0].astype(np.float32)).all()
    test, aim = made.test.source.x, made.test.target.x
    scores = made.score(Outputs(aim))
    matrix = (test[:, None] - aim).double().abs().pow(3).sum(2) / 3
    best = float(matrix[linear_sum_assignment(matrix.numpy())].mean())
    cost = float(matrix.diagonal().mean())
    assert scores["cost"] == pytest.approx(cost, rel=1e-6)
    assert scores["cost_gap"] == pytest.approx(100 * (cost - best) / best, rel=1e-4)
    with pytest.raises(UsageError, match="p=3 belongs to cost=power"):
        task(tmp_path, x, x, p=3.0)
