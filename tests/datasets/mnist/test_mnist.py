from __future__ import annotations

import gzip
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from otbench.baselines.class_mean import ClassMean
from otbench.baselines.prior_sample import PriorSample
from otbench.config import Config, build_config
from otbench.data.sources import MakeOptions
from otbench.datasets import mnist
from otbench.datasets.mnist import MNIST, PAIRS, MNISTConfig, MNISTInstance, images, pretrained
from otbench.datasets.mnist.images import Images, ImageSet, load
from otbench.datasets.mnist.points import Side
from otbench.datasets.mnist.pretrained import NetworkSource
from otbench.errors import DataError, UsageError
from otbench.harness.evaluate import score
from otbench.harness.execute import execute
from otbench.harness.plan import Request, make_plan
from otbench.metrics.inception import WEIGHTS
from otbench.nets.vae import VAE
from otbench.plugins.registry import Registry
from otbench.problem import PoolMeasure
from otbench.records.store import Store
from otbench.registration import registrations
from otbench.solver import Context, Solver
from otbench.task import Outputs, Published

from ...helpers.applied import apply_maps

CPU = torch.device("cpu")
DATA_DIR = os.environ.get("OTBENCH_DATA_DIR")
needs_data = pytest.mark.skipif(
    DATA_DIR is None or not images.all_present(["MNIST", "FashionMNIST"], Path(DATA_DIR)),
    reason="set OTBENCH_DATA_DIR to a folder with MNIST/raw and FashionMNIST/raw",
)
CLI = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache of this file's own: the demo's networks are trained once."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        yield folder / "otbench"


def task(data_dir: Path | None = None, **values: object) -> MNIST:
    values = {"pair": "digits", "size": "tiny"} | values
    return MNIST(build_config(MNISTConfig, values, owner="task mnist"), data_dir=data_dir)


def build(given: MNIST, seed: int = 0) -> MNISTInstance:
    given.check()
    return given.build(seed=seed, device=CPU, dtype=torch.float32)


@pytest.fixture(scope="module")
def latent(cache: Path) -> MNISTInstance:
    return build(task())


@pytest.fixture(scope="module")
def pixel(cache: Path) -> MNISTInstance:
    return build(task(space="pixel"))


def solve(cls: type[Solver[Config]], config: Config, given: MNISTInstance) -> dict[str, float]:
    solver = cls(given.problem, config, Context(CPU, torch.float32, torch.Generator().manual_seed(0), lambda: 0.0))
    assert solver.step().done
    return score(given, apply_maps(solver.transport(), given.test, seed=0))


def test_classes_are_paired_by_label(pixel: MNISTInstance) -> None:
    data, label = load("digits", None), pixel.test.source.label
    assert label is not None
    assert torch.equal(label, (data.test.label + 5) % 10)
    assert torch.equal(pixel.test.target.label, data.test.label)
    source, target = pixel.problem.source, pixel.problem.target
    assert isinstance(source, PoolMeasure)
    assert isinstance(target, PoolMeasure)
    assert torch.equal(source.pool_label, (data.train.label + 5) % 10)
    assert torch.equal(target.pool_label, data.train.label)
    batch = source.sample(20, generator=torch.Generator().manual_seed(0), label=3)
    assert (data.train.label[batch.index] == 8).all()


def test_training_images_can_take_the_place_of_test_images(cache: Path) -> None:
    given = task(space="pixel", held_out=100)
    made, train = build(given), load("digits", None).train
    pool, label = made.problem.target.pool, made.test.target.label
    assert pool is not None
    assert len(pool) == len(train.label) - 100
    assert torch.equal(label, train.label[-100:])
    assert "100 training images set aside" in given.describe()
    assert given.published() is None
    with pytest.raises(UsageError, match="more than half"):
        build(task(space="pixel", held_out=1000))


