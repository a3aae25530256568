"""The official pairs against their check values; what a user gets who has other files, or none."""

from __future__ import annotations

import hashlib
import os
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from otbench.baselines.linear import set_bures
from otbench.config import build_config
from otbench.datasets._mixture import fixed_draws
from otbench.datasets.w2bench import W2Bench, W2BenchConfig, W2BenchInstance
from otbench.datasets.w2bench.files import DIMS, PotentialSource, potential_files, read_potential
from otbench.datasets.w2bench.pair import Mixture, official_pair
from otbench.errors import DataError
from otbench.nets.affine import AffineMap
from otbench.nets.dense_icnn import DenseICNN, dense_icnn_widths
from otbench.problem import FreshMeasure
from otbench.task import Outputs, Published

CPU = torch.device("cpu")
DATA_DIR = os.environ.get("OTBENCH_DATA_DIR")
HELD = [
    dim for dim in DIMS if DATA_DIR and all(Path(DATA_DIR, file.names[0]).exists() for file in potential_files(dim))
]
needs_data = pytest.mark.skipif(not HELD, reason="set OTBENCH_DATA_DIR to a folder with w2bench/{D}_v{1,2}.pt")

DRAWS = {
    2: ("9b05b25df1ec129a", "55cbd9ecbc7badb2"),
    4: ("807b7ec0bffe2434", "022544601faa82df"),
    8: ("5f8864b4251d7d10", "3212e40858f70844"),
    16: ("60507b82a09e174c", "fe483359c1225c02"),
    32: ("5ebcd5b414241a3d", "9311de82ba83869b"),
    64: ("2a338463576da920", "57dba1f4311f004b"),
    128: ("56f2ca64076508eb", "bce607085285f9a0"),
    256: ("8ab7cf7e82060a09", "cbd4b4450d5767d2"),
}
"""SHA-256, first 16 digits, of the centres (int8) and of the normals (float32) that fix the mixture."""

# dim: 1/sqrt(v), W2^2, UVP of identity and of the linear map, cosines of the linear and of the constant map; each pair
# is forward, backward. Sampled with the benchmark's own protocol: 0.5 % of sampling error
TABLE = {
    2: (0.5032, 0.656, (32.9, 32.8), (13.99, 15.72), (0.758, 0.723), (0.288, 0.286)),
    4: (0.5630, 1.695, (42.3, 42.3), (14.80, 9.18), (0.810, 0.885), (0.325, 0.326)),
    8: (0.6174, 4.750, (59.0, 59.3), (27.1, 21.6), (0.739, 0.798), (0.381, 0.388)),
    16: (0.6452, 14.22, (89.2, 88.8), (41.8, 31.4), (0.737, 0.805), (0.474, 0.469)),
    32: (0.6821, 38.25, (120.0, 119.5), (55.5, 38.3), (0.747, 0.827), (0.549, 0.546)),
    64: (0.7107, 86.49, (135.0, 135.1), (63.6, 20.1), (0.749, 0.923), (0.581, 0.581)),
    128: (0.7265, 186.8, (145.0, 146.1), (63.5, 16.2), (0.771, 0.943), (0.601, 0.605)),
}


@pytest.fixture(autouse=True)
def _own_cache_and_few_samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pooch.os_cache", lambda project: tmp_path / "cache" / project)
    monkeypatch.setattr("otbench.datasets.w2bench.pair.MOMENT_SAMPLES", 2**15)


def task(data_dir: Path | str | None = None, **values: object) -> W2Bench:
    config = build_config(W2BenchConfig, values, owner="task w2bench")
    return W2Bench(config, data_dir=None if data_dir is None else Path(data_dir))


def build(given: W2Bench, seed: int = 0, dtype: torch.dtype = torch.float64) -> W2BenchInstance:
    given.check()
    return given.build(seed=seed, device=CPU, dtype=dtype)


