"""Networks that are trained before any solver runs: all that a VAE or a classifier depends on, and its training."""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar, Generic, Literal, NamedTuple, TypeAlias, TypeVar, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from otbench.data.sources import Listener, Progress
from otbench.datasets.mnist.images import CLASSES, Images, ImageSet, SetName
from otbench.errors import DivergedError, UsageError
from otbench.nets.classifier import Classifier
from otbench.nets.vae import VAE
from otbench.ops.descent import descend, set_rates
from otbench.ops.schedule import warmup_cosine

Kind: TypeAlias = Literal["conditional", "unconditional"]
Size: TypeAlias = Literal["tiny", "default", "paper"]
KINDS: tuple[Kind, ...] = get_args(Kind)
SIZES: tuple[Size, ...] = get_args(Size)
NetworkT_co = TypeVar("NetworkT_co", bound=nn.Module, covariant=True)


class _Epoch(NamedTuple):
    """What an epoch came to: the network as it is now, its loss, and a score by which the lowest and latest is kept."""

    network: nn.Module
    loss: float
    score: float | None
    """None: not to be kept."""
    numbers: Mapping[str, float]
    text: str


@dataclass(frozen=True, kw_only=True)
class NetworkSettings(ABC, Generic[NetworkT_co]):
    """All that a network depends on, data apart; names and values are part of its file's identity.

    Attributes:
        epochs: of training.
        batch: images of a step.
        lr: rate of Adam, at its peak.
        decay: whether it warms up and falls to zero along a cosine.
        seed: of first weights, order of images and noise.
    """

    epochs: int
    batch: int
    lr: float = 1e-3
    decay: bool = True
    seed: int = 0

    label: ClassVar[str]
    """What the network is, without its kind."""

    @property
    def kind(self) -> str:
        """Which of several networks of one label it is; empty where there is one only."""
        return ""

    @property
    def words(self) -> str:
        """What the network is, for messages."""
        return f"{self.kind} {self.label}".strip()

    @property
    def command(self) -> str:
        """What makes it, as typed behind `data make`."""
        return self.label.lower() + (f" --kind {self.kind}" if self.kind else "")

    def file_name(self, images: str) -> str:
        """Return how the name of the file begins, for a set named `images`."""
        return f"{self.label.lower()}-{images}" + (f"-{self.kind}" if self.kind else "")

    def build(self) -> NetworkT_co:
        """Return the network, not trained; equal for equal settings, whatever the global random state."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            return self._build()

    @abstractmethod
    def _build(self) -> NetworkT_co: ...

    def fit(
        self, data: ImageSet, device: torch.device, listen: Listener
    ) -> tuple[Mapping[str, Tensor], Mapping[str, float]]:
        """Train on `device`, telling `listen` of every epoch; return the best weights, and what is known of them.

        Raises:
            DivergedError: the loss left the finite numbers.
            UsageError: the settings allow no training.
        """
        begin = time.perf_counter()
        best: _Epoch | None = None
        for epoch, done in enumerate(self._epochs(data, device), 1):
            if not math.isfinite(done.loss):
                raise DivergedError(
                    f"the training of the {self.words} left the finite numbers in epoch {epoch}; take a lower rate"
                )
            if done.score is not None and (best is None or best.score is None or done.score <= best.score):
                best = done
                state = {name: tensor.detach().cpu().clone() for name, tensor in done.network.state_dict().items()}
            seconds = time.perf_counter() - begin
            listen(Progress(f"{self.words} of {data.name}", epoch, self.epochs, seconds, done.text))
        if best is None:
            raise UsageError(f"a {self.words} needs more epochs than its warm-up has")
        return state, best.numbers

    @abstractmethod
    def _epochs(self, data: ImageSet, device: torch.device) -> Iterator[_Epoch]:
        """Train on `device`; yield what each epoch came to."""


@dataclass(frozen=True, kw_only=True)
class VAESettings(NetworkSettings[VAE]):
    """All that a VAE depends on."""

    conditional: bool
    width: int = 16
    blocks: int = 1
    latent: int = 15
    beta: float = 1.0
    warmup: int = 0
    """Epochs over which the weight of the divergence rises to beta."""
    epochs: int = 40
    batch: int = 128
    label = "VAE"

    @property
    def kind(self) -> Kind:
        """Whether the network is told the class."""
        return "conditional" if self.conditional else "unconditional"

    def _build(self) -> VAE:
        classes = CLASSES if self.conditional else 0
        return VAE(width=self.width, blocks=self.blocks, latent=self.latent, classes=classes)

    def _epochs(self, data: ImageSet, device: torch.device) -> Iterator[_Epoch]:
        """Yield losses in nats per image; the lowest is the best."""
        network = self.build().to(device)
        training = _Training(self, network, data.train, device)
        noise = torch.Generator(device).manual_seed(self.seed)
        for epoch in range(1, self.epochs + 1):
            beta = self.beta * min(1.0, epoch / (self.warmup + 1))
            sums = torch.zeros(2, device=device)
            for x, label in training.epoch():
                loss = network.loss(x, label if self.conditional else None, noise)
                training.step(loss.reconstruction + beta * loss.divergence)
                sums += torch.stack(loss).detach()
            reconstruction, divergence = (sums / training.per_epoch).tolist()
            total = reconstruction + self.beta * divergence
            numbers = {"cross_entropy": reconstruction, "divergence": divergence, "epoch": float(epoch)}
            text = f"loss {total:.2f} ({reconstruction:.2f} + {self.beta:g} x {divergence:.2f})"
            # while the weight of the divergence still rises, losses of epochs do not compare
            yield _Epoch(network, total, total if epoch > self.warmup else None, numbers, text)


@dataclass(frozen=True, kw_only=True)
class ClassifierSettings(NetworkSettings[Classifier]):
    """All that a classifier depends on."""

    blocks: int = 2
    epochs: int = 4
    batch: int = 64
    label = "classifier"

    def _build(self) -> Classifier:
        return Classifier(blocks=self.blocks, classes=CLASSES)

    def _epochs(self, data: ImageSet, device: torch.device) -> Iterator[_Epoch]:
        """Yield the accuracy on the test images in evaluation mode (%); the last epoch is the one that counts."""
        network = self.build().to(device)
        training = _Training(self, network, data.train, device)
        for _ in range(self.epochs):
            network.train()
            total = torch.zeros((), device=device)
            for x, label in training.epoch():
                loss = functional.cross_entropy(network(2 * x - 1), label)
                training.step(loss)
                total += loss.detach()
            mean = float(total) / training.per_epoch
            _, found = network.look(data.test.unit(device))
            accuracy = 100 * float((found.cpu() == data.test.label).double().mean())
            text = f"loss {mean:.4f}, test accuracy {accuracy:.2f} %"
            yield _Epoch(network, mean, 0.0, {"test_accuracy": accuracy}, text)


def vae_settings(name: SetName, kind: Kind, size: Size) -> VAESettings:
    """Return the settings of one set.

    `paper` is the fixed-point paper's network and training (its rate as in the released code); `default` is a quarter
    of its width with one residual block in place of three, 40 epochs; `tiny` is for the bundled digits. The weight of
    the divergence is the paper's: 1 on Fashion-MNIST, 0.1 on digits.
    """
    conditional, clothes = kind == "conditional", name == "FashionMNIST"
    beta = 1.0 if clothes else 0.1
    if size == "paper":
        warmup = 20 if clothes else 0
        return VAESettings(
            conditional=conditional, width=64, blocks=3, beta=beta, warmup=warmup, epochs=1000, decay=False
        )
    if size == "default":
        return VAESettings(conditional=conditional, beta=beta, warmup=2 if clothes else 0)
    return VAESettings(conditional=conditional, width=8, latent=8, beta=beta, epochs=12, batch=64, lr=3e-3)


def classifier_settings(size: Size) -> ClassifierSettings:
    """Return the settings of a classifier: `paper` has GNOT's constant rate, `default` a decaying one, sooner done."""
    if size == "tiny":
        return ClassifierSettings(blocks=1, epochs=1, batch=16)
    return ClassifierSettings() if size == "default" else ClassifierSettings(epochs=10, decay=False)


