from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from otbench.data.sources import MakeOptions, Progress
from otbench.data.tensorfile import cached, digest_of, kept
from otbench.datasets.mnist import pretrained
from otbench.datasets.mnist.images import Images, ImageSet, load
from otbench.datasets.mnist.pretrained import NetworkSource, network_path, trained
from otbench.datasets.mnist.pretraining import (
    SIZES,
    ClassifierSettings,
    VAESettings,
    classifier_settings,
    vae_settings,
)
from otbench.errors import DataError, DivergedError, StoreError, UsageError

SMALL = VAESettings(conditional=True, width=2, latent=2, epochs=2, batch=16)
NETWORKS = [SMALL, replace(SMALL, conditional=False, warmup=1), ClassifierSettings(blocks=1, epochs=1, batch=16)]
CLI = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of this test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "otbench" / "pretrained"


@pytest.fixture(scope="module")
def data() -> ImageSet:
    whole = load("digits", None)
    train, test = (Images(part.pixels[:48], part.label[:48]) for part in (whole.train, whole.test))
    return ImageSet("digits", train, test, "a" * 64)


def train(data: ImageSet, settings: VAESettings | ClassifierSettings, heard: list[Progress] | None = None) -> object:
    return trained(data, settings, listen=(heard if heard is not None else []).append)


@pytest.mark.parametrize("settings", NETWORKS, ids=str)
def test_training_is_reproducible_and_happens_once(
    data: ImageSet, settings: VAESettings | ClassifierSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[Progress] = []
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    first = trained(data, settings, listen=heard.append)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert [p.epoch for p in heard] == list(range(1, settings.epochs + 1))
    again = trained(data, settings, listen=heard.append)
    assert len(heard) == settings.epochs
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "elsewhere"))
    torch.manual_seed(2)
    afresh = trained(data, settings, listen=heard.append)
    assert len(heard) == 2 * settings.epochs
    other = trained(data, replace(settings, seed=1))
    assert first.digest == again.digest == afresh.digest != other.digest
    assert first.numbers == again.numbers == afresh.numbers
    for one, two in zip(again.network.state_dict().values(), afresh.network.state_dict().values(), strict=True):
        assert torch.equal(one, two)
    assert not again.network.training
    assert not any(p.requires_grad for p in again.network.parameters())


def test_training_lowers_the_loss(data: ImageSet) -> None:
    heard: list[Progress] = []
    train(data, replace(SMALL, epochs=8, lr=1e-2), heard)
    losses = [float(p.text.split()[1]) for p in heard]
    assert losses[-1] < 0.9 * losses[0]


def test_names_tell_data_and_settings_apart(data: ImageSet) -> None:
    paths = {network_path("digits", data.digest, settings) for settings in NETWORKS}
    paths |= {network_path("digits", "b" * 64, SMALL), network_path("digits", data.digest, replace(SMALL, beta=2))}
    assert len(paths) == len(NETWORKS) + 2


def test_the_data_folder_goes_first(data: ImageSet, tmp_path: Path, cache: Path) -> None:
    own = tmp_path / "data" / "pretrained"
    own.mkdir(parents=True)
    train(data, SMALL)
    (made,) = cache.iterdir()
    made.rename(own / made.name)
    heard: list[Progress] = []
    trained(data, SMALL, data_dir=tmp_path / "data", listen=heard.append)
    assert not heard
    assert not list(cache.iterdir())


