"""Networks that a task needs before any solver runs: VAEs and classifiers, trained from a seed, kept in the cache.

A file's name holds the hash of what it was made from (data, settings; `otbench.data.tensorfile`), so a network is never
taken for another one. The user's data folder may hold such files too, in `pretrained/`; they go first.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Generic, Literal, TypeAlias, TypeVar

import torch
from torch import Tensor, nn

from otbench.data.sources import Listener, MakeOptions, TrainedSource, silent
from otbench.data.tensorfile import held, kept, place
from otbench.datasets.mnist.images import SETS, ImageSet, SetName, all_present, load
from otbench.datasets.mnist.pretraining import (
    KINDS,
    SIZES,
    NetworkSettings,
    classifier_settings,
    vae_settings,
)
from otbench.errors import DataError, UsageError
from otbench.names import did_you_mean

What: TypeAlias = Literal["vae", "classifier"]
NetworkT = TypeVar("NetworkT", bound=nn.Module)


@dataclass(frozen=True)
class Trained(Generic[NetworkT]):
    """A network as it came out of training, in evaluation mode, without gradients."""

    network: NetworkT
    numbers: Mapping[str, float]
    digest: str


class NetworkSource(TrainedSource):
    """The VAEs of the image sets, or their classifiers."""

    def __init__(self, name: What) -> None:
        """Take `vae` or `classifier`."""
        self.name = name
        self.licence = "of the images that they are trained on"
        kinds = f"; kinds {', '.join(KINDS)}" if name == "vae" else ""
        self.what = f"{name}s of images; sets {', '.join(SETS)}{kinds}; sizes {', '.join(SIZES)}"

    def find(self, data_dir: Path | None) -> str | None:
        """Return the folder of the networks that tasks need by default; None unless all are there."""
        paths = self._here(data_dir)
        return str(next(iter(paths)).parent) if len(paths) == len(self._jobs(MakeOptions())) else None

    def verify(self, data_dir: Path | None) -> list[str]:
        """Read the networks that tasks need by default, as far as they are there; return a line for each."""
        lines = []
        for path, (data, settings) in self._here(data_dir).items():
            trained(data, settings, data_dir=data_dir, wanted=f"{path}: gone")
            lines.append(f"{path}: SHA-256 of its tensors: good")
        return lines

    def make(self, data_dir: Path | None, options: MakeOptions) -> list[Path]:
        """Train what `options` name and what is not there yet; return the files. See `TrainedSource.make`.

        `sets`: MNIST, FashionMNIST, digits; by default the first two, of classifiers the first. `kinds`, of VAEs only:
        conditional, unconditional. `size`: tiny, default, paper.
        """
        jobs = self._jobs(options)
        torch.set_num_threads(options.threads)
        # a forced training looks past the user's folder: nothing in there is ours to replace
        folder = None if options.force else data_dir
        device = torch.device(options.device)
        images = cache(load)  # one reading for all networks of a set
        made = []
        for name, settings in jobs:
            data = images(name, data_dir)
            trained(data, settings, data_dir=folder, device=device, listen=options.listen, force=options.force)
            made.append(network_path(name, data.digest, settings, folder))
        return made

    def _jobs(self, options: MakeOptions) -> list[tuple[SetName, NetworkSettings[nn.Module]]]:
        """Return each set with the settings of each network that `options` name."""
        size = _one_of(options.size, SIZES, "--size")
        kinds = KINDS if options.kinds is None else tuple(_one_of(kind, KINDS, "--kind") for kind in options.kinds)
        if options.kinds is not None and self.name == "classifier":
            raise UsageError("--kind: a classifier has no kinds; leave it out")
        default = SETS[:1] if self.name == "classifier" else SETS[:2]
        sets = default if options.sets is None else tuple(_one_of(name, SETS, "--set") for name in options.sets)
        if self.name == "classifier":
            return [(name, classifier_settings(size)) for name in sets]
        return [(name, vae_settings(name, kind, size)) for name in sets for kind in kinds]

    def _here(self, data_dir: Path | None) -> dict[Path, tuple[ImageSet, NetworkSettings[nn.Module]]]:
        """Return the files that are there of those that tasks need by default, and what they are made from."""
        found: dict[Path, tuple[ImageSet, NetworkSettings[nn.Module]]] = {}
        images = cache(load)
        for name, settings in self._jobs(MakeOptions()):
            # images are read only where something of that name is there: `data list` should not take seconds
            if held(settings.file_name(name), data_dir) and all_present([name], data_dir):
                data = images(name, data_dir)
                path = network_path(name, data.digest, settings, data_dir)
                if path.exists():
                    found[path] = data, settings
        return found


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
    listen: Listener = silent,
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