class _Training:
    """Shuffled batches of one training, and its steps of Adam; images move to the device once."""

    def __init__(
        self, settings: NetworkSettings[nn.Module], network: nn.Module, data: Images, device: torch.device
    ) -> None:
        self._pixels, self._label = data.pixels.to(device), data.label.to(device)
        self._generator = torch.Generator().manual_seed(settings.seed)
        self._settings = settings
        self._optimiser = torch.optim.Adam(network.parameters(), lr=settings.lr)
        self._batch = min(settings.batch, len(data.label))
        self.per_epoch = len(data.label) // self._batch  # the rest of an epoch is left out, a new one each time
        self._taken = 0

    def epoch(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield images (n, 1, height, width) in [0, 1] with their classes (n,), in a new order."""
        order = torch.randperm(len(self._label), generator=self._generator).to(self._label.device)
        for k in range(self.per_epoch):
            index = order[k * self._batch : (k + 1) * self._batch]
            yield self._pixels[index][:, None].float() / 255, self._label[index]

    def step(self, loss: Tensor) -> None:
        """Do one step down `loss`, shape ()."""
        rate = warmup_cosine(self._taken / (self._settings.epochs * self.per_epoch)) if self._settings.decay else 1.0
        set_rates(self._optimiser, self._settings.lr * rate)
        descend(self._optimiser, loss)
        self._taken += 1
