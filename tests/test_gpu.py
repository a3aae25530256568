"""What only a GPU can show: events as clocks, allocated memory, every method on the device. Run with `-m gpu`."""

from __future__ import annotations

import io
import time
from pathlib import Path

import pytest
import torch
from rich.console import Console

from otbench.harness.execute import execute
from otbench.harness.measure import StepClock
from otbench.harness.plan import Request, make_plan
from otbench.plugins.check import check
from otbench.plugins.registry import Registry
from otbench.records.record import Status
from otbench.records.store import Store

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


def test_events_measure_the_device_and_not_the_host() -> None:
    device = torch.device("cuda:0")
    a = torch.randn(4096, 4096, device=device)
    a @ a
    torch.cuda.synchronize()
    begin = time.perf_counter()
    for _ in range(50):
        a @ a
    torch.cuda.synchronize()
    wall = time.perf_counter() - begin
    clock = StepClock(device)
    for _ in range(50):
        clock.begin()
        a @ a
        clock.end()
    clock.flush()
    assert len(clock.durations) == 50
    assert clock.seconds == pytest.approx(wall, rel=0.5)


@pytest.mark.parametrize("name", [entry.name for entry in Registry().entries("solver", "baseline")])
def test_methods_pass_the_kit_on_the_device(name: str) -> None:
    registry = Registry()
    out = io.StringIO()
    held = check(registry.load(registry.find(name)), device="cuda:0", out=Console(file=out, width=200))
    assert held, out.getvalue()


def test_a_run_on_the_device_records_its_memory(tmp_path: Path) -> None:
    request = Request(solvers="ncf,fixedpoint", task="gaussian", preset="smoke", device="cuda")
    outcome = execute(make_plan(request, Registry()), Store(tmp_path))
    for record in outcome.records:
        assert record.status is Status.OK, record.reason
        assert record.environment["device"] == torch.cuda.get_device_name()
        if record.spec.kind == "solver":
            assert record.memory.cuda_peak_allocated is not None
            assert record.memory.cuda_peak_allocated > 0
            assert record.times.step_ms is not None
            assert record.times.step_ms > 0
