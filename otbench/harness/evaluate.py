"""Applies trained maps to held-out data, and times inference. The truth is not here: scoring is the task's."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from time import perf_counter

import torch
from torch import Tensor, nn

from otbench.config import Config
from otbench.errors import OtbenchError
from otbench.harness.measure import synchronize
from otbench.metrics.density import DENSITY_POINTS, has_density, pushforward_log_prob
from otbench.ops.points import fixed_rows
from otbench.problem import Batch
from otbench.registration import registrations
from otbench.solver import HasBackward, HasForwardGradient, HasLogProb, Solver
from otbench.task import Instance, Outputs, TestData

CHUNK = 16384
"""Points mapped at a time, at most: bounds the memory of evaluation."""
ELEMENTS = 2**20
"""Coordinates mapped at a time: images pass through many channels of their size."""
REPEATS = 5
DRAWS = 32
"""Draws of a stochastic map over which its mean is taken."""
SLOW_SECONDS = 2.0
"""An inference pass slower than this is timed once instead of `REPEATS` times."""


def apply_maps(solver: Solver[Config], test: TestData, *, seed: int, final: bool = True, mean: bool = True) -> Outputs:
    """Return what the maps of `solver` make of `test`; stochastic maps draw from a generator seeded with `seed`.

    Densities, which cost much more than maps, are only taken when training is over (`final`), and the mean over draws
    of a stochastic map, which costs `DRAWS` times as much, only where it is looked at (`mean`).

    Raises:
        OtbenchError: a map or density returns another shape, dtype or device than its contract says.
    """
    generator = torch.Generator(solver.context.device).manual_seed(seed)
    source, target = test.source, test.target
    forward = _mapped(solver, source, generator)
    backward = roundtrip = log_prob = average = None
    if isinstance(solver, HasBackward):
        backward = _mapped(solver, target, generator, name="backward_map")
        roundtrip = _mapped(solver, Batch(forward, source.label), generator, name="backward_map")
    if final:
        log_prob = _log_prob(solver, target)
    if solver.stochastic and mean:
        average = torch.zeros_like(forward)
        for _ in range(DRAWS):
            average += _mapped(solver, source, generator)
        average /= DRAWS
    return Outputs(forward, backward, roundtrip, log_prob, average, final)


def _log_prob(solver: Solver[Config], target: Batch) -> Tensor | None:
    """Return log densities at points of `target`: the solver's own, else made of its map's Jacobians, else None."""
    if isinstance(solver, HasLogProb):
        return _mapped(solver, target, None, name="log_prob")
    if not has_density(solver):
        return None
    assert isinstance(solver, HasForwardGradient)
    rows = fixed_rows(len(target.x), DENSITY_POINTS).to(target.x.device)
    return pushforward_log_prob(solver, target.x[rows], None if target.label is None else target.label[rows])


def score(instance: Instance, outputs: Outputs) -> dict[str, float]:
    """Return the metrics of `outputs`, which maps made of the held-out data of `instance`."""
    return {name: float(value) for name, value in instance.score(outputs).items()}


def time_inference(solver: Solver[Config], test: TestData, *, seed: int) -> tuple[float, float | None]:
    """Return seconds to map all test points forward and backward (None for one-way solvers): median after a warm-up."""
    generator = torch.Generator(solver.context.device).manual_seed(seed)
    device = solver.context.device
    seconds = _median_seconds(lambda: _mapped(solver, test.source, generator), device)
    if not isinstance(solver, HasBackward):
        return seconds, None
    return seconds, _median_seconds(lambda: _mapped(solver, test.target, generator, name="backward_map"), device)


def stored_size(modules: Mapping[str, nn.Module]) -> tuple[int, int]:
    """Return (parameters, bytes) of `modules`: bytes count buffers too, shared tensors once."""
    tensors: dict[int, Tensor] = {}
    parameters: dict[int, Tensor] = {}
    for module in modules.values():
        for parameter in module.parameters():
            parameters[parameter.data_ptr()] = parameter
        for tensor in (*module.parameters(), *module.buffers()):
            tensors[tensor.data_ptr()] = tensor
    return sum(p.numel() for p in parameters.values()), sum(t.numel() * t.element_size() for t in tensors.values())


def _mapped(
    solver: Solver[Config], batch: Batch, generator: torch.Generator | None, *, name: str = "forward_map"
) -> Tensor:
    """Return what the method `name` makes of all of `batch`, a chunk at a time; None for one that draws nothing."""
    function = getattr(solver, name)
    options = {} if generator is None else {"generator": generator}
    x, label = batch.x, batch.label
    size = max(1, min(CHUNK, ELEMENTS // x[0].numel()))
    parts = []
    for begin in range(0, len(x), size):
        points = x[begin : begin + size]
        found = function(points, None if label is None else label[begin : begin + size], **options)
        wanted = points.flatten(1)[:, 0] if name == "log_prob" else points
        if name == "log_prob" and isinstance(found, Tensor) and found.dtype == torch.float64:
            wanted = wanted.double()  # more digits than asked for are welcome
        if _form(found) != _form(wanted):
            owner = next((note.name for note in registrations(type(solver))), type(solver).__name__)
            raise OtbenchError(f"{owner}: {name} must return {_form(wanted)} here; it returned {_form(found)}")
        parts.append(found.detach())
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _form(found: object) -> str:
    if not isinstance(found, Tensor):
        return f"a {type(found).__name__}"
    return f"shape {tuple(found.shape)}, {str(found.dtype).removeprefix('torch.')}, on {found.device}"


def _median_seconds(run: Callable[[], object], device: torch.device) -> float:
    durations = []
    for _ in range(REPEATS + 1):
        synchronize(device)
        begin = perf_counter()
        run()
        synchronize(device)
        durations.append(perf_counter() - begin)
        if durations[0] > SLOW_SECONDS:
            return durations[0]
    return statistics.median(durations[1:])
