r"""SWOT, a control: a map trained to match the target by the sliced Wasserstein distance, without a transport cost.

$$\min_T \; E_\theta \, W_2^2 \big( \theta_\# T_\# \mu, \; \theta_\# \nu \big) ,$$

over directions theta that are uniform on the sphere and drawn anew in each step (Rabin, Peyre, Delon, Bernot, SSVM
2011; as a loss of generative networks: Deshpande, Zhang, Schwing, CVPR 2018). On a line the optimal coupling of two
batches pairs their sorted values.

Every map with the right image measure is a minimiser: nothing in the loss prefers the optimal one. All that ties this
map to the cost is that it starts at the identity, x + network with the network's last layer at zero, and goes downhill
from there. So on pairs with a known truth this row says what matching marginals is worth, and whether a score between
two samples tells a good map from any other. It is no method that anyone proposes for optimal transport, and there is no
preset `paper`.

Its failings: batches of n points differ from the measures by a distance that does not vanish, which as a loss pulls
images together; in many dimensions a random direction sees little of where two measures differ.
"""

from __future__ import annotations

from torch import Tensor

from otbench.ops.sliced import projected_w2_squared, unit_directions
from otbench.solver import Field, register_solver
from otbench.solvers._free_map import FreeMapConfig, FreeMapSolver


class SWOTConfig(FreeMapConfig):
    """Parameters of the control."""

    directions: int = Field(128, "directions per step", ge=1)


@register_solver(
    "swot",
    config=SWOTConfig,
    reference="control; loss: Deshpande, Zhang, Schwing, Generative Modeling Using the Sliced Wasserstein Distance, "
    "CVPR 2018",
    search={
        "lr": (1e-3, 3e-3, 1e-2),
        "optimiser": ("adam", "soap"),
        "batch_size": (512, 1024, 2048),
        "directions": (32, 128, 512),
    },
    presets={
        "smoke": {"steps": 60, "batch_size": 256, "directions": 32},
        "quick": {"steps": 2000},
        "full": {"steps": 20_000},
    },
)
class SWOT(FreeMapSolver[SWOTConfig]):
    """A map from the identity downhill in the sliced Wasserstein distance: a control without a transport cost.

    A step waits for the device only where SOAP does.
    """

    def loss(self, x: Tensor, y: Tensor) -> tuple[Tensor, dict[str, Tensor | float]]:
        """Return the mean of W2^2 over new directions, shape (), in units of the points."""
        directions = unit_directions(self.config.directions, x.shape[1], self.context.generator).to(x)
        return projected_w2_squared(self.map(x), y, directions).mean().to(x.dtype), {}
