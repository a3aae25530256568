"""What a user of the Python interface gives: arrays, labels, devices, numbers; checked, with one sentence if wrong."""

from __future__ import annotations

import functools
import re
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, ParamSpec, TypeAlias, TypeVar, cast

import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy import sparse
from torch import Tensor

from otbench.errors import OtbenchError, OtbenchWarning, UsageError
from otbench.files import typed_path
from otbench.names import plain

PathLike: TypeAlias = str | Path
"""A path, as text or as an object."""
Points: TypeAlias = ArrayLike | Tensor
"""Points or labels, one a row."""

LARGEST = 1e18
"""Numbers beyond this have no finite squares in float32; the task `samples` takes none, either."""
SEEDS = 10**9
"""Seeds are smaller."""
_TYPES = (
    *(torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.bool),
    *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint64, torch.uint32, torch.uint16, torch.uint8),
)
"""Types of the numbers that are taken."""

P = ParamSpec("P")
R = TypeVar("R")


def public(function: Callable[P, R]) -> Callable[P, R]:
    """Let a function raise the program's errors with its arguments called as in Python: `time_limit`, not an option."""

    @functools.wraps(function)
    def called(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except OtbenchError as error:
            said = str(error)
            plain = re.sub(r"^--([a-z]+(?:-[a-z]+)*)", lambda found: found[1].replace("-", "_"), said)
            if plain == said:
                raise
            raise type(error)(plain) from error.__cause__

    return called


def warn(lines: Iterable[str], *, deeper: int = 0) -> None:
    """Say `lines` to the caller of a public function, which calls this at so many levels `deeper`."""
    for line in lines:
        warnings.warn(line, OtbenchWarning, stacklevel=4 + deeper)  # this function, the public one, its wrapper


def points(name: str, value: Points) -> Tensor:
    """Return a copy of points as a tensor, shape (n, *shape), in the type and on the device that they came in.

    Raises:
        UsageError: they are no array of finite numbers up to `LARGEST` with at least two rows.
    """
    form = f"{name} must be an array of numbers, one point a row, shape (n, *shape)"
    found = _tensor(name, value, form)
    if found.ndim < 2 or not found[:1].numel():
        raise UsageError(f"{form}; its shape is {tuple(found.shape)}")
    if len(found) < 2:
        raise UsageError(f"{name} holds one point; two are the least")
    if found.is_floating_point() and not bool((good := found.abs() <= LARGEST).all()):  # False for NaN, too
        at = tuple((~good).nonzero()[0].tolist())
        raise UsageError(
            f"{name} must hold finite numbers up to {LARGEST:g}, and row {at[0]} (counted from 0) holds "
            f"{float(found[at]):g}; scale the points, or leave such rows out"
        )
    return found


def labels(name: str, value: Points | None, count: int) -> Tensor | None:
    """Return the classes of `count` points as a tensor, shape (count,), int64; None if none are given.

    Raises:
        UsageError: they are no whole numbers from -1 up, one for each point.
    """
    if value is None:
        return None
    form = f"{name} must hold one whole number for each of {count} points: its class, 0, 1, ..., or -1 for none"
    found = _tensor(name, value, form)
    if found.is_floating_point() or found.dtype is torch.bool:
        raise UsageError(f"{form}; it holds {_type(found)}")
    if found.shape != (count,):
        raise UsageError(f"{form}; its shape is {tuple(found.shape)}")
    found = found.long()
    if int(found.min()) < -1 or int(found.max()) >= count:
        raise UsageError(f"{form}; it holds {int(found.min())} to {int(found.max())}")
    return found


def device_of(value: str | torch.device, *near: Tensor) -> torch.device:
    """Return a device by name; `auto` is that of a tensor `near` on a GPU, else the first GPU, else the CPU.

    Raises:
        UsageError: it is not of a known kind, or not there.
    """
    text = str(value)
    if not re.fullmatch("auto|cpu|cuda(:[0-9]{1,3})?", text):
        raise UsageError(f"--device {text[:40]!r}: use cpu, cuda, cuda:N or auto")
    if text == "cpu":
        return torch.device("cpu")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if text == "auto":
        beside = next((tensor.device for tensor in near if tensor.device.type == "cuda"), None)
        return beside or torch.device("cuda:0" if count else "cpu")
    number = int(text[5:]) if ":" in text else 0
    if number >= count:
        have = f"this machine has {count} GPU(s)" if count else "no CUDA GPU can be used here"
        raise UsageError(f"--device {text}: {have}; use cpu, or install a driver and a CUDA build of torch")
    return torch.device("cuda", number)


def dtype_of(value: object) -> torch.dtype:
    """Return a floating type of torch, given as its own or NumPy's type, or by name.

    Raises:
        UsageError: it is not single or double precision.
    """
    known = {"float32": torch.float32, "float64": torch.float64}
    try:
        name = (
            str(value).removeprefix("torch.") if isinstance(value, torch.dtype) else np.dtype(cast("Any", value)).name
        )
    except TypeError:
        name = ""
    if name not in known:
        raise UsageError(f"--dtype {str(value)[:40]!r}: use float32 or float64")
    return known[name]


def text(name: str, value: object) -> str:
    """Return `value`, which must be text.

    Raises:
        UsageError: it is not.
    """
    if not isinstance(value, str):
        raise UsageError(f"--{name}: must be text, not {_kind(value)}")
    return value


def listed(name: str, value: object) -> str:
    """Return a text, a number or a list of these as the command line has it, separated by commas.

    Raises:
        UsageError: it is something else.
    """
    items = [value] if isinstance(value, (str, int, np.integer)) else value
    if not isinstance(items, Iterable) or isinstance(items, (bytes, dict)):
        raise UsageError(f"--{name}: must be text, a number or a list of them, not {_kind(value)}")
    found = list(items)
    if not found:
        raise UsageError(f"--{name}: the list is empty; name at least one")
    for item in found:
        if not isinstance(item, (str, int, np.integer)) or isinstance(item, bool):
            raise UsageError(f"--{name}: must be text, a number or a list of them, not a list with {_kind(item)}")
    return ",".join(map(str, found))


def number(name: str, value: object) -> float | None:
    """Return `value` if it is a number or None.

    Raises:
        UsageError: it is something else.
    """
    if value is None or (isinstance(value, (int, float, np.number)) and not isinstance(value, bool)):
        return None if value is None else float(value)
    raise UsageError(f"--{name}: must be a number, not {_kind(value)}")


def whole(name: str, value: object) -> int | None:
    """Return `value` if it is a whole number or None.

    Raises:
        UsageError: it is something else.
    """
    if value is None or (isinstance(value, (int, np.integer)) and not isinstance(value, bool)):
        return None if value is None else int(value)
    raise UsageError(f"--{name}: must be a whole number, not {_kind(value)}")


def seed(value: object) -> int:
    """Return `value` if it is a seed.

    Raises:
        UsageError: it is none.
    """
    found = whole("seed", value)
    if found is None or not 0 <= found < SEEDS:
        raise UsageError(f"--seed {found}: must be a whole number from 0 to {SEEDS - 1}")
    return found


def flag(name: str, value: object) -> bool | None:
    """Return `value` if it is True, False or None.

    Raises:
        UsageError: it is something else, such as "off", which would count as True.
    """
    if value is None or isinstance(value, (bool, np.bool_)):
        return None if value is None else bool(value)
    raise UsageError(f"--{name}: must be True, False or None, not {_kind(value)}")


def path_of(name: str, value: object, *, folder: bool = False) -> Path:
    """Return a path given as text or as an object.

    Raises:
        UsageError: it is none, or not the `folder` that is asked for.
    """
    if not isinstance(value, (str, Path)):
        raise UsageError(f"{name}: must be a path, not {_kind(value)}")
    return typed_path(str(value), name, folder=folder)


def plugin_files(value: PathLike | Sequence[PathLike]) -> list[Path]:
    """Return the files of `plugins`.

    Raises:
        UsageError: they are no paths.
    """
    files = [value] if isinstance(value, (str, Path)) else value
    if not isinstance(files, Sequence):
        raise UsageError(f"plugins: must be a list of paths, not {_kind(files)}")
    return [path_of("plugins", path) for path in files]


def plain_value(value: Any) -> Any:
    """Return the value of a parameter without the types of NumPy and torch around it."""
    return value.item() if isinstance(value, (np.generic, Tensor)) and value.ndim == 0 else value


def _tensor(name: str, value: Points, form: str) -> Tensor:
    """Return a copy of an array of real numbers as a tensor, in this machine's byte order.

    Raises:
        UsageError: it is none: `form`, and what it is instead.
    """
    if isinstance(value, Tensor):
        if value.layout is not torch.strided and not value.is_nested:
            raise UsageError(f"{name} is sparse; call .to_dense()")
        if value.dtype not in _TYPES or value.is_nested or value.is_meta:
            kind = "a nested tensor" if value.is_nested else "a tensor without numbers" if value.is_meta else ""
            raise UsageError(f"{form}; it {f'is {kind}' if kind else f'holds {_type(value)}'}")
        return value.detach().clone()
    if sparse.issparse(value):
        raise UsageError(f"{name} is sparse; call .toarray()")
    if np.ma.is_masked(value):
        raise UsageError(f"{name} has masked entries; leave such rows out, or fill them, {name}.filled(...)")
    try:
        found = np.asarray(value)
    except (ValueError, TypeError, RuntimeError) as error:
        uneven = isinstance(error, ValueError) and "inhomogeneous" in str(error)
        what = "its rows have several lengths" if uneven else f"NumPy makes none of it ({plain(str(error))})"
        raise UsageError(f"{form}; {what}") from None
    if found.dtype.kind not in "fiub" or found.dtype.itemsize > 8:
        raise UsageError(f"{form}; {_odd(value, found)}")
    return torch.from_numpy(found.astype(found.dtype.newbyteorder("="), order="C", copy=True))


def _odd(value: object, found: np.ndarray[Any, Any]) -> str:
    """Return what is wrong with an array of something else than real numbers."""
    if not found.ndim:
        return f"it is {_kind(value)}"
    for at, entry in np.ndenumerate(found if found.dtype.kind == "O" else found[:0]):
        if not isinstance(entry, (int, float, np.number)):
            return f"row {at[0]} (counted from 0) holds {_kind(entry)}"
    return "it holds text" if found.dtype.kind in "US" else f"it holds {found.dtype}; convert it to float64"


def _type(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _kind(value: object) -> str:
    if value is None:
        return "None"
    name = type(value).__name__
    return f"{'an' if name[0] in 'aeioAEIO' else 'a'} {name}"
