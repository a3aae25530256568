"""Modules that remember the plain arguments they were built with, so that a file can say how to build them again.

Nothing but registered classes, plain values and the shapes of tensors goes into such a description: reading one never
executes what it says.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.modules.module import (
    register_module_module_registration_hook,
    register_module_parameter_registration_hook,
)

from otbench.errors import DataError
from otbench.names import plain

Description: TypeAlias = Mapping[str, Any]
"""A module as plain values: {"class": name, "arguments": {name: value}}."""

MOST_MODULES = 10_000
"""Modules in one description, at most; and modules and parameters that are built of it."""
_LEAST_BOUND = 4096
"""Whole numbers up to this are taken from any description; larger ones only where the tensors are as large."""
_DTYPES = {
    str(dtype).removeprefix("torch."): dtype for dtype in (torch.float32, torch.float64, torch.int64, torch.bool)
}
_CLASSES: dict[str, type[Recorded]] = {}


class Recorded(nn.Module):
    """A module that can be built again from its arguments and its `state_dict`.

    Arguments of the constructor may be plain values (numbers, text, None, lists and dicts of these), tensors, of which
    only the shape is remembered (the numbers must be in the `state_dict`), and other `Recorded` modules. Generators,
    devices and dtypes are left out: the constructor must do without them. A subclass is known by the name of its file
    and its own, as in `dense_icnn.DenseICNN`.
    """

    def __init_subclass__(cls, **options: object) -> None:
        """Make the constructor note its arguments, and the class known by its name."""
        super().__init_subclass__(**options)
        _CLASSES[name_of(cls)] = cls
        if "__init__" not in vars(cls):
            return
        build = cls.__init__
        signature = inspect.signature(build)

        @functools.wraps(build)
        def recording(self: Recorded, *args: Any, **kwargs: Any) -> None:
            outermost = "_built_with" not in self.__dict__
            if outermost:  # before nn.Module's own constructor has run, too
                bound = signature.bind(self, *args, **kwargs)
                self.__dict__["_built_with"] = _flat(signature, bound.arguments)
            build(self, *args, **kwargs)

        setattr(cls, "__init__", recording)  # noqa: B010  (types see no assignment to a method)


def name_of(cls: type) -> str:
    """Return the name under which a class stands in descriptions."""
    return f"{cls.__module__.rpartition('.')[2]}.{cls.__qualname__}"


def describe(module: nn.Module) -> Description:
    """Return how to build `module` again.

    Raises:
        TypeError: it, or an argument of it, is neither `Recorded` nor plain.
    """
    if not isinstance(module, Recorded):
        raise TypeError(
            f"{type(module).__name__} does not remember how it was built: derive it from otbench.recorded.Recorded, or "
            "build it from plain values inside your Transport"
        )
    built = module.__dict__.get("_built_with", {})
    return {"class": name_of(type(module)), "arguments": {name: _plain(value, name) for name, value in built.items()}}


def build(description: Description, *, largest: int) -> nn.Module:
    """Return the module that `description` describes, on the `meta` device: without memory, and without its numbers.

    Args:
        description: as `describe` made it; may come from anywhere.
        largest: numbers in the largest tensor that goes into it; bounds sizes in the description.

    Raises:
        DataError: it names an unknown class, or fits none.
    """
    with torch.device("meta"), _bounded():
        return _module(description, max(largest, _LEAST_BOUND), [0])


@contextlib.contextmanager
def _bounded() -> Iterator[None]:
    """End what builds modules without end: one number of a description may ask for a million layers."""
    built = [0]

    def count(*_: object) -> None:
        built[0] += 1
        if built[0] > MOST_MODULES:
            raise DataError(f"it describes more than {MOST_MODULES:,} modules and parameters")

    hooks = (register_module_module_registration_hook(count), register_module_parameter_registration_hook(count))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@dataclass(frozen=True)
class _Shape:
    """What is remembered of a tensor."""

    shape: tuple[int, ...]
    dtype: str

    @classmethod
    def of(cls, tensor: Tensor) -> _Shape:
        return cls(tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."))


def _flat(signature: inspect.Signature, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return bound arguments by name, without `self`, with those of `**options` among the others."""
    found: dict[str, Any] = {}
    for k, (name, value) in enumerate(arguments.items()):
        kind = signature.parameters[name].kind
        if k == 0:
            continue
        if kind is inspect.Parameter.VAR_KEYWORD:
            found |= value
        elif kind is inspect.Parameter.VAR_POSITIONAL:
            raise TypeError(f"'*{name}': the constructor of a Recorded module takes named arguments")
        else:
            found[name] = value
    ambient = (torch.Generator, torch.device, torch.dtype)
    kept = {name: value for name, value in found.items() if not isinstance(value, ambient)}
    return {name: _Shape.of(value) if isinstance(value, Tensor) else value for name, value in kept.items()}


def _plain(value: object, name: str) -> object:
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    if isinstance(value, _Shape):
        return {"tensor": [list(value.shape), value.dtype]}
    if isinstance(value, nn.Module):
        return {"module": describe(value)}
    if isinstance(value, Mapping):
        return {"map": {str(key): _plain(item, name) for key, item in value.items()}}
    if isinstance(value, Sequence):
        return [_plain(item, name) for item in value]
    raise TypeError(f"argument '{name}' is a {type(value).__name__}: give plain values, tensors or Recorded modules")


def _module(description: object, largest: int, count: list[int]) -> nn.Module:
    count[0] += 1
    match description:
        case {"class": str(name), "arguments": dict(arguments)} if count[0] <= MOST_MODULES:
            pass
        case _:
            raise DataError("the description of its modules cannot be read")
    cls = _CLASSES.get(name)
    if cls is None:
        raise DataError(f"it names the module '{plain(name, 80)}', which the solver's code does not have")
    values = {key: _value(value, largest, count) for key, value in arguments.items()}
    try:
        return cls(**values)
    except DataError:
        raise
    except Exception as error:  # arguments from a file can make a constructor fail in any way
        raise DataError(
            f"its module '{name}' cannot be built as described ({type(error).__name__}: {_said(error)})"
        ) from None


def _said(error: Exception) -> str:
    return plain(str(error)) or "no reason given"


def _value(value: object, largest: int, count: list[int]) -> object:
    if isinstance(value, list):
        return [_value(item, largest, count) for item in value]
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > largest:
        raise DataError("it asks for modules larger than the file")
    if not isinstance(value, dict):
        return value
    match value:
        case {"tensor": [list(shape), str(dtype)]} if dtype in _DTYPES:
            if any(type(n) is not int or n < 0 for n in shape) or math.prod(shape) > largest:
                raise DataError("it describes a tensor that the file does not hold")
            return torch.empty(shape, dtype=_DTYPES[dtype])
        case {"module": inner}:
            return _module(inner, largest, count)
        case {"map": dict(items)}:
            return {key: _value(item, largest, count) for key, item in items.items()}
    raise DataError("the description of its modules cannot be read")