@pytest.mark.parametrize("space", ["pixel", "latent"])
def test_what_is_kept_of_images_set_aside_is_not_taken_for_the_test_images(cache: Path, space: str) -> None:
    """Neither classes and moments nor codes, although both have the networks that were trained on the whole set."""
    data = load("digits", None)
    whole, aside = (build(task(space=space, held_out=count)) for count in (None, len(data.test.label)))
    again = build(task(space=space))
    assert len(aside.test.source.label) == len(whole.test.source.label)
    assert whole.facts["classifier_sha256"] == aside.facts["classifier_sha256"]
    assert whole.task_rows() == again.task_rows() != aside.task_rows()
    assert min(made.task_rows()["real_images"]["accuracy"] for made in (whole, aside)) > 80
    for made, kept in ((again, data), (aside, data.setting_aside(len(data.test.label)))):
        assert len(made.problem.source.pool) == len(kept.train.label)
        assert torch.equal(made.test.target.label, kept.test.label)


@pytest.mark.parametrize("space", ["pixel", "latent"])
def test_one_digit_becomes_one_other_and_nobody_is_told_classes(cache: Path, space: str) -> None:
    given, data = task(space=space, digit=3), load("digits", None)
    made = build(given)
    assert made.problem.classes == 0
    assert (made.test.source.label, made.test.target.label) == (None, None)
    for side, test, digit in ((made.problem.source, made.test.source, 3), (made.problem.target, made.test.target, 8)):
        assert side.pool is not None
        assert len(side.pool) == int((data.train.label == digit).sum())
        assert len(test.x) == int((data.test.label == digit).sum())
        if space == "pixel":
            assert torch.equal(test.x, 2 * data.test.unit(CPU)[data.test.label == digit] - 1)
    assert ", 3 to 8 alone, " in given.describe()
    assert given.published() is None
    # images of the target's own class are right, those of the source are not; and the same the other way
    rows = (len(made.test.source.x), len(made.test.target.x))
    n = min(rows)
    eights = made.test.target.x[torch.arange(rows[0]) % n]
    threes = made.test.source.x[torch.arange(rows[1]) % n]
    right = made.score(Outputs(eights, threes))
    wrong = made.score(Outputs(made.test.source.x, made.test.target.x))
    for name in ("accuracy", "accuracy_bwd"):
        assert right[name] > 60
    if space == "pixel":  # codes are standardised by side, so that those of threes are eights at once
        assert max(wrong[name] for name in ("accuracy", "accuracy_bwd")) < 40
    for name in ("fd_classifier", "fd_classifier_bwd", "class_energy", "class_energy_bwd"):
        assert right[name] < wrong[name]
    assert len(made.pictures(Outputs(eights))) == 3
    assert "class_mean" not in given.controls()


def test_pixels_are_the_images(pixel: MNISTInstance) -> None:
    x = pixel.test.target.x
    assert x.shape == (450, 1, 32, 32)
    assert (float(x.min()), float(x.max())) == (-1, 1)
    back = (255 * pixel._target.images(x, pixel.test.target.label)[:, 0]).round().to(torch.uint8)
    assert torch.equal(back, load("digits", None).test.pixels)
    assert pixel.problem.source.shape == (1, 32, 32)


def test_codes_are_standardised_with_the_training_images(latent: MNISTInstance) -> None:
    for side in (latent.problem.source, latent.problem.target):
        pool = side.pool
        assert pool is not None
        assert pool.shape == (1347, 8)
        torch.testing.assert_close(pool.mean(0), torch.zeros(8), atol=1e-5, rtol=0)
        torch.testing.assert_close(pool.std(0), torch.ones(8), atol=1e-5, rtol=0)
    assert latent.test.source.x.mean(0).abs().max() < 0.2


def test_test_images_are_not_in_the_pool(pixel: MNISTInstance) -> None:
    pool, test = pixel.problem.target.pool, pixel.test.target.x
    assert pool is not None
    assert torch.cdist(test.flatten(1), pool.flatten(1)).min() > 0.1


