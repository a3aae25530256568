"""The Transport contract: what training leaves, the maps and all that they need.

A solver returns one from `transport()`. Authors write methods of tensors; the class around them takes NumPy arrays and
tensors of any floating type and device, goes through many points in chunks, and checks what it is given.

    class Shift(Transport):
        def __init__(self, potential: Recorded) -> None:
            super().__init__()
            self.potential = potential

        def forward(self, x, label=None, generator=None):
            return x + self.potential.gradient(x)

Optional abilities are declared by being defined: `backward(y, label, generator)`, `log_prob(y, label, generator)`,
`velocity(x, t)` and `interpolate(x, t)`, with t from 0 at the source to 1 at the target.
"""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, TypeAlias, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from otbench.data.mapfile import MapFile, write_map
from otbench.errors import DataError, PluginError, UsageError
from otbench.names import plain
from otbench.problem import Problem
from otbench.recorded import Recorded, build, describe

Array: TypeAlias = NDArray[Any]

CHUNK = 16384
"""Points mapped at a time, at most: bounds the memory of evaluation."""
ELEMENTS = 2**20
"""Coordinates mapped at a time: images pass through many channels of their size."""
WRAPPED = ("forward", "backward", "log_prob", "velocity", "interpolate")
"""Methods of tensors that the base class opens to arrays."""
_LONGEST_NAME = 300


