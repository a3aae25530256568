r"""NOT with a weak cost: a stochastic map T(x, z) and a critic, trained against each other.

Korotin, Selikhanovych, Burnaev, "Neural Optimal Transport", ICLR 2023 (arXiv 2201.12220), eq. 14, and its released
code. A point x is carried to a measure, that of T(x, z) over random z. The weak quadratic cost of that measure,

$$C_\gamma(x, P) = \tfrac12 E_{y \sim P} |x - y|^2 - \tfrac\gamma2 \operatorname{Var}(P)
= \tfrac12 |x - E_P y|^2 + \tfrac{1 - \gamma}2 \operatorname{Var}(P) ,$$

rewards spread. The saddle problem is that of `not` with $C_\gamma(x, T(x, \cdot))$ for c, and so are the order of
updates, the networks and the deviations. With the mean and the unbiased variance $\hat V$ of k draws,

$$\tfrac12 |x - \bar T|^2 + \tfrac12 (1 - \gamma - 1/k) \, \hat V$$

is an unbiased estimate of the cost: the $-1/k$ takes away what the noise of the mean adds to the square.

What to expect: if the covariances of a Gaussian pair commute, and $\lambda_i$ are the eigenvalues of its optimal map,
the mean over z of the optimal plan is $\min(\lambda_i, 1/\gamma) \, x_i$ along axis i, and noise makes up the rest of
the variance. So the strong map is the solution if and only if $\gamma \lambda_i \le 1$ for all i; beyond that neither
the error of single draws nor that of their mean vanishes, and that is no defect.

Presets: `paper` is the authors' toy notebook for vectors, gamma = 1, for which the cost sees nothing but the mean, and
their image notebook for images: gamma = 0.66, reached along a line over the first quarter of the budget, 8 draws. Our
settings have that gamma, and 4 draws. Half as many points per update as in `not`; images: an eighth.

The noise has as many coordinates as the data (the code: two, in two dimensions): for images with one channel it is one
more channel, as published.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import torch
from torch import Tensor

from otbench.solver import Field, register_solver
from otbench.solvers._saddle_settings import OURS, PAPER_IMAGES, PAPER_VECTORS, SMALL, Rows, Settings
from otbench.solvers.not_ import NOT, NOTConfig


class NOTWeakConfig(NOTConfig):
    """Parameters of NOTWeak: those of NOT, the weak cost's and the noise's."""

    gamma: float | None = Field(None, "weight of the variance that the cost takes off; 0 = strong cost", ge=0, le=1)
    gamma_rise: float | None = Field(None, "share of the budget over which gamma rises from 0", ge=0, le=1)
    draws: int | None = Field(None, "draws of noise per source point in a step of the map", unit="draws", ge=2)
    noise_dim: int | None = Field(None, "coordinates of the noise; none = those of the data", ge=1)
    noise_std: float = Field(0.1, "standard deviation of the noise", gt=0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class WeakSettings(Settings):
    """The values that a run uses; the defaults are ours for vectors."""

    batch_size: int = 512
    gamma: float = 0.66
    gamma_rise: float = 0.25
    draws: int = 4


@register_solver(
    "notweak",
    config=NOTWeakConfig,
    reference="Korotin, Selikhanovych, Burnaev, ICLR 2023, arXiv 2201.12220",
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
        "paper": {"steps": 100_001, "settings": "paper"},
    },
)
class NOTWeak(NOT):
    """NOT with a weak cost: a stochastic map against a critic, forward only.

    A step waits for the device only where SOAP does.
    """

    config: NOTWeakConfig
    settings: WeakSettings
    rows: ClassVar[Rows] = {
        ("ours", "vectors"): WeakSettings(),
        ("ours", "images"): WeakSettings(**OURS | {"batch_size": 16}, cost_scale="mean"),
        ("smoke", "vectors"): WeakSettings(batch_size=128),
        ("smoke", "images"): WeakSettings(**SMALL, cost_scale="mean", draws=2),
        ("paper", "vectors"): WeakSettings(**PAPER_VECTORS, iterations=10_001, gamma=1.0, gamma_rise=0.0),
        ("paper", "images"): WeakSettings(**PAPER_IMAGES, draws=8),
    }

    def map_loss(self, x: Tensor) -> Tensor:
        """Return E[C(x, T(x, .)) - f(T(x, z))], shape (), at rows `x` (n, d + classes); f takes no gradient."""
        k, d = self.settings.draws, self.problem.dim
        repeated = x.repeat_interleave(k, 0)
        moved = self.moved(repeated)
        return self.weak_cost(x[:, :d], moved.view(len(x), k, -1)) - self.critic_mean(moved, repeated)

    def weak_cost(self, x: Tensor, moved: Tensor) -> Tensor:
        """Return the estimate of E C(x, T(x, .)), shape (), with the present gamma.

        Args:
            x: source points, shape (n, d).
            moved: k draws of each image, shape (n, k, d).
        """
        variance, mean = torch.var_mean(moved, 1)
        return self.scaled((x - mean).square() + (1 - self._gamma() - 1 / moved.shape[1]) * variance)

    def noise_dim(self) -> int:
        """Return the number of coordinates of the noise."""
        return self.config.noise_dim or self.problem.dim

    def noise_std(self) -> float:
        """Return the standard deviation of the noise."""
        return self.config.noise_std

    def _gamma(self) -> float:
        """Return gamma at this point of the budget."""
        rise = self.settings.gamma_rise
        return self.settings.gamma * (min(1.0, self.context.progress() / rise) if rise else 1.0)