def test_identity_within_one_set_is_the_reconstruction(latent: MNISTInstance) -> None:
    """The demo moves digits to digits: without their labels, identity only encodes and decodes."""
    x, y = latent.test.source.x, latent.test.target.x
    found, rows = latent.score(Outputs(x, y, x)), latent.task_rows()
    assert found["cost"] == found["cost_bwd"] == 0
    for space in ("pixel", "classifier"):
        assert found[f"fd_{space}"] == pytest.approx(rows["reconstruction"][f"fd_{space}"])
        assert found[f"fd_{space}_decoded"] == pytest.approx(0, abs=1e-3)
        assert rows["real_images"][f"fd_{space}"] < rows["reconstruction"][f"fd_{space}"]
    assert found["accuracy"] < 10
    assert rows["reconstruction"]["accuracy"] > 80
    assert rows["real_images"]["accuracy"] > 95
    assert rows["real_images"]["accuracy"] == pytest.approx(latent.facts["classifier_test_accuracy"])
    names = {metric.name for metric in MNIST.metrics}
    assert found.keys() == names - {name for name in names if name.startswith(("fid_inception", "kid"))}
    assert str(latent.facts["inception"]).startswith("skipped: ")


class FakeInception:
    """Twelve means of patches in place of the 2048 features."""

    def __init__(self, weights: Path, device: torch.device) -> None:
        self.calls = 0

    def features(self, given: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return torch.nn.functional.adaptive_avg_pool2d(given, (3, 4)).flatten(1)


def test_inception_scores_are_to_real_and_to_decoded_images(
    monkeypatch: pytest.MonkeyPatch, latent: MNISTInstance
) -> None:
    """With weights, rows that need no solver have FID and KID too; their features are computed once."""
    monkeypatch.setattr("otbench.datasets.mnist.scores.Inception", FakeInception)
    monkeypatch.setattr(mnist, "find_weights", lambda data_dir: (Path("weights"), ""))
    given = build(task())
    found, rows = given.score(Outputs(latent.test.source.x)), given.task_rows()
    assert given.facts["inception"] == "standard weights"
    # identity within one set: what is decoded is the reconstruction
    assert found["fid_inception_decoded"] == pytest.approx(0, abs=1e-6)
    assert found["fid_inception"] == pytest.approx(rows["reconstruction"]["fid_inception"])
    assert found["kid"] == pytest.approx(rows["reconstruction"]["kid"], abs=1e-9)
    assert found["kid_decoded"] < found["kid"]
    assert rows["real_images"]["fid_inception"] < found["fid_inception"]
    assert "fid_inception_decoded" not in rows["reconstruction"]
    network = given._judge._inception
    assert isinstance(network, FakeInception)
    assert network.calls == 4  # three sets and the transported images
    again = build(task())
    again.score(Outputs(latent.test.source.x))
    assert isinstance(again._judge._inception, FakeInception)
    assert again._judge._inception.calls == 1


def test_perfect_map_is_perfect(pixel: MNISTInstance) -> None:
    """Each image becomes a test image of the wanted class."""
    source, target = pixel.test.source, pixel.test.target
    assert source.label is not None
    assert target.label is not None
    moved = source.x.clone()
    for k in range(10):
        goals = target.x[target.label == k]
        here = (source.label == k).nonzero().squeeze(1)
        moved[here] = goals[torch.arange(len(here)) % len(goals)]
    found = pixel.score(Outputs(moved))
    assert found["accuracy"] > 95
    assert found["accuracy_low"] <= found["accuracy"] <= found["accuracy_high"]
    assert abs(found["class_energy"]) < 1  # 12.6 before; below 0 because points coincide
    assert found["fd_pixel"] < 0.1
    assert found["cost"] == pytest.approx(float((moved - source.x).square().sum()) / 2 / len(moved), rel=1e-5)
    assert "accuracy_bwd" not in found
    assert "fd_pixel_decoded" not in found


def test_class_energy_is_the_mean_over_classes(latent: MNISTInstance) -> None:
    source, target = latent.test.source, latent.test.target
    assert source.label is not None
    assert target.label is not None
    found = []
    for k in range(10):
        a, b = source.x[source.label == k].double(), target.x[target.label == k].double()
        n, m = len(a), len(b)
        within = torch.cdist(a, a).sum() / (n * (n - 1)) + torch.cdist(b, b).sum() / (m * (m - 1))
        found.append(float(2 * torch.cdist(a, b).mean() - within))
    assert latent.score(Outputs(source.x))["class_energy"] == pytest.approx(np.mean(found), rel=1e-3)


def test_points_of_the_curve_cost_less(latent: MNISTInstance, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mnist, "CURVE_IMAGES", 100)
    x, y = latent.test.source.x, latent.test.target.x
    found = latent.score(Outputs(x, y, x, final=False))
    assert not [name for name in found if name.startswith("fd_")]
    whole = latent.score(Outputs(x, y, x))
    assert found["class_energy"] == whole["class_energy"]
    assert found["accuracy"] == pytest.approx(whole["accuracy"], abs=8)


def test_control_rows_show_what_accuracy_is_worth(latent: MNISTInstance) -> None:
    mean, prior = solve(ClassMean, Config(), latent), solve(PriorSample, Config(), latent)
    assert mean["accuracy"] > 90
    assert mean["accuracy_bwd"] > 90
    assert mean["fd_classifier"] > 2 * prior["fd_classifier"] / 3  # no spread at all
    assert prior["accuracy"] < 30  # nobody told the decoder
    assert mean["class_energy"] < prior["class_energy"]
    assert not PriorSample.supports(build(task(space="pixel")).problem).ok
    for cls in (ClassMean, PriorSample):
        assert registrations(cls)[0].kind == "baseline"


@pytest.mark.parametrize("shift", [0, 5])
def test_networks_read_the_set_s_own_label(shift: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A conditional decoder is told the wanted class; on a renamed side, the class that it was trained with."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    whole = load("digits", None)
    train, test = (Images(part.pixels[:30], part.label[:30]) for part in (whole.train, whole.test))
    network = VAE(width=2, latent=3, classes=10).eval()
    vae = pretrained.Trained(network, {}, "an untrained one")
    side = Side(ImageSet("digits", train, test, "30 of them"), shift, vae, CPU)
    codes = network.encode(train.unit(CPU), train.label)[0]
    points = side.points("test", torch.float32)
    raw = network.encode(test.unit(CPU), test.label)[0]
    torch.testing.assert_close(points, ((raw - codes.mean(0)) / codes.std(0)).detach(), rtol=1e-3, atol=1e-3)
    assert torch.equal(side.test_label, (test.label + shift) % 10)
    decoded = side.images(points, side.test_label)
    torch.testing.assert_close(decoded, network.decode(raw, test.label).detach())
    assert not torch.allclose(side.images(points, (side.test_label + 1) % 10), decoded)


def test_pictures(latent: MNISTInstance) -> None:
    outputs = Outputs(latent.test.source.x)
    found = latent.score(outputs)
    grid, matrix, points = latent.pictures(outputs)
    assert [picture.kind for picture in (grid, matrix, points)] == ["images", "matrix", "points"]
    assert all(rows.shape == (10, 32, 32) and rows.dtype == np.uint8 for rows in grid.arrays.values())
    counts = matrix.arrays["counts"]
    assert counts.sum() == len(outputs.forward)
    assert 100 * np.trace(counts) / counts.sum() == pytest.approx(found["accuracy"])
    np.testing.assert_array_equal(counts.sum(1), np.bincount(latent.test.source.label))
    data = points.arrays["data"]
    assert data.dtype == np.float32
    spread = data.var(0)
    assert (np.diff(spread) <= 0).all()
    again = latent.pictures(Outputs(outputs.forward.clone()))[1].arrays["counts"]
    np.testing.assert_array_equal(again, counts)


def sets_of_two_kinds(name: str, data_dir: Path | None) -> ImageSet:
    """The digits, halved: one half stands for Fashion-MNIST, the other for MNIST."""
    whole, first = load("digits", None), name == "FashionMNIST"
    train, test = (Images(part.pixels[first::2], part.label[first::2]) for part in (whole.train, whole.test))
    return ImageSet(name, train, test, whole.digest[1:] + name[0])


@pytest.fixture
def real_pair(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mnist, "load", sets_of_two_kinds)
    monkeypatch.setattr(pretrained, "load", sets_of_two_kinds)


def tiny_classifier() -> list[Path]:
    return NetworkSource("classifier").make(None, MakeOptions(sets=["MNIST"], size="tiny", threads=1))


def test_hidden_labels_stay_hidden(real_pair: None) -> None:
    """A spy that looks at all a solver is given finds ten labels of each class, and the seed chooses which."""
    tiny_classifier()
    given = task(pair="fmnist-mnist", space="pixel", target_labels=10)
    instance, other = build(given), build(given, seed=1)
    truth = sets_of_two_kinds("MNIST", None).train
    target = instance.problem.target
    assert isinstance(target, PoolMeasure)
    label = target.pool_label
    assert label is not None
    seen = label >= 0
    assert torch.bincount(label[seen]).tolist() == [10] * 10
    assert torch.equal(label[seen], truth.label[seen])
    assert (label[~seen] == -1).all()
    assert len(label) == len(truth.label)
    generator = torch.Generator().manual_seed(0)
    drawn = [target.sample(500, generator=generator)]
    drawn += [target.sample(50, generator=generator, label=k) for k in range(10)]
    drawn.append(target.sample(400, generator=generator, label=torch.arange(400) % 10))
    for batch in drawn:
        assert batch.label is not None
        assert batch.index is not None
        assert ((batch.label == -1) == ~seen[batch.index]).all()
    assert len(torch.cat([batch.index for batch in drawn[1:]]).unique()) <= 100
    chosen = other.problem.target
    assert isinstance(chosen, PoolMeasure)
    assert not torch.equal(chosen.pool_label, label)
    shared = build(task(pair="fmnist-mnist", space="pixel", target_labels=10, pool_seed=0), seed=1).problem.target
    assert isinstance(shared, PoolMeasure)
    assert torch.equal(shared.pool_label, label)
    assert (instance.problem.source.pool_label >= 0).all()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"target_labels": 5000, "space": "pixel", "pair": "fmnist-mnist"}, "class 0 of MNIST has"),
        ({"target_labels": 10, "vae": "conditional", "pair": "fmnist-mnist"}, "reads every label"),
        ({"target_labels": 10}, "the same images"),
        ({"target_labels": 10, "digit": 3}, "no label to hide"),
    ],
)
def test_label_counts_that_cannot_be(real_pair: None, values: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        task(**values).check()


def test_networks_of_real_images_are_part_of_a_run_s_identity(real_pair: None) -> None:
    made = tiny_classifier()
    given = task(pair="fmnist-mnist")
    heads = ["classifier-MNIST", "vae-FashionMNIST-unconditional", "vae-MNIST-unconditional"]
    assert [path.name.rpartition("-")[0] for path in given.inputs()] == heads
    assert list(task(pair="fmnist-mnist", space="pixel").inputs()) == made
    assert task().inputs() == ()


def test_networks_of_real_images_are_asked_for(real_pair: None, cli: CLI) -> None:
    tiny_classifier()
    with pytest.raises(DataError, match=r"data make vae --kind unconditional --set FashionMNIST --size tiny") as error:
        task(pair="fmnist-mnist").check()
    assert len(str(error.value).splitlines()) == 1
    code, _, said = cli("--solvers", "identity", "--task", "mnist[pair=shift]", "--preset", "quick")
    assert code == 2
    assert "classifier of MNIST, which is not trained yet" in said
    assert "data make classifier --set MNIST" in said


def copy_of_mnist(folder: Path, names: tuple[str, ...] = ("MNIST", "FashionMNIST")) -> Path:
    for name in names:
        (folder / name / "raw").mkdir(parents=True)
        for kind, sizes in (("train", (3, 3)), ("t10k", (2, 2))):
            header = (0x803).to_bytes(4, "big") + sizes[0].to_bytes(4, "big") + (28).to_bytes(4, "big") * 2
            content = {"images-idx3": header + bytes(784 * sizes[0])}
            content["labels-idx1"] = (0x801).to_bytes(4, "big") + sizes[1].to_bytes(4, "big") + bytes(sizes[1])
            for what, raw in content.items():
                (folder / name / "raw" / f"{kind}-{what}-ubyte.gz").write_bytes(gzip.compress(raw))
    return folder


def test_corrupt_or_missing_images_are_one_message(
    tmp_path: Path, cli: CLI, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "_URLS", dict.fromkeys(("MNIST", "FashionMNIST"), "http://127.0.0.1:9/"))
    monkeypatch.setattr("otbench.data.remote.RETRIES", 0)
    folder = copy_of_mnist(tmp_path / "data")  # of the right form, with the wrong content
    before = sorted(cache.rglob("*"))
    for words in (("--solvers", "identity", "--task", "mnist[pair=shift]"), ("data", "make", "vae")):
        code, out, error = cli(*words, "--data-dir", str(folder))
        assert code == 2
        assert "wrong checksum" in error
        assert not out
        assert len(error.splitlines()) == 1
    (folder / "MNIST" / "raw" / "train-images-idx3-ubyte.gz").unlink()
    code, _, error = cli("--solvers", "identity", "--task", "mnist[pair=shift]", "--data-dir", str(folder))
    assert code == 2
    assert "could not download" in error
    assert len(error.splitlines()) == 1
    assert sorted(path for path in cache.rglob("*") if path.is_file()) == [path for path in before if path.is_file()]


def test_wrong_inception_weights_are_one_message_before_any_run(tmp_path: Path, cli: CLI, cache: Path) -> None:
    pytest.importorskip("torch_fidelity")
    own, out = tmp_path / "data", tmp_path / "out"
    own.mkdir()
    (own / WEIGHTS.names[0]).write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    before = sorted(cache.rglob("*"))
    words = ("--solvers", "identity", "--task", "mnist", "--preset", "smoke", "--data-dir", own, "--out", out)
    code, text, error = cli(*words)
    assert code == 2
    assert "wrong checksum" in error
    assert WEIGHTS.names[0] in error
    assert len(error.splitlines()) == 1
    assert not text
    assert not list(out.glob("*.json"))
    assert sorted(cache.rglob("*")) == before


def test_labels_that_do_not_fit_the_images(monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(load("digits", None).test.label) == images.TEST_COUNT["digits"]
    pixels = torch.zeros(3, 8, 8, dtype=torch.uint8)
    monkeypatch.setattr(images, "_digits", lambda: [(pixels, torch.zeros(3)), (pixels, torch.zeros(2))])
    with pytest.raises(DataError, match="3 images but 2 labels"):
        load("digits", None)


@needs_data
def test_real_images_are_those_of_torchvision() -> None:
    assert DATA_DIR is not None
    for name, count in (
        ("MNIST", [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]),
        ("FashionMNIST", [6000] * 10),
    ):
        found = load(name, Path(DATA_DIR))  # type: ignore[arg-type]
        assert found.train.pixels.shape == (60_000, 32, 32)
        assert found.test.pixels.shape == (images.TEST_COUNT[name], 32, 32)  # type: ignore[index]
        assert found.train.label.bincount().tolist() == count
        assert found.train.pixels.max() > 240


def test_enlarging_keeps_flat_images_and_their_mass() -> None:
    flat = torch.full((2, 28, 28), 77, dtype=torch.uint8)
    assert (images._enlarged(flat) == 77).all()
    whole = load("digits", None).train.pixels
    assert whole.dtype == torch.uint8
    assert whole.float().mean() == pytest.approx(4.88 * 255 / 16, rel=0.02)  # the mean of scikit-learn's digits


def test_choose_takes_what_is_on_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mnist, "find_weights", lambda data_dir: (Path("weights"), ""))
    full = {"pair": ["fmnist-mnist", "shift"]}
    changed, notes = MNIST.choose(full, typed=frozenset(), data_dir=tmp_path)
    assert changed == {"pair": "digits", "size": "tiny"}
    assert len(notes) == 1
    assert "demo" in notes[0]
    assert MNIST.choose(full, typed=frozenset({"pair"}), data_dir=tmp_path) == (full, ())
    kept, _ = MNIST.choose({"pair": "shift"}, typed=frozenset({"size"}), data_dir=tmp_path)
    assert kept == {"pair": "digits"}
    own = copy_of_mnist(tmp_path / "data", ("MNIST",))
    assert MNIST.choose({"pair": "shift"}, typed=frozenset(), data_dir=own) == ({"pair": "shift"}, ())
    kept, notes = MNIST.choose(full, typed=frozenset(), data_dir=own)
    assert kept == {"pair": ["shift"]}
    assert "pair=fmnist-mnist is left out" in notes[0]
    assert MNIST.choose({"pair": "digits"}, typed=frozenset(), data_dir=None) == ({"pair": "digits"}, ())
    monkeypatch.setattr(mnist, "find_weights", lambda data_dir: (None, "no weights on this machine"))
    for values in ({"pair": "digits"}, full):
        _, notes = MNIST.choose(values, typed=frozenset(), data_dir=tmp_path)
        assert notes[-1] == "task mnist: fid_inception and kid are skipped: no weights on this machine"


def test_descriptions_and_published_rows() -> None:
    assert task().describe().startswith("demo: ")
    assert task().published() is None
    real = task(pair="fmnist-mnist", size="default", space="pixel", target_labels=10)
    assert (
        real.describe()
        == "Fashion-MNIST to MNIST, class k to k, pixels, 10 labelled targets per class, 10 000 test images"
    )
    assert real.published() == Published("mnist", {"pair": "fmnist-mnist"})
    assert task(vae="conditional").describe().count("which reads the label at both ends") == 1
    assert task(space="pixel", vae="conditional").config == task(space="pixel").config
    assert [PAIRS[pair].shift for pair in ("fmnist-mnist", "transfer", "shift")] == [0, 5, 1]
    assert "reconstruction" not in real.controls()
    assert "real_images" in real.controls()


@pytest.mark.parametrize(
    "values", [{"pair": "mnits"}, {"digit": 10}, {"target_labels": 0}, {"space": "latnt"}, {"size": "huge"}]
)
def test_values_out_of_range(values: dict[str, object]) -> None:
    with pytest.raises(UsageError, match=next(iter(values))):
        task(**values)


def test_demo_from_the_command_line(cli: CLI, tmp_path: Path, latent: MNISTInstance) -> None:
    """All control rows are planned beside the one method that was asked for; two of them are run and shown."""
    words = ("--solvers", "identity", "--task", "mnist", "--preset", "smoke", "--threads", "1", "--out", tmp_path)
    code, text, _ = cli(*words, "--dry-run")
    assert code == 0
    for row in ("identity", "prior_sample", "class_mean", "classwise_linear", "reconstruction", "real_images"):
        assert re.search(rf"^{row} ", text, re.MULTILINE)
    registry = Registry()
    plan = make_plan(Request(solvers="identity", task="mnist", preset="smoke", device="cpu", threads=1), registry)
    some = tuple(run for run in plan.runs if run.spec.solver in ("prior_sample", "real_images"))
    execute(replace(plan, runs=some), Store(tmp_path))
    code, text, _ = cli("table", tmp_path)
    assert code == 0
    for said in ("prior_sample", "real_images", "demo: ", "450 test images", "95 % from"):
        assert said in text


def test_reference_rows_are_skipped_where_a_task_has_none(cli: CLI, tmp_path: Path, toy: str) -> None:
    words = ("--solvers", "real_images,identity", "--task", "toy", "--preset", "smoke", "--plugin", toy)
    code, text, _ = cli(*words, "--out", tmp_path)
    assert code == 0
    assert "no row of real_images" in text
