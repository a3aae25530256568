"""Files of kept maps: tensors as safetensors, the rest as JSON in their header. Reading one never executes anything.

The header names the solver and its code, and describes the modules that the tensors belong to (`otbench.recorded`). Its
checksum covers both.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor

from otbench.errors import DataError
from otbench.files import MAP_ENDING, require_file, shown, unreadable, write_atomically, writing

FORMAT = 1
"""Version of the files."""
ENDING = MAP_ENDING
MOST_HEADER = 2**24
"""Bytes that the header may have."""
DEEPEST = 200
"""Values inside each other in the header, at most."""
_KEY = "otbench"
_DTYPES = (torch.float32, torch.float64, torch.int64, torch.bool)


@dataclass(frozen=True)
class MapFile:
    """What a file of a kept map holds.

    Attributes:
        origin: where the map comes from, as plain values.
        modules: how it is built again.
        parameters: names of the tensors that were trained.
        tensors: by name, on the CPU; empty where only the header was read.
        digest: SHA-256 of the content, hexadecimal.
    """

    origin: Mapping[str, object]
    modules: Mapping[str, object]
    parameters: tuple[str, ...]
    tensors: Mapping[str, Tensor]
    digest: str


def write_map(
    path: Path,
    *,
    origin: Mapping[str, object],
    modules: Mapping[str, object],
    parameters: list[str],
    tensors: Mapping[str, Tensor],
) -> str:
    """Write a file as a whole, or not at all; return the SHA-256 of its content.

    Tensors that share memory are written once each under the first of their names.

    Raises:
        StoreError: it cannot be written.
    """
    from safetensors.torch import save  # not needed to know what is in the package

    own: dict[str, Tensor] = {}
    first: dict[object, str] = {}
    same: dict[str, str] = {}
    for name, tensor in tensors.items():
        place = (tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride())
        if tensor.numel() and place in first:
            same[name] = first[place]
        else:
            first[place] = name
            own[name] = tensor.detach().cpu().contiguous().clone()
    content = {"origin": origin, "modules": modules, "parameters": parameters, "same": same}
    digest = _digest(content, own)
    header = json.dumps({"format": FORMAT, "digest": digest, **content}, allow_nan=False)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, save(own, metadata={_KEY: header}))
    return digest


def read_map(path: Path, *, numbers: bool = True) -> MapFile:
    """Return what `path` holds; with `numbers=False` the header alone, which checks nothing of the tensors.

    Raises:
        DataError: it is missing, damaged, of another kind or version, or its checksum is wrong.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    require_file(path)
    try:
        header, content = _header(path, numbers=numbers)
        parts = {name: header[name] for name in ("origin", "modules", "parameters", "same")}
        tensors = load(content) if numbers else {}
        wrong = numbers and header["digest"] != _digest(parts, tensors)
    except OSError as error:
        raise unreadable(path, error) from error
    except (*_MALFORMED, SafetensorError) as error:
        raise DataError(
            f"{shown(path)}: not a map kept by this version of otbench, or damaged; keep it again (--keep-maps, "
            "transport.save)"
        ) from error
    if any(tensor.dtype not in _DTYPES for tensor in tensors.values()):
        raise DataError(f"{shown(path)}: holds numbers of a type that otbench does not write")
    if wrong:
        raise DataError(f"{shown(path)}: wrong checksum: the file was changed or damaged; keep the map again")
    if numbers:
        alias = {name: tensors.get(other) for name, other in parts["same"].items()}
        if alias.keys() & tensors.keys() or None in alias.values():
            raise DataError(f"{shown(path)}: takes tensors for the same that it does not hold, or holds twice")
        tensors |= {name: tensor for name, tensor in alias.items() if tensor is not None}
    return MapFile(parts["origin"], parts["modules"], tuple(parts["parameters"]), tensors, header["digest"])


_MALFORMED = (ValueError, KeyError, TypeError, AttributeError, struct.error, RecursionError)
"""What reading a damaged or hostile header raises."""


def _header(path: Path, *, numbers: bool) -> tuple[dict[str, Any], bytes]:
    """Return the header of a file, and the whole of it where its numbers are wanted.

    Raises:
        OSError: it cannot be read.
        ValueError, KeyError, TypeError, AttributeError, struct.error, RecursionError: it is no kept map.
    """
    with path.open("rb") as stream:
        length = struct.unpack("<Q", stream.read(8))[0]
        if length > min(MOST_HEADER, os.fstat(stream.fileno()).st_size):
            raise ValueError
        header = _checked(_strict_json(_strict_json(stream.read(length))["__metadata__"][_KEY]))
        stream.seek(0)
        return header, stream.read() if numbers else b""


def _checked(header: dict[str, Any]) -> dict[str, Any]:
    parts, kinds = [header[name] for name in ("origin", "modules", "parameters", "same")], (dict, dict, list, dict)
    texts = (*header["parameters"], *header["same"], *header["same"].values())
    plain = all(isinstance(part, kind) for part, kind in zip(parts, kinds, strict=True))
    plain = plain and isinstance(header["digest"], str) and all(isinstance(text, str) for text in texts)
    if type(header["format"]) is not int or header["format"] != FORMAT or not plain:
        raise ValueError
    return header


def _strict_json(text: str | bytes) -> Any:
    """Return what JSON says, refusing what it can say in two ways or without end.

    Raises:
        ValueError: not JSON, a name twice in one object, a number that is not finite, or too deep.
        RecursionError: far too deep.
    """
    found = json.loads(text, object_pairs_hook=_once, parse_float=_finite, parse_constant=_refused)
    level: Sequence[object] = [found]
    for _ in range(DEEPEST):
        level = [
            inner
            for outer in level
            if isinstance(outer, (dict, list))
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
        if not level:
            return found
    raise ValueError("too deep")


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name stands twice")
    return found


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError("not finite")
    return value


def _refused(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number")


def stored_size(path: Path) -> tuple[int, int]:
    """Return (parameters, bytes) of the tensors in a file: bytes count buffers too, shared tensors once.

    Raises:
        DataError: as `read_map`.
    """
    found = read_map(path)
    own = {tensor.data_ptr(): tensor for tensor in found.tensors.values()}
    trained = {t.data_ptr(): t for name in found.parameters if (t := found.tensors.get(name)) is not None}
    return sum(t.numel() for t in trained.values()), sum(t.nbytes for t in own.values())


def _digest(content: Mapping[str, object], tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode(errors="backslashreplace"))
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
