"""Colour transfer: give one photograph the colours of another, and the other way round.

Pixels are points of R^3, sRGB in [0, 1] or CIELAB over 100 (`space=lab`), and the quadratic cost asks that each colour
changes as little as it must. After Park, Liu, Zhou, Osher, arXiv 2510.01153, 6.1.3.

Pictures: two that come with scikit-learn, so that it runs offline (set `scikit-learn`: a temple in China, and a
flower); pairs of CycleGAN's sets that the user has (`otbench.datasets.colour.sets`); the user's own (`source=a.jpg,
target=b.jpg`).

A fifth of the pixels of each picture, chosen at random and the same for all seeds, is held out: at most 2^14 of them
are test points, for energy distances and cost. The others train, at most `pool` of them, which the seed chooses.
Neighbouring pixels are alike and colours repeat, so a held-out pixel is seldom of a colour that nobody saw: energy
distances say whether the law of the colours is met, not how a map generalises. At the end, maps are applied to every
colour of the whole pictures, each once, and what becomes of the pictures is looked at.

Read the numbers together. `energy` is the unbiased energy distance in R^3: it alone sees how channels belong together.
W1 and the histogram intersection (`HI`) look at one channel at a time, with 256 bins; `histogram_matching` is made to
have a low W1. It sends each level to one level and leaves others empty, which costs it HI: a smoother map with more
error in W1 can have more of it. `cost` is what the map moves, and `TV` the total variation of the result over
that of the picture it was made from: above 1 it is rougher (banding, noise), below 1 flatter. `EMD of heights` is the
Wasserstein distance between the heights of the bins, which does not ask where a bin lies. It stands here because
published figures are of this kind.

Published figures stand in no table of ours, but in docs/colour.md: their pictures are not named, and what they call EMD
cannot be the W1 of intensities.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from otbench.config import Value
from otbench.data.pictures import read_picture, smaller
from otbench.data.sources import DataSource
from otbench.datasets.colour.sets import BUNDLED, REPORTED, SIDES, PictureSource, pair_of
from otbench.datasets.colour.settings import LEAST_PIXELS, ColourConfig
from otbench.datasets.colour.side import Side
from otbench.errors import DataError, UsageError
from otbench.files import file_digest, shown, typed_path
from otbench.metrics.intensities import (
    height_distance,
    histograms,
    intensity_w1,
    intersection,
    total_variation,
)
from otbench.metrics.two_sample import CURVE_POINTS
from otbench.names import plain
from otbench.ops.colours import levels_of
from otbench.ops.energy import energy_distance
from otbench.problem import Batch, PoolMeasure, Problem, QuadraticCost
from otbench.task import Instance, Metric, Outputs, Picture, Task, TestData, register_task

__all__ = ["Colour", "ColourConfig", "ColourInstance"]

DRAWN_PIXELS = 144 * 144
"""Pixels of a picture that a report draws, at most."""
HALF_LEVEL = 0.5 / 255
"""A colour that lies further outside of [0, 1] than this is clipped where it is shown."""


class ColourInstance(Instance):
    """Two pictures with their training pixels, their held-out pixels and all their colours.

    Test data are the held-out pixels, then every colour of the picture once; the latter are for the end only.
    """

    curve_points = CURVE_POINTS

    def __init__(
        self, problem: Problem, held_out: tuple[Tensor, Tensor], sides: tuple[Side, Side], facts: Mapping[str, Value]
    ) -> None:
        """Hold the parts; `held_out` are points of the space, shapes (n, 3) and (m, 3)."""
        self.problem, self.facts = problem, facts
        self._held_out, self._sides = held_out, sides
        source, target = (
            Batch(torch.cat((points, side.colours.to(points)))) for points, side in zip(held_out, sides, strict=True)
        )
        self.test = TestData(source, target)

    def score(self, outputs: Outputs) -> dict[str, float]:
        """Return the metrics by name; those of whole pictures at the end only."""
        x, y = (part if outputs.final else part[:CURVE_POINTS] for part in self._held_out)
        ways = {"fwd": (outputs.forward, x, y, 0)}
        if outputs.backward is not None:
            ways["bwd"] = (outputs.backward, y, x, 1)
        scores: dict[str, float] = {}
        for way, (images, here, there, side) in ways.items():
            moved = images[: len(here)]
            scores[f"energy_{way}"] = float(energy_distance(moved.double(), there.double(), unbiased=True))
            scores[f"cost_{way}"] = float(self.problem.cost(here, moved).double().mean())
            if outputs.final:
                scores |= {f"{name}_{way}": value for name, value in self._of_pictures(images, side).items()}
        variance = float(x.double().var(0, unbiased=False).sum())
        if outputs.roundtrip is not None and variance > 0:
            gap = (outputs.roundtrip[: len(x)] - x).double().square().sum(1).mean()
            scores["inverse_gap"] = 100 * float(gap) / variance
        return scores

    def _of_pictures(self, images: Tensor, side: int) -> dict[str, float]:
        """Return what is said of the picture that `images` of test points make of that of `side`."""
        here, there = self._sides[side], self._sides[1 - side]
        result = self._result(images, side)
        if not np.isfinite(result).all():
            return {}  # distances say so
        shares = histograms(levels_of(result))
        scores = {
            "w1": intensity_w1(shares, there.shares),
            "hi": intersection(shares, there.shares),
            "heights": height_distance(shares, there.shares),
            "outside": 100 * float((np.abs(result - 0.5) > 0.5 + HALF_LEVEL).any(2).mean()),
        }
        if here.variation > 0:
            scores["tv"] = total_variation(np.clip(result, 0, 1)) / here.variation
        return scores

    def _result(self, images: Tensor, side: int) -> NDArray[np.float64]:
        return self._sides[side].shown(images[len(self._held_out[side]) :])

    def pictures(self, outputs: Outputs) -> Sequence[Picture]:
        """Return both pictures and what became of them, made smaller."""
        drawn = {name: side.picture for name, side in zip(("source", "target"), self._sides, strict=True)}
        drawn["forward"] = levels_of(self._result(outputs.forward, 0))
        if outputs.backward is not None:
            drawn["backward"] = levels_of(self._result(outputs.backward, 1))
        small = {name: smaller(picture, DRAWN_PIXELS) for name, picture in drawn.items()}
        return (
            Picture(
                "pictures",
                "photographs",
                "source and target, then the source in the target's colours, and the target in the source's",
                small,
            ),
        )


@register_task(
    "colour",
    config=ColourConfig,
    reference="Park, Liu, Zhou, Osher, arXiv 2510.01153, 6.1.3; pictures: Zhu, Park, Isola, Efros, CycleGAN, ICCV "
    "2017, arXiv 1703.10593, and scikit-learn",
    presets={
        "smoke": {"set": BUNDLED, "pixels": 4096},
        "quick": {"set": [BUNDLED, "summer2winter", "monet2photo"], "pair": 1},
        "full": {"set": ["summer2winter", "monet2photo"], "pair": list(range(1, REPORTED + 1))},
        "paper": {"set": list(SIDES), "pair": list(range(1, REPORTED + 1))},
    },
)
class Colour(Task[ColourConfig]):
    """One photograph in the colours of another: pixels as points of R^3, judged as laws and as pictures."""

    replaces: ClassVar[Mapping[str, tuple[str, ...]]] = {"source": ("set", "pair"), "target": ("set", "pair")}
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("energy_fwd", "energy fwd", "data units", primary=True, flag_worse=True),
        Metric("energy_bwd", "energy bwd", "data units", primary=True),
        Metric("w1_fwd", "W1 by channel fwd", primary=True),
        Metric("w1_bwd", "W1 bwd", primary=True),
        Metric("hi_fwd", "HI fwd", higher_is_better=True, primary=True),
        Metric("hi_bwd", "HI bwd", higher_is_better=True, primary=True),
        Metric("tv_fwd", "TV fwd", "ratio", primary=True),
        Metric("heights_fwd", "EMD of heights fwd", primary=True),
        Metric("cost_fwd", "cost", "data units^2", primary=True),
        Metric("tv_bwd", "TV bwd", "ratio"),
        Metric("heights_bwd", "EMD of heights bwd"),
        Metric("cost_bwd", "cost bwd", "data units^2"),
        Metric("inverse_gap", "|S(T(x))-x|^2", "%"),
        Metric("outside_fwd", "clipped fwd", "%"),
        Metric("outside_bwd", "clipped bwd", "%"),
    )

    def controls(self) -> tuple[str, ...]:
        """Return the rows of classical colour transfer and of discrete plans."""
        return ("reinhard", "histogram_matching", "emd", "sinkhorn")

    @classmethod
    def choose(
        cls, preset: Mapping[str, Value | Sequence[Value]], *, typed: frozenset[str], data_dir: Path | None
    ) -> tuple[Mapping[str, Value | Sequence[Value]], Sequence[str]]:
        """Keep the sets that are on this machine; where there are none, take scikit-learn's pictures."""
        wanted = preset.get("set")
        if typed & {"set", "source", "target"} or isinstance(wanted, str) or not isinstance(wanted, Sequence):
            return preset, ()
        missing = [name for name in SIDES if name in wanted and PictureSource(name).find(data_dir) is None]
        here = [name for name in wanted if name not in missing]
        notes = [
            f"task colour: set {name} left out: not on this machine; {PictureSource(name).remedy}" for name in missing
        ]
        if not here:
            notes.append("task colour: no set is here, so scikit-learn's two pictures are taken as a demonstration")
        return {**preset, "set": here or [BUNDLED]}, notes

    @classmethod
    def sources(cls) -> Sequence[DataSource]:
        """Return the sets of pictures."""
        return [PictureSource(name) for name in SIDES]

    def check(self) -> None:
        """Read both pictures.

        Raises:
            UsageError: one of the user's own pictures is not named.
            DataError: a picture is missing, damaged, too large, too small, or not the one that it should be.
        """
        _ = self._loaded

    def inputs(self) -> tuple[Path, ...]:
        """Return both files."""
        return self._paths

    def build(self, *, seed: int, device: torch.device, dtype: torch.dtype) -> ColourInstance:
        """Make the instance: training pixels from `seed`, held-out pixels from their own."""
        sides, sizes = self._loaded
        splits = [side.split(self.config.pool, self.pool_seed(seed)) for side in sides]
        measures, held_out = [], []
        for side, split in zip(sides, splits, strict=True):
            train, validation, test = (
                side.points(part).to(device, dtype) for part in (split.train, split.validation, split.test)
            )
            measures.append(PoolMeasure(train, validation=validation if len(validation) else None))
            held_out.append(test)
        problem = Problem(measures[0], measures[1], QuadraticCost(), device, dtype, colours=self.config.space)
        facts: dict[str, Value] = {"set": self.config.set, "pair": self.config.pair, "space": self.config.space}
        for name, side, split, size, path in zip(("source", "target"), sides, splits, sizes, self._paths, strict=True):
            height, width = side.picture.shape[:2]
            facts |= {
                f"{name}_sha256": file_digest(path),
                f"{name}_size": f"{size[0]} x {size[1]}",
                f"{name}_used_size": f"{width} x {height}",
                f"{name}_colours": len(side.colours),
                f"{name}_training_pixels": len(split.train),
                f"{name}_held_out_pixels": len(split.test),
            }
        return ColourInstance(problem, (held_out[0], held_out[1]), sides, facts)

    def describe(self) -> str:
        """Return pictures, space and sizes in a few words."""
        config, (sides, _) = self.config, self._loaded
        names = [plain(path.name, 60) for path in self._paths]
        if config.set in SIDES:
            names = [f"{path.parent.name} {path.stem}" for path in self._paths]
        sizes = " and ".join("{1} x {0}".format(*side.picture.shape) for side in sides)
        space = "sRGB" if config.space == "rgb" else "CIELAB"
        pool = f"{config.pool:,}".replace(",", " ")
        return f"{names[0]} to {names[1]}, {space}, {sizes}, at most {pool} training pixels{self.pool_words()}"

    @functools.cached_property
    def _paths(self) -> tuple[Path, Path]:
        config = self.config
        if config.set != "own":
            return pair_of(config.set, config.pair, self.data_dir)
        if config.source is None or config.target is None:
            raise UsageError("task colour: your own pictures: give both files, source=a.jpg,target=b.jpg")
        return typed_path(config.source, "task colour: source"), typed_path(config.target, "task colour: target")

    @functools.cached_property
    def _loaded(self) -> tuple[tuple[Side, Side], tuple[tuple[int, int], tuple[int, int]]]:
        sides, sizes = [], []
        for number, path in enumerate(self._paths):
            picture, size = read_picture(path, most=self.config.pixels)
            if picture.shape[0] * picture.shape[1] < LEAST_PIXELS:
                width, height = size
                raise DataError(
                    f"{shown(path)}: has {width} x {height} pixels; give a picture of {LEAST_PIXELS} or more"
                )
            sides.append(Side(picture, self.config.space, number))
            sizes.append(size)
        return (sides[0], sides[1]), (sizes[0], sizes[1])
