"""Networks that a task needs before any solver runs: VAEs and classifiers, trained from a seed, kept in the cache.

A file's name holds the hash of what it was made from (data, settings), and the file holds the hash of its tensors, so a
network is never taken for another one. Files are tensors and numbers only, read with `weights_only=True`: nothing in
them is ever executed. The user's data folder may hold such files too, in `pretrained/`; they go first.
"""

from __future__ import annotations

import hashlib
import io
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Generic, Literal, TypeAlias, TypeVar, get_args, overload

import torch
from torch import Tensor, nn
from torch.nn import functional

from otbench.atomic import write_atomically
from otbench.data import cache_folder, require_file
from otbench.errors import DataError, DivergedError, StoreError, UsageError
from otbench.images import CLASSES, SETS, Images, ImageSet, SetName, load
from otbench.names import did_you_mean
from otbench.nets.classifier import Classifier
from otbench.nets.vae import VAE
from otbench.ops.schedule import warmup_cosine

FORMAT = 1
"""Version of the files. Raise it when their form, or the meaning of a setting, changes."""
Kind: TypeAlias = Literal["conditional", "unconditional"]
Size: TypeAlias = Literal["tiny", "default", "paper"]
What: TypeAlias = Literal["vae", "classifier"]
KINDS: tuple[Kind, ...] = get_args(Kind)
SIZES: tuple[Size, ...] = get_args(Size)
WHATS: tuple[What, ...] = get_args(What)


@dataclass(frozen=True)
class VAESettings:
    """All that a VAE depends on, data apart. Rates are Adam's; `decay` = warm-up and cosine to zero."""

    conditional: bool
    width: int = 16
    blocks: int = 1
    latent: int = 15
    beta: float = 1.0
    warmup: int = 0
    """Epochs over which the weight of the divergence rises to beta."""
    epochs: int = 40
    batch: int = 128
    lr: float = 1e-3
    decay: bool = True
    seed: int = 0

    def build(self) -> VAE:
        """Return the network, not trained; equal for equal settings, whatever the global random state."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            classes = CLASSES if self.conditional else 0
            return VAE(width=self.width, blocks=self.blocks, latent=self.latent, classes=classes)


@dataclass(frozen=True)
class ClassifierSettings:
    """All that a classifier depends on, data apart."""

    blocks: int = 2
    epochs: int = 4
    batch: int = 64
    lr: float = 1e-3
    decay: bool = True
    seed: int = 0

    def build(self) -> Classifier:
        """Return the network, not trained; equal for equal settings, whatever the global random state."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            return Classifier(blocks=self.blocks, classes=CLASSES)


def vae_settings(name: SetName, kind: Kind, size: Size) -> VAESettings:
    """Return the settings of one set.

    `paper` is the fixed-point paper's network and training (its rate as in the released code); `default` is a quarter
    of its width with one residual block in place of three, 40 epochs; `tiny` is for the bundled digits. The weight of
    the divergence is the paper's: 1 on Fashion-MNIST, 0.1 on digits.
    """
    conditional, clothes = kind == "conditional", name == "FashionMNIST"
    beta = 1.0 if clothes else 0.1
    if size == "paper":
        return VAESettings(
            conditional, width=64, blocks=3, beta=beta, warmup=20 if clothes else 0, epochs=1000, decay=False
        )
    if size == "default":
        return VAESettings(conditional, beta=beta, warmup=2 if clothes else 0)
    return VAESettings(conditional, width=8, latent=8, beta=beta, epochs=12, batch=64, lr=3e-3)


def classifier_settings(size: Size) -> ClassifierSettings:
    """Return the settings of a classifier: `paper` has GNOT's constant rate, `default` a decaying one, sooner done."""
    if size == "tiny":
        return ClassifierSettings(blocks=1, epochs=1, batch=16)
    return ClassifierSettings() if size == "default" else ClassifierSettings(epochs=10, decay=False)


@dataclass(frozen=True)
class Progress:
    """Where a training is: `epoch` of `epochs` done after `seconds`; `text` says how good it is by now."""

    name: str
    epoch: int
    epochs: int
    seconds: float
    text: str


Listener: TypeAlias = Callable[[Progress], None]


def _silent(progress: Progress) -> None:
    """Say nothing."""


@dataclass(frozen=True)
class Stored:
    """What a cache file holds.

    Attributes:
        tensors: by name, on the CPU.
        numbers: what is known of them (accuracy, losses).
        digest: SHA-256 of the tensors, hexadecimal.
    """

    tensors: Mapping[str, Tensor]
    numbers: Mapping[str, float]
    digest: str


NetworkT = TypeVar("NetworkT", bound=nn.Module)


@dataclass(frozen=True)
class Trained(Generic[NetworkT]):
    """A network as it came out of training, in evaluation mode, without gradients."""

    network: NetworkT
    numbers: Mapping[str, float]
    digest: str


# ------------------------------------------------------------------------------------------------------------- make


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
        jobs: list[VAESettings | ClassifierSettings] = [classifier_settings(chosen_size)]
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


