"""What fixes the source of the Wasserstein-2 benchmark: a mixture of three Gaussians, drawn once and for all."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

COMPONENTS = 3
SPREAD = 0.4
"""Standard deviation of each coordinate within a component, before the common scaling."""


def fixed_draws(dim: int) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Return what the benchmark draws once from NumPy's legacy generator, seed 0, to fix the mixture.

    Returns:
        Centres before 1 is subtracted, shape (3, d): each column a permutation of 0, 1, 2. Normal factors before their
        rows are scaled, shape (3, d, d).
    """
    random = np.random.RandomState(0)  # its stream is frozen, and the published pairs depend on it
    columns = [random.choice([0, 1, 2], size=COMPONENTS, replace=False) for _ in range(dim)]
    return np.stack(columns, 1).astype(np.int8), random.normal(size=(COMPONENTS, dim, dim)).astype(np.float32)
