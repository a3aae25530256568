"""`pool_seed`: runs that share their pools and differ in the solver's seed; left out, nothing changes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from otbench.config import build_config
from otbench.plugins.registry import Registry
from otbench.task import Instance

TASKS = {
    "gaussian": {"pool": "50"},
    "convex": {"pool": "50"},
    "toy2d": {"set": "8gaussians", "pool": 50},
    "uci": {"set": "wine"},
}


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def build(name: str, *, seed: int, **values: object) -> Instance:
    registry = Registry()
    note = registry.load(registry.find(name, "task"))
    task = note.cls(build_config(note.config, TASKS[name] | values, owner=name))  # type: ignore[arg-type]
    instance: Instance = task.build(seed=seed, device=torch.device("cpu"), dtype=torch.float32)
    return instance


def pools(instance: Instance) -> list[Tensor]:
    return [side.pool for side in (instance.problem.source, instance.problem.target) if side.pool is not None]


def same(one: list[Tensor], other: list[Tensor]) -> bool:
    return len(one) == len(other) > 0 and all(torch.equal(x, y) for x, y in zip(one, other, strict=True))


@pytest.mark.parametrize("name", TASKS)
def test_pools_follow_pool_seed_where_it_is_given_else_the_run(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("otbench.datasets.toy2d.TEST_POINTS", 200)  # whose exact plan takes most of the time
    one, two = build(name, seed=1), build(name, seed=2)
    given = build(name, seed=2, pool_seed=1)
    assert same(pools(given), pools(one))
    assert same(pools(two), pools(one)) == (name == "uci")  # whose rows are the same for all seeds
    assert same([given.test.source.x, given.test.target.x], [two.test.source.x, two.test.target.x])


@pytest.mark.parametrize("name", TASKS)
def test_a_given_pool_seed_is_said(name: str) -> None:
    registry = Registry()
    note = registry.load(registry.find(name, "task"))
    configs = [build_config(note.config, TASKS[name] | more, owner=name) for more in ({}, {"pool_seed": 3})]  # type: ignore[arg-type]
    plain, given = (note.cls(config).describe() for config in configs)
    assert "seed" not in plain
    assert ", pool seed 3" in given
