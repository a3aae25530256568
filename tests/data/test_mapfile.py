"""Files of kept maps: what is not one is refused with one sentence, and nothing in it is executed."""

from __future__ import annotations

import json
import os
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import otbench
from otbench.data.mapfile import read_map, stored_size, write_map
from otbench.errors import DataError

from ..helpers.kept_maps import BROKEN, Forged, small_map, with_header


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_map(tmp_path_factory.mktemp("kept") / "map.otmap")


def refusal(path: Path) -> str:
    """Read `path`, which must be refused; return the sentence."""
    with pytest.raises(DataError) as caught:
        read_map(path)
    said = str(caught.value)
    assert "\n" not in said
    assert said.isprintable()
    assert len(said) < 500
    return said


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    tensors = {"a": torch.arange(6.0).view(2, 3).t(), "b": torch.tensor(True), "c": torch.zeros(0, dtype=torch.int64)}
    tensors["again"] = tensors["a"]
    origin, modules = {"solver": "mine"}, {"class": "x.Y", "arguments": {"n": 3}}
    digest = write_map(tmp_path / "a", origin=origin, modules=modules, parameters=["a"], tensors=tensors)
    found = read_map(tmp_path / "a")
    assert (found.origin, found.modules, found.parameters, found.digest) == (origin, modules, ("a",), digest)
    assert found.tensors.keys() == tensors.keys()
    assert all(torch.equal(found.tensors[name], tensors[name]) for name in tensors)
    assert stored_size(tmp_path / "a") == (6, 6 * 4 + 1)
    assert read_map(tmp_path / "a", numbers=False).tensors == {}


def test_the_same_map_gives_the_same_bytes(kept: Path, tmp_path: Path) -> None:
    otbench.load(kept).save(tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == kept.read_bytes()


class Evil:
    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return os.mkdir, ("executed",)


def deep(levels: int) -> str:
    return with_parts(origin='{"a":' * levels + "1" + "}" * levels)


def with_parts(**raw: str) -> str:
    parts = {"format": "1", "digest": '"0"', "origin": "{}", "modules": "{}", "parameters": "[]", "same": "{}"} | raw
    return "{" + ",".join(f'"{name}":{text}' for name, text in parts.items()) + "}"


HEADERS = {
    "no JSON": "x",
    "not an object": "[]",
    "a number": "1",
    "nothing of ours": "{}",
    "another format": with_parts(format="2"),
    "a format that is true": with_parts(format="true"),
    "a format that is 1.0": with_parts(format="1.0"),
    "a digest that is a number": with_parts(digest="1"),
    "an origin that is a list": with_parts(origin="[]"),
    "modules that are text": with_parts(modules='"linear"'),
    "parameters that are an object": with_parts(parameters="{}"),
    "parameters that are numbers": with_parts(parameters="[1]"),
    "names that are lists": with_parts(same='{"a": ["b"]}'),
    "NaN": with_parts(origin='{"version": NaN}'),
    "infinity": with_parts(origin='{"version": -Infinity}'),
    "a number beyond floats": with_parts(origin='{"version": 1e999}'),
    "a number of 10 000 digits": with_parts(origin='{"classes": ' + "9" * 10_000 + "}"),
    "a name twice": with_parts(origin='{"solver": "a", "solver": "b"}'),
    "a part twice": with_parts()[:-1] + ',"origin":{}}',
    "300 levels": deep(300),
    "100 000 levels": deep(100_000),
    "a million lists": with_parts(parameters="[" * 10**6 + "]" * 10**6),
}


@pytest.mark.parametrize("name", HEADERS)
def test_headers(name: str, tmp_path: Path) -> None:
    (tmp_path / "a.otmap").write_bytes(with_header(HEADERS[name]))
    assert BROKEN in refusal(tmp_path / "a.otmap")


CONTENTS = {
    "nothing": b"",
    "four bytes": b"abcd",
    "text": b"a map of my own making, in words",
    "a header of 2^63 bytes": struct.pack("<Q", 2**63) + b"{}",
    "a header of 2^64 - 1 bytes": b"\xff" * 8 + b"{}",
    "a header longer than the file": struct.pack("<Q", 100) + b"{}",
    "a header that is no text": struct.pack("<Q", 4) + b"\xff\xfe\x00\xd8",
    "an empty header": struct.pack("<Q", 0),
    "other safetensors": struct.pack("<Q", 2) + b"{}",
    "metadata that are a list": struct.pack("<Q", 19) + b'{"__metadata__":[]}',
}


@pytest.mark.parametrize("name", CONTENTS)
def test_contents(name: str, tmp_path: Path) -> None:
    (tmp_path / "a.otmap").write_bytes(CONTENTS[name])
    assert BROKEN in refusal(tmp_path / "a.otmap")


@pytest.mark.parametrize("by_torch", [False, True])
def test_pickles_are_never_opened(by_torch: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    if by_torch:
        torch.save(Evil(), "a.otmap")
    else:
        Path("a.otmap").write_bytes(pickle.dumps(Evil()))
    assert BROKEN in refusal(Path("a.otmap"))
    assert not Path("executed").exists()


def test_places_that_hold_no_file(tmp_path: Path) -> None:
    assert "no such file" in refusal(tmp_path / "none.otmap")
    assert "is a folder" in refusal(tmp_path)
    os.mkfifo(tmp_path / "pipe.otmap")
    assert "not a regular file" in refusal(tmp_path / "pipe.otmap")
    assert "no such file" in refusal(tmp_path / "\x1b[31mred\n.otmap")


@pytest.mark.parametrize("length", [1, 8, 9, 200, -1, -30])
def test_truncated_files(length: int, kept: Path, tmp_path: Path) -> None:
    (tmp_path / "a.otmap").write_bytes(kept.read_bytes()[:length])
    assert BROKEN in refusal(tmp_path / "a.otmap")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.uint8, torch.int32, torch.complex64])
