"""What the two test kits share: checks that depend on each other, and how their findings are printed."""

from __future__ import annotations

import contextlib
import inspect
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeAlias, TypeVar

from rich.console import Console
from rich.text import Text

from otbench.plugins.registry import located

KitT = TypeVar("KitT")
Check: TypeAlias = tuple[Callable[[KitT], str], tuple[str, ...], str]
"""A check: what does it, the checks without which it says nothing new, and the method that it is about."""


class FailedCheckError(Exception):
    """Says what does not hold."""


def require(condition: bool, message: str) -> None:
    """Let a check fail with `message` unless `condition` holds."""
    if not condition:
        raise FailedCheckError(message)


def run_checks(kit: KitT, checks: Mapping[str, Check[KitT]], cls: type, out: Console) -> bool:
    """Make all checks of a class, print a line for each, and return whether all of them hold.

    A check that cannot say anything new because another failed is not tried; one cause is told once.
    """
    source = Path(inspect.getsourcefile(cls) or "")
    failed: dict[str, str] = {}  # name of each check that failed, by its cause
    for name, (function, needs, method) in checks.items():
        begin = time.perf_counter()
        broken = [need for need in needs if need in failed.values()]
        text, comment = Text("  ok      ", style="green"), ""
        if not broken:
            try:
                comment = function(kit)
            except Exception as error:  # whatever a plugin raises is a finding
                cause = f"{_place(cls, method)}: {error}"
                if not isinstance(error, FailedCheckError):
                    cause = f"raised {located(error, source)}"
                broken = [failed[cause]] if cause in failed else []
                failed[cause if not broken else name] = name
                text, comment = Text("  FAILED  ", style="red"), cause
        if broken:
            text, comment = Text("  -       ", style="yellow"), f"not tried: '{broken[0]}' failed"
        text.append(name, style="default").append(f"  {comment}" if comment else "", style="dim")
        out.print(text.append(f"  ({time.perf_counter() - begin:.1f} s)", style="dim"), soft_wrap=True)
    return not failed


def _place(cls: type, method: str) -> str:
    """Return file:line of a method of `cls`; of the class, or of its nearest base with a source, where it has none."""
    for item in (vars(cls).get(method), *cls.__mro__):
        with contextlib.suppress(OSError, TypeError):
            return f"{inspect.getsourcefile(item)}:{inspect.getsourcelines(item)[1]}"  # type: ignore[arg-type]
    return cls.__qualname__
