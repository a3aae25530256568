r"""OTDD flow: training points of the source flow down the optimal-transport distance between two labelled data sets.

Alvarez-Melis, Fusi, "Geometric Dataset Distances via Optimal Transport", NeurIPS 2020 (arXiv 2002.02923), and "Dataset
Dynamics via Gradient Flows in Probability Space", ICML 2021 (arXiv 2010.12760). Between points with classes the cost is

$$d^2\big((x, k), (y, l)\big) = |x - y|^2 + W_2^2\big(N(a_k, A_k), N(b_l, B_l)\big) ,$$

where $a_k, A_k$ are mean and covariance of the points of class k. The distance F of two data sets is the least mean of
d^2 over plans. Points of the source (particles) follow its gradient; a particle keeps its class, and the moments of a
class move with its particles. Classes have no names here: class k of the source may go to any class of the target, and
the published accuracy is that of a guess.

There is no map but for the particles: an unseen point moves as the nearest particle did from its start, as in the
baseline `emd`. So the map keeps training rows, which the table says, and there is no map back.

`paper` has the values of the authors' example: Adam with rate 1, ten steps, 2000 points, gradients clipped at norm 10.
Deviations: the plan is exact, theirs is entropic and debiased, at a regularisation of 0.1; there are as many points of
each class; unlabelled points are not used. Ours besides: steps along the gradient itself, `lr` * n * grad F. With
a plan that takes each class to one class and stays, a step takes away the share 4 lr of the way of a class's mean.
"""

from __future__ import annotations

from typing import Literal

import ot
import torch
from torch import Tensor

from otbench.baselines.emd import NearestShift
from otbench.ops.class_gaussians import class_distances
from otbench.ops.descent import descend
from otbench.samplers import ClassSampler, by_class
from otbench.solver import (
    Config,
    Context,
    Field,
    No,
    Problem,
    Solver,
    StepInfo,
    Support,
    Transport,
    register_solver,
)


class OTDDFlowConfig(Config):
    """Parameters of the flow."""

    n: int = Field(1000, "points on each side; time grows as n^3, memory as n^2", unit="points", ge=4, le=20_000)
    descent: Literal["gradient", "adam"] = Field("gradient", "steps along the gradient, or Adam's")
    lr: float = Field(0.1, "rate: share of a gradient, or the size of Adam's steps in data units", gt=0)
    label_weight: float = Field(1.0, "weight of the distance between classes", ge=0)
    grad_clip: float | None = Field(None, "largest norm of the gradient; none = as it is", gt=0)


@register_solver(
    "otddflow",
    config=OTDDFlowConfig,
    reference="Alvarez-Melis, Fusi, Dataset Dynamics via Gradient Flows in Probability Space, ICML 2021, "
    "arXiv 2010.12760",
    search={"lr": (0.05, 0.1, 0.2), "label_weight": (0.1, 1.0, 10.0), "n": (500, 1000)},
    presets={
        "smoke": {"steps": 10, "n": 100},
        "quick": {"steps": 30},
        "full": {"steps": 60, "n": 2000},
        "paper": {"steps": 10, "n": 2000, "descent": "adam", "lr": 1.0, "grad_clip": 10.0},
    },
)
class OTDDFlow(Solver[OTDDFlowConfig]):
    """Labelled training points flow to the other data set; unseen ones follow their nearest neighbour, forward only.

    A step solves a linear program on the host in float64: one transfer each way.

    Attributes:
        start: where the particles began, classes taking turns, shape (n, d).
        particles: where they are now, shape (n, d).
        goals: target points, classes taking turns, shape (n, d).
    """

    @classmethod
    def supports(cls, problem: Problem) -> Support:
        """Take the quadratic cost between points of the same shape, with two labelled points of each class."""
        scarce = problem.scarce(2, needed=True)
        return No(scarce) if scarce else super().supports(problem)

    def __init__(self, problem: Problem, config: OTDDFlowConfig, context: Context) -> None:
        """Draw particles and goals."""
        super().__init__(problem, config, context)
        self.start, self.goals = (
            ClassSampler(side, config.n, context.generator).next().x.flatten(1)
            for side in (problem.source, problem.target)
        )
        self.particles = self.start.clone().requires_grad_()
        kind = torch.optim.Adam if config.descent == "adam" else torch.optim.SGD
        # of a mean over n points, each has 1 / n of the gradient
        rate = config.lr * (1 if config.descent == "adam" else len(self.start))
        self.optimiser = kind([self.particles], lr=rate)

    def step(self) -> StepInfo:
        """Find the plan, and move all particles. The loss is the squared distance of the data sets before the step."""
        loss = self.distance()
        descend(self.optimiser, loss, grad_clip=self.config.grad_clip)
        return StepInfo(loss.detach())

    def distance(self) -> Tensor:
        """Return F, shape (), with a graph to the particles; the plan takes no gradient, by the envelope theorem."""
        x, y, classes = self.particles, self.goals, self.problem.classes
        apart = class_distances(by_class(x, classes), by_class(y, classes))
        turns = (torch.arange(len(side), device=x.device) % classes for side in (x, y))
        squared = x.square().sum(1)[:, None] + y.square().sum(1) - 2 * x @ y.T
        cost = squared + self.config.label_weight * apart[torch.meshgrid(*turns, indexing="ij")]
        matrix = cost.detach().cpu().double().numpy()
        plan = ot.emd(ot.unif(len(x)), ot.unif(len(y)), matrix, numItermax=10_000_000)
        return (torch.from_numpy(plan).to(cost) * cost).sum()

    def transport(self) -> Followed:
        """Return the way of each particle, which unseen points follow."""
        return Followed(self.start, self.particles.detach() - self.start)


class Followed(Transport):
    """x -> x + the way of the nearest particle from its start; forward only."""

    def __init__(self, start: Tensor, way: Tensor) -> None:
        """Hold where the particles began and how far each went, both (n, d)."""
        super().__init__()
        self.nearest = NearestShift(start)
        self.nearest.shifts.copy_(way)
        self.keeps_rows = len(start)

    def forward(self, x: Tensor, label: Tensor | None = None, generator: torch.Generator | None = None) -> Tensor:
        """Return T(x), same shape as `x` (n, *shape)."""
        return self.nearest(x)  # type: ignore[no-any-return]
