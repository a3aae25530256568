r"""What image translators share: two maps that draw noise, a critic on either side, least squares between them.

A map is an encoder of one side followed by a decoder of the other, which takes noise: T(x, z) = decode(encode(x), z). A
method says what it makes of a batch: pairs of real and made things, each with its critic D, and a loss that needs no
critic. The critics minimise, and the maps against them (Mao et al., ICCV 2017),

$$\sum \, E (D(\text{real}) - 1)^2 + E D(\text{made})^2 , \qquad \text{loss} + \sum E (D(\text{made}) - 1)^2 ,$$

one step each in turn, on the same points and noise; sums go over pairs and over the scales of a critic. No cost of
transport takes part, and no label.
"""

from __future__ import annotations

import abc
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal, TypeVar

import torch
from torch import Tensor, nn

from otbench.nets.average import Averaged
from otbench.nets.start import start_of
from otbench.nets.translation import LEAST_SIDE, SHRUNK, ImageDecoder, ImageEncoder, PatchCritic
from otbench.ops.descent import descend, set_rates
from otbench.ops.optimisers import OptimiserName, build_optimiser
from otbench.ops.schedule import warmup_cosine
from otbench.problem import Measure
from otbench.samplers import EpochSampler
from otbench.solver import Config, Context, Field, No, Problem, Solver, StepInfo, Support, Transport

BETAS = (0.5, 0.999)
"""Adam's memory of gradients and of their squares, in both papers."""
_SLACK = 1e-4
"""How far pixels may lie outside of [-1, 1]."""


class TranslationConfig(Config):
    """Parameters of all translators; those without a published value are ours."""

    optimiser: OptimiserName = Field("adam", "Adam, or SOAP: Adam in Shampoo's eigenbasis")
    lr: float = Field(1e-3, "learning rate of maps and critics, at its peak", gt=0)
    decay: Literal["cosine", "linear", "halving"] = Field(
        "cosine", "rate: warm-up and cosine; constant, then linear to 0 from half of the budget; or ten halvings"
    )
    weight_decay: float = Field(0.0, "weight decay", ge=0)
    grad_clip: float | None = Field(None, "largest norm of the gradient of all maps together; none = as it is", gt=0)
    averaging: float = Field(8.0, "maps are the mean of iterates k with weights ~ k^this; 0 = the last ones", ge=0)
    batch_size: int = Field(8, "images per side and step", unit="images", ge=1)
    width: int = Field(8, "channels of encoders and decoders at full resolution", ge=1)
    blocks: int = Field(2, "residual blocks of an encoder, and of a decoder", ge=1)
    critic_width: int = Field(8, "channels of a critic of images after its first convolution", ge=1)


ConfigT = TypeVar("ConfigT", bound=TranslationConfig)


@dataclass(frozen=True)
class Judged:
    """What a critic is shown: things of one kind, real ones and made ones.

    Attributes:
        critic: returns one value or more a thing, or a list of these.
        real: shape (n, ...).
        made: same shape, with a graph to the maps.
    """

    critic: Callable[[Tensor], Tensor | list[Tensor]]
    real: Tensor
    made: Tensor


