"""The command line: parsing, screens, exit codes. `main` is the program."""

from otbench.cli.program import main

__all__ = ["main"]
