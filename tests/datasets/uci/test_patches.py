"""Patches cut anew from images, by the recipe of BSDS300."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from otbench.datasets.uci import files, patches

from ...helpers.uci_sets import DATA_DIR, needs, task, write_images


def test_patches_follow_the_recipe(tmp_path: Path) -> None:
    write_images(tmp_path)
    raw = files.find("bsds300", tmp_path)
    assert raw is not None
    splits, again = raw.read("zscore"), raw.read("minmax")
    np.testing.assert_array_equal(splits.train, again.train)
    assert splits.train.shape == (9 * patches.PER_IMAGE, 63)
    assert splits.validation.shape == splits.test.shape == (patches.PER_IMAGE, 63)
    # the dropped pixel follows from the others, and all 64 stay within one range of 256 levels
    whole = np.column_stack((splits.train, -splits.train.sum(1)))
    assert (np.ptp(whole, axis=1) < 1).all()
    assert task("bsds300", tmp_path).describe().endswith("patches cut anew from the images; p from 1000 points")


@needs("BSDS300", "train")
def test_real_patches_of_one_image() -> None:
    path = sorted(Path(DATA_DIR or "", "BSDS300", "train").glob("*.jpg"))[0]
    cut = patches._patches(path, 0, 0)
    assert cut.shape == (1000, 63)
    assert np.abs(cut).max() < 1
    neighbours = np.corrcoef(cut[:, 26], cut[:, 27])[0, 1]
    assert neighbours > 0.5  # natural images are smooth