def content(dim: int, seed: int = 0) -> dict[str, Tensor]:
    """Return a potential of the form that the files have, drawn at random."""
    widths, generator = dense_icnn_widths(dim), torch.Generator().manual_seed(seed)
    tensors = {}
    for k, width in enumerate(widths):
        shapes = {"quadratic_decomposed": (dim, 1, width), "weight": (width, dim), "bias": (width,)}
        for name, shape in shapes.items():
            tensors[f"quadratic_layers.{k}.{name}"] = 0.3 * torch.randn(*shape, generator=generator)
    for k in (0, 1):
        tensors[f"convex_layers.{k}.weight"] = 0.05 * torch.rand(widths[k + 1], widths[k], generator=generator)
    return tensors | {"final_layer.weight": torch.rand(1, widths[-1], generator=generator)}


def saved(path: Path, what: object) -> Path:
    torch.save(what, path)
    return path


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> tuple[DenseICNN, DenseICNN]:
    """Potentials drawn at random in place of the official ones with d = 4."""
    first, second = (read_potential(saved(tmp_path / f"{k}.pt", content(4, k)), 4) for k in (1, 2))
    monkeypatch.setattr("otbench.datasets.w2bench.load_pair", lambda dim, data_dir: (first, second))
    return first, second


# ------------------------------------------------------------------------------------------------------ official values


@pytest.mark.parametrize("dim", DIMS)
def test_the_mixture_is_drawn_as_the_benchmark_draws_it(dim: int) -> None:
    assert tuple(hashlib.sha256(array.tobytes()).hexdigest()[:16] for array in fixed_draws(dim)) == DRAWS[dim]


@pytest.mark.parametrize("dim", [2, 16, 256])
def test_the_mixture_has_mean_zero_and_total_variance_d(dim: int) -> None:
    source = Mixture.official(dim)
    assert source.centres.mean(0).abs().max() < 1e-12
    second_moment = source.centres.square().sum() / 3 + source.factors.square().sum() / 3
    assert second_moment == pytest.approx(dim, rel=1e-12)
    if dim == 2:
        assert source.centres.abs().max() == pytest.approx(1 / 0.909212, rel=1e-6)
        x = source(100_000, torch.Generator().manual_seed(0))
        assert x.mean(0).abs().max() < 0.02
        assert x.square().sum(1).mean() == pytest.approx(dim, rel=0.02)


@needs_data
@pytest.mark.parametrize("dim", TABLE)
def test_identity_linear_and_constant_rows_have_their_reference_values(dim: int) -> None:
    if dim not in HELD:
        pytest.skip(f"set OTBENCH_DATA_DIR to a folder with w2bench/{dim}_v1.pt and w2bench/{dim}_v2.pt")
    instance = build(task(DATA_DIR, dim=dim), dtype=torch.float32)
    scale, w2, identity, linear, cosine, still = TABLE[dim]
    assert instance.facts["map_scale"] == pytest.approx(scale, rel=0.01)
    assert instance.facts["w2_squared"] == pytest.approx(w2, rel=0.015)
    x, y = instance.test.source.x, instance.test.target.x
    found = instance.score(Outputs(x, y, x))
    assert (found["uvp_fwd"], found["uvp_bwd"]) == pytest.approx(identity, rel=0.015)
    generator = torch.Generator().manual_seed(0)
    a, b = (side.sample(2**16, generator=generator).x for side in (instance.problem.source, instance.problem.target))
    eye = torch.eye(dim)
    forward, backward = (AffineMap(eye.clone(), torch.zeros(dim)) for _ in range(2))
    set_bures(forward, backward, a, b, ridge=0)
    with torch.no_grad():
        found = instance.score(Outputs(forward(x), backward(y)))
    assert (found["uvp_fwd"], found["uvp_bwd"]) == pytest.approx(linear, rel=0.015)
    assert (found["cosine_fwd"], found["cosine_bwd"]) == pytest.approx(cosine, abs=0.01)
    found = instance.score(Outputs(torch.zeros_like(x), torch.zeros_like(y)))
    assert (found["uvp_fwd"], found["uvp_bwd"]) == pytest.approx((100, 100), rel=0.015)
    assert (found["cosine_fwd"], found["cosine_bwd"]) == pytest.approx(still, abs=0.01)


