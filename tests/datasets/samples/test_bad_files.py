"""Every way in which the user's files can be wrong: one sentence, exit code 2, before any run starts."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse

from otbench.datasets.samples import Samples, SamplesConfig
from otbench.errors import DataError

from ...helpers.single_cell import write_h5ad

Cli = Callable[..., tuple[int, str, str]]
ROWS = np.random.default_rng(0).normal(size=(100, 3))


class Trap:
    """Leaves a mark when unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("unpickled",)


def npy(shape: str, descr: str = "<f8") -> bytes:
    """The head of an .npy file that holds no numbers."""
    text = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}}}".encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


def changed(row: int, column: int, value: float) -> np.ndarray:
    rows = ROWS.copy()
    rows[row, column] = value
    return rows


def csv(text: str, *, lines: int = 100) -> str:
    return "a,b,c\n" + "1,2,3\n" * lines + text


def damaged(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


def write_files() -> None:
    """Write all files that the cases below name, into the current folder."""
    np.save("y.npy", ROWS + 1)
    np.save("good.npy", ROWS)
    Path("folder.npy").mkdir()
    os.mkfifo("pipe.npy")
    Path("rows.txt").write_text("1 2 3")
    Path("rows").write_text("1 2 3")
    np.save("one.npy", ROWS[:1])
    np.save("few.npy", ROWS[:20])
    np.save("flat.npy", ROWS[:, 0])
    np.save("four.npy", np.column_stack((ROWS, ROWS[:, 0])))
    np.save("none.npy", ROWS[:, :0])
    np.save("nobody.npy", ROWS[:0])
    np.save("nan.npy", changed(7, 1, np.nan))
    np.save("inf.npy", changed(7, 1, -np.inf))
    np.save("huge.npy", changed(7, 1, 1e30))
    np.save("complex.npy", ROWS + 1j)
    np.save("text.npy", np.array([["one", "two"]]))
    np.save("objects.npy", np.array([[Trap(), 1]], dtype=object), allow_pickle=True)
    np.save("wide.npy", np.zeros((20, 5000), np.int8))
    Path("claims.npy").write_bytes(npy("(1000000000000, 3)"))
    with Path("endless.npy").open("wb") as stream:  # as long as its head says, and nearly empty on the disk
        stream.write(npy("(20000000, 3)", "|i1"))
        stream.truncate(stream.tell() + 60_000_000)
    Path("empty.npy").write_bytes(b"")
    np.save("cut.npy", ROWS)
    damaged(Path("cut.npy"))
    np.savez("two.npz", x=ROWS, z=ROWS)
    np.savez("objects.npz", x=np.array([Trap()], dtype=object))
    np.savez("cut.npz", x=ROWS)
    damaged(Path("cut.npz"))
    Path("words.csv").write_text(csv("1,two,3\n"))
    Path("lists.csv").write_text(csv("1,two;2,3\n"))
    Path("gap.csv").write_text(csv("1,,3\n"))
    Path("ragged.csv").write_text(csv("1,2,3,4,5\n"))
    Path("wider.csv").write_text("a,b,c\n" + "1,2,3,4\n" * 100)
    Path("head.csv").write_text("a,b,c\n")
    Path("empty.csv").write_text("")
    Path("binary.csv").write_bytes(b"\x00\xff" * 1000)
    Path("late.csv").write_text(csv("\n1,2,3,4\n", lines=250_000))
    Path("comma.csv").write_text("a,b\n" + "1,5,2,5\n" * 100)
    Path("blank.csv").write_text("\n\n")
    Path("latin.csv").write_bytes("a,b,d\u00e9\n1,2,3\n".encode("latin1"))
    Path("late_latin.csv").write_bytes(csv("1,2,\u00e9\n", lines=250_000).encode("latin1"))
    Path("quote.csv").write_text(csv('1,"2,3\n'))
    Path("zeros.csv").write_bytes(b'a,b,c\n1,"2\x00\n')
    Path("semicolons.csv").write_text("a;b;c\n" + "1;2;3\n" * 100)
    Path("bare_semicolons.csv").write_text("1;2;3\n" * 100)
    Path("decimal_commas.csv").write_text("1,5;2,5\n" * 100)
    Path("tabs.csv").write_text("a\tb\tc\n" + "1\t2\t3\n" * 100)
    Path("twice.csv").write_text("a,a,c\n" + "1,2,3\n" * 100)
    pd.DataFrame({"name": ["x"] * 100}).to_parquet("words.parquet")
    pd.DataFrame({"a": ROWS[:, 0], "name": ["x"] * 100}).to_parquet("mixed.parquet")
    pd.DataFrame(ROWS, columns=["a", "b", "c"]).to_parquet("cut.parquet")
    damaged(Path("cut.parquet"))
    torch.save(Trap(), "trap.pt")
    torch.save({"x": torch.zeros(100, 3), "y": torch.zeros(3)}, "two.pt")
    torch.save([torch.zeros(3)], "list.pt")
    torch.save(torch.zeros(1).expand(10**6, 10**6), "expanded.pt")
    torch.save(torch.zeros(100, 3, dtype=torch.complex64), "complex.pt")
    Path("no.pt").write_bytes(b"not at all")
    with zipfile.ZipFile("bomb.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", io.BytesIO(bytes(10**7)).getvalue())
    obs: dict[str, list[str | None]] = {"kind": ["B", "T"] * 50}
    write_h5ad(Path("cells.h5ad"), ROWS, obs=obs, obsm={"X_pca": ROWS})
    write_h5ad(Path("no_x.h5ad"), obs=obs, obsm={"X_pca": ROWS})
    write_h5ad(Path("genes.h5ad"), sparse.csr_matrix((100, 5000)))
    write_h5ad(Path("words.h5ad"), np.array([["a", "b"]], dtype="S1"))
    write_h5ad(Path("short.h5ad"), ROWS, obs={"kind": ["B", "T"]})
    write_h5ad(Path("cut.h5ad"), ROWS)
    damaged(Path("cut.h5ad"))
    matrix = sparse.csr_matrix(ROWS)
    write_h5ad(Path("wrong.h5ad"), matrix)
    with h5py.File("wrong.h5ad", "a") as file:
        file["X/indices"][0] = 10**6
    with h5py.File("claims.h5ad", "w") as file:
        file.create_dataset("X", (2**40, 3), "f8", chunks=(1000, 3))
    with h5py.File("link.h5ad", "w") as file:
        file["X"] = h5py.ExternalLink("cells.h5ad", "/X")
    np.save("labels.npy", np.arange(100) % 2)
    np.save("more.npy", np.arange(100) % 3)
    np.save("short.npy", np.arange(99) % 2)
    np.save("halves.npy", np.arange(100) / 2)
    np.save("none_labelled.npy", np.full(100, -1))
    np.save("each.npy", np.arange(100))
    Path("two_columns.csv").write_text("1,2\n" * 100)


LABELS = "source=good.npy,target=y.npy,source_label={},target_label={}"
ONE = "source={},target=y.npy"
CASES = {
    "": "source and target not given",
    "source=good.npy": "target not given",
    **{
        ONE.format(name): message
        for name, message in {
            "missing.npy": "no such file",
            "folder.npy": "is a folder",
            "pipe.npy": "is not a regular file",
            "rows.txt": "files that end in '.txt' are not read",
            "rows": "files without an ending are not read",
            "~nobody-here/x.npy": "no such user",
            "one.npy": "its 1 rows leave 0 for testing",
            "few.npy": "its 20 rows leave 4 for testing",
            "flat.npy": "must hold rows of numbers",
            "four.npy": "has 4 columns and y.npy has 3",
            "none.npy": "there is nothing to transport",
            "nobody.npy": "there is nothing to transport",
            "nan.npy": "row 7, column 1 (counted from 0) holds nan",
            "inf.npy": "row 7, column 1 (counted from 0) holds -inf",
            "huge.npy": "holds 1e+30",
            "complex.npy": "not numeric",
            "text.npy": "not numeric",
            "objects.npy": "Python objects",
            "wide.npy": "5,000 columns are more than 4,096, and would need",
            "claims.npy": "does not fit its 0 bytes",
            "endless.npy": "20,000,000 rows of 3 are more than 10,000,000 rows, and would need",
            "empty.npy": "not a readable .npy",
            "cut.npy": "is damaged",
            "two.npz": "name one of its arrays, as in two.npz:NAME; it holds x, z",
            "two.npz:w": "holds no 'w'; it holds: x, z",
            "objects.npz:x": "Python objects",
            "cut.npz:x": "not a readable .npz",
            "words.csv": "column 'b' holds text, first 'two' in row 100",
            "lists.csv": "column 'b' holds text, first 'two;2' in row 100",
            "gap.csv": "row 100, column 1 (counted from 0) holds nan",
            "ragged.csv": "its first line has 3 fields, and line 102 has 5; give each line as many",
            "wider.csv": "its first line has 3 fields, and line 2 has 4; give each line as many",
            "late.csv": "its first line has 3 fields, and line 250003 has 4",
            "comma.csv": "its first line has 2 fields, and line 2 has 4",
            "head.csv": "there is nothing to transport",
            "empty.csv": "is empty; it must hold rows of numbers",
            "blank.csv": "is empty; it must hold rows of numbers",
            "binary.csv": "is not UTF-8 text; save it as CSV in UTF-8",
            "latin.csv": "is not UTF-8 text; save it as CSV in UTF-8",
            "late_latin.csv": "is not UTF-8 text; save it as CSV in UTF-8",
            "quote.csv": "cannot be read as a table with commas; a quotation mark may be open",
            "zeros.csv": "cannot be read as a table with commas",
            "semicolons.csv": "its columns are separated by semicolons",
            "bare_semicolons.csv": "its columns are separated by semicolons",
            "decimal_commas.csv": "its columns are separated by semicolons",
            "tabs.csv": "its columns are separated by tabs",
            "twice.csv": "several columns have the name 'a'",
            "words.parquet": "none of its columns holds numbers",
            "cut.parquet": "not a readable Parquet file",
            "trap.pt": "more than tensors",
            "two.pt": "name one of its arrays",
            "list.pt": "holds no tensor",
            "expanded.pt": "no plain array of real numbers",
            "complex.pt": "no plain array of real numbers",
            "no.pt": "it is damaged",
            "bomb.pt": "it is damaged",
            "no_x.h5ad": "holds no X; name a part of obsm, such as no_x.h5ad:X_pca",
            "cells.h5ad:X_umap": "obsm holds no 'X_umap'",
            "genes.h5ad": "5,000 columns are more than 4,096",
            "words.h5ad": "not numeric",
            "cut.h5ad": "not a readable HDF5 file",
            "wrong.h5ad": "X is damaged",
            "claims.h5ad": "1,099,511,627,776 rows of 3 are more than",
            "link.h5ad": "a link to elsewhere",
        }.items()
    },
    "source=good.npy,target=y.npy,columns=0|7": "has no column '7'",
    "source=good.npy,target=y.npy,columns=0|0": "a column is named twice",
    "source=mixed.parquet,target=y.npy,columns=name": "column 'name' holds",
    "source=mixed.parquet,target=y.npy,columns=a": "y.npy: has no column 'a'",
    "source=good.npy,target=y.npy,shape=2x2": "shape=2x2 has 4 numbers, and good.npy holds 3 a row",
    "source=good.npy,target=y.npy,shape=3by1": "write the shape of a point as 1x28x28",
    "source=good.npy,target=y.npy,test=0": "greater than 0",
    "source=good.npy,target=y.npy,test=1": "less than 1",
    "source=good.npy,target=y.npy,validation=0.95": "leave 4 for training",
    "source=good.npy,target=y.npy,sauce=x": "has no parameter 'sauce'",
    "source=good.npy,target=y.npy,truth=few.npy": "truth must hold the image of each of 100 source rows",
    "source=good.npy,target=y.npy,truth=four.npy": "truth must hold the image of each of 100 source rows",
    "source=good.npy,target=y.npy,truth=nan.npy": "row 7, column 1 (counted from 0) holds nan",
    "source=good.npy,target=y.npy,source_label=labels.npy": "give source_label and target_label, or neither",
    LABELS.format("short.npy", "labels.npy"): "one class for each of 100 rows",
    LABELS.format("halves.npy", "labels.npy"): "classes must be whole numbers or text, and one is 0.5",
    LABELS.format("more.npy", "labels.npy"): "class '2' is in the source alone",
    LABELS.format("none_labelled.npy", "none_labelled.npy"): "labels no row",
    LABELS.format("kind", "kind"): "'kind' is no column of it, and no file either",
    LABELS.format("objects.npy", "labels.npy"): "Python objects",
    LABELS.format("two_columns.csv", "labels.npy"): "must hold one column of classes, and has 2",
    LABELS.format("empty.csv", "labels.npy"): "is empty",
    LABELS.format("latin.csv", "labels.npy"): "is not UTF-8 text",
    LABELS.format("wider.csv", "labels.npy"): "its first line has 3 fields, and line 2 has 4",
    LABELS.format("cells.h5ad", "labels.npy"): "files that end in '.h5ad' are not read",
    "source=cells.h5ad,target=cells.h5ad,source_where=sort:B": "has no column 'sort' for source_where",
    "source=cells.h5ad,target=cells.h5ad,source_where=kind:C": "no row has kind = 'C'; its values: B, T",
    "source=cells.h5ad,target=cells.h5ad,source_where=kind": "write COLUMN:VALUE",
    "source=short.h5ad,target=y.npy,source_where=kind:B": "has 2 entries for 100 rows",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all files of the cases."""
    place, before = tmp_path_factory.mktemp("bad"), Path.cwd()
    os.chdir(place)
    try:
        write_files()
    finally:
        os.chdir(before)
    return place


@pytest.mark.parametrize(("parameters", "message"), CASES.items())
def test_bad_input_is_refused_with_one_sentence(
    parameters: str, message: str, folder: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.delenv("OTBENCH_DATA_DIR", raising=False)
    task = f"samples[{parameters}]" if parameters else "samples"
    code, out, err = cli("--solvers", "ncf", "--task", task, "--device", "cpu", "--dry-run", "--out", "out")
    assert code == 2, out + err
    assert len(err.splitlines()) == 1, err
    assert err.startswith("otbench: ")
    assert message in err
    assert not any(word in err for word in ("tokenizing", "codec", "C error", "index_col"))
    assert len(err) < 600
    assert not Path("unpickled").exists()


def test_what_does_not_fit_into_memory_is_said_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("otbench.datasets.samples.places.free_memory", lambda: 1000)
    np.save(tmp_path / "x.npy", ROWS)
    task = Samples(SamplesConfig(source=str(tmp_path / "x.npy"), target=str(tmp_path / "x.npy")))
    with pytest.raises(DataError, match=r"100 rows of 3 need about 2\.4e-06 GB of memory, and 1e-06 GB are free"):
        task.check()


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
@pytest.mark.parametrize("name", ["x.npy", "x.csv", "x.pt", "x.h5ad", "x.parquet", "x.npz"])
def test_files_that_may_not_be_read(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"secret")
    (tmp_path / name).chmod(0)
    with pytest.raises(DataError, match="cannot be read"):
        Samples(SamplesConfig(source=str(tmp_path / name), target=str(tmp_path / name))).check()
