"""Every kind of file gives the same numbers; classes come from columns, from obs and from files of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray
from scipy import sparse

from otbench.datasets.samples import Samples, SamplesConfig, SamplesInstance
from otbench.errors import DataError
from otbench.harness.units import in_own_units
from otbench.task import Outputs

from ...helpers.single_cell import write_h5ad

CPU = torch.device("cpu")
POINTS = np.random.default_rng(0).normal(size=(60, 3))
POINTS[POINTS < -1] = 0  # something for a sparse matrix to leave out
NAMES = ["a", "b", "c"]
KINDS = ["B", "T", None] * 20


def build(path: str | Path, folder: Path, **values: Any) -> SamplesInstance:
    """The instance that maps `path` to a fixed target, in the user's units, all rows used."""
    np.save(folder / "target.npy", POINTS + 1)
    config = SamplesConfig(**{"source": str(path), "target": str(folder / "target.npy")} | values)
    task = Samples(config)
    task.check()
    return task.build(seed=0, device=CPU, dtype=torch.float64)


def source_rows(instance: SamplesInstance) -> NDArray[np.float64]:
    """All rows of the source, in an order of their own."""
    source = in_own_units(instance.problem).source
    assert source.pool is not None
    assert source.validation is not None
    rows = torch.cat((source.pool, source.validation, instance.test.source.x)).flatten(1).numpy().round(9) + 0.0
    return np.asarray(rows[np.lexsort(rows.T)])


def tables(folder: Path) -> dict[str, str]:
    frame = pd.DataFrame(POINTS, columns=NAMES)
    np.save(folder / "x.npy", POINTS)
    np.save(folder / "order.npy", np.asfortranarray(POINTS))
    np.savez(folder / "one.npz", POINTS)
    np.savez(folder / "two.npz", x=POINTS, other=np.zeros(3))
    frame.to_csv(folder / "x.csv", index=False)
    frame.to_csv(folder / "headless.csv", index=False, header=False)
    frame.assign(kind=KINDS).to_parquet(folder / "x.parquet")
    torch.save(torch.from_numpy(POINTS), folder / "x.pt")
    torch.save({"x": torch.from_numpy(POINTS.T.copy()).T, "y": torch.zeros(2)}, folder / "two.pt")
    write_h5ad(folder / "dense.h5ad", POINTS)
    write_h5ad(folder / "obsm.h5ad", np.zeros((60, 9)), obsm={"X_pca": POINTS})
    for form in ("csr", "csc"):
        matrix: Any = getattr(sparse, f"{form}_matrix")(POINTS)
        write_h5ad(folder / f"{form}.h5ad", matrix)
    return {
        "npy": "x.npy",
        "Fortran order": "order.npy",
        "npz": "one.npz",
        "npz with a key": "two.npz:x",
        "csv": "x.csv",
        "csv without names": "headless.csv",
        "parquet": "x.parquet",
        "pt": "x.pt",
        "pt with a key": "two.pt:x",
        "h5ad": "dense.h5ad",
        "h5ad, named X": "dense.h5ad:X",
        "h5ad, obsm": "obsm.h5ad:X_pca",
        "h5ad, CSR": "csr.h5ad",
        "h5ad, CSC": "csc.h5ad",
    }


def test_all_kinds_of_files_give_the_same_rows(tmp_path: Path) -> None:
    wanted = POINTS[np.lexsort(POINTS.T)]
    for kind, name in tables(tmp_path).items():
        found = source_rows(build(tmp_path / name, tmp_path))
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-6 if "CS" in kind else 1e-8, err_msg=kind)


@pytest.mark.parametrize(
    ("name", "columns"), [("x.csv", "c|a"), ("x.parquet", "c|a"), ("x.npy", "2|0"), ("genes.h5ad", "c|a")]
)
def test_columns_are_taken_in_the_order_named(name: str, columns: str, tmp_path: Path) -> None:
    tables(tmp_path)
    write_h5ad(tmp_path / "genes.h5ad", sparse.csr_matrix(POINTS), genes=NAMES)
    path = tmp_path / name
    instance = build(path, tmp_path, target=str(path), columns=columns)
    wanted = POINTS[:, [2, 0]]
    np.testing.assert_allclose(source_rows(instance), wanted[np.lexsort(wanted.T)], atol=1e-6)
    assert str(instance.facts["columns"]) == columns.replace("|", ", ")


