"""The mathematics, as data: what a solver may see.

A `Problem` holds two measures and a cost. Exact maps, exact distances and test data are not in it: they live on the
task's side (`otbench.task.Instance`).
"""

from __future__ import annotations

import abc
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Batch:
    """Samples of a measure.

    Attributes:
        x: points, shape (n, *shape), the measure's dtype and device.
        label: classes, shape (n,), int64; -1 = unlabelled. None where the measure has no classes.
        index: position of each point in the measure's pool, shape (n,), int64. None for fresh samples.
    """

    x: Tensor
    label: Tensor | None = None
    index: Tensor | None = None


class Measure(abc.ABC):
    """A probability measure that can be sampled.

    Attributes:
        shape: shape of one point, () excluded: `(d,)` for vectors, `(channels, height, width)` for images.
        classes: number of classes; 0 = no labels.
        is_standard_normal: True only for N(0, I); flows that need it ask for it in `supports()`.
        drawn: samples handed out so far; the harness reports it.
    """

    shape: tuple[int, ...]
    classes: int = 0
    is_standard_normal: bool = False

    def __init__(self) -> None:
        self.drawn = 0

    @property
    def pool(self) -> Tensor | None:
        """All training points, shape (N, *shape), of a finite measure; None where every draw is fresh."""
        return None

    @property
    def pool_label(self) -> Tensor | None:
        """Classes of the pool, shape (N,), int64, -1 = unlabelled; None where there is no pool or no classes."""
        return None

    @property
    def validation(self) -> Tensor | None:
        """Points set aside for early stopping, shape (V, *shape); None where there are none."""
        return None

    def sample(self, n: int, *, generator: torch.Generator, label: int | Tensor | None = None) -> Batch:
        """Draw `n` points.

        Args:
            n: number of points, > 0.
            generator: source of randomness, on the measure's device.
            label: one class for all points, or a class per point, shape (n,), int64; None = any class.

        Returns:
            A batch of `n` points.

        Raises:
            ValueError: a label was asked of a measure without classes.
        """
        if label is not None and self.classes == 0:
            raise ValueError("this measure has no classes: sample without a label")
        self.drawn += n
        return self._draw(n, generator, label)

    @abc.abstractmethod
    def _draw(self, n: int, generator: torch.Generator, label: int | Tensor | None) -> Batch: ...


class FreshMeasure(Measure):
    """A measure that can be sampled without end (`pool=fresh`): every draw is new."""

    def __init__(
        self,
        shape: tuple[int, ...],
        sampler: Callable[[int, torch.Generator], Tensor],
        *,
        is_standard_normal: bool = False,
    ) -> None:
        """Wrap `sampler(n, generator)`, which returns a tensor of shape (n, *shape)."""
        super().__init__()
        self.shape = shape
        self.is_standard_normal = is_standard_normal
        self._sampler = sampler

    def _draw(self, n: int, generator: torch.Generator, label: int | Tensor | None) -> Batch:
        return Batch(self._sampler(n, generator))


