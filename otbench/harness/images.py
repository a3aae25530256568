"""What kept maps make of the test points, as the judge gets it from appliers.

Each direction is a process of its own, and so is the way back from the images. Rows go out in an order that follows
from the test data, which no trainer knows, and are put back here. What comes in is checked again: it is a plugin's.
"""

from __future__ import annotations

import functools
import hashlib
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor

from otbench.errors import OtbenchError
from otbench.harness.applier import IMAGES, LOG_PROB, MEAN, PLACES, VELOCITIES
from otbench.harness.evaluate import density_rows, normal_source
from otbench.harness.messages import Applying, Report
from otbench.harness.spool import taken, write_points
from otbench.plugins.registry import Entry
from otbench.problem import Batch
from otbench.records.record import RunSpec
from otbench.task import TIMES, Instance, Outputs, Way

Direction: TypeAlias = Literal["forward", "backward", "roundtrip", "velocity"]
Numbers: TypeAlias = Callable[[], "np.ndarray[tuple[int, ...], np.dtype[np.floating]]"]
_DIRECTIONS: tuple[Direction, ...] = ("forward", "backward", "roundtrip", "velocity")
FOLLOWED = 4096
"""Points of the source that are followed on their way, at most."""


@dataclass
class Images:
    """Images of the test points of `instance` under maps of one run.

    Attributes:
        instance: what the maps were made for.
        spec: the run.
        entry: where the solver is.
        maps: files of the maps, in the order of training.
        folder: where points and images may lie for as long as an applier works.
        final: whether the last map is that of the end of training.
        apply: has an applier work, and returns its last report.
        reports: those reports, by direction.
    """

    instance: Instance
    spec: RunSpec
    entry: Entry
    maps: list[Path]
    folder: Path
    final: bool
    apply: Callable[[Applying], Report]
    reports: dict[Direction, Report] = field(default_factory=dict)
    _images: dict[Direction, list[Numbers]] = field(default_factory=dict)
    _means: dict[int, Numbers] = field(default_factory=dict)
    _log_prob: Numbers | None = None
    _way: dict[str, Numbers] = field(default_factory=dict)
    _orders: dict[Direction, Tensor] = field(default_factory=dict)

    @property
    def complete(self) -> int:
        """Maps that were applied in all their directions."""
        return min((report.applied for name, report in self.reports.items() if name != "velocity"), default=0)

    @property
    def inference(self) -> tuple[float | None, float | None]:
        """Seconds that the last map takes for all points, forward and backward; None without a map back."""
        forward, back = (self.reports.get(name) for name in ("forward", "backward"))
        return (forward.seconds if forward else None), (back.seconds if back else None)

    def take(self) -> Report:
        """Have the maps applied; return the report of the applier that failed, else that of the first.

        Raises:
            OtbenchError: images are missing, or of another form than the points.
            StoreError: points cannot be written.
        """
        first = self._take("forward")
        if first.kind == "done" and first.has_velocity and self._waypoints is not None:
            # without the points that were followed, and after them: what it is shown are points of exact paths
            velocities = self._take("velocity", list(self._waypoints), TIMES[1:-1])
            if velocities.kind != "done":
                return velocities
        if first.kind != "done" or not first.two_way:
            return first
        back = self._take("backward")
        if back.kind != "done":
            return back
        again = self._take("roundtrip", [self._image("forward", index) for index in range(len(self.maps))])
        return first if again.kind == "done" else again

    def outputs(self, index: int) -> Outputs:
        """Return what the map at `index` made of the test points, in their own order."""
        final = self.final and index == len(self.maps) - 1
        back, again = (self._image(name, index) if name in self.reports else None for name in ("backward", "roundtrip"))
        mean = self._means.get(index)
        return Outputs(
            self._image("forward", index),
            back,
            again,
            self._densities() if final else None,
            None if mean is None else self._ordered("forward", index, mean),
            final,
            self._followed() if final and self._waypoints is not None else None,
        )

    @functools.cached_property
    def _waypoints(self) -> Tensor | None:
        return self.instance.waypoints() if self.final else None

    def _take(self, direction: Direction, images: list[Tensor] | None = None, times: Sequence[float] = ()) -> Report:
        """Write the test points, or `images`, those of each map, have them mapped, and take what they become away.

        With `times`, it is the last map that is asked, at each of them.
        """
        folder, maps = self.folder / direction, self.maps[-1:] * len(times) or self.maps
        folder.mkdir(parents=True)
        points, label = self._points(direction).x, self._points(direction).label
        files: list[Path] = []
        for index in range(len(maps)):
            part = "all" if self._all(direction, index) else "part"
            path = folder / f"points-{part if images is None else f'{index:06}'}.npy"
            if path not in files:
                write_points(path, (points if images is None else images[index])[self._order(direction, index)])
            files.append(path)
        applying = Applying(
            direction=direction,
            spec=self.spec,
            entry=self.entry,
            maps=maps,
            points=files,
            label=None if label is None else folder / "label.npy",
            images=folder,
            mean=direction == "forward" and self.instance.scores_mean,
            last=self.final and not times,
            normal=normal_source(self.instance.problem),
            times=list(times),
        )
        if direction == "forward" and self._waypoints is not None:
            applying.followed = folder / "followed.npy"
            write_points(applying.followed, points[self._order(direction)[:FOLLOWED]])
        if label is not None and applying.label is not None:
            write_points(applying.label, label[self._order(direction)])
        if direction == "backward" and self.final:
            rows = density_rows(self.instance.test.target)
            applying.densities = folder / "rows.npy"
            write_points(applying.densities, rows.x)
            if rows.label is not None:
                applying.densities_label = folder / "rows-label.npy"
                write_points(applying.densities_label, rows.label)
        try:
            report = self.apply(applying)
            report.applied = min(report.applied, len(maps)) if report.kind != "done" else len(maps)
            self.reports[direction] = report
            self._images[direction] = [taken(folder / IMAGES.format(index)) for index in range(report.applied)]
            for index in range(report.applied):
                if applying.mean and (folder / MEAN.format(index)).exists():
                    self._means[index] = taken(folder / MEAN.format(index))
            if (folder / LOG_PROB).exists() and report.kind == "done":
                self._log_prob = taken(folder / LOG_PROB)
            for name in (PLACES, VELOCITIES):
                if applying.followed is not None and (folder / name).exists():
                    self._way[name] = taken(folder / name)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        return report

    def _image(self, direction: Direction, index: int) -> Tensor:
        return self._ordered(direction, index, self._images[direction][index])

    def _ordered(self, direction: Direction, index: int, numbers: Numbers) -> Tensor:
        """Return images in the order of the test points, on the run's device."""
        points, order = self._points(direction).x, self._order(direction, index)
        found = self._checked(numbers, (len(order), *points.shape[1:]), points.dtype)
        ordered = torch.empty_like(found)
        ordered[order] = found
        return ordered.to(points.device)

    def _followed(self) -> Way:
        """Return the way of some points of the source, and velocities at the waypoints."""
        rows = self._order("forward")[:FOLLOWED]
        x = self.instance.test.source.x
        start, shape = x[rows], (len(TIMES), len(rows), *x.shape[1:])
        places, speeds = (
            self._checked(self._way[name], shape, x.dtype).to(x.device) if name in self._way else None
            for name in (PLACES, VELOCITIES)
        )
        if places is None:
            end = self._image("forward", len(self.maps) - 1)[rows]
            places = torch.stack([torch.lerp(start, end, t) for t in TIMES])
        exact = [self._image("velocity", k) for k in range(len(self._images.get("velocity", ())))]
        return Way(rows, places, speeds, torch.stack(exact) if exact else None)

    def _densities(self) -> Tensor | None:
        if self._log_prob is None:
            return None
        target = self.instance.test.target.x
        if not self.reports["backward"].own_density:
            return self._checked(self._log_prob, density_rows(Batch(target)).x.shape[:1], torch.float64)
        found = torch.from_numpy(self._log_prob())
        found = self._checked(self._log_prob, target.shape[:1], found.dtype)
        ordered = torch.empty_like(found)
        ordered[self._order("backward")] = found
        return ordered.to(target.device)

    def _checked(self, numbers: Numbers, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        found = torch.from_numpy(numbers())
        if tuple(found.shape) != tuple(shape) or found.dtype != dtype:
            raise OtbenchError(
                f"{self.entry.name}: images of the test points have shape {tuple(found.shape)} and {found.dtype}, "
                f"not {tuple(shape)} and {dtype}"
            )
        return found

    def _points(self, direction: Direction) -> Batch:
        if direction == "velocity":
            assert self._waypoints is not None
            return Batch(self._waypoints[0])
        return self.instance.test.target if direction == "backward" else self.instance.test.source

    def _all(self, direction: Direction, index: int) -> bool:
        """Say whether the map at `index` is applied to all test points, or to the first of them (`curve_points`)."""
        at_end = direction == "velocity" or (self.final and index == len(self.maps) - 1)
        return at_end or self.instance.curve_points is None or self._points(direction).label is not None

    def _order(self, direction: Direction, index: int | None = None) -> Tensor:
        """Return the places of the test points in the order that an applier sees them, shape (n,), int64.

        Those that the map at `index` is applied to; None = all.
        """
        if direction not in self._orders:
            x = self._points(direction).x
            digest = hashlib.sha256(x.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
            key = [*digest.digest(), _DIRECTIONS.index(direction)]
            self._orders[direction] = torch.from_numpy(np.random.default_rng(key).permutation(len(x)))
        order, most = self._orders[direction], self.instance.curve_points
        return order if index is None or most is None or self._all(direction, index) else order[order < most]
