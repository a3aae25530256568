"""`--keep-maps`: the final maps beside the record, with where they come from; a run without them is repeated."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from otbench.data.mapfile import read_map
from otbench.harness.execute import execute, settled
from otbench.harness.plan import Request, make_plan
from otbench.plugins.kept import load_map
from otbench.plugins.registry import Registry
from otbench.records.store import Store


def test_maps_are_kept_where_asked_for_and_go_with_their_record(
    tmp_path: Path, toy: str, cli: Callable[..., tuple[int, str, str]]
) -> None:
    store, registry = Store(tmp_path / "out"), Registry([Path(toy)])
    plan = make_plan(Request(solvers="toyshift", task="toy", device="cpu", threads=1, steps=20), registry)
    plan = replace(plan, runs=tuple(run for run in plan.runs if run.spec.solver in ("toyshift", "identity")))
    before = {record.spec.solver: record for record in execute(plan, store).records}
    assert list(store.folder.glob("*.otmap")) == []
    assert settled(plan, store, keep_maps=True) == {}
    words = ("--plugin", toy, "--solvers", "toyshift", "--task", "toy", "--device", "cpu", "--threads", "1")
    code, out, _ = cli(*words, "--steps", "20", "--out", store.folder, "--dry-run", "--keep-maps")
    assert code == 0
    assert "without maps" in out

    after = {record.spec.solver: record for record in execute(plan, store, keep_maps=True).records}
    assert set(settled(plan, store, keep_maps=True)) == {run.id for run in plan.runs}
    for name, record in after.items():
        assert (record.id, record.metrics) == (before[name].id, before[name].metrics)
        file = read_map(store.map_path(record.id))
        assert file.digest == record.map_digest
        assert (file.origin["solver"], file.origin["run"], file.origin["source_shape"]) == (name, record.id, [2])
    maps = load_map(store.map_path(after["toyshift"].id), plugins=[Path(toy)])
    x = torch.zeros(3, 2)
    assert torch.equal(maps.forward(x), x + read_map(store.map_path(after["toyshift"].id)).tensors["by"])

    store.write(before["identity"])  # made anew without them
    assert [path.name for path in store.folder.glob("*.otmap")] == [f"{after['toyshift'].id}.otmap"]
