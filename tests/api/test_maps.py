"""Maps are saved, loaded by file, record or id, and judged by two samples."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import otbench
from otbench import Transport
from otbench.files import results_folder

Array = NDArray[np.float64]


@pytest.fixture
def kept(linear: Transport, tmp_path: Path) -> Path:
    linear.save(tmp_path / "run-1.otmap")
    return tmp_path / "run-1.otmap"


def test_a_map_is_found_by_its_file_its_record_or_its_id(
    linear: Transport, kept: Path, x: Array, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = kept.with_suffix(".json")
    record.write_text("{}")
    monkeypatch.chdir(kept.parent)
    for place in (kept, str(kept), record, "run-1.otmap"):
        assert np.array_equal(otbench.load(place).forward(x), linear.forward(x))
    assert np.array_equal(otbench.load("run-1", folder=kept.parent).forward(x), linear.forward(x))
    kept.rename("other.otmap")
    with pytest.raises(otbench.DataError, match="no map was kept beside this record; run it again with --keep-maps"):
        otbench.load(record)
    with pytest.raises(otbench.DataError, match=r"run-1\.otmap: no such file"):
        otbench.load("run-1", folder=kept.parent)
    assert not (results_folder() / "run-1.otmap").exists()
    with pytest.raises(otbench.DataError, match="run-1: no such file"):
        otbench.load("run-1")


def test_a_loaded_map_is_saved_again_with_its_origin(linear: Transport, kept: Path, tmp_path: Path) -> None:
    again = otbench.load(kept)
    again.save(str(tmp_path / "again.otmap"))
    assert (tmp_path / "again.otmap").read_bytes() == kept.read_bytes()
    assert again.origin == linear.origin


def test_scores_tell_good_maps_from_bad_ones(linear: Transport, x: Array, y: Array) -> None:
    good = otbench.score(linear, x, y)
    bad = otbench.score(otbench.fit(x, y, solver="constant"), x, y)
    assert {"mmd_fwd", "mmd_bwd", "energy_fwd", "sliced_w2_fwd", "p_value_fwd", "cost", "inverse_gap"} <= good.keys()
    assert all(type(value) is float for value in good.values())
    assert good["mmd_fwd"] < 0.01 < bad["mmd_fwd"]
    assert good["p_value_fwd"] > 0.05 > bad["p_value_fwd"]
    assert good["inverse_gap"] < 1e-3
    assert "novelty" not in good
    assert 0.5 < otbench.score(linear, x, y, training=100 + (y[::-1] - 100)[:, ::-1])["novelty"] < 2
    tensors = otbench.score(linear, torch.from_numpy(x), torch.from_numpy(y))
    assert tensors == good


def test_scores_of_maps_that_draw_noise_are_the_same_each_time(x: Array, y: Array) -> None:
    noisy = otbench.fit(x, y, solver="prior_sample")
    first = otbench.score(noisy, x, y, seed=1)
    assert first == otbench.score(noisy, x, y, seed=1)
    assert first != otbench.score(noisy, x, y, seed=2)
    assert "mmd_bwd" not in first


def test_scores_by_class(x: Array, y: Array) -> None:
    label = np.arange(300) % 2
    made = otbench.fit(x, y, solver="classwise_linear", x_label=label, y_label=label[:250])
    scores = otbench.score(made, x, y, x_label=label, y_label=label[:250])
    assert scores["mmd_fwd"] < 0.01
    with pytest.raises(otbench.UsageError, match="these maps go class by class"):
        otbench.score(made, x, y)
