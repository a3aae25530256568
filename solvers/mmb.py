r"""MM-B: the dual with the conjugate taken over the other batch alone.

Korotin et al., "Do neural optimal transport solvers work?", NeurIPS 2021 (arXiv 2106.01954), MM-B, and its released
code. With batches x_i and y_j and psi free,

$$\min_\psi \; \overline{\psi(x)} - \overline{\psi(x_{i(j)})}, \qquad
i(j) = \arg\max_i \langle x_i, y_j \rangle - \psi(x_i),$$

where i(j) is held fixed when the loss is differentiated. The inverse map has a potential and a loss of its own, with
the roles of the two batches exchanged; both losses are averaged. Maps: gradients of the potentials.

Each psi(x_i) has the weight 1/n - c_i/m, where c_i of the m points y_j choose x_i. So psi is evaluated once, at the
batch, instead of at the batch and at the points chosen from it.

The maximum over a batch lies below that over all of space, and the more so the higher the dimension: the map is biased
for every batch size.

Deviations from the released code, all of them parameters but the last (`paper` sets them back):
    networks: softplus, with |x|^2/2 built in (`strong_convexity=1`): no pre-training is needed.
    learning rate: higher, with a short warm-up and cosine decay, instead of a constant 1e-3.
    batch: 2048 points under `full`, instead of 1024.
    maps: from a weighted average of the iterates, instead of the last ones.
    data: batches walk through the pool in shuffled epochs.
"""

from __future__ import annotations

import torch
from torch import Tensor

from otbench.nets.potential import Potential
from otbench.solver import StepInfo, register_solver
from otbench.solvers._paired import PAPER, FreeConfig, PairedPotentials


class MMBConfig(FreeConfig):
    """Parameters of MM-B."""


@register_solver(
    "mmb",
    config=MMBConfig,
    reference="Korotin, Li, Genevay, Solomon, Filippov, Burnaev, NeurIPS 2021, arXiv 2106.01954",
    search={"lr": (1e-3, 3e-3, 1e-2), "optimiser": ("adam", "soap"), "batch_size": (512, 1024, 2048)},
    presets={
        "smoke": {"steps": 60, "batch_size": 256},
        "quick": {"steps": 1000},
        "full": {"steps": 22_000, "lr": 1e-2, "batch_size": 2048},
        "paper": {**PAPER, "steps": 100_001},
    },
)
class MMB(PairedPotentials[MMBConfig]):
    """MM-B: the dual over two free potentials, with conjugates over batches.

    A step never waits for the device, but where the optimiser is SOAP.
    """

    def update(self) -> StepInfo:
        """Take one step on both potentials, on a new pair of batches."""
        x, y = self.source.next().x.flatten(1), self.target.next().x.flatten(1)
        loss, used = self.loss(self.psi, x, y)
        loss_bar, used_bar = self.loss(self.psi_bar, y, x)
        loss = (loss + loss_bar) / 2
        self.descend(loss)
        return StepInfo(loss.detach(), {"chosen": (used + used_bar) / 2})

    @staticmethod
    def loss(potential: Potential, here: Tensor, there: Tensor) -> tuple[Tensor, Tensor]:
        """Return the loss of one direction, and the share of points that the conjugate chooses, each of shape ().

        Args:
            potential: psi.
            here: batch of the side of psi, shape (n, d).
            there: batch of the other side, shape (m, d).
        """
        value = potential(here)
        with torch.no_grad():
            chosen = torch.addmm(value, there, here.t(), beta=-1).argmax(1)
            count = torch.zeros_like(value).index_add_(0, chosen, torch.ones_like(there[:, 0]))
            weight = 1 / len(here) - count / len(there)
        return (weight * value).sum(), (count > 0).to(value.dtype).mean()
