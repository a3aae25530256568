"""The process that applies kept maps to test points, in one direction. It has no truth; rows come in mixed order."""

from __future__ import annotations

import os
from collections.abc import Callable

import torch

from otbench.data.mapfile import read_map
from otbench.errors import StoreError
from otbench.harness import train
from otbench.harness.evaluate import Applier
from otbench.harness.failures import failure, message
from otbench.harness.messages import CANNOT_WRITE, Applying, Report
from otbench.harness.spool import read_points, write_points
from otbench.plugins.registry import load_entry
from otbench.problem import Batch
from otbench.transport import Transport

IMAGES, MEAN, LOG_PROB = "{:06}.npy", "mean-{:06}.npy", "log_prob.npy"
PLACES, VELOCITIES = "way-places.npy", "way-velocities.npy"
"""Names of what an applier leaves, by the place of the map among those given."""


def main(applying: Applying, reports: int) -> int:
    """Apply the maps, and say to the file descriptor `reports` what comes of it; return the exit code."""
    with os.fdopen(reports, "w", encoding="utf-8", buffering=1) as out:
        work(applying, lambda report: print(report.model_dump_json(exclude_defaults=True), file=out))
    return 0


def work(applying: Applying, say: Callable[[Report], None]) -> None:
    """Apply the maps as `applying` says; the last report says how it ended."""
    done = Report(kind="done")
    try:
        _apply(applying, done)
    except StoreError as error:
        say(Report(kind=CANNOT_WRITE, message=message(error)))
    except BaseException as error:  # whatever a plugin raises becomes its row
        say(Report(kind="failed", failure=failure(error), applied=done.applied))
    else:
        say(done)


def _apply(applying: Applying, done: Report) -> None:
    """Write images of the points under all maps; note in `done` how far it is, and what the maps are like."""
    spec, folder = applying.spec, applying.images
    device = torch.device(spec.device)
    torch.set_num_threads(spec.threads)
    load_entry(applying.entry)
    train.seed_everything(spec.seed)
    label = None if applying.label is None else read_points(applying.label, device)
    points = None
    for index, path in enumerate(applying.maps):
        maps = Transport.restored(read_map(path), device)
        done.reads_label, done.two_way = maps.reads_label, maps.two_way
        done.keeps_rows = getattr(maps, "keeps_rows", 0)
        applier = Applier(maps, applying.entry.name, spec.seed)
        if points is None or applying.points[index] != applying.points[index - 1]:
            points = Batch(read_points(applying.points[index], device), label)
        last = applying.last and index == len(applying.maps) - 1
        if applying.direction == "velocity":
            found = applier.at("velocity", points.x, applying.times[index])
        else:
            found = getattr(applier, applying.direction)(points)
        write_points(folder / IMAGES.format(index), found)
        if applying.mean and maps.stochastic:
            write_points(folder / MEAN.format(index), applier.mean(points))
        if last and applying.densities is not None:
            rows_label = None if applying.densities_label is None else read_points(applying.densities_label, device)
            rows = Batch(read_points(applying.densities, device), rows_label)
            density = applier.log_prob(points, rows, normal=applying.normal)
            if density is not None:
                write_points(folder / LOG_PROB, density)
                done.own_density = hasattr(maps, "log_prob")
        if last and applying.followed is not None:
            done.has_velocity = hasattr(maps, "velocity")
            way = applier.way(read_points(applying.followed, device)) or ()
            for name, numbers in zip((PLACES, VELOCITIES), way, strict=False):
                if numbers is not None:
                    write_points(folder / name, numbers)
        if last and applying.direction != "roundtrip":
            done.seconds = applier.seconds(applying.direction, points)
        done.applied = index + 1
