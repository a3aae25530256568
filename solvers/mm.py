r"""MM and MM:R: maximin with a second network in the place of the conjugate's maximiser.

Korotin et al., "Do neural optimal transport solvers work?", NeurIPS 2021 (arXiv 2106.01954), sec. 4, MM and its
reversed form. Both networks are free potentials; a map is the gradient of one.

MM has psi on the source side and the inverse map $H = \nabla\bar\psi$:

$$\max_{H} \min_\psi \; E_\mu \psi(x) - E_\nu \psi(H(y)) + E_\nu \langle H(y), y \rangle .$$

One outer iteration takes one step of psi on $E_\mu \psi(x) - E_\nu \psi(H(y))$ with H fixed, then `inner` steps of H on
$E_\nu [\psi(H(y)) - \langle H(y), y \rangle]$ with psi fixed, each on new points. Maps: $T = \nabla\psi$, $S = H$. MM:R
exchanges the two measures: psi_bar is the potential on the target side, and the forward map $T = \nabla\psi$ plays H.

The inner loss has the gradient $E \langle \nabla\psi(H(y)) - y, \partial_\theta H(y) \rangle$. So psi needs only its
own gradient at H(y), without a graph; the only double backward pass is that of H.

Deviations from the released code, all of them parameters but the last (`paper` sets them back):
    networks: softplus, with |x|^2/2 built in (`strong_convexity=1`): the maps are x + (gradient of a free network),
        near the identity from the start, so that no pre-training is needed.
    learning rate: short warm-up and cosine decay, instead of a constant rate.
    weight decay: falls to zero with the rate; it keeps the network from fitting the noise of its finite pool. Where
        both sides are fresh there is none.
    maps: from a weighted average of the iterates. The released code keeps the checkpoint with the lowest error against
        the ground truth, which no solver here can see.
    inner steps: fewer, for more outer iterations in the same time.
    optimiser: SOAP in the preset `full`, Adam elsewhere.
    rates: in the preset `full` the potential's is 0.3 times the map's. With equal rates SOAP moves the potential faster
        than the map can follow: on `convex[family=ridge-mid,dim=32]` the mean |grad psi(H(y)) - y|^2 of MM:R was 0.94
        instead of 0.12 after 20 CPU seconds (seed 100, batch 1024, lr=3e-3), and on `w2bench[dim=16]` 1.67
        instead of 0.63 after 30, with a forward UVP of 9.8 % instead of 4.9 %. A slow potential has its price: on
        `convex[family=lse-mid,dim=8]` the factor 0.1 ends at 2.2 % after 25 seconds, equal rates at 0.22 % (single
        runs, no records kept).
    data: batches walk through the pool in shuffled epochs.

On the W2 benchmark at d = 64 the slow potential is not slow enough: the map of MM:R runs away after some 1000 steps of
`full` ([the run](../../results/reference/w2bench/README.md)). A still lower `critic_rate` and more `inner` steps have
not been tried there.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from otbench.nets.potential import Potential
from otbench.samplers import EpochSampler
from otbench.solver import Field, Preset, StepInfo, register_solver
from otbench.solvers._paired import PAPER, FreeConfig, PairedPotentials


class MMConfig(FreeConfig):
    """Parameters of MM and MM:R."""

    inner: int = Field(5, "steps of the map per step of the potential", unit="steps", ge=1)
    critic_rate: float = Field(1.0, "learning rate of the potential, as a multiple of the map's", gt=0)


_SEARCH = {
    "lr": (3e-3, 1e-2, 2e-2),
    "optimiser": ("adam", "soap"),
    "inner": (2, 5, 10),
    "critic_rate": (0.1, 0.3, 1.0),
}
_REFERENCE = "Korotin, Li, Genevay, Solomon, Filippov, Burnaev, NeurIPS 2021, arXiv 2106.01954"
_PRESETS: dict[str, Preset] = {
    "smoke": {"steps": 30, "batch_size": 256},
    "quick": {"steps": 600},
    "full": {"steps": 18_000, "optimiser": "soap", "critic_rate": 0.3, "weight_decay": 0.3, "batch_size": 512},
    "paper": {**PAPER, "steps": 50_001, "inner": 15},
}


@register_solver("mm", config=MMConfig, reference=_REFERENCE, presets=_PRESETS, search=_SEARCH)
class MM(PairedPotentials[MMConfig]):
    """MM: maximin with a potential on the source side and a learnt inverse map.

    A step waits for the device only where SOAP does.
    """

    reverse: ClassVar[bool] = False
    """Whether the potential is on the target side and the map learnt is the forward one."""

    def update(self) -> StepInfo:
        """Take one step of the potential, then `inner` steps of the map."""
        here, there = (self.target, self.source) if self.reverse else (self.source, self.target)
        potential, mover = (self.psi_bar, self.psi) if self.reverse else (self.psi, self.psi_bar)
        outer = self.potential_loss(potential, mover, _points(here), _points(there))
        self.descend(outer, self.config.critic_rate)
        gap = outer.detach()
        for _ in range(self.config.inner):
            loss, gap = self.map_loss(potential, mover, _points(there))
            self.descend(loss)
        return StepInfo(outer.detach(), {"residual": gap})

    @staticmethod
    def potential_loss(potential: Potential, mover: Potential, here: Tensor, there: Tensor) -> Tensor:
        """Return E psi(x) - E psi(H(y)), shape (), H fixed, at `here` and `there`, each (n, d)."""
        with torch.no_grad():
            moved = mover.gradient(there)
        value = potential(torch.cat((here, moved)))
        return value[: len(here)].mean() - value[len(here) :].mean()

    @staticmethod
    def map_loss(potential: Potential, mover: Potential, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return a loss whose gradient is that of E[psi(H(y)) - <H(y), y>], and the mean |grad psi(H(y)) - y|^2.

        Its value means nothing.

        Args:
            potential: psi, fixed.
            mover: the potential whose gradient is H.
            y: points, shape (n, d).
        """
        moved = mover.gradient(y)
        with torch.no_grad():
            residual = potential.gradient(moved) - y
        return (moved * residual).sum(1).mean(), residual.square().sum(1).mean()


@register_solver("mmr", config=MMConfig, reference=_REFERENCE, presets=_PRESETS, search=_SEARCH)
class MMReversed(MM):
    """MM:R: maximin with a potential on the target side and a learnt forward map.

    A step waits for the device only where SOAP does.
    """

    reverse: ClassVar[bool] = True


def _points(sampler: EpochSampler) -> Tensor:
    return sampler.next().x.flatten(1)
