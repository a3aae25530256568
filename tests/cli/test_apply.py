"""`otbench apply`: the images are those of the map itself, bit for bit; what cannot be is refused with one line."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import otbench
from otbench import Transport
from otbench.transport import CHUNK

Cli = Callable[..., tuple[int, str, str]]
Array = NDArray[np.float64]
COUNT = 2 * CHUNK + 5


@pytest.fixture(scope="module")
def points() -> Array:
    return np.random.default_rng(0).standard_normal((COUNT, 2))


@pytest.fixture(scope="module")
def maps(tmp_path_factory: pytest.TempPathFactory, points: Array) -> dict[str, tuple[Transport, Path]]:
    """A network with both ways, a map that draws noise, one that goes class by class; each with its file."""
    folder = tmp_path_factory.mktemp("maps")
    x, y, label = points[:200], 3 * points[200:400] + 1, np.arange(200) % 2
    made = {
        "ls": otbench.fit(x, y, solver="ls", preset="smoke", steps=3, device="cpu"),
        "noise": otbench.fit(x, y, solver="prior_sample", device="cpu"),
        "classes": otbench.fit(x, y, solver="classwise_linear", x_label=label, y_label=label, device="cpu"),
    }
    for name, one in made.items():
        one.save(folder / f"{name}.otmap")
    return {name: (one, folder / f"{name}.otmap") for name, one in made.items()}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("dtype", ["<f8", "<f4", ">f4", "<f2", "<i4"])
def test_images_are_those_of_forward(
    dtype: str, maps: dict[str, tuple[Transport, Path]], points: Array, here: Path, cli: Cli
) -> None:
    made, file = maps["ls"]
    given = (10 * points).astype(dtype)
    np.save("x.npy", np.asfortranarray(given) if dtype == "<f4" else given)
    for way, words in (("forward", ()), ("backward", ("--backward",))):
        code, out, err = cli("apply", file, "--input", "x.npy", "--output", "deep/tx.npy", *words)
        assert (code, err) == (0, "")
        assert f"{COUNT} images in deep/tx.npy" in out
        found, wanted = np.load("deep/tx.npy"), getattr(made, way)(given)
        assert found.dtype == wanted.dtype
        assert np.array_equal(found, wanted)
    assert sorted(path.name for path in here.rglob("*")) == ["deep", "tx.npy", "x.npy"]


def test_noise_and_classes(maps: dict[str, tuple[Transport, Path]], points: Array, here: Path, cli: Cli) -> None:
    np.save("x.npy", points)
    label = np.arange(COUNT) % 2
    np.save("label.npy", label.astype(np.uint8))
    assert cli("apply", maps["noise"][1], "--input", "x.npy", "--output", "tx.npy", "--seed", "7")[0] == 0
    wanted = maps["noise"][0].forward(points, generator=torch.Generator().manual_seed(7))
    assert np.array_equal(np.load("tx.npy"), wanted)
    words = ("apply", maps["classes"][1], "--input", "x.npy", "--output", "tx.npy")
    assert cli(*words, "--labels", "label.npy")[0] == 0
    assert np.array_equal(np.load("tx.npy"), maps["classes"][0].forward(points, label))


def test_a_map_is_named_by_its_record(maps: dict[str, tuple[Transport, Path]], here: Path, cli: Cli) -> None:
    shutil.copy(maps["ls"][1], "run.otmap")
    Path("run.json").write_text("{}")
    np.save("x.npy", np.zeros((0, 2)))
    assert cli("apply", "run.json", "--input", "x.npy", "--output", "tx.npy")[0] == 0
    assert np.load("tx.npy").shape == (0, 2)


def test_other_code_is_said(maps: dict[str, tuple[Transport, Path]], here: Path, cli: Cli) -> None:
    changed = otbench.load(maps["ls"][1])
    assert changed.origin is not None
    changed.origin = type(changed.origin)(**{**vars(changed.origin), "code": "0" * 16})
    changed.save("old.otmap")
    np.save("x.npy", np.ones((3, 2)))
    code, _, err = cli("apply", "old.otmap", "--input", "x.npy", "--output", "tx.npy")
    assert code == 0
    assert "old.otmap: made by other code of solver 'ls' than is here" in err
    assert len(err.splitlines()) == 1


WRONG: dict[str, tuple[tuple[str, ...], str]] = {
    "no map": (("none.otmap", "--input", "x.npy", "--output", "t.npy"), "none.otmap: no such file"),
    "no input": (("ls", "--input", "none.npy", "--output", "t.npy"), "none.npy: no such file"),
    "a folder for input": (("ls", "--input", ".", "--output", "t.npy"), "is a folder"),
    "a pipe for input": (("ls", "--input", "pipe", "--output", "t.npy"), "not a regular file"),
    "a map for input": (("ls", "--input", "ls.otmap", "--output", "t.npy"), "are read from .npy"),
    "a table for input": (("ls", "--input", "x.csv", "--output", "t.npy"), "pandas.read_csv('x.csv').to_numpy()"),
    "an archive for input": (("ls", "--input", "x.npz", "--output", "t.npy"), "np.load('x.npz')['NAME']"),
    "a table for output": (("ls", "--input", "x.npy", "--output", "t.csv"), "images of points are written as .npy"),
    "a picture of points": (("ls", "--input", "x.npy", "--output", "t.png"), "images of points are written as .npy"),
    "an output without ending": (("ls", "--input", "x.npy", "--output", "t"), "images of points are written as .npy"),
    "labels that nobody reads": (
        ("ls", "--input", "x.npy", "--output", "t.npy", "--labels", "label.npy"),
        "--labels label.npy: this map goes by no classes",
    ),
    "labels that are nowhere": (
        ("ls", "--input", "x.npy", "--output", "t.npy", "--labels", "none.npy"),
        "--labels none.npy: this map goes by no classes",
    ),
    "labels in a table": (
        ("classes", "--input", "x.npy", "--output", "t.npy", "--labels", "x.csv"),
        "--labels x.csv: points and labels are read from .npy",
    ),
    "points for a map": (("x.npy", "--input", "x.npy", "--output", "t.npy"), "not a map kept by this version"),
    "pickled points": (("ls", "--input", "objects.npy", "--output", "t.npy"), "Python objects"),
    "truncated points": (("ls", "--input", "torn.npy", "--output", "t.npy"), "torn.npy"),
    "words": (("ls", "--input", "words.npy", "--output", "t.npy"), "not numeric"),
    "one number": (("ls", "--input", "number.npy", "--output", "t.npy"), "holds a single number"),
    "NaN": (("ls", "--input", "nan.npy", "--output", "t.npy"), "finite numbers"),
    "other points": (("ls", "--input", "wide.npy", "--output", "t.npy"), "points must have shape (n, 2), not"),
    "its own input": (("ls", "--input", "x.npy", "--output", "x.npy"), "is a file that is read"),
    "its own input by another name": (("ls", "--input", "x.npy", "--output", "link.npy"), "is a file that is read"),
    "its own map": (("ls", "--input", "x.npy", "--output", "ls.otmap"), "is a file that is read"),
    "a folder for output": (("ls", "--input", "x.npy", "--output", "."), "is a folder, not a file"),
    "an output in no folder": (("ls", "--input", "x.npy", "--output", "x.npy/t.npy"), "x.npy is a file, not a folder"),
    "no way back": (("noise", "--input", "x.npy", "--output", "t.npy", "--backward"), "goes forward only"),
    "no labels": (("classes", "--input", "x.npy", "--output", "t.npy"), "give the class of each point, --labels"),
    "labels of others": (("classes", "--input", "x.npy", "--output", "t.npy", "--labels", "x.npy"), "--labels x.npy"),
    "a negative seed": (("ls", "--input", "x.npy", "--output", "t.npy", "--seed", "-1"), "--seed -1"),
    "a seed in words": (("ls", "--input", "x.npy", "--output", "t.npy", "--seed", "one"), "--seed"),
    "an unknown device": (("ls", "--input", "x.npy", "--output", "t.npy", "--device", "tpu"), "--device 'tpu'"),
    "no output": (("ls", "--input", "x.npy"), "--output"),
    "no path": (("ls", "--input", "", "--output", "t.npy"), "the path is empty"),
    "no plugin": (("ls", "--input", "x.npy", "--output", "t.npy", "--plugin", "gone.py"), "gone.py: no such file"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_input(name: str, maps: dict[str, tuple[Transport, Path]], here: Path, cli: Cli) -> None:
    words, sentence = WRONG[name]
    for one in maps:
        shutil.copy(maps[one][1], f"{one}.otmap")
    np.save("x.npy", np.ones((5, 2)))
    np.save("label.npy", np.zeros(5, int))
    np.savetxt("x.csv", np.ones((5, 2)), delimiter=",")
    np.savez("x.npz", x=np.ones((5, 2)))
    os.link("x.npy", "link.npy")
    np.save("nan.npy", np.full((5, 2), np.nan))
    np.save("wide.npy", np.ones((5, 3)))
    np.save("number.npy", np.array(1.0))
    np.save("words.npy", np.array([["a", "b"]]))
    np.save("objects.npy", np.array([[None]]), allow_pickle=True)
    Path("torn.npy").write_bytes(Path("x.npy").read_bytes()[:-8])
    os.mkfifo("pipe")
    before = {path: path.stat().st_mtime_ns for path in here.iterdir()}
    first = words[0] if "." in words[0] else f"{words[0]}.otmap"
    code, out, err = cli("apply", first, *words[1:])
    assert code == 2, out + err
    assert len(err.splitlines()) == 1
    assert err.startswith("otbench: ")
    assert sentence in err
    assert {path: path.stat().st_mtime_ns for path in here.iterdir()} == before
