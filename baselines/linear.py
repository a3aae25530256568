r"""The plug-in Bures map: the optimal map between two Gaussians, with the moments of the training pools.

T(x) = m1 + A (x - m0),  A = S0^{-1/2} (S0^{1/2} S1 S0^{1/2})^{1/2} S0^{-1/2}

On Gaussian pairs its error is what the sample of training points costs: a yardstick, and no lower bound, as a trained
map can end below it by chance. Knott and Smith, Journal of Optimization Theory and Applications 43, 1984. Not by POT
(`ot.gaussian.bures_wasserstein_mapping`), whose roots are NaN where rounding makes an eigenvalue negative, as it does
with the pixels of images.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from otbench.baselines._two_maps import TwoMaps, TwoModules
from otbench.nets.affine import AffineMap
from otbench.ops.points import training_points
from otbench.solver import Config, Context, Field, Problem, StepInfo, register_baseline


class LinearConfig(Config):
    """Parameters of the plug-in Bures map."""

    ridge: float = Field(1e-6, "added to the diagonals, relative to the mean variance, for flat directions", ge=0, le=1)


@register_baseline(
    "linear",
    config=LinearConfig,
    reference="Knott, Smith, On the optimal mapping of distributions, JOTA 43, 1984; Flamary et al., POT, JMLR 2021",
    always=True,
)
class Linear(TwoMaps[LinearConfig, AffineMap]):
    """Bures map with the moments of the same training pools: the yardstick of Gaussian tasks."""

    def __init__(self, problem: Problem, config: LinearConfig, context: Context) -> None:
        """Start at the identity; the moments are read by the step."""
        super().__init__(problem, config, context)
        eye = torch.eye(problem.dim, device=context.device, dtype=context.dtype)
        self._forward, self._backward = (AffineMap(eye.clone(), torch.zeros_like(eye[0])) for _ in range(2))

    def step(self) -> StepInfo:
        """Read the moments of both pools and compute both maps, in float64 on the CPU: one transfer each way."""
        x, y = (training_points(side, self.context.generator) for side in (self.problem.source, self.problem.target))
        set_bures(self._forward, self._backward, x, y, ridge=self.config.ridge)
        return StepInfo(0.0, done=True)

    def transport(self) -> TwoAffine:
        """Return both maps."""
        return TwoAffine(self._forward, self._backward)


class TwoAffine(TwoModules):
    """Two affine maps."""

    differentiable = True


def set_bures(forward: AffineMap, backward: AffineMap, x: Tensor, y: Tensor, *, ridge: float) -> None:
    """Make two maps the Bures maps between the Gaussians with the moments of `x` (n, d) and `y` (m, d)."""
    (mean0, cov0), (mean1, cov1) = _moments(x, ridge), _moments(y, ridge)
    ways = ((forward, mean0, mean1, cov0, cov1), (backward, mean1, mean0, cov1, cov0))
    for network, mean_from, mean_to, cov_from, cov_to in ways:
        matrix = _bures(cov_from, cov_to)
        assert network.matrix is not None
        network.matrix.copy_(torch.from_numpy(matrix))
        network.offset.copy_(torch.from_numpy(mean_to - matrix @ mean_from))


def _bures(cov0: NDArray[np.float64], cov1: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return A, shape (d, d), symmetric, with A cov0 A = cov1; eigenvalues below rounding count as rounding."""
    values, vectors = np.linalg.eigh(cov0)
    size = np.sqrt(np.clip(values, np.finfo(values.dtype).eps * values[-1], None))
    root, inverse = (vectors * size) @ vectors.T, (vectors / size) @ vectors.T
    values, vectors = np.linalg.eigh(root @ cov1 @ root)
    middle = (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T
    matrix: NDArray[np.float64] = inverse @ middle @ inverse
    return matrix


def _moments(x: Tensor, ridge: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    points = x.cpu().double().numpy()
    centred = points - points.mean(0)
    cov = centred.T @ centred / len(points)
    # constant data have no scale of their own; any positive ridge then gives the translation
    scale = np.trace(cov) / len(cov) or 1.0
    return points.mean(0), cov + ridge * scale * np.eye(len(cov))