class PoolMeasure(Measure):
    """A finite pool of points, drawn from uniformly with replacement, or walked through in shuffled epochs."""

    def __init__(
        self,
        x: Tensor,
        *,
        label: Tensor | None = None,
        classes: int = 0,
        validation: Tensor | None = None,
        is_standard_normal: bool = False,
    ) -> None:
        """Hold the pool.

        Args:
            x: points, shape (N, *shape).
            label: classes, shape (N,), int64, -1 = unlabelled.
            classes: number of classes; 0 = none.
            validation: points set aside for early stopping, shape (V, *shape).
            is_standard_normal: True if the pool was drawn from N(0, I).
        """
        super().__init__()
        self.shape = tuple(x.shape[1:])
        self.classes = classes
        self.is_standard_normal = is_standard_normal
        self._x = x
        self._label = label
        self._validation = validation
        self._members: dict[int, Tensor] = {}

    @property
    def pool(self) -> Tensor:
        """All training points, shape (N, *shape)."""
        return self._x

    @property
    def pool_label(self) -> Tensor | None:
        """Classes of the pool, shape (N,), int64, or None."""
        return self._label

    @property
    def validation(self) -> Tensor | None:
        """Points set aside for early stopping, shape (V, *shape), or None."""
        return self._validation

    def take(self, index: Tensor) -> Batch:
        """Return the points at `index`, shape (n,), int64, and count them as drawn."""
        self.drawn += len(index)
        return self._at(index)

    def _at(self, index: Tensor) -> Batch:
        return Batch(self._x[index], None if self._label is None else self._label[index], index)

    def _draw(self, n: int, generator: torch.Generator, label: int | Tensor | None) -> Batch:
        if label is None:
            return self._at(self._uniform(len(self._x), n, generator))
        if isinstance(label, int):
            members = self.members(label)
            return self._at(members[self._uniform(len(members), n, generator)])
        index = torch.empty(n, dtype=torch.int64, device=self._x.device)
        for k in range(self.classes):
            here = (label == k).nonzero().squeeze(1)
            if len(here):
                members = self.members(k)
                index[here] = members[self._uniform(len(members), len(here), generator)]
        return self._at(index)

    def members(self, k: int) -> Tensor:
        """Return the places of class `k` in the pool, shape (N_k,), int64."""
        if k not in self._members:
            assert self._label is not None
            self._members[k] = (self._label == k).nonzero().squeeze(1)
        return self._members[k]

    def _uniform(self, high: int, n: int, generator: torch.Generator) -> Tensor:
        return torch.randint(high, (n,), generator=generator, device=self._x.device)


def class_counts(measure: Measure) -> list[int]:
    """Return the number of labelled points of each class; of a measure without a pool, more than is ever asked for."""
    if isinstance(measure, PoolMeasure):
        return [len(measure.members(k)) for k in range(measure.classes)]
    return [2**31] * measure.classes


def with_class(x: Tensor, label: Tensor | None, classes: int) -> Tensor:
    """Return points, flattened, each followed by its class, shape (n, d + classes), one-hot; -1 is all zeros.

    Args:
        x: points, shape (n, *shape).
        label: their classes, shape (n,), int64.
        classes: number of classes; 0 = points alone, whatever their labels.

    Raises:
        ValueError: there are classes, but no labels.
    """
    flat = x.flatten(1)
    if not classes:
        return flat
    if label is None:
        raise ValueError("this solver was told the class of each point in training: its maps need it, too")
    return torch.cat((flat, (label[:, None] == torch.arange(classes, device=x.device)).to(x.dtype)), 1)


class Cost(abc.ABC):
    """A ground cost c(x, y) = l(y - x) with l(z) = sum_i |z_i|^p / p, p > 1, and its Hamiltonian H = l*.

    With potential u of the Hamilton-Jacobi equation u_t + H(grad u) = 0, mass at x moves with velocity
    grad H(grad u(x, 0)).

    c(x, y) is also the least action, int L(X_t, X_t') dt over paths from x to y in unit time, with L(x, v) = l(v): the
    paths are straight lines. A cost with another Lagrangian has other paths, and says so.

    Attributes:
        name: for tables and messages.
        exponent: p; `cost_of` makes the cost again.
        straight: whether paths of least action are straight, at constant speed.
    """

    name: str
    exponent: float
    straight: ClassVar[bool] = True

    @abc.abstractmethod
    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        """Return c(x_i, y_i), shape (n,), for `x` and `y` of shape (n, *shape)."""

    @abc.abstractmethod
    def hamiltonian(self, p: Tensor) -> Tensor:
        """Return H(p_i), shape (n,), for momenta `p` of shape (n, d)."""

    @abc.abstractmethod
    def velocity(self, p: Tensor) -> Tensor:
        """Return grad H(p_i), shape (n, d), for momenta `p` of shape (n, d)."""

    def lagrangian(self, x: Tensor, velocity: Tensor) -> Tensor:
        """Return L(x_i, v_i), shape (n,), for points and velocities of shape (n, *shape)."""
        return self(torch.zeros_like(velocity), velocity)

    def path(self, x: Tensor, y: Tensor, t: float) -> Tensor:
        """Return where the path of least action from `x` to `y`, both (n, *shape), is at time `t` in [0, 1]."""
        return torch.lerp(x, y, t)

    def path_velocity(self, x: Tensor, y: Tensor, t: float) -> Tensor:
        """Return the velocity of that path at time `t`, shape (n, *shape)."""
        return y - x


