"""The rows of classical colour transfer: what they match, in which space, and whose points they decline."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
import torch
from skimage.exposure import match_histograms
from torch import Tensor

from otbench.baselines.histogram_matching import HistogramMatching
from otbench.baselines.reinhard import Reinhard
from otbench.config import Config
from otbench.ops.colours import ColourSpace, from_rgb, to_rgb
from otbench.problem import PoolMeasure, Problem, QuadraticCost
from otbench.solver import Context, Solver, Transport

CPU = torch.device("cpu")
SPACES: list[Literal["rgb", "lab"]] = ["rgb", "lab"]


def levels(seed: int, low: int, high: int, n: int = 400) -> np.ndarray:
    return np.random.default_rng(seed).integers(low, high, (n, 3), dtype=np.uint8)


def points(array: np.ndarray, space: ColourSpace) -> Tensor:
    return from_rgb(torch.from_numpy(array / 255), space)


def solved(cls: type[Solver[Config]], x: Tensor, y: Tensor, space: ColourSpace) -> Transport:
    problem = Problem(PoolMeasure(x), PoolMeasure(y), QuadraticCost(), CPU, x.dtype, colours=space)
    assert cls.supports(problem).ok
    solver = cls(problem, Config(), Context(CPU, x.dtype, torch.Generator().manual_seed(0), lambda: 0.0))
    assert solver.step().done
    return solver.transport()


@pytest.mark.parametrize("cls", [Reinhard, HistogramMatching])
def test_points_that_are_no_colours_are_declined(cls: type[Solver[Config]]) -> None:
    x = torch.rand(20, 3)
    support = cls.supports(Problem(PoolMeasure(x), PoolMeasure(x), QuadraticCost(), CPU, x.dtype))
    assert (support.ok, support.reason) == (False, "its points are no colours")


@pytest.mark.parametrize("space", SPACES)
def test_reinhard_gives_the_moments_of_lab_channels(space: ColourSpace) -> None:
    x, y = points(levels(0, 90, 140), space), points(levels(1, 110, 150), space)
    maps = solved(Reinhard, x, y, space)
    for image, aim in ((maps.forward(x), y), (maps.backward(y), x)):
        lab, wanted = (from_rgb(to_rgb(part, space), "lab") for part in (image, aim))
        assert torch.allclose(lab.mean(0), wanted.mean(0), atol=1e-5)
        assert torch.allclose(lab.std(0), wanted.std(0), atol=1e-5)
    assert maps.forward(x.float()).dtype == torch.float32


def test_reinhard_moves_one_colour_to_the_mean() -> None:
    x, y = torch.full((50, 3), 0.4, dtype=torch.float64), points(levels(1, 110, 150), "rgb")
    image = solved(Reinhard, x, y, "rgb").forward(x)
    assert torch.allclose(from_rgb(image, "lab").mean(0), from_rgb(y, "lab").mean(0), atol=1e-5)


@pytest.mark.parametrize("space", SPACES)
def test_histogram_matching_is_that_of_scikit_image(space: ColourSpace) -> None:
    here, there = levels(0, 0, 180), levels(1, 60, 256)
    maps = solved(HistogramMatching, points(here, space), points(there, space), space)
    expected = match_histograms(here[None], there[None], channel_axis=-1)[0] / 255
    image = to_rgb(maps.forward(points(here, space)), space)
    assert torch.allclose(image, torch.from_numpy(expected).double(), atol=1e-3 if space == "lab" else 1e-9)


def test_levels_between_those_of_the_pool_are_interpolated() -> None:
    here = np.array([[0, 0, 0], [100, 100, 100]] * 20, dtype=np.uint8)
    there = np.array([[50, 50, 50], [250, 250, 250]] * 20, dtype=np.uint8)
    maps = solved(HistogramMatching, points(here, "rgb"), points(there, "rgb"), "rgb")
    grey = torch.tensor([0.0, 50.0, 100.0, 255.0])[:, None].expand(-1, 3).double() / 255
    assert (maps.forward(grey)[:, 0] * 255).tolist() == pytest.approx([50, 150, 250, 250])
    assert (maps.forward(grey + 25 / 255)[1, 0] * 255).item() == pytest.approx(200)
