"""Writes the command reference, docs/commands.md, from the program itself: `python -m otbench.cli.reference`."""

from __future__ import annotations

import argparse
import sys

from otbench.cli.program import parsers

HEAD = """# Commands

Made from the program by `python -m otbench.cli.reference > docs/commands.md`; a test compares the two. In a clone, type
`python bench.py` for `otbench`.

Exit codes: 0 all is well; 1 the command did its work and something is amiss: a run failed, `tune` has nothing to
propose, a part of a campaign was left out, `compare` found a regression, `merge` or `submit` a conflict, `submit` an
objection, `verify` another outcome, `check` something that does not hold; 2 wrong usage or input, with one line that
says what is wrong; 3 `compare` could compare nothing; 130 interrupted.
"""


def command_reference() -> str:
    """Return all commands and options as Markdown."""
    _, commands = parsers("otbench")
    parts = [HEAD]
    for name, command in commands.items():
        actions = [action for action in command._actions if not isinstance(action, argparse._HelpAction)]
        positional = [action for action in actions if not action.option_strings]
        optional = [action for action in actions if action.option_strings]
        words = ["otbench", name, *(_word(action) for action in positional)]
        needed = [f"{action.option_strings[0]} {action.metavar}" for action in optional if action.required]
        parts.append(f"\n## {name}\n\n    {' '.join([*words, *needed, '[options]'])}\n\n{command.description}\n\n")
        parts.append("| | |\n| --- | --- |\n")
        parts += [_row(str(action.metavar), action.help) for action in positional]
        parts += [_row(" ".join([*action.option_strings, *_value(action)]), action.help) for action in optional]
    return "".join(parts)


def _word(action: argparse.Action) -> str:
    name = str(action.metavar)
    return {"*": f"[{name} ...]", "+": f"{name} ...", "?": f"[{name}]"}.get(str(action.nargs), name)


def _value(action: argparse.Action) -> list[str]:
    return [] if action.nargs == 0 else [str(action.metavar)]


def _row(name: str, text: str | None) -> str:
    return f"| `{name}` | {text or ''} |\n".replace("`" + name + "`", "`" + name.replace("|", "\\|") + "`")


if __name__ == "__main__":
    sys.stdout.write(command_reference())