def save_labels(folder: Path) -> dict[str, tuple[str, str]]:
    """Files with the classes of `KINDS`, as (file of the rows, what to type as its label)."""
    numbers = np.array([-1 if kind is None else "BT".index(kind) for kind in KINDS])
    frame = pd.DataFrame(POINTS, columns=NAMES).assign(kind=KINDS)
    np.save(folder / "x.npy", POINTS)
    np.save(folder / "labels.npy", numbers)
    torch.save(torch.from_numpy(numbers), folder / "labels.pt")
    (folder / "labels.csv").write_text("kind\n" + "\n".join(map(str, numbers)) + "\n")
    (folder / "bare.csv").write_text("\n".join(map(str, numbers)) + "\n")
    frame.to_csv(folder / "x.csv", index=False)
    frame.to_parquet(folder / "x.parquet")
    write_h5ad(folder / "cells.h5ad", POINTS, obs={"kind": KINDS})
    write_h5ad(folder / "old.h5ad", POINTS, obs={"kind": KINDS}, legacy=True)
    files = [("x.npy", str(folder / name)) for name in ("labels.npy", "labels.pt", "labels.csv", "bare.csv")]
    columns = [(name, "kind") for name in ("x.csv", "x.parquet", "cells.h5ad", "old.h5ad")]
    return {f"{rows} {Path(label).name}": (rows, label) for rows, label in files + columns}


def test_classes_come_from_columns_and_files(tmp_path: Path) -> None:
    known = {tuple(row): kind for row, kind in zip(POINTS.astype(np.float32), KINDS, strict=True)}
    for said, (rows, label) in save_labels(tmp_path).items():
        path = str(tmp_path / rows)
        instance = build(path, tmp_path, target=path, source_label=label, target_label=label)
        assert instance.problem.classes == 2, said
        batch = instance.test.source
        assert batch.label is not None
        for row, code in zip(batch.x.float().numpy(), batch.label.tolist(), strict=True):
            assert {0: "B", 1: "T", -1: None}[code] == known[tuple(row)], said


def test_rows_of_one_file_are_parted_by_a_column(tmp_path: Path) -> None:
    obs: dict[str, list[str | None]] = {"state": ["control", "treated"] * 30, "kind": ["B", "B", "T", "T"] * 15}
    path = str(write_h5ad(tmp_path / "all.h5ad", POINTS, obs=obs))
    both = {"source_label": "kind", "target_label": "kind", "test": 0.4}
    instance = build(path, tmp_path, target=path, source_where="state:control", target_where="state:treated", **both)
    wanted = POINTS[::2]
    np.testing.assert_allclose(source_rows(instance), wanted[np.lexsort(wanted.T)], atol=1e-8)
    assert instance.problem.classes == 2
    gap = POINTS.copy()
    gap[1] = np.nan  # in a row of the other condition
    write_h5ad(tmp_path / "gap.h5ad", gap, obs=obs)
    build(tmp_path / "gap.h5ad", tmp_path, source_where="state:control", test=0.4)
    with pytest.raises(DataError, match="row 1, column 0"):
        build(tmp_path / "gap.h5ad", tmp_path, source_where="state:treated", test=0.4)
    scores = instance.score(Outputs(instance.test.source.x))
    assert "class_energy" in scores
    assert "cost_gap" not in scores  # mass stays within its class, so the plan of all rows is no yardstick


def test_images_keep_their_shape(tmp_path: Path) -> None:
    images = np.random.default_rng(1).integers(0, 255, (60, 1, 4, 4)).astype(np.uint8)
    np.save(tmp_path / "images.npy", images)
    np.save(tmp_path / "flat.npy", images.reshape(60, 16))
    path = str(tmp_path / "images.npy")
    assert build(path, tmp_path, target=path).problem.source.shape == (1, 4, 4)
    assert build(path, tmp_path, target=str(tmp_path / "flat.npy"), shape="1x4x4").problem.target.shape == (1, 4, 4)


def test_large_arrays_are_mapped_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "large.npy"
    header = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(1_000_000, 64))  # a sparse file
    del header
    monkeypatch.setattr("otbench.datasets.samples.places.free_memory", lambda: 10**10)
    data = Samples(SamplesConfig(source=str(path), target=str(path)))._data
    assert isinstance(data.sides[0].table.points, np.memmap)
