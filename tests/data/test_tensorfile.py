"""Files of tensors that claim what they do not hold: one message, and no memory is taken for them."""

from __future__ import annotations

import resource
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from otbench.data.tensorfile import FORMAT, kept
from otbench.errors import DataError


def nested(depth: int) -> list[object]:
    inside: list[object] = []
    for _ in range(depth):
        inside = [inside]
    return inside


def claims_more() -> Tensor:
    """Return a tensor of 64 GiB whose storage holds one number."""
    return torch.zeros(1).expand(2**34)


@pytest.fixture
def little_memory() -> Iterator[None]:
    """Let this process take 16 GiB more than it has."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + 2**34, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


PLAIN = "no plain array of numbers"


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (lambda: torch.zeros(3, dtype=torch.bfloat16), PLAIN),
        (lambda: torch.zeros(3, dtype=torch.complex64), PLAIN),
        (lambda: torch.eye(3).to_sparse(), PLAIN),
        (lambda: torch.eye(3).to_sparse_csr(), PLAIN),
        (lambda: torch.zeros(3, device="meta"), PLAIN),
        (lambda: torch.zeros(2**40, device="meta"), PLAIN),
        (claims_more, PLAIN),
        (lambda: torch.zeros(3, 4).T, PLAIN),
        (lambda: torch.quantize_per_tensor(torch.zeros(3), 0.1, 0, torch.quint8), PLAIN),
        (lambda: nested(100), "not a network of otbench"),
    ],
    ids=["bf16", "complex", "sparse", "csr", "meta", "large meta", "expanded", "transposed", "quantised", "nested"],
)
@pytest.mark.filterwarnings("ignore")
def test_tensors_that_are_no_plain_arrays(
    tensor: Callable[[], object], message: str, tmp_path: Path, little_memory: None
) -> None:
    path = tmp_path / "a.pt"
    content = {"format": FORMAT, "made_of": "x", "tensors": {"one": tensor()}, "numbers": {}, "digest": "0" * 64}
    torch.save(content, path)
    with pytest.raises(DataError, match=message) as error:
        kept(path, "x", lambda: ({}, {}))
    assert str(path) in str(error.value)


@pytest.mark.parametrize("value", [torch.zeros(2), nested(100), "1", True, 10**400])
def test_a_version_that_is_no_version(value: object, tmp_path: Path) -> None:
    torch.save({"format": value, "made_of": "x", "tensors": {}, "numbers": {}, "digest": ""}, tmp_path / "a.pt")
    with pytest.raises(DataError, match="not a network of otbench"):
        kept(tmp_path / "a.pt", "x", lambda: ({}, {}))


def test_a_file_nested_without_end(tmp_path: Path) -> None:
    path, deep = tmp_path / "a.pt", tmp_path / "b.pt"
    torch.save({}, path)
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(deep, "w") as new:
        for info in old.infolist():
            lists = b"\x80\x02" + b"]" * 1_000_000 + b"a" * 999_999 + b"."
            new.writestr(info.filename, lists if info.filename.endswith("data.pkl") else old.read(info))
    with pytest.raises(DataError, match="not a network of otbench"):
        kept(deep, "x", lambda: ({}, {}))


def test_a_file_that_unpacks_to_more_than_it_has(tmp_path: Path, little_memory: None) -> None:
    path, packed = tmp_path / "a.pt", tmp_path / "b.pt"
    torch.save({"format": FORMAT, "made_of": "x", "tensors": {"one": torch.zeros(2**22)}, "numbers": {}}, path)
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as new:
        for info in old.infolist():
            new.writestr(info.filename, old.read(info))
    with pytest.raises(DataError, match="damaged"):
        kept(packed, "x", lambda: ({}, {}))