@needs_data
def test_sizes_of_files_are_right() -> None:
    for dim in HELD:
        for file in potential_files(dim):
            assert Path(str(DATA_DIR), file.names[0]).stat().st_size == file.size
    assert potential_files(256)[0].size == 4_204_879


# ------------------------------------------------------------------------------------------------------------- the task


def test_a_file_becomes_the_network_that_the_benchmark_makes_of_it(tmp_path: Path) -> None:
    tensors = content(5)
    network = read_potential(saved(tmp_path / "p.pt", tensors), 5)
    x = torch.randn(50, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()

    def quadratic(k: int) -> Tensor:
        a, w, b = (
            tensors[f"quadratic_layers.{k}.{name}"].double() for name in ("quadratic_decomposed", "weight", "bias")
        )
        return (x @ a[:, 0]).square() + x @ w.T + b

    z = quadratic(0)
    for k in (1, 2):
        z = functional.celu(z @ tensors[f"convex_layers.{k - 1}.weight"].double().T + quadratic(k))
    value = (z @ tensors["final_layer.weight"].double().T)[:, 0] + 0.005 * x.square().sum(1)
    (gradient,) = torch.autograd.grad(value.sum(), x)
    torch.testing.assert_close(network(x), value)
    torch.testing.assert_close(network.gradient(x), gradient)


@pytest.mark.usefixtures("stand_in")
@pytest.mark.parametrize("pool", ["fresh", "500"])
def test_the_exact_maps_score_zero(pool: str) -> None:
    given = task(dim=4, pool=pool)
    instance = build(given)
    x, y = instance.test.source.x, instance.test.target.x
    exact, back = given._pair.truth(x), instance._known.backward
    assert given._pair.truth(back).allclose(y)
    found = instance.score(Outputs(exact, back, x, forward_mean=exact))
    for name in ("uvp_fwd", "uvp_mean", "uvp_bwd", "inverse_gap", "cost_gap"):
        assert abs(found[name]) < 1e-9
    assert found["cosine_fwd"] == pytest.approx(1)
    assert found["cosine_bwd"] == pytest.approx(1)
    assert found["cost"] == pytest.approx(instance.facts["exact_cost"], rel=0.05)
    assert found.keys() == {metric.name for metric in W2Bench.metrics}
    assert instance.score(Outputs(x)).keys() == {"uvp_fwd", "cosine_fwd", "cost", "cost_gap"} - {"cosine_fwd"}


@pytest.mark.usefixtures("stand_in")
def test_the_target_has_mean_zero_and_total_variance_d() -> None:
    problem = build(task(dim=4), dtype=torch.float32).problem
    y = problem.target.sample(2**16, generator=torch.Generator().manual_seed(0)).x
    assert y.mean(0).abs().max() < 0.03
    assert y.var(0).sum() == pytest.approx(4, rel=0.03)


def test_moments_are_computed_once_and_kept(
    stand_in: tuple[DenseICNN, DenseICNN], monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = torch.get_num_threads()
    first = official_pair(stand_in, ["a", "b"])
    assert torch.get_num_threads() == threads
    monkeypatch.setattr("otbench.datasets.w2bench.pair.moments", None)  # calling it would fail
    again = official_pair(stand_in, ["a", "b"])
    assert torch.equal(first.truth.mean, again.truth.mean)
    assert (first.truth.scale, first.w2_squared) == (again.truth.scale, again.w2_squared)
    with pytest.raises(TypeError):  # other files have other moments
        official_pair(stand_in, ["a", "c"])


@pytest.mark.usefixtures("stand_in")
def test_fresh_measures_never_repeat_and_can_be_pickled() -> None:
    problem = build(task(dim=4), dtype=torch.float32).problem
    for side in (problem.source, problem.target):
        assert isinstance(side, FreshMeasure)
        assert side.shape == (4,)
        assert not side.is_standard_normal
        generator = torch.Generator().manual_seed(0)
        one, two = (side.sample(100, generator=generator).x for _ in range(2))
        assert one.dtype == torch.float32
        assert not torch.equal(one, two)
        twin = pickle.loads(pickle.dumps(side))
        assert torch.equal(twin.sample(100, generator=torch.Generator().manual_seed(0)).x, one)


@pytest.mark.usefixtures("stand_in")
def test_pools_follow_the_seed_and_test_data_do_not() -> None:
    one, again, other = (build(task(dim=4, pool=300), seed) for seed in (0, 0, 1))
    given = build(task(dim=4, pool=300, pool_seed=1), 0)
    truth = task(dim=4)._pair.truth
    for side in ("source", "target"):
        pools = [getattr(instance.problem, side).pool for instance in (one, again, other, given)]
        assert pools[0].shape == (300, 4)
        assert torch.equal(pools[0], pools[1])
        assert not torch.equal(pools[0], pools[2])
        assert torch.equal(pools[2], pools[3])
        tests = [getattr(instance.test, side).x for instance in (one, other)]
        assert tests[0].shape == (2**14, 4)
        assert torch.equal(*tests)
    assert one.problem.source.pool is not None
    # a pool of pairs (x, T*(x)) would be no transport problem, but a regression
    assert not torch.equal(truth(one.problem.source.pool), one.problem.target.pool)


def test_published_rows_stand_beside_fresh_samples_only() -> None:
    assert task(dim=16).published() == Published("w2bench", {"dim": 16})
    assert task(dim=16, pool=100_000).published() is None


def test_describe() -> None:
    assert task(dim=16).describe() == "d = 16, official pair, fresh samples"
    assert task(pool=10_000, pool_seed=3).describe() == "d = 2, official pair, pool 10 000, pool seed 3"


# ------------------------------------------------------------------------------------------------------------ bad input


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"final_layer.weight": None}, "12 tensors"),
        ({"more": torch.zeros(1)}, "12 tensors"),
        ({"final_layer.weight": torch.ones(2, 32)}, "final_layer.weight is not a float32 tensor of shape (1, 32)"),
        ({"final_layer.weight": torch.ones(1, 32).double()}, "final_layer.weight is not a float32 tensor"),
        ({"final_layer.weight": [1.0]}, "final_layer.weight is not a float32 tensor"),
        ({"final_layer.weight": -torch.ones(1, 32)}, "final_layer.weight has negative entries"),
        ({"convex_layers.0.weight": -torch.ones(64, 64)}, "convex_layers.0.weight has negative entries"),
        ({"quadratic_layers.1.bias": torch.full((64,), torch.nan)}, "quadratic_layers.1.bias holds NaN"),
    ],
)
def test_what_is_no_convex_potential_is_one_message(change: Mapping[str, object], message: str, tmp_path: Path) -> None:
    tensors = {name: value for name, value in (content(4) | change).items() if value is not None}
    path = saved(tmp_path / "4_v1.pt", tensors)
    with pytest.raises(DataError) as error:
        read_potential(path, 4)
    text = str(error.value)
    assert text.startswith(f"{path}: not a potential of the benchmark: ")
    assert message in text
    assert text.endswith("/benchmarks/Mix3toMix10/4_v1.pt")