def network_path(
    name: str, digest: str, settings: VAESettings | ClassifierSettings, data_dir: Path | None = None
) -> Path:
    """Return where the network of these images and settings lies or will lie."""
    if isinstance(settings, ClassifierSettings):
        head = f"classifier-{name}"
    else:
        head = f"vae-{name}-{'conditional' if settings.conditional else 'unconditional'}"
    return _path(head, _identity(digest, settings), data_dir)


def _identity(digest: str, settings: VAESettings | ClassifierSettings) -> str:
    return json.dumps({"data": digest, type(settings).__name__: asdict(settings)}, sort_keys=True)


@overload
def trained(
    data: ImageSet,
    settings: VAESettings,
    *,
    data_dir: Path | None = None,
    device: torch.device | None = None,
    listen: Listener = _silent,
    wanted: str = "",
    force: bool = False,
) -> Trained[VAE]: ...


@overload
def trained(
    data: ImageSet,
    settings: ClassifierSettings,
    *,
    data_dir: Path | None = None,
    device: torch.device | None = None,
    listen: Listener = _silent,
    wanted: str = "",
    force: bool = False,
) -> Trained[Classifier]: ...


@overload
def trained(
    data: ImageSet,
    settings: VAESettings | ClassifierSettings,
    *,
    data_dir: Path | None = None,
    device: torch.device | None = None,
    listen: Listener = _silent,
    wanted: str = "",
    force: bool = False,
) -> Trained[VAE] | Trained[Classifier]: ...


def trained(
    data: ImageSet,
    settings: VAESettings | ClassifierSettings,
    *,
    data_dir: Path | None = None,
    device: torch.device | None = None,
    listen: Listener = _silent,
    wanted: str = "",
    force: bool = False,
) -> Trained[VAE] | Trained[Classifier]:
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

    def fit() -> tuple[Mapping[str, Tensor], Mapping[str, float]]:
        if isinstance(settings, ClassifierSettings):
            return _fit_classifier(data, settings, device, listen)
        return _fit_vae(data, settings, device, listen)

    stored = kept(path, _identity(data.digest, settings), fit, force=force)
    if isinstance(settings, ClassifierSettings):
        classifier = settings.build()
        _fill(classifier, stored.tensors, path)
        return Trained(classifier.to(device).eval().requires_grad_(False), stored.numbers, stored.digest)
    vae = settings.build()
    _fill(vae, stored.tensors, path)
    return Trained(vae.to(device).eval().requires_grad_(False), stored.numbers, stored.digest)


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


# ------------------------------------------------------------------------------------------------------------ files


def kept(
    path: Path,
    identity: str,
    make_it: Callable[[], tuple[Mapping[str, Tensor], Mapping[str, float]]],
    *,
    force: bool = False,
) -> Stored:
    """Return what `path` holds; if it does not exist, make it and write it there as a whole.

    Args:
        path: the file.
        identity: what it was made from, in words; a file of another identity is refused.
        make_it: returns tensors and numbers.
        force: make it even if `path` exists, which stays as it is until then.

    Raises:
        DataError: the file is damaged, foreign, of another identity, or holds code.
        StoreError: it cannot be written.
    """
    if force or not path.exists():
        tensors, numbers = make_it()
        tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
        content = {
            "format": FORMAT,
            "made_of": identity,
            "tensors": tensors,
            "numbers": {name: float(value) for name, value in numbers.items()},
            "digest": _digest(tensors),
        }
        buffer = io.BytesIO()
        torch.save(content, buffer)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, buffer.getvalue())
        except OSError as error:
            raise StoreError(f"cannot write '{path}': {error.strerror or error}; free space or permissions") from error
    return _read(path, identity)


def cached(head: str, identity: Mapping[str, object], make_it: Callable[[], Mapping[str, Tensor]]) -> Stored:
    """Return tensors that follow from `identity`, made once and kept in the user's cache."""
    text = json.dumps(identity, sort_keys=True)
    return kept(_path(head, text, None), text, lambda: (make_it(), {}))


def _path(head: str, identity: str, data_dir: Path | None) -> Path:
    key = hashlib.sha256(f"{FORMAT} {identity}".encode()).hexdigest()[:16]
    name = f"{head}-{key}.pt"
    own = None if data_dir is None else data_dir / "pretrained" / name
    return own if own is not None and own.exists() else cache_folder() / "pretrained" / name


def _read(path: Path, identity: str) -> Stored:
    require_file(path)
    again = "Remove the file and make it again (data make)"
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged or hostile file can raise anything; nothing in it was executed
        code = "Unsupported" in str(error) or "weights_only" in str(error).lower()
        why = "it holds more than tensors, which could be code, and was not opened" if code else "it is damaged"
        raise DataError(f"{path}: not a network of otbench: {why}. {again}") from error
    known = isinstance(content, dict) and content.get("format") == FORMAT
    if not (known and _are(content.get("tensors"), Tensor) and _are(content.get("numbers"), float)):
        raise DataError(f"{path}: not a network of otbench, or of another version. {again}")
    if content.get("made_of") != identity:
        raise DataError(f"{path}: made from other data or settings than its name says. {again}")
    tensors = content["tensors"]
    if content.get("digest") != _digest(tensors):
        raise DataError(f"{path}: wrong checksum of its tensors: the file was changed or damaged. {again}")
    return Stored(tensors, content["numbers"], str(content["digest"]))


