"""Maps between two samples, trained in this process: what comes back, and what is left as it was."""

from __future__ import annotations

import random
import signal
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray

import otbench

Array = NDArray[np.float64]
SMALL: dict[str, Any] = {"solver": "ls", "preset": "smoke", "steps": 5, "device": "cpu"}

PLUGIN = '''
import os, random, signal
import numpy, torch
from otbench.solver import Config, Field, Solver, StepInfo, Transport, Yes, register_solver


class ProbeConfig(Config):
    interrupts: int = Field(0, "Ctrl-C at each of so many first steps", ge=0)


class By(Transport):
    def __init__(self, by):
        super().__init__()
        self.by = torch.nn.Parameter(by)

    def forward(self, x, label=None, generator=None):
        return x + self.by


@register_solver("probe", config=ProbeConfig, reference="none", presets={"quick": {"steps": 50}})
class Probe(Solver[ProbeConfig]):
    """Disturbs what it can, and counts its steps."""

    @classmethod
    def supports(cls, problem):
        return Yes

    def __init__(self, problem, config, context):
        super().__init__(problem, config, context)
        type(self).seen = problem
        assert torch.is_grad_enabled() and not torch.is_inference_mode_enabled()
        self.by = torch.zeros(problem.dim, dtype=context.dtype, device=context.device)
        torch.set_num_threads(3)
        torch.set_default_dtype(torch.float64)
        torch.rand(3), random.random(), numpy.random.rand()

    def step(self):
        self.by += 1
        if self.by[0] <= self.config.interrupts:
            signal.raise_signal(signal.SIGINT)
        return StepInfo(0.0)

    def transport(self):
        return By(self.by)
'''


@pytest.fixture(scope="module")
def probe(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    path = tmp_path_factory.mktemp("plugin") / "probe.py"
    path.write_text(PLUGIN)
    return {"solver": "probe", "plugins": [path], "device": "cpu", "standardise": False}


def test_arrays_and_tensors_come_back_as_they_went_in(x: Array, y: Array) -> None:
    made = otbench.fit(x, y, **SMALL)
    image = made.forward(x)
    assert (type(image), image.dtype, image.shape) == (np.ndarray, np.float64, x.shape)
    assert made.backward(y.astype(np.float32)).dtype == np.float32
    tensor = made.forward(torch.from_numpy(x).float())
    assert isinstance(tensor, torch.Tensor)
    assert not tensor.requires_grad
    assert np.allclose(tensor.numpy(), image, atol=1e-3)
    assert np.array_equal(image, made(torch.from_numpy(x)).numpy())


def test_the_same_seed_gives_the_same_maps_whatever_form_the_points_have(x: Array, y: Array) -> None:
    image = otbench.fit(x, y, seed=1, **SMALL).forward(x)
    for one, other in (
        (torch.from_numpy(x), torch.from_numpy(y)),
        (x.tolist(), y.tolist()),
        (pd.DataFrame(x), pd.DataFrame(y)),
        (np.asfortranarray(x), y.astype(">f8")),
    ):
        assert np.array_equal(otbench.fit(one, other, seed=1, **SMALL).forward(x), image)
    assert not np.array_equal(otbench.fit(x, y, seed=2, **SMALL).forward(x), image)


def test_points_far_from_the_origin_are_trained_on_in_their_own_units(x: Array, y: Array) -> None:
    made = otbench.fit(x, y, **SMALL)
    assert np.abs(made.forward(x).mean(0) - 100).max() < 3
    far = otbench.fit(x, y, **SMALL, standardise=False)
    assert np.abs(far.forward(x).mean(0) - 100).max() > 3
    assert np.abs(otbench.fit(x, y, solver="identity").forward(x) - x).max() < 1e-6


def test_what_the_solver_is_given(x: Array, y: Array, probe: dict[str, Any]) -> None:
    otbench.fit(x, y, **probe, steps=1, dtype=np.float64)
    import sys

    seen = sys.modules["otbench_ext.probe"].Probe.seen
    assert (len(seen.source.pool), len(seen.source.validation)) == (270, 30)
    assert (len(seen.target.pool), len(seen.target.validation)) == (225, 25)
    assert seen.dtype == seen.source.pool.dtype == torch.float64
    rows = {tuple(row) for row in torch.cat((seen.source.pool, seen.source.validation)).tolist()}
    assert rows == {tuple(row) for row in x.tolist()}
    label = np.arange(300) % 3
    with pytest.warns(otbench.OtbenchWarning, match="probe goes by no classes"):
        otbench.fit(x, y, **probe, steps=1, x_label=label, y_label=label[:250], cost="power", exponent=3)
    seen = sys.modules["otbench_ext.probe"].Probe.seen
    assert (seen.classes, seen.cost.name, seen.source.validation) == (3, "power 3", None)


def test_training_does_not_touch_the_users_points_and_states(x: Array, y: Array, probe: dict[str, Any]) -> None:
    before = x.copy()
    states = random.getstate(), np.random.get_state()[1], torch.get_rng_state()  # noqa: NPY002
    threads, handler = torch.get_num_threads(), signal.getsignal(signal.SIGINT)
    with torch.inference_mode():
        made = otbench.fit(x, y, **probe, steps=2)
        assert torch.is_inference_mode_enabled()
    assert np.allclose(made.forward(x), x + 2, atol=1e-5)
    assert np.array_equal(x, before)
    assert (torch.get_num_threads(), torch.get_default_dtype()) == (threads, torch.float32)
    assert signal.getsignal(signal.SIGINT) is handler
    assert random.getstate() == states[0]
    assert np.array_equal(np.random.get_state()[1], states[1])  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), states[2])


