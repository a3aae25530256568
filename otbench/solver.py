"""The Solver contract: the harness owns the loop, a solver owns one step.

A solver is one file with one class, registered by `register_solver`:

    @register_solver("mine", config=MineConfig, reference="doe2026mine", presets={"quick": {"steps": 1000}})
    class Mine(Solver[MineConfig]):
        ...

Training leaves a `Transport` (`otbench.transport`): the maps, and what must be stored to apply them. A solver file
reads as parameters, networks, step, transport. `validate` with `validate_every` is optional. `transductive = True` says
that only the training pool itself can be moved.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Generic, NamedTuple, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor, nn

from otbench.config import Config, Field
from otbench.problem import Batch, Measure, Problem
from otbench.registration import Preset, Search, register_baseline, register_solver
from otbench.transport import Transport

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

__all__ = [
    "Batch",
    "Config",
    "Context",
    "Field",
    "HasValidate",
    "Measure",
    "No",
    "Preset",
    "Problem",
    "Search",
    "Solver",
    "StepInfo",
    "Support",
    "Transport",
    "Yes",
    "networks",
    "register_baseline",
    "register_solver",
]

ConfigT = TypeVar("ConfigT", bound=Config)


class Support(NamedTuple):
    """Answer of `supports()`: whether a solver can take a problem, and if not, why."""

    ok: bool
    reason: str = ""


Yes = Support(True)


def No(reason: str) -> Support:  # noqa: N802  (pairs with Yes)
    """Decline a problem; `reason` is shown in the table as `skipped: reason`."""
    return Support(False, reason)


@dataclass(frozen=True)
class Context:
    """What the harness lends a solver for one run.

    Attributes:
        device: where to put networks and tensors.
        dtype: floating type of networks and tensors.
        generator: the solver's only source of randomness, on `device`.
        progress: returns the used share of the budget, in [0, 1]; schedules read it.
    """

    device: torch.device
    dtype: torch.dtype
    generator: torch.Generator
    progress: Callable[[], float]


@dataclass(frozen=True, slots=True)
class StepInfo:
    """What one step reports.

    Attributes:
        loss: the training loss, detached, on any device (reading it must not be needed for the step itself).
        scalars: further detached scalars by name, kept in the curve.
        done: True when nothing is left to do (closed-form and discrete methods after their only step).
    """

    loss: Tensor | float
    scalars: Mapping[str, Tensor | float] = field(default_factory=dict)
    done: bool = False


class Solver(abc.ABC, Generic[ConfigT]):
    """One method. Subclasses define `step` and `transport`.

    Attributes:
        problem: what is to be solved.
        config: checked parameters.
        context: device, dtype, generator, progress.
    """

    transductive: ClassVar[bool] = False
    function_evaluations: int | None = None
    """Evaluations of the network that an integrator made in training so far; None where there is no integrator."""
    settings: DataclassInstance | None = None
    """The values that a run uses, where a solver chooses those that the user leaves out; kept in the record."""
    directions_trained: ClassVar[int] = 1
    """Separate trainings that a run contains: 2 where forward and backward maps are two problems side by side."""

    @classmethod
    def supports(cls, problem: Problem) -> Support:
        """Take every problem with the quadratic cost, which is one between points of the same shape."""
        if problem.cost.name != "quadratic":
            return No(f"needs the quadratic cost, not {problem.cost.name}")
        return Yes if problem.source.shape == problem.target.shape else No(problem.shapes_differ)

    def __init__(self, problem: Problem, config: ConfigT, context: Context) -> None:
        """Build networks and optimisers; timed as set-up."""
        self.problem = problem
        self.config = config
        self.context = context

    @abc.abstractmethod
    def step(self) -> StepInfo:
        """Do one outer iteration.

        Synchronise with the device only where the method needs the host, and say so here.
        """

    @abc.abstractmethod
    def transport(self) -> Transport:
        """Return the maps as they are now, with all that applying them needs, and nothing else.

        Called at every point of the curve with the clock stopped, so make it cheap. It may share networks with the
        solver: the harness writes it to a file at once and lets go of it.
        """

    def state_dict(self) -> dict[str, object]:
        """Return all state: every attribute that is a tensor, a generator, or has a `state_dict`.

        Plain numbers and other attributes are not state unless a subclass adds them.
        """
        state: dict[str, object] = {"generator": self.context.generator.get_state()}
        for name, value in vars(self).items():
            if isinstance(value, Tensor):
                state[name] = value
            elif isinstance(value, torch.Generator):
                state[name] = value.get_state()
            elif isinstance(value, _Stateful):
                state[name] = value.state_dict()
        return state

    def load_state_dict(self, state: Mapping[str, object]) -> None:
        """Take over `state`, as `state_dict` gave it; a resumed run equals an unbroken one bit for bit on the CPU."""
        for name, saved in state.items():
            if name == "generator":
                assert isinstance(saved, Tensor)
                self.context.generator.set_state(saved.cpu())
                continue
            value = getattr(self, name)
            if isinstance(value, Tensor):
                assert isinstance(saved, Tensor)
                value.data.copy_(saved)
            elif isinstance(value, torch.Generator):
                assert isinstance(saved, Tensor)
                value.set_state(saved.cpu())
            else:
                value.load_state_dict(saved)


@runtime_checkable
class _Stateful(Protocol):
    def state_dict(self) -> dict[str, object]: ...

    def load_state_dict(self, state_dict: dict[str, object]) -> object: ...


@runtime_checkable
class HasValidate(Protocol):
    """A solver that watches its validation pool, on its own clock.

    Attributes:
        validate_every: steps between two validations.
    """

    validate_every: int

    def validate(self) -> StepInfo:
        """Look at the validation pool; `done=True` stops training early."""


def networks(solver: Solver[Config]) -> dict[str, nn.Module]:
    """Return every network that a solver holds as an attribute, critics included, by attribute name.

    Modules of buffers alone have nothing to train: they are no networks.
    """
    modules = {name: value for name, value in vars(solver).items() if isinstance(value, nn.Module)}
    return {name: module for name, module in modules.items() if any(True for _ in module.parameters())}
