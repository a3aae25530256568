"""The decorators by which plugin files announce solvers, baselines and tasks.

They only attach a `Registration` to the class; `otbench.plugins.registry` finds it. Names are also read from
the decorator call without importing the file, so the first argument must be a plain string.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias, TypeVar

from otbench.config import Config, Value, build_config, present_names
from otbench.errors import PluginError, UsageError

PRESETS = ("smoke", "quick", "full", "paper")
"""The presets known to all: seconds, for CI; the default, a minute on a laptop; our best; the authors' values."""

MAX_STEPS = 10**12
"""The longest training that can be asked for."""

MAX_SEARCHED = 4
"""Parameters that `otbench tune` varies, at most: eight trials tell no more apart."""

Kind: TypeAlias = Literal["solver", "baseline", "task"]
Preset: TypeAlias = Mapping[str, Value | Sequence[Value]]
"""Values by parameter name. In a solver's preset `steps` is its training length; in a task's a list is a grid."""
Search: TypeAlias = Mapping[str, Sequence[Value]]
"""The values that `otbench tune` tries, by parameter name: `{"lr": (1e-3, 3e-3, 1e-2), "optimiser": ("adam", "soap")}`.
What the preset `full` has is always among them, so it need not be repeated."""
Instances: TypeAlias = Sequence[tuple[Mapping[str, Value], int]]
"""Parameters of a task that differ from the defaults, and the seed of a run."""

ClassT = TypeVar("ClassT", bound=type)
_ATTRIBUTE = "__otbench__"


@dataclass(frozen=True)
class Registration:
    """What a decorator attaches to a class.

    Attributes:
        kind: solver, baseline or task.
        name: what a user types.
        cls: the class itself.
        config: its parameter set.
        reference: citation in one line; where the method or the data come from.
        presets: values by preset name.
        search: solvers only: the values that `otbench tune` tries; empty = it is not tuned.
        tuning: tasks only: the instances that `otbench tune` trains on, none of which a report uses.
        always: baselines only: always a row of the table, asked for or not.
        closed_form: baselines only: no training, so that those of one instance may share a process.
        scored_by_task: a row without a map, which some tasks score from their own test data; `cls` only describes it.
    """

    kind: Kind
    name: str
    cls: type
    config: type[Config]
    reference: str
    presets: Mapping[str, Preset] = field(default_factory=dict)
    search: Search = field(default_factory=dict)
    tuning: Instances = ()
    always: bool = False
    closed_form: bool = False
    scored_by_task: bool = False


def register_solver(
    name: str,
    *,
    config: type[Config],
    reference: str,
    presets: Mapping[str, Preset],
    search: Search | None = None,
) -> Callable[[ClassT], ClassT]:
    """Register a solver class under `name`. See `Registration` for the arguments."""
    return _register("solver", name, config, reference, presets, search or {})


def register_baseline(
    name: str,
    *,
    config: type[Config],
    reference: str,
    presets: Mapping[str, Preset] | None = None,
    always: bool = False,
    closed_form: bool = True,
) -> Callable[[ClassT], ClassT]:
    """Register a baseline, a `Solver` that keeps the table honest. See `Registration` for the arguments."""
    return _register("baseline", name, config, reference, presets or {}, always=always, closed_form=closed_form)


def register_task_row(name: str, *, reference: str) -> Callable[[ClassT], ClassT]:
    """Register a row that no map makes: tasks score it from their own test data (`Instance.task_rows`).

    It stands among the baselines. The class is no solver: its docstring says what the row is.
    """
    return _register("baseline", name, Config, reference, {}, closed_form=True, scored_by_task=True)


def register_task(
    name: str,
    *,
    config: type[Config],
    reference: str,
    presets: Mapping[str, Preset],
    tuning: Instances = (),
) -> Callable[[ClassT], ClassT]:
    """Register a task class under `name`. See `Registration` for the arguments."""
    return _register("task", name, config, reference, presets, tuning=tuning)


def registrations(cls: object) -> tuple[Registration, ...]:
    """Return the registrations of `cls` itself, not those it inherits."""
    return tuple(vars(cls).get(_ATTRIBUTE, ())) if isinstance(cls, type) else ()


def _register(
    kind: Kind,
    name: str,
    config: type[Config],
    reference: str,
    presets: Mapping[str, Preset],
    search: Search | None = None,
    *,
    tuning: Instances = (),
    always: bool = False,
    closed_form: bool = False,
    scored_by_task: bool = False,
) -> Callable[[ClassT], ClassT]:
    current = {}
    for preset, values in presets.items():
        steps = values.get("steps", 1)
        if kind != "task" and not (type(steps) is int and 1 <= steps <= MAX_STEPS):
            raise PluginError(
                f"{kind} {name}: preset '{preset}' sets steps={steps!r}; give a whole number from 1 to {MAX_STEPS}"
            )
        if preset not in PRESETS:
            raise PluginError(f"{kind} {name}: unknown preset '{preset}'; presets are {', '.join(PRESETS)}")
        current[preset] = present_names(config, values, owner=f"{kind} {name}, preset '{preset}'")
        for key in current[preset]:
            if key not in config.model_fields and not (key == "steps" and kind != "task"):
                raise PluginError(f"{kind} {name}: preset '{preset}' sets '{key}', which is not a parameter of it")
    space = _checked_search(search or {}, config, current.get("full", {}), owner=f"{kind} {name}")

    def attach(cls: ClassT) -> ClassT:
        made = Registration(
            kind, name, cls, config, reference, current, space, tuning, always, closed_form, scored_by_task
        )
        setattr(cls, _ATTRIBUTE, (*registrations(cls), made))
        return cls

    return attach


def _checked_search(search: Search, config: type[Config], full: Preset, *, owner: str) -> Search:
    """Return `search` by the present names of parameters.

    Raises:
        PluginError: too many parameters, an unknown one, fewer than two values, or one that is refused.
    """
    if len(search) > MAX_SEARCHED:
        raise PluginError(f"{owner}: search names {len(search)} parameters; name at most {MAX_SEARCHED}")
    fixed = {key: value for key, value in full.items() if key != "steps"}
    space = present_names(config, search, owner=f"{owner}, search")
    for key, values in space.items():
        if isinstance(values, str) or not isinstance(values, Sequence) or len(set(values)) < max(2, len(values)):
            raise PluginError(f"{owner}: search gives {values!r} for '{key}'; give two or more values, each once")
        for value in values:
            try:
                build_config(config, {**fixed, key: value}, owner=f"{owner}, search")  # type: ignore[dict-item]
            except UsageError as error:
                raise PluginError(str(error)) from None
    return space
