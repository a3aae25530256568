"""The screen of `show`: what a plugin is, where it comes from, what it takes."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from otbench.cli.console import plain_table
from otbench.config import Config
from otbench.plugins.registry import Entry
from otbench.registration import Registration

_BOUNDS = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}
_ABILITIES = {
    "backward": "inverse map",
    "validate": "early stopping on a validation pool",
    "log_prob": "log densities",
    "differentiable": "Jacobians of the map",
    "velocity": "velocity field",
    "interpolate": "geodesics",
}


def describe(out: Console, entry: Entry, registration: Registration) -> None:
    """Print all that a user may want to know before running `entry`."""
    cls = registration.cls
    out.print(Text(f"{entry.name}", style="bold").append(f"  ({entry.kind}, {entry.origin})", style="not bold"))
    out.print(Text(entry.summary or (inspect.getdoc(cls) or "no description").split("\n")[0]))
    # The module says what the method is; the rest of the class docstring is for whoever reads the code.
    out.print(Text("\n" + (inspect.getdoc(inspect.getmodule(cls)) or "")))
    out.print(Text(f"\nreference  {registration.reference}"))
    out.print(Text(f"source     {inspect.getsourcefile(cls)}:{inspect.getsourcelines(cls)[1]}"))
    if registration.scored_by_task:
        out.print(Text("scored by  the task, from its own test data: there is no map"))
    elif entry.kind != "task":
        supports = (inspect.getdoc(getattr(cls, "supports", None)) or "").split("\n")[0]
        transport = typing.get_type_hints(getattr(cls, "transport")).get("return")  # noqa: B009  (cls may be a task)
        abilities = [words for name, words in _ABILITIES.items() if any(getattr(c, name, 0) for c in (cls, transport))]
        out.print(Text(f"supports   {supports}"))
        out.print(Text(f"gives      {', '.join(['forward map', *abilities])}"))
    _parameters(out, registration.config)
    _presets(out, registration)


def _parameters(out: Console, config: type[Config]) -> None:
    if not config.model_fields:
        out.print("\nno parameters")
        return
    table = plain_table("name", "type", "default", "bounds", "unit", "meaning", title="\nparameters")
    for name, field in config.model_fields.items():
        extra = field.json_schema_extra
        unit = str(extra.get("unit", "")) if isinstance(extra, dict) else ""
        kind = field.annotation.__name__ if isinstance(field.annotation, type) else str(field.annotation)
        kind = kind.replace("typing.", "")
        words = (name, kind, _plain(field.default), _bounds(field.metadata), unit, field.description or "")
        table.add_row(*map(Text, words))
    out.print(table)


def _bounds(metadata: Sequence[object]) -> str:
    found = ((sign, getattr(item, name, None)) for item in metadata for name, sign in _BOUNDS.items())
    return ", ".join(f"{sign} {value:g}" for sign, value in found if value is not None)


def _presets(out: Console, registration: Registration) -> None:
    if not registration.presets:
        return
    table = plain_table(title="\npresets")
    for name, values in registration.presets.items():
        words = ", ".join(f"{key}={_plain(value)}" for key, value in values.items())
        table.add_row(name, Text(words or "defaults"))
    out.print(table)


def _plain(value: object) -> str:
    if isinstance(value, (list, tuple)):
        return "|".join(_plain(item) for item in value)
    return str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)
