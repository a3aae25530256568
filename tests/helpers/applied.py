"""What maps make of test data, in the process of the test."""

from __future__ import annotations

import torch

from otbench.harness.evaluate import Applier, density_rows
from otbench.problem import Batch
from otbench.task import TIMES, Instance, Outputs, TestData, Way
from otbench.transport import Transport


def apply_maps(
    transport: Transport,
    test: TestData,
    *,
    seed: int,
    final: bool = True,
    mean: bool = True,
    normal: bool = False,
    owner: str = "",
) -> Outputs:
    """Return what the maps of `transport` make of `test`, in this process.

    Densities, which cost much more than maps, are only taken when training is over (`final`), and the mean over draws
    of a stochastic map, which costs `DRAWS` times as much, only where it is looked at (`mean`).

    Raises:
        OtbenchError: a map or density returns another shape, dtype or device than its contract says.
    """
    applier = Applier(transport, owner or type(transport).__name__, seed)
    forward = applier.forward(test.source)
    backward = roundtrip = log_prob = average = None
    if transport.two_way:
        backward = applier.backward(test.target)
        roundtrip = applier.roundtrip(Batch(forward, test.source.label))
    if final:
        log_prob = applier.log_prob(test.target, density_rows(test.target), normal=normal)
    if transport.stochastic and mean:
        average = applier.mean(test.source)
    return Outputs(forward, backward, roundtrip, log_prob, average, final)


def way_of(transport: Transport, instance: Instance) -> Way:
    """Return what the maps of `transport` say of the way of all source points of `instance`, in this process."""
    x, waypoints = instance.test.source.x, instance.waypoints()
    assert waypoints is not None
    applier = Applier(transport, "test", 0)
    straight = torch.stack([torch.lerp(x, applier.forward(instance.test.source), t) for t in TIMES])
    places, velocity = applier.way(x) or (straight, None)
    exact = None
    if hasattr(transport, "velocity"):
        exact = torch.stack([applier.at("velocity", at, t) for at, t in zip(waypoints, TIMES[1:-1], strict=True)])
    return Way(torch.arange(len(x)), places, velocity, exact)