def test_ctrl_c_keeps_the_maps_so_far(x: Array, y: Array, probe: dict[str, Any]) -> None:
    with pytest.warns(otbench.OtbenchWarning, match="interrupted at step 1, 2% of training: these are the maps so far"):
        made = otbench.fit(x, y, **probe, interrupts=1)
    assert np.allclose(made.forward(x), x + 1, atol=1e-5)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_second_ctrl_c_does_not_wait(x: Array, y: Array, tmp_path: Path, probe: dict[str, Any]) -> None:
    hasty = tmp_path / "hasty.py"
    hasty.write_text(
        PLUGIN.replace('"probe"', '"hasty"').replace("raise_signal(", "raise_signal(2), signal.raise_signal(")
    )
    with pytest.raises(KeyboardInterrupt):
        otbench.fit(x, y, solver="hasty", plugins=hasty, device="cpu", interrupts=1)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_thread_can_train(x: Array, y: Array) -> None:
    found: list[Array] = []
    thread = threading.Thread(target=lambda: found.append(otbench.fit(x, y, **SMALL).forward(x)))
    thread.start()
    thread.join()
    assert np.array_equal(found[0], otbench.fit(x, y, **SMALL).forward(x))


def test_time_limit_and_progress(x: Array, y: Array, capfd: pytest.CaptureFixture[str]) -> None:
    made = otbench.fit(x, y, solver="ls", preset="smoke", time_limit=0.01, device="cpu", progress=True)
    assert made.two_way
    out, err = capfd.readouterr()
    assert out == ""
    assert "\rls: set-up" in err
    assert err.endswith("\r")
    otbench.fit(x, y, **SMALL)
    assert capfd.readouterr() == ("", "")  # no terminal


def test_parameters_are_those_of_the_command_line(x: Array, y: Array) -> None:
    options: dict[str, Any] = {"solver": "fixedpoint", "preset": "smoke", "steps": 2, "device": "cpu"}
    new = otbench.fit(x, y, **options, averaging=np.float64(0.5)).forward(x)
    assert np.array_equal(new, otbench.fit(x, y, **options, average=0.5).forward(x))  # its old name
    assert not np.array_equal(new, otbench.fit(x, y, **options, averaging=9).forward(x))


def test_classes_go_to_classes(x: Array, y: Array) -> None:
    label = np.arange(300) % 2
    shifted, there = x + 10 * label[:, None], y - 10 * label[:250, None]
    made = otbench.fit(shifted, there, solver="classwise_linear", x_label=label, y_label=label[:250])
    image = made.forward(shifted, label)
    for k in (0, 1):
        assert np.allclose(image[label == k].mean(0), there[label[:250] == k].mean(0), atol=0.01)
    with pytest.raises(otbench.UsageError, match="these maps go class by class"):
        made.forward(x)


def test_classes_that_nobody_reads_are_said_to_be_left_out(x: Array, y: Array) -> None:
    label = {"x_label": np.arange(300) % 2, "y_label": np.arange(250) % 2}
    with pytest.warns(otbench.OtbenchWarning, match="linear goes by no classes: x_label and y_label made no") as noted:
        made = otbench.fit(x, y, solver="linear", **label)
    assert noted[0].filename == __file__
    with pytest.warns(otbench.OtbenchWarning, match="these maps go by no classes"):
        otbench.score(made, x, y, **label)
    otbench.fit(x, y, solver="gnot", preset="smoke", steps=1, device="cpu", **label)  # by class while it trains
    otbench.fit(x, y, solver="class_mean", **label)


def test_images_keep_their_shape() -> None:
    pictures = np.random.default_rng(0).random((40, 1, 4, 4))
    made = otbench.fit(pictures, 1 - pictures, solver="linear")
    assert made.forward(pictures).shape == pictures.shape
    with pytest.raises(otbench.UsageError, match=r"points must have shape \(n, 1, 4, 4\), not \(40, 16\)"):
        made.forward(pictures.reshape(40, 16))
