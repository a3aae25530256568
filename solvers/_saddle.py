r"""What NOT, its weak form and GNOT share: a map T and a critic f, trained against each other.

$$\sup_f \inf_T \; C(T) - E_\mu f(T(x)) + E_\nu f(y) ,$$

with a cost C that the method defines. One outer iteration takes `inner` steps of T on $C(T) - E_\mu f(T(x))$ with f
fixed, then one step of f on $E_\mu f(T(x)) - E_\nu f(y)$ with T fixed, each on new points. The steps of T need of f
only its gradient at T(x): no graph is built through f.

Where points are images (channels, side, side), T is a UNet and f a ResNet critic (`otbench.nets`), else T is an MLP and
f as `critic` says.
"""

from __future__ import annotations

import abc
import math
from typing import ClassVar

import torch
from torch import Tensor, nn

from otbench.config import settle
from otbench.errors import UsageError
from otbench.nets.average import Averaged
from otbench.nets.dense_icnn import DenseICNN
from otbench.nets.image_points import ImageCritic, ImageMap, Shape
from otbench.nets.mlp import MLP, MLPPotential, mlp_width
from otbench.nets.start import start_of
from otbench.ops.descent import descend, set_rates
from otbench.ops.optimisers import build_optimiser
from otbench.ops.schedule import warmup_cosine
from otbench.problem import with_class
from otbench.samplers import Sampler, sampler_of
from otbench.solver import Context, Problem, Solver, StepInfo, Transport
from otbench.solvers._saddle_settings import ConfigT, Rows, Settings


class Saddle(Solver[ConfigT]):
    """A free map against a critic, forward only. A step waits for the device only where SOAP does.

    Attributes:
        images: (channels, height, width) of a point that is an image; None for vectors.
        settings: the values that this run uses.
        input_classes: number of classes that map and critic are told, each as one more input; 0 = none.
        map: T, the network that is trained, from rows (point, class, noise) to points (n, d).
        potential: f, the critic, of rows (point, class).
        average: the averaged map, and the number of outer iterations so far.
    """

    rows: ClassVar[Rows]
    """Settings by name and kind of points."""
    settings: Settings
    noise_planes: ClassVar[bool] = True
    """Images: whether noise is further channels of the image, or goes to the UNet's way up."""

    def __init__(self, problem: Problem, config: ConfigT, context: Context, *, classes: int = 0) -> None:
        """Build both networks, the map's average, both optimisers and both samplers.

        Args:
            problem: what is to be solved.
            config: parameters.
            context: device, dtype, generator, progress.
            classes: number of classes that map and critic are told; 0 = none, and batches that do not look at them.
        """
        super().__init__(problem, config, context)
        shape = problem.source.shape
        self.images: Shape | None = shape if len(shape) == 3 else None
        self.settings = settle(self.rows[config.settings, "vectors" if self.images is None else "images"], config)
        self.input_classes = classes
        self.map, self.potential = self.build_map(), self.build_potential()
        self.average = Averaged(self.map, self.settings.averaging)
        self.average.module.eval()
        self.map_optimiser, self.potential_optimiser = (
            build_optimiser(
                self.settings.optimiser,
                network.parameters(),
                lr=self.settings.lr,
                weight_decay=self.settings.weight_decay,
            )
            for network in (self.map, self.potential)
        )
        self.source, self.target = (
            sampler_of(side, self.settings.batch_size, context.generator, balanced=classes > 0)
            for side in (problem.source, problem.target)
        )

    def build_map(self) -> nn.Module:
        """Return T, from rows (point, class, noise) to points (n, d); tests put the exact map here."""
        settings, d, noise, start = self.settings, self.problem.dim, self.noise_dim(), start_of(self.context)
        if self.images is not None:
            if self.noise_planes and noise % math.prod(self.images[1:]):
                raise UsageError(
                    f"noise_dim={noise}: the noise of images of shape {self.images} makes further channels, so it must "
                    f"be a multiple of {math.prod(self.images[1:])}; leave it out for one channel"
                )
            return ImageMap(
                self.images,
                classes=self.input_classes,
                noise=noise,
                planes=self.noise_planes,
                width=settings.map_width,
                norm=settings.norm,
                residual=settings.residual,
                **start,
            )
        return MLP(
            d + self.input_classes + noise,
            d,
            widths=[settings.width or mlp_width(d)] * self.config.layers,
            activation=settings.activation,
            residual=settings.residual,
            zero_last=settings.residual,
            **start,
        )

    def build_potential(self) -> DenseICNN | MLPPotential | ImageCritic:
        """Return f, a `Potential` of rows (point, class); tests put the exact one here."""
        settings, inputs, start = self.settings, self.problem.dim + self.input_classes, start_of(self.context)
        if self.images is not None:
            return ImageCritic(self.images, classes=self.input_classes, width=settings.critic_width, **start)
        if settings.critic == "dense_icnn":
            return DenseICNN(inputs, strong_convexity=0.0, **start)
        return MLPPotential(
            inputs,
            widths=[settings.width or mlp_width(self.problem.dim)] * self.config.layers,
            activation=settings.activation,
            zero_last=settings.residual,
            **start,
        )

    def noise_dim(self) -> int:
        """Return the number of coordinates of noise that the map takes; 0 = it takes none."""
        return 0

    def noise_std(self) -> float:
        """Return the standard deviation of the noise."""
        return 0.0

    def step(self) -> StepInfo:
        """Take `inner` steps of the map, then one of the critic."""
        settings, progress = self.settings, self.context.progress()
        rate = warmup_cosine(progress, warmup=settings.warmup, end=settings.lr_end)
        rate *= 0.5 ** min(settings.halvings, int(progress * (settings.halvings + 1)))
        for optimiser, factor in ((self.map_optimiser, 1.0), (self.potential_optimiser, settings.critic_rate)):
            set_rates(optimiser, settings.lr * factor * rate, weight_decay=settings.weight_decay * rate)
        self.map.train()
        for _ in range(settings.inner):
            inner = self.inner_loss()
            descend(self.map_optimiser, inner)
        self.map.eval()  # a batch norm uses its running means from here on, as the authors' does
        self.average.update(self.map)
        outer = self.potential_loss(self.drawn(self.source), self.drawn(self.target))
        descend(self.potential_optimiser, outer)
        done = settings.iterations is not None and self.average.steps_done >= settings.iterations
        return StepInfo(inner.detach(), {"gap": outer.detach()}, done=done)

    @abc.abstractmethod
    def inner_loss(self) -> Tensor:
        """Return the map's loss, shape (), on new points."""

    def potential_loss(self, x: Tensor, y: Tensor) -> Tensor:
        """Return E f(T(x)) - E f(y), shape (), at rows `x` of the source and `y` of the target; T takes no gradient.

        Args:
            x: shape (n, d + classes).
            y: shape (m, d + classes).
        """
        with torch.no_grad():
            moved = self.beside_class(self.moved(x), x)
        value = self.potential(torch.cat((moved, y)))
        return value[: len(x)].mean() - value[len(x) :].mean()  # type: ignore[no-any-return]

    def moved(self, x: Tensor) -> Tensor:
        """Return T(x), or one draw of T(x, z) per row of `x`, shape (n, d), by the network in training."""
        return with_noise(self.map, x, self.noise_dim(), self.noise_std(), self.context.generator)

    def critic_mean(self, moved: Tensor, x: Tensor) -> Tensor:
        """Return E f, shape (), at points `moved` (n, d) of the classes of rows `x`, with its gradient in `moved` only.

        f is replaced by its tangent at each point: same value, same gradient, and no graph through f.
        """
        with torch.no_grad():
            value, gradient = self.potential.value_and_gradient(self.beside_class(moved, x))
        return (value + ((moved - moved.detach()) * gradient[:, : self.problem.dim]).sum(1)).mean()

    def beside_class(self, moved: Tensor, x: Tensor) -> Tensor:
        """Return points `moved` (n, d), each followed by the class of its row of `x`, (n, d + classes)."""
        return torch.cat((moved, x[:, self.problem.dim :]), 1) if self.input_classes else moved

    def drawn(self, sampler: Sampler) -> Tensor:
        """Return the next batch as rows (point, class), shape (n, d + classes)."""
        batch = sampler.next()
        return with_class(batch.x, batch.label, self.input_classes)

    def transport(self) -> FreeMap:
        """Return the averaged map alone: the critic is not needed to apply it."""
        return FreeMap(
            self.average.module, classes=self.input_classes, noise_dim=self.noise_dim(), noise_std=self.noise_std()
        )