class Translation(Solver[ConfigT]):
    """Two noisy maps of images against critics. A step waits for the device only where SOAP does.

    Attributes:
        maps: encoders of source and target, then decoders of source and target.
        codes: networks that read noise off images, of source and target.
        critics: of source and target, and what further critics a method has.
        average: the maps, averaged over the steps, and the number of these.
    """

    noise: ClassVar[str]
    """The parameter that is the number of coordinates of the noise."""

    @classmethod
    def supports(cls, problem: Problem) -> Support:
        """Take images of 32 x 32 pixels or more, in [-1, 1]."""
        shape = problem.source.shape
        if len(shape) != 3:
            return No("needs images (channels, height, width), not vectors")
        if any(size < LEAST_SIDE or size % SHRUNK for size in shape[1:]):
            return No(
                f"needs images of at least {LEAST_SIDE} x {LEAST_SIDE} pixels, a multiple of {SHRUNK} each way, not "
                f"{shape[1]} x {shape[2]}"
            )
        answer = super().supports(problem)
        if answer.ok and any(_outside(side) for side in (problem.source, problem.target)):
            return No("needs pixels in [-1, 1]")
        return answer

    def __init__(self, problem: Problem, config: ConfigT, context: Context) -> None:
        """Build encoders, decoders, critics, optimisers and samplers."""
        super().__init__(problem, config, context)
        channels, start, noise = problem.source.shape[0], start_of(context), getattr(config, self.noise)
        size = {"width": config.width, "blocks": config.blocks}
        self.maps = nn.ModuleList(ImageEncoder(channels, **size, **start) for _ in range(2))
        self.maps.extend(ImageDecoder(channels, **size, noise=noise, hidden=self.hidden(), **start) for _ in range(2))
        self.codes = self.build_codes()
        self.critics = nn.ModuleList([*self.build_critics()])
        self.average = Averaged(self.maps, config.averaging)
        maps = [*self.maps.parameters(), *self.codes.parameters()]
        self.map_optimiser, self.critic_optimiser = (
            build_optimiser(
                config.optimiser,
                list(given),
                lr=config.lr,
                betas=BETAS,
                weight_decay=config.weight_decay,
                decoupled=False,
            )
            for given in (maps, self.critics.parameters())
        )
        self.source, self.target = (
            EpochSampler(side, config.batch_size, context.generator) for side in (problem.source, problem.target)
        )

    def hidden(self) -> tuple[int, ...]:
        """Return the hidden widths of the networks that steer a decoder by noise."""
        return ()

    @abc.abstractmethod
    def build_codes(self) -> nn.ModuleList:
        """Return the networks that read noise off images, of source and target."""

    def build_critics(self) -> list[nn.Module]:
        """Return the critics of source and target, then further ones."""
        return [self.image_critic(scales=1) for _ in range(2)]

    def image_critic(self, *, scales: int) -> PatchCritic:
        """Return a critic of images at this number of scales."""
        channels = self.problem.source.shape[0]
        return PatchCritic(channels, width=self.config.critic_width, scales=scales, **start_of(self.context))

    def step(self) -> StepInfo:
        """Take one step of all critics, then one of both maps."""
        config = self.config
        for optimiser in (self.critic_optimiser, self.map_optimiser):
            set_rates(optimiser, config.lr * _rate(config.decay, self.context.progress()))
        x, y = (sampler.next().x for sampler in (self.source, self.target))
        judged, own = self.translated(x, y, self.draw(len(x)), self.draw(len(y)))
        critics = critic_loss(judged)
        descend(self.critic_optimiser, critics)
        self.critics.requires_grad_(False)
        loss = own + map_loss(judged)
        self.critics.requires_grad_(True)
        descend(self.map_optimiser, loss, grad_clip=config.grad_clip)
        self.average.update(self.maps)
        return StepInfo(loss.detach(), {"critics": critics.detach(), "own": own.detach()})

    @abc.abstractmethod
    def translated(self, x: Tensor, y: Tensor, z_source: Tensor, z_target: Tensor) -> tuple[list[Judged], Tensor]:
        """Return what critics are to judge, and the loss that needs none, shape ().

        Args:
            x: images of the source, shape (n, c, h, w).
            y: images of the target, shape (n, c, h, w).
            z_source: noise of images that are moved to the source, shape (n, noise).
            z_target: noise of images that are moved to the target, shape (n, noise).
        """

    def draw(self, n: int) -> Tensor:
        """Return noise from N(0, I), shape (n, noise)."""
        context = self.context
        size = getattr(self.config, self.noise)
        return torch.randn(n, size, generator=context.generator, device=context.device, dtype=context.dtype)

    def transport(self) -> NoisyMaps:
        """Return both averaged maps: no critic, and no network that reads noise off images, is needed to apply them."""
        one, other, decode_source, decode_target = self.average.module
        return NoisyMaps(one, decode_target, other, decode_source, noise=getattr(self.config, self.noise))


class NoisyMaps(Transport):
    """One draw of T(x, z) or S(y, z) for each image, z from N(0, I)."""

    stochastic = True
    differentiable = True

    def __init__(
        self, encode: nn.Module, decode: nn.Module, encode_back: nn.Module, decode_back: nn.Module, *, noise: int
    ) -> None:
        """Hold encoder and decoder of either map, and the number of coordinates of the noise."""
        super().__init__()
        self.encode, self.decode, self.encode_back, self.decode_back = encode, decode, encode_back, decode_back
        self.noise = noise

    def forward(self, x: Tensor, label: Tensor | None = None, generator: torch.Generator | None = None) -> Tensor:
        """Return a draw of T(x, z), same shape as `x` (n, c, h, w)."""
        return self.decode(self.encode(x), self._drawn(x, generator))  # type: ignore[no-any-return]

    def backward(self, y: Tensor, label: Tensor | None = None, generator: torch.Generator | None = None) -> Tensor:
        """Return a draw of S(y, z), same shape as `y` (n, c, h, w)."""
        return self.decode_back(self.encode_back(y), self._drawn(y, generator))  # type: ignore[no-any-return]

    def _drawn(self, x: Tensor, generator: torch.Generator | None) -> Tensor:
        drawn = generator or torch.Generator(x.device).manual_seed(0)  # without a generator always the same
        return torch.randn(len(x), self.noise, generator=drawn, device=x.device, dtype=x.dtype)


def critic_loss(judged: list[Judged]) -> Tensor:
    """Return the least-squares loss of all critics, shape (); no gradient goes to the maps."""
    losses = [_square(pair.critic(pair.real), 1.0) + _square(pair.critic(pair.made.detach()), 0.0) for pair in judged]
    return torch.stack(losses).sum()


def map_loss(judged: list[Judged]) -> Tensor:
    """Return the least-squares loss of the maps against all critics, shape ()."""
    return torch.stack([_square(pair.critic(pair.made), 1.0) for pair in judged]).sum()


def _square(values: Tensor | list[Tensor], aim: float) -> Tensor:
    """Return the mean of (value - aim)^2, shape (), summed over scales."""
    scales = values if isinstance(values, list) else [values]
    return torch.stack([(value - aim).square().mean() for value in scales]).sum()


def _rate(decay: str, progress: float) -> float:
    """Return the share of the peak rate at the used share of the budget."""
    if decay == "linear":
        return min(1.0, 2 * (1 - min(progress, 1.0)))
    if decay == "halving":
        return 0.5 ** int(10 * min(progress, 0.999))
    return warmup_cosine(progress)


def _outside(side: Measure) -> bool:
    """Say whether a pool has pixels outside of [-1, 1]."""
    return side.pool is not None and bool(side.pool.abs().max() > 1 + _SLACK)
