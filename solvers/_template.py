r"""Template: copy this file to `solvers/mine.py`, rename, and change what your method does. It runs as it stands.

The method here is small but real. With g a network, T(x) = x + grad g(x) is the gradient of |x|^2/2 + g; where that
is convex and T carries mu to nu, T is the optimal map (Brenier 1991). So minimise the energy distance between T#mu and
nu:

$$\min_g \; 2 E|T(X) - Y| - E|T(X) - T(X')| - E|Y - Y'|.$$

In your own file, say in this place: the paper, the equations, and every deviation from them.
"""

from __future__ import annotations

import torch
from torch import Tensor

from otbench.nets.dense_icnn import DenseICNN
from otbench.nets.start import start_of
from otbench.ops.descent import descend, set_rates
from otbench.ops.energy import energy_distance
from otbench.ops.prox import solve_prox
from otbench.ops.schedule import warmup_cosine
from otbench.solver import Config, Context, Field, Problem, Solver, StepInfo, Transport, register_solver


class TemplateConfig(Config):
    """Parameters: each with type, default, meaning, bounds and unit. `otbench show` and `--solvers` read them here."""

    lr: float = Field(5e-3, "peak learning rate of Adam", gt=0)
    batch_size: int = Field(512, "points per side and step", unit="points", ge=2)


@register_solver(
    "template",  # what a user types; must be a plain string
    config=TemplateConfig,
    reference="Brenier, Comm. Pure Appl. Math. 44, 1991",
    presets={
        "smoke": {"steps": 50},  # seconds, for CI
        "quick": {"steps": 1500},  # the default: under a minute on a laptop
        "full": {"steps": 20_000, "batch_size": 2000},  # your best setting
    },
)
class Template(Solver[TemplateConfig]):
    """Match the marginals with the gradient of a potential."""

    def __init__(self, problem: Problem, config: TemplateConfig, context: Context) -> None:
        """Build networks and optimisers. Networks, optimisers and samplers kept as attributes are saved for you."""
        super().__init__(problem, config, context)
        # all networks of otbench.nets take start_of(context); one of torch's own layers is made by
        # otbench.nets.drawn.drawn(lambda: Mine(problem.dim), context), which draws from the same generator
        self.potential = DenseICNN(problem.dim, **start_of(context))
        self.optimiser = torch.optim.Adam(self.potential.parameters(), lr=config.lr)

    def step(self) -> StepInfo:
        """Do one step on fresh batches. Randomness comes from `context.generator` only."""
        n, generator = self.config.batch_size, self.context.generator
        x = self.problem.source.sample(n, generator=generator).x
        y = self.problem.target.sample(n, generator=generator).x
        loss = energy_distance(x + self.potential.gradient(x), y)
        # a schedule reads progress(), never a step count
        set_rates(self.optimiser, self.config.lr * warmup_cosine(self.context.progress()))
        descend(self.optimiser, loss)
        return StepInfo(loss.detach())

    def transport(self) -> GradientShift:
        """Return the maps as they are now."""
        return GradientShift(self.potential)


class GradientShift(Transport):
    """T(x) = x + grad g(x), and its inverse; keeps g alone.

    What must be kept is given to the constructor: plain values, tensors, and modules derived from `Recorded`, as all in
    `otbench.nets` are. A file of the map holds these, so that it can be built again without the solver.
    """

    differentiable = True  # forward(x) has a graph back to an x that requires a gradient

    def __init__(self, potential: DenseICNN) -> None:
        """Hold g."""
        super().__init__()
        self.potential = potential

    def forward(self, x: Tensor, label: Tensor | None = None, generator: torch.Generator | None = None) -> Tensor:
        """Return T(x), shape (n, d). Called without gradients, unless `x` requires one."""
        return x + self.potential.gradient(x)

    def backward(self, y: Tensor, label: Tensor | None = None, generator: torch.Generator | None = None) -> Tensor:
        """Return T^-1(y), shape (n, d). A one-way method leaves this method out."""
        return solve_prox(self.potential.gradient, y).y
