"""The screen of `show`: what a plugin is, where it comes from, what it takes."""

from __future__ import annotations

import inspect
import typing

from rich.console import Console
from rich.text import Text

from otbench.cli.console import plain_table
from otbench.config import Config, parameters_of
from otbench.plugins.registry import Entry
from otbench.registration import Registration

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
    _search(out, registration)


def _parameters(out: Console, config: type[Config]) -> None:
    if not config.model_fields:
        out.print("\nno parameters")
        return
    table = plain_table("name", "type", "default", "bounds", "unit", "meaning", title="\nparameters")
    for found in parameters_of(config):
        words = (found.name, found.type, _plain(found.default), found.bounds, found.unit, found.meaning)
        table.add_row(*map(Text, words))
    out.print(table)


def _presets(out: Console, registration: Registration) -> None:
    if not registration.presets:
        return
    table = plain_table(title="\npresets")
    for name, values in registration.presets.items():
        words = ", ".join(f"{key}={_plain(value)}" for key, value in values.items())
        table.add_row(name, Text(words or "defaults"))
    out.print(table)


def _search(out: Console, registration: Registration) -> None:
    if not registration.search:
        return
    table = plain_table(title="\ntried by tune")
    for name, values in registration.search.items():
        table.add_row(name, Text(_plain(tuple(values))))
    out.print(table)


def _plain(value: object) -> str:
    if isinstance(value, (list, tuple)):
        return "|".join(_plain(item) for item in value)
    return str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)