def rows_at_a_time(shape: Sequence[int]) -> int:
    """Return how many points of a `shape` are mapped at a time."""
    return max(1, min(CHUNK, ELEMENTS // max(1, math.prod(shape))))


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where a Transport comes from; a file keeps it.

    Attributes:
        solver: name of the solver or baseline.
        kind: "solver" or "baseline".
        plugin: the file given by `--plugin`; empty for others.
        code: hash of the code that makes this solver.
        version: of otbench.
        run: id of the run that trained it; empty outside the harness.
        source_shape: shape of one source point.
        target_shape: shape of one target point.
        classes: number of classes that go to each other; 0 = none.
        colours: space of the points where they are colours (`otbench.ops.colours`); else empty.
    """

    solver: str
    kind: str
    plugin: str = ""
    code: str = ""
    version: str = ""
    run: str = ""
    source_shape: tuple[int, ...] = ()
    target_shape: tuple[int, ...] = ()
    classes: int = 0
    colours: str = ""

    @staticmethod
    def read(values: Mapping[str, object]) -> Origin:
        """Return the origin that a file gives as plain values.

        Raises:
            DataError: they are not what `dataclasses.asdict` makes of an origin.
        """
        found: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        try:
            made = Origin(**found)
        except TypeError as error:
            raise DataError("it does not say where its map comes from") from error
        default = Origin(solver="", kind="")
        for field in fields(Origin):
            value = getattr(made, field.name)
            whole = not isinstance(value, tuple) or all(type(n) is int and n > 0 for n in value)
            usual = not isinstance(value, str) or (value.isprintable() and len(value) <= _LONGEST_NAME)
            if type(value) is not type(getattr(default, field.name)) or not (whole and usual):
                raise DataError(f"what it says of its origin cannot be read: {field.name}")
        if made.kind not in ("solver", "baseline") or made.classes < 0:
            raise DataError("what it says of its origin cannot be read: kind, or number of classes")
        return made


class Transport(Recorded):
    """Maps between two measures, and all that they need: parameters and buffers, nothing of training.

    Attributes:
        reads_label: whether the maps are given the class of each point.
        stochastic: whether a map draws from its generator.
        differentiable: whether `forward` has a graph back to an `x` that requires a gradient; each image must depend on
            its own point. Densities are made from such maps.
        solves_forward: whether `backward` is the map in closed form, with a graph, and `forward` is solved for.
        keeps_rows: number of training rows among what is kept.
        takes_user_units: whether it maps the user's points, whatever units its solver was given (`Problem.units`).
        origin: where it comes from; None until the harness says so.
    """

    reads_label: bool = False
    stochastic: bool = False
    differentiable: bool = False
    solves_forward: bool = False
    takes_user_units: bool = False
    keeps_rows: int = 0
    origin: Origin | None = None
    _inside: bool = False

    # typed for whoever calls them; only a subclass that defines one has it
    backward: Callable[..., Any]
    log_prob: Callable[..., Any]
    velocity: Callable[..., Any]
    interpolate: Callable[..., Any]

    def __init_subclass__(cls, **options: object) -> None:
        """Open the methods of tensors to arrays."""
        for name in WRAPPED:
            if name in vars(cls):
                setattr(cls, name, _opened(name, vars(cls)[name]))
        super().__init_subclass__(**options)

    def forward(self, x: Tensor, label: Tensor | None = None, generator: torch.Generator | None = None) -> Tensor:
        """Return T(x), same shape as `x` (n, *shape).

        Where `x` requires a gradient and the map is `differentiable`, the result has a graph back to it; this is the
        place for the costlier path of maps that are solved for.

        Args:
            x: points, shape (n, *shape).
            label: their classes, shape (n,), int64, if `reads_label`.
            generator: what a stochastic map draws from, on the device of `x`.
        """
        raise NotImplementedError

    @property
    def two_way(self) -> bool:
        """Whether there is a map back."""
        return hasattr(self, "backward")

    def mapped(
        self,
        name: str,
        x: Tensor,
        label: Tensor | None = None,
        generator: torch.Generator | None = None,
        *,
        time: float | None = None,
    ) -> Iterator[tuple[Tensor, object]]:
        """Yield the points `x` a chunk at a time, each with what the method `name` makes of it, without a graph.

        Methods that take a time are given `time` and nothing else. Nothing is checked: neither `x` nor what comes back.
        """
        method, size = getattr(type(self), name).__wrapped__, rows_at_a_time(x.shape[1:])
        for begin in range(0, len(x), size):
            points = x[begin : begin + size]
            some = None if label is None else label[begin : begin + size]
            with self.inside(), torch.no_grad():
                found = method(self, points, some, generator) if time is None else method(self, points, time)
            yield points, found

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """Let methods call each other with tensors, unchecked."""
        before, self.__dict__["_inside"] = self._inside, True
        try:
            yield
        finally:
            self.__dict__["_inside"] = before

    def save(self, path: str | Path) -> str:
        """Write these maps to a file that `otbench.load` and `otbench apply` read; return its SHA-256.

        Raises:
            PluginError: a module of it does not remember how it was built.
            StoreError: the file cannot be written.
        """
        try:
            modules = describe(self)
        except TypeError as error:
            raise PluginError(f"{type(self).__name__} cannot be kept: {error}") from None
        return write_map(
            Path(path),
            origin={} if self.origin is None else asdict(self.origin),
            modules=modules,
            parameters=[name for name, _ in self.named_parameters(remove_duplicate=False)],
            tensors=dict(self.state_dict()),
        )

    @staticmethod
    def restored(file: MapFile, device: torch.device) -> Transport:
        """Return the maps that `file` holds, on `device`, in evaluation mode; the code of their solver must be loaded.

        Raises:
            DataError: the description does not fit the code or the tensors.
        """
        numbers = dict(file.tensors)
        made = build(file.modules, largest=max((t.numel() for t in numbers.values()), default=0))
        if not isinstance(made, Transport):
            raise DataError("what it describes is no Transport")
        wanted = made.state_dict()
        odd = sorted(wanted.keys() ^ numbers.keys()) or [n for n, t in wanted.items() if not _alike(t, numbers[n])]
        if odd:
            raise DataError(f"its tensors do not fit the modules that it describes, first '{plain(odd[0], 80)}'")
        if len({numbers[name].dtype for name, _ in made.named_parameters()}) > 1:
            raise DataError("its tensors do not fit the modules that it describes: they mix types of numbers")
        # the order in memory is not in the file, and decides how a convolution rounds
        numbers = {n: torch.empty_like(wanted[n], dtype=t.dtype, device="cpu").copy_(t) for n, t in numbers.items()}
        made.load_state_dict(numbers, assign=True)
        left = [name for name, tensor in [*made.named_parameters(), *made.named_buffers()] if tensor.is_meta]
        if left:
            raise DataError(f"'{left[0]}' is not in the file: buffers of a Transport must be persistent")
        made.origin = Origin.read(file.origin) if file.origin else None
        return made.to(device).eval().requires_grad_(False)

    @property
    def dtype(self) -> torch.dtype:
        """Floating type of its numbers; float32 where it has none."""
        return next((t.dtype for t in self._tensors() if t.is_floating_point()), torch.float32)

    @property
    def device(self) -> torch.device:
        """Where its numbers are; the CPU where it has none."""
        return next((t.device for t in self._tensors()), torch.device("cpu"))

    def _tensors(self) -> Iterator[Tensor]:
        yield from self.parameters()
        yield from self.buffers()


def _alike(wanted: Tensor, found: Tensor) -> bool:
    """Say whether `found` can stand for `wanted`; the floating type is not fixed by the modules."""
    floating = wanted.is_floating_point() and found.is_floating_point()
    return wanted.shape == found.shape and (floating or wanted.dtype == found.dtype)


def _opened(name: str, method: Callable[..., Tensor]) -> Callable[..., Any]:
    """Return `method`, open to arrays and checked when called from outside; as it is when one method calls another."""

    @functools.wraps(method)
    def opened(self: Transport, x: Any, *args: Any, **kwargs: Any) -> Any:
        if self._inside or (isinstance(x, Tensor) and x.requires_grad and torch.is_grad_enabled()):
            return method(self, x, *args, **kwargs)
        applied = _at_a_time if name in ("velocity", "interpolate") else _of_points
        return _like(x, applied(self, name, _points(self, name, x), *args, **kwargs))

    return opened


def _of_points(
    transport: Transport,
    name: str,
    points: Tensor,
    label: object = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    return _joined(points, transport.mapped(name, points, _labels(transport, label, points), generator))


def _at_a_time(transport: Transport, name: str, points: Tensor, t: float) -> Tensor:
    try:
        time = float(t)
    except (TypeError, ValueError):
        time = math.nan
    if not 0 <= time <= 1:
        raise UsageError(f"{name}: the time must be a number from 0 at the source to 1 at the target, not {t!r}")
    return _joined(points, transport.mapped(name, points, time=time))


def _joined(points: Tensor, chunks: Iterator[tuple[Tensor, object]]) -> Tensor:
    return torch.cat([cast("Tensor", image) for _, image in chunks]) if len(points) else points


def _points(transport: Transport, name: str, x: Tensor | Array) -> Tensor:
    """Return `x` as a tensor of the transport's type, on its device.

    Raises:
        UsageError: it is no array of finite numbers, or has another shape than the points of training.
    """
    if not isinstance(x, Tensor):
        try:
            x = np.asarray(x)
            if x.dtype.kind not in "fiub":
                raise ValueError  # objects, text, complex numbers
            x = torch.from_numpy(np.ascontiguousarray(x, x.dtype.newbyteorder("=")))
        except (ValueError, TypeError):
            raise UsageError(f"{name}: points must be an array of numbers, shape (n, *shape)") from None
    elif x.is_complex():
        raise UsageError(f"{name}: points must be real numbers")
    origin = transport.origin
    if origin is not None:
        shape = origin.source_shape if name in ("forward", "velocity", "interpolate") else origin.target_shape
        if x.ndim == 0 or tuple(x.shape[1:]) != shape:
            wanted = ", ".join(["n", *map(str, shape)])
            raise UsageError(f"{name}: points must have shape ({wanted}), not {tuple(x.shape)}")
    elif x.ndim < 2:
        raise UsageError(f"{name}: points must have shape (n, *shape), not {tuple(x.shape)}")
    points = x.to(transport.device, transport.dtype)
    if not bool(points.isfinite().all()):
        raise UsageError(f"{name}: points must be finite numbers; there is a NaN or an infinity among them")
    return points


def _labels(transport: Transport, label: object, points: Tensor) -> Tensor | None:
    """Return the classes of `points` as a tensor beside them; None for maps that do not read any.

    Raises:
        UsageError: they are missing, not whole numbers, of another length, or out of range.
    """
    if not transport.reads_label:
        return None
    if label is None:
        raise UsageError("these maps go class by class: give the class of each point, label=")
    found = label if isinstance(label, Tensor) else torch.from_numpy(np.asarray(label).copy())
    if found.is_floating_point() or found.is_complex() or found.dtype is torch.bool or found.shape != points.shape[:1]:
        raise UsageError(f"label must hold one whole number for each of {len(points)} points, shape ({len(points)},)")
    found = found.to(points.device, torch.int64)
    classes = 0 if transport.origin is None else transport.origin.classes
    if classes and len(found) and not (int(found.min()) >= -1 and int(found.max()) < classes):
        raise UsageError(f"label must lie in 0, ..., {classes - 1} (-1 = unlabelled)")
    return found


def _like(x: Any, image: Tensor) -> Any:
    """Return `image` as `x` came: an array or a tensor, of its floating type, on its device."""
    if isinstance(x, Tensor):
        return image.to(x.device, x.dtype if x.is_floating_point() else image.dtype)
    kind, found = np.asarray(x).dtype, image.cpu().numpy()
    return found.astype(kind.newbyteorder("="), copy=False) if kind.kind == "f" else found


class Standardised(Transport):
    """Maps between standardised points, as maps between the user's: it takes and returns these.

    With mean a of the source, b of the target, their common scale s and the inner map T: x -> b + s T((x - a) / s), and
    so on. It has the abilities of the inner maps, and is optimal for the quadratic cost where they are.
    """

    source_mean: Tensor
    target_mean: Tensor
    scale: Tensor

    def __init__(self, inner: Transport, source_mean: Tensor, target_mean: Tensor, scale: Tensor) -> None:
        """Hold the inner maps; means of the shape of a point, the scale of shape (), > 0."""
        super().__init__()
        self.inner = inner
        self.register_buffer("source_mean", source_mean)
        self.register_buffer("target_mean", target_mean)
        self.register_buffer("scale", scale)
        self.reads_label, self.stochastic = inner.reads_label, inner.stochastic
        self.differentiable, self.solves_forward = inner.differentiable, inner.solves_forward
        self.keeps_rows = inner.keeps_rows

    def forward(self, x: Tensor, label: Tensor | None = None, generator: torch.Generator | None = None) -> Tensor:
        """Return T(x), same shape as `x` (n, *shape)."""
        image: Tensor = self._of_inner("forward", self._standard(x, 0), label, generator)
        return self._own(image, 1)

    def backward(self, y: Tensor, label: Tensor | None = None, generator: torch.Generator | None = None) -> Tensor:
        """Return S(y), same shape as `y` (n, *shape)."""
        return self._own(self._of_inner("backward", self._standard(y, 1), label, generator), 0)

    def log_prob(self, y: Tensor, label: Tensor | None = None, generator: torch.Generator | None = None) -> Tensor:
        """Return log densities of T#source at `y`, shape (n,), per volume in the user's units."""
        found = self._of_inner("log_prob", self._standard(y, 1), label, generator)
        return found - y[:1].numel() * self.scale.to(found).log()

    def velocity(self, x: Tensor, t: float) -> Tensor:
        """Return the velocity at `x`, shape (n, d), and time `t`."""
        inner = self._of_inner("velocity", self._standard(x, t), t)
        return self.scale * inner + (self.target_mean - self.source_mean)

    def interpolate(self, x: Tensor, t: float) -> Tensor:
        """Return where the points that start at `x`, shape (n, d), are at time `t`."""
        return self._own(self._of_inner("interpolate", self._standard(x, 0), t), t)

    def _of_inner(self, name: str, *args: Any) -> Tensor:
        with self.inner.inside():
            return getattr(self.inner, name)(*args)  # type: ignore[no-any-return]

    def _standard(self, x: Tensor, t: float) -> Tensor:
        return (x - self._mean(t)) / self.scale

    def _own(self, x: Tensor, t: float) -> Tensor:
        return self._mean(t) + self.scale * x

    def _mean(self, t: float) -> Tensor:
        return torch.lerp(self.source_mean, self.target_mean, t)


class _IfInner:
    """A method of `Standardised` that is there only where the inner maps have it."""

    def __init__(self, method: Callable[..., Any]) -> None:
        self.method = method

    def __get__(self, wrapper: Standardised | None, owner: type) -> Callable[..., Any]:
        if wrapper is None:
            return self.method
        getattr(wrapper.inner, self.method.__name__)  # raises AttributeError where there is none
        return functools.partial(self.method, wrapper)


for _name in WRAPPED[1:]:
    setattr(Standardised, _name, _IfInner(vars(Standardised)[_name]))


def in_user_units(transport: Transport, problem: Problem) -> Transport:
    """Return maps that take and return the user's points; `transport` itself where it does so already.

    Args:
        transport: what a solver of `problem` left.
        problem: says how its points follow from the user's.
    """
    units = problem.units
    if units is None or transport.takes_user_units:
        return transport
    return Standardised(transport, units.source_mean, units.target_mean, units.scale)
