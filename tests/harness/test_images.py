"""What the judge takes from appliers: rows in another order and back, numbers of the right form and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from otbench import task
from otbench.errors import OtbenchError
from otbench.harness.images import Images
from otbench.harness.messages import Applying, Report
from otbench.plugins.registry import Registry
from otbench.problem import Batch, PoolMeasure, Problem, QuadraticCost
from otbench.records.record import RunSpec

CPU = torch.device("cpu")
N = 50


class Line(task.Instance):
    """Points 0, 1, 2, ... with a class each; the target is ten times as far."""

    scores_mean = True

    def __init__(self) -> None:
        x = torch.arange(float(N))[:, None]
        label = torch.arange(N) % 3
        self.problem = Problem(PoolMeasure(x), PoolMeasure(10 * x), QuadraticCost(), CPU, torch.float32)
        self.test, self.facts = task.TestData(Batch(x, label), Batch(10 * x)), {}

    def score(self, outputs: task.Outputs) -> dict[str, float]:
        return {}


def images(folder: Path, apply: Callable[[Applying], Report], instance: task.Instance | None = None) -> Images:
    spec = RunSpec(
        kind="solver",
        solver="ls",
        solver_config={},
        task="gaussian",
        task_config={},
        preset="quick",
        seed=0,
        steps=1,
        time_limit=None,
        device="cpu",
        threads=1,
        hard_limit=1,
    )
    maps = [folder / "0.otmap", folder / "1.otmap"]
    return Images(instance or Line(), spec, Registry().find("ls"), maps, folder / "private", True, apply)


def test_appliers_see_rows_in_orders_of_their_own_and_images_are_put_back(tmp_path: Path) -> None:
    orders = {}

    def apply(given: Applying) -> Report:
        """The first map adds the class, the second adds 100; the way back takes that off again."""
        for index, path in enumerate(given.points):
            x = np.load(path)
            if index == 0:
                orders[given.direction] = x.ravel().tolist()
            add = 100.0 if index else (0.0 if given.label is None else np.load(given.label)[:, None])
            np.save(
                given.images / f"{index:06}.npy", (x + add if given.direction == "forward" else x - add).astype("f4")
            )
            if given.mean and index:
                np.save(given.images / f"mean-{index:06}.npy", x)
        if given.densities is not None:
            np.save(given.images / "log_prob.npy", np.load(given.points[0])[:, 0])
        assert {path.name for path in (tmp_path / "private").iterdir()} == {given.direction}
        return Report(kind="done", two_way=True, own_density=True)

    made = images(tmp_path, apply)
    assert made.take().kind == "done"
    assert list((tmp_path / "private").iterdir()) == []
    line = torch.arange(float(N))[:, None]
    first, last = made.outputs(0), made.outputs(1)
    assert torch.equal(first.forward, line + (torch.arange(N) % 3)[:, None])
    assert torch.equal(last.forward, line + 100)
    assert last.backward is not None
    assert torch.equal(last.backward, 10 * line - 100)
    assert first.roundtrip is not None
    assert last.roundtrip is not None
    assert torch.equal(first.roundtrip, line)
    assert torch.equal(last.roundtrip, line)
    assert (first.forward_mean, first.log_prob, first.final) == (None, None, False)
    assert last.forward_mean is not None
    assert torch.equal(last.forward_mean, line)
    assert last.log_prob is not None
    assert torch.equal(last.log_prob, 10 * line[:, 0])
    assert last.final
    straight = [float(n) for n in range(N)]
    assert all(order != straight for order in orders.values())
    there, again = orders["forward"], orders["roundtrip"]
    assert sorted(there) == straight
    assert there != again


class Known(Line):
    """Line, with exact paths."""

    def waypoints(self) -> torch.Tensor:
        return torch.arange(3.0).view(3, 1, 1) + 10 * torch.arange(8.0)[:, None]


def test_the_way_is_asked_of_the_last_map_and_velocities_of_a_process_of_their_own(tmp_path: Path) -> None:
    asked = []

    def apply(given: Applying) -> Report:
        """The map doubles; its interpolation takes t of a point away, its velocity is 7 x, or -x at waypoints."""
        asked.append((given.direction, len(given.maps), list(given.times), given.last))
        for index, path in enumerate(given.points):
            x = np.load(path)
            np.save(given.images / f"{index:06}.npy", -x if given.direction == "velocity" else 2 * x)
        if given.followed is not None:
            x = np.load(given.followed)
            places = np.stack([x - np.float32(t) for t in task.TIMES])
            np.save(given.images / "way-places.npy", places)
            np.save(given.images / "way-velocities.npy", 7 * places)
        return Report(kind="done", has_velocity=given.direction == "forward")

    made = images(tmp_path, apply, Known())
    assert made.take().kind == "done"
    assert asked == [("forward", 2, [], True), ("velocity", 3, [0.25, 0.5, 0.75], False)]
    assert made.complete == 2
    assert made.outputs(0).way is None
    way = made.outputs(1).way
    assert way is not None
    assert sorted(way.rows.tolist()) == list(range(N))
    start = way.rows.float()[:, None]
    assert way.velocity is not None
    for t, places, speeds in zip(task.TIMES, way.points, way.velocity, strict=True):
        assert torch.equal(places, start - t)
        assert torch.equal(speeds, 7 * (start - t))
    assert way.exact is not None
    assert torch.equal(way.exact, -Known().waypoints())


def test_the_way_of_a_map_alone_is_straight(tmp_path: Path) -> None:
    def apply(given: Applying) -> Report:
        for index, path in enumerate(given.points):
            np.save(given.images / f"{index:06}.npy", 3 * np.load(path))
        return Report(kind="done")

    made = images(tmp_path, apply, Known())
    made.take()
    way = made.outputs(1).way
    assert way is not None
    assert (way.velocity, way.exact) == (None, None)
    factors = 1 + 2 * torch.tensor(task.TIMES)
    torch.testing.assert_close(way.points, factors.view(5, 1, 1) * way.rows.float()[:, None])


def test_points_of_the_curve_may_be_a_part_and_labels_keep_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, list[int]] = {}

    def apply(given: Applying) -> Report:
        seen[given.direction] = [len(np.load(path)) for path in given.points]
        for index, path in enumerate(given.points):
            np.save(given.images / f"{index:06}.npy", np.load(path))
        return Report(kind="done", two_way=True)

    monkeypatch.setattr(Line, "curve_points", 7)
    made = images(tmp_path, apply)
    assert made.take().kind == "done"
    # the source has classes, the target has none
    assert seen == {"forward": [N, N], "backward": [7, N], "roundtrip": [N, N]}
    first, last = made.outputs(0).backward, made.outputs(1).backward
    assert first is not None
    assert last is not None
    assert torch.equal(last, 10 * torch.arange(float(N))[:, None])
    assert torch.equal(first, last[:7])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (np.zeros((N, 2), dtype="f4"), "have shape"),
        (np.zeros((N, 1)), "torch.float64, not"),
        (np.array([object()] * N), "cannot be read"),
        (b"no numbers", "cannot be read"),
        (None, "cannot be read"),
    ],
)
def test_images_of_another_form_are_refused_and_never_unpickled(content: object, message: str, tmp_path: Path) -> None:
    def apply(given: Applying) -> Report:
        for index in range(2):
            path = given.images / f"{index:06}.npy"
            if isinstance(content, np.ndarray):
                np.save(path, content, allow_pickle=True)
            elif isinstance(content, bytes):
                path.write_bytes(content)
        return Report(kind="done")

    made = images(tmp_path, apply)

    def look() -> task.Outputs:
        made.take()
        return made.outputs(0)

    with pytest.raises(OtbenchError, match=message) as error:
        look()
    assert "\n" not in str(error.value)


def test_maps_that_were_applied_before_one_failed_are_known(tmp_path: Path) -> None:
    def apply(given: Applying) -> Report:
        np.save(given.images / f"{0:06}.npy", np.load(given.points[0]))
        return Report(kind="failed", applied=1)

    made = images(tmp_path, apply)
    assert made.take().kind == "failed"
    assert made.complete == 1
    assert torch.equal(made.outputs(0).forward, torch.arange(float(N))[:, None])