def _are(values: object, kind: type) -> bool:
    return isinstance(values, dict) and all(isinstance(k, str) and isinstance(v, kind) for k, v in values.items())


def _digest(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


# --------------------------------------------------------------------------------------------------------- training


class _Epochs:
    """Shuffled batches of one training, and its rate; moved to the device as they are used."""

    def __init__(self, data: Images, batch: int, epochs: int, seed: int, device: torch.device) -> None:
        self._pixels, self._label = data.pixels.to(device), data.label.to(device)
        self._generator = torch.Generator().manual_seed(seed)
        self.batch = min(batch, len(data.label))
        self.per_epoch = len(data.label) // self.batch  # the rest of an epoch is left out, a new one each time
        self.total = epochs * self.per_epoch
        self.taken = 0

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        order = torch.randperm(len(self._label), generator=self._generator).to(self._label.device)
        for k in range(self.per_epoch):
            index = order[k * self.batch : (k + 1) * self.batch]
            yield self._pixels[index][:, None].float() / 255, self._label[index]
            self.taken += 1

    def rate(self, decay: bool) -> float:
        return warmup_cosine(self.taken / self.total) if decay else 1.0


def _fit_vae(
    data: ImageSet, settings: VAESettings, device: torch.device, listen: Listener
) -> tuple[Mapping[str, Tensor], Mapping[str, float]]:
    """Return the weights of the epoch with the lowest training loss, and its losses (nats per image)."""
    begin = time.perf_counter()
    network = settings.build().to(device)
    optimiser = torch.optim.Adam(network.parameters(), lr=settings.lr)
    epochs = _Epochs(data.train, settings.batch, settings.epochs, settings.seed, device)
    noise = torch.Generator(device).manual_seed(settings.seed)
    best: tuple[float, dict[str, Tensor], dict[str, float]] | None = None
    for epoch in range(1, settings.epochs + 1):
        beta = settings.beta * min(1.0, epoch / (settings.warmup + 1))
        sums = torch.zeros(2, device=device)
        for x, label in epochs:
            for group in optimiser.param_groups:
                group["lr"] = settings.lr * epochs.rate(settings.decay)
            loss = network.loss(x, label if settings.conditional else None, noise)
            optimiser.zero_grad()
            (loss.reconstruction + beta * loss.divergence).backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            sums += torch.stack(loss).detach()
        reconstruction, divergence = (sums / epochs.per_epoch).tolist()
        total = reconstruction + settings.beta * divergence
        _refuse_nan(total, "the VAE", epoch)
        # while the weight of the divergence still rises, losses of epochs do not compare
        if epoch > settings.warmup and (best is None or total < best[0]):
            state = {name: tensor.detach().cpu().clone() for name, tensor in network.state_dict().items()}
            numbers = {"cross_entropy": reconstruction, "divergence": divergence, "epoch": float(epoch)}
            best = total, state, numbers
        text = f"loss {total:.2f} ({reconstruction:.2f} + {settings.beta:g} x {divergence:.2f})"
        kind = "conditional" if settings.conditional else "unconditional"
        seconds = time.perf_counter() - begin
        listen(Progress(f"{kind} VAE of {data.name}", epoch, settings.epochs, seconds, text))
    if best is None:
        raise UsageError("a VAE needs more epochs than its warm-up has")
    return best[1], best[2]


def _fit_classifier(
    data: ImageSet, settings: ClassifierSettings, device: torch.device, listen: Listener
) -> tuple[Mapping[str, Tensor], Mapping[str, float]]:
    """Return the weights after the last epoch, and the accuracy on the test images in evaluation mode (%)."""
    begin = time.perf_counter()
    network = settings.build().to(device)
    optimiser = torch.optim.Adam(network.parameters(), lr=settings.lr)
    epochs = _Epochs(data.train, settings.batch, settings.epochs, settings.seed, device)
    accuracy = 0.0
    for epoch in range(1, settings.epochs + 1):
        network.train()
        total = torch.zeros((), device=device)
        for x, label in epochs:
            for group in optimiser.param_groups:
                group["lr"] = settings.lr * epochs.rate(settings.decay)
            loss = functional.cross_entropy(network(2 * x - 1), label)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            total += loss.detach()
        mean = float(total) / epochs.per_epoch
        _refuse_nan(mean, "the classifier", epoch)
        _, found = network.look(data.test.unit(device))
        accuracy = 100 * float((found.cpu() == data.test.label).double().mean())
        text = f"loss {mean:.4f}, test accuracy {accuracy:.2f} %"
        listen(Progress(f"classifier of {data.name}", epoch, settings.epochs, time.perf_counter() - begin, text))
    return network.state_dict(), {"test_accuracy": accuracy}


def _refuse_nan(value: float, what: str, epoch: int) -> None:
    if value != value or abs(value) == float("inf"):
        raise DivergedError(f"the training of {what} left the finite numbers in epoch {epoch}; take a lower rate")
