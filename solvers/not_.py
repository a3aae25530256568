r"""NOT, neural optimal transport with a strong cost: a map and a critic, trained against each other.

Korotin, Selikhanovych, Burnaev, "Neural Optimal Transport", ICLR 2023 (arXiv 2201.12220), eq. 16, and its released
code. With c(x, y) = |x - y|^2 / 2, the map T and the critic f solve the saddle problem

$$\sup_f \inf_T \; E_\mu \big[ c(x, T(x)) - f(T(x)) \big] + E_\nu f(y) ,$$

whose value is the cost of transport. At its solution T is the optimal map and $f = |\cdot|^2/2 - \bar\psi$, with
$\bar\psi$ the Brenier potential of the way back. MM:R is the same problem with T the gradient of a potential. There is
no map back. The loop is that of `_saddle`.

Classes, where both sides have them, are not looked at, as published (`classes=none`). With `classes=input` map and
critic are told the class, one-hot, as K more inputs (of images: K constant planes), and batches hold as many labelled
points of each class on both sides; unlabelled points are not used. Each class then has its own saddle problem.

Deviations from the paper and its code, all of them parameters (`paper` sets them back):
    map: x + network, whose last layer starts at zero, so that training starts from the identity. A plain network starts
        from a map that knows nothing of x.
    critic: DenseICNN, the potential of the benchmark's other solvers, left free, in place of an MLP.
    activation: smooth; f enters through its gradient, which is piecewise constant for ReLU.
    cost: summed over coordinates and halved, so that f is the potential above; the code averages the squares.
    rates: the critic's is higher than the map's; short warm-up and cosine decay of both, instead of constant rates.
    weight decay: falls to zero with the rate; it keeps the critic from fitting the noise of its finite pool.
    map: from a weighted average of the iterates.
Images: the authors' UNet and ResNet critic at a sixth of their width, with group norm instead of batch norm, x +
network, ten times their rate, and 5 steps of the map instead of 10; see `_saddle`.

Batches walk through the pool in shuffled epochs in all presets. The authors publish no strong-cost run on toy data: for
vectors `paper` is the strong loop of their image notebook with the networks and values of their weak toy notebook; for
images it is the image notebook, which is for 64 x 64 pixels and three channels. Their weight decay, 1e-10, is Adam's;
here it is AdamW's, as small.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from torch import Tensor

from otbench.solver import Context, Field, Problem, register_solver
from otbench.solvers._saddle import Saddle
from otbench.solvers._saddle_settings import OURS, PAPER_IMAGES, PAPER_VECTORS, SMALL, Rows, SaddleConfig, Settings


class NOTConfig(SaddleConfig):
    """Parameters of NOT: those of all saddle problems, and whether the networks are told the class."""

    classes: Literal["none", "input"] = Field("none", "classes, if any: not looked at, or told to map and critic")


@register_solver(
    "not",
    config=NOTConfig,
    reference="Korotin, Selikhanovych, Burnaev, ICLR 2023, arXiv 2201.12220",
    search={
        "lr": (1e-3, 3e-3, 1e-2),
        "optimiser": ("adam", "soap"),
        "inner": (2, 5, 10),
        "critic_rate": (0.3, 1.0, 2.0),
    },
    presets={
        "smoke": {"steps": 30, "settings": "smoke"},
        "quick": {"steps": 800},
        "full": {"steps": 2500},
        "paper": {"steps": 100_001, "settings": "paper"},
    },
)
class NOT(Saddle[NOTConfig]):
    """NOT with a strong cost: a free map against a critic, forward only.

    A step waits for the device only where SOAP does.
    """

    rows: ClassVar[Rows] = {
        ("ours", "vectors"): Settings(),
        ("ours", "images"): Settings(**OURS, cost_scale="mean"),
        ("smoke", "vectors"): Settings(batch_size=256),
        ("smoke", "images"): Settings(**SMALL, cost_scale="mean"),
        ("paper", "vectors"): Settings(**PAPER_VECTORS, iterations=10_001),
        ("paper", "images"): Settings(**PAPER_IMAGES),
    }

    def __init__(self, problem: Problem, config: NOTConfig, context: Context) -> None:
        """Build networks, optimisers and samplers.

        Raises:
            ValueError: `classes=input`, and a class has no labelled points.
        """
        super().__init__(problem, config, context, classes=problem.classes if config.classes == "input" else 0)

    def inner_loss(self) -> Tensor:
        """Return the map's loss, shape (), on new points."""
        return self.map_loss(self.drawn(self.source))

    def map_loss(self, x: Tensor) -> Tensor:
        """Return E[c(x, T(x)) - f(T(x))], shape (), at rows `x` (n, d + classes); f takes no gradient."""
        moved = self.moved(x)
        return self.scaled((moved - x[:, : self.problem.dim]).square()) - self.critic_mean(moved, x)

    def scaled(self, square: Tensor) -> Tensor:
        """Return the cost, shape (): |.|^2 / 2, or the mean over coordinates, of squared differences (n, d)."""
        return square.sum(1).mean() / 2 if self.settings.cost_scale == "sum" else square.mean()
