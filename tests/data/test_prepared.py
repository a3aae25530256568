"""The cache of prepared arrays: what is not as it was written is never used."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from otbench.data import prepared
from otbench.data.prepared import Content, Made, lookup, prepare
from otbench.errors import StoreError

CONTENT = Content("things", 1, {"scaling": "none"}, {"file": "a" * 64})


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def make() -> Made:
    return {"train": np.arange(12.0).reshape(4, 3), "test": np.ones((2, 3))}, {"fact": 1}, ("a", "b", "c")


def change_a_number(folder: Path) -> None:
    array = np.load(folder / "train.npy", mmap_mode="r+")
    array[2, 1] += 1e-3
    array.flush()


def nest(folder: Path) -> None:
    (folder / "manifest.json").write_text("[" * 100_000)


def forget_checksums(folder: Path) -> None:
    """Leave an entry as it was written before checksums stood in the manifest."""
    saved = json.loads((folder / "manifest.json").read_text())
    del saved["sha256"]
    (folder / "manifest.json").write_text(json.dumps(saved))


def cut(folder: Path) -> None:
    path = folder / "train.npy"
    path.write_bytes(path.read_bytes()[:-4])


def put_a_pipe(folder: Path) -> None:
    (folder / "test.npy").unlink()
    os.mkfifo(folder / "test.npy")


@pytest.mark.parametrize("spoil", [change_a_number, nest, forget_checksums, cut, put_a_pipe])
@pytest.mark.parametrize("remembered", [0, 2**25], ids=["large arrays", "small arrays"])
def test_what_was_changed_is_made_again(
    spoil: Callable[[Path], None], remembered: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepared, "REMEMBERED_BYTES", remembered)
    prepare(CONTENT, make)
    assert lookup(CONTENT) is not None
    spoil(CONTENT.folder)
    assert lookup(CONTENT) is None
    made = prepare(CONTENT, make)
    np.testing.assert_array_equal(made.arrays["train"], make()[0]["train"])
    assert lookup(CONTENT) is not None


def test_entries_are_made_once_and_changed_in_memory_only() -> None:
    first = prepare(CONTENT, make)
    again = prepare(CONTENT, lambda: pytest.fail("made again"))
    assert isinstance(again.arrays["train"], np.memmap)
    assert again.names == ("a", "b", "c")
    again.arrays["train"][:] = 0
    np.testing.assert_array_equal(first.arrays["train"], make()[0]["train"])
    assert lookup(replace(CONTENT, version=2)) is None


def test_failure_while_making_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(StoreError, match=r"cannot write .*prepared.*No space left"):
        prepare(CONTENT, make)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_digests_of_large_arrays_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepared, "REMEMBERED_BYTES", 0)
    prepare(CONTENT, make)
    monkeypatch.setattr(prepared, "file_digest", lambda path: pytest.fail("read again"))
    assert lookup(CONTENT) is not None