def test_interrupted_training_leaves_nothing(data: ImageSet, cache: Path) -> None:
    def interrupt(progress: Progress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained(data, SMALL, listen=interrupt)
    assert not cache.exists()


def test_forced_training_keeps_the_old_network_until_the_new_one_is_whole(
    data: ImageSet, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pretrained, "load", lambda name, data_dir: data)
    monkeypatch.setattr(pretrained, "vae_settings", lambda name, kind, size: SMALL)
    train(data, SMALL)
    (path,) = cache.iterdir()
    own = tmp_path / "data" / "pretrained"
    own.mkdir(parents=True)
    (own / path.name).write_bytes(b"the user's own")
    before = path.read_bytes()
    options = MakeOptions(sets=["digits"], kinds=["conditional"], force=True)

    def interrupt(progress: Progress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        NetworkSource("vae").make(tmp_path / "data", replace(options, listen=interrupt))
    assert path.read_bytes() == before
    path.write_bytes(b"damaged")
    made = NetworkSource("vae").make(tmp_path / "data", options)
    assert made == [path]
    assert trained(data, SMALL).numbers["epoch"] > 0
    assert (own / path.name).read_bytes() == b"the user's own"


def test_full_disk_leaves_nothing(data: ImageSet, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(StoreError, match="No space left"):
        train(data, SMALL)
    assert not list(cache.iterdir())


def test_diverged_training_is_said_and_not_kept(data: ImageSet, cache: Path) -> None:
    with pytest.raises(DivergedError, match="lower rate"):
        train(data, replace(SMALL, lr=1e30))
    assert not cache.exists()


class _Code:
    """What a hostile file would hold: unpickling it creates a file."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.proof,))


def spoil(path: Path, how: str, proof: Path) -> None:
    content = torch.load(path, weights_only=True)
    tensors = content["tensors"]
    if how == "code":
        torch.save(content | {"numbers": _Code(proof)}, path)
    elif how == "plain pickle":
        path.write_bytes(pickle.dumps(_Code(proof)))
    elif how == "truncated":
        path.write_bytes(path.read_bytes()[:-1000])
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "state dict":
        torch.save(tensors, path)
    elif how == "changed":
        tensors["mean.bias"] += 1
        torch.save(content, path)
    elif how == "settings":
        torch.save(content | {"made_of": "something else"}, path)
    elif how == "numbers":
        torch.save(content | {"numbers": {"x": "many"}}, path)
    else:
        other = {f"{name}.x" if how == "names" else name: t.flatten()[:1] for name, t in tensors.items()}
        torch.save(content | {"tensors": other, "digest": digest_of(other)}, path)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("code", "could be code, and was not opened"),
        ("plain pickle", "not a network of otbench"),
        ("truncated", "damaged"),
        ("empty", "damaged"),
        ("state dict", "not a network of otbench"),
        ("changed", "wrong checksum"),
        ("settings", "other data or settings"),
        ("numbers", "not a network of otbench"),
        ("names", "another architecture"),
        ("shapes", "another architecture"),
    ],
)
def test_bad_files_are_one_message(data: ImageSet, cache: Path, tmp_path: Path, how: str, message: str) -> None:
    train(data, SMALL)
    (path,) = cache.iterdir()
    proof = tmp_path / "proof"
    spoil(path, how, proof)
    content = path.read_bytes()
    with pytest.raises(DataError, match=message) as error:
        train(data, SMALL)
    assert str(path) in str(error.value)
    assert not proof.exists()
    assert [p.name for p in cache.iterdir()] == [path.name]
    assert path.read_bytes() == content  # a user's file is never replaced unasked


def test_missing_networks_are_asked_for(data: ImageSet) -> None:
    with pytest.raises(DataError, match="make it once"):
        trained(data, SMALL, wanted="make it once")


def test_tensors_are_made_once(cache: Path) -> None:
    calls: list[int] = []

    def make_it() -> dict[str, torch.Tensor]:
        calls.append(1)
        return {"x": torch.arange(3)}

    for _ in range(2):
        assert torch.equal(cached("codes", {"of": "a"}, make_it).tensors["x"], torch.arange(3))
    cached("codes", {"of": "b"}, make_it)
    assert len(calls) == 2
    assert len(list(cache.iterdir())) == 2


def test_damaged_tensors_that_follow_from_others_are_made_again(cache: Path) -> None:
    def make_it() -> dict[str, torch.Tensor]:
        return {"x": torch.arange(3)}

    cached("codes", {"of": "a"}, make_it)
    (path,) = cache.iterdir()
    whole = path.read_bytes()
    path.write_bytes(whole[:100])
    assert torch.equal(cached("codes", {"of": "a"}, make_it).tensors["x"], torch.arange(3))
    assert path.read_bytes() == whole


def test_folders_are_no_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is a folder"):
        kept(tmp_path, "", lambda: ({}, {}))


def test_sizes() -> None:
    paper = vae_settings("FashionMNIST", "conditional", "paper")
    assert (paper.width, paper.blocks, paper.latent, paper.epochs, paper.warmup, paper.beta) == (64, 3, 15, 1000, 20, 1)
    assert vae_settings("MNIST", "conditional", "paper").beta == 0.1
    assert vae_settings("MNIST", "unconditional", "default").epochs == 40
    cost = {size: sum(p.numel() for p in vae_settings("MNIST", "conditional", size).build().parameters())
            for size in SIZES}  # fmt: skip
    assert cost["tiny"] < cost["default"] < cost["paper"] / 10
    assert (classifier_settings("default").epochs, classifier_settings("paper").epochs) == (4, 10)


def test_trained_sources_are_listed_fetched_and_verified_like_all_others(
    cli: CLI, cache: Path, data: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OTBENCH_DATA_DIR", raising=False)
    monkeypatch.setattr(pretrained, "load", lambda name, data_dir: replace(data, name=name, digest=name))
    monkeypatch.setattr(pretrained, "all_present", lambda names, data_dir: True)
    monkeypatch.setattr(pretrained, "vae_settings", lambda name, kind, size: replace(SMALL, conditional=kind[0] == "c"))
    code, out, _ = cli("data", "list")
    assert code == 0
    assert "sets MNIST, FashionMNIST, digits; kinds conditional, unconditional; sizes tiny, default, paper" in out
    assert "not on this machine; `data fetch vae` gets it" in out
    assert "trained on this machine" in out
    assert "classifier: classifiers of images" in out
    code, out, err = cli("data", "fetch", "vae")
    assert (code, err) == (0, "")
    assert "epoch 1 of 2" in out
    assert out.count("ready: ") == len(list(cache.iterdir())) == 4
    assert f"here: {cache}" in cli("data", "list", "vae")[1]
    assert cli("data", "verify", "vae")[1].count("SHA-256 of its tensors: good") == 4
    spoil(next(cache.iterdir()), "changed", cache / "proof")
    code, _, err = cli("data", "verify", "vae")
    assert code == 2
    assert "wrong checksum" in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("vea",), "vae"),
        (("MNIST",), "use vae, classifier"),
        (("vae", "--set", "MNITS"), "MNIST"),
        (("vae", "--kind", "conditonal"), "conditional"),
        (("vae", "--size", "huge"), "default"),
        (("classifier", "--kind", "conditional"), "has no kinds"),
        (("vae", "--threads", "0"), "--threads 0"),
        (("vae", "--data-dir", "/no/such"), "no such folder"),
        (("vae", "--device", "tpu"), "--device tpu"),
        ((), "vae or classifier"),
    ],
)
def test_wrong_words_are_one_message(cli: CLI, cache: Path, words: tuple[str, ...], message: str) -> None:
    code, out, error = cli("data", "make", *words)
    assert code == 2
    assert message in error
    assert len(error.splitlines()) == 1
    assert not out
    assert not cache.exists()


def test_command_line_makes_and_refuses_what_is_spoilt(
    cli: CLI, cache: Path, data: ImageSet, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(pretrained, "load", lambda name, data_dir: data)
    monkeypatch.setattr(pretrained, "vae_settings", lambda name, kind, size: replace(SMALL, conditional=kind[0] == "c"))
    words = ("data", "make", "vae", "--set", "digits", "--size", "tiny", "--threads", "1")
    code, out, error = cli(*words)
    assert (code, error) == (0, "")
    assert "epoch 2 of 2" in out
    assert out.count("ready: ") == 2
    assert len(list(cache.iterdir())) == 2
    path = next(p for p in cache.iterdir() if "-conditional" in p.name)
    spoil(path, "code", tmp_path / "proof")
    code, _, error = cli(*words)
    assert code == 2
    assert len(error.splitlines()) == 1
    assert "was not opened" in error
    assert not (tmp_path / "proof").exists()
    code, out, _ = cli(*words, "--force")
    assert code == 0
    assert "epoch 1 of 2" in out
    with pytest.raises(UsageError, match="'mnits'"):
        NetworkSource("vae").make(None, MakeOptions(sets=["mnits"]))