@pytest.mark.parametrize("what", [content(8), [1, 2], 3.0], ids=["of another dimension", "list", "number"])
def test_files_of_something_else(what: object, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not a potential of the benchmark"):
        read_potential(saved(tmp_path / "4_v1.pt", what), 4)


def test_files_with_code_and_damaged_files_are_not_opened(tmp_path: Path) -> None:
    path = saved(tmp_path / "4_v1.pt", DenseICNN(4))  # pickled as a whole
    with pytest.raises(DataError, match="cannot be read as a file of tensors"):
        read_potential(path, 4)
    path.write_bytes(saved(path, content(4)).read_bytes()[:-3000])
    with pytest.raises(DataError, match="cannot be read as a file of tensors"):
        read_potential(path, 4)


@pytest.fixture
def refused(
    cli: Callable[..., tuple[int, str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], str]:
    """Runs the identity on a task, without a network and with the folder `data`; returns the one message."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OTBENCH_DATA_DIR", raising=False)
    monkeypatch.setattr("otbench.data.remote.RETRIES", 0)

    def fails(self: object, url: str, output_file: str, pooch: object) -> None:
        raise OSError("no network here")

    monkeypatch.setattr("pooch.HTTPDownloader.__call__", fails)
    (tmp_path / "data" / "w2bench").mkdir(parents=True)

    def run(name: str) -> str:
        code, out, err = cli("--solvers", "identity", "--task", name, "--data-dir", "data", "--out", "out")
        assert code == 2, out + err
        assert err.startswith("otbench: ")
        assert err.count("\n") == 1
        assert not Path("out").exists()
        return err

    return run


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("w2bench[dim=3]", "dim='3': there are official pairs for 2, 4, 8, 16, 32, 64, 128, 256"),
        ("w2bench[dim=512]", "dim='512': there are official pairs for"),
        ("w2bench[dim=0]", "dim='0'"),
        ("w2bench[pool=1]", "pool='1': use 'fresh' or a whole number from 2"),
        ("w2bench[pool=few]", "pool='few'"),
        ("w2bench[dim=16,pool=16]", "pool=16 is too small for dim=16: covariances need more points than coordinates"),
        ("w2bench[dim=2|3]", "dim='3'"),
        ("w2bench[dim=8]", "8_v1.pt (no network here). Put 8_v1.pt into a folder and pass --data-dir"),
    ],
)
def test_wrong_parameters_and_missing_files_are_one_message(
    name: str, message: str, refused: Callable[[str], str]
) -> None:
    assert message in refused(name)


@pytest.mark.parametrize("dim", [4, 256])
def test_files_with_another_content_are_one_message(dim: int, refused: Callable[[str], str]) -> None:
    first, second = (Path("data", file.names[0]) for file in potential_files(dim))
    saved(first, content(dim))
    text = refused(f"w2bench[dim={dim}]")
    assert f"{first}: wrong checksum: expected {'SHA-256' if dim == 4 else 'git blob id'} " in text
    assert f"/Mix3toMix10/{first.name}, or move it away" in text
    first.unlink()
    first.mkdir()
    assert f"{first}: is a folder" in refused(f"w2bench[dim={dim}]")
    assert not second.exists()


def test_the_source_says_which_dimensions_are_here(tmp_path: Path) -> None:
    source = PotentialSource()
    assert source.find(tmp_path) is None
    for name in ("4_v1.pt", "4_v2.pt", "16_v1.pt"):
        (tmp_path / name).touch()
    assert source.find(tmp_path) == f"{tmp_path} (d = 4)"
    assert source.origin.endswith("about 12 MB; checked by SHA-256, git blob id (its host publishes no other)")


@needs_data
def test_data_are_listed_and_verified(cli: Callable[..., tuple[int, str, str]]) -> None:
    code, out, _ = cli("data", "list", "w2bench", "--data-dir", str(DATA_DIR))
    assert code == 0
    assert f"here: {Path(str(DATA_DIR), 'w2bench')} (d = {', '.join(map(str, HELD))})" in out.replace("\n", " ")
    code, out, _ = cli("data", "verify", "w2bench", "--data-dir", str(DATA_DIR))
    assert code == 0
    assert out.count("SHA-256: good") == 2 * len([dim for dim in HELD if dim < 256])
