"""Two small samples in the plane, and maps between them."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

import otbench
from otbench import Transport

Array = NDArray[np.float64]


@pytest.fixture(scope="session")
def x() -> Array:
    return np.random.default_rng(0).standard_normal((300, 2))


@pytest.fixture(scope="session")
def y() -> Array:
    return 100 + 5 * np.random.default_rng(1).standard_normal((250, 2))


@pytest.fixture(scope="session")
def linear(x: Array, y: Array) -> Transport:
    return otbench.fit(x, y, solver="linear", device="cpu")
