"""What the processes of a run hand each other as files: the problem, points and their images, kept maps.

Only the judge's own file, the problem, is a pickle. What a solver's process may have written is read as plain numbers.
"""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor

from otbench.errors import OtbenchError, PluginError
from otbench.files import writing
from otbench.plugins.registry import Entry, load_entry
from otbench.problem import Problem


def write_problem(path: Path, problem: Problem, *, task: str) -> None:
    """Write `problem` for a trainer: its tensors to the last number, and nothing that lies beside them in memory.

    Raises:
        PluginError: the measures of the task cannot be written.
        StoreError: the file cannot be written.
    """
    with writing(path), path.open("wb") as stream:
        try:
            _Pickler(stream, protocol=pickle.HIGHEST_PROTOCOL).dump(problem)
        except OSError:
            raise
        except Exception as error:  # pickle raises what the objects happen to raise
            why = f"{type(error).__name__}: {error}".splitlines()[0]
            raise PluginError(
                f"task {task}: its problem cannot be handed to the process that trains ({why}): build measures and "
                "samplers of classes and functions at the top of a module, without closures (functools.partial helps)"
            ) from error


def read_problem(path: Path, task: Entry) -> Problem:
    """Return the problem that `write_problem` wrote, its tensors on their device.

    Args:
        path: the file.
        task: where its task is; it is imported only where the problem is made of its classes.
    """
    with path.open("rb") as stream:
        found = _Unpickler(stream, task).load()
    assert isinstance(found, Problem)
    return found


class _Pickler(pickle.Pickler):
    def reducer_override(self, thing: Any) -> Any:
        # A slice of a tensor would take along all that it was cut from: held-out rows, for example.
        if type(thing) is Tensor:
            return _tensor, (thing.detach().cpu().numpy(), str(thing.device))
        return NotImplemented


class _Unpickler(pickle.Unpickler):
    """Finds classes of a file given by `--plugin`, too, which is no module that can be imported by its name."""

    def __init__(self, stream: IO[bytes], task: Entry) -> None:
        super().__init__(stream)
        self._task = task

    def find_class(self, module: str, name: str) -> Any:
        if module == self._task.module:
            load_entry(self._task)
        return super().find_class(module, name)


def _tensor(array: np.ndarray[Any, Any], device: str) -> Tensor:
    return torch.from_numpy(array).to(device, copy=True)  # in memory of torch's own, aligned as it is elsewhere


def write_points(path: Path, points: Tensor) -> None:
    """Write `points`, shape (n, *shape).

    Raises:
        StoreError: the file cannot be written.
    """
    with writing(path):
        np.save(path, points.detach().cpu().numpy(), allow_pickle=False)


def read_points(path: Path, device: torch.device) -> Tensor:
    """Return points that `write_points` wrote, on `device`."""
    return torch.from_numpy(np.load(path, allow_pickle=False)).to(device)


def taken(path: Path) -> Callable[[], np.ndarray[Any, Any]]:
    """Take a file away, and return what gives its numbers: no other process can read them from now on.

    Raises:
        OtbenchError: there is no such file, or it is none of numbers.
    """
    try:
        mapped = np.load(path, mmap_mode="r", allow_pickle=False)
        path.unlink()
    except (OSError, ValueError, EOFError) as error:
        raise OtbenchError(f"images of the test points cannot be read: {error}") from error
    return lambda: np.array(mapped)


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file; empty where it cannot be read."""
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError:
        return ""