class QuadraticCost(Cost):
    """c(x, y) = |x - y|^2 / 2, H(p) = |p|^2 / 2."""

    name, exponent = "quadratic", 2.0

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        """Return |x_i - y_i|^2 / 2, shape (n,)."""
        return (x - y).flatten(1).square().sum(1) / 2

    def hamiltonian(self, p: Tensor) -> Tensor:
        """Return |p_i|^2 / 2, shape (n,)."""
        return p.square().sum(1) / 2

    def velocity(self, p: Tensor) -> Tensor:
        """Return p."""
        return p


class PowerCost(Cost):
    """c(x, y) = sum_i |x_i - y_i|^p / p with p > 1; H(q) = sum_i |q_i|^q' / q' with 1/p + 1/q' = 1."""

    def __init__(self, p: float) -> None:
        """Take the exponent.

        Raises:
            ValueError: p <= 1, for which the cost is not strictly convex.
        """
        if not p > 1:
            raise ValueError(f"the exponent must exceed 1, got {p}")
        self.exponent = p
        self.conjugate = p / (p - 1)
        self.name = f"power {p:g}"

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        """Return sum_i |x_i - y_i|^p / p, shape (n,)."""
        return (x - y).flatten(1).abs().pow(self.exponent).sum(1) / self.exponent

    def hamiltonian(self, p: Tensor) -> Tensor:
        """Return sum_i |p_i|^q' / q', shape (n,)."""
        return p.abs().pow(self.conjugate).sum(1) / self.conjugate

    def velocity(self, p: Tensor) -> Tensor:
        """Return sign(p) |p|^(q'-1), shape (n, d)."""
        return p.sign() * p.abs().pow(self.conjugate - 1)


class HarmonicCost(QuadraticCost):
    r"""Least action of $L(x, v) = |v|^2 / 2 + V(x)$ with $V(x) = \omega^2 |x|^2 / 2$: paths bend towards the origin.

    $$c(x, y) = \frac{\omega}{\sinh \omega} \frac{|x - y|^2}{2}
        + \omega \tanh \frac{\omega}{2} \, \frac{|x|^2 + |y|^2}{2}, \qquad
      X_t = \frac{\sinh(\omega (1 - t)) \, x + \sinh(\omega t) \, y}{\sinh \omega} .$$

    Plans are optimal for it exactly where they are for the quadratic cost. `hamiltonian` is that at the origin: V(x) is
    to be taken off elsewhere.

    Attributes:
        omega: > 0.
        share_moved: factor of |x - y|^2 / 2.
        share_placed: factor of (|x|^2 + |y|^2) / 2.
    """

    straight = False

    def __init__(self, omega: float) -> None:
        """Take omega.

        Raises:
            ValueError: it is not positive.
        """
        if not omega > 0:
            raise ValueError(f"omega must be positive, got {omega}; without a potential, use the quadratic cost")
        self.omega, self.name = omega, f"harmonic {omega:g}"
        self.share_moved, self.share_placed = omega / math.sinh(omega), omega * math.tanh(omega / 2)

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        """Return c(x_i, y_i), shape (n,)."""
        placed = x.flatten(1).square().sum(1) + y.flatten(1).square().sum(1)
        return self.share_moved * super().__call__(x, y) + self.share_placed * placed / 2

    def lagrangian(self, x: Tensor, velocity: Tensor) -> Tensor:
        """Return |v_i|^2 / 2 + omega^2 |x_i|^2 / 2, shape (n,)."""
        return (velocity.flatten(1).square().sum(1) + self.omega**2 * x.flatten(1).square().sum(1)) / 2

    def path(self, x: Tensor, y: Tensor, t: float) -> Tensor:
        """Return X_t, shape (n, *shape)."""
        w = self.omega
        return (math.sinh(w * (1 - t)) * x + math.sinh(w * t) * y) / math.sinh(w)

    def path_velocity(self, x: Tensor, y: Tensor, t: float) -> Tensor:
        """Return the derivative of X_t in t, shape (n, *shape)."""
        w = self.omega
        return (math.cosh(w * t) * y - math.cosh(w * (1 - t)) * x) * (w / math.sinh(w))


