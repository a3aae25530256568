"""A small kept map, and the same as a hostile hand would write it: any header, any tensors, a right checksum."""

from __future__ import annotations

import copy
import hashlib
import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor

import otbench
from otbench.data.mapfile import read_map

BROKEN = "not a map kept by this version of otbench, or damaged"


def small_map(path: Path) -> Path:
    """Write the linear map between two samples in the plane; return `path`."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((50, 2))
    otbench.fit(x, 2 * x + 1, solver="linear", device="cpu", progress=False).save(path)
    return path


class Forged:
    """The parts of a kept map, to be changed and written again."""

    def __init__(self, path: Path) -> None:
        file = read_map(path)
        self.tensors: dict[str, Tensor] = {name: tensor.clone() for name, tensor in file.tensors.items()}
        self.content: dict[str, Any] = copy.deepcopy(
            {
                "origin": dict(file.origin),
                "modules": dict(file.modules),
                "parameters": list(file.parameters),
                "same": {},
            }
        )
        self.header: dict[str, Any] = {"format": 1}

    @property
    def arguments(self) -> dict[str, Any]:
        """Arguments of the outermost module."""
        found: dict[str, Any] = self.content["modules"]["arguments"]
        return found

    def write(self, path: Path) -> Path:
        """Write what it is now, with the checksum that belongs to it."""
        header = {**self.content, "digest": digest(self.content, self.tensors), **self.header}
        path.write_bytes(save(self.tensors, metadata={"otbench": json.dumps(header)}))
        return path


def digest(content: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    """Return the checksum as the files have it."""
    found = hashlib.sha256(json.dumps(content, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode(errors="backslashreplace"))
        found.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def with_header(text: str) -> bytes:
    """Return a file without tensors whose header of ours is `text`, whatever that is."""
    outer = json.dumps({"__metadata__": {"otbench": text}}).encode()
    return struct.pack("<Q", len(outer)) + outer