def test_types_that_are_never_written(dtype: torch.dtype, kept: Path, tmp_path: Path) -> None:
    forged = Forged(kept)
    forged.tensors = {name: tensor.to(dtype) for name, tensor in forged.tensors.items()}
    said = refusal(forged.write(tmp_path / "a.otmap"))
    assert "holds numbers of a type that otbench does not write" in said


def test_a_wrong_checksum(kept: Path, tmp_path: Path) -> None:
    forged = Forged(kept)
    forged.header["digest"] = "0" * 64
    assert "wrong checksum" in refusal(forged.write(tmp_path / "a.otmap"))
    forged = Forged(kept)
    path = forged.write(tmp_path / "b.otmap")
    path.write_bytes(path.read_bytes().replace(b"linear", b"linesr"))
    assert "wrong checksum" in refusal(path)


@pytest.mark.parametrize(
    "same",
    [
        {"a": "b", "b": "a"},
        {"a": "a"},
        {"there.matrix": "there.offset"},
        {"a": "nowhere"},
        {"a": "b", "b": "there.offset"},
    ],
)
def test_tensors_said_to_be_the_same(same: dict[str, str], kept: Path, tmp_path: Path) -> None:
    forged = Forged(kept)
    forged.content["same"] = same
    assert "takes tensors for the same" in refusal(forged.write(tmp_path / "a.otmap"))


@settings(max_examples=150, deadline=None)
@given(place=st.integers(0, 10**6), bit=st.integers(1, 255))
def test_a_flipped_byte_gives_the_sentence_or_the_same_map(place: int, bit: int, kept: Path) -> None:
    content = bytearray(kept.read_bytes())
    content[place % len(content)] ^= bit
    path = kept.with_name("flipped.otmap")
    path.write_bytes(content)
    good = read_map(kept)
    try:
        found = read_map(path)
    except DataError:
        return
    assert found.digest == good.digest
    assert json.dumps(found.modules) == json.dumps(good.modules)
    assert found.origin == good.origin
    assert all(torch.equal(tensor, good.tensors[name]) for name, tensor in found.tensors.items())
    assert found.tensors.keys() == good.tensors.keys()