def cost_of(exponent: float) -> Cost:
    """Return the cost with this exponent, as `Cost.exponent` tells it.

    Raises:
        ValueError: it does not exceed 1.
    """
    return QuadraticCost() if exponent == 2 else PowerCost(exponent)


@dataclass(frozen=True, slots=True)
class Units:
    """How points of a problem follow from those of the user: (x - mean) / scale, one scale for both sides.

    With one scale a map that is optimal for the quadratic cost stays so: |x - y|^2 / 2 is scale^2 times the same cost
    between the problem's points, plus terms of x alone and of y alone, which all plans share. The maps that are kept
    take and return the user's points (`otbench.transport.in_user_units`), and so do test points.

    Attributes:
        source_mean: shape of a source point.
        target_mean: shape of a target point.
        scale: shape (), > 0.
    """

    source_mean: Tensor
    target_mean: Tensor
    scale: Tensor


def common_scale(*variances: float) -> float:
    """Return the root of the mean of `variances`, each one side's mean over its coordinates; 1 where all are 0."""
    return math.sqrt(sum(variances) / len(variances)) or 1.0  # constants have no scale of their own


@dataclass(frozen=True, slots=True)
class Problem:
    """What a solver sees: samples, shapes, cost, the labels it may see. Nothing else.

    Attributes:
        source: mu, where mass comes from.
        target: nu, where it goes.
        cost: the ground cost that `supports()` must accept.
        device: where all tensors live.
        dtype: floating type of all points.
        units: how these points follow from the user's; None where they are the user's.
        epsilon: > 0 where the entropic plan is wanted, which minimises E c(x, y) + epsilon KL(plan | source x target);
            None where it is the optimal map. It is in units of the cost, so that such problems keep the task's points.
        colours: where points are colours, their space (`otbench.ops.colours`): "rgb" or "lab"; else empty.
    """

    source: Measure
    target: Measure
    cost: Cost
    device: torch.device
    dtype: torch.dtype
    units: Units | None = None
    epsilon: float | None = None
    colours: str = ""

    def __post_init__(self) -> None:
        """Check that classes, if both sides have them, are the same, and that epsilon, if any, is positive.

        Raises:
            ValueError: they are not.
        """
        if self.epsilon is not None and not self.epsilon > 0:
            raise ValueError(f"epsilon must be positive, got {self.epsilon}: leave it out for the optimal map")
        if self.source.classes and self.target.classes and self.source.classes != self.target.classes:
            raise ValueError(f"{self.source.classes} classes cannot go to {self.target.classes}: relabel one side")

    @property
    def dim(self) -> int:
        """Number of coordinates of a point."""
        return int(torch.Size(self.source.shape).numel())

    @property
    def classes(self) -> int:
        """Number of classes K, if class k is to go to class k; 0 where one side or both have no classes."""
        return self.source.classes if self.target.classes else 0

    @property
    def shapes_differ(self) -> str:
        """Why a solver may decline, in words for `supports()`: points of the two sides have different shapes."""
        return f"shapes differ: {self.source.shape} and {self.target.shape}"

    def scarce(self, at_least: int = 2, *, sides: tuple[str, ...] = ("source", "target"), needed: bool = False) -> str:
        """Say which class has fewer labelled points than `at_least`, in words for `supports()`; empty if none has.

        A problem without classes lacks none, unless classes are `needed`.
        """
        if needed and not self.classes:
            return "needs classes on both sides"
        if self.classes:
            for name in sides:
                measure = self.source if name == "source" else self.target
                for k, count in enumerate(class_counts(measure)):
                    if count < at_least:
                        return f"needs {at_least} labelled points per class, class {k} of the {name} has {count}"
        return ""
