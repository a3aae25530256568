r"""GNOT, class-guided neural optimal transport: NOT with a cost that asks each class to arrive at its own.

Asadulaev, Korotin, Egiazarian, Mokrov, Burnaev, "Neural Optimal Transport with General Cost Functionals", ICLR 2024
(arXiv 2205.15403), and its released code. The cost of a map is the mean over classes k of an energy distance between
the image of the class and the labelled target points of that class; f is the critic of `not`:

$$\sup_f \inf_T \; \tfrac1K \sum_k \Big( E \, |Y_k - T(X_k)| - \tfrac12 E \, |T(X_k) - T(X_k')| \Big) - E_\mu f(T(x))
+ E_\nu f(y) .$$

With noise, T(x, z), the second expectation is over two draws z, z' at one and the same x: each point is to spread over
its class. There is no transport cost: how far points move is not part of the problem, and a small cost gap is not to
be expected. The map is not told the class. Labels of all source points, and of target points those that have one,
enter through the cost; the critic is fitted to all target points and sees no label.

Networks, order of updates and deviations are those of `not` (the map starts from the identity, the critic of vectors
is a DenseICNN, rates decay), and
    batches: the cost is taken over all pairs of one class in a class-balanced batch, rather than over two points of
        each of a batch's classes: the same expectation with less noise.
`paper` has the values of the authors' toy notebook for vectors, and of their image notebooks for images, with batches
of as many points. There the noise, 128 coordinates, modulates the UNet's way up, and its notebook has half as many
points: `gnot[noise=true,batch_size=32]`. Our row of images is a small fraction of theirs in size and steps.
"""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import torch
from torch import Tensor

from otbench.ops.energy_losses import energy_losses
from otbench.samplers import ClassSampler, by_class
from otbench.solver import Context, Field, No, Problem, Support, register_solver
from otbench.solvers._saddle import Saddle
from otbench.solvers._saddle_settings import OURS, PAPER_IMAGES, PAPER_VECTORS, SMALL, Rows, SaddleConfig, Settings


class GNOTConfig(SaddleConfig):
    """Parameters of GNOT: those of all saddle problems and the noise's."""

    noise: bool = Field(False, "whether the map also takes noise: each point spreads over its class")
    draws: int = Field(2, "draws of noise per source point in a step of the map", unit="draws", ge=2)
    noise_dim: int | None = Field(None, "coordinates of the noise; none = those of the data, 128 for images", ge=1)
    noise_std: float = Field(1.0, "standard deviation of the noise", gt=0)
    cost_scale: Literal["sum", "mean"] | None = Field(None, "distances as they are, or divided by the square root of d")


IMAGE_NOISE = 128
"""Coordinates of the noise of images."""
_IMAGES = {**PAPER_IMAGES, "lr": 1e-5, "halvings": 5, "cost_scale": "sum"}


@register_solver(
    "gnot",
    config=GNOTConfig,
    reference="Asadulaev, Korotin, Egiazarian, Mokrov, Burnaev, ICLR 2024, arXiv 2205.15403",
    search={
        "lr": (1e-3, 3e-3, 1e-2),
        "optimiser": ("adam", "soap"),
        "inner": (2, 5, 10),
        "critic_rate": (0.3, 1.0, 2.0),
    },
    presets={
        "smoke": {"steps": 30, "settings": "smoke"},
        "quick": {"steps": 600},
        "full": {"steps": 2500},
        "paper": {"steps": 60_001, "settings": "paper"},
    },
)
class GNOT(Saddle[GNOTConfig]):
    """GNOT: NOT whose cost is the class-wise energy distance to the labelled target points; forward only.

    A step waits for the device only where SOAP does.

    Attributes:
        classed: class-balanced source points.
        labelled: class-balanced target points; unlabelled ones are never drawn.
    """

    noise_planes = False
    rows: ClassVar[Rows] = {
        ("ours", "vectors"): Settings(),
        ("ours", "images"): Settings(**OURS | {"optimiser": "soap", "inner": 10, "critic_rate": 0.3}),
        ("smoke", "vectors"): Settings(batch_size=256),
        ("smoke", "images"): Settings(**SMALL),
        ("paper", "vectors"): Settings(
            **PAPER_VECTORS | {"lr": 1e-3, "width": 256, "cost_scale": "sum"}, iterations=1001
        ),
        ("paper", "images"): Settings(**_IMAGES),
    }

    @classmethod
    def supports(cls, problem: Problem) -> Support:
        """Take vectors and images with classes on both sides, of which each has labelled points."""
        # two source points for the spread of a class, one target point to aim at
        scarce = problem.scarce(2, sides=("source",), needed=True) or problem.scarce(1, sides=("target",))
        return No(scarce) if scarce else super().supports(problem)

    def __init__(self, problem: Problem, config: GNOTConfig, context: Context) -> None:
        """Build what NOT needs, and the samplers of labelled points."""
        super().__init__(problem, config, context)
        self.classed, self.labelled = (
            ClassSampler(side, self.settings.batch_size, context.generator) for side in (problem.source, problem.target)
        )

    def inner_loss(self) -> Tensor:
        """Return the map's loss, shape (), on new labelled points."""
        return self.guided_loss(self.drawn(self.classed), self.drawn(self.labelled))

    def guided_loss(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the cost of T less E f(T(x)), shape (); f takes no gradient.

        Args:
            x: source points, classes taking turns, shape (K n, d).
            y: target points, classes taking turns, shape (K m, d).
        """
        draws, classes = self.config.draws if self.config.noise else 1, self.problem.classes
        # all points once, then again: classes go on taking turns
        moved = self.moved(x.repeat(draws, 1))
        cost = energy_losses(by_class(moved, classes), by_class(y, classes), own_term=draws == 1).mean() / 2
        if draws > 1:
            cost = cost - _mean_distance(moved.view(draws, len(x), -1)) / 2
        if self.settings.cost_scale == "mean":
            cost = cost / math.sqrt(x.shape[1])
        return cost - self.critic_mean(moved, x)

    def noise_dim(self) -> int:
        """Return the number of coordinates of the noise; 0 without."""
        if not self.config.noise:
            return 0
        return self.config.noise_dim or (self.problem.dim if self.images is None else IMAGE_NOISE)

    def noise_std(self) -> float:
        """Return the standard deviation of the noise."""
        return self.config.noise_std


def _mean_distance(moved: Tensor) -> Tensor:
    """Return the mean distance of two draws of the same point, shape (), from `moved` (draws, n, d)."""
    draws = len(moved)
    distance = torch.linalg.vector_norm(moved[:, None] - moved, dim=3)  # a draw to itself: 0, and no gradient
    return distance.sum() / (draws * (draws - 1) * moved.shape[1])  # type: ignore[no-any-return]
