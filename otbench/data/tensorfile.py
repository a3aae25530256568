"""Tensors and numbers in a file that nothing can hide in: written as a whole, verified when read, never executed.

A file's name holds the hash of what it was made from, and the file holds the hash of its tensors, so that it is never
taken for another one. It is read with `weights_only=True`.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from otbench.data.remote import cache_folder
from otbench.errors import DataError
from otbench.files import require_file, unreadable, write_whole

FORMAT = 1
"""Version of the files. Raise it when their form, or the meaning of what they are made from, changes."""
_TYPES = (torch.float32, torch.float64, torch.uint8, torch.int32, torch.int64, torch.bool)
_NUMBERS = (torch.float16, *_TYPES[:-1], torch.int8, torch.int16)


@dataclass(frozen=True)
class Stored:
    """What a cache file holds.

    Attributes:
        tensors: by name, on the CPU.
        numbers: what is known of them (accuracy, losses).
        digest: SHA-256 of the tensors, hexadecimal.
    """

    tensors: Mapping[str, Tensor]
    numbers: Mapping[str, float]
    digest: str


def kept(
    path: Path,
    identity: str,
    make_it: Callable[[], tuple[Mapping[str, Tensor], Mapping[str, float]]],
    *,
    force: bool = False,
) -> Stored:
    """Return what `path` holds; if it does not exist, make it and write it there as a whole.

    Args:
        path: the file.
        identity: what it was made from, in words; a file of another identity is refused.
        make_it: returns tensors and numbers.
        force: make it even if `path` exists, which stays as it is until then.

    Raises:
        DataError: the file is damaged, foreign, of another identity, or holds code.
        StoreError: it cannot be written.
    """
    if force or not path.exists():
        tensors, numbers = make_it()
        tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
        content = {
            "format": FORMAT,
            "made_of": identity,
            "tensors": tensors,
            "numbers": {name: float(value) for name, value in numbers.items()},
            "digest": digest_of(tensors),
        }
        buffer = io.BytesIO()
        torch.save(content, buffer)
        write_whole(path, buffer.getvalue())
    return _read(path, identity)


def cached(head: str, identity: Mapping[str, object], make_it: Callable[[], Mapping[str, Tensor]]) -> Stored:
    """Return tensors that follow from `identity`, kept in the user's cache; made where there are none, or damaged ones.

    Raises:
        StoreError: they cannot be written.
    """
    text = json.dumps(identity, sort_keys=True)
    path = place(head, text)
    try:
        return kept(path, text, lambda: (make_it(), {}))
    except DataError:
        return kept(path, text, lambda: (make_it(), {}), force=True)


def place(head: str, identity: str, data_dir: Path | None = None) -> Path:
    """Return where the file of `identity` lies or will lie: in `pretrained/` of the user's folder, or of the cache.

    Args:
        head: how its name begins.
        identity: what it is made from, in words.
        data_dir: the user's folder, if any; it goes first, where it holds such a file.
    """
    key = hashlib.sha256(f"{FORMAT} {identity}".encode()).hexdigest()[:16]
    name = f"{head}-{key}.pt"
    *own, cache = _folders(data_dir)
    return next((folder / name for folder in own if (folder / name).exists()), cache / name)


def held(head: str, data_dir: Path | None) -> bool:
    """Say whether there is any file whose name begins with `head`, in the user's folder or in the cache."""
    return any(next(folder.glob(f"{head}-*.pt"), None) for folder in _folders(data_dir))


def _folders(data_dir: Path | None) -> list[Path]:
    return [folder / "pretrained" for folder in (data_dir, cache_folder()) if folder is not None]


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a user's .pt file by name: those of a dictionary, or the only one, by the name "".

    Raises:
        DataError: the file is missing, unreadable, damaged, holds anything but plain tensors of real numbers on the
            CPU, or tensors that claim more numbers than it holds.
    """
    require_file(path)
    again = "Save the tensor with torch.save(x.cpu().contiguous(), path)"
    try:
        content = _loaded(path)
    except ValueError as error:
        raise DataError(f"{path}: not a file of tensors: {error}. {again}") from error
    found = {"": content} if isinstance(content, Tensor) else content
    if not _are(found, Tensor):
        raise DataError(f"{path}: holds no tensor, nor a dictionary of tensors. {again}")
    size = path.stat().st_size
    for name, tensor in found.items():
        plain = tensor.layout is torch.strided and tensor.device.type == "cpu" and tensor.dtype in _NUMBERS
        if not plain or tensor.nbytes > size:
            raise DataError(f"{path}: {name[:40] or 'what it holds'!r} is no plain array of real numbers. {again}")
    return {name: tensor.detach().resolve_neg() for name, tensor in found.items()}


def _loaded(path: Path) -> Any:
    """Return what a file holds, in which nothing is executed.

    Raises:
        ValueError: why it cannot be read.
        DataError: its permissions forbid it.
    """
    try:
        with zipfile.ZipFile(path) as archive:  # written without compression: no part is larger than the file
            if sum(part.file_size for part in archive.infolist()) > path.stat().st_size:
                raise ValueError
        return torch.load(path, map_location="cpu", weights_only=True)
    except PermissionError as error:
        raise unreadable(path, error) from error
    except Exception as error:  # a damaged or hostile file can raise anything
        code = "Unsupported" in str(error) or "weights_only" in str(error).lower()
        why = "it holds more than tensors, which could be code, and was not opened" if code else "it is damaged"
        raise ValueError(why) from error


def _read(path: Path, identity: str) -> Stored:
    require_file(path)
    again = "Remove the file and make it again (data make)"
    try:
        content = _loaded(path)
    except ValueError as error:
        raise DataError(f"{path}: not a network of otbench: {error}. {again}") from error
    known = isinstance(content, dict) and type(content.get("format")) is int and content["format"] == FORMAT
    if not (known and _are(content.get("tensors"), Tensor) and _are(content.get("numbers"), float)):
        raise DataError(f"{path}: not a network of otbench, or of another version. {again}")
    if content.get("made_of") != identity:
        raise DataError(f"{path}: made from other data or settings than its name says. {again}")
    tensors = content["tensors"]
    for name, tensor in tensors.items():
        if not _is_plain(tensor):
            raise DataError(f"{path}: {name[:40]!r} is no plain array of numbers on the CPU. {again}")
    if sum(tensor.nbytes for tensor in tensors.values()) > path.stat().st_size:
        raise DataError(f"{path}: its tensors claim more numbers than the file holds. {again}")
    if content.get("digest") != digest_of(tensors):
        raise DataError(f"{path}: wrong checksum of its tensors: the file was changed or damaged. {again}")
    return Stored(tensors, content["numbers"], str(content["digest"]))


def _are(values: object, kind: type) -> bool:
    return isinstance(values, dict) and all(isinstance(k, str) and isinstance(v, kind) for k, v in values.items())


def _is_plain(tensor: Tensor) -> bool:
    """Say whether `tensor` is what `kept` writes: dense, its own memory, of a type that NumPy has."""
    dense = tensor.layout is torch.strided and tensor.device.type == "cpu" and tensor.dtype in _TYPES
    return dense and tensor.is_contiguous() and not tensor.is_neg()


def digest_of(tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of tensors and their names, hexadecimal; it does not depend on their order."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode(errors="backslashreplace"))
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
