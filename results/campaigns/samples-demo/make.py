"""Makes the rows of the demonstration: three groups of cells, say, and what a convex potential makes of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

ROWS = 1500
CENTRES = np.array([[-2.0, 0.0, 0.5], [1.5, 1.0, 0.0], [0.5, -2.0, -1.0]])
SLOPES = np.array([[1.0, 0.5, 0.0], [-0.5, 1.0, 0.5], [0.0, -0.5, 1.0]])


def sample(seed: int) -> np.ndarray:
    """Return rows of the first sample, shape (`ROWS`, 3)."""
    rng = np.random.default_rng(seed)
    return CENTRES[rng.integers(3, size=ROWS)] + 0.5 * rng.standard_normal((ROWS, 3))


def mapped(x: np.ndarray) -> np.ndarray:
    """Return the gradient at `x`, shape (n, 3), of a convex function: |x|^2 / 4 and three smooth bends."""
    return 0.5 * x + 1.5 * np.tanh(x @ SLOPES.T) @ SLOPES + np.array([1.0, 2.0, 3.0])


if __name__ == "__main__":
    here = Path(__file__).parent
    for name, rows in (("before", sample(0)), ("truth", mapped(sample(0))), ("after", mapped(sample(1)))):
        np.savetxt(here / f"{name}.csv", rows, fmt="%.4f", delimiter=",", header="a,b,c", comments="")
