"""Networks that a task needs before any solver runs: VAEs and classifiers, trained from a seed, kept in the cache.

A file's name holds the hash of what it was made from (data, settings; `otbench.data.tensorfile`), so a network is never
taken for another one. The user's data folder may hold such files too, in `pretrained/`; they go first.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Generic, Literal, TypeAlias, TypeVar, get_args

import torch
from torch import Tensor, nn

from otbench.data.tensorfile import kept, place
from otbench.datasets.mnist.images import SETS, ImageSet, load
from otbench.datasets.mnist.pretraining import (
    KINDS,
    SIZES,
    Listener,
    NetworkSettings,
    Progress,
    classifier_settings,
    vae_settings,
)
from otbench.errors import DataError, UsageError
from otbench.names import did_you_mean

What: TypeAlias = Literal["vae", "classifier"]
WHATS: tuple[What, ...] = get_args(What)
NetworkT = TypeVar("NetworkT", bound=nn.Module)


def _silent(progress: Progress) -> None:
    """Say nothing."""


@dataclass(frozen=True)
class Trained(Generic[NetworkT]):
    """A network as it came out of training, in evaluation mode, without gradients."""

    network: NetworkT
    numbers: Mapping[str, float]
    digest: str


def make(
    what: str,
    sets: Sequence[str] | None = None,
    *,
    kinds: Sequence[str] | None = None,
    size: str = "default",
    data_dir: Path | None = None,
    device: str = "cpu",
    threads: int = 1,
    force: bool = False,
    listen: Listener = _silent,
) -> list[Path]:
    """Make the networks that a task needs and that are not there yet.

    Args:
        what: `vae` or `classifier`.
        sets: for which images: `MNIST`, `FashionMNIST`, `digits`; None = the first two, of classifiers the first.
        kinds: of VAEs: `conditional`, `unconditional`; None = both.
        size: of networks and trainings: `tiny`, `default`, `paper`.
        data_dir: the user's own data, if any.
        device: where to train.
        threads: of the CPU.
        force: make it even if it is there, in the cache; a file that is there stays until the new one is whole.
        listen: told of every epoch.

    Returns:
        The files.

    Raises:
        UsageError: an unknown word.
        DataError: images are missing or damaged, or a file that is there is no such network.
        StoreError: the cache cannot be written.
    """
    _one_of(what, WHATS, "data make")
    chosen_size = _one_of(size, SIZES, "--size")
    chosen_kinds = KINDS if kinds is None else tuple(_one_of(kind, KINDS, "--kind") for kind in kinds)
    if kinds is not None and what == "classifier":
        raise UsageError("--kind: a classifier has no kinds; leave it out")
    if sets is None:
        sets = SETS[:1] if what == "classifier" else SETS[:2]
    chosen_sets = tuple(_one_of(name, SETS, "--set") for name in sets)
    torch.set_num_threads(threads)
    made = []
    for name in chosen_sets:
        data = load(name, data_dir)
        jobs: list[NetworkSettings[nn.Module]] = [classifier_settings(chosen_size)]
        if what == "vae":
            jobs = [vae_settings(name, kind, chosen_size) for kind in chosen_kinds]
        for settings in jobs:
            # a forced training looks past the user's folder: nothing in there is ours to replace
            folder = None if force else data_dir
            trained(data, settings, data_dir=folder, device=torch.device(device), listen=listen, force=force)
            made.append(network_path(name, data.digest, settings, folder))
    return made


WordT = TypeVar("WordT", bound=str)


def _one_of(word: str, known: Sequence[WordT], option: str) -> WordT:
    for one in known:
        if one == word:
            return one
    raise UsageError(f"{option} '{word}'{did_you_mean(word, known) or ': use ' + ', '.join(known)}")


def network_path(name: str, digest: str, settings: NetworkSettings[nn.Module], data_dir: Path | None = None) -> Path:
    """Return where the network of these images and settings lies or will lie."""
    return place(settings.file_name(name), _identity(digest, settings), data_dir)


def _identity(digest: str, settings: NetworkSettings[nn.Module]) -> str:
    return json.dumps({"data": digest, type(settings).__name__: asdict(settings)}, sort_keys=True)


def trained(
    data: ImageSet,
    settings: NetworkSettings[NetworkT],
    *,
    data_dir: Path | None = None,
    device: torch.device | None = None,
    listen: Listener = _silent,
    wanted: str = "",
    force: bool = False,
) -> Trained[NetworkT]:
    """Return the network of these images and settings, on `device`: from a file, or trained and kept.

    Args:
        data: images.
        settings: of network and training.
        data_dir: the user's own data, if any; `pretrained/` in it is looked into first.
        device: where to train, and where the network goes (default: the CPU).
        listen: told of every epoch.
        wanted: what to say where there is no file; empty = train it then.
        force: train it even if there is a file, and replace that.

    Raises:
        DataError: there is no file and `wanted` was given, or the file is damaged or of another architecture.
    """
    device = device or torch.device("cpu")
    path = network_path(data.name, data.digest, settings, data_dir)
    if wanted and not path.exists():
        raise DataError(wanted)
    stored = kept(path, _identity(data.digest, settings), lambda: settings.fit(data, device, listen), force=force)
    network = settings.build()
    _fill(network, stored.tensors, path)
    return Trained(network.to(device).eval().requires_grad_(False), stored.numbers, stored.digest)


def _fill(network: nn.Module, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Put `tensors` into `network`.

    Raises:
        DataError: names or shapes are not those of this architecture.
    """
    expected = network.state_dict()
    wrong = sorted(expected.keys() ^ tensors.keys()) or [
        name for name, tensor in expected.items() if tensor.shape != tensors[name].shape
    ]
    if wrong:
        raise DataError(
            f"{path}: a network of another architecture: {len(wrong)} tensors do not fit, the first is '{wrong[0]}'. "
            "Remove the file and make it again (data make)"
        )
    network.load_state_dict(dict(tensors))
