"""Argument parsing and screens only; every command is a thin call into the library.

Nothing heavy is imported before a command needs it, so that `--help` and `list` answer at once.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from typing import NoReturn

from otbench import __version__
from otbench.cli import apply, campaign, data, merge, plugins, results, run, submit, summary, tune, verify
from otbench.cli.common import EXIT_FAILED_ROWS, EXIT_INTERRUPTED, EXIT_USAGE, Command, program_name
from otbench.errors import OtbenchError, UsageError
from otbench.names import did_you_mean, hint


class _Parser(argparse.ArgumentParser):
    """One clear message for a mistake, instead of the whole usage."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} (see {self.prog} --help)")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return the exit code.

    0: all is well. 1: something is amiss, see `otbench.cli.reference`. 2: wrong usage or input.
    3: `compare` could compare nothing. 130: interrupted.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        return _dispatch(words)
    except OtbenchError as error:
        sys.stderr.write(f"otbench: {error}\n")
        return EXIT_USAGE
    except KeyboardInterrupt:
        sys.stderr.write("otbench: interrupted\n")
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # `otbench table | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILED_ROWS


def _dispatch(words: list[str]) -> int:
    parser, commands = parsers(program_name())
    if not words:
        parser.print_help()
        return 0
    first = words[0]
    if first not in commands and first not in ("-h", "--help", "--version"):
        if not first.startswith("-"):
            raise UsageError(f"unknown command '{first}'{hint(first, commands, 'commands')}")
        words = ["run", *words]  # the default command
    options, unknown = parser.parse_known_args(words)
    if unknown:
        _refuse(unknown[0], words[0], commands[words[0]])
    command: Command = options.command
    return command(options)


def _refuse(word: str, command: str, parser: argparse.ArgumentParser) -> NoReturn:
    """Say that `word` is nothing that `command` takes."""
    if not word.startswith("-"):
        raise UsageError(f"{command}: one argument too many: '{word}' (see {parser.prog} --help)")
    option = word.partition("=")[0]
    known = [text for action in parser._actions for text in action.option_strings]
    raise UsageError(f"{command}: unknown option '{option}'{did_you_mean(option, known)} (see {parser.prog} --help)")


def parsers(program: str) -> tuple[argparse.ArgumentParser, Mapping[str, argparse.ArgumentParser]]:
    """Return the parser of `program`, and those of its commands by name."""
    parser = _Parser(
        prog=program,
        description="Benchmark of neural optimal-transport solvers. Without a command: run.",
        epilog=f"example: {program} --solvers ncf,fixedpoint --task gaussian",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"otbench {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True, parser_class=_Parser)

    def add(name: str, function: Command, text: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".", allow_abbrev=False)
        made.set_defaults(command=function)
        made.add_argument(
            "--plugin", metavar="FILE", action="append", default=[], help="a file that registers more names"
        )
        return made

    for module in (run, campaign, summary, results, merge, submit, apply, verify, tune, plugins, data):
        module.add_commands(add)
    return parser, commands.choices
