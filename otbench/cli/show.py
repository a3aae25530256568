"""The screen of `show`: what a plugin is, where it comes from, what it takes. docs/ has the same as pages."""

from __future__ import annotations

import inspect
import typing
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.text import Text

from otbench.cli.console import plain_table
from otbench.config import parameters_of
from otbench.plugins.registry import Entry
from otbench.registration import Registration

if typing.TYPE_CHECKING:
    from otbench.transport import Transport

_ABILITIES = {
    "backward": "inverse map",
    "validate": "early stopping on a validation pool",
    "log_prob": "log densities",
    "differentiable": "Jacobians of the map",
    "velocity": "velocity field",
    "interpolate": "interpolation",
}
PARAMETERS = ("name", "type", "default", "bounds", "unit", "meaning")
"""Heads of the table of parameters."""


@dataclass(frozen=True)
class Facts:
    """All that a user may want to know of a plugin before running it.

    Attributes:
        entry: its name, kind and origin.
        summary: one line.
        text: the docstring of its module: method, formulas, deviations, failings.
        reference: citation in one line.
        path: its file.
        line: where its class begins there.
        said: further facts by head.
        parameters: rows of `PARAMETERS`.
        presets: their values in words, by name.
        search: values that `otbench tune` tries, in words, by parameter.
    """

    entry: Entry
    summary: str
    text: str
    reference: str
    path: Path
    line: int
    said: dict[str, str] = field(default_factory=dict)
    parameters: list[tuple[str, ...]] = field(default_factory=list)
    presets: dict[str, str] = field(default_factory=dict)
    search: dict[str, str] = field(default_factory=dict)


def facts_of(entry: Entry, registration: Registration) -> Facts:
    """Return what is known of a plugin."""
    cls = registration.cls
    found = Facts(
        entry=entry,
        summary=entry.summary or (inspect.getdoc(cls) or "no description").split("\n")[0],
        # The module says what the method is; the rest of the class docstring is for whoever reads the code.
        text=inspect.getdoc(inspect.getmodule(cls)) or "",
        reference=registration.reference,
        path=Path(inspect.getsourcefile(cls) or ""),
        line=inspect.getsourcelines(cls)[1],
        parameters=[
            (p.name, p.type, _plain(p.default), p.bounds, p.unit, p.meaning) for p in parameters_of(registration.config)
        ],
        presets={
            name: ", ".join(f"{key}={_plain(value)}" for key, value in values.items()) or "defaults"
            for name, values in registration.presets.items()
        },
        search={name: _plain(tuple(values)) for name, values in registration.search.items()},
    )
    if registration.scored_by_task:
        found.said["scored by"] = "the task, from its own test data: there is no map"
    elif entry.kind != "task":
        sure, perhaps = _transports(cls)
        always = [words for name, words in _ABILITIES.items() if any(getattr(c, name, 0) for c in (cls, *sure))]
        able = [words for name, words in _ABILITIES.items() if any(getattr(c, name, 0) for c in perhaps)]
        found.said["supports"] = (inspect.getdoc(getattr(cls, "supports", None)) or "").split("\n")[0]
        found.said["gives"] = ", ".join(["forward map", *always])
        if others := [words for words in able if words not in always]:
            found.said["gives"] += f"; on some problems {', '.join(others)}"
    return found


def _transports(cls: type) -> tuple[list[type], list[type]]:
    """Return the class of transport that a solver says it gives, and those derived from it which it may give instead.

    If it names none or the base, all classes of transports in its module are returned first.
    """
    from otbench.transport import Transport

    named = typing.get_type_hints(getattr(cls, "transport")).get("return", Transport)  # noqa: B009  (cls may be a task)
    if named is Transport:
        members = inspect.getmembers(inspect.getmodule(cls), inspect.isclass)
        return [member for _, member in members if issubclass(member, Transport)], []
    return [named], [one for one in _derived(named) if one.__module__ in (named.__module__, cls.__module__)]


def _derived(cls: type[Transport]) -> list[type[Transport]]:
    found: list[type[Transport]] = []
    for one in cls.__subclasses__():
        found += [one, *_derived(one)]
    return found


def describe(out: Console, entry: Entry, registration: Registration) -> None:
    """Print all that a user may want to know before running `entry`."""
    found = facts_of(entry, registration)
    out.print(Text(f"{entry.name}", style="bold").append(f"  ({entry.kind}, {entry.origin})", style="not bold"))
    out.print(Text(found.summary))
    out.print(Text("\n" + found.text))
    out.print(Text(f"\nreference  {found.reference}"))
    out.print(Text(f"source     {found.path}:{found.line}"))
    for head, words in found.said.items():
        out.print(Text(f"{head:<11}{words}"))
    if not found.parameters:
        out.print("\nno parameters")
    else:
        table = plain_table(*PARAMETERS, title="\nparameters")
        for row in found.parameters:
            table.add_row(*map(Text, row))
        out.print(table)
    for title, rows in (("presets", found.presets), ("tried by tune", found.search)):
        if rows:
            table = plain_table(title=f"\n{title}")
            for name, words in rows.items():
                table.add_row(name, Text(words))
            out.print(table)


def _plain(value: object) -> str:
    if isinstance(value, (list, tuple)):
        return "|".join(_plain(item) for item in value)
    return str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)