class FreeMap(Transport):
    """T(x), or one draw of T(x, z) for each point: a network of rows (point, class, noise)."""

    differentiable = True

    def __init__(self, network: nn.Module, *, classes: int, noise_dim: int, noise_std: float) -> None:
        """Hold T.

        Args:
            network: from rows (n, d + classes + noise_dim) to points (n, d).
            classes: number of classes that it is told; 0 = none.
            noise_dim: coordinates of its noise; 0 = it takes none.
            noise_std: standard deviation of the noise.
        """
        super().__init__()
        self.network, self.classes, self.noise_dim, self.noise_std = network, classes, noise_dim, noise_std
        self.reads_label, self.stochastic = classes > 0, noise_dim > 0

    def forward(self, x: Tensor, label: Tensor | None = None, generator: torch.Generator | None = None) -> Tensor:
        """Return T(x), or a draw, same shape as `x` (n, *shape)."""
        rows = with_class(x, label, self.classes)
        return with_noise(self.network, rows, self.noise_dim, self.noise_std, generator).view_as(x)


def with_noise(network: nn.Module, x: Tensor, dim: int, std: float, generator: torch.Generator | None) -> Tensor:
    """Return what `network` makes of rows `x`, each followed by `dim` coordinates of N(0, std^2), shape (n, d).

    Noise is drawn from `generator`; without one, it is always the same.
    """
    if dim:
        drawn = generator or torch.Generator(x.device).manual_seed(0)
        z = torch.randn(len(x), dim, generator=drawn, device=x.device, dtype=x.dtype)
        x = torch.cat((x, std * z), 1)
    return network(x)  # type: ignore[no-any-return]
